//! One schedule: what is published, where, and when; and the bytes it is kept as.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bowline::Cron;
use bowline_protocol::Payload;
use bytes::Bytes;
use prost::Message as _;

use crate::node::PublishParams;

/// A run that is late by no more than this is late; by more, it was missed. As for the schedules of the toolkit.
pub(super) const LATE_AT_MOST_MS: u64 = 60_000;

/// Bytes that a schedule takes in memory beside its texts, its data and its pattern: places in tables, and the entry itself.
const OVERHEAD_BYTES: usize = 512;

/// Bytes of a record around an entry: the number of the field, and a length.
const FRAME_BYTES: usize = 1 + 10;

/// What a schedule is kept as. Numbers are never used again, and what is missing is unset.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Entry {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(string, tag = "2")]
    pub(crate) channel: String,
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) data: Bytes,
    #[prost(bool, tag = "4")]
    pub(crate) skip_history: bool,
    #[prost(btree_map = "string, string", tag = "5")]
    pub(crate) tags: BTreeMap<String, String>,
    /// The caller's own; empty for one that is made of `nonce`, `since_ms` and `at_ms`.
    #[prost(string, tag = "6")]
    pub(crate) idempotency_key: String,
    #[prost(uint64, tag = "7")]
    pub(crate) version: u64,
    #[prost(string, tag = "8")]
    pub(crate) version_epoch: String,
    #[prost(bool, tag = "9")]
    pub(crate) makes_delta: bool,
    /// When it is due next, in milliseconds since 1970.
    #[prost(uint64, tag = "10")]
    pub(crate) at_ms: u64,
    /// When it was put or published last: what its next time was computed from.
    #[prost(uint64, tag = "11")]
    pub(crate) since_ms: u64,
    /// Tells this schedule from one of the same id before and after it.
    #[prost(uint64, tag = "12")]
    pub(crate) nonce: u64,
    /// The pattern of one that recurs; empty for one that is published once.
    #[prost(string, tag = "13")]
    pub(crate) cron: String,
    #[prost(string, tag = "14")]
    pub(crate) timezone: String,
    /// Drops what is more than a minute late.
    #[prost(bool, tag = "15")]
    pub(crate) skips_missed: bool,
}

/// One record of the log.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Record {
    /// A schedule as it is from here on.
    #[prost(message, optional, tag = "1")]
    pub(super) put: Option<Entry>,
    /// The id of a schedule that there is no more.
    #[prost(string, tag = "2")]
    pub(super) ended: String,
}

impl Record {
    pub(super) fn put(entry: &Entry) -> Bytes {
        // The field `put`, without a copy of the entry: this is done under the lock.
        let mut record = Vec::with_capacity(entry.encoded_len() + FRAME_BYTES);
        prost::encoding::message::encode(1, entry, &mut record);
        record.into()
    }

    pub(super) fn ended(id: &str) -> Bytes {
        Self { put: None, ended: id.to_owned() }.encode_to_vec().into()
    }
}

/// A schedule that waits, with what its pattern means.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) entry: Entry,
    pub(super) id: Arc<str>,
    pub(super) channel: Arc<str>,
    cron: Option<Arc<Cron>>,
}

/// What is to be done with a schedule that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Publish,
    /// It is too late, and the caller wants nothing that is late.
    Skip,
}

impl Item {
    /// Takes an entry; gives it back if its pattern is none.
    pub(super) fn new(entry: Entry) -> Result<Self, Box<Entry>> {
        let cron = match entry.cron.as_str() {
            "" => None,
            pattern => match Cron::new(pattern, &entry.timezone) {
                Ok(cron) => Some(Arc::new(cron)),
                Err(_) => return Err(Box::new(entry)),
            },
        };
        Ok(Self::with_cron(entry, cron))
    }

    fn with_cron(entry: Entry, cron: Option<Arc<Cron>>) -> Self {
        Self { id: entry.id.as_str().into(), channel: entry.channel.as_str().into(), entry, cron }
    }

    pub(super) fn at_ms(&self) -> u64 {
        self.entry.at_ms
    }

    pub(crate) fn recurs(&self) -> bool {
        self.cron.is_some()
    }

    /// What it takes of the bound on bytes.
    pub(super) fn bytes(&self) -> usize {
        let entry = &self.entry;
        let tags: usize = entry.tags.iter().map(|(key, value)| key.len() + value.len()).sum();
        let texts = [
            &entry.id,
            &entry.channel,
            &entry.idempotency_key,
            &entry.version_epoch,
            &entry.cron,
            &entry.timezone,
        ];
        let texts: usize = texts.iter().map(|text| text.len()).sum();
        let cron = self.cron.as_ref().map_or(0, |cron| cron.bytes());
        OVERHEAD_BYTES + entry.data.len() + texts + tags + cron
    }

    /// What is published. The key is the same however often this run is tried, and another for every run: also for one at
    /// the same time after the clock was put back, which moves `since_ms`.
    pub(crate) fn params(&self) -> PublishParams {
        let entry = &self.entry;
        let key = match entry.idempotency_key.as_str() {
            "" => format!("bowline.schedule:{:016x}:{}:{}", entry.nonce, entry.since_ms, entry.at_ms),
            key => key.to_owned(),
        };
        PublishParams {
            data: if entry.data.is_empty() { Payload::EMPTY } else { Payload::opaque(entry.data.clone()) },
            skip_history: entry.skip_history,
            tags: entry.tags.clone(),
            makes_delta: entry.makes_delta,
            idempotency_key: key,
            version: entry.version,
            version_epoch: entry.version_epoch.clone(),
        }
    }

    /// What to do now that it is due, and the run that is meant: of several that were missed, the newest.
    pub(super) fn judge(self: &Arc<Self>, now_ms: u64) -> (Verdict, Arc<Self>) {
        let is_missed = now_ms.saturating_sub(self.at_ms()) > LATE_AT_MOST_MS;
        if !is_missed {
            return (Verdict::Publish, Arc::clone(self));
        }
        let newest = match &self.cron {
            Some(cron) => newest_until(cron, self.at_ms(), now_ms),
            None => self.at_ms(),
        };
        let run = self.moved_to(newest, self.entry.since_ms);
        let is_late = now_ms.saturating_sub(newest) > LATE_AT_MOST_MS;
        (if self.entry.skips_missed && is_late { Verdict::Skip } else { Verdict::Publish }, run)
    }

    /// What there is after the run that was due: the next one, or nothing.
    pub(super) fn next(&self, now_ms: u64) -> Option<Arc<Self>> {
        let cron = self.cron.as_ref()?;
        // Never twice the same, whatever the clock says.
        let next = first_after(cron, now_ms.max(self.at_ms()))?;
        Some(self.moved_to(next, now_ms))
    }

    /// Where it stands after the wall clock was put back, if that moves it.
    pub(super) fn after_clock_went_back(&self, now_ms: u64) -> Option<Arc<Self>> {
        let cron = self.cron.as_ref()?;
        let by = Duration::from_millis(self.entry.since_ms.saturating_sub(now_ms));
        let starts_over = cron.starts_over(by);
        let next = first_after(cron, now_ms).filter(|next| starts_over && *next < self.at_ms())?;
        Some(self.moved_to(next, now_ms))
    }

    fn moved_to(&self, at_ms: u64, since_ms: u64) -> Arc<Self> {
        let entry = Entry { at_ms, since_ms, ..self.entry.clone() };
        Arc::new(Self {
            entry,
            id: Arc::clone(&self.id),
            channel: Arc::clone(&self.channel),
            cron: self.cron.clone(),
        })
    }
}

/// The first time of a pattern after `ms`.
pub(super) fn first_after(cron: &Cron, ms: u64) -> Option<u64> {
    let next = cron.first_after(SystemTime::UNIX_EPOCH + Duration::from_millis(ms))?;
    let since = next.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok()
}

/// The newest time of a pattern that is not after `now_ms`, where `at_ms` is one that is not.
///
/// Halves the time in which it may be, so that a pattern of every second that was missed for a year takes some dozens of
/// steps, as one of every month does.
fn newest_until(cron: &Cron, at_ms: u64, now_ms: u64) -> u64 {
    let (mut newest, mut end) = (at_ms, now_ms);
    // `newest` is one of its times, and behind `end` there is none until now; each step brings them closer.
    while newest < end {
        let middle = newest + (end - newest) / 2;
        match first_after(cron, middle).filter(|next| *next > middle && *next <= now_ms) {
            Some(next) => newest = next,
            None => end = middle,
        }
    }
    newest
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;
    /// 2027-01-15, 08:00 UTC.
    const EIGHT: u64 = 1_800_000_000_000;

    fn every(pattern: &str, at_ms: u64) -> Arc<Item> {
        let entry = Entry {
            id: "i".into(),
            cron: pattern.into(),
            timezone: "UTC".into(),
            at_ms,
            since_ms: at_ms - 1000,
            ..Entry::default()
        };
        Arc::new(Item::new(entry).unwrap())
    }

    #[test]
    fn of_runs_that_were_missed_the_newest_is_meant() {
        for (pattern, late, newest) in [
            ("* * * * *", 59_999, EIGHT),
            ("* * * * *", 60_001, EIGHT + 60_000),
            ("* * * * * *", 400 * 24 * HOUR, EIGHT + 400 * 24 * HOUR),
            // Every second of one day in a year, which is long past.
            ("* * * 15 1 *", 300 * 24 * HOUR, EIGHT + 16 * HOUR - 1000),
            ("0 8 * * *", 30 * HOUR, EIGHT + 24 * HOUR),
            ("0 8 15 1 *", 100 * 24 * HOUR, EIGHT),
        ] {
            let (verdict, run) = every(pattern, EIGHT).judge(EIGHT + late);
            assert_eq!((verdict, run.at_ms()), (Verdict::Publish, newest), "{pattern} {late}");
        }
    }

    #[test]
    fn one_that_skips_what_it_missed_skips_it_and_goes_on() {
        let item = every("0 8 * * *", EIGHT);
        let item = Arc::new(Item::new(Entry { skips_missed: true, ..item.entry.clone() }).unwrap());
        assert_eq!(item.judge(EIGHT + 60_000).0, Verdict::Publish);
        let (verdict, run) = item.judge(EIGHT + HOUR);
        assert_eq!(verdict, Verdict::Skip);
        assert_eq!(run.next(EIGHT + HOUR).unwrap().at_ms(), EIGHT + 24 * HOUR);
        // The newest is not late, whatever else was missed.
        assert_eq!(item.judge(EIGHT + 24 * HOUR).0, Verdict::Publish);
    }

    #[test]
    fn what_it_takes_counts_every_text_and_the_pattern() {
        let entry = Entry { data: Bytes::from_static(b"12"), channel: "c".into(), ..Entry::default() };
        let once = Item::new(entry.clone()).unwrap().bytes();
        assert_eq!(once, OVERHEAD_BYTES + 3);
        let keyed = Entry { idempotency_key: "key".into(), version_epoch: "e".into(), ..entry.clone() };
        assert_eq!(Item::new(keyed).unwrap().bytes(), once + 4);
        let recurs = |pattern: &str| {
            let entry = Entry { cron: pattern.into(), timezone: "UTC".into(), ..entry.clone() };
            Item::new(entry).unwrap().bytes()
        };
        // Three times of the day are three patterns.
        assert!(recurs("* * * * *") > once + 5_000);
        assert!(recurs("0 8,9,10 * * *") > once + 15_000);
    }

    #[test]
    fn a_key_is_that_of_the_run() {
        let item = every("* * * * *", EIGHT);
        let again = Item::new(item.entry.clone()).unwrap();
        assert_eq!(item.params().idempotency_key, again.params().idempotency_key);
        let next = item.next(EIGHT).unwrap();
        assert_ne!(next.params().idempotency_key, item.params().idempotency_key);
        let put_back = item.moved_to(item.at_ms(), item.entry.since_ms - 600_000);
        assert_ne!(put_back.params().idempotency_key, item.params().idempotency_key);
        let own = Entry { idempotency_key: "own".into(), ..item.entry.clone() };
        assert_eq!(Item::new(own).unwrap().params().idempotency_key, "own");
    }

    #[test]
    fn after_the_clock_was_put_back_a_rhythm_goes_on_and_a_fixed_time_does_not_come_twice() {
        let put_back = |pattern: &str, by_ms: u64| {
            // It has just run at eight.
            let ran = every(pattern, EIGHT).next(EIGHT).unwrap();
            ran.after_clock_went_back(EIGHT - by_ms).map(|item| item.at_ms())
        };
        assert_eq!(put_back("*/5 * * * *", HOUR), Some(EIGHT - HOUR + 300_000));
        assert_eq!(put_back("*/5 * * * *", 60_000), None);
        assert_eq!(put_back("0 8 * * *", HOUR), None);
        assert_eq!(put_back("0 8 * * *", 4 * HOUR), Some(EIGHT));
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let entry =
            Entry { tags: [("a".into(), "b".into())].into(), ..every("* * * * *", EIGHT).entry.clone() };
        let written = Record::put(&entry);
        let read = Record::decode(written.clone()).unwrap();
        assert_eq!(written, read.encode_to_vec());
        assert_eq!((read.put, read.ended.as_str()), (Some(entry), ""));
        assert_eq!(Record::decode(Record::ended("i")).unwrap().ended, "i");
    }
}
