//! Runs rows without the binary `bowline`: `cargo run -p bowline-incidents --example row -- B8 reduced`.

use std::process::ExitCode;

use bowline_incidents::command::{Output, Request, perform, select};
use bowline_incidents::{Scale, kit};

fn main() -> ExitCode {
    if let Some(ended) = bowline_incidents::kit::child::run_if_child() {
        return ended;
    }
    let (scales, ids): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|word| Scale::named(word).is_some());
    let rows = match select(&ids) {
        Ok(rows) => rows,
        Err(unknown) => {
            eprintln!("{unknown}\nusage: row [ID…] [reduced|usual|full]");
            return ExitCode::from(2);
        }
    };
    let scale = scales.first().and_then(|word| Scale::named(word)).unwrap_or(Scale::Usual);
    let report = std::env::var_os("REPORT").map(Into::into);
    let request = Request { rows, scale, output: Output::Text, is_strict: false, report, table_in: None };
    let ended = perform(&request);
    kit::end_all();
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
