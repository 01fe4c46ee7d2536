//! moby#36114: a function locks what its caller holds.
//!
//! T1 locks `svm` and calls a helper, which locks `svm`: it waits for itself. Repaired, the helper expects the lock to be held.

use bowline::{Mutex, MutexGuard, scope};

use crate::{Class, Dead, End, Env, Form, Kernel, Kind, Run, bare};

pub(super) static KERNEL: Kernel = Kernel {
    name: "moby#36114",
    class: Class::O,
    sites: 1,
    forms: &[
        Form::always_dead(Kind::Tokio, LITERAL, &[]),
        Form::always_dead(Kind::Lock, BODY, &[Dead::new(&["T1"], &["svm"])]),
        Form::ends(Kind::Fixed, BODY),
        Form::ends(Kind::Slow, BODY),
    ],
};

const BODY: Run = |env| Box::pin(body(env));
const LITERAL: Run = |_| Box::pin(literal());

async fn body(env: Env) -> End {
    scope("kernel", async |s| {
        let svm = s.cx().share("svm", Mutex::new("svm", 0));
        s.spawn_with("T1", svm, async move |_cx, svm| {
            let mut held = svm.lock().await?;
            env.pause().await;
            if env.is_fixed() {
                grow_held(&mut held)
            } else {
                grow(&svm).await?
            }
            Ok(())
        });
        Ok(())
    })
    .await
}

async fn grow(svm: &Mutex<u32>) -> End {
    grow_held(&mut svm.lock().await?);
    Ok(())
}

fn grow_held(svm: &mut MutexGuard<'_, u32>) {
    **svm += 1;
}

async fn literal() -> End {
    bare::go(async {
        let svm = tokio::sync::Mutex::new(0);
        let _held = svm.lock().await;
        *svm.lock().await += 1;
    });
    Ok(())
}
