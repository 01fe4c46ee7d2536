//! Commits of 100 records over 10,000 channels, one after the other: what an engine makes of one writer.

use std::path::Path;
use std::time::Instant;

use bowline_store::{Durability, StreamStore};

use super::{PAYLOAD, append, with_store};

const COMMIT: usize = 100;

fn key(commit: usize, index: usize) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&(((commit * COMMIT + index) % 10_000) as u32).to_be_bytes());
    key[4..].copy_from_slice(&(commit as u64).to_be_bytes());
    key
}

pub(crate) fn run(directory: &Path) {
    println!("| engine | sync per commit | records/s |");
    println!("|---|---|---:|");
    for round in 0..3 {
        for sync in [true, false] {
            let commits = if sync { 2_000 } else { 5_000 };
            let says = if sync { "yes" } else { "no" };
            for (name, engine) in
                [("bowline", ours as fn(&Path, usize, bool)), ("fjall", fjall), ("redb", redb)]
            {
                let began = Instant::now();
                engine(directory, commits, sync);
                let rate = (commits * COMMIT) as f64 / began.elapsed().as_secs_f64();
                println!("| {name} ({round}) | {says} | {rate:.0} |");
                let _ = std::fs::remove_dir_all(directory);
            }
        }
    }
}

fn ours(directory: &Path, commits: usize, sync: bool) {
    let durability = if sync { Durability::Always } else { Durability::Never };
    let channels: Vec<String> = (0..10_000).map(|channel| format!("{channel}")).collect();
    with_store(directory, |store| {
        for commit in 0..commits {
            let receipts: Vec<_> = (0..COMMIT)
                .map(|index| {
                    let channel = &channels[(commit * COMMIT + index) % channels.len()];
                    store.append(append(channel, durability)).expect("there is room")
                })
                .collect();
            for receipt in receipts {
                receipt.wait_blocking().expect("it is kept");
            }
        }
    });
}

fn fjall(directory: &Path, commits: usize, sync: bool) {
    let database = fjall::Database::builder(directory).open().expect("open");
    let keyspace = database.keyspace("streams", fjall::KeyspaceCreateOptions::default).expect("keyspace");
    for commit in 0..commits {
        let mut batch = database.batch();
        for index in 0..COMMIT {
            batch.insert(&keyspace, key(commit, index), PAYLOAD);
        }
        batch.commit().expect("commit");
        if sync {
            database.persist(fjall::PersistMode::SyncData).expect("sync");
        }
    }
}

fn redb(directory: &Path, commits: usize, sync: bool) {
    std::fs::create_dir_all(directory).expect("a directory");
    let database = redb::Database::create(directory.join("redb")).expect("open");
    let table: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new("streams");
    for commit in 0..commits {
        let mut write = database.begin_write().expect("begin");
        if !sync {
            write.set_durability(redb::Durability::None).expect("durability");
        }
        {
            let mut table = write.open_table(table).expect("table");
            for index in 0..COMMIT {
                table.insert(&key(commit, index)[..], PAYLOAD).expect("insert");
            }
        }
        write.commit().expect("commit");
    }
}
