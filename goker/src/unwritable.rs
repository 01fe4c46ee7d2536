//! What cannot be written: the kernels of classes L and O with the closure form of the locks.
//!
//! [`Mutex::with`](bowline::Mutex::with) runs a closure under the lock, and a closure cannot await. So nothing can be sent,
//! received, joined or locked while it is held, neither in the closure nor in what it calls. Each example below is the
//! heart of a kernel, and does not compile.
//!
//! etcd#7492, kubernetes#10182: sending under the lock.
//!
//! ```compile_fail,E0728
//! # use bowline::{Cancelled, RendezvousTx, RwLock};
//! # async fn set(statuses: &RwLock<u32>, updates: &RendezvousTx<'_, ()>) -> Result<(), Cancelled> {
//! statuses.with_write(|_| updates.send(()).await).await
//! # }
//! ```
//!
//! grpc#1460, kubernetes#26980: waiting under the lock for what needs it.
//!
//! ```compile_fail,E0728
//! # use bowline::{Cancelled, Mutex, RendezvousRx};
//! # async fn keep_alive(m: &Mutex<u32>, awaken: &RendezvousRx<'_, ()>) -> Result<(), Cancelled> {
//! m.with(|streams| if *streams == 0 { awaken.recv().await; }).await
//! # }
//! ```
//!
//! moby#28462, kubernetes#6632: a closure that is given a future does not run it, and the reference cannot leave with it.
//!
//! ```compile_fail
//! # use bowline::{Cancelled, Mutex, RendezvousTx};
//! # async fn stop(container: &Mutex<u32>, stop: &RendezvousTx<'_, ()>) -> Result<(), Cancelled> {
//! container.with(|state| async move { *state += 1; stop.send(()).await }).await?.await?;
//! # Ok(())
//! # }
//! ```
//!
//! moby#36114, cockroach#9935, etcd#6708, etcd#10492, cockroach#16167: locking what is locked, in a helper.
//!
//! ```compile_fail,E0728
//! # use bowline::{Cancelled, Mutex};
//! # async fn helper(svm: &Mutex<u32>) -> Result<(), Cancelled> { svm.with(|count| *count += 1).await }
//! # async fn grow(svm: &Mutex<u32>) -> Result<(), Cancelled> {
//! svm.with(|_| helper(svm).await).await?
//! # }
//! ```
//!
//! cockroach#10214, kubernetes#30872, moby#4951: a second lock under the first, in whatever order.
//!
//! ```compile_fail,E0728
//! # use bowline::{Cancelled, Mutex};
//! # async fn both(all: &Mutex<u32>, dev: &Mutex<u32>) -> Result<(), Cancelled> {
//! all.with(|all| dev.with(|dev| *dev += *all).await).await?
//! # }
//! ```
//!
//! The same programs with what can be written instead, so that it is the await that fails and nothing else:
//!
//! ```
//! # use bowline::{Cancelled, Mutex, RendezvousRx, RendezvousTx, RwLock};
//! async fn set(statuses: &RwLock<u32>, updates: &RendezvousTx<'_, ()>) -> Result<(), Cancelled> {
//!     statuses.with_write(|status| *status += 1).await?;
//!     Ok(updates.send(()).await?)
//! }
//! async fn keep_alive(m: &Mutex<u32>, awaken: &RendezvousRx<'_, ()>) -> Result<(), Cancelled> {
//!     if m.with(|streams| *streams == 0).await? {
//!         awaken.recv().await?;
//!     }
//!     Ok(())
//! }
//! async fn stop(container: &Mutex<u32>, stop: &RendezvousTx<'_, ()>) -> Result<(), Cancelled> {
//!     container.with(|state| *state += 1).await?;
//!     Ok(stop.send(()).await?)
//! }
//! async fn grow(svm: &Mutex<u32>) -> Result<(), Cancelled> {
//!     svm.with(|count| *count += 1).await
//! }
//! async fn both(all: &Mutex<u32>, dev: &Mutex<u32>) -> Result<(), Cancelled> {
//!     let all = all.with(|all| *all).await?;
//!     dev.with(|dev| *dev += all).await
//! }
//! # bowline::testing::example(async {
//! # bowline::scope("written", async |s| {
//! # let (tx, rx) = s.rendezvous("updates");
//! # drop(rx);
//! # let (lock, other) = (Mutex::new("m", 1), Mutex::new("n", 1));
//! # assert!(set(&RwLock::new("statuses", 0), &tx).await.is_err());
//! # assert!(stop(&lock, &tx).await.is_err());
//! # grow(&lock).await?;
//! # both(&lock, &other).await?;
//! # let (tx, rx) = s.rendezvous("awaken");
//! # drop(tx);
//! # keep_alive(&Mutex::new("m", 0), &rx).await
//! # })
//! # .await
//! # }).unwrap();
//! ```

/// The kernels that are here.
pub const KERNELS: &[&str] = &[
    "cockroach#10214",
    "cockroach#16167",
    "cockroach#9935",
    "etcd#10492",
    "etcd#6708",
    "etcd#7492",
    "grpc#1460",
    "kubernetes#10182",
    "kubernetes#26980",
    "kubernetes#30872",
    "kubernetes#6632",
    "moby#28462",
    "moby#36114",
    "moby#4951",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Class, kernels};

    #[test]
    fn every_kernel_about_locks_is_told_of_and_no_other() {
        let about_locks = kernels::all().filter(|kernel| matches!(kernel.class, Class::L | Class::O));
        let mut names: Vec<_> = about_locks.map(|kernel| kernel.name).collect();
        names.sort_unstable();
        assert_eq!(names, KERNELS);
        let told = include_str!("unwritable.rs").split("pub const").next().unwrap_or_default();
        assert!(names.iter().all(|name| told.contains(name)));
    }
}
