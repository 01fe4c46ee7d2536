//! Alerts: counted for metrics, as JSON, and for how long they have stood.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowline::{AlertKind, Breaker, Class, alert_counts, alerts, on_alert, sleep};

/// A breaker that calls have failed on: its alert stands.
fn opened(name: &'static str) -> Breaker {
    let breaker = Breaker::new(name);
    while alerts().iter().all(|alert| alert.name != name) {
        breaker.admit().expect("it is closed").failed(Class::Timeout);
    }
    breaker
}

#[bowline::test(start_paused = true)]
async fn an_alert_says_in_json_what_it_is_about_and_how_long_it_has_stood() {
    let line = 10; // of `Breaker::new` above
    let _breaker = opened("billing");
    sleep(Duration::from_millis(1_500)).await.unwrap();
    let json = serde_json::to_value(alerts()).unwrap();
    let alert = &json[0];
    assert_eq!((&alert["kind"], &alert["name"]), (&"breaker_open".into(), &"billing".into()), "{json}");
    assert_eq!((&alert["raised"], &alert["left_out"]), (&true.into(), &0.into()));
    assert_eq!(alert["for_ms"].as_u64().unwrap() / 100, 15, "tenths of a second");
    let place = alert["place"].as_str().unwrap();
    assert!(place.ends_with(&format!("alert.rs:{line}")), "{place}");
}

#[bowline::test(start_paused = true)]
async fn what_is_over_says_how_long_it_stood() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&heard);
    let _hook = on_alert(move |alert| hears.lock().unwrap().push((alert.raised, alert.for_ms / 1_000)));
    let breaker = opened("billing");
    sleep(Duration::from_secs(2)).await.unwrap();
    drop(breaker);
    // It comes and goes within the quiet minute: nobody is told that it began, so nobody is told that it is over.
    let breaker = opened("billing");
    sleep(Duration::from_secs(1)).await.unwrap();
    drop(breaker);
    assert_eq!(std::mem::take(&mut *heard.lock().unwrap()), [(true, 0), (false, 2)]);
    // It begins within that minute and outlasts it: somebody may have seen it in the list.
    let breaker = opened("billing");
    sleep(Duration::from_secs(70)).await.unwrap();
    drop(breaker);
    assert_eq!(*heard.lock().unwrap(), [(false, 70)]);
}

#[bowline::test(start_paused = true)]
async fn counts_say_how_many_were_raised_and_how_many_stand() {
    assert_eq!(alert_counts(), []);
    let (a, _b) = (opened("a"), opened("b"));
    drop(a);
    let counts = alert_counts();
    assert_eq!(counts.len(), 1, "{counts:?}");
    assert_eq!((counts[0].kind, counts[0].raised, counts[0].standing), (AlertKind::BreakerOpen, 2, 1));
}
