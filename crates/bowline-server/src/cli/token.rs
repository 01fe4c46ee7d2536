//! `bowline token`: makes a connection or subscription token, for trying things out.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::config::{Config, ConfigError, Secret, Sources, Token, process_env};
use crate::token::{MintError, mint, unix_now};

/// Makes a token for a user, for trying things out.
///
/// The key comes from the settings: the file, or the environment variable BOWLINE_CLIENT_TOKEN_HMAC_SECRET_KEY. It
/// cannot be given as an argument, because every user of the machine can read those.
#[derive(Debug, Clone, Args)]
pub struct TokenArgs {
    /// Id of the user; empty for an anonymous one.
    #[arg(long, value_name = "ID", default_value = "")]
    pub user: String,
    /// Makes a subscription token for this channel instead of a connection token.
    #[arg(long, value_name = "CHANNEL")]
    pub channel: Option<String>,
    /// Time until the token expires, such as 30m or 24h; 0 for never.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = ttl)]
    pub ttl: Duration,
    /// Settings file that holds the key.
    #[arg(long, value_name = "FILE", env = "BOWLINE_CONFIG")]
    pub config: Option<PathBuf>,
}

/// Why no token was made.
#[derive(Debug)]
pub enum TokenCommandError {
    /// The settings are wrong.
    Config(ConfigError),
    /// The settings hold no key. Holds the environment variable that would.
    NoKey(&'static str),
    /// The claims could not be written.
    Mint(MintError),
    /// The output could not be written.
    Output(std::io::Error),
}

impl std::fmt::Display for TokenCommandError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::NoKey(variable) => {
                write!(
                    f,
                    "there is no key to sign with: set {variable}, or give a settings file with --config"
                )
            }
            Self::Mint(error) => error.fmt(f),
            Self::Output(error) => write!(f, "the output cannot be written: {error}"),
        }
    }
}

impl std::error::Error for TokenCommandError {}

impl From<ConfigError> for TokenCommandError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<MintError> for TokenCommandError {
    fn from(error: MintError) -> Self {
        Self::Mint(error)
    }
}

/// Prints the token.
///
/// # Errors
///
/// [`TokenCommandError`] if the settings are wrong or hold no key, or the output cannot be written.
pub fn run(args: &TokenArgs) -> Result<(), TokenCommandError> {
    let config = Config::load(Sources { file: args.config.clone(), ..Sources::of_env(process_env()) })?;
    let token = make(args, &config, unix_now())?;
    super::print(format_args!("{token}\n")).map_err(TokenCommandError::Output)
}

/// Makes the token at the time `now`, in seconds since 1970.
fn make(args: &TokenArgs, config: &Config, now: u64) -> Result<String, TokenCommandError> {
    let (settings, variable) = match &args.channel {
        Some(_) if config.client.subscription_token.enabled => {
            (&config.client.subscription_token.token, "BOWLINE_CLIENT_SUBSCRIPTION_TOKEN_HMAC_SECRET_KEY")
        }
        _ => (&config.client.token, "BOWLINE_CLIENT_TOKEN_HMAC_SECRET_KEY"),
    };
    let secret: &Secret = settings.hmac_secret_key.as_ref().ok_or(TokenCommandError::NoKey(variable))?;
    Ok(mint(secret, &Claims::new(args, settings, now))?)
}

/// The claims of the token: those that the settings check are filled in where that is possible.
#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    iat: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(flatten)]
    user_claim: Option<std::collections::BTreeMap<&'a str, &'a str>>,
}

impl<'a> Claims<'a> {
    fn new(args: &'a TokenArgs, settings: &'a Token, now: u64) -> Self {
        // The claim of the user may be `sub` itself, which must not stand twice.
        let own = settings.user_id_claim.as_deref().filter(|claim| *claim != "sub");
        Self {
            sub: &args.user,
            iat: now,
            exp: (!args.ttl.is_zero()).then(|| now.saturating_add(args.ttl.as_secs().max(1))),
            channel: args.channel.as_deref(),
            aud: settings.audience.as_deref(),
            iss: settings.issuer.as_deref(),
            user_claim: own.map(|claim| [(claim, args.user.as_str())].into()),
        }
    }
}

/// Reads the time to live.
fn ttl(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    match humantime::parse_duration(text) {
        Ok(duration) if duration <= crate::config::LONGEST_DURATION => Ok(duration),
        _ => Err("expected a duration with its unit, such as 30m or 24h, or 0".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::token::TokenVerifier;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: TokenArgs,
    }

    const NOW: u64 = 1_800_000_000;

    fn args(line: &[&str]) -> TokenArgs {
        Command::try_parse_from([&["token"], line].concat()).expect("the arguments are right").args
    }

    fn config(toml_free: &[(&str, &str)]) -> Config {
        let env = toml_free.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::load(Sources::of_env(env)).expect("valid")
    }

    const KEY: (&str, &str) = ("BOWLINE_CLIENT_TOKEN_HMAC_SECRET_KEY", "0123456789abcdef0123456789abcdef");

    #[test]
    fn the_token_passes_the_checks_of_the_same_settings() {
        let config = config(&[
            KEY,
            ("BOWLINE_CLIENT_TOKEN_AUDIENCE", "app"),
            ("BOWLINE_CLIENT_TOKEN_ISSUER", "me"),
            ("BOWLINE_CLIENT_TOKEN_USER_ID_CLAIM", "uid"),
        ]);
        let token = make(&args(&["--user", "42", "--ttl", "30m"]), &config, NOW).expect("has a key");
        let claims =
            TokenVerifier::from_config(&config.client).verify_connection(&token, NOW).expect("valid");
        assert_eq!((claims.user.as_str(), claims.expire_at), ("42", Some(NOW + 1800)));
    }

    #[test]
    fn a_channel_makes_a_subscription_token_with_the_key_for_those() {
        let own = ("BOWLINE_CLIENT_SUBSCRIPTION_TOKEN_HMAC_SECRET_KEY", "a key for subscriptions only ....");
        let config = config(&[KEY, own, ("BOWLINE_CLIENT_SUBSCRIPTION_TOKEN_ENABLED", "true")]);
        let token = make(&args(&["--user", "42", "--channel", "$a"]), &config, NOW).expect("has a key");
        let verifier = TokenVerifier::from_config(&config.client);
        let claims = verifier.verify_subscription(&token, NOW).expect("valid");
        assert_eq!((claims.user.as_str(), claims.channel.as_str()), ("42", "$a"));
        assert_eq!(claims.expire_at, Some(NOW + 3600), "an hour unless told otherwise");
        assert!(verifier.verify_connection(&token, NOW).is_err());
    }

    #[test]
    fn a_ttl_of_zero_never_expires() {
        let config = config(&[KEY]);
        let token = make(&args(&["--ttl", "0"]), &config, NOW).expect("has a key");
        let claims = TokenVerifier::from_config(&config.client).verify_connection(&token, u64::MAX);
        assert_eq!(claims.expect("valid").expire_at, None);
    }

    #[test]
    fn without_a_key_the_variable_is_named() {
        let error = make(&args(&[]), &Config::default(), NOW).expect_err("no key").to_string();
        assert!(error.contains("BOWLINE_CLIENT_TOKEN_HMAC_SECRET_KEY"), "{error}");
    }

    #[test]
    fn the_key_cannot_be_an_argument() {
        assert!(Command::try_parse_from(["token", "--secret", "x"]).is_err());
        assert!(Command::try_parse_from(["token", "--ttl", "soon"]).is_err());
    }
}
