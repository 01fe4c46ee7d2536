//! The ends that fire a signal: who holds them is known, as with the ends of a queue.

use super::core::{Core, Rule, Wakes};
use super::line::Line;
use crate::holders::Holders;
use crate::resource::RightFact;
use crate::sync::Arc;

/// A rule whose ends are held by tasks.
pub(super) trait HasEnds: Rule {
    fn holders(&mut self) -> &mut Holders;

    /// The end is gone, `left` are left.
    fn gone(&mut self, line: &mut Line, end: Gone, left: u32, wakes: &mut Wakes);
}

/// What went: an end booked at `place`, dropped or given up in order.
pub(super) struct Gone {
    pub(super) place: u64,
    pub(super) in_order: bool,
}

/// One end and the place it is booked at; the books change before the end does.
pub(super) struct End<R: HasEnds> {
    pub(super) core: Arc<Core<R>>,
    place: u64,
    in_order: bool,
}

impl<R: HasEnds> End<R> {
    pub(super) fn new(core: &Arc<Core<R>>, place: u64) -> Self {
        core.with(|state, _| state.rule.holders().add(place));
        Self { core: Arc::clone(core), place, in_order: false }
    }

    pub(super) fn moved_to(mut self, place: u64) -> Self {
        self.core.with(|state, _| state.rule.holders().move_to(self.place, place));
        self.place = place;
        self
    }

    /// Drops the end in order: the rule is told so in the same step.
    pub(super) fn leave(mut self) {
        self.in_order = true;
    }
}

impl<R: HasEnds> Clone for End<R> {
    fn clone(&self) -> Self {
        Self::new(&self.core, self.place)
    }
}

impl<R: HasEnds> Drop for End<R> {
    fn drop(&mut self) {
        self.core.with(|state, wakes| {
            let left = state.rule.holders().remove(self.place);
            let gone = Gone { place: self.place, in_order: self.in_order };
            state.rule.gone(&mut state.line, gone, left, wakes);
        });
    }
}

pub(super) fn rights(role: &'static str, holders: &Holders) -> Vec<RightFact> {
    holders.places().into_iter().map(|(place, count)| RightFact { role, place, count }).collect()
}

/// The two fronts of an end: held by a task, and free.
macro_rules! fronts {
    ($rule:ty, $what:literal, $(#[$doc:meta])* $bound:ident, $free:ident) => {
        $(#[$doc])*
        pub struct $bound<'t> {
            end: End<$rule>,
            cx: &'t Cx,
        }

        #[doc = concat!("A [`", stringify!($bound), "`] that may be kept and sent anywhere. Its holder counts as unknown.")]
        pub struct $free {
            end: End<$rule>,
        }

        impl $bound<'_> {
            /// Leaves the tracked world: the result may be kept and sent anywhere, and its holder counts as unknown.
            #[must_use = "it is given up when this is dropped"]
            pub fn free(self) -> $free {
                $free { end: self.end.moved_to(FREE) }
            }

            /// Returns the id of the task that holds it.
            #[must_use]
            pub fn task_id(&self) -> u64 {
                self.cx.task_id()
            }
        }

        impl $free {
            /// Binds it to the current task, which is its known holder from here on.
            #[must_use = "it is given up when this is dropped"]
            pub fn bind_to(self, cx: &Cx) -> $bound<'_> {
                self.bind(cx)
            }
        }

        impl Carry for $bound<'_> {
            type Packed = $free;

            fn pack(self) -> $free {
                $free { end: self.end.moved_to(IN_TRANSIT) }
            }
        }

        impl Carry for $free {
            type Packed = $free;

            fn pack(self) -> $free {
                $free { end: self.end.moved_to(IN_TRANSIT) }
            }
        }

        impl Bind for $free {
            type In<'c> = $bound<'c>;

            fn bind(self, cx: &Cx) -> $bound<'_> {
                $bound { end: self.end.moved_to(cx.task_id()), cx }
            }
        }

        impl fmt::Debug for $bound<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($bound)).field($what, &self.end.core.site.name).finish()
            }
        }

        impl fmt::Debug for $free {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($free)).field($what, &self.end.core.site.name).finish()
            }
        }
    };
}

/// For ends of which there may be any number.
macro_rules! cloned {
    ($bound:ident, $free:ident) => {
        impl Clone for $bound<'_> {
            fn clone(&self) -> Self {
                Self { end: self.end.clone(), cx: self.cx }
            }
        }

        impl Clone for $free {
            fn clone(&self) -> Self {
                Self { end: self.end.clone() }
            }
        }
    };
}

pub(super) use {cloned, fronts};
