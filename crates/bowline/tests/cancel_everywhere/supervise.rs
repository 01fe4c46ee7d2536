//! Supervisors.

use super::*;
use bowline::{Child, ChildState, Life, Restart, Strategy, Supervisor};

/// A child that idles, and tidies up for a while when it is asked to go.
fn child(name: &'static str, token: Arc<()>) -> Child {
    Child::new(name, async move |life: Life| {
        let _token = token;
        a_while().await;
        life.ready();
        let goes = life.idle(cancelled()).await;
        shielded(Duration::from_secs(1), a_while()).await?;
        Err(goes.into())
    })
    .ready_within(Duration::from_secs(1))
    .restart(Restart::Transient)
}

rows! {
    a_supervisor_and_those_who_wait_for_it:
        "handle::SupervisorHandle::wait_ready", "handle::SupervisorHandle::wait_ended",
        "handle::SupervisorHandle::stop", "handle::SupervisorHandle::remove",
        "handle::ChildRef::wait_running", "handle::ChildRef::wait_beyond",
        "handle::ChildRef::stop", "handle::ChildRef::remove", "life::Life::idle" =>
    {
        let ledger = Ledger::default();
        let make = || async {
            let running = scope("owner", async |s| {
                let running = Supervisor::new("children", Strategy::OneForAll)
                    .child_with(child("a", ledger.one()))
                    .child_with(child("b", ledger.one()))
                    .start(s);
                running.wait_ready().await?;
                let b = running.child("b").ok_or("it is there")?;
                b.restart();
                assert_eq!(b.wait_beyond(1).await?, 2);
                running.stop("a").await?;
                b.stop().await?;
                b.restart();
                b.wait_running().await?;
                b.remove().await?;
                assert_eq!(b.state(), ChildState::Gone);
                running.remove("a").await?;
                Ok::<_, Error>(running)
            })
            .await?;
            Ok::<_, Error>(running.wait_ended().await?)
        };
        everywhere(make, async || { ledger.is_even(); nothing_lives(); }).await;
        Ok(())
    }
}
