//! The signals that ask a process to end.

#[cfg(unix)]
use crate::combine::{Either, race};

/// SIGINT and SIGTERM, from the moment this is made; before that they kill.
#[cfg(unix)]
pub(crate) struct Signals {
    both: Option<(tokio::signal::unix::Signal, tokio::signal::unix::Signal)>,
}

#[cfg(unix)]
impl Signals {
    pub(crate) fn listen(wanted: bool) -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let both = wanted.then(|| {
            let listen = |kind| signal(kind).expect("the system lets a process handle SIGINT and SIGTERM");
            (listen(SignalKind::interrupt()), listen(SignalKind::terminate()))
        });
        Self { both }
    }

    pub(crate) async fn next(&mut self) -> &'static str {
        match &mut self.both {
            Some((interrupt, terminate)) => match race(interrupt.recv(), terminate.recv()).await {
                Either::Left(_) => "SIGINT",
                Either::Right(_) => "SIGTERM",
            },
            None => std::future::pending().await,
        }
    }
}

/// Ctrl-C, where there are no signals.
#[cfg(not(unix))]
pub(crate) struct Signals {
    wanted: bool,
}

#[cfg(not(unix))]
impl Signals {
    pub(crate) fn listen(wanted: bool) -> Self {
        Self { wanted }
    }

    pub(crate) async fn next(&mut self) -> &'static str {
        if self.wanted && tokio::signal::ctrl_c().await.is_ok() {
            "Ctrl-C"
        } else {
            std::future::pending().await
        }
    }
}
