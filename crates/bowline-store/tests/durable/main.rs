//! The durable store: the contract on a real disk, and what happens to it on a disk that forgets.

mod contract;
mod faults;
mod inspect;
mod kill;
mod limit;
mod model;
mod power;
mod refused;
mod restart;
mod simulated;
mod support;
mod torn;
mod version;
mod weak;
