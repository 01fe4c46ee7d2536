//! What tasks wait for: locks, queues and the like, and who holds them.

use super::fields::Fields;

/// Something that is waited for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Resource {
    pub(crate) id: u64,
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) place: String,
    pub(crate) state: String,
    pub(crate) waiters: Vec<Waiter>,
    pub(crate) holders: Vec<Holder>,
    pub(crate) ends: Vec<End>,
    pub(crate) waits: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Waiter {
    pub(crate) task: Option<u64>,
    pub(crate) op: String,
    pub(crate) is_granted: bool,
    pub(crate) place: String,
    pub(crate) for_ms: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Holder {
    pub(crate) task: Option<u64>,
    pub(crate) is_certain: bool,
    pub(crate) amount: u64,
    pub(crate) place: String,
    pub(crate) for_ms: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct End {
    pub(crate) role: String,
    pub(crate) task: Option<u64>,
    pub(crate) ends: u64,
}

impl Resource {
    pub(crate) fn read(fields: Fields<'_>) -> Self {
        Self {
            id: fields.number("id"),
            kind: fields.text("kind").replace('_', " "),
            name: fields.text("name"),
            place: fields.text("place"),
            state: state(fields.inside("state")),
            waiters: fields.list("waiters", Waiter::read),
            holders: fields.list("holders", Holder::read),
            ends: fields.list("ends", End::read),
            waits: fields.number("waits"),
        }
    }

    /// How long somebody has been waiting.
    pub(crate) fn oldest_ms(&self) -> u64 {
        self.waiters.iter().map(|waiter| waiter.for_ms).max().unwrap_or(0)
    }
}

/// The state in a few words.
fn state(fields: Fields<'_>) -> String {
    match &*fields.text("is") {
        "permits" if fields.number("total") > 1_000_000 => "held".to_owned(), // as many readers as there can be
        "permits" => format!("{} of {} free", fields.number("free"), fields.number("total")),
        "arrived" => format!("{} of {} arrived", fields.number("arrived"), fields.number("seats")),
        "closed" => format!("closed: {}", fields.text("reason")),
        other => other.to_owned(),
    }
}

impl Waiter {
    fn read(fields: Fields<'_>) -> Self {
        Self {
            task: fields.some_number("task"),
            op: fields.text("op"),
            is_granted: fields.is_true("granted"),
            place: fields.text("place"),
            for_ms: fields.number("for_ms"),
        }
    }
}

impl Holder {
    fn read(fields: Fields<'_>) -> Self {
        Self {
            task: fields.some_number("task"),
            is_certain: fields.is_true("certain"),
            amount: fields.number("amount"),
            place: fields.text("place"),
            for_ms: fields.number("for_ms"),
        }
    }
}

impl End {
    fn read(fields: Fields<'_>) -> Self {
        Self { role: fields.text("role"), task: fields.some_number("task"), ends: fields.number("ends") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::data::fields::entries;

    #[tokio::test]
    async fn a_contended_lock_of_this_very_program_is_read_whole() {
        let lock = std::sync::Arc::new(bowline::Mutex::new("accounts", ()));
        let read = bowline::scope("bank", async |s| {
            let held = lock.lock().await?;
            let other = std::sync::Arc::clone(&lock);
            s.spawn("transfer", async move { other.lock().await.map(drop) });
            tokio::task::yield_now().await;
            let page = serde_json::to_value(bowline::contended()).expect("it is JSON");
            drop(held);
            Ok::<_, bowline::Cancelled>(entries(&page, "waits", Resource::read))
        });
        let found = read.await.expect("nobody cancels it");
        let lock = found.iter().find(|known| known.name == "accounts").expect("it is waited for");
        assert_eq!(
            (&*lock.kind, &*lock.state, lock.waiters.len(), lock.holders.len()),
            ("mutex", "0 of 1 free", 1, 1)
        );
        assert_eq!(lock.waiters[0].op, "lock");
        assert!(lock.waiters[0].task.is_some() && lock.waiters[0].place.contains("waits.rs:"));
    }
}
