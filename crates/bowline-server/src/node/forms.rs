//! One message on its way to many: encoded for each form in which somebody takes it, when the first asks for it.
//!
//! # Deltas
//!
//! A subscription that negotiated deltas takes the data as it is or as the difference to the publication before. In JSON
//! both are strings, so that a reader finds the same kind of value each time. In protobuf there is nothing to tell the
//! whole data on such a subscription from that on another, and they share it.

use bowline_protocol::delta::{self, Cuts};
use bowline_protocol::{Encoding, NotJson, Payload, Publication, Push};

use super::frame::{Frame, Wire};

/// A push in the forms in which connections take it. What nobody takes is not made.
#[derive(Debug)]
pub(crate) struct Forms {
    push: Push,
    /// Estimates the length of the payload, so that encoding allocates once.
    payload_bytes: usize,
    /// The data that a delta is made from; without it there is none.
    base: Option<Payload>,
    /// The form that was made first, which is the only one for most messages.
    first: Option<Form>,
    others: Vec<Form>,
}

#[derive(Debug)]
struct Form {
    wire: Wire,
    shape: Shape,
    frame: Result<Frame, NotJson>,
}

/// How a member takes the data of publications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// As it is.
    Plain,
    /// Whole, on a subscription that negotiated deltas.
    Whole,
    /// As the difference to the last publication if that is shorter, otherwise whole.
    Delta,
}

impl Forms {
    pub(crate) fn new(push: Push, payload_bytes: usize) -> Self {
        Self { push, payload_bytes, base: None, first: None, others: Vec::new() }
    }

    /// Lets deltas be made from `base`, the data of the publication before.
    pub(crate) fn set_base(&mut self, base: Option<Payload>) {
        self.base = base;
    }

    /// The publication, if this is one.
    pub(crate) fn publication(&self) -> Option<&Publication> {
        match &self.push {
            Push::Publication { publication, .. } => Some(publication),
            _ => None,
        }
    }

    /// The frame for a connection of `wire` that takes data as it is.
    ///
    /// # Errors
    ///
    /// [`NotJson`] if the wire's encoding cannot carry the payload.
    pub(crate) fn frame(&mut self, wire: Wire) -> Result<Frame, NotJson> {
        self.shaped(wire, Shape::Plain)
    }

    /// The frame for a connection of `wire` that takes data in `shape`.
    ///
    /// # Errors
    ///
    /// As [`frame`](Self::frame).
    pub(crate) fn shaped(&mut self, wire: Wire, shape: Shape) -> Result<Frame, NotJson> {
        let shape =
            if wire.encoding == Encoding::Protobuf && shape == Shape::Whole { Shape::Plain } else { shape };
        let known =
            self.first.iter().chain(&self.others).find(|form| form.wire == wire && form.shape == shape);
        if let Some(form) = known {
            return form.frame.clone();
        }
        let frame = self.make(wire, shape);
        let form = Form { wire, shape, frame: frame.clone() };
        match &mut self.first {
            none @ None => *none = Some(form),
            Some(_) => self.others.push(form),
        }
        frame
    }

    fn make(&mut self, wire: Wire, shape: Shape) -> Result<Frame, NotJson> {
        let Push::Publication { channel, publication } = &self.push else {
            return Frame::push(wire, &self.push, self.payload_bytes);
        };
        let shaped = match shape {
            Shape::Plain => return Frame::push(wire, &self.push, self.payload_bytes),
            Shape::Whole => whole(wire.encoding, publication)?,
            Shape::Delta => {
                let base = self.base.as_ref();
                match base.and_then(|base| difference(wire.encoding, base, publication)) {
                    Some(shorter) => shorter,
                    None => return self.shaped(wire, Shape::Whole),
                }
            }
        };
        let push = Push::Publication { channel: channel.clone(), publication: shaped };
        Frame::push(wire, &push, self.payload_bytes)
    }
}

/// Puts publications that follow each other into the form of a subscription that negotiated deltas: the first whole, the
/// others as differences where those are shorter.
///
/// # Errors
///
/// [`NotJson`] if the encoding cannot carry one of them.
pub(crate) fn chain(encoding: Encoding, publications: &mut [Publication]) -> Result<(), NotJson> {
    let mut base: Option<Payload> = None;
    for publication in publications {
        let data = publication.data.clone();
        let shorter = base.and_then(|base| difference(encoding, &base, publication));
        *publication = match shorter {
            Some(shorter) => shorter,
            None => whole(encoding, publication)?,
        };
        base = Some(data);
    }
    Ok(())
}

fn whole(encoding: Encoding, publication: &Publication) -> Result<Publication, NotJson> {
    let mut publication = publication.clone();
    if encoding == Encoding::Json {
        let text = publication.data.to_json()?;
        publication.data = Payload::json_string(std::str::from_utf8(text.as_bytes()).map_err(|_| NotJson)?);
    }
    Ok(publication)
}

/// The publication as the difference to `base`, if that is shorter.
fn difference(encoding: Encoding, base: &Payload, publication: &Publication) -> Option<Publication> {
    let data = match encoding {
        Encoding::Json => {
            // As the client has it: the text that was embedded, on one line.
            let (base, data) = (base.to_json().ok()?, publication.data.to_json().ok()?);
            let delta = delta::create(base.as_bytes(), data.as_bytes(), Cuts::AtCharacters)?;
            Payload::json_string(std::str::from_utf8(&delta).ok()?)
        }
        Encoding::Protobuf => {
            Payload::opaque(delta::create(base.as_bytes(), publication.data.as_bytes(), Cuts::Anywhere)?)
        }
    };
    Some(Publication { data, delta: true, ..publication.clone() })
}
