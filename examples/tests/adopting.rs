//! The code of the book's chapter "Adopting Bowline in an existing service", compiled and run.
//!
//! One small shop, step by step: `before` is how it was, and each module after it is the shop after one more step.
//! `book.rs` sees to it that the chapter prints these regions and no others.
#![allow(
    clippy::disallowed_macros,
    reason = "of the shop as it was; clippy looks for it at the root of a crate only"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use bowline::{Cancelled, sleep};
use bowline_examples::{listen, request};

/// The upstream of the shop: somebody else's, and slow for some items.
#[derive(Clone, Default)]
struct Prices {
    refreshed: Arc<AtomicU32>,
}

impl Prices {
    async fn of(&self, item: &str) -> Result<u32, StatusCode> {
        if item == "a rope that nobody has" {
            std::future::pending::<()>().await;
        }
        Ok(10)
    }

    async fn refresh(&self) {
        self.refreshed.fetch_add(1, Ordering::Relaxed);
    }
}

async fn send_mail(_item: String) {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// Orders over HTTP; returns the status and what the shop says.
async fn order(shop: SocketAddr, item: &str) -> (u16, String) {
    request("POST", shop, "/orders", item.to_owned()).await.unwrap()
}

#[expect(clippy::disallowed_methods, reason = "the shop as it was, on bare tokio")]
mod before {
    use super::*;

    // ANCHOR: before
    use axum::Router;
    use axum::extract::State;
    use axum::routing::post;
    use tokio::net::TcpListener;

    #[tokio::main]
    async fn main() -> anyhow::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:3000").await?;
        serve(listener).await
    }

    async fn serve(listener: TcpListener) -> anyhow::Result<()> {
        let prices = Prices::default();
        let refreshing = prices.clone();
        tokio::spawn(async move {
            loop {
                refreshing.refresh().await;
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
        });
        let app = Router::new().route("/orders", post(take_order)).with_state(prices);
        Ok(axum::serve(listener, app).await?)
    }

    async fn take_order(State(prices): State<Prices>, item: String) -> Result<String, StatusCode> {
        let price = prices.of(&item).await?;
        tokio::spawn(send_mail(item));
        Ok(format!("that is {price}"))
    }
    // ANCHOR_END: before

    #[test]
    fn it_serves_and_never_ends() {
        let _program: fn() -> anyhow::Result<()> = main;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (listener, shop) = listen(0).await.unwrap();
            let orders = async { assert_eq!(order(shop, "a rope").await, (200, "that is 10".into())) };
            tokio::select! {
                ended = serve(listener) => panic!("{ended:?}"),
                () = orders => {}
            }
        });
    }
}

mod run {

    use axum::Router;

    // ANCHOR: run
    use tokio::net::TcpListener;

    #[bowline::main(name = "shop", shutdown_within = "10s")]
    async fn main() -> anyhow::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:3000").await?;
        serve(listener).await
    }
    // ANCHOR_END: run

    async fn serve(listener: TcpListener) -> anyhow::Result<()> {
        Ok(axum::serve(listener, Router::new()).with_graceful_shutdown(bowline::draining()).await?)
    }

    // ANCHOR: runner
    fn run_it() -> std::process::ExitCode {
        let (_, report) = bowline::Runner::new("shop").worker_threads(4).run(async {
            // what `main` awaited
        });
        report.exit_code()
    }
    // ANCHOR_END: runner

    #[test]
    fn the_program_ends_in_order() {
        let _program = main;
        assert_eq!(format!("{:?}", run_it()), format!("{:?}", std::process::ExitCode::SUCCESS));
    }

    #[test]
    fn tasks_that_nobody_owns_are_counted() {
        #[expect(clippy::disallowed_methods, reason = "this is about those")]
        let (foreign, _) = bowline::Runner::new("shop").without_signals().run(async {
            let task = tokio::spawn(std::future::pending::<()>());
            tokio::task::yield_now().await;
            // ANCHOR: foreign
            let foreign = bowline::tree().foreign_tasks;
            // ANCHOR_END: foreign
            task.abort();
            foreign
        });
        assert_eq!(foreign, Some(Some(1)));
    }
}

mod own {
    use super::*;
    use axum::Router;
    use axum::extract::State;
    use axum::routing::post;
    use bowline::draining;
    use tokio::net::TcpListener;

    // ANCHOR: own
    use bowline::scope;

    async fn serve(listener: TcpListener) -> anyhow::Result<()> {
        scope("shop", async |s| {
            let prices = Prices::default();
            let refreshing = prices.clone();
            s.spawn_daemon("refresh prices", async move {
                loop {
                    refreshing.refresh().await;
                    sleep(Duration::from_secs(60)).await?;
                }
            });
            let app = Router::new().route("/orders", post(take_order)).with_state(prices);
            axum::serve(listener, app).with_graceful_shutdown(draining()).await?;
            Ok(())
        })
        .await
    }
    // ANCHOR_END: own

    async fn take_order(State(prices): State<Prices>, item: String) -> Result<String, StatusCode> {
        Ok(format!("that is {}", prices.of(&item).await?))
    }

    #[bowline::test]
    async fn it_ends_and_nothing_is_left() {
        let (listener, shop) = listen(0).await.unwrap();
        let orders = async {
            assert_eq!(order(shop, "a rope").await.0, 200);
            bowline::shut_down("sold out");
        };
        let (served, ()) = tokio::join!(serve(listener), orders);
        served.unwrap();
    }
}

mod deadline {
    use super::*;
    use axum::Router;
    use axum::extract::State;
    use axum::routing::post;
    use tokio::net::TcpListener;

    // ANCHOR: deadline
    use axum::extract::Request;
    use axum::middleware::Next;
    use axum::response::{IntoResponse, Response};
    use bowline::propagate::{GRPC_TIMEOUT, timeout_from};

    const A_REQUEST_TAKES_AT_MOST: Duration = Duration::from_secs(2);

    async fn under_a_deadline(request: Request, next: Next) -> Response {
        let asked =
            request.headers().get(GRPC_TIMEOUT).map(|asked| timeout_from(asked.to_str().unwrap_or("")));
        let limit = match asked {
            None => A_REQUEST_TAKES_AT_MOST,
            Some(Ok(asked)) => asked.min(A_REQUEST_TAKES_AT_MOST),
            Some(Err(malformed)) => return (StatusCode::BAD_REQUEST, malformed.to_string()).into_response(),
        };
        match bowline::timeout(limit, next.run(request)).await {
            Ok(response) => response,
            Err(_late) => StatusCode::GATEWAY_TIMEOUT.into_response(),
        }
    }
    // ANCHOR_END: deadline

    // ANCHOR: deadline-layer
    fn app(prices: Prices) -> Router {
        let orders = Router::new().route("/orders", post(take_order)).with_state(prices);
        orders.layer(axum::middleware::from_fn(under_a_deadline))
    }
    // ANCHOR_END: deadline-layer

    // ANCHOR: pass-on
    use axum::http::{HeaderMap, HeaderName};
    use bowline::propagate::header_value;

    /// For the request to an upstream, whatever client sends it.
    fn deadline_headers() -> HeaderMap {
        let left = header_value().and_then(|left| left.parse().ok());
        left.map(|left| (HeaderName::from_static(GRPC_TIMEOUT), left)).into_iter().collect()
    }
    // ANCHOR_END: pass-on

    async fn take_order(State(prices): State<Prices>, item: String) -> Result<String, StatusCode> {
        Ok(format!("that is {}", prices.of(&item).await?))
    }

    async fn serve(listener: TcpListener) -> anyhow::Result<()> {
        Ok(axum::serve(listener, app(Prices::default())).with_graceful_shutdown(bowline::draining()).await?)
    }

    #[bowline::test]
    async fn a_request_that_takes_too_long_is_answered_in_time() {
        let (listener, shop) = listen(0).await.unwrap();
        let orders = async {
            assert_eq!(order(shop, "a rope").await.0, 200);
            assert_eq!(order(shop, "a rope that nobody has").await.0, 504);
            bowline::shut_down("seen");
        };
        let (served, ()) = tokio::join!(serve(listener), orders);
        served.unwrap();
    }

    #[bowline::test(start_paused = true)]
    async fn what_is_left_is_passed_on() {
        let headers = bowline::timeout(Duration::from_secs(2), async { deadline_headers() }).await.unwrap();
        assert_eq!(headers[GRPC_TIMEOUT], "2000000u");
        assert!(deadline_headers().is_empty());
    }
}

mod queue {
    use super::*;
    use axum::Router;
    use axum::extract::State;
    use axum::routing::post;
    use bowline::{draining, scope};
    use tokio::net::TcpListener;

    // ANCHOR: queue
    use bowline::{Bound, FreeTx, Overflow, Scope};

    #[derive(Clone)]
    struct Shop {
        prices: Prices,
        mails: FreeTx<String>,
    }

    fn open_shop(s: &Scope<anyhow::Error>, prices: Prices) -> Shop {
        let (mails, inbox) = s.queue("mails", Bound::items(100), Overflow::Reject);
        s.spawn_with("mailer", inbox, async |_cx, inbox| {
            while let Some(item) = inbox.recv().await? {
                send_mail(item).await;
            }
            Ok(())
        });
        Shop { prices, mails: mails.free() }
    }

    async fn take_order(State(shop): State<Shop>, item: String) -> Result<String, StatusCode> {
        let price = shop.prices.of(&item).await?;
        // Refused before anything has happened: the client may try again.
        shop.mails.try_send(item).map_err(|_full| StatusCode::SERVICE_UNAVAILABLE)?;
        Ok(format!("that is {price}"))
    }
    // ANCHOR_END: queue

    /// How many mails have left in the test below.
    static SENT: AtomicU32 = AtomicU32::new(0);

    async fn send_mail(item: String) {
        super::send_mail(item).await;
        SENT.fetch_add(1, Ordering::Relaxed);
    }

    // ANCHOR: shutdown
    async fn serve(listener: TcpListener) -> anyhow::Result<()> {
        scope("shop", async |s| {
            let shop = open_shop(s, Prices::default());
            let app = Router::new().route("/orders", post(take_order)).with_state(shop);
            axum::serve(listener, app).with_graceful_shutdown(draining()).await?;
            Ok(())
        })
        .await
    }
    // ANCHOR_END: shutdown

    // ANCHOR: test
    #[bowline::test]
    async fn what_was_ordered_is_mailed_before_the_end() {
        let (listener, address) = listen(0).await.unwrap();
        let orders = async {
            for _ in 0..10 {
                assert_eq!(order(address, "a rope").await.0, 200);
            }
            bowline::shut_down("enough");
        };
        let (served, ()) = tokio::join!(serve(listener), orders);
        served.unwrap();
        assert_eq!(SENT.load(Ordering::Relaxed), 10);
    } // a connection, a mailer or anything else that is left here fails the test
    // ANCHOR_END: test
}

mod debug {
    use super::*;
    use tokio::net::TcpListener;

    // ANCHOR: debug
    async fn serve_debug(internal: TcpListener) -> anyhow::Result<()> {
        let pages = bowline::debug::router();
        Ok(axum::serve(internal, pages).with_graceful_shutdown(bowline::draining()).await?)
    }
    // ANCHOR_END: debug

    #[bowline::test]
    async fn the_pages_show_what_lives() {
        let (listener, internal) = listen(0).await.unwrap();
        bowline::scope("shop", async |s| {
            s.spawn("debug", serve_debug(listener));
            let (status, page) =
                request("GET", internal, "/debug/bowline/tree?format=text", String::new()).await?;
            assert_eq!(status, 200);
            assert!(page.contains("debug"), "{page}");
            bowline::shut_down("seen");
            Ok::<_, anyhow::Error>(())
        })
        .await
        .unwrap();
    }
}

mod foreign {
    use super::*;

    // ANCHOR: carry
    async fn in_a_foreign_task(work: impl Future<Output = u32> + Send + 'static) -> Result<u32, Cancelled> {
        let context = bowline::Context::current();
        #[expect(clippy::disallowed_methods, reason = "stands for a library that spawns")]
        let task = tokio::spawn(context.run(work));
        task.await.expect("it does not panic") // `Cancelled` if the context ended first
    }
    // ANCHOR_END: carry

    #[bowline::test(start_paused = true)]
    async fn a_foreign_task_ends_with_the_request() {
        assert_eq!(in_a_foreign_task(async { 7 }).await.unwrap(), 7);
        let never = in_a_foreign_task(std::future::pending());
        let late = bowline::timeout(Duration::from_secs(1), never).await.and_then(|answer| answer);
        assert!(late.unwrap_err().is_deadline());
    }
}

mod back_out {
    use super::*;

    // ANCHOR: back-out
    // with Bowline
    async fn tied(items: Vec<String>) -> Result<(), Cancelled> {
        bowline::scope("mails", async |s| {
            for item in items {
                s.spawn("mail", async move {
                    send_mail(item).await;
                    Ok(())
                });
            }
            Ok(())
        })
        .await
    }

    // without
    async fn bare(items: Vec<String>) -> Result<(), tokio::task::JoinError> {
        let mut tasks = tokio::task::JoinSet::new();
        for item in items {
            tasks.spawn(send_mail(item));
        }
        while let Some(ended) = tasks.join_next().await {
            ended?;
        }
        Ok(())
    }
    // ANCHOR_END: back-out

    #[bowline::test]
    async fn both_send_all_mails() {
        let items = || vec!["a rope".to_owned(); 3];
        tied(items()).await.unwrap();
        bare(items()).await.unwrap();
    }
}
