//! etcd#6708: a write lock, and two calls below it a read lock.
//!
//! T0 sets the endpoints of `cluster` under its write lock; the mode of selection asks for the leader, through a trait
//! object that no lint sees through, and the lookup reads `cluster`. Repaired, the lookup does not go through the locked client.

use std::pin::Pin;

use bowline::{Cancelled, RwLock, scope};

use crate::{Class, Dead, End, Env, Form, Kernel, Kind, Run, bare};

pub(super) static KERNEL: Kernel = Kernel {
    name: "etcd#6708",
    class: Class::O,
    sites: 1,
    forms: &[
        Form::always_dead(Kind::Tokio, LITERAL, &[]),
        Form::always_dead(Kind::Lock, BODY, &[Dead::new(&["T0"], &["cluster"])]),
        Form::ends(Kind::Fixed, BODY),
        Form::ends(Kind::Slow, BODY),
    ],
};

const BODY: Run = |env| Box::pin(body(env));
const LITERAL: Run = |_| Box::pin(literal());

type Answer<'a> = Pin<Box<dyn Future<Output = Result<usize, Cancelled>> + Send + 'a>>;

/// Which endpoint to use.
trait Selection: Send + Sync {
    fn leader<'a>(&'a self, cluster: &'a RwLock<Vec<&'static str>>) -> Answer<'a>;
}

struct Prioritized {
    asks_the_client: bool,
}

impl Selection for Prioritized {
    fn leader<'a>(&'a self, cluster: &'a RwLock<Vec<&'static str>>) -> Answer<'a> {
        Box::pin(async move { if self.asks_the_client { members(cluster).await } else { Ok(0) } })
    }
}

async fn members(cluster: &RwLock<Vec<&'static str>>) -> Result<usize, Cancelled> {
    Ok(cluster.read().await?.len())
}

async fn body(env: Env) -> End {
    scope("kernel", async |s| {
        let cluster = s.cx().share("client", RwLock::new("cluster", vec!["a", "b"]));
        let selection: Box<dyn Selection> = Box::new(Prioritized { asks_the_client: !env.is_fixed() });
        let mut endpoints = cluster.write().await?;
        env.pause().await;
        let leader = selection.leader(&cluster).await?;
        endpoints.swap(0, leader);
        Ok(())
    })
    .await
}

async fn literal() -> End {
    let cluster = tokio::sync::RwLock::new(0);
    let mut endpoints = cluster.write().await;
    bare::turn().await;
    *endpoints += *cluster.read().await;
    Ok(())
}
