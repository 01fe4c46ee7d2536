//! Runs every kernel, prints the tables and what they come to, and fails on any miss or false report.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Mutex;

use clap::Parser;
use goker::kernels;
use goker::score::{Generated, Table, WORKERS};
use goker::summary::Score;

/// Runs real concurrency bugs as kernels: which of them cannot be written with Bowline, end by themselves, or are proved and
/// rightly named.
///
/// Exits with 0 if nothing was missed and nothing false was said, 1 if something was, 2 if an argument is wrong.
#[derive(Debug, Parser)]
#[command(name = "goker", version)]
struct Options {
    /// How many seeds each form is run under, and a part of the names of the kernels to run: `goker 50 moby`
    #[arg(value_name = "SEEDS|NAME", num_args = 0..=2)]
    what: Vec<String>,
    /// How often each form is run on each number of workers
    #[arg(long, value_name = "TIMES", default_value_t = 2)]
    on_threads: u64,
    /// The numbers of workers
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_values_t = WORKERS)]
    workers: Vec<usize>,
    /// How many random programs are run; none if only some kernels are
    #[arg(long, value_name = "PROGRAMS")]
    programs: Option<u64>,
    /// Prints one JSON object instead of tables
    #[arg(long)]
    json: bool,
}

/// How many seeds a form is run under if nothing is said.
const SCHEDULES: u64 = 1_000;
/// How many random programs are run if nothing is said.
const PROGRAMS: u64 = 10_000;

/// What is to be run.
struct Wanted {
    seeds: u64,
    part: String,
}

impl Wanted {
    fn of(what: &[String]) -> Result<Self, String> {
        let mut wanted = Self { seeds: SCHEDULES, part: String::new() };
        let mut numbers = 0;
        for word in what {
            match word.parse() {
                Ok(0) => return Err("a form is run under one seed at least".to_owned()),
                Ok(seeds) => {
                    wanted.seeds = seeds;
                    numbers += 1;
                }
                Err(_) if kernels::all().any(|kernel| kernel.name.contains(word.as_str())) => {
                    wanted.part.clone_from(word);
                }
                Err(_) => return Err(format!("no kernel has `{word}` in its name; there are {}", names())),
            }
        }
        if what.len() == 2 && numbers != 1 {
            return Err("two words are a number of seeds and a part of a name".to_owned());
        }
        Ok(wanted)
    }
}

fn names() -> String {
    let names: Vec<_> = kernels::all().map(|kernel| kernel.name).collect();
    names.join(", ")
}

fn main() -> ExitCode {
    let options = Options::parse();
    let wanted = match Wanted::of(&options.what) {
        Ok(wanted) if options.workers.iter().all(|workers| *workers > 0) => wanted,
        Ok(_) => return wrong("a runtime has one worker at least"),
        Err(why) => return wrong(&why),
    };
    let progress = Progress::default();
    let seeded =
        Table::by_seed(&wanted.part, wanted.seeds, &|done, all| progress.show("under seeds", done, all));
    let threads = Table::on_threads(&wanted.part, &options.workers, options.on_threads, &|done, all| {
        progress.show("on threads", done, all);
    });
    let programs = options.programs.unwrap_or(if wanted.part.is_empty() { PROGRAMS } else { 0 });
    let generated = Generated::run(0..programs, &|done, all| progress.show("random programs", done, all));
    progress.clear();
    let score = Score { seeds: wanted.seeds, workers: options.workers, seeded, threads, generated };
    let written = if options.json {
        serde_json::to_writer(io::stdout().lock(), &score).map_err(Into::into)
    } else {
        write!(io::stdout().lock(), "{score}")
    };
    match written {
        // Whoever reads only the beginning has gone.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => wrong(&error.to_string()),
        _ if score.is_clean() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn wrong(why: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "error: {why}\n\nFor more information, try '--help'.");
    ExitCode::from(2)
}

/// A line on a terminal that says how far it is.
#[derive(Default)]
struct Progress(Mutex<String>);

impl Progress {
    fn show(&self, what: &str, done: usize, all: usize) {
        let mut shown = self.0.lock().expect("nobody panics with it");
        let line = format!("{what}: {done} of {all}");
        if io::stderr().is_terminal() && *shown != line {
            let _ = write!(io::stderr(), "\r\x1b[2K{line}");
            *shown = line;
        }
    }

    fn clear(&self) {
        if !self.0.lock().expect("nobody panics with it").is_empty() {
            let _ = write!(io::stderr(), "\r\x1b[2K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(words: &[&str]) -> Result<(u64, String), String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        Wanted::of(&words).map(|wanted| (wanted.seeds, wanted.part))
    }

    #[test]
    fn a_number_is_of_seeds_and_a_word_is_part_of_a_name_in_any_order() {
        assert_eq!(wanted(&[]), Ok((SCHEDULES, String::new())));
        assert_eq!(wanted(&["50", "moby"]), Ok((50, "moby".to_owned())));
        assert_eq!(wanted(&["moby", "50"]), Ok((50, "moby".to_owned())));
    }

    #[test]
    fn a_wrong_argument_is_answered_with_what_there_is() {
        assert!(
            wanted(&["mobby"])
                .unwrap_err()
                .contains("no kernel has `mobby` in its name; there are cockroach#")
        );
        assert!(wanted(&["0"]).is_err());
        assert!(wanted(&["5", "6"]).is_err());
        assert!(wanted(&["moby", "grpc"]).is_err());
        assert!(Options::try_parse_from(["goker", "--workers", "x"]).is_err());
    }
}
