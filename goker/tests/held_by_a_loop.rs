//! An end in the hands of a task that works is judged by which end it is, while that task works.

use std::time::Duration;

use goker::seeded::{self, Outcome};
use goker::{Form, Kernel, kernels};

/// The task works longer than this, on the run's clock.
const AT_WORK: Duration = Duration::from_secs(120);

fn form(variant: &str) -> (&'static Kernel, &'static Form) {
    let held =
        kernels::all().find(|kernel| kernel.name == "golf: held by a loop").expect("it is one of them");
    (held, held.forms.iter().find(|form| form.variant == variant).expect("it has both"))
}

#[test]
fn a_receiver_is_dead_while_another_task_works_with_a_receiving_end() {
    let (held, receiver) = form("receiver");
    for seed in 0..40 {
        let outcome = seeded::run(held, receiver, seed);
        assert!(matches!(outcome, Outcome::Proved { after } if after < AT_WORK), "seed {seed}: {outcome:?}");
    }
}

#[test]
fn a_receiver_is_not_dead_while_a_task_that_could_send_works_and_ends_with_it() {
    let (held, sender) = form("sender");
    for seed in 0..40 {
        assert_eq!(seeded::run(held, sender, seed), Outcome::Ended, "seed {seed}");
    }
}
