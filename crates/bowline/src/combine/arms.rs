//! The arms of one combinator, of any shape, and the shape of tuples: arms in place, each of its own type.

use std::future::IntoFuture;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use pin_project_lite::pin_project;

use super::join::{Join, TryJoin};
use super::merge::Merge;
use super::race::Race;
use super::slot::{Arm, Each, Keep, Once, Slot, Sure};

/// The arms of a combinator. One poll of the combinator is one pass: `begin`, then `next_due` and `poll_at` in turn.
pub trait Arms {
    /// What every arm answers.
    type Answer;

    /// How many there are.
    fn count(&self) -> usize;
    /// Begins a pass; `first` is the arm whose turn it is, where the shape has no better order.
    fn begin(self: Pin<&mut Self>, first: usize, cx: &mut Context<'_>) -> Pass;
    /// The next arm of this pass.
    fn next_due(self: Pin<&mut Self>, pass: &mut Pass) -> Option<usize>;
    /// Polls one arm.
    fn poll_at(self: Pin<&mut Self>, at: usize, cx: &mut Context<'_>) -> Poll<Self::Answer>;
    /// Says that the arm has more to say though nobody woke it.
    fn is_due_again(self: Pin<&mut Self>, at: usize);
    /// Drops one arm.
    fn drop_at(self: Pin<&mut Self>, at: usize);
    /// Drops them all, in their order.
    fn drop_all(self: Pin<&mut Self>);
}

/// Arms that have kept their values.
pub trait Kept {
    /// All values, in the arms' order.
    type All;
    /// Takes them out.
    fn take_all(self: Pin<&mut Self>) -> Self::All;
}

/// How far a pass has come.
pub struct Pass {
    pub(super) first: usize,
    pub(super) turn: usize,
}

macro_rules! tuples {
    ($($Tuple:ident $count:literal: $($A:ident $T:ident $a:ident $at:tt),+;)*) => {$(
        pin_project! {
            /// The arms of a tuple.
            pub struct $Tuple<$($A),+> {
                $(#[pin] $a: Slot<$A>,)+
            }
        }

        impl<Answer, $($A: Arm<Answer = Answer>),+> Arms for $Tuple<$($A),+> {
            type Answer = Answer;

            fn count(&self) -> usize {
                $count
            }

            fn begin(self: Pin<&mut Self>, first: usize, _: &mut Context<'_>) -> Pass {
                Pass { first, turn: 0 }
            }

            fn next_due(self: Pin<&mut Self>, pass: &mut Pass) -> Option<usize> {
                let turn = pass.turn;
                pass.turn += 1;
                (turn < $count).then(|| (pass.first + turn) % $count)
            }

            fn poll_at(self: Pin<&mut Self>, at: usize, cx: &mut Context<'_>) -> Poll<Answer> {
                let this = self.project();
                match at {
                    $($at => this.$a.poll(cx),)+
                    _ => unreachable!("`next_due` stays below the count"),
                }
            }

            fn is_due_again(self: Pin<&mut Self>, _: usize) {} // every arm is due in every pass

            fn drop_at(self: Pin<&mut Self>, at: usize) {
                let this = self.project();
                match at {
                    $($at => this.$a.drop_arm(),)+
                    _ => unreachable!("`next_due` stays below the count"),
                }
            }

            fn drop_all(self: Pin<&mut Self>) {
                let this = self.project();
                $(this.$a.drop_arm();)+
            }
        }

        impl<$($A, $T),+> Kept for $Tuple<$(Keep<$A, $T>),+> {
            type All = ($($T,)+);

            fn take_all(self: Pin<&mut Self>) -> Self::All {
                let this = self.project();
                ($(this.$a.take_value(),)+)
            }
        }

        impl<Output, $($A: IntoFuture<Output = Output>),+> Race for ($($A,)+) {
            type Output = Output;
            type Arms = $Tuple<$(Once<$A::IntoFuture>),+>;

            fn into_arms(self) -> Self::Arms {
                $Tuple { $($a: Slot::new(Once { future: self.$at.into_future() })),+ }
            }
        }

        impl<$($A: IntoFuture),+> Join for ($($A,)+) {
            type All = ($($A::Output,)+);
            type Arms = $Tuple<$(Keep<Sure<$A::IntoFuture>, $A::Output>),+>;

            fn into_arms(self) -> Self::Arms {
                $Tuple { $($a: Slot::new(Keep::new(Sure { future: self.$at.into_future() }))),+ }
            }

            fn finish(all: Self::All) -> Self::All {
                all
            }
        }

        impl<Error, $($T, $A: IntoFuture<Output = Result<$T, Error>>),+> TryJoin for ($($A,)+) {
            type All = ($($T,)+);
            type Error = Error;
            type Arms = $Tuple<$(Keep<$A::IntoFuture, $T>),+>;

            fn into_arms(self) -> Self::Arms {
                $Tuple { $($a: Slot::new(Keep::new(self.$at.into_future()))),+ }
            }

            fn finish(all: Self::All) -> Self::All {
                all
            }
        }

        impl<Item, $($A: Stream<Item = Item>),+> Merge for ($($A,)+) {
            type Item = Item;
            type Arms = $Tuple<$(Each<$A>),+>;

            fn into_arms(self) -> Self::Arms {
                $Tuple { $($a: Slot::new(Each { stream: self.$at })),+ }
            }
        }
    )*};
}

tuples! {
    Two 2: A TA a 0, B TB b 1;
    Three 3: A TA a 0, B TB b 1, C TC c 2;
    Four 4: A TA a 0, B TB b 1, C TC c 2, D TD d 3;
    Five 5: A TA a 0, B TB b 1, C TC c 2, D TD d 3, E TE e 4;
    Six 6: A TA a 0, B TB b 1, C TC c 2, D TD d 3, E TE e 4, F TF f 5;
    Seven 7: A TA a 0, B TB b 1, C TC c 2, D TD d 3, E TE e 4, F TF f 5, G TG g 6;
    Eight 8: A TA a 0, B TB b 1, C TC c 2, D TD d 3, E TE e 4, F TF f 5, G TG g 6, H TH h 7;
}
