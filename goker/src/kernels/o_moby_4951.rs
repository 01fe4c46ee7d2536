//! moby#4951: a lock that is dropped in the middle, and taken again in the wrong order.
//!
//! Two tasks of one kind lock the set `all`, find the device and lock it, unlock the set, wait, and lock the set again.
//! One sleeps with `dev`, the other has taken `all` and waits for `dev`. Repaired, each lets go of the set before it takes the
//! device.

use bowline::{Mutex, Scope, Shared, scope};

use crate::{Class, Dead, End, Env, Form, Kernel, Kind, Run, bare};

pub(super) static KERNEL: Kernel = Kernel {
    name: "moby#4951",
    class: Class::O,
    sites: 2,
    forms: &[
        Form::dead(Kind::Tokio, LITERAL, &[]),
        Form::dead(Kind::Lock, BODY, &[Dead::new(&["delete", "delete"], &["all", "dev"])]),
        Form::ends(Kind::Fixed, BODY),
        Form::ends(Kind::Slow, BODY),
    ],
};

const BODY: Run = |env| Box::pin(body(env));
const LITERAL: Run = |_| Box::pin(literal());

struct Devices {
    all: Mutex<u32>,
    dev: Mutex<u32>,
}

async fn body(env: Env) -> End {
    scope("kernel", async |s| {
        let devices =
            s.cx().share("devices", Devices { all: Mutex::new("all", 1), dev: Mutex::new("dev", 0) });
        delete(env, s, devices.clone());
        delete(env, s, devices);
        Ok(())
    })
    .await
}

fn delete(env: Env, s: &Scope<bowline::Cancelled>, devices: Shared<'_, Devices>) {
    s.spawn_with("delete", devices, async move |_cx, devices| {
        let all = devices.all.lock().await?;
        let held = (!env.is_fixed()).then_some(all);
        let mut dev = devices.dev.lock().await?;
        drop(held);
        env.pause().await;
        let all = devices.all.lock().await?;
        *dev += *all;
        Ok(())
    });
}

async fn literal() -> End {
    use std::sync::Arc;
    use tokio::sync::Mutex;
    let (all, dev) = (Arc::new(Mutex::new(1)), Arc::new(Mutex::new(0)));
    for _ in 0..2 {
        let (all, dev) = (Arc::clone(&all), Arc::clone(&dev));
        bare::go(async move {
            let held = all.lock().await;
            let mut dev = dev.lock().await;
            drop(held);
            bare::turn().await;
            *dev += *all.lock().await;
        });
    }
    Ok(())
}
