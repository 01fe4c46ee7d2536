//! Programs worth keeping, made small: one for every rule of the proof, which is judged wrongly without it, and those that were
//! judged wrongly once.
//!
//! They were found by trying random programs. Most rules are missed within a hundred programs of any profile; what rare ones
//! took stands beside their program.

use super::check::{Detector, Wrong, judge};
use super::program::LockKind::{Mutex, RwLock, Semaphore};
use super::program::Op::{
    Abort, Acquire, Cancel, Close, Fire, FireAll, Pin, Recv, Release, Send, SendEnd, Spawn, Wait,
};
use super::program::Par::{Join, Race};
use super::program::Signal::{Notify, Oneshot, Token};
use super::program::{ABORT, OBJECT, Op, Program, RIGHT, RX, Signal, TX};
use super::state::{State, small};
use super::translate::{ALL_CARE, Care, Grain};
use super::wild::opinions;
use crate::detect::prove::Rules;

/// A program of tasks, each with its owner, and ends that the first task has.
fn program(tasks: Vec<(Option<u8>, Vec<Op>)>, ends: &[usize]) -> Program {
    let mut program = Program::bare(tasks.len());
    (program.owner, program.tasks) = tasks.into_iter().unzip();
    for role in ends {
        program.own[*role] += 1;
    }
    program.close_scopes();
    program
}

fn signals(of: [Signal; 2], program: Program) -> Program {
    Program { signals: of.to_vec(), ..program }
}

/// The end of that role, to be moved into a spawned task.
fn moved(role: usize) -> (u8, bool) {
    (small(role), true)
}

fn cloned(role: usize) -> (u8, bool) {
    (small(role), false)
}

/// The detector as it is judges the program rightly; without the rule it is wrong, and so.
#[track_caller]
fn needs(without: Detector, program: &Program, wrong: Wrong) {
    judge(program, &Detector::WHOLE).expect("with the rule it is right");
    let difference = judge(program, &without).expect_err("nothing is wrong without the rule");
    assert_eq!(difference.wrong, wrong);
}

fn without(change: impl FnOnce(&mut Rules)) -> Detector {
    let mut rules = Rules::ALL;
    change(&mut rules);
    Detector { rules, ..Detector::WHOLE }
}

#[test]
fn an_arm_can_be_dropped() {
    let race = Op::Par(Race, vec![vec![Release(1)], vec![Wait(0)]]);
    let tasks = vec![
        (None, vec![Spawn(1, vec![cloned(RX)])]),
        (Some(0), vec![Spawn(2, vec![]), Recv(0)]),
        (Some(1), vec![race]),
    ];
    let program = signals([Oneshot, Oneshot], program(tasks, &[TX, RX, RIGHT]));
    needs(without(|rules| rules.arms_drop = false), &program, Wrong::NotDead);
}

/// Futurelock: the first task keeps a wait for the lock beside and asks for it again.
#[test]
fn a_line_is_served_in_order() {
    let tasks =
        vec![(None, vec![Spawn(1, vec![]), Pin(1, 1), Acquire(1, 2), Close]), (Some(0), vec![Acquire(1, 1)])];
    needs(without(|rules| rules.line_order = false), &program(tasks, &[]), Wrong::Missed);
}

/// 700 to 1,500 random programs in the profiles that find it.
#[test]
fn an_end_in_a_message_may_come_to_its_receiver() {
    let tasks = vec![
        (None, vec![Spawn(1, vec![moved(RX + 1)]), SendEnd(1, small(RIGHT)), Wait(0)]),
        (Some(0), vec![]),
    ];
    let program = signals([Oneshot, Notify], program(tasks, &[TX + 1, RX + 1, RIGHT]));
    needs(without(|rules| rules.ends_in_transit = false), &program, Wrong::NotDead);
}

#[test]
fn a_task_can_be_aborted() {
    let tasks = vec![
        (None, vec![Spawn(1, vec![]), Spawn(3, vec![moved(ABORT + 1)])]),
        (Some(0), vec![Spawn(2, vec![])]),
        (Some(1), vec![Wait(1)]),
        (Some(0), vec![Abort(1)]),
    ];
    let program = signals([Token, Token], program(tasks, &[ABORT + 1]));
    needs(without(|rules| rules.cancels = false), &program, Wrong::NotDead);
}

#[test]
fn whoever_holds_an_object_can_use_what_lies_in_it() {
    let tasks = vec![
        (None, vec![Spawn(1, vec![cloned(OBJECT)])]),
        (Some(0), vec![Spawn(2, vec![cloned(OBJECT)]), Wait(1)]),
        (Some(1), vec![Fire(1)]),
    ];
    let mut program = signals([Token, Token], program(tasks, &[OBJECT]));
    program.shared[RIGHT + 1] = 1;
    needs(without(|rules| rules.shared_holders = false), &program, Wrong::NotStuck);
}

#[test]
fn an_arm_acts_for_its_task() {
    let join = Op::Par(Join, vec![vec![Acquire(0, 1)], vec![Acquire(0, 1)]]);
    let program = program(vec![(None, vec![Spawn(1, vec![])]), (Some(0), vec![join])], &[]);
    needs(without(|rules| rules.every_strand = false), &program, Wrong::NotStuck);
}

/// Futurelock again: a wait for both permits, kept beside by a task that waits for what never comes.
#[test]
fn a_wait_that_nobody_looks_at_keeps_its_place() {
    let tasks = vec![
        (None, vec![Spawn(1, vec![]), Spawn(2, vec![]), Acquire(1, 1)]),
        (Some(0), vec![Acquire(1, 1)]),
        (Some(0), vec![Pin(1, 2), Wait(0)]),
    ];
    needs(without(|rules| rules.unattended_keep = false), &program(tasks, &[RIGHT]), Wrong::Missed);
}

/// No random program found it before there was a profile of tasks that can only be aborted; there it took 88.
#[test]
fn who_is_aborted_lets_go_of_its_locks() {
    let tasks = vec![
        (None, vec![Spawn(1, vec![]), Spawn(2, vec![]), Spawn(3, vec![moved(ABORT + 1)])]),
        (Some(0), vec![Acquire(0, 1), Acquire(0, 1)]),
        (Some(0), vec![Acquire(0, 1)]),
        (Some(0), vec![Abort(1)]),
    ];
    needs(without(|rules| rules.drops_release = false), &program(tasks, &[ABORT + 1]), Wrong::NotDead);
}

/// The one rule whose lack is never wrong, only blind; so it takes the oracle in which the living do anything to see it.
#[test]
fn who_is_aborted_does_nothing_else() {
    let tasks = vec![
        (None, vec![Spawn(1, vec![moved(OBJECT)]), Spawn(2, vec![moved(ABORT + 1)]), Wait(0)]),
        (Some(0), vec![Wait(1)]),
        (Some(0), vec![]),
    ];
    let mut program = signals([Token, Notify], program(tasks, &[RIGHT + 1, OBJECT, ABORT + 1]));
    program.shared[RIGHT] = 1;
    let agrees = |detector: &Detector| {
        let truth = super::check::Truth::of(&program).expect("it is small");
        let agree =
            |state: &State| opinions(&program, state, detector).iter().all(|two| two.said == two.dead);
        truth.graph.states.iter().all(agree)
    };
    assert!(agrees(&Detector::WHOLE));
    assert!(!agrees(&without(|rules| rules.drops_do_nothing = false)));
}

#[test]
fn a_task_that_was_not_seen_is_alive() {
    let program = program(vec![(None, vec![Spawn(1, vec![])]), (Some(0), vec![])], &[]);
    let blind = without(|rules| rules.unseen_live = false);
    needs(Detector { grain: Grain::Task, ..blind }, &program, Wrong::NotDead);
}

#[test]
fn a_wait_that_has_fired_is_over() {
    let program = program(vec![(None, vec![Spawn(1, vec![])]), (Some(0), vec![Acquire(0, 1)])], &[]);
    let care = Care { looks_for_fired: false, ..ALL_CARE };
    needs(Detector { care, ..Detector::WHOLE }, &program, Wrong::NotStuck);
}

/// A notification was granted to an arm that loses its race, and goes to the next. Judged wrongly once: every notifier was
/// in dead hands. 571 programs of the profile that finds it.
#[test]
fn what_was_granted_and_not_fetched_goes_to_the_next() {
    let race = Op::Par(Race, vec![vec![Wait(0)], vec![Send(1)]]);
    let tasks = vec![
        (None, vec![Spawn(1, vec![]), Spawn(2, vec![]), Fire(0)]),
        (Some(0), vec![Wait(0)]),
        (Some(0), vec![race]),
    ];
    let program = signals([Notify, Notify], program(tasks, &[RIGHT]));
    let care = Care { knows_what_is_owed: false, ..ALL_CARE };
    needs(Detector { care, ..Detector::WHOLE }, &program, Wrong::NotDead);
}

/// As before, and the one it was granted to is cancelled. A call to all is owed to nobody.
#[test]
fn a_cancelled_wait_gives_back_what_it_was_granted() {
    for fire in [Fire(0), FireAll(0)] {
        let tasks = vec![
            (None, vec![Spawn(1, vec![moved(RIGHT)])]),
            (Some(0), vec![Spawn(2, vec![]), fire, Cancel(2), Wait(0)]),
            (Some(1), vec![Wait(0)]),
        ];
        let program = signals([Notify, Notify], program(tasks, &[RIGHT]));
        judge(&program, &Detector::WHOLE).expect("it is judged rightly");
    }
}

/// A lock of each kind, taken twice by one task, is held for ever.
#[test]
fn a_task_waits_for_its_own_guard() {
    for lock in [Mutex, RwLock, Semaphore] {
        let tasks = vec![(None, vec![Spawn(1, vec![])]), (Some(0), vec![Acquire(0, 2), Acquire(0, 2)])];
        let program = Program { locks: vec![lock, RwLock], ..program(tasks, &[]) };
        let tally = judge(&program, &Detector::WHOLE).expect("it is judged rightly");
        assert!(tally.found_at_rest > 0, "{lock:?}: {tally:?}");
    }
}
