//! Every file that the fuzz targets have found worth keeping, once more, and what is near to them: seconds instead of hours, on
//! every toolchain.

mod promises;

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use promises::Promise;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// A target: its name, what it promises, and its files.
type Corpus = (&'static str, Promise, Vec<Vec<u8>>);

static CORPORA: LazyLock<Vec<Corpus>> = LazyLock::new(|| {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let read = |(name, promise): (&'static str, Promise)| {
        let directory = fs::read_dir(corpora.join(name)).unwrap();
        let mut paths: Vec<_> = directory.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        (name, promise, paths.iter().map(|path| fs::read(path).unwrap()).collect())
    };
    promises::ALL.into_iter().map(read).collect()
});

#[test]
fn no_file_of_the_corpora_breaks_a_promise() {
    for (name, promise, files) in &*CORPORA {
        assert!(files.len() >= 10, "{name} has {} files: they were not found", files.len());
        for file in files {
            let kept = std::panic::catch_unwind(|| promise(file));
            assert!(kept.is_ok(), "{name} is broken by {:?}", String::from_utf8_lossy(file));
        }
        promise(b"");
    }
}

proptest! {
    /// Bytes that are changed, left out, put in, or come from another file of the same target.
    #[test]
    fn nothing_near_to_the_corpora_breaks_a_promise(
        target in any::<Index>(),
        files in any::<[Index; 2]>(),
        cuts in any::<[Index; 2]>(),
        edits in vec((any::<Index>(), any::<u8>(), 0..3_u8), 0..6),
    ) {
        let (_, promise, corpus) = target.get(&CORPORA);
        let [head, tail] = files.map(|file| file.get(corpus));
        let [head_end, tail_start] = [cuts[0].index(head.len() + 1), cuts[1].index(tail.len() + 1)];
        let mut bytes = [&head[..head_end], &tail[tail_start..]].concat();
        for (at, byte, edit) in edits {
            let at = at.index(bytes.len() + 1);
            match edit {
                0 => bytes.insert(at, byte),
                _ if at == bytes.len() => {}
                1 => bytes[at] = byte,
                _ => drop(bytes.remove(at)),
            }
        }
        promise(&bytes);
    }
}
