//! The controllers before servers of known capacity, in simulated time.

use proptest::prelude::*;

use super::{Limit, Sample};
use std::time::Duration;

/// A server that works on `capacity` calls at once. One more makes all slower, and beyond `room` it refuses.
#[derive(Clone, Copy, Debug)]
struct Server {
    capacity: usize,
    room: usize,
    latency: Duration,
    /// Share by which a latency is off, either way.
    noise: f64,
}

struct Load {
    /// Calls that would be made if there were no limit.
    demand: usize,
    random: fastrand::Rng,
}

impl Load {
    fn new(demand: usize, seed: u64) -> Self {
        Self { demand, random: fastrand::Rng::with_seed(seed) }
    }

    /// So many rounds of as many calls as the limit allows; the mean limit over the last half of them.
    fn run(&mut self, limit: &mut Limit, server: Server, rounds: usize) -> f64 {
        let mut sum = 0.0;
        for round in 0..rounds {
            let in_flight = limit.now().min(self.demand);
            let queue = (in_flight as f64 / server.capacity as f64).max(1.0);
            for at in 0..in_flight {
                let off = 1.0 + server.noise * (self.random.f64() * 2.0 - 1.0);
                let dropped = at >= server.room;
                limit.observe(Sample { latency: server.latency.mul_f64(queue * off), in_flight, dropped });
            }
            sum += if round >= rounds / 2 { limit.now() as f64 } else { 0.0 };
        }
        sum / (rounds - rounds / 2) as f64
    }
}

const MS: Duration = Duration::from_millis(1);

fn queues(capacity: usize) -> Server {
    Server { capacity, room: usize::MAX, latency: 10 * MS, noise: 0.1 }
}

fn refuses(capacity: usize) -> Server {
    Server { capacity, room: capacity, latency: 10 * MS, noise: 0.1 }
}

fn near(limit: f64, capacity: usize) -> bool {
    (limit / capacity as f64 - 1.0).abs() <= 0.2
}

fn both(range: std::ops::RangeInclusive<usize>) -> [Limit; 2] {
    [Limit::aimd(range.clone()), Limit::gradient(range)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn it_stays_within_its_bounds(
        min in 1_usize..50, more in 0_usize..200,
        samples in proptest::collection::vec((0_u64..10_000_000, 0_usize..1_000, any::<bool>()), 1..2_000)
    ) {
        let max = min + more;
        for mut limit in both(min..=max) {
            prop_assert!((min..=max).contains(&limit.now()));
            for (micros, in_flight, dropped) in &samples {
                let latency = Duration::from_micros(*micros);
                let now = limit.observe(Sample { latency, in_flight: *in_flight, dropped: *dropped });
                prop_assert!((min..=max).contains(&now));
            }
        }
    }

    #[test]
    fn a_gradient_finds_the_capacity_of_a_server_that_queues(
        capacity in 10_usize..200, seed in any::<u64>(), lowest in any::<bool>()
    ) {
        // From far below as from far above, where it first takes a full queue for an empty one and learns better in steps.
        let mut limit = if lowest { Limit::gradient(1..=400) } else { Limit::gradient(5..=4_000) };
        let found = Load::new(usize::MAX, seed).run(&mut limit, queues(capacity), 800);
        prop_assert!(near(found, capacity), "{found} of {capacity}");
    }

    #[test]
    fn aimd_finds_the_capacity_of_a_server_that_refuses(capacity in 10_usize..200, seed in any::<u64>()) {
        let mut limit = Limit::aimd(1..=400);
        let found = Load::new(usize::MAX, seed).run(&mut limit, refuses(capacity), 600);
        prop_assert!(near(found, capacity), "{found} of {capacity}");
    }

    #[test]
    fn aimd_finds_the_capacity_of_a_server_that_becomes_slow(capacity in 10_usize..200, seed in any::<u64>()) {
        let mut limit = Limit::aimd(1..=400).slower_than(12 * MS);
        let found = Load::new(usize::MAX, seed).run(&mut limit, queues(capacity), 600);
        prop_assert!(near(found, capacity), "{found} of {capacity}");
    }

    #[test]
    fn it_follows_when_half_of_the_capacity_is_gone(capacity in 30_usize..200, seed in any::<u64>()) {
        let mut load = Load::new(usize::MAX, seed);
        for (mut limit, server) in [(Limit::aimd(1..=400), refuses as fn(usize) -> Server), (Limit::gradient(1..=400), queues)] {
            load.run(&mut limit, server(capacity), 600);
            let found = load.run(&mut limit, server(capacity / 2), 100);
            prop_assert!(near(found, capacity / 2), "{found} of {}", capacity / 2);
        }
    }

    /// Its memory of the best latency must not starve it for ever.
    #[test]
    fn a_server_that_became_slower_for_good_is_not_taken_for_one_that_queues(
        capacity in 20_usize..200, seed in any::<u64>()
    ) {
        let mut load = Load::new(usize::MAX, seed);
        let mut limit = Limit::gradient(1..=400);
        load.run(&mut limit, queues(capacity), 400);
        let slower = Server { latency: 30 * MS, ..queues(capacity) };
        let found = load.run(&mut limit, slower, 800);
        prop_assert!(near(found, capacity), "{found} of {capacity}");
    }

    #[test]
    fn idleness_neither_raises_nor_shrinks_it(seed in any::<u64>(), server in prop_oneof![Just(queues(50)), Just(refuses(50))]) {
        let mut load = Load::new(usize::MAX, seed);
        for mut limit in both(1..=400) {
            load.run(&mut limit, server, 600);
            let before = limit.now();
            load.demand = 2;
            load.run(&mut limit, server, 5_000);
            prop_assert!(limit.now().abs_diff(before) <= 1, "{} became {}", before, limit.now());
            load.demand = usize::MAX;
        }
    }
}
