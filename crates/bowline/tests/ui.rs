//! Programs that must not compile: ends that would slip into another task unseen, scopes that would be left, and queues
//! without a bound.
//!
//! The expected messages are rustc 1.95's. After looking at them, `TRYBUILD=overwrite cargo test -p bowline --test ui` takes
//! new ones over.

#[test]
fn what_must_not_compile_does_not() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
