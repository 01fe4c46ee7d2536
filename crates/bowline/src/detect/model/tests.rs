//! The claims, each over many random programs.

use super::check::{Detector, Difference, Tally, Truth, describe, judge};
use super::generate::{self, Profile};
use super::program::Program;
use super::shrink::shrink;
use super::torn::{Protocol, Torn, WHOLE, scan_runs};
use super::translate::{ALL_CARE, Care};
use super::wild::{Opinions, opinions};

/// How many random programs a test tries.
fn programs(by_default: u64) -> u64 {
    let asked = std::env::var("BOWLINE_PROGRAMS").ok().and_then(|number| number.parse::<u64>().ok());
    asked.map_or(by_default, |asked| asked * by_default / 1_000)
}

/// Prints a program that the detector judges wrongly, made small, and fails.
fn complain(seed: u64, program: Program, difference: &Difference) -> ! {
    let fails = |program: &Program| {
        judge(program, &Detector::WHOLE)
            .err()
            .is_some_and(|now| (now.wrong, now.known) == (difference.wrong, difference.known))
    };
    let program = shrink(program, fails);
    let difference = judge(&program, &Detector::WHOLE).expect_err("it was shrunk so that it still fails");
    let Difference { wrong, known, strands, state } = *difference;
    let state = describe(&program, &state);
    panic!("seed {seed}: {wrong:?}, {known:?}, strands {strands:#b} in\n{state}of {}", program.literal());
}

#[test]
fn nobody_alive_is_reported_and_at_rest_everybody_dead_is_found() {
    let mut tally = Tally::default();
    for seed in 0..programs(1_000) {
        let program = generate::program(seed);
        match judge(&program, &Detector::WHOLE) {
            Ok(more) => tally += more,
            Err(difference) => complain(seed, program, &difference),
        }
    }
    println!("{tally:?}");
    assert!(tally.dead_at_rest > 0 && tally.only_cancel > 0, "nothing was there to be found: {tally:?}");
    assert_eq!(tally.found_at_rest, tally.dead_at_rest);
}

/// The detector does not see that a task with a dead arm cannot let go of what that arm waits by, nor that an end in a shared
/// object goes with the *last* of its holders. Both cost proofs of waits for all ends to go, in one state of a thousand.
const MOST_MISSED_PER_THOUSAND: usize = 5;

#[test]
fn the_proof_equals_an_oracle_in_which_the_living_do_anything() {
    const SAMPLES: usize = 4;
    let (mut states, mut dead, mut missed) = (0, 0, 0);
    for seed in 0..programs(150) {
        let program = generate::program(seed);
        let Some(truth) = Truth::of(&program) else { continue };
        let mut dice = fastrand::Rng::with_seed(seed);
        for _ in 0..SAMPLES {
            let state = dice.choice(&truth.graph.states).expect("there is a first state");
            for Opinions { said, dead: truly } in opinions(&program, state, &Detector::WHOLE) {
                let state = || format!("seed {seed}: {}of {}", describe(&program, state), program.literal());
                assert_eq!(said & !truly, 0, "{}", state());
                states += 1;
                dead += truly.count_ones();
                missed += usize::from(said != truly);
            }
        }
    }
    println!("{states} states, {dead} dead, {missed} states with somebody missed");
    assert!(dead > 0, "nobody was there to be found");
    assert!(missed * 1_000 <= states * MOST_MISSED_PER_THOUSAND, "{missed} of {states}");
}

#[test]
fn facts_of_different_instants_prove_nothing_that_is_not_so() {
    let mut torn = Torn::default();
    for seed in 0..programs(300) {
        let more = scan_runs(&generate::program(seed), seed, WHOLE);
        assert_eq!(more.wrong, 0, "seed {seed}");
        torn += more;
    }
    println!("{torn:?}");
    assert!(torn.reports > 0 && torn.withdrawn > 0, "nothing was there to be mistaken: {torn:?}");
}

/// Whether a scan that lacks something reports somebody who is alive, soon.
fn is_mistaken(profile: Profile, protocol: Protocol) -> bool {
    (0..1_000).any(|seed| scan_runs(&generate::of_profile(seed, profile), seed, protocol).wrong > 0)
}

#[test]
fn a_scan_that_does_not_look_again_is_mistaken() {
    assert!(is_mistaken(Profile::Turns, Protocol { reads_again: false, ..WHOLE }));
}

#[test]
fn a_scan_that_does_not_ask_what_has_fired_is_mistaken() {
    let care = Care { looks_for_fired: false, ..ALL_CARE };
    assert!(is_mistaken(Profile::Mixed, Protocol { care, ..WHOLE }));
}

#[test]
fn a_scan_that_takes_the_unseen_for_dead_is_mistaken() {
    let care = Care { believes_the_unseen: false, ..ALL_CARE };
    assert!(is_mistaken(Profile::Mixed, Protocol { care, ..WHOLE }));
}
