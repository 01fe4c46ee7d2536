//! Every delivery ends once, and the numbers say so at any moment.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

#[test]
fn the_numbers_add_up_at_every_sampling_and_nothing_is_left_at_rest() {
    const PUBLISHERS: u64 = 3;
    const EACH: u64 = 1000;
    let node = node_with(|_| {});
    let steady = [roomy(), roomy()];
    let _members: Vec<_> = steady.iter().map(|outbox| join(&node, "c", outbox)).collect();
    let slow = Outbox::new(NonZeroUsize::new(4096).unwrap());
    let _slow = join(&node, "c", &slow);
    let has_finished = AtomicBool::new(false);

    std::thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            let (mut samples, mut before) = (0_u64, 0);
            while !has_finished.load(Ordering::Acquire) || samples == 0 {
                let deliveries = node.stats().deliveries;
                let ended = deliveries.delivered + deliveries.refused.values().sum::<u64>();
                assert!(ended <= deliveries.accepted);
                assert_eq!(deliveries.accepted, ended + deliveries.in_flight);
                // No upper bound: what ended was counted first, and publishers went on while this thread had to wait.
                assert!(deliveries.accepted >= before);
                before = deliveries.accepted;
                samples += 1;
            }
        });
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|_| scope.spawn(|| (0..EACH).for_each(|_| publish(&node, "c", "{}"))))
            .collect();
        let churn = scope.spawn(|| {
            for round in 0..200 {
                let member = begin(&node, "c", &roomy());
                if round % 2 == 0 {
                    member.go_live(None, Some(answer())).unwrap();
                }
            }
        });
        for thread in publishers.into_iter().chain([churn]) {
            thread.join().unwrap();
        }
        has_finished.store(true, Ordering::Release);
        sampler.join().unwrap();
    });

    let stats = node.stats();
    let deliveries = stats.deliveries;
    assert_eq!(stats.publications, PUBLISHERS * EACH);
    assert_eq!(deliveries.in_flight, 0);
    assert!(deliveries.accepted >= 3 * PUBLISHERS * EACH);
    assert_eq!(deliveries.refused["slow"], 1);
    assert_eq!(deliveries.refused["internal"], 0);
    for outbox in &steady {
        assert_eq!(publications(outbox).len() as u64, PUBLISHERS * EACH);
    }
}
