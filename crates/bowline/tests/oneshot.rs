//! One answer: it arrives once, or whoever waits learns that it will not.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use bowline::{
    Bound, Cancelled, Cause, ChannelStats, CollectAll, FreeAnswer, FreeReply, NoAnswer, Overflow, SendError,
    TryRecvError, contended, group, scope,
};
use support::{cancel_context_everywhere, cancel_everywhere, parked, poll_once, yield_now};

async fn oneshot<T: Send + 'static>() -> (FreeReply<T>, FreeAnswer<T>) {
    scope("oneshot", async |s| {
        let (reply, answer) = s.cx().oneshot("answer");
        Ok::<_, Cancelled>((reply.free(), answer.free()))
    })
    .await
    .expect("nobody cancels this scope")
}

/// `(sent, received, in it now)`.
fn books(stats: &ChannelStats) -> (u64, u64, usize) {
    let ChannelStats { sent, received, depth_items, .. } = *stats;
    assert_eq!(sent, received + depth_items as u64, "the books balance");
    (sent, received, depth_items)
}

const UNANSWERED: NoAnswer = NoAnswer::Unanswered { name: "answer", by_panic: false };

// ---- the answer

#[bowline::test]
async fn an_answer_sent_before_the_wait_is_there() {
    let (reply, mut answer) = oneshot().await;
    assert_eq!(answer.try_recv(), Err(TryRecvError::Empty));
    reply.send(7).unwrap();
    assert_eq!(books(&answer.stats()), (1, 0, 1));
    assert_eq!(answer.recv().await, Ok(7));
    assert_eq!((answer.try_recv(), books(&answer.stats())), (Err(TryRecvError::Closed), (1, 1, 0)));
}

#[bowline::test]
async fn an_answer_wakes_who_waits_for_it() {
    let (reply, mut answer) = oneshot().await;
    let mut waiting = parked(answer.recv()).await;
    reply.send(7).unwrap();
    assert_eq!(poll_once(&mut waiting).await, Poll::Ready(Ok(7)));
}

#[bowline::test]
async fn an_answer_that_nobody_waits_for_comes_back() {
    let (reply, answer) = oneshot().await;
    assert!(!reply.is_closed());
    drop(answer);
    assert!(reply.is_closed());
    assert_eq!(reply.send(7), Err(SendError::Closed(7)));
}

#[bowline::test]
async fn an_answer_that_nobody_takes_is_dropped() {
    scope("abandoned", async |s| {
        let item = Arc::new(());
        let (reply, answer) = s.cx().oneshot("answer");
        let (held, mut other) = s.cx().oneshot::<()>("other");
        reply.send(Arc::clone(&item)).unwrap();
        assert_eq!(Arc::strong_count(&item), 2);
        drop(answer);
        assert_eq!(Arc::strong_count(&item), 1);
        drop(held);
        assert_eq!(other.recv().await, Err(NoAnswer::Unanswered { name: "other", by_panic: false }));
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test]
async fn taking_the_answer_twice_is_a_bug_and_says_so() {
    let outcome = group("twice", CollectAll, async |g| {
        let (reply, answer) = g.cx().oneshot("answer");
        g.spawn_with("take", answer, async |_cx, mut answer| {
            answer.recv().await.map_err(Cancelled::from)?;
            answer.recv().await.map_err(Cancelled::from)
        });
        reply.send(()).unwrap();
    });
    let outcome = outcome.await;
    assert_eq!(outcome.counts().panicked, 1);
}

// ---- no answer

/// A handler waited on a completion channel nobody answered ("ghost message"): the drop of the sending end ends the wait.
#[bowline::test]
async fn a_reply_that_is_dropped_unused_ends_the_wait_at_once_and_says_so() {
    let (reply, mut answer) = oneshot::<u32>().await;
    let mut waiting = parked(answer.recv()).await;
    drop(reply);
    let Poll::Ready(Err(error)) = poll_once(&mut waiting).await else { panic!("it hangs") };
    assert_eq!(error, UNANSWERED);
    assert_eq!(error.to_string(), "nobody will answer `answer`: its reply was dropped unused");
    assert_eq!(Cancelled::from(error).cause(), &Cause::SendersGone("answer"));
    drop(waiting);
    assert_eq!(answer.try_recv(), Err(TryRecvError::Closed));
}

/// rust-sgx#763: a swallowed panic, and the caller hangs.
#[bowline::test]
async fn a_panic_of_who_owes_the_answer_reaches_who_waits_for_it() {
    let outcome = group("call", CollectAll, async |g| {
        let (reply, mut answer) = g.cx().oneshot::<u32>("answer");
        g.spawn_with("handler", reply, async |_cx, reply| -> Result<(), Cancelled> {
            let _reply = reply;
            tokio::task::yield_now().await;
            panic!("bug")
        });
        assert_eq!(answer.recv().await, Err(NoAnswer::Unanswered { name: "answer", by_panic: true }));
    });
    assert_eq!(outcome.await.counts().panicked, 1);
}

/// bounty-challenge#9836: an early return keeps a sender alive, and the collector waits for ever. Here the end dies with
/// the task that was given it.
#[bowline::test]
async fn an_early_return_of_who_owes_the_answer_ends_the_wait() {
    scope("call", async |s| {
        let (reply, mut answer) = s.cx().oneshot::<u32>("answer");
        s.spawn_with("handler", reply, async |_cx, reply| {
            let request: Result<u32, &str> = Err("unreadable");
            let Ok(request) = request else { return Ok(()) };
            reply.send(request).map_err(Cancelled::from)
        });
        assert_eq!(answer.recv().await, Err(UNANSWERED));
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test]
async fn a_reply_in_a_queue_that_is_given_up_ends_the_wait() {
    scope("call", async |s| {
        let (requests, worker) = s.queue("requests", Bound::items(4), Overflow::Block);
        let (reply, mut answer) = s.cx().oneshot::<u32>("answer");
        requests.send(reply.free()).await?;
        assert_eq!(answer.stats().senders, [bowline::Holder { task: None, ends: 1 }]);
        drop(worker); // it never got to this request
        assert_eq!(answer.recv().await, Err(UNANSWERED));
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test]
async fn a_task_that_is_refused_or_aborted_leaves_no_answer() {
    scope("call", async |s| {
        let (reply, mut answer) = s.cx().oneshot::<u32>("answer");
        let handler =
            s.spawn_with("handler", reply, async |_cx, _reply| -> Result<(), Cancelled> { panic!("polled") });
        handler.abort();
        assert_eq!(answer.recv().await, Err(UNANSWERED));
        s.close();
        let (reply, mut answer) = s.cx().oneshot::<u32>("answer");
        let late = s.spawn_with("late", reply, async |_cx, _reply| Ok(()));
        assert_eq!(answer.recv().await, Err(UNANSWERED));
        assert_eq!(late.await.unwrap_err().cause(), &Cause::ScopeClosed);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

// ---- cancelled waits

#[bowline::test]
async fn a_wait_for_an_answer_that_is_dropped_anywhere_loses_nothing() {
    let received = AtomicU32::new(0);
    let kept = std::cell::RefCell::new(None);
    let polls = cancel_everywhere(
        || async {
            let (reply, mut answer) = oneshot().await;
            let dawdling = async {
                yield_now(3).await;
                reply.send(7).unwrap();
            };
            let (answered, ()) = {
                let waiting = async {
                    // The wait is dropped and begun again: the answer stays for the next.
                    for _ in 0..2 {
                        let _ = bowline::race(answer.recv(), tokio::task::yield_now()).await;
                    }
                    let answered = answer.recv().await;
                    *kept.borrow_mut() = Some(answer.stats());
                    answered
                };
                futures_util::future::join(waiting, dawdling).await
            };
            received.fetch_add(1, Ordering::Relaxed);
            answered
        },
        async |_, output| {
            if let Some(answered) = output {
                assert_eq!(answered, Ok(7));
                let stats = kept.borrow_mut().take().unwrap();
                assert_eq!((books(&stats), stats.waiting_receivers), ((1, 1, 0), 0));
            }
        },
    )
    .await;
    assert!(polls > 3);
    assert_eq!(received.load(Ordering::Relaxed), 1);
}

#[bowline::test]
async fn a_dropped_wait_leaves_no_entry_and_the_answer_stays() {
    let (reply, mut answer) = oneshot().await;
    drop(parked(answer.recv()).await);
    assert_eq!(answer.stats().waiting_receivers, 0);
    let waiting = parked(answer.recv()).await;
    reply.send(7).unwrap();
    drop(waiting); // it was woken, and had not come
    assert_eq!(answer.try_recv(), Ok(7));
}

#[bowline::test]
async fn a_wait_in_a_cancelled_context_ends_with_the_cause_and_the_answer_stays() {
    let mut rounds = 0;
    let answers = std::cell::RefCell::new(None);
    let polls = cancel_context_everywhere(
        || async {
            let (reply, mut answer) = oneshot().await;
            let dawdling = async {
                yield_now(2).await;
                reply.send(7)
            };
            let (answered, sent) = futures_util::future::join(answer.recv(), dawdling).await;
            sent.unwrap();
            if answered.is_err() {
                *answers.borrow_mut() = Some(answer.try_recv());
            }
            answered
        },
        async |_, output| {
            rounds += 1;
            let left = answers.borrow_mut().take();
            match output {
                Some(Ok(answer)) => assert_eq!((answer, left), (7, None)),
                Some(Err(NoAnswer::Cancelled(cancelled))) => {
                    assert_eq!((cancelled.cause(), left), (&Cause::Requested("cut"), Some(Ok(7))));
                }
                Some(error) => panic!("{error:?}"),
                None => assert_eq!(left, None),
            }
        },
    )
    .await;
    assert!(polls >= 3 && rounds == polls, "{polls} {rounds}");
}

#[bowline::test(start_paused = true)]
async fn a_deadline_ends_the_wait_for_an_answer() {
    let (reply, mut answer) = oneshot::<u32>().await;
    let waited = bowline::timeout(Duration::from_secs(5), async { answer.recv().await }).await;
    assert!(
        matches!(&waited, Ok(Err(NoAnswer::Cancelled(cancelled))) if cancelled.is_deadline())
            || matches!(&waited, Err(cancelled) if cancelled.is_deadline()),
        "{waited:?}"
    );
    assert_eq!(reply.stats().waiting_receivers, 0);
}

#[bowline::test]
async fn in_a_cancelled_context_the_answer_is_not_taken_though_it_is_there() {
    let (reply, mut answer) = oneshot().await;
    scope("cancelled", async |s| {
        reply.send(7).unwrap();
        s.cancel("enough");
        assert!(matches!(answer.recv().await, Err(NoAnswer::Cancelled(_))));
        assert_eq!(answer.try_recv(), Ok(7));
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

// ---- nobody waits any more

#[bowline::test]
async fn who_works_on_an_answer_learns_that_nobody_waits_for_it() {
    let (mut reply, answer) = oneshot::<u32>().await;
    drop(parked(reply.closed()).await);
    assert_eq!(reply.stats().waiting_senders, 0);
    let mut closed = parked(reply.closed()).await;
    drop(answer);
    assert_eq!(poll_once(&mut closed).await, Poll::Ready(Ok(())));
    drop(closed);
    assert_eq!(reply.closed().await, Ok(()));
    assert_eq!(reply.send(1), Err(SendError::Closed(1)));
}

#[bowline::test]
async fn waiting_until_nobody_asks_can_be_cut_anywhere() {
    let polls = cancel_context_everywhere(
        || async {
            let (mut reply, answer) = oneshot::<u32>().await;
            let leave = async {
                yield_now(2).await;
                drop(answer);
            };
            let (closed, ()) = futures_util::future::join(reply.closed(), leave).await;
            (closed, reply.stats().waiting_senders)
        },
        async |_, output| {
            if let Some((closed, waiting)) = output {
                assert_eq!(waiting, 0);
                assert!(closed.is_ok() || closed.unwrap_err().cause() == &Cause::Requested("cut"));
            }
        },
    )
    .await;
    assert!(polls >= 3);
}

// ---- who holds the ends, and what the tree shows

#[bowline::test]
async fn an_open_question_stands_in_the_tree_with_its_holders_and_who_waits() {
    scope("call", async |s| {
        let (reply, answer) = s.cx().oneshot::<u32>("answer");
        let me = s.cx().task_id();
        let client = s.spawn_with("client", answer, async |_cx, mut answer| Ok(answer.recv().await?));
        yield_now(1).await;
        let stats = reply.stats();
        let client_id = client.id().unwrap();
        assert_eq!(stats.senders, [bowline::Holder { task: Some(me), ends: 1 }]);
        assert_eq!(stats.receivers, [bowline::Holder { task: Some(client_id), ends: 1 }]);
        let text = bowline::tree().to_string();
        assert!(text.contains(&format!("<oneshot> answer #{}  0/1, 0 sent", stats.id)), "{text}");
        assert!(text.contains(&format!("waiting for the reply #{}", stats.id)), "{text}");
        let facts = contended().into_iter().find(|facts| facts.id == stats.id).unwrap();
        assert_eq!((facts.waiters[0].task, facts.waiters[0].op), (Some(client_id), "reply"));
        assert!(facts.waiters[0].place.starts_with(file!()), "{facts:?}");
        assert!(facts.ends.iter().any(|end| (end.role, end.task) == ("sender", Some(me))), "{facts:?}");
        reply.send(7).unwrap();
        assert_eq!(client.await?, 7);
        assert!(!contended().iter().any(|facts| facts.id == stats.id), "nobody waits any more");
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test]
async fn many_questions_of_one_name_do_not_flood_the_tree() {
    scope("calls", async |s| {
        let open: Vec<_> = (0..50).map(|_| s.cx().oneshot::<u32>("answer")).collect();
        let text = bowline::tree().to_string();
        assert_eq!(text.matches("<oneshot>").count(), 10, "{text}");
        assert!(text.contains("… 40 more `answer`"), "{text}");
        drop(open);
        assert!(!bowline::tree().to_string().contains("<oneshot>"));
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

// ---- many at once

/// Long enough for the slowest machine; what waits this long waits for ever.
const HANG: Duration = Duration::from_secs(60);

#[bowline::test(worker_threads = 2)]
async fn under_load_every_question_is_answered_once_or_known_to_be_unanswered() {
    const CALLS: u32 = 4_000;
    let run = group("stress", bowline::FailFast, async |g| {
        let (requests, work) =
            g.cx().queue::<(u32, FreeReply<u32>)>("requests", Bound::items(8), Overflow::Block);
        for _ in 0..2 {
            g.spawn_with("server", work.clone(), async |_cx, work| {
                while let Some((number, reply)) = work.recv().await? {
                    if number % 3 != 0 {
                        let _ = reply.send(number); // else it is forgotten
                    }
                }
                Ok::<_, Cancelled>((0, 0))
            });
        }
        for _ in 0..2 {
            g.spawn_with("client", requests.clone(), async |cx, requests| {
                let (mut answered, mut unanswered) = (0, 0);
                for number in 0..CALLS {
                    let (reply, mut answer) = cx.oneshot("answer");
                    requests.send((number, reply.free())).await.map_err(Cancelled::from)?;
                    match answer.recv().await {
                        Ok(same) => {
                            assert_eq!(same, number);
                            answered += 1;
                        }
                        Err(NoAnswer::Unanswered { .. }) => unanswered += 1,
                        Err(NoAnswer::Cancelled(cancelled)) => return Err(cancelled),
                    }
                }
                Ok((answered, unanswered))
            });
        }
    });
    let counts = tokio::time::timeout(HANG, run).await.expect("a wake-up was lost").all_ok().unwrap();
    let unanswered = CALLS.div_ceil(3);
    assert_eq!(counts[2..], [(CALLS - unanswered, unanswered); 2]);
}
