//! Addresses of other servers that this one asks.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use hyper::Uri;

use super::types::Malformed;

/// The URL of another server: `https`, or `http` on this machine, where nobody listens in between.
///
/// It is fixed: no user, no password, and no part that something in a request fills in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    text: Box<str>,
    uri: Uri,
    is_https: bool,
}

impl Endpoint {
    /// Returns the URL as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Tells whether it is asked over TLS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.is_https
    }

    /// Returns the host: a name, or an address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        host(&self.uri)
    }

    /// Returns the port, which is that of the scheme unless the URL says another.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.uri.port_u16().unwrap_or(if self.is_https { 443 } else { 80 })
    }

    /// Returns host and port as the URL says them.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.uri.authority().map_or("", |authority| authority.as_str())
    }

    /// Returns what stands behind the host.
    #[must_use]
    pub fn path_and_query(&self) -> &str {
        self.uri.path_and_query().map_or("/", |path| path.as_str())
    }
}

impl FromStr for Endpoint {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let uri: Uri = text.parse().map_err(|_| Malformed)?;
        let authority = uri.authority().ok_or(Malformed)?.as_str();
        // `{{tenant}}` and the like: an address that a token completes is an address that an attacker chooses.
        let is_fixed = !text.contains(['{', '}']) && !authority.contains('@') && !host(&uri).is_empty();
        let is_https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if is_here(host(&uri)) => false,
            _ => return Err(Malformed),
        };
        if is_fixed { Ok(Self { text: text.into(), uri, is_https }) } else { Err(Malformed) }
    }
}

/// The URL of an application that is asked about its clients: `https`, or `http` within a network of one's own, or `grpc`
/// with host and port and nothing else.
///
/// Addresses that only the machine itself or its cloud answers at, such as 169.254.169.254, are refused here when they are
/// written, and when a name leads to them by whoever connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookEndpoint(Endpoint);

impl HookEndpoint {
    /// Returns the URL.
    #[must_use]
    pub fn get(&self) -> &Endpoint {
        &self.0
    }

    /// Tells whether it is asked by gRPC.
    #[must_use]
    pub fn is_grpc(&self) -> bool {
        self.0.uri.scheme_str() == Some("grpc")
    }
}

impl FromStr for HookEndpoint {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        // As the URL of any server, but that `http` may lead to other machines.
        let (http, grpc) = (text.strip_prefix("http://"), text.strip_prefix("grpc://"));
        let endpoint: Endpoint = match http.or(grpc) {
            None => text.parse()?,
            Some(rest) => {
                format!("https://{rest}").parse::<Endpoint>()?;
                let uri = text.parse().map_err(|_| Malformed)?;
                Endpoint { text: text.into(), uri, is_https: false }
            }
        };
        let is_bare = endpoint.uri.port_u16().is_some() && matches!(endpoint.path_and_query(), "" | "/");
        if grpc.is_some() && !is_bare {
            return Err(Malformed);
        }
        let is_link_local = endpoint.host().parse::<IpAddr>().is_ok_and(is_link_local);
        if is_link_local { Err(Malformed) } else { Ok(Self(endpoint)) }
    }
}

/// Tells whether nobody but the machine itself or its cloud answers at `address`: link-local, or of a metadata service.
pub(crate) fn is_link_local(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_link_local() || address.is_unspecified() || address.is_broadcast(),
        IpAddr::V6(address) => {
            address.is_unicast_link_local()
                || address.is_unspecified()
                || address.segments() == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254]
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the query, which may hold a key.
        let scheme = self.uri.scheme_str().unwrap_or("http");
        write!(f, "{scheme}://{}{}", self.authority(), self.uri.path())
    }
}

fn host(uri: &Uri) -> &str {
    uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
}

fn is_here(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_https_or_on_this_machine_and_fixed() {
        for text in [
            "https://id.example/keys",
            "https://id.example:8443/a?b=c",
            "http://127.0.0.1:9/keys",
            "http://[::1]/",
            "http://localhost",
        ] {
            assert!(text.parse::<Endpoint>().is_ok(), "{text}");
        }
        for text in [
            "http://id.example/keys",
            "http://localhost.example/keys",
            "http://127.0.0.1@id.example/",
            "https://user:password@id.example/keys",
            "https://id.example/{{realm}}/keys",
            "file:///etc/passwd",
            "/keys",
            "id.example",
            "",
        ] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_hook_is_anywhere_but_at_link_local_addresses() {
        for text in
            ["https://app.example/hook", "http://app:3000/hook", "http://10.0.0.7/", "http://127.0.0.1:9/"]
        {
            assert!(text.parse::<HookEndpoint>().is_ok(), "{text}");
        }
        for text in [
            "http://169.254.169.254/latest/meta-data",
            "http://[fe80::1]/",
            "http://[::ffff:169.254.169.254]/",
            "http://[fd00:ec2::254]/",
            "http://0.0.0.0/",
            "http://user@app/",
            "http://{{tenant}}/",
            "ftp://app/",
            "app",
        ] {
            assert!(text.parse::<HookEndpoint>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_endpoint_is_shown_without_its_query() {
        let endpoint: Endpoint = "https://[2001:db8::1]:8443/keys?key=secret".parse().unwrap();
        assert_eq!((endpoint.host(), endpoint.port()), ("2001:db8::1", 8443));
        assert_eq!(endpoint.path_and_query(), "/keys?key=secret");
        assert_eq!(endpoint.to_string(), "https://[2001:db8::1]:8443/keys");
    }
}
