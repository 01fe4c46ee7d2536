//! Futurelock, in three shapes (Oxide, RFD 609): a future that stands in a line, or was granted something, is kept and no
//! longer polled while its own task waits for the same thing.
//!
//! 1. T0 waits for `m` and for a short timer. The timer wins, the future is kept, and T0 locks `m` anew. When T1 unlocks,
//!    `m` belongs to the future that nobody polls.
//! 2. T0 keeps a future that reserves room in a queue of one beside a loop that sends to it. The room that becomes free belongs
//!    to the kept future: all senders wait, and the queue is empty.
//! 3. T0 drives a stream of buffered futures, each of which takes a permit of `s`, and takes one itself between two items. The
//!    stream is not polled meanwhile, so the permit it was granted is never given back.
//!
//! Nothing is wrong if the first future is dropped, or polled by a task of its own, or if nothing else wants what it has.

use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::time::Duration;

use bowline::{Bound, Cancelled, Either, Mutex, Overflow, Semaphore, race, scope, sleep};
use futures_util::StreamExt;
use futures_util::stream;

use crate::{Class, Dead, End, Env, Form, Kernel, Kind, Run, bare};

pub(super) static BY_REFERENCE: Kernel = Kernel {
    name: "futurelock: select",
    class: Class::Futurelock,
    sites: 1,
    forms: &[
        Form::always_dead(Kind::Tokio, |_| Box::pin(literal()), &[]),
        Form::always_dead(Kind::Lock, |env| Box::pin(select(env, What::Keep)), &[Dead::new(&["T0"], &["m"])]),
        Form::ends(Kind::Fixed, SELECT_DROPS).variant("dropped"),
        Form::ends(Kind::Fixed, |env| Box::pin(select(env, What::GiveAway))).variant("own task"),
        Form::ends(Kind::Fixed, |env| Box::pin(select(env, What::GoElsewhere))).variant("elsewhere"),
        Form::ends(Kind::Slow, SELECT_DROPS),
        Form::ends(Kind::Slow, |env| Box::pin(select(env, What::GoElsewhere))).variant("elsewhere"),
    ],
};

pub(super) static ROOM: Kernel = Kernel {
    name: "futurelock: room",
    class: Class::Futurelock,
    sites: 2,
    forms: &[
        Form::always_dead(
            Kind::Moved,
            |env| Box::pin(room(env, What::Keep)),
            &[Dead::new(&["T0", "T1"], &["queue"]).bound()],
        ),
        Form::ends(Kind::Fixed, |env| Box::pin(room(env, What::Drop))).variant("dropped"),
        Form::ends(Kind::Fixed, |env| Box::pin(room(env, What::GiveAway))).variant("own task"),
        Form::ends(Kind::Slow, |env| Box::pin(room(env, What::Drop))),
    ],
};

pub(super) static BUFFERED: Kernel = Kernel {
    name: "futurelock: buffered",
    class: Class::Futurelock,
    sites: 1,
    forms: &[
        Form::always_dead(Kind::Lock, |env| Box::pin(in_turn(env)), &[Dead::new(&["T0"], &["s"]).shared()])
            .variant("in turn"),
        // A combinator with wakers of its own keeps the task's: only a program that stands still as a whole proves it.
        // Which permit goes where depends on who asks first.
        Form::dead(Kind::Lock, |env| Box::pin(buffered(env)), &[Dead::new(&["T0"], &["s"]).shared()])
            .variant("buffered"),
        Form::ends(Kind::Fixed, |env| Box::pin(in_turn(env))).variant("in turn"),
        Form::ends(Kind::Fixed, |env| Box::pin(buffered(env))).variant("buffered"),
        Form::ends(Kind::Slow, |env| Box::pin(buffered(env))),
    ],
};

const SELECT_DROPS: Run = |env| Box::pin(select(env, What::Drop));

/// What becomes of the future that lost.
#[derive(Clone, Copy, PartialEq)]
enum What {
    Keep,
    Drop,
    /// It is a task's from the start.
    GiveAway,
    /// It is kept, and its task waits for something else: late, and alive.
    GoElsewhere,
}

/// How long the timer is that wins.
const SHORT: Duration = Duration::from_millis(2);
/// How long the other one has what is wanted.
const LONG: Duration = Duration::from_millis(20);

async fn select(env: Env, what: What) -> End {
    scope("kernel", async |s| {
        let m = s.cx().share("shared", Mutex::new("m", 0));
        let (reply, mut locked) = s.oneshot("locked");
        s.spawn_with("T1", (m.clone(), reply), async move |_cx, (m, reply)| {
            let mut held = m.lock().await?;
            let _ = reply.send(());
            sleep(LONG).await?;
            env.pause().await;
            *held += 1;
            Ok(())
        });
        locked.recv().await?;
        match what {
            What::Keep | What::GoElsewhere => {
                let mut first = pin!(m.lock());
                if let Either::Right(slept) = race(first.as_mut(), sleep(SHORT)).await {
                    slept?;
                    if what == What::GoElsewhere {
                        sleep(LONG * 3).await?;
                        env.pause().await;
                        *first.await? += 1;
                    } else {
                        *m.lock().await? += 1;
                    }
                }
            }
            What::Drop => {
                if let Either::Right(slept) = race(m.lock(), sleep(SHORT)).await {
                    slept?;
                    *m.lock().await? += 1;
                }
            }
            What::GiveAway => {
                s.spawn_with("first", m.clone(), async |_cx, m| m.with(|count| *count += 1).await);
                sleep(SHORT).await?;
                *m.lock().await? += 1;
            }
        }
        Ok(())
    })
    .await
}

async fn room(env: Env, what: What) -> End {
    scope("kernel", async |s| {
        let (tx, rx) = s.queue::<u32>("queue", Bound::items(1), Overflow::Block);
        let _ = tx.send(1).await;
        s.spawn_with("T1", rx, async move |_cx, rx| {
            sleep(LONG).await?;
            env.pause().await;
            while rx.recv().await?.is_some() {}
            Ok(())
        });
        match what {
            What::Keep | What::GoElsewhere => {
                let mut kept = pin!(tx.reserve());
                if let Either::Right(slept) = race(kept.as_mut(), sleep(SHORT)).await {
                    slept?;
                    let _ = tx.send(2).await;
                }
            }
            What::Drop => {
                if let Either::Right(slept) = race(tx.reserve(), sleep(SHORT)).await {
                    slept?;
                    let _ = tx.send(2).await;
                }
            }
            What::GiveAway => {
                s.spawn_with("first", tx.clone(), async |_cx, tx| {
                    let _ = tx.send(3).await;
                    Ok(())
                });
                sleep(SHORT).await?;
                let _ = tx.send(2).await;
            }
        }
        Ok(())
    })
    .await
}

/// Takes a permit and works under it.
async fn job(env: Env, permits: &Semaphore) -> Result<(), Cancelled> {
    let permit = permits.acquire(1).await?;
    sleep(SHORT).await?;
    env.pause().await;
    drop(permit);
    Ok(())
}

const JOBS: usize = 4;
const AT_ONCE: usize = 2;

/// A buffer by hand: its futures are polled with the task's own waker, all at every poll.
async fn in_turn(env: Env) -> End {
    scope("kernel", async |s| {
        let permits = s.cx().share("shared", Semaphore::new("s", 1));
        let mut jobs: VecDeque<Pin<Box<dyn Future<Output = End> + Send + '_>>> = VecDeque::new();
        for _ in 0..AT_ONCE {
            jobs.push_back(Box::pin(job(env, &permits)));
        }
        let mut left = JOBS - AT_ONCE;
        while !jobs.is_empty() {
            let (at, done) = std::future::poll_fn(|cx| {
                let mut polled = jobs.iter_mut().map(|job| job.as_mut().poll(cx)).enumerate();
                match polled.find_map(|(at, job)| {
                    if let std::task::Poll::Ready(done) = job { Some((at, done)) } else { None }
                }) {
                    Some(first) => std::task::Poll::Ready(first),
                    None => std::task::Poll::Pending,
                }
            })
            .await;
            done?;
            drop(jobs.remove(at));
            if left > 0 {
                left -= 1;
                jobs.push_back(Box::pin(job(env, &permits)));
            }
            if env.is_fixed() {
                continue; // what it needs itself it takes when the buffer is through
            }
            drop(permits.acquire(1).await?);
        }
        drop(permits.acquire(1).await?);
        Ok(())
    })
    .await
}

async fn buffered(env: Env) -> End {
    scope("kernel", async |s| {
        let permits = s.cx().share("shared", Semaphore::new("s", 1));
        let jobs = (0..JOBS).map(|_| job(env, &permits)).collect::<Vec<_>>();
        let mut jobs = pin!(stream::iter(jobs).buffered(AT_ONCE));
        while let Some(done) = jobs.next().await {
            done?;
            if !env.is_fixed() {
                drop(permits.acquire(1).await?);
            }
        }
        drop(permits.acquire(1).await?);
        Ok(())
    })
    .await
}

async fn literal() -> End {
    use std::sync::Arc;
    let m = Arc::new(tokio::sync::Mutex::new(0));
    let theirs = Arc::clone(&m);
    let (locked_tx, locked) = tokio::sync::oneshot::channel();
    bare::go(async move {
        let mut held = theirs.lock().await;
        let _ = locked_tx.send(());
        tokio::time::sleep(LONG).await;
        *held += 1;
    });
    let _ = locked.await;
    let mut first = pin!(m.lock());
    if let Either::Right(()) = bare::select(first.as_mut(), tokio::time::sleep(SHORT)).await {
        *m.lock().await += 1;
    }
    Ok(())
}
