//! A dump of very many tasks takes the memory of a few. Alone in its file, because it looks at the memory of its process.

#![cfg(target_os = "linux")]

use std::collections::HashSet;
use std::io::{self, Write};
use std::time::Duration;

use bowline::{Cancelled, debug, scope, sleep};

/// Memory this process has in use.
fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("there is such a line");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("it is a number")
}

/// Takes a dump line by line, as a reader far away would, and remembers the ids alone.
#[derive(Default)]
struct Reader {
    line: Vec<u8>,
    ids: HashSet<u64>,
    bytes: usize,
    longest_piece: usize,
}

impl Write for Reader {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.bytes += piece.len();
        self.longest_piece = self.longest_piece.max(piece.len());
        for byte in piece {
            if *byte != b'\n' {
                self.line.push(*byte);
                continue;
            }
            if let Some(id) = self.line.strip_prefix(b"{\"id\":") {
                let digits = id.iter().take_while(|byte| byte.is_ascii_digit()).count();
                let id = std::str::from_utf8(&id[..digits]).unwrap().parse().unwrap();
                assert!(self.ids.insert(id), "#{id} stands twice");
            }
            self.line.clear();
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[bowline::test(timeout_secs = 300)]
async fn a_dump_of_a_hundred_thousand_tasks_has_each_once_and_takes_the_memory_of_a_few() {
    const TASKS: usize = 100_000;
    // All rows at once would be 20 MB and more.
    const ALLOWED_KIB: usize = 4 * 1024;
    let done = scope("connections", async |s| {
        for _ in 0..TASKS {
            s.spawn("connection", sleep(Duration::from_secs(3_600)));
        }
        tokio::task::yield_now().await;
        let mut reader = Reader { ids: HashSet::with_capacity(2 * TASKS), ..Reader::default() };
        debug::write_tasks(&mut io::sink()).unwrap(); // what the first walk touches
        let before = resident_kib();
        debug::write_tasks(&mut reader).unwrap();
        let grown = resident_kib().saturating_sub(before);
        assert_eq!(reader.ids.len(), TASKS);
        assert!(reader.bytes > 15 * TASKS * 10, "{} bytes", reader.bytes);
        assert!(reader.longest_piece < 64 * 1024, "a piece of {} bytes", reader.longest_piece);
        assert!(grown < ALLOWED_KIB, "grew by {grown} KiB");
        // Whatever is cut or sorted has a bounded number of rows and pieces as well.
        for query in ["sort=age", "format=json&limit=10", "name=nobody", "limit=all"] {
            let page = debug::answer("/debug/bowline/tasks", Some(query), None).unwrap();
            assert!(page.body.map(|piece| piece.len()).max().unwrap() < 64 * 1024, "{query}");
        }
        let page = debug::answer("/debug/bowline/tree", None, None).unwrap();
        let text = String::from_utf8(page.body.into_bytes()).unwrap();
        assert!(text.starts_with("100000 tasks") && text.contains("… 99990 more `connection`"), "{text}");
        s.cancel("the test is over");
        Ok::<_, Cancelled>(())
    });
    assert!(done.await.is_err(), "it was cancelled");
}
