//! A5, the test rig: the bug shows itself under load, and is gone when somebody looks.
//!
//! A messaging system lost or doubled an entry once in a few thousand runs of its test, always on the busy build machine and never on a
//! desk. The rig did have a network that loses messages: a proxy that asked a random generator for each line that came along, with
//! a seed that was written to the log. The seed was worth nothing. Which line drew which number hung on who came first, and that on the
//! scheduler, the load and the clock. Nobody could run the failure again, and so nobody could know that it was mended.
//!
//! The system here is a ledger with a bug in it: its client asks again when no answer comes, and an entry whose *answer* was lost is
//! booked twice. Both rigs put a network between the two, with real sockets, that delays each line and loses some as a black hole does:
//! no reset, nothing closes, nobody is told. Then they run one seed again and again, side by side as tests are run.
//!
//! In the tied form a line's fate hangs on the seed, on whose connection it is and on its number there, and on nothing else: not on a clock, and not
//! on who else is about. Each connection is a scope: client, network and ledger begin and end together, and a wait of
//! the client has a time-out that no busy machine exceeds.
//!
//! A network that is simulated as a whole, clock included, could draw delays that matter as well. Crates that do need the clock of
//! tokio's `test-util`, which is built for all of a program or for none of it; this program is also a server. For tests of one's own there is
//! no such reason: `#[bowline::test(start_paused = true)]` is such a clock.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowline::{CollectAll, group, scope, timeout};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::lab::{Counter, Lab, Trouble, lock};
use crate::row::{Bound, Row, Unit};

/// The row.
pub(crate) static ROW: Row = Row {
    id: "A5",
    title: "test rig",
    broke: "A bug showed itself under load and not every time: the test network lost messages at random, and its seed brought nothing back.",
    must: "A network with set latency, loss and partition, and a seed: the same seed gives the same run, to the last message.",
    theirs: "flaky → replayable by seed",
    load: "eight clients that book 25 entries each through a network that loses some, five runs of one seed side by side (reduced: \
           three runs; full: 20)",
    remedy: "What happens to a message is decided by its number and not by the clock; `scope` and `timeout` give every part of the rig an owner \
             and every wait an end.",
    needs: &[],
    bounds: &[
        Bound::at_most("runs that differ", 0.0, Unit::Count).broken_by_leaky(),
        Bound::at_least("runs that show the bug", 100.0, Unit::Percent),
        Bound::at_most("calls without an end", 0.0, Unit::Count),
        Bound::at_most("tasks left", 0.0, Unit::Count),
    ],
    leaky: |lab| Box::pin(leaky(lab)),
    tied: |lab| Box::pin(tied(lab)),
    source: include_str!("a5.rs"),
};

// ANCHOR: leaky
/// Loses one line in twenty, whoever's it is: the seed is the same each time.
#[derive(Clone)]
struct Random(Arc<Mutex<Dice>>);

impl Network for Random {
    async fn carries(&mut self, _way: Way) -> bool {
        let (delay, lost) = {
            let mut dice = lock(&self.0);
            (dice.below(3), dice.below(20) == 0)
        };
        sleep(Duration::from_millis(delay)).await;
        !lost
    }
}

#[expect(clippy::disallowed_methods, reason = "the form as it broke")]
async fn run_leaky(calls: Calls) -> Result<Run, Broken> {
    let network = Random(Arc::new(Mutex::new(Dice(SEED))));
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let (network, calls) = (network.clone(), calls.clone());
        clients.spawn(async move {
            let (seen, [near, far]) = (Seen::default(), [pair().await?, pair().await?]);
            let (questions, answers) = carried(near.1, far.0, &network, &seen);
            tokio::spawn(questions);
            tokio::spawn(answers);
            tokio::spawn(ledger(far.1, seen.clone()));
            let mut client = Client::new(near.0);
            for entry in 0..ENTRIES {
                calls.begun.add(1);
                for _ in 0..TRIES {
                    if tokio::time::timeout(Duration::from_millis(100), client.book(entry)).await.is_ok() {
                        calls.ended.add(1);
                        break;
                    }
                }
            }
            Ok::<_, Broken>((number, seen))
        });
    }
    let clients = clients.join_all().await.into_iter().collect::<Result<BTreeMap<_, _>, _>>()?;
    Ok(Run::of(clients.into_values().collect()))
}
// ANCHOR_END: leaky

async fn leaky(lab: Lab) -> Result<(), Trouble> {
    let calls = Calls::of(&lab);
    let mut runs = JoinSet::new();
    for _ in 0..runs_of(&lab) {
        runs.spawn(run_leaky(calls.clone()));
    }
    let runs = runs.join_all().await;
    let runs: Result<Vec<_>, _> = runs.into_iter().collect();
    calls.figures(&lab, &runs.map_err(|broken| broken.0)?);
    Ok(())
}

// ANCHOR: tied
/// Loses what the seed says of this connection, by number: a question, an answer, or all there is for a while.
#[derive(Clone)]
struct Planned {
    way: Way,
    lost: Range<u64>,
    delay: Duration,
    carried: [u64; 2],
}

impl Planned {
    fn new(seed: u64, connection: u64) -> Self {
        let mut dice = Dice(seed.wrapping_add(connection.wrapping_mul(0x9E37_79B9)));
        let (begins, lasts) = (2 + dice.below(ENTRIES - 5), 1 + dice.below(2));
        let way = if dice.below(2) == 0 { Way::Question } else { Way::Answer };
        Self {
            way,
            lost: begins..begins + lasts,
            delay: Duration::from_millis(dice.below(3)),
            carried: [0; 2],
        }
    }
}

impl Network for Planned {
    async fn carries(&mut self, way: Way) -> bool {
        sleep(self.delay).await;
        let number = &mut self.carried[way as usize];
        *number += 1;
        way != self.way || !self.lost.contains(number)
    }
}

async fn run_tied(calls: Calls) -> Result<Run, Broken> {
    let clients = group("clients", CollectAll, async |g| {
        for connection in 0..CLIENTS {
            let (network, calls) = (Planned::new(SEED, connection), calls.clone());
            g.spawn("client", async move {
                scope("connection", async |s| {
                    let (seen, [near, far]) = (Seen::default(), [pair().await?, pair().await?]);
                    let (questions, answers) = carried(near.1, far.0, &network, &seen);
                    s.spawn("network, questions", questions);
                    s.spawn("network, answers", answers);
                    s.spawn("ledger", ledger(far.1, seen.clone()));
                    let mut client = Client::new(near.0);
                    for entry in 0..ENTRIES {
                        calls.begun.add(1);
                        for _ in 0..TRIES {
                            if timeout(Duration::from_secs(2), client.book(entry)).await.is_ok() {
                                calls.ended.add(1);
                                break;
                            }
                        }
                    }
                    Ok::<_, Broken>(seen)
                })
                .await
            });
        }
    });
    Ok(Run::of(clients.await.all_ok()?))
}
// ANCHOR_END: tied

async fn tied(lab: Lab) -> Result<(), Trouble> {
    let calls = Calls::of(&lab);
    let runs = group("runs", CollectAll, async |g| {
        for _ in 0..runs_of(&lab) {
            g.spawn("run", run_tied(calls.clone()));
        }
    });
    calls.figures(&lab, &runs.await.all_ok().map_err(|broken| broken.0)?);
    Ok(())
}

const SEED: u64 = 7;
const CLIENTS: u64 = 8;
const ENTRIES: u64 = 25;

/// How often a client asks for one entry.
const TRIES: u32 = 5;

fn runs_of(lab: &Lab) -> u32 {
    lab.size(3, 5, 20)
}

/// Which way a line goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Question,
    Answer,
}

/// What becomes of lines.
trait Network {
    /// Waits as long as the next line is under way; whether it arrives.
    fn carries(&mut self, way: Way) -> impl Future<Output = bool> + Send;
}

/// What the network and the ledger have seen of one client.
#[derive(Clone, Debug, Default)]
struct Seen {
    lines: Arc<Mutex<Vec<String>>>,
    booked: Counter,
}

/// Two ends of one connection: whose lines the network carries, and the one beyond.
async fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let near = TcpStream::connect(listener.local_addr()?).await?;
    Ok((near, listener.accept().await?.0))
}

/// Both ways between a client and its ledger. Each ends with whoever sends on it, and lets the next one know.
fn carried<N: Network + Clone + Send + 'static>(
    client: TcpStream,
    ledger: TcpStream,
    network: &N,
    seen: &Seen,
) -> (impl Future<Output = Ended> + use<N>, impl Future<Output = Ended> + use<N>) {
    let ((from_client, to_client), (from_ledger, to_ledger)) = (client.into_split(), ledger.into_split());
    (
        carry(Way::Question, from_client, to_ledger, network.clone(), seen.clone()),
        carry(Way::Answer, from_ledger, to_client, network.clone(), seen.clone()),
    )
}

/// Why a part of the rig could not do its work.
struct Broken(String);

impl<E: std::error::Error> From<E> for Broken {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

type Ended = Result<(), Broken>;

async fn carry(
    way: Way,
    from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut network: impl Network,
    seen: Seen,
) -> Ended {
    let mut lines = BufReader::new(from).lines();
    while let Some(line) = lines.next_line().await? {
        let arrives = network.carries(way).await;
        lock(&seen.lines).push(format!("{way:?} {line}: {}", if arrives { "carried" } else { "lost" }));
        // A client that has its last answer is gone, and nobody waits for another.
        if arrives && say(&mut to, &line).await.is_err() {
            break;
        }
    }
    Ok(())
}

async fn say(to: &mut OwnedWriteHalf, line: &str) -> io::Result<()> {
    to.write_all(format!("{line}\n").as_bytes()).await
}

/// Books whatever it is asked to, and says so. Its bug: also what it has booked already.
async fn ledger(connection: TcpStream, seen: Seen) -> Ended {
    let (from, mut to) = connection.into_split();
    let mut lines = BufReader::new(from).lines();
    while let Some(entry) = lines.next_line().await? {
        seen.booked.add(1);
        say(&mut to, &entry).await?;
    }
    Ok(())
}

/// Asks, one entry after the other.
struct Client {
    answers: Lines<BufReader<OwnedReadHalf>>,
    questions: OwnedWriteHalf,
}

impl Client {
    fn new(connection: TcpStream) -> Self {
        let (from, questions) = connection.into_split();
        Self { answers: BufReader::new(from).lines(), questions }
    }

    async fn book(&mut self, entry: u64) -> io::Result<()> {
        let entry = entry.to_string();
        say(&mut self.questions, &entry).await?;
        // The answer to an earlier try may come first.
        while self.answers.next_line().await?.ok_or(io::ErrorKind::UnexpectedEof)? != entry {}
        Ok(())
    }
}

/// Numbers by a seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// What one run came to.
struct Run {
    /// Of each client, in their order: what became of each line.
    lines: Vec<Vec<String>>,
    booked: u64,
}

impl Run {
    fn of(clients: Vec<Seen>) -> Self {
        let booked = clients.iter().map(|seen| seen.booked.get()).sum();
        Self { lines: clients.into_iter().map(|seen| lock(&seen.lines).clone()).collect(), booked }
    }
}

#[derive(Clone)]
struct Calls {
    begun: Counter,
    ended: Counter,
}

impl Calls {
    fn of(lab: &Lab) -> Self {
        Self { begun: lab.counter("calls begun"), ended: lab.counter("calls ended") }
    }

    fn figures(&self, lab: &Lab, runs: &[Run]) {
        let first = runs.first().map(|run| &run.lines);
        let differ = runs.iter().filter(|run| Some(&run.lines) != first).count();
        let doubled = runs.iter().filter(|run| run.booked > CLIENTS * ENTRIES).count();
        lab.figure("runs that differ", differ as f64);
        lab.figure("runs that show the bug", 100.0 * doubled as f64 / runs.len().max(1) as f64);
        lab.figure("calls without an end", (self.begun.get() - self.ended.get()) as f64);
    }
}
