//! `bowline config`: checks a settings file, and prints every setting there is.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::config::{Config, ConfigError, Sources, process_env, render_defaults};

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
    Check {
        /// The settings file: .toml, .json, .yaml or .yml.
        file: PathBuf,
    },
    /// Prints a settings file in TOML with every key, its default and its effect.
    Defaults,
}

/// Why the command failed.
#[derive(Debug)]
pub enum ConfigCommandError {
    /// The settings are wrong.
    Config(ConfigError),
    /// The output could not be written.
    Output(std::io::Error),
}

impl std::fmt::Display for ConfigCommandError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
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
        ConfigCommand::Check { file } => check(file, process_env())?,
        ConfigCommand::Defaults => render_defaults(),
    };
    super::print(text).map_err(ConfigCommandError::Output)
}

/// Loads the settings as `bowline serve` would, and says what it finds.
fn check(file: &std::path::Path, env: impl Iterator<Item = (String, String)>) -> Result<String, ConfigError> {
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
