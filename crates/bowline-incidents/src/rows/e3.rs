//! E3, the panics: one frame nobody had thought of.
//!
//! A parser came across a frame that was shorter than its header said, and indexed beyond its end. The panic ended the task that
//! read the input, nobody had kept its handle, and so the input just stopped. All looked well: the process was there, the
//! health check was green, and nothing was processed any more until somebody restarted it, when the frame was sent again.
//!
//! The leaky form is that: a spawned reader, a parser that panics. What comes after the frame is never read.
//!
//! In the tied form a panic ends at the root of the task it happened in: it becomes that frame's result, with the message and the
//! place, and the others go on. Frames that are simply malformed are refused with `bad_input` and counted apart, so
//! that the count of bugs is one that somebody can be woken for.

use std::sync::Arc;

use bowline::{CollectAll, bad_input, for_each, panics};

use crate::lab::{Counter, Lab, Trouble};
use crate::row::{Bound, Row, Unit};

/// The row.
pub(crate) static ROW: Row = Row {
    id: "E3",
    title: "panics",
    broke: "A malformed frame made the parser panic, which ended the reader of all input, and nobody heard of it.",
    must: "A panic is the result of the task it happened in; bad input and bugs are counted apart, and the others go on.",
    theirs: "12 outages avoided",
    load: "20,000 frames, of which one in fifty is malformed, and one in a thousand finds a bug (reduced: 4,000; full: 1,000,000)",
    remedy: "Each task's panic is caught at its root and is a value; `bad_input` says which are to be expected.",
    needs: &[],
    bounds: &[
        Bound::at_least("good frames stored", 100.0, Unit::Percent).broken_by_leaky(),
        Bound::at_most("bad frames uncounted", 0.0, Unit::Count).broken_by_leaky(),
        Bound::at_most("bugs uncounted", 0.0, Unit::Count).broken_by_leaky(),
    ],
    leaky: |lab| Box::pin(leaky(lab)),
    tied: |lab| Box::pin(tied(lab)),
    source: include_str!("e3.rs"),
};

// ANCHOR: leaky
#[expect(clippy::disallowed_methods, reason = "the form as it broke")]
async fn leaky(lab: Lab) -> Result<(), Trouble> {
    let (frames, stored) = (Frames::new(&lab), lab.counter("stored"));
    let store = stored.clone();
    let reader = tokio::spawn(async move {
        for frame in frames.all() {
            let _parsed = parse(frame, || panic_quietly("malformed frame"));
            store.add(1);
            tokio::task::yield_now().await;
        }
    });
    let _nobody_asks = reader.await;
    frames.figures(&lab, &stored, 0, 0)
}
// ANCHOR_END: leaky

// ANCHOR: tied
async fn tied(lab: Lab) -> Result<(), Trouble> {
    let (frames, stored) = (Frames::new(&lab), lab.counter("stored"));
    let store = stored.clone();
    let read = for_each("frame", CollectAll.at_most(8), frames.all(), |frame| {
        let store = store.clone();
        async move {
            let _parsed = parse(frame, || bad_input("malformed frame"));
            store.add(1);
            Ok::<_, Trouble>(())
        }
    })
    .await;
    lab.figure("frames that failed", read.counts().failed as f64);
    frames.figures(&lab, &stored, panics().expected, panics().unexpected)
}
// ANCHOR_END: tied

/// Reads a frame, which may be malformed, or be the one that finds the bug.
fn parse(frame: Frame, refuse: impl FnOnce() -> Parsed) -> Parsed {
    match frame {
        Frame::Good => Arc::from([1, 2, 3]),
        Frame::Malformed => refuse(),
        Frame::FindsTheBug => panic_quietly("index out of bounds: the len is 3 but the index is 4"),
    }
}

type Parsed = Arc<[u8]>;

/// A panic like any other, but for the lines on the screen: this one does not ask the panic hook.
fn panic_quietly(message: &'static str) -> Parsed {
    std::panic::resume_unwind(Box::new(message))
}

#[derive(Clone, Copy)]
enum Frame {
    Good,
    Malformed,
    FindsTheBug,
}

#[derive(Clone, Copy)]
struct Frames(u32);

impl Frames {
    fn new(lab: &Lab) -> Self {
        Self(lab.size(4_000, 20_000, 1_000_000))
    }

    fn all(self) -> impl Iterator<Item = Frame> + Send {
        (0..self.0).map(|n| match n {
            n if n % 1_000 == 999 => Frame::FindsTheBug,
            n if n % 50 == 25 => Frame::Malformed,
            _ => Frame::Good,
        })
    }

    fn figures(self, lab: &Lab, stored: &Counter, bad: u64, bugs: u64) -> Result<(), Trouble> {
        let all = u64::from(self.0);
        let (are_bad, are_bugs) = (all / 50, all / 1_000);
        lab.figure("good frames stored", 100.0 * stored.get() as f64 / (all - are_bad - are_bugs) as f64);
        lab.figure("bad frames uncounted", are_bad.abs_diff(bad) as f64);
        lab.figure("bugs uncounted", are_bugs.abs_diff(bugs) as f64);
        Ok(())
    }
}
