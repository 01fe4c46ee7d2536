//! Files that this version of the format was written with stay readable.
//!
//! `tests/durable/version-1` was written once and is never written again: a change of the format gets a number and a
//! directory of its own. `BOWLINE_BLESS=1` writes the directory if there is none.

use std::path::PathBuf;
use std::time::Duration;

use bowline_store::disk::Directory;
use bowline_store::durable::{DurableStore, OpenError, Opened, Options};
use bowline_store::{Append, Appended, Publication, Retention, StreamStore, Version};

use super::support::{Running, Scratch, all, texts};

/// For ever, as far as a test can say.
const LONG: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

fn kept() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/durable/version-1")
}

fn append(word: &str) -> Append<'static> {
    Append::new("channel", Publication::new(word.to_owned()), Retention::new(3, LONG, LONG))
}

fn write() {
    let options = Options { segment_bytes: 150, ..Options::default() };
    let Opened { store, mut writer, keeper, .. } =
        DurableStore::open(Directory::new(kept()), options).expect("open");
    for number in 1..=5 {
        let mut append = append(&format!("publication {number}"));
        append.version = Some(Version { number, epoch: "versions" });
        let receipt = store.append(append).expect("append");
        writer.run_once();
        receipt.wait_blocking().expect("commit");
    }
    store.position("only read", LONG).expect("position");
    writer.run_once();
    keeper.tend_driving(&mut writer);
    store.close();
    writer.run();
    std::fs::remove_file(kept().join("lock")).expect("the lock is no part of the format");
}

fn copy() -> Scratch {
    let scratch = Scratch::new();
    std::fs::create_dir(&scratch.0).expect("a directory");
    for entry in std::fs::read_dir(kept()).expect("the files are kept") {
        let entry = entry.expect("an entry");
        std::fs::copy(entry.path(), scratch.0.join(entry.file_name())).expect("copy");
    }
    scratch
}

#[test]
fn files_of_version_1_are_read() {
    if std::env::var_os("BOWLINE_BLESS").is_some() && !kept().exists() {
        write();
    }
    let scratch = copy();
    let store = Running::open(scratch.disk(), Options::default());
    assert!(store.recovered.was_closed, "{:?}", store.recovered);
    assert!(store.recovered.files > 2 && store.recovered.scanned_files == 1, "{:?}", store.recovered);
    let page = all(&store, "channel");
    assert_eq!(page.top.offset, 5);
    assert_eq!(texts(&page), ["publication 3", "publication 4", "publication 5"]);
    assert_eq!(store.stats().streams, 2);
    let mut stale = append("stale");
    stale.version = Some(Version { number: 5, epoch: "versions" });
    assert_eq!(store.append(stale).expect("append").into_outcome(), Appended::Stale(page.top));
}

#[test]
fn files_of_a_later_version_are_refused_and_not_touched() {
    let scratch = copy();
    let log = scratch.0.join("0000000000000000.log");
    let mut bytes = std::fs::read(&log).expect("read");
    bytes[8] = 2;
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..48]);
    bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
    std::fs::write(&log, &bytes).expect("write");
    let before = std::fs::read_dir(&scratch.0).expect("list").count();
    let refused = DurableStore::open(scratch.disk(), Options::default()).expect_err("it is later");
    assert!(matches!(&refused, OpenError::Version { version: 2, .. }), "{refused}");
    assert_eq!(std::fs::read(&log).expect("read"), bytes);
    let after = std::fs::read_dir(&scratch.0).expect("list").count();
    assert_eq!(after, before + 1, "nothing but the lock is new");
}
