//! Breakers, bulkheads, time-outs and retries as layers for tower, and for what is built on it: axum, tonic, reqwest's middleware.
//!
//! # Example
//!
//! ```
//! use bowline::tower::{BreakerLayer, RetryLayer, TimeoutLayer};
//! use bowline::{Attempts, Backoff, Breaker, Class, Retry};
//! use std::time::Duration;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # bowline::testing::example(async {
//! let second = Duration::from_secs(1);
//! let billing = ServiceBuilder::new()
//!     .layer(RetryLayer::new(Retry::new(Backoff::exponential(second / 20, 2 * second), Attempts::at_most(3))))
//!     .layer(BreakerLayer::new(&Breaker::new("billing")))
//!     .layer(TimeoutLayer::new(second))
//!     .service(service_fn(async |order: u64| Ok::<_, Class>(order + 1)));
//! assert_eq!(billing.oneshot(7).await.unwrap(), 8);
//! # });
//! ```
//!
//! # Order
//!
//! From outside to inside: retry, breaker, bulkhead, timeout. So every attempt asks the breaker and takes a place of its own,
//! nothing is held between two attempts, and the time spent waiting for a place is not the upstream's.
//!
//! # What is a failure
//!
//! An error says its class ([`Classify`](crate::Classify)). A service whose answers carry failures - an HTTP client answers `Ok` with a status of
//! 503 - is judged by a closure: [`BreakerLayer::judge`], [`BulkheadLayer::judge`], [`RetryLayer::judge`].
//!
//! # Readiness
//!
//! In tower a service is asked whether it is ready, and then called; but a caller may ask and never call, and a clone has not been
//! asked. A layer that reserves something when it is asked keeps it for as long as nobody calls: a few idle callers then hold
//! all there is, and everybody waits. So here
//!
//! 1. to be asked reserves nothing: it hands the question on to the inner service, and that is all;
//! 2. admission is part of the call: a breaker refuses there, a bulkhead waits there, and what was taken is given back when the
//!    call's future ends or is dropped;
//! 3. the service that was asked is the one that is called, and its clone is left in its place.

mod breaker;
mod bulkhead;
mod judge;
mod retry;
mod timeout;

pub use self::breaker::{BreakerLayer, BreakerService, Guarded};
pub use self::bulkhead::{BulkheadLayer, BulkheadService};
pub use self::judge::{ByResult, Judge};
pub use self::retry::{Again, ByClone, ByRepeat, RetryLayer, RetryService};
pub use self::timeout::{Limited, TimeoutError, TimeoutLayer, TimeoutService};

use std::future::Future;
use std::pin::Pin;

/// The future of a call that may have to wait before it begins.
type Boxed<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;
