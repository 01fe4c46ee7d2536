//! cockroach#9935: the exit path locks what is locked.
//!
//! T1 holds `log` and tries to make a file; if that fails, which it does three times in four, it calls the exit path, which
//! locks `log`. Repaired, it unlocks first.

use bowline::{Mutex, scope};

use crate::{Class, Dead, End, Env, Form, Kernel, Kind, Run, bare};

pub(super) static KERNEL: Kernel = Kernel {
    name: "cockroach#9935",
    class: Class::O,
    sites: 1,
    forms: &[
        Form::dead(Kind::Tokio, LITERAL, &[]),
        Form::dead(Kind::Lock, BODY, &[Dead::new(&["T1"], &["log"])]),
        Form::ends(Kind::Fixed, BODY),
        Form::ends(Kind::Slow, BODY),
    ],
};

const BODY: Run = |env| Box::pin(body(env));
const LITERAL: Run = |_| Box::pin(literal());

fn make_file() -> Result<(), &'static str> {
    if fastrand::u8(0..4) == 0 { Ok(()) } else { Err("no space left") }
}

async fn body(env: Env) -> End {
    scope("kernel", async |s| {
        let log = s.cx().share("log", Mutex::new("log", 0));
        s.spawn_with("T1", log, async move |_cx, log| {
            let mut lines = log.lock().await?;
            env.pause().await;
            if make_file().is_err() {
                if env.is_fixed() {
                    drop(lines);
                    return exit(&log).await;
                }
                exit(&log).await?;
            }
            *lines += 1;
            Ok(())
        });
        Ok(())
    })
    .await
}

async fn exit(log: &Mutex<u32>) -> End {
    *log.lock().await? += 1;
    Ok(())
}

async fn literal() -> End {
    bare::go(async {
        let log = tokio::sync::Mutex::new(0);
        let mut lines = log.lock().await;
        if make_file().is_err() {
            *log.lock().await += 1;
        }
        *lines += 1;
    });
    Ok(())
}
