//! Random programs as real tasks: what is left of each is what its interpreter says can be, and is proved.

use goker::score::Generated;

/// Few enough for every push; the binary runs 10,000.
const PROGRAMS: u64 = 400;

#[test]
fn what_is_left_of_random_programs_is_possible_and_is_called_dead_and_nothing_else_is() {
    let generated = Generated::run(0..PROGRAMS, &|_, _| {});
    assert!(generated.notes.is_empty(), "\n{generated}");
    assert!(generated.left > PROGRAMS / 10, "too few programs stand still to prove anything:\n{generated}");
}
