//! The task that tells, without sockets: what is told, in what order, how often, and what is left at the end.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowline::{Bound, Cancelled, FreeRx, Overflow, Scope, scope};
use bowline_protocol::{ClientInfo, Disconnect};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{Event, Failed, Happened, MAX_QUEUED, Post, Sink, Teller};

const DELAY: Duration = Duration::from_secs(5);

/// An application that keeps what it is told, after it has refused so many batches.
#[derive(Clone, Default)]
struct Application {
    batches: Arc<Mutex<Vec<Value>>>,
    refuses: Arc<Mutex<usize>>,
}

impl Post for Application {
    async fn post(&mut self, batch: &[u8]) -> Result<(), Failed> {
        let mut refuses = self.refuses.lock().unwrap();
        if *refuses > 0 {
            *refuses -= 1;
            return Err(Failed);
        }
        self.batches.lock().unwrap().push(serde_json::from_slice(batch).unwrap());
        Ok(())
    }
}

impl Application {
    /// What it was told so far: kinds and channels or clients.
    fn told(&self) -> VecDeque<String> {
        let batches = self.batches.lock().unwrap();
        let events = batches.iter().flat_map(|batch| batch["events"].as_array().unwrap().clone());
        let word = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
        events.map(|event| format!("{} {}", word(&event, "type"), word(&event, "channel"))).collect()
    }
}

/// A sink, its queue's other end, and how it is told of the end.
fn open(s: &Scope<Cancelled>, max: usize) -> (Arc<Sink>, FreeRx<Happened>, watch::Sender<bool>) {
    let (tx, rx) = s.queue("events", Bound::items(max), Overflow::Reject);
    let sink = Arc::new(Sink::default());
    sink.open(tx.free());
    (sink, rx.free(), watch::Sender::new(false))
}

/// Runs `test` beside the task that tells `application`, which is then given the time to come to its end.
async fn telling(application: &Application, test: impl AsyncFnOnce(&Sink, &watch::Sender<bool>)) {
    let application = application.clone();
    scope("test", async |s| {
        let (sink, rx, end) = open(s, MAX_QUEUED);
        let teller = Teller::new(rx, end.subscribe(), DELAY, Arc::clone(sink.counts()), application);
        let told = s.spawn("events", teller.run());
        test(&sink, &end).await;
        end.send_replace(true);
        told.await
    })
    .await
    .unwrap();
}

fn info(client: &str) -> Arc<ClientInfo> {
    Arc::new(ClientInfo { user: "u".into(), client: client.into(), ..ClientInfo::default() })
}

fn occupied(sink: &Sink, channel: &str) {
    sink.tell(Event::Occupied(channel.into()));
}

fn vacated(sink: &Sink, channel: &str) {
    sink.tell(Event::Vacated(channel.into()));
}

async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[bowline::test(start_paused = true)]
async fn a_channel_that_flaps_is_told_of_once_and_one_that_stays_empty_when_that_is_sure() {
    let application = Application::default();
    telling(&application, async |sink, _| {
        occupied(sink, "a");
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            vacated(sink, "a");
            occupied(sink, "a");
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(application.told(), ["occupied a"]);
        vacated(sink, "a");
        tokio::time::sleep(DELAY - Duration::from_millis(1)).await;
        assert_eq!(application.told().len(), 1);
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert_eq!(application.told(), ["occupied a", "vacated a"]);
        occupied(sink, "a");
    })
    .await;
    assert_eq!(application.told(), ["occupied a", "vacated a", "occupied a"]);
}

#[bowline::test(start_paused = true)]
async fn what_the_application_does_not_take_is_sent_again_before_anything_else() {
    let application = Application::default();
    *application.refuses.lock().unwrap() = 20;
    telling(&application, async |sink, _| {
        occupied(sink, "a");
        settle().await;
        occupied(sink, "b");
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert_eq!(application.told(), ["occupied a", "occupied b"]);
        assert_eq!((sink.counts().told(), sink.counts().failed(), sink.counts().lost()), (2, 20, 0));
        assert_eq!(
            application.batches.lock().unwrap().len(),
            2,
            "the batch that failed, and then what came meanwhile"
        );
    })
    .await;
}

#[bowline::test(start_paused = true)]
async fn at_the_end_everything_is_told_and_channels_just_left_are_too() {
    let application = Application::default();
    telling(&application, async |sink, end| {
        for number in 0..2500 {
            occupied(sink, &number.to_string());
        }
        settle().await;
        for number in 0..2500 {
            vacated(sink, &number.to_string());
        }
        settle().await;
        assert_eq!(application.told().len(), 2500);
        end.send_replace(true);
    })
    .await;
    let told = application.told();
    assert_eq!((told.len(), told.iter().filter(|told| told.starts_with("vacated")).count()), (5000, 2500));
    let largest =
        application.batches.lock().unwrap().iter().map(|b| b["events"].as_array().unwrap().len()).max();
    assert_eq!(largest, Some(1000));
}

#[bowline::test(start_paused = true)]
async fn a_full_queue_refuses_at_once_and_counts() {
    scope("test", async |s| {
        let (sink, _rx, _end) = open(s, 3);
        (0..5).for_each(|number| occupied(&sink, &number.to_string()));
        assert_eq!(sink.counts().lost(), 2);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
    // Before the server runs there is nobody to tell.
    occupied(&Sink::default(), "a");
}

#[bowline::test(start_paused = true)]
async fn a_shutdown_that_does_not_wait_counts_what_was_not_told() {
    let application = Application::default();
    *application.refuses.lock().unwrap() = usize::MAX;
    let counts = Mutex::new(None);
    let ended = scope("test", async |s| {
        let (sink, rx, end) = open(s, MAX_QUEUED);
        let teller = Teller::new(rx, end.subscribe(), DELAY, Arc::clone(sink.counts()), application.clone());
        s.spawn("events", teller.run());
        occupied(&sink, "a");
        settle().await;
        occupied(&sink, "b");
        occupied(&sink, "c");
        end.send_replace(true);
        *counts.lock().unwrap() = Some(Arc::clone(sink.counts()));
        s.cancel("the test ends");
        Ok::<_, Cancelled>(())
    })
    .await;
    let counts = counts.into_inner().unwrap().unwrap();
    assert_eq!((counts.told(), counts.lost()), (0, 3), "{ended:?}");
}

#[bowline::test(start_paused = true)]
async fn events_say_who_what_and_when() {
    let application = Application::default();
    telling(&application, async |sink, _| {
        sink.tell(Event::Unsubscribed { channel: "a".into(), info: info("c") });
        sink.tell_disconnected(&info("c"), "websocket", Disconnect::SLOW);
    })
    .await;
    let batches = application.batches.lock().unwrap();
    let mut events =
        batches.iter().flat_map(|batch| batch["events"].as_array().unwrap().clone()).collect::<Vec<_>>();
    for event in &mut events {
        let time = event.as_object_mut().unwrap().remove("time_ms").unwrap();
        assert!(time.as_i64().unwrap() > 1_600_000_000_000, "{time}");
    }
    assert_eq!(
        events,
        [
            json!({"type": "unsubscribed", "channel": "a", "client": "c", "user": "u"}),
            json!({"type": "disconnected", "client": "c", "user": "u", "transport": "websocket", "code": 3008, "reason": "slow"}),
        ]
    );
}
