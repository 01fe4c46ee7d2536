//! Chance, for jitter: by the seed of the run in a test, at random otherwise.

use std::time::Duration;

use crate::testing::trial;

/// A number in `0.0..1.0`.
pub(crate) fn unit() -> f64 {
    // The 53 bits of a double's mantissa.
    #[expect(clippy::cast_precision_loss, reason = "exact: 53 bits")]
    let unit = (trial::seeded_draw().unwrap_or_else(|| fastrand::u64(..)) >> 11) as f64;
    unit / 9_007_199_254_740_992.0
}

/// A time from zero to `at_most`, each as likely as the other.
pub(crate) fn up_to(at_most: Duration) -> Duration {
    at_most.mul_f64(unit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throws_are_spread_over_the_whole_range() {
        let throws: Vec<f64> = (0..10_000).map(|_| unit()).collect();
        assert!(throws.iter().all(|throw| (0.0..1.0).contains(throw)));
        let mean = throws.iter().sum::<f64>() / 10_000.0;
        assert!((0.45..0.55).contains(&mean), "{mean}");
        assert!(up_to(Duration::MAX) <= Duration::MAX);
    }
}
