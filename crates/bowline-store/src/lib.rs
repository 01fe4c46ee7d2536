//! Streams of publications: the contract of a store, and its implementations in memory and on disk.
//!
//! A channel with history is a *stream*: each kept publication gets the next *offset*, and the *epoch* names the
//! life of the stream, so that a reader who comes back can tell "nothing was missed" from "this is another stream".
//!
//! ```
//! use std::time::Duration;
//! use bowline_store::{Append, Appended, Limit, MemoryStore, Publication, Query, Retention, StreamStore};
//!
//! let store = MemoryStore::default();
//! let keep = Retention::new(10, Duration::from_secs(60), Duration::from_secs(3600)).unwrap();
//! let receipt = store.append(Append::new("news", Publication::new("{}"), Some(keep))).unwrap();
//! let Ok(Appended::Kept(position)) = receipt.wait_blocking() else { panic!("not kept") };
//! assert_eq!(position.offset, 1);
//!
//! let page = store.read("news", Query::forward(0, Limit::All), keep.meta_ttl).unwrap();
//! assert_eq!(page.top, position);
//! assert_eq!(page.publications.len(), 1);
//! ```
//!
//! # Map
//!
//! | module | what it holds |
//! |---|---|
//! | [`position`] | where a reader is: [`Epoch`], [`Position`] |
//! | [`publication`] | what is kept: [`Publication`], [`Publisher`], and how long: [`Retention`] |
//! | [`receipt`] | an append is known at once and kept a little later: [`Receipt`], [`Commit`] |
//! | [`store`] | the contract: [`StreamStore`] with its requests and answers |
//! | [`memory`] | [`MemoryStore`]: everything in memory, lost on restart |
//! | [`durable`] | [`DurableStore`]: a log on disk, kept over restarts and power failures |
//! | [`disk`] | what the durable store asks of the machine: [`Disk`](disk::Disk) |
//! | `contract` | the suite every implementation passes (feature `contract`) |

#[cfg(feature = "contract")]
pub mod contract;
pub mod disk;
pub mod durable;
mod keys;
pub mod memory;
pub mod position;
pub mod publication;
pub mod receipt;
pub mod store;

pub use durable::DurableStore;
pub use memory::{Capacity, MemoryStore};
pub use position::{Epoch, Position};
pub use publication::{Durability, Publication, Publisher, Retention};
pub use receipt::{Commit, CommitError, Receipt};
pub use store::{
    Append, Appended, Direction, Kept, Limit, Page, Query, StoreError, StoreStats, StreamStore, Swept,
    Version,
};
