//! A message broker over TCP that redelivers what was not acknowledged, and a demonstration with a stop in the middle.
//!
//! The protocol is one of lines: the broker pushes `ID PAYLOAD`, the consumer answers `ack ID`.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::time::Duration;

use bowline::{Either, race};
use bowline_examples::{accept, listen, stop_switch};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::consume;

/// What the broker delivers ahead of the acknowledgements.
const IN_FLIGHT: usize = 8;
const ORDERS: u64 = 40;
/// The demonstration stops its first consumer after so many.
const STOP_AFTER: u64 = 10;

/// Delivers the messages to one consumer at a time, and counts acknowledgements; those not given are delivered again.
pub(crate) async fn broker(
    listener: TcpListener,
    mut waiting: VecDeque<(u64, String)>,
    pace: Duration,
    acked: watch::Sender<u64>,
) -> anyhow::Result<Infallible> {
    loop {
        let (lines, mut out) = accept(&listener).await.into_split();
        let mut lines = BufReader::new(lines).lines();
        let mut in_flight = BTreeMap::new();
        loop {
            let may_deliver = in_flight.len() < IN_FLIGHT && !waiting.is_empty();
            let due = async {
                if may_deliver { tokio::time::sleep(pace).await } else { std::future::pending().await }
            };
            match race(due, lines.next_line()).await {
                Either::Left(()) => {
                    let Some((id, payload)) = waiting.pop_front() else { continue };
                    let line = format!("{id} {payload}\n");
                    in_flight.insert(id, payload);
                    if out.write_all(line.as_bytes()).await.is_err() {
                        break;
                    }
                }
                Either::Right(Ok(Some(line))) => {
                    let id = line.strip_prefix("ack ").and_then(|id| id.parse::<u64>().ok());
                    if id.and_then(|id| in_flight.remove(&id)).is_some() {
                        acked.send_modify(|acked| *acked += 1);
                    }
                }
                Either::Right(_) => break,
            }
        }
        in_flight.into_iter().rev().for_each(|unacked| waiting.push_front(unacked));
    }
}

/// Orders of 100 cents each, every tenth of them unreadable.
pub(crate) fn orders(count: u64) -> VecDeque<(u64, String)> {
    let payload = |id| if id % 10 == 0 { format!("#{id}?") } else { format!("customer{} 100", id % 3) };
    (1..=count).map(|id| (id, payload(id))).collect()
}

/// Consumes with a stop in the middle and a second run for the rest: every order is booked once, poison is on file.
pub(crate) async fn run() -> anyhow::Result<()> {
    let (listener, address) = listen(0).await?;
    let dead_letters = std::env::temp_dir().join(format!("dead-letters-{}", address.port()));
    let acked = watch::Sender::new(0);
    let mut seen = acked.subscribe();
    let broker = broker(listener, orders(ORDERS), Duration::ZERO, acked);
    let mut booked_cents = 0;
    let runs = async {
        for goal in [STOP_AFTER, ORDERS] {
            let (stop, stopped) = stop_switch();
            let socket = TcpStream::connect(address).await?;
            let reached = async {
                seen.wait_for(|acked| *acked >= goal).await?;
                drop(stop);
                Ok(())
            };
            let (cents, ()) = tokio::try_join!(consume(socket, dead_letters.clone(), stopped), reached)?;
            booked_cents += cents;
            println!("a consumer stopped; {} of {ORDERS} acknowledged", *seen.borrow());
        }
        anyhow::Ok(())
    };
    match race(broker, runs).await {
        Either::Left(broken) => match broken? {},
        Either::Right(ended) => ended?,
    }
    let dead = std::fs::read_to_string(&dead_letters)?;
    std::fs::remove_file(&dead_letters)?;
    println!("booked {booked_cents} cents; dead letters:\n{dead}");
    assert_eq!(booked_cents, (ORDERS - ORDERS / 10) * 100);
    let mut ids: Vec<_> =
        dead.lines().filter_map(|line| line.split(' ').next()?.parse::<u64>().ok()).collect();
    ids.sort_unstable();
    assert_eq!(ids, [10, 20, 30, 40]);
    Ok(())
}

#[cfg(test)]
#[bowline::test]
async fn does_what_it_says_and_leaves_no_task_behind() -> anyhow::Result<()> {
    bowline::timeout(std::time::Duration::from_secs(30), Box::pin(run())).await?
}
