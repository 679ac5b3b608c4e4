//! Origins: what a request goes to, and what an operator grants.
//!
//! Both are brought to one form by the rules of URLs (the `url` crate): names in lower case and Punycode, IPv4 addresses
//! with four decimal numbers however they were written. So `http://0x7f.1/` is `127.0.0.1` here and in no grant for a name.

use std::fmt;

use http::Uri;
use ipnet::IpNet;
use url::Host;

/// The longest name that can be looked up (RFC 1035, section 2.3.4).
const LONGEST_NAME: usize = 253;

/// A scheme that requests can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Cleartext.
    Http,
    /// TLS.
    Https,
}

impl Scheme {
    fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port where none is given.
    fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// What one request goes to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// Whether it is encrypted.
    pub(crate) scheme: Scheme,
    /// A name or an address.
    pub(crate) host: Host<String>,
    /// The port.
    pub(crate) port: u16,
}

impl Target {
    /// The target of a URI with a scheme and an authority; `None` if there is none that can be used.
    #[must_use]
    pub fn of(uri: &Uri) -> Option<Self> {
        let scheme = match uri.scheme_str()? {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return None,
        };
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
        let host = Host::parse(authority.host()).ok()?;
        if matches!(&host, Host::Domain(name) if name.len() > LONGEST_NAME) {
            return None;
        }
        let port = match authority.port() {
            Some(port) => Some(port.as_u16()).filter(|port| *port != 0)?,
            None => scheme.port(),
        };
        Some(Self { scheme, host, port })
    }

    /// The field `host` for it.
    pub(crate) fn authority(&self) -> String {
        authority(self.scheme, &self.host, self.port)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.authority())
    }
}

fn authority(scheme: Scheme, host: &Host<String>, port: u16) -> String {
    if port == scheme.port() { host.to_string() } else { format!("{host}:{port}") }
}

/// An origin, or all names below one, as an operator grants it: `https://api.example.com`, `http://10.1.2.3:8080`,
/// `https://*.example.org:8443`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: Scheme,
    host: HostPattern,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum HostPattern {
    Exact(Host<String>),
    /// Every name that has one or more labels before this one.
    Below(String),
}

/// What is wrong with an origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// There is no scheme.
    #[error("expected a URL")]
    NoScheme,
    /// A scheme that requests cannot have.
    #[error("expected the scheme http or https")]
    Scheme,
    /// A user name or a password.
    #[error("a user name or password cannot be given here")]
    Userinfo,
    /// Something after the port.
    #[error("an origin is a scheme, a host and a port, without a path")]
    Path,
    /// No host, or none that there can be.
    #[error("this is not a host")]
    Host,
    /// A wildcard that is not the first label.
    #[error("`*` can only stand for the first labels of a name")]
    Wildcard,
    /// A wildcard before an address.
    #[error("`*` cannot stand before an address")]
    WildcardAddress,
    /// Not a port.
    #[error("the port is not one")]
    Port,
}

impl OriginError {
    /// What to write instead of `text`.
    #[must_use]
    pub fn hint(&self, text: &str) -> String {
        match self {
            Self::NoScheme => format!("write \"https://{text}\""),
            Self::Scheme | Self::Host => "for example \"https://api.example.com\"".to_owned(),
            Self::Userinfo => "the plugin puts its credentials in a field of the request".to_owned(),
            Self::Path => match text
                .split_once("://")
                .and_then(|(scheme, rest)| Some((scheme, rest.split(['/', '?', '#']).next()?)))
            {
                Some((scheme, authority)) => format!("write \"{scheme}://{authority}\"; every path of it is granted"),
                None => "leave out the path; every path of an origin is granted".to_owned(),
            },
            Self::Wildcard => "for example \"https://*.example.com\"".to_owned(),
            Self::WildcardAddress => "name each address".to_owned(),
            Self::Port => "ports go from 1 to 65535".to_owned(),
        }
    }
}

impl Origin {
    /// Read one.
    ///
    /// # Errors
    /// When it is not an origin.
    pub fn parse(text: &str) -> Result<Self, OriginError> {
        let (scheme, rest) = text.split_once("://").ok_or(OriginError::NoScheme)?;
        let scheme = match scheme {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(OriginError::Scheme),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains('@') {
            return Err(OriginError::Userinfo);
        }
        if rest.contains(['/', '?', '#']) {
            return Err(OriginError::Path);
        }
        // The colons of an IPv6 address stand between brackets.
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (rest, None),
        };
        let port = match port {
            None => scheme.port(),
            Some(port) if port.bytes().all(|digit| digit.is_ascii_digit()) => {
                port.parse().ok().filter(|port| *port != 0).ok_or(OriginError::Port)?
            }
            Some(_) => return Err(OriginError::Port),
        };
        let parsed = |host: &str| match Host::parse(host) {
            _ if host.is_empty() || host.contains('%') => Err(OriginError::Host),
            parsed => parsed.map_err(|_| OriginError::Host),
        };
        let host = match host.strip_prefix("*.") {
            None if host.contains('*') => return Err(OriginError::Wildcard),
            None => HostPattern::Exact(parsed(host)?),
            Some(above) if above.contains('*') => return Err(OriginError::Wildcard),
            Some(above) => match parsed(above)? {
                Host::Domain(name) => HostPattern::Below(name),
                Host::Ipv4(_) | Host::Ipv6(_) => return Err(OriginError::WildcardAddress),
            },
        };
        Ok(Self { scheme, host, port })
    }

    /// Whether a request to this target is granted.
    #[must_use]
    pub fn covers(&self, target: &Target) -> bool {
        let is_host = match (&self.host, &target.host) {
            (HostPattern::Exact(own), other) => own == other,
            (HostPattern::Below(above), Host::Domain(name)) => name
                .strip_suffix(above.as_str())
                .and_then(|labels| labels.strip_suffix('.'))
                .is_some_and(|labels| labels.split('.').all(|label| !label.is_empty())),
            (HostPattern::Below(_), Host::Ipv4(_) | Host::Ipv6(_)) => false,
        };
        is_host && self.scheme == target.scheme && self.port == target.port
    }

    /// The address, if the host is one.
    #[must_use]
    pub fn address(&self) -> Option<std::net::IpAddr> {
        match &self.host {
            HostPattern::Exact(Host::Ipv4(address)) => Some((*address).into()),
            HostPattern::Exact(Host::Ipv6(address)) => Some((*address).into()),
            HostPattern::Exact(Host::Domain(_)) | HostPattern::Below(_) => None,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = match &self.host {
            HostPattern::Exact(host) => authority(self.scheme, host, self.port),
            HostPattern::Below(name) => authority(self.scheme, &Host::Domain(format!("*.{name}")), self.port),
        };
        write!(f, "{}://{host}", self.scheme.as_str())
    }
}

/// An origin that a plugin may make requests to, and where it may be beyond public addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// The origin.
    pub origin: Origin,
    /// Ranges of addresses that are not public and that it may have all the same.
    pub addresses: Vec<IpNet>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn covers(origin: &str, target: &str) -> bool {
        let origin = Origin::parse(origin).unwrap_or_else(|error| panic!("{origin}: {error}"));
        target.parse().ok().and_then(|uri| Target::of(&uri)).is_some_and(|target| origin.covers(&target))
    }

    #[test]
    fn an_origin_covers_itself_in_every_notation_and_nothing_else() {
        for (origin, target, covered) in [
            ("https://api.example.com", "https://api.example.com/a?b", true),
            ("https://api.example.com", "https://API.Example.COM:443/", true),
            ("https://api.example.com/", "https://api.example.com", true),
            ("https://api.example.com", "http://api.example.com/", false),
            ("https://api.example.com", "http://api.example.com:443/", false),
            ("https://api.example.com", "https://api.example.com:8443/", false),
            ("https://api.example.com", "https://api.example.com.evil.net/", false),
            ("https://api.example.com", "https://xapi.example.com/", false),
            ("https://api.example.com", "https://api.example.com./", false),
            ("https://api.example.com", "https://user@api.example.com/", false),
            ("https://api.example.com", "https://api.example.com%2eevil.net/", false),
            ("https://b\u{fc}cher.example", "https://xn--bcher-kva.example/", true),
            ("http://127.0.0.1:9000", "http://127.0.0.1:9000/", true),
            ("http://127.0.0.1:9000", "http://2130706433:9000/", true),
            ("http://127.0.0.1:9000", "http://0x7f.1:9000/", true),
            ("http://127.0.0.1:9000", "http://0177.0.0.1:9000/", true),
            ("http://127.0.0.1:9000", "http://[::ffff:127.0.0.1]:9000/", false),
            ("http://[::1]:80", "http://[0:0:0:0:0:0:0:1]/", true),
            ("https://*.example.org", "https://a.example.org/", true),
            ("https://*.example.org", "https://a.b.example.org/", true),
            ("https://*.example.org", "https://example.org/", false),
            ("https://*.example.org", "https://.example.org/", false),
            ("https://*.example.org", "https://a..example.org/", false),
            ("https://*.example.org", "https://aexample.org/", false),
            ("https://*.example.org", "https://example.org.evil.net/", false),
            ("https://*.example.org:8443", "https://a.example.org/", false),
            ("https://*.1", "https://127.0.0.1/", false),
        ] {
            let origin_is_one = Origin::parse(origin).is_ok();
            assert_eq!(origin_is_one && covers(origin, target), covered, "{origin} and {target}");
        }
    }

    #[test]
    fn what_is_not_an_origin_is_refused_with_its_reason() {
        for (text, error) in [
            ("api.example.com", OriginError::NoScheme),
            ("ftp://api.example.com", OriginError::Scheme),
            ("HTTPS://api.example.com", OriginError::Scheme),
            ("https://", OriginError::Host),
            ("https://a b", OriginError::Host),
            ("https://a%2eb", OriginError::Host),
            ("https://[::1", OriginError::Host),
            ("https://api.example.com/v1", OriginError::Path),
            ("https://api.example.com?x", OriginError::Path),
            ("https://me:secret@api.example.com", OriginError::Userinfo),
            ("https://*", OriginError::Wildcard),
            ("https://a.*.example.com", OriginError::Wildcard),
            ("https://*.*.example.com", OriginError::Wildcard),
            ("https://a*.example.com", OriginError::Wildcard),
            ("https://*.", OriginError::Host),
            ("https://*.127.0.0.1", OriginError::WildcardAddress),
            ("https://a:0", OriginError::Port),
            ("https://a:65536", OriginError::Port),
            ("https://a:", OriginError::Port),
            ("https://a:*", OriginError::Port),
            ("https://a:+1", OriginError::Port),
        ] {
            assert_eq!(Origin::parse(text), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_is_written_breaks_the_reader(text in "\\PC{0,40}", target in "https?://\\PC{0,30}") {
            let origin = Origin::parse(&text);
            if let (Ok(origin), Ok(uri)) = (origin, target.parse::<Uri>()) {
                let _ = Target::of(&uri).map(|target| origin.covers(&target));
            }
        }

        #[test]
        fn an_origin_reads_back_as_it_is_shown(
            wildcard: bool, labels in prop::collection::vec("[a-z][a-z0-9]{0,8}", 1..5), port in 1_u16.., tls: bool,
        ) {
            let star = if wildcard { "*." } else { "" };
            let scheme = if tls { "https" } else { "http" };
            let origin = Origin::parse(&format!("{scheme}://{star}{}:{port}", labels.join("."))).expect("an origin");
            prop_assert_eq!(Origin::parse(&origin.to_string()), Ok(origin));
        }

        #[test]
        fn a_wildcard_covers_names_below_its_own_alone(
            below in prop::collection::vec("[a-z0-9]{1,8}", 0..4), name in "[a-z]{1,8}\\.[a-z]{2,8}",
        ) {
            let target = format!("https://{}", below.iter().chain([&name]).cloned().collect::<Vec<_>>().join("."));
            prop_assert_eq!(covers(&format!("https://*.{name}"), &target), !below.is_empty());
        }
    }
}
