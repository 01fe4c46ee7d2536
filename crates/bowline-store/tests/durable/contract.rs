//! The durable store keeps the contract of every store.

use bowline_store::stream_store_contract;

use super::support::Running;

stream_store_contract!(Running::scratch);
