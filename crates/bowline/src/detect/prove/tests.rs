//! Each rule with the case it is for, and with the twin that is alive.

use super::*;
use crate::detect::world::{InLine, Object, Resource, Right, Strand};
use Fate::{Alive, Dead, Doomed, OnlyCancel};

/// A task with one strand, which waits for any of these.
fn task(task: TaskId, leaves: impl Into<Vec<Leaf>>) -> Strand {
    Strand { task, arm_of: None, waits: Waits::Any(leaves.into()), cancels: Vec::new() }
}

fn combined(task: TaskId, waits: Waits) -> Strand {
    Strand { task, arm_of: None, waits, cancels: Vec::new() }
}

fn arm(of: StrandId, of_task: TaskId, leaves: impl Into<Vec<Leaf>>) -> Strand {
    Strand { arm_of: Some(of), ..task(of_task, leaves) }
}

fn cancelled(strand: Strand, by: CancelBy, then: Act) -> Strand {
    Strand { cancels: vec![Cancel { by, then }], ..strand }
}

fn queue(rights: &[(Roles, Place)]) -> Resource {
    let rights = rights.iter().map(|(role, place)| Right { role: *role, place: *place });
    Resource { rights: rights.collect(), ..Resource::default() }
}

fn lock(free: usize, held: &[(Place, usize)], line: &[(usize, Waiter)]) -> Resource {
    let line = line.iter().map(|(need, waiter)| InLine { need: *need, waiter: *waiter }).collect();
    let permits = Permits { free, held: held.to_vec(), line, extended_by: Vec::new() };
    Resource { permits: Some(permits), ..Resource::default() }
}

fn recv(on: ResourceId) -> Leaf {
    Leaf::Right { on, roles: Roles::SENDER, by: Act::RunsOrDrops }
}

fn notified(on: ResourceId) -> Leaf {
    Leaf::Right { on, roles: Roles::NOTIFIER, by: Act::Runs }
}

fn turn(on: ResourceId) -> Leaf {
    Leaf::Turn { on }
}

fn world(strands: impl Into<Vec<Strand>>, resources: impl Into<Vec<Resource>>) -> World {
    World { strands: strands.into(), resources: resources.into(), objects: Vec::new() }
}

fn fates(world: &World) -> Vec<Fate> {
    Proof::of(world).finish()
}

/// A task that is not among the candidates.
const LIVE: Place = Place::Task(99);
const ONE: Place = Place::Task(1);
const TWO: Place = Place::Task(2);

#[test]
fn who_waits_for_itself_is_dead_and_with_another_sender_it_is_not() {
    let waiting = |senders: &[(Roles, Place)]| fates(&world([task(1, [recv(0)])], [queue(senders)]));
    assert_eq!(waiting(&[(Roles::SENDER, ONE)]), [Dead]);
    assert_eq!(waiting(&[(Roles::SENDER, ONE), (Roles::SENDER, LIVE)]), [Alive]);
    assert_eq!(waiting(&[(Roles::SENDER, Place::Unknown)]), [Alive]);
    assert_eq!(waiting(&[(Roles::SENDER, Place::Nobody)]), [Dead]);
    assert_eq!(waiting(&[(Roles::SENDER, ONE), (Roles::RECEIVER, LIVE)]), [Dead], "receivers send nothing");
}

#[test]
fn locks_taken_in_opposite_order_are_dead_until_one_holder_lives() {
    let crossed = |first_holder| {
        let first = lock(0, &[(first_holder, 1)], &[(1, Waiter::Strand(1))]);
        let second = lock(0, &[(TWO, 1)], &[(1, Waiter::Strand(0))]);
        fates(&world([task(1, [turn(1)]), task(2, [turn(0)])], [first, second]))
    };
    assert_eq!(crossed(ONE), [Dead, Dead]);
    assert_eq!(crossed(LIVE), [Alive, Alive]);
}

#[test]
fn a_reader_behind_a_writer_behind_its_own_read_is_dead_before_the_other_reader_leaves() {
    let read_write_read = |other_reader| {
        let held = [(ONE, 1), (other_reader, 1)];
        let line = [(9, Waiter::Strand(1)), (1, Waiter::Strand(0))];
        fates(&world([task(1, [turn(0)]), task(2, [turn(0)])], [lock(7, &held, &line)]))
    };
    assert_eq!(read_write_read(LIVE), [Dead, Dead]);
    let unheld = lock(8, &[(LIVE, 1)], &[(9, Waiter::Strand(1)), (1, Waiter::Strand(0))]);
    assert_eq!(fates(&world([task(1, [turn(0)]), task(2, [turn(0)])], [unheld])), [Alive, Alive]);
}

#[test]
fn whoever_is_alive_in_a_line_goes_on_and_does_not_stand_in_the_way() {
    let behind = |ahead| {
        fates(&world([task(1, [turn(0)])], [lock(1, &[(ONE, 1)], &[(2, ahead), (1, Waiter::Strand(0))])]))
    };
    assert_eq!(behind(Waiter::Alive), [Alive]);
    assert_eq!(behind(Waiter::Unattended(99)), [Alive], "its task runs, and may drop it");
    assert_eq!(behind(Waiter::Unattended(1)), [Dead], "it stands first, for more than there is");
}

#[test]
fn what_is_not_polled_keeps_what_it_is_granted() {
    let futurelock = |free| {
        let line = [(1, Waiter::Unattended(1)), (1, Waiter::Strand(0)), (1, Waiter::Strand(1))];
        fates(&world([task(1, [turn(0)]), task(2, [turn(0)])], [lock(free, &[(LIVE, 1)], &line)]))
    };
    assert_eq!(futurelock(0), [Dead, Dead], "the live holder's permit goes to the one that nobody polls");
    assert_eq!(futurelock(1), [Alive, Alive], "there is one more");
}

#[test]
fn what_is_kept_comes_back_when_its_task_goes_on() {
    // The first task waits for the second, which can have the permit if the first does not keep it.
    let line = [(1, Waiter::Unattended(1)), (1, Waiter::Strand(1))];
    let first = |leaf| task(1, [recv(1), leaf]);
    let sender = || queue(&[(Roles::SENDER, TWO)]);
    let resources = || [lock(0, &[(LIVE, 1)], &line), sender(), queue(&[(Roles::SENDER, LIVE)])];
    assert_eq!(fates(&world([first(Leaf::Never), task(2, [turn(0)])], resources())), [Dead, Dead]);
    assert_eq!(fates(&world([first(recv(2)), task(2, [turn(0)])], resources())), [Alive, Alive]);
}

#[test]
fn permits_can_be_added_by_whoever_runs() {
    let extended = |by| {
        let mut semaphore = lock(0, &[(ONE, 1)], &[(1, Waiter::Strand(0))]);
        semaphore.permits.as_mut().unwrap().extended_by = vec![by];
        fates(&world([task(1, [turn(0)])], [semaphore]))
    };
    assert_eq!(extended(ONE), [Dead]);
    assert_eq!(extended(LIVE), [Alive]);
}

#[test]
fn a_drop_closes_queues_and_notifies_nobody() {
    let aborted = |then| {
        let held_by_two = queue(&[(Roles::SENDER, TWO), (Roles::NOTIFIER, TWO)]);
        let abortable = cancelled(task(2, [Leaf::Never]), CancelBy::Holder(LIVE), then);
        fates(&world([task(1, [recv(0)]), abortable, task(3, [notified(0)])], [held_by_two]))
    };
    assert_eq!(aborted(Act::RunsOrDrops), [OnlyCancel, OnlyCancel, Dead]);
    assert_eq!(aborted(Act::Runs), [OnlyCancel, OnlyCancel, OnlyCancel], "polled once more, it may notify");
}

#[test]
fn what_takes_the_last_holder_needs_all_of_them() {
    let all = |holders: &[Place]| {
        let holders: Vec<_> = holders.iter().map(|place| (Roles::COUNT, *place)).collect();
        let latch = Leaf::Right { on: 0, roles: Roles::COUNT, by: Act::AllRunOrDrop };
        fates(&world([task(1, [latch]), task(2, [Leaf::Never])], [queue(&holders)]))[0]
    };
    assert_eq!(all(&[LIVE, Place::Unknown]), Alive);
    assert_eq!(all(&[LIVE, TWO]), Dead);
    assert_eq!(all(&[LIVE, Place::Nobody]), Dead);
}

#[test]
fn a_join_ends_with_the_root_of_its_task() {
    let joined = |leaf| fates(&world([task(1, [Leaf::End(2)]), task(2, [leaf])], []));
    assert_eq!(joined(Leaf::Never), [Dead, Dead]);
    assert_eq!(joined(Leaf::Unknown), [Alive, Alive]);
    assert_eq!(fates(&world([task(1, [Leaf::End(99)])], [])), [Alive], "who is not a candidate lives");
    assert_eq!(fates(&world([task(1, [Leaf::End(1)])], [])), [Dead], "it joins itself");
}

#[test]
fn a_scope_closes_when_all_its_children_can_end() {
    let closing = |children: &[TaskId]| {
        fates(&world([task(1, [Leaf::AllEnd(children.to_vec())]), task(2, [Leaf::Never])], []))[0]
    };
    assert_eq!(closing(&[2, 99]), Dead);
    assert_eq!(closing(&[98, 99]), Alive);
    assert_eq!(closing(&[]), Alive, "and at once if there are none");
}

#[test]
fn one_arm_of_a_race_is_enough_and_the_others_are_doomed() {
    let race = |leaf| {
        let root = combined(1, Waits::Race { ended: 0 });
        fates(&world([root, arm(0, 1, [Leaf::Never]), arm(0, 1, [leaf])], []))
    };
    assert_eq!(race(Leaf::Unknown), [Alive, Doomed, Alive]);
    assert_eq!(race(Leaf::Never), [Dead, Dead, Dead]);
    let over = combined(1, Waits::Race { ended: 1 });
    assert_eq!(fates(&world([over, arm(0, 1, [Leaf::Never])], [])), [Alive, Doomed]);
}

#[test]
fn a_join_needs_every_arm() {
    let join =
        |leaf| fates(&world([combined(1, Waits::Join), arm(0, 1, [leaf]), arm(0, 1, [Leaf::Unknown])], []));
    assert_eq!(join(Leaf::Never), [Dead, Dead, Alive]);
    assert_eq!(join(Leaf::Unknown), [Alive, Alive, Alive]);
    assert_eq!(fates(&world([combined(1, Waits::Join)], [])), [Alive], "all of its arms have ended");
}

#[test]
fn any_strand_acts_with_what_its_task_holds() {
    // The root waits for both arms, of which one is dead; the other can still send.
    let arms = [combined(1, Waits::Join), arm(0, 1, [Leaf::Never]), arm(0, 1, [Leaf::Unknown])];
    let [root, dead, live] = arms;
    let all = world([root, dead, live, task(2, [recv(0)])], [queue(&[(Roles::SENDER, ONE)])]);
    assert_eq!(fates(&all), [Dead, Dead, Alive, Alive]);
    let root_only = Rules { every_strand: false, ..Rules::ALL };
    assert_eq!(Proof::with(&all, root_only).finish()[3], Dead);
}

#[test]
fn the_arm_of_a_live_race_gives_its_place_in_line_back() {
    let in_line = |leaf| {
        let line = [(3, Waiter::Strand(1)), (1, Waiter::Strand(3))];
        let race = combined(1, Waits::Race { ended: 0 });
        let strands = [race, arm(0, 1, [turn(0)]), arm(0, 1, [leaf]), task(2, [turn(0)])];
        fates(&world(strands, [lock(1, &[(TWO, 1)], &line)]))
    };
    assert_eq!(in_line(Leaf::Unknown), [Alive, Doomed, Alive, Alive]);
    assert_eq!(in_line(Leaf::Never), [Dead, Dead, Dead, Dead]);
}

#[test]
fn who_was_passed_over_has_its_turn_when_there_is_enough_after_all() {
    // The arm wants both permits; one is free, and the task behind it holds the other. The race may also end otherwise, so
    // that task passes, and gives back what the arm was missing.
    let line = [(2, Waiter::Strand(1)), (1, Waiter::Strand(3))];
    let race = combined(1, Waits::Race { ended: 0 });
    let strands = [race, arm(0, 1, [turn(0)]), arm(0, 1, [Leaf::Unknown]), task(2, [turn(0)])];
    let all = world(strands, [lock(1, &[(TWO, 1)], &line)]);
    assert_eq!(fates(&all), [Alive, Alive, Alive, Alive]);
}

#[test]
fn what_lies_in_a_buffer_comes_to_its_receivers() {
    // A reply's sending end lies in the queue of requests.
    let in_buffer = |receiver| {
        let requests = queue(&[(Roles::RECEIVER, receiver)]);
        let reply = queue(&[(Roles::SENDER, Place::Buffer(1))]);
        fates(&world([task(1, [recv(0)]), task(2, [Leaf::Never])], [reply, requests]))[0]
    };
    assert_eq!(in_buffer(TWO), Dead);
    assert_eq!(in_buffer(ONE), Dead, "who waits for the reply is the one to answer it");
    assert_eq!(in_buffer(LIVE), Alive);
    assert_eq!(in_buffer(Place::Buffer(1)), Dead, "a queue whose receiver lies in itself");
    let emptied = [queue(&[(Roles::SENDER, Place::Buffer(1))]), queue(&[])];
    assert_eq!(
        fates(&world([task(1, [recv(0)])], emptied)),
        [Alive],
        "its last receiver has gone, and drops it"
    );
}

#[test]
fn senders_that_push_out_the_oldest_drop_what_lies_there() {
    let pushed_out = |drops_oldest, leaf| {
        let requests = Resource { drops_oldest, ..queue(&[(Roles::RECEIVER, TWO), (Roles::SENDER, LIVE)]) };
        let held = queue(&[(Roles::SENDER, Place::Buffer(1)), (Roles::NOTIFIER, Place::Buffer(1))]);
        fates(&world([task(1, [leaf]), task(2, [Leaf::Never])], [held, requests]))[0]
    };
    assert_eq!(pushed_out(true, recv(0)), Alive);
    assert_eq!(pushed_out(true, notified(0)), Dead);
    assert_eq!(pushed_out(false, recv(0)), Dead);
}

#[test]
fn whoever_holds_a_shared_object_can_use_what_lies_in_it() {
    let shared = |holders: &[Place]| {
        let inner = Object { holders: vec![Place::Object(1)] };
        let outer = Object { holders: holders.to_vec() };
        let queues = [queue(&[(Roles::SENDER, Place::Object(0))])];
        let mut world = world([task(1, [recv(0)])], queues);
        world.objects = vec![inner, outer];
        fates(&world)
    };
    assert_eq!(shared(&[ONE, ONE]), [Dead]);
    assert_eq!(shared(&[ONE, LIVE]), [Alive], "through the object around it");
    assert_eq!(shared(&[ONE, Place::Unknown]), [Alive]);
    assert_eq!(shared(&[Place::Nobody]), [Dead]);
    assert_eq!(shared(&[]), [Alive], "somebody is about to drop it");
}

#[test]
fn cancels_end_what_would_never_end_by_itself() {
    let cancel = |by| {
        let never = || task(1, [Leaf::Never]);
        fates(&world([cancelled(never(), by, Act::Runs), task(2, [Leaf::Never])], []))[0]
    };
    assert_eq!(cancel(CancelBy::Deadline), OnlyCancel);
    assert_eq!(cancel(CancelBy::Sibling(2)), Dead);
    assert_eq!(cancel(CancelBy::Sibling(99)), OnlyCancel);
    assert_eq!(cancel(CancelBy::Owner(2)), Dead);
    assert_eq!(cancel(CancelBy::Owner(99)), OnlyCancel);
    assert_eq!(cancel(CancelBy::Holder(TWO)), Dead);
    assert_eq!(cancel(CancelBy::Holder(Place::Unknown)), OnlyCancel);
}

#[test]
fn whom_a_cancelled_task_would_wake_waits_for_a_cancel_too() {
    let late = cancelled(task(2, [Leaf::Never]), CancelBy::Deadline, Act::Runs);
    let all = world([task(1, [recv(0)]), late], [queue(&[(Roles::SENDER, TWO)])]);
    assert_eq!(fates(&all), [OnlyCancel, OnlyCancel]);
}

#[test]
fn who_moved_meanwhile_is_alive_and_so_is_whom_it_can_wake() {
    let crossed = world([task(1, [Leaf::End(2)]), task(2, [Leaf::End(1)]), task(3, [Leaf::Never])], []);
    let mut proof = Proof::of(&crossed);
    assert!(!proof.runs(0) && !proof.acts(ONE, Act::RunsOrDrops));
    proof.revive([1]);
    assert!(proof.runs(0) && proof.acts(ONE, Act::Runs));
    assert_eq!(proof.finish(), [Alive, Alive, Dead]);
}

/// Invariant 3: as many senders as receivers of one queue, and as many waiters in one line, cost no more than their number.
#[test]
fn the_cost_is_that_of_looking_at_every_fact_once() {
    let edges = |count: u64| {
        let all = usize::try_from(count).unwrap();
        let waiting = (1..=count).map(|id| task(id, [recv(0), turn(1)]));
        let senders: Vec<_> = (1..=count).map(|id| (Roles::SENDER, Place::Task(id))).collect();
        let line: Vec<_> = (0..all).map(|strand| (1, Waiter::Strand(strand))).collect();
        let all = world(waiting.collect::<Vec<_>>(), [queue(&senders), lock(0, &[(ONE, 1)], &line)]);
        let proof = Proof::of(&all);
        let edges = proof.net.edges();
        assert!(proof.finish().iter().all(|fate| *fate == Dead));
        edges
    };
    assert!(edges(1_000) <= 10_000);
    assert_eq!(
        edges(2_000) - edges(1_000),
        edges(3_000) - edges(2_000),
        "it grows by the same for each thousand"
    );
}
