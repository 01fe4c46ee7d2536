//! Reading callgrind's profile: instructions by function, by source file, and by line of the toolkit.
//!
//! Most of a spawn is inlined into a few functions. So the same instructions are shown three times: by the function they
//! ended up in, by the file they were written in, and line by line where that file is ours.

use std::collections::HashMap;

/// Rows below so many instructions per operation are left out.
const WORTH_SHOWING: f64 = 4.0;
/// What stands in the paths of the toolkit's own sources.
const OURS: &str = "crates/bowline/src/";

/// A profile of a whole run.
#[derive(Default)]
pub struct Profile {
    by_function: HashMap<String, u64>,
    by_file: HashMap<String, u64>,
    by_line: HashMap<String, u64>,
}

impl Profile {
    /// Reads what callgrind wrote.
    ///
    /// # Panics
    ///
    /// If it is not in callgrind's format.
    pub fn parse(text: &str) -> Self {
        let mut profile = Self::default();
        let (mut files, mut functions) = (Names::default(), Names::default());
        let (mut file, mut function) = (String::new(), String::new());
        let mut line = 0_i64;
        let mut of_callee = false;
        for entry in text.lines() {
            if let Some((key, value)) = entry.split_once('=') {
                match key {
                    // The file a function begins in, and the files that are inlined into it.
                    "fl" | "fi" | "fe" => file = files.resolve(value),
                    "fn" => function = functions.resolve(value),
                    "cfi" | "cfl" => drop(files.resolve(value)),
                    "cfn" => drop(functions.resolve(value)),
                    "calls" => of_callee = true, // the next line is what the callee cost, and is told there
                    _ => {}
                }
                continue;
            }
            let Some((position, cost)) = entry.split_once(' ') else { continue };
            line = match position.split_at_checked(1) {
                Some(("+", by)) => line + by.parse::<i64>().unwrap_or(0),
                Some(("-", by)) => line - by.parse::<i64>().unwrap_or(0),
                Some(("*", _)) => line,
                _ => match position.parse() {
                    Ok(line) => line,
                    Err(_) => continue, // a line of the header
                },
            };
            if std::mem::take(&mut of_callee) {
                continue;
            }
            let cost: u64 = cost.trim().parse().expect("instructions are all that is counted");
            *profile.by_function.entry(function.clone()).or_default() += cost;
            *profile.by_file.entry(short(&file).to_owned()).or_default() += cost;
            if let Some((_, ours)) = file.split_once(OURS) {
                *profile.by_line.entry(format!("{ours}:{line}")).or_default() += cost;
            }
        }
        profile
    }

    /// Prints the three tables, per operation.
    pub fn print(&self, operations: u64) {
        print_sorted("function they ended up in", &self.by_function, operations);
        print_sorted("file they were written in", &self.by_file, operations);
        print_sorted("line of the toolkit", &self.by_line, operations);
    }
}

fn print_sorted(heading: &str, costs: &HashMap<String, u64>, operations: u64) {
    let total = costs.values().sum::<u64>() as f64 / operations as f64;
    println!("\n{total:8.1}  by the {heading}");
    let mut rows: Vec<_> =
        costs.iter().map(|(name, cost)| (*cost as f64 / operations as f64, name)).collect();
    rows.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    for (cost, name) in rows.into_iter().take_while(|(cost, _)| *cost >= WORTH_SHOWING) {
        println!("{cost:8.1}  {name}");
    }
}

/// The end of a path: the crate and the file.
fn short(path: &str) -> &str {
    if let Some((_, index)) = path.split_once("/registry/src/") {
        return index.split_once('/').map_or(index, |(_, file)| file);
    }
    let marks = ["/library/", "/crates/", "/bench/"];
    marks.iter().find_map(|mark| path.split_once(mark)).map_or(path, |(_, file)| file)
}

/// Callgrind writes a name once, as `(7) name`, and later only `(7)`.
#[derive(Default)]
struct Names(HashMap<String, String>);

impl Names {
    fn resolve(&mut self, word: &str) -> String {
        let (key, name) = word.split_once(' ').unwrap_or((word, ""));
        if name.is_empty() {
            return self.0.get(key).cloned().unwrap_or_else(|| key.to_owned());
        }
        self.0.insert(key.to_owned(), name.to_owned());
        name.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_told_once_and_where_they_were_written() {
        let profile = Profile::parse(
            "events: Ir\n\
             fl=(1) /home/me/bowline/crates/bowline/src/record.rs\nfn=(1) spawn\n10 5\n+2 3\n\
             cfi=(2) /home/me/.cargo/registry/src/index/tokio-1.0.0/src/task.rs\ncfn=(2) bind\ncalls=1 4\n* 100\n\
             fi=(2)\n-5 2\nfe=(1)\n7 1\n\
             fl=(2)\nfn=(2)\n4 90\n",
        );
        assert_eq!(profile.by_function["spawn"], 5 + 3 + 2 + 1);
        assert_eq!(profile.by_function["bind"], 90);
        assert_eq!(profile.by_file["tokio-1.0.0/src/task.rs"], 2 + 90);
        assert_eq!(profile.by_line["record.rs:12"], 3);
        assert_eq!(profile.by_line["record.rs:7"], 1);
    }
}
