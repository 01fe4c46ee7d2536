//! Deadlines in headers: what is written is read, and a callee never has longer than its caller.

use std::time::Duration;

use bowline::propagate::{format_timeout, header_value, timeout_from};
use bowline::timeout;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn every_unit_is_read() {
    for (header, expected) in [
        ("0n", Duration::ZERO),
        ("1n", Duration::from_nanos(1)),
        ("99999999u", Duration::from_micros(99_999_999)),
        ("250m", Duration::from_millis(250)),
        ("00000005S", 5 * SECOND),
        ("2M", 120 * SECOND),
        ("1H", 3600 * SECOND),
        ("99999999H", Duration::from_secs(99_999_999 * 3600)),
    ] {
        assert_eq!(timeout_from(header), Ok(expected), "{header}");
    }
}

#[test]
fn what_is_no_timeout_is_refused_and_told_apart() {
    for header in ["", "S", "5", "5s", "5 S", "-5S", "+5S", "1.5S", "123456789n", "५S", "5é", "5S ", "S5"]
    {
        let error = timeout_from(header).unwrap_err().to_string();
        assert!(error.starts_with(&format!("invalid time-out `{}`", header.escape_default())), "{error}");
    }
    assert!(timeout_from("5s").unwrap_err().to_string().contains("the unit H, M, S, m, u or n"));
    assert!(timeout_from("123456789n").unwrap_err().to_string().contains("one to eight digits"));
    let long = timeout_from(&"9".repeat(100_000)).unwrap_err().to_string();
    assert!(long.len() < 200, "an error does not repeat what somebody sends without end");
}

#[bowline::test(start_paused = true)]
async fn what_is_left_of_the_deadline_is_sent_along() {
    assert_eq!(header_value(), None);
    let sent = timeout(10 * SECOND, async {
        let fresh = header_value();
        tokio::time::sleep(4 * SECOND).await;
        let later = timeout(60 * SECOND, async { header_value() }).await.unwrap();
        let _ = bowline::cancelled().await;
        (fresh, later, header_value())
    });
    let (fresh, later, passed) = sent.await.unwrap();
    assert_eq!(fresh.as_deref(), Some("10000000u"));
    assert!(later.unwrap().starts_with("5999"), "four seconds and a tick of the clock are gone");
    assert_eq!(passed.as_deref(), Some("0n"));
}

/// A client that sends no time-out of its own keeps a server at work for nobody; under a chain of calls each has less.
#[bowline::test(start_paused = true)]
async fn over_many_hops_the_deadline_only_gets_nearer() {
    let mut left = Duration::from_nanos(12_345_678_901_234);
    for _ in 0..10 {
        let header = timeout(left, async { header_value() }).await.unwrap().unwrap();
        let next = timeout_from(&header).unwrap();
        assert!(next <= left, "{next:?} after {left:?}");
        left = next;
    }
    assert!(left > Duration::from_secs(12_345));
}

proptest! {
    /// Rounded down, by less than one part in 16,666: from seconds to minutes the step is sixty.
    #[test]
    fn what_is_written_is_read_and_never_more(nanos in any::<u128>(), shift in 0_u32..128) {
        let nanos = nanos >> shift;
        let seconds = u64::try_from(nanos / 1_000_000_000).unwrap_or(u64::MAX);
        let timeout = Duration::new(seconds, u32::try_from(nanos % 1_000_000_000).unwrap());
        let header = format_timeout(timeout);
        prop_assert!((2..=9).contains(&header.len()) && header.is_ascii());
        let read = timeout_from(&header).unwrap();
        prop_assert!(read <= timeout);
        let most = Duration::from_secs(99_999_999 * 3600);
        prop_assert!(timeout.min(most) - read <= timeout.min(most) / 16_666, "{timeout:?} {header}");
        prop_assert_eq!(format_timeout(read), header, "what was rounded once stays");
    }

    #[test]
    fn whatever_comes_in_never_panics(header in ".{0,12}") {
        if let Ok(read) = timeout_from(&header) {
            prop_assert!(timeout_from(&format_timeout(read)) == Ok(read), "{header}");
        }
    }
}
