//! Every expectation can be wrong, and then a run notices: what is said to end stands still, or the other way round, or somebody
//! else does.

use goker::seeded::{self, Outcome};
use goker::{Dead, Expected, Form, Kernel, kernels};

/// Enough for the rarest bug to show; most show at once.
const SCHEDULES: u64 = 1_000;

fn forms() -> impl Iterator<Item = (&'static Kernel, &'static Form)> {
    kernels::all().flat_map(|kernel| kernel.forms.iter().map(move |form| (kernel, form)))
}

/// Whether a run of `form` notices that it is not what is expected.
fn is_noticed(kernel: &Kernel, form: &Form, expected: Expected) -> bool {
    let wrong = Form { kind: form.kind, variant: form.variant, run: form.run, expected };
    let notices = |seed| matches!(seeded::run(kernel, &wrong, seed), Outcome::Broken(_) | Outcome::False(_));
    (0..SCHEDULES).any(notices)
}

#[test]
fn a_form_that_ends_is_not_taken_for_one_that_stands_still_nor_the_other_way_round() {
    for (kernel, form) in forms().filter(|(_, form)| seeded::runs(form)) {
        let turned = match form.expected {
            Expected::Ends | Expected::ByScope(_) => Expected::Dead { sets: &[], always: true },
            Expected::Dead { .. } | Expected::Outlives(_) | Expected::Unprovable(_) => Expected::Ends,
        };
        assert!(is_noticed(kernel, form, turned), "{} {}", kernel.name, form.label());
    }
}

#[test]
fn a_form_in_which_somebody_else_stands_still_is_not_taken_for_the_one_that_was_meant() {
    const NOBODY: &[Dead] = &[Dead::new(&["nobody"], &["nothing"])];
    for (kernel, form) in forms().filter(|(_, form)| seeded::runs(form)) {
        let other = match form.expected {
            Expected::Dead { .. } => Expected::Dead { sets: NOBODY, always: false },
            Expected::Unprovable(_) => Expected::Unprovable(NOBODY),
            Expected::Outlives(_) => Expected::Outlives(&["nobody"]),
            Expected::Ends | Expected::ByScope(_) => continue,
        };
        assert!(is_noticed(kernel, form, other), "{} {}", kernel.name, form.label());
    }
}
