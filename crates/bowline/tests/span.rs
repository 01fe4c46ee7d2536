//! Each task is polled in a span of its own, and what it records carries that.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use bowline::{Cancelled, scope};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::FmtSpan;

/// A log that is kept.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn lines(&self) -> Vec<String> {
        let text = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        String::from_utf8(text).unwrap().lines().map(str::to_owned).collect()
    }
}

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

fn listen(log: &Log, spans: FmtSpan) -> tracing::subscriber::DefaultGuard {
    let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false).without_time();
    tracing::subscriber::set_default(subscriber.with_span_events(spans).finish())
}

struct SaysSo(&'static str);

impl Drop for SaysSo {
    fn drop(&mut self) {
        tracing::info!("{} goes", self.0);
    }
}

#[bowline::test]
async fn what_a_task_records_says_which_task_it_was() -> Result<(), Cancelled> {
    let log = Log::default();
    let _listening = listen(&log, FmtSpan::NONE);
    let (outer, inner) = scope("orders", async |s| {
        let packer = s.spawn("packer", async {
            let inner = scope("boxes", async |s| {
                let folder = s.spawn("folder", async {
                    let _box = SaysSo("the box");
                    tokio::task::yield_now().await;
                    tracing::info!("folded");
                    Ok::<_, Cancelled>(())
                });
                let id = folder.id().unwrap();
                folder.await?;
                Ok::<_, Cancelled>(id)
            })
            .await?;
            tracing::info!("packed");
            Ok(inner)
        });
        let id = packer.id().unwrap();
        Ok::<_, Cancelled>((id, packer.await?))
    })
    .await?;
    tracing::info!("all done");
    let lines = log.lines();
    let line =
        |text: &str| lines.iter().find(|line| line.ends_with(text)).unwrap_or_else(|| panic!("{lines:?}"));
    let folder = format!("task.name=\"folder\" task.id={inner} task.parent={outer} task.place=");
    assert!(line("folded").contains(&folder) && line("folded").contains("tests/span.rs:"), "{lines:?}");
    // Spawned in the span of the other, and so below it.
    assert!(line("folded").find("packer") < line("folded").find("folder"), "{lines:?}");
    assert!(line("the box goes").contains(&folder), "a destructor belongs to its task: {lines:?}");
    assert!(line("packed").contains("packer") && !line("packed").contains("folder"), "{lines:?}");
    assert!(!line("all done").contains("packer"), "{lines:?}");
    Ok(())
}

#[bowline::test]
async fn a_span_is_closed_when_the_task_is_gone_destructors_and_all() -> Result<(), Cancelled> {
    let log = Log::default();
    let _listening = listen(&log, FmtSpan::CLOSE);
    scope("orders", async |s| {
        let stuck = s.spawn("stuck", async {
            let _box = SaysSo("the box");
            std::future::pending::<Result<(), Cancelled>>().await
        });
        tokio::task::yield_now().await;
        stuck.abort();
        let _ = stuck.await;
        Ok::<_, Cancelled>(())
    })
    .await?;
    let lines = log.lines();
    let at = |text: &str| lines.iter().position(|line| line.contains("stuck") && line.contains(text));
    assert!(at("the box goes").is_some() && at("the box goes") < at("close"), "{lines:?}");
    Ok(())
}

#[test]
fn a_task_that_its_runtime_drops_is_dropped_in_its_span() {
    let log = Log::default();
    let _listening = listen(&log, FmtSpan::NONE);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let shop = scope("orders", async |s| {
            s.spawn("stuck", async {
                let _box = SaysSo("the box");
                std::future::pending::<Result<(), Cancelled>>().await
            });
            tokio::task::yield_now().await;
            std::future::pending::<Result<(), Cancelled>>().await
        });
        let mut shop = Box::pin(shop);
        for _ in 0..3 {
            std::future::poll_fn(|cx| {
                assert!(shop.as_mut().poll(cx).is_pending());
                std::task::Poll::Ready(())
            })
            .await;
            tokio::task::yield_now().await;
        }
        // The abort asks for one poll more, which does not come: this was the last one here.
    });
    drop(runtime);
    let lines = log.lines();
    let is_in_it = |line: &&String| line.contains("stuck") && line.ends_with("the box goes");
    assert_eq!(lines.iter().filter(is_in_it).count(), 1, "{lines:?}");
}
