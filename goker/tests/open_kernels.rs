//! Every form under some seeds, and once on real threads: what is left is what its kernel says, and is proved.

use goker::score::{Row, Table};

/// Few enough for every push; the binary runs 1,000.
const SCHEDULES: u64 = 30;

/// The binary runs 1, 2, 4 and 10 of them.
const WORKERS: [usize; 1] = [2];

/// What the detector does not prove yet, by kernel: none of these. A gap that is none any more fails.
const GAPS: &[&str] = &[];

fn judged(table: &Table) {
    let is_gap = |row: &&Row| GAPS.contains(&row.kernel) && row.missed > 0 && row.wrong == 0;
    let gaps: Vec<_> = table.rows.iter().filter(is_gap).map(|row| row.kernel).collect();
    assert_eq!(gaps, GAPS, "\n{table}");
    assert!(table.rows.iter().all(|row| row.is_clean() || is_gap(&row)), "\n{table}");
}

#[test]
fn every_form_under_seeds_is_what_it_says_and_is_judged_rightly() {
    judged(&Table::by_seed("", SCHEDULES, &|_, _| {}));
}

#[test]
fn every_form_on_real_threads_is_what_it_says_and_is_judged_rightly() {
    judged(&Table::on_threads("", &WORKERS, 1, &|_, _| {}));
}
