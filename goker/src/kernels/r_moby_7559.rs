//! moby#7559: a turn of a loop that ends without unlocking.
//!
//! T1, up to twice: locks `track`, dials, fails and goes on with the next turn: nobody unlocks. The second turn waits for the
//! lock of the first. Repaired, the failure unlocks.

use bowline::{Mutex, scope};

use crate::{Class, Dead, End, Env, Form, Kernel, Kind, Run, bare};

pub(super) static KERNEL: Kernel = Kernel {
    name: "moby#7559",
    class: Class::R,
    sites: 1,
    forms: &[
        Form::always_dead(Kind::Tokio, LITERAL, &[]),
        Form::ends(Kind::Moved, BODY),
        Form::always_dead(Kind::Shared, BODY, &[Dead::new(&["T1"], &["track"])]),
        Form::ends(Kind::Fixed, BODY),
        Form::ends(Kind::Slow, BODY),
    ],
};

const BODY: Run = |env| Box::pin(body(env));
const LITERAL: Run = |_| Box::pin(literal());

async fn body(env: Env) -> End {
    scope("kernel", async |s| {
        let track = s.cx().share("table", Mutex::new("track", 0));
        s.spawn_with("T1", track, async move |_cx, track| {
            let mut kept = Vec::new(); // Go's lock stays locked until somebody says otherwise
            for _ in 0..2 {
                let mut held = track.lock().await?;
                *held += 1;
                env.pause().await;
                if dial().is_err() {
                    match env.kind {
                        Kind::Shared => kept.push(held),
                        _ => drop(held),
                    }
                    env.tick().await?;
                    continue;
                }
                break;
            }
            Ok(())
        });
        Ok(())
    })
    .await
}

/// There is nobody to be reached.
fn dial() -> Result<(), ()> {
    Err(())
}

async fn literal() -> End {
    bare::go(async {
        let track = tokio::sync::Mutex::new(());
        for _ in 0..2 {
            let held = track.lock().await;
            if dial().is_err() {
                std::mem::forget(held);
                continue;
            }
            break;
        }
    });
    Ok(())
}
