//! What a result means to a layer.

use std::fmt;

use crate::call::{ByError, Class, Classify};

/// Says what kind of failure a result is, if it is one: by its error ([`ByError`]), or by a closure ([`ByResult`]).
pub trait Judge<T, E>: sealed::Judges<T, E> {}

impl<T, E, J: sealed::Judges<T, E>> Judge<T, E> for J {}

/// A closure says what kind of failure a result is.
#[derive(Clone)]
pub struct ByResult<F>(pub(super) F);

impl<F> fmt::Debug for ByResult<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByResult")
    }
}

pub(super) mod sealed {
    use super::{ByError, ByResult, Class, Classify};

    pub trait Judges<T, E> {
        fn class_of(&self, result: &Result<T, E>) -> Option<Class>;
    }

    impl<T, E: Classify> Judges<T, E> for ByError {
        fn class_of(&self, result: &Result<T, E>) -> Option<Class> {
            result.as_ref().err().map(Classify::class)
        }
    }

    impl<T, E, F: Fn(&Result<T, E>) -> Option<Class>> Judges<T, E> for ByResult<F> {
        fn class_of(&self, result: &Result<T, E>) -> Option<Class> {
            (self.0)(result)
        }
    }
}
