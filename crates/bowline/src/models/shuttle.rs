//! Whole programs under random schedules.

use crate::{Cancelled, scope};

/// Schedules per model.
const SCHEDULES: usize = 10_000;

#[test]
fn a_scope_returns_when_its_tasks_are_gone() {
    shuttle::check_random(
        || {
            let sum = shuttle::future::block_on(scope("sum", async |s| {
                let one = s.spawn("one", async { Ok(1) });
                let two = s.spawn("two", async { Ok(2) });
                Ok::<_, Cancelled>(one.await? + two.await?)
            }));
            assert_eq!(sum, Ok(3));
        },
        SCHEDULES,
    );
}
