//! `bowline config`: checks a settings file, and prints every setting there is.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use crate::config::{Config, ConfigError, Report, Sources, process_env, render_defaults};

/// Checks a settings file, or prints every setting with its default.
#[derive(Debug, Clone, Args)]
pub struct ConfigArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// What to do with settings.
#[derive(Debug, Clone, Subcommand)]
pub enum ConfigCommand {
    /// Checks a file, together with the environment, and reports everything that is wrong.
    ///
    /// A settings file of Centrifugo is read as it is: for one, a table says what carries over, what is ignored and why, what
    /// is not supported and what to do instead, and which defaults differ.
    ///
    /// Exit codes: 0 if the server would start with it, 2 if not.
    Check {
        /// The settings file: .toml, .json, .yaml or .yml.
        file: PathBuf,
        /// Shows the table also for a file without a key that only Centrifugo has.
        #[arg(long)]
        table: bool,
        /// Writes the table as JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Prints a settings file in TOML with every key, its default and its effect.
    Defaults,
}

/// Why the command failed.
#[derive(Debug)]
pub enum ConfigCommandError {
    /// The settings are wrong.
    Config(ConfigError),
    /// The settings are wrong; the table says how.
    Refused,
    /// The output could not be written.
    Output(std::io::Error),
}

impl std::fmt::Display for ConfigCommandError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Refused => f.write_str("the server does not start with these settings"),
            Self::Output(error) => write!(f, "the output cannot be written: {error}"),
        }
    }
}

impl std::error::Error for ConfigCommandError {}

impl From<ConfigError> for ConfigCommandError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

/// Runs the command.
///
/// # Errors
///
/// [`ConfigCommandError`] if the settings are wrong or the output cannot be written.
pub fn run(args: &ConfigArgs) -> Result<(), ConfigCommandError> {
    let text = match &args.command {
        ConfigCommand::Check { file, table, json } => {
            let sources = Sources { file: Some(file.clone()), ..Sources::of_env(process_env()) };
            let report = Config::examine(sources);
            if !*table && !*json && !report.is_foreign {
                check(file, process_env())?
            } else {
                let text = if *json { in_json(&report) } else { in_words(&report, file, columns()) };
                super::print(text).map_err(ConfigCommandError::Output)?;
                return if report.valid { Ok(()) } else { Err(ConfigCommandError::Refused) };
            }
        }
        ConfigCommand::Defaults => render_defaults(),
    };
    super::print(text).map_err(ConfigCommandError::Output)
}

fn in_json(report: &Report) -> String {
    let text = serde_json::to_string_pretty(report);
    text.unwrap_or_else(|_| unreachable!("text and switches can be written")) + "\n"
}

fn in_words(report: &Report, file: &Path, columns: usize) -> String {
    let mut text = format!("{}\n\n{}", file.display(), report.text(columns));
    text.push_str(if report.valid {
        "The server starts with it.\n"
    } else {
        "The server does not start with it.\n"
    });
    text
}

/// How wide the terminal is; what is not one is given lines that fit most.
fn columns() -> usize {
    let told = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let is_terminal = std::io::stdout().is_terminal();
    let size = || ratatui::crossterm::terminal::size().ok().filter(|_| is_terminal);
    told.or_else(|| size().map(|(columns, _)| usize::from(columns))).unwrap_or(80)
}

/// Loads the settings as `bowline serve` would, and says what it finds.
fn check(file: &Path, env: impl Iterator<Item = (String, String)>) -> Result<String, ConfigError> {
    let loaded = Config::load_with_notes(Sources { file: Some(file.to_owned()), ..Sources::of_env(env) })?;
    let mut text: String = loaded.notes.iter().map(|note| format!("note: {note}\n")).collect();
    text.push_str(&format!("{}: the settings are valid\n", file.display()));
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_says_what_is_wrong_and_what_is_noteworthy() {
        let path = std::env::temp_dir().join(format!("bowline-check-{}.toml", std::process::id()));
        let check = |text: &str| {
            std::fs::write(&path, text).expect("the temporary directory is writable");
            let result = check(&path, std::iter::empty());
            let _ = std::fs::remove_file(&path);
            result
        };
        assert!(check("[log]\nlevel = \"info\"").expect("valid").ends_with("the settings are valid\n"));
        let noted = check("[client.token]\nhmac_secret_key = \"short\"").expect("valid");
        assert!(noted.starts_with("note: `client.token.hmac_secret_key` is shorter"), "{noted}");
        let error = check("[log]\nlevle = \"info\"").expect_err("unknown key");
        assert!(error.to_string().contains("did you mean `log.level`?"), "{error}");
    }
}
