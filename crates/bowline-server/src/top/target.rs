//! Where the process is: what people type behind `bowline top`.

use std::fmt;

use hyper::Uri;

/// Where `bowline serve` has its internal listener.
const DEFAULT_PORT: u16 = 8001;

/// Where the pages are below a process's address.
const PAGES: &str = "/debug/bowline";

/// A process that mounts `/debug/bowline`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    host: String,
    port: u16,
    /// Where the pages are, without a slash at the end.
    pages: String,
}

/// What was typed is no address of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetError {
    /// It is no URL.
    NotAUrl(String),
    /// The pages are asked for over plain HTTP only.
    Scheme(String),
    /// A name and a password in the URL are not sent.
    Credentials,
}

impl Target {
    /// Reads a URL, or `HOST[:PORT]`.
    ///
    /// # Errors
    ///
    /// [`TargetError`] says what is expected.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        let not_a_url = || TargetError::NotAUrl(text.to_owned());
        let with_scheme = match text.split_once("://") {
            Some(_) => text.to_owned(),
            // `8001` and `:8001` are ports of this machine.
            None => match text.strip_prefix(':').unwrap_or(text).parse::<u16>() {
                Ok(port) => format!("http://127.0.0.1:{port}"),
                Err(_) => format!("http://{text}"),
            },
        };
        let uri: Uri = with_scheme.parse().map_err(|_| not_a_url())?;
        match uri.scheme_str() {
            Some("http") => {}
            other => return Err(TargetError::Scheme(other.unwrap_or_default().to_owned())),
        }
        let authority = uri.authority().ok_or_else(not_a_url)?;
        if authority.as_str().contains('@') {
            return Err(TargetError::Credentials);
        }
        let host = authority.host();
        // What is behind the host must be a port, or nothing.
        let rest = &authority.as_str()[host.len()..];
        if host.is_empty() || (!rest.is_empty() && authority.port_u16().is_none()) {
            return Err(not_a_url());
        }
        let path = uri.path().trim_end_matches('/');
        let before = path.split_once(PAGES).map_or(path, |(before, _)| before);
        Ok(Self {
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(DEFAULT_PORT),
            pages: format!("{before}{PAGES}"),
        })
    }

    /// `host:port`, as a socket and the header `Host` want it.
    pub(super) fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The path of a page.
    pub(super) fn page(&self, page: &str) -> String {
        format!("{}/{page}", self.pages)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = self.pages.strip_suffix(PAGES).unwrap_or_default();
        write!(f, "http://{}:{}{before}", self.host, self.port)
    }
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let example = "such as http://127.0.0.1:8001, or HOST:PORT";
        match self {
            Self::NotAUrl(text) => write!(f, "{text:?} is not the URL of a process, {example}"),
            Self::Scheme(scheme) => {
                write!(
                    f,
                    "{scheme:?} is not spoken, only http: the pages are meant for an internal listener; "
                )?;
                f.write_str("reach one on another machine through `ssh -L 8001:127.0.0.1:8001 HOST`")
            }
            Self::Credentials => {
                write!(f, "a name and password in the URL are not sent; give a URL {example}")
            }
        }
    }
}

impl std::error::Error for TargetError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        match Target::parse(text) {
            Ok(target) => format!("{} {} {target}", target.address(), target.page("tasks")),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn people_type_urls_hosts_and_ports() {
        let local = "127.0.0.1:8001 /debug/bowline/tasks http://127.0.0.1:8001";
        for text in [
            "http://127.0.0.1:8001",
            "http://127.0.0.1:8001/",
            "127.0.0.1:8001",
            "127.0.0.1",
            "8001",
            ":8001",
            "http://127.0.0.1:8001/debug/bowline/",
            "http://127.0.0.1:8001/debug/bowline/tasks?format=json",
        ] {
            assert_eq!(read(text), local, "{text}");
        }
        assert_eq!(
            read("app.internal:9000/admin"),
            "app.internal:9000 /admin/debug/bowline/tasks http://app.internal:9000/admin"
        );
        assert_eq!(read("http://[::1]:80"), "[::1]:80 /debug/bowline/tasks http://[::1]:80");
    }

    #[test]
    fn what_is_no_address_is_answered_with_one_that_is() {
        for text in ["", "http://", "not a url", "http://host:port", "host:99999", "/path"] {
            assert!(read(text).contains("such as http://127.0.0.1:8001"), "{text}: {}", read(text));
        }
        assert!(read("https://example.com").contains("ssh -L"), "{}", read("https://example.com"));
        assert!(read("http://me:secret@host:1").contains("are not sent"));
        assert!(!read("http://me:secret@host:1").contains("secret"));
    }
}
