//! Chance, for what many do at once and should not do together.

use std::time::Duration;

use uuid::Uuid;

/// Half to the whole of `time`, at random: who lost something together does not come back together.
pub(crate) fn jittered(time: Duration) -> Duration {
    time.mul_f64(0.5 + fraction() / 2.0)
}

/// A number from 0 to 1, from the random bits of an identifier: the one source of randomness here already.
fn fraction() -> f64 {
    // The last 48 bits of a version 4 UUID are random, and a double holds them exactly.
    let bits = Uuid::new_v4().as_u128() as u64 & ((1 << 48) - 1);
    bits as f64 / (1_u64 << 48) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_never_less_than_half_nor_more_than_the_whole_and_rarely_the_same() {
        let time = Duration::from_secs(100);
        let mut times: Vec<_> = (0..1000).map(|_| jittered(time)).collect();
        assert!(times.iter().all(|jittered| *jittered >= time / 2 && *jittered <= time));
        times.sort();
        times.dedup();
        assert!(times.len() > 990, "{}", times.len());
        assert!(times[0] < time * 6 / 10 && times[times.len() - 1] > time * 9 / 10);
    }
}
