//! How a channel name divides into namespace, rest and the users it is limited to.
//!
//! ```
//! use bowline_protocol::channel::ChannelRules;
//!
//! let rules = ChannelRules::default();
//! let name = rules.parse("$chat:dialog#42,43")?;
//! assert!(name.is_private());
//! assert_eq!(name.namespace(), Some("chat"));
//! assert_eq!(name.rest(), "dialog#42,43");
//! assert!(name.lists_user("42") && !name.lists_user("4"));
//! # Ok::<(), bowline_protocol::channel::ChannelError>(())
//! ```
//!
//! Nothing here decides who may do what: these are the facts a permission rule asks for.

use std::fmt;

/// The signs that divide channel names. An empty one switches its meaning off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelRules {
    /// The prefix of channels that always need a subscription token.
    pub private_prefix: String,
    /// What separates the namespace from the rest.
    pub namespace_boundary: String,
    /// What separates the rest from the list of users.
    pub user_boundary: String,
    /// What separates the users from each other.
    pub user_separator: String,
    /// The longest name in bytes.
    pub max_length_bytes: usize,
}

impl ChannelRules {
    /// Long enough for several ids in one name, short enough to be copied and logged without care.
    pub const DEFAULT_MAX_LENGTH_BYTES: usize = 255;

    /// Divides `name`.
    ///
    /// # Errors
    ///
    /// Names that are empty or too long are refused. Whether the characters are right depends on the namespace,
    /// and is asked of the result with [`ChannelName::require_ascii`].
    pub fn parse<'a>(&'a self, name: &'a str) -> Result<ChannelName<'a>, ChannelError> {
        if name.is_empty() {
            return Err(ChannelError::Empty);
        }
        if name.len() > self.max_length_bytes {
            return Err(ChannelError::TooLong { limit_bytes: self.max_length_bytes });
        }
        let public = strip_prefix(name, &self.private_prefix);
        let is_private = public.is_some();
        let public = public.unwrap_or(name);
        let (namespace, rest) = match split_at(public, &self.namespace_boundary, str::split_once) {
            Some((namespace, rest)) => (Some(namespace), rest),
            None => (None, public),
        };
        let users = split_at(name, &self.user_boundary, str::rsplit_once).map(|(_, users)| users);
        Ok(ChannelName { name, namespace, rest, is_private, users, user_separator: &self.user_separator })
    }

    /// Returns the personal channel of a user, in `namespace` if that is not empty.
    ///
    /// An anonymous user has none, because everyone without an id would share it; nor has a user whose id holds
    /// one of the signs of a user list, because the name would list others.
    pub fn personal_channel(&self, namespace: &str, user: &str) -> Option<String> {
        let holds = |sign: &str| !sign.is_empty() && user.contains(sign);
        if user.is_empty() || holds(&self.user_boundary) || holds(&self.user_separator) {
            return None;
        }
        let (namespace, boundary) =
            if namespace.is_empty() { ("", "") } else { (namespace, self.namespace_boundary.as_str()) };
        Some(format!("{namespace}{boundary}{}{user}", self.user_boundary))
    }
}

impl Default for ChannelRules {
    fn default() -> Self {
        Self {
            private_prefix: "$".to_owned(),
            namespace_boundary: ":".to_owned(),
            user_boundary: "#".to_owned(),
            user_separator: ",".to_owned(),
            max_length_bytes: Self::DEFAULT_MAX_LENGTH_BYTES,
        }
    }
}

/// A channel name with its parts, borrowed from the text and the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelName<'a> {
    name: &'a str,
    namespace: Option<&'a str>,
    rest: &'a str,
    is_private: bool,
    users: Option<&'a str>,
    user_separator: &'a str,
}

impl<'a> ChannelName<'a> {
    /// Returns the whole name.
    pub fn as_str(&self) -> &'a str {
        self.name
    }

    /// Returns the namespace, or `None` for a name without one. It may be empty, which no namespace is called.
    pub fn namespace(&self) -> Option<&'a str> {
        self.namespace
    }

    /// Returns what follows the namespace, or the whole name without the private prefix if there is none.
    pub fn rest(&self) -> &'a str {
        self.rest
    }

    /// Returns whether a subscription token is mandatory.
    pub fn is_private(&self) -> bool {
        self.is_private
    }

    /// Returns whether the name ends in a list of users.
    pub fn is_user_limited(&self) -> bool {
        self.users.is_some()
    }

    /// Returns the users the name lists; none if it has no list.
    pub fn users(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let separator = self.user_separator;
        let mut rest = self.users;
        std::iter::from_fn(move || {
            let users = rest?;
            let (user, others) = match split_at(users, separator, str::split_once) {
                Some((user, others)) => (user, Some(others)),
                None => (users, None),
            };
            rest = others;
            Some(user)
        })
        // `dialog#` lists nobody; in particular it does not list the anonymous user, whose id is empty.
        .filter(|user| !user.is_empty())
    }

    /// Returns whether the name lists `user`. An anonymous user, whose id is empty, is never listed.
    pub fn lists_user(&self, user: &str) -> bool {
        self.users().any(|listed| listed == user)
    }

    /// Checks the characters, where the namespace sets no rule of its own.
    ///
    /// # Errors
    ///
    /// [`ChannelError::NotAscii`] if any character is outside ASCII.
    pub fn require_ascii(&self) -> Result<(), ChannelError> {
        if self.name.is_ascii() { Ok(()) } else { Err(ChannelError::NotAscii) }
    }
}

/// Why a text is not a channel name. The client must use another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChannelError {
    /// The name is empty.
    Empty,
    /// The name has more bytes than allowed.
    TooLong {
        /// The limit.
        limit_bytes: usize,
    },
    /// The name has characters outside ASCII.
    NotAscii,
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("channel name is empty"),
            Self::TooLong { limit_bytes } => write!(f, "channel name is longer than {limit_bytes} bytes"),
            Self::NotAscii => f.write_str("channel name is not ASCII"),
        }
    }
}

impl std::error::Error for ChannelError {}

/// Returns whether a namespace may be called `name`: two or more of letters, digits, `-`, `_` and `.`.
pub fn is_namespace_name(name: &str) -> bool {
    name.len() >= 2 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn strip_prefix<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    if prefix.is_empty() { None } else { text.strip_prefix(prefix) }
}

fn split_at<'a>(
    text: &'a str,
    boundary: &'a str,
    split: fn(&'a str, &'a str) -> Option<(&'a str, &'a str)>,
) -> Option<(&'a str, &'a str)> {
    if boundary.is_empty() { None } else { split(text, boundary) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_divide_at_the_first_namespace_boundary_after_the_private_prefix() {
        let rules = ChannelRules::default();
        for (text, is_private, namespace, rest) in [
            ("news", false, None, "news"),
            ("chat:room", false, Some("chat"), "room"),
            ("chat:room:1", false, Some("chat"), "room:1"),
            ("$chat:room", true, Some("chat"), "room"),
            ("$news", true, None, "news"),
            ("$$a:b", true, Some("$a"), "b"),
            (":room", false, Some(""), "room"),
            ("chat:", false, Some("chat"), ""),
            ("#42", false, None, "#42"),
        ] {
            let name = rules.parse(text).unwrap();
            let parts = (name.is_private(), name.namespace(), name.rest());
            assert_eq!(parts, (is_private, namespace, rest), "{text}");
            assert_eq!(name.as_str(), text);
        }
    }

    #[test]
    fn the_last_user_boundary_starts_the_list() {
        let rules = ChannelRules::default();
        for (text, users) in [
            ("dialog", None),
            ("dialog#42", Some(vec!["42"])),
            ("dialog#42,43", Some(vec!["42", "43"])),
            ("ns:a#b#1,2", Some(vec!["1", "2"])),
            ("dialog#", Some(vec![])),
            ("dialog#,1,", Some(vec!["1"])),
        ] {
            let name = rules.parse(text).unwrap();
            assert_eq!(name.is_user_limited(), users.is_some(), "{text}");
            assert_eq!(name.users().collect::<Vec<_>>(), users.unwrap_or_default(), "{text}");
            assert!(!name.lists_user(""), "{text} must not list the anonymous user");
        }
    }

    #[test]
    fn empty_signs_switch_their_meaning_off() {
        let rules = ChannelRules {
            private_prefix: String::new(),
            namespace_boundary: String::new(),
            user_boundary: String::new(),
            ..ChannelRules::default()
        };
        let name = rules.parse("$a:b#1").unwrap();
        assert!(!name.is_private() && !name.is_user_limited());
        assert_eq!((name.namespace(), name.rest()), (None, "$a:b#1"));

        let rules = ChannelRules { user_separator: String::new(), ..ChannelRules::default() };
        assert!(rules.parse("a#1,2").unwrap().lists_user("1,2"));
    }

    #[test]
    fn empty_long_and_foreign_names_are_told_apart() {
        let rules = ChannelRules::default();
        assert_eq!(rules.parse(""), Err(ChannelError::Empty));
        assert!(rules.parse(&"a".repeat(255)).is_ok());
        assert_eq!(rules.parse(&"a".repeat(256)), Err(ChannelError::TooLong { limit_bytes: 255 }));
        assert_eq!(rules.parse("привет").unwrap().require_ascii(), Err(ChannelError::NotAscii));
        assert_eq!(rules.parse("hello").unwrap().require_ascii(), Ok(()));
    }

    #[test]
    fn personal_channels_name_their_user() {
        let rules = ChannelRules::default();
        assert_eq!(rules.personal_channel("", "42").as_deref(), Some("#42"));
        assert_eq!(rules.personal_channel("me", "42").as_deref(), Some("me:#42"));
        for user in ["", "1,2", "1#2"] {
            assert_eq!(rules.personal_channel("me", user), None, "{user}");
        }
    }

    #[test]
    fn namespace_names_are_plain_words() {
        for name in ["ab", "chat-1", "a_b.c"] {
            assert!(is_namespace_name(name), "{name}");
        }
        for name in ["", "a", "a b", "a:b", "é1"] {
            assert!(!is_namespace_name(name), "{name}");
        }
    }
}
