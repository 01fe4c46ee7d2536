//! A program as real tasks.

use std::sync::Arc;
use std::time::Duration;

use bowline::{
    Bound, Cancelled, Either, Handle, Mutex, MutexGuard, Overflow, ReadGuard, RendezvousRx, RendezvousTx,
    RwLock, Rx, Semaphore, SemaphorePermit, SendError, Tx, WriteGuard, race, scope, sleep,
};

use super::{LOCKS, NAMES, Op, Program, Wait};
use crate::End;
use crate::seeded::{Watched, observe};

/// Runs a program under a seed.
///
/// # Panics
///
/// If a primitive does, or a task is left after the run was cancelled.
#[must_use]
pub fn run(program: &Arc<Program>, seed: u64) -> Watched {
    let program = Arc::clone(program);
    observe("generated", seed, Box::pin(body(program)))
}

struct Hub {
    mutexes: [Mutex<()>; 2],
    values: RwLock<()>,
    permits: Semaphore,
}

#[expect(dead_code, reason = "guards are there to be dropped")]
enum Guard<'a> {
    Mutex(MutexGuard<'a, ()>),
    Read(ReadGuard<'a, ()>),
    Write(WriteGuard<'a, ()>),
    Permit(SemaphorePermit<'a>),
}

/// The rendezvous, and the two queues with room: sending and receiving ends.
type Ends<'t> = (
    (Option<RendezvousTx<'t, ()>>, Option<RendezvousRx<'t, ()>>),
    Vec<Option<Tx<'t, ()>>>,
    Vec<Option<Rx<'t, ()>>>,
);

async fn body(program: Arc<Program>) -> End {
    scope("program", async |s| {
        let hub = Hub {
            mutexes: [Mutex::new("m0", ()), Mutex::new("m1", ())],
            values: RwLock::new("rw", ()),
            permits: Semaphore::new("permits", LOCKS[3].into()),
        };
        let hub = s.cx().share("hub", hub);
        let (give, take) = s.rendezvous("q0");
        let (small_tx, small) = s.queue("q1", Bound::items(1), Overflow::Block);
        let (large_tx, large) = s.queue("q2", Bound::items(2), Overflow::Block);
        let ends = |task| {
            let sends = |queue| program.sends(task, queue);
            let receives = |queue| program.receives(task, queue);
            (
                (sends(0).then(|| give.clone()), receives(0).then(|| take.clone())),
                vec![sends(1).then(|| small_tx.clone()), sends(2).then(|| large_tx.clone())],
                vec![receives(1).then(|| small.clone()), receives(2).then(|| large.clone())],
            )
        };
        let own = ends(0);
        let mut handles: Vec<Option<Handle<()>>> = vec![None];
        for (task, name) in NAMES.into_iter().enumerate().take(program.tasks.len()).skip(1) {
            let program = Arc::clone(&program);
            let joins = pick(&program, task, &mut handles);
            handles.push(Some(s.spawn_with(
                name,
                (hub.clone(), ends(task)),
                async move |_cx, (hub, ends)| work(&program.tasks[task], &hub, &ends, joins).await,
            )));
        }
        let joins = pick(&program, 0, &mut handles);
        drop((give, take, small_tx, small, large_tx, large));
        work(&program.tasks[0], &hub, &own, joins).await
    })
    .await
}

/// The handles that `task` joins.
fn pick(program: &Program, task: usize, handles: &mut [Option<Handle<()>>]) -> Vec<(u8, Handle<()>)> {
    let joins = program.tasks[task]
        .iter()
        .filter_map(|op| if let Op::Join(target) = op { Some(*target) } else { None });
    joins.filter_map(|target| Some((target, handles[usize::from(target)].take()?))).collect()
}

async fn work(ops: &[Op], hub: &Hub, ends: &Ends<'_>, mut joins: Vec<(u8, Handle<()>)>) -> End {
    let mut held: Vec<Guard<'_>> = Vec::new();
    for op in ops {
        match *op {
            Op::Wait(Wait::Take(lock, need)) => held.push(take(hub, lock, need).await?),
            Op::Wait(other) => wait(hub, ends, other).await?,
            Op::Release => drop(held.pop()),
            Op::Join(target) => {
                if let Some(at) = joins.iter().position(|(known, _)| *known == target) {
                    joins.remove(at).1.await?;
                }
            }
            Op::Race(left, right) => match race(wait(hub, ends, left), wait(hub, ends, right)).await {
                Either::Left(ended) | Either::Right(ended) => ended?,
            },
        }
    }
    Ok(())
}

async fn take(hub: &Hub, lock: u8, need: u8) -> Result<Guard<'_>, Cancelled> {
    Ok(match lock {
        2 if need == 1 => Guard::Read(hub.values.read().await?),
        2 => Guard::Write(hub.values.write().await?),
        3 => Guard::Permit(hub.permits.acquire(need.into()).await?),
        mutex => Guard::Mutex(hub.mutexes[usize::from(mutex)].lock().await?),
    })
}

async fn wait(hub: &Hub, (rendezvous, senders, receivers): &Ends<'_>, wait: Wait) -> End {
    const ENDS: &str = "a task has the ends it uses";
    match wait {
        Wait::Take(lock, need) => drop(take(hub, lock, need).await?),
        Wait::Sleep(millis) => sleep(Duration::from_millis(millis.into())).await?,
        Wait::Send(0) => unless_closed(rendezvous.0.as_ref().expect(ENDS).send(()).await)?,
        Wait::Send(queue) => {
            unless_closed(senders[usize::from(queue) - 1].as_ref().expect(ENDS).send(()).await)?
        }
        Wait::Recv(0) => drop(rendezvous.1.as_ref().expect(ENDS).recv().await?),
        Wait::Recv(queue) => drop(receivers[usize::from(queue) - 1].as_ref().expect(ENDS).recv().await?),
    }
    Ok(())
}

fn unless_closed(sent: Result<(), SendError<()>>) -> End {
    match sent {
        Err(SendError::Cancelled((), cancelled)) => Err(cancelled),
        Ok(()) | Err(_) => Ok(()),
    }
}
