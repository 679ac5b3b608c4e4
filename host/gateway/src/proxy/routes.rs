//! Which route a request takes.
//!
//! A path is matched as it was received, segment by segment, and goes to the upstream as it was received. What makes
//! that safe is a refusal: an upstream may read a path differently (decode `%2f`, merge `//`, take `\` for `/`, drop
//! `;parameters`), and a client must not use that to reach `/api` past the plugins of the route `/api`. So a path
//! that would take another route under any of those readings is [`NoMatch::Ambiguous`], and so is every path with
//! a dot segment (`.` or `..`, however encoded): clients resolve those themselves (RFC 3986, section 5.2.4).
//!
//! Paths are compared with their case, as RFC 3986 has it; an upstream that ignores case needs routes that allow for
//! it.

use std::borrow::Cow;

use crate::config;

/// More layers of percent-encoding than this are refused: nobody needs them.
const MAX_LAYERS: usize = 4;

/// Why no route was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoMatch {
    /// No route has this host and path.
    Unknown,
    /// The path could mean different routes to the gateway and to the upstream.
    Ambiguous,
}

/// The routes, in the order in which they are tried.
#[derive(Debug)]
pub(super) struct Routes {
    /// Routes with a host first, longer paths before shorter ones.
    ordered: Vec<Entry>,
    any_host: bool,
}

#[derive(Debug)]
struct Entry {
    host: Option<String>,
    /// Without a trailing slash; empty for the root.
    prefix: String,
    /// Index into [`config::Config::routes`].
    index: usize,
}

impl Routes {
    pub(super) fn new(routes: &[config::Route]) -> Self {
        let mut ordered: Vec<Entry> = routes
            .iter()
            .enumerate()
            .map(|(index, route)| Entry {
                host: route.host.as_deref().map(str::to_ascii_lowercase),
                prefix: route.path.trim_end_matches('/').to_owned(),
                index,
            })
            .collect();
        // Stable, so that of two routes alike the first in the file wins.
        ordered.sort_by_key(|entry| (entry.host.is_none(), std::cmp::Reverse(entry.prefix.len())));
        let any_host = ordered.iter().any(|entry| entry.host.is_some());
        Self { ordered, any_host }
    }

    /// The index of the route for a request to `host` (without port, any case, may be empty) and `path`.
    pub(super) fn find(&self, host: &str, path: &str) -> Result<usize, NoMatch> {
        let host = if self.any_host { host.strip_suffix('.').unwrap_or(host) } else { "" };
        let as_received = self.lookup(host, path.as_bytes());
        if !is_plain(path.as_bytes()) && !self.agree(host, path.as_bytes(), as_received) {
            return Err(NoMatch::Ambiguous);
        }
        as_received.ok_or(NoMatch::Unknown)
    }

    fn lookup(&self, host: &str, path: &[u8]) -> Option<usize> {
        self.ordered
            .iter()
            .find(|entry| {
                entry.host.as_deref().is_none_or(|name| name.eq_ignore_ascii_case(host))
                    && path
                        .strip_prefix(entry.prefix.as_bytes())
                        .is_some_and(|rest| rest.first().is_none_or(|byte| *byte == b'/') || path == b"*")
            })
            .map(|entry| entry.index)
    }

    /// Whether every reading of the path takes the route `as_received`.
    fn agree(&self, host: &str, path: &[u8], as_received: Option<usize>) -> bool {
        let mut layer = Cow::Borrowed(path);
        for _ in 0..MAX_LAYERS {
            if has_dot_segment(&layer) {
                return false;
            }
            let same = Reading::all_of(&layer).all(|reading| self.lookup(host, &reading.of(&layer)) == as_received);
            if !same {
                return false;
            }
            match decode(&layer) {
                Some(decoded) => layer = Cow::Owned(decoded),
                None => return true,
            }
        }
        false
    }
}

/// Nothing in the path can be read in two ways. True of nearly every request, and cheap to see.
fn is_plain(path: &[u8]) -> bool {
    let mut previous = 0;
    for &byte in path {
        match byte {
            b'%' | b'\\' | b';' => return false,
            b'/' | b'.' if previous == b'/' => return false,
            _ => previous = byte,
        }
    }
    true
}

/// Some upstream's liberties with a path.
#[derive(Debug, Clone, Copy, Default)]
struct Reading {
    backslash_is_slash: bool,
    drops_parameters: bool,
    merges_slashes: bool,
}

impl Reading {
    /// Every reading that could make a difference to this path.
    fn all_of(path: &[u8]) -> impl Iterator<Item = Self> {
        let backslash = path.contains(&b'\\');
        let parameters = path.contains(&b';');
        let slashes = backslash || parameters || path.windows(2).any(|pair| pair == b"//");
        let choices = |possible: bool| [Some(false), possible.then_some(true)].into_iter().flatten();
        choices(backslash).flat_map(move |backslash_is_slash| {
            choices(parameters).flat_map(move |drops_parameters| {
                choices(slashes).map(move |merges_slashes| Self {
                    backslash_is_slash,
                    drops_parameters,
                    merges_slashes,
                })
            })
        })
    }

    fn of(self, path: &[u8]) -> Vec<u8> {
        let mut read = Vec::with_capacity(path.len());
        let mut in_parameter = false;
        for &byte in path {
            let byte = if byte == b'\\' && self.backslash_is_slash { b'/' } else { byte };
            match byte {
                b'/' => {
                    in_parameter = false;
                    if !(self.merges_slashes && read.last() == Some(&b'/')) {
                        read.push(byte);
                    }
                }
                b';' if self.drops_parameters => in_parameter = true,
                _ if in_parameter => {}
                _ => read.push(byte),
            }
        }
        read
    }
}

fn has_dot_segment(path: &[u8]) -> bool {
    path.split(|byte| matches!(byte, b'/' | b'\\')).any(|segment| {
        let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
        matches!(name, b"." | b"..")
    })
}

/// One layer of percent-encoding taken off; `None` if there was none.
fn decode(path: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    let mut changed = false;
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'%'
            && let [high, low, after @ ..] = after
            && let (Some(high), Some(low)) = (digit(high), digit(low))
        {
            decoded.push(high * 16 + low);
            changed = true;
            rest = after;
        } else {
            decoded.push(byte);
            rest = after;
        }
    }
    changed.then_some(decoded)
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "in a test a panic is a failure")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn routes(entries: &[(&str, Option<&str>)]) -> Routes {
        let routes: Vec<config::Route> = entries
            .iter()
            .map(|(path, host)| config::Route {
                path: (*path).to_owned(),
                host: host.map(str::to_owned),
                upstream: 0,
                plugins: Vec::new(),
            })
            .collect();
        Routes::new(&routes)
    }

    #[test]
    fn the_longest_prefix_at_a_segment_border_wins() {
        let routes = routes(&[("/", None), ("/api", None), ("/api/v2", None)]);
        assert_eq!(routes.find("", "/"), Ok(0));
        assert_eq!(routes.find("", "/apix"), Ok(0));
        assert_eq!(routes.find("", "/api"), Ok(1));
        assert_eq!(routes.find("", "/api/"), Ok(1));
        assert_eq!(routes.find("", "/api/v2x"), Ok(1));
        assert_eq!(routes.find("", "/api/v2/things"), Ok(2));
    }

    #[test]
    fn routes_of_the_host_come_before_the_others() {
        let routes = routes(&[("/api/v2", None), ("/api", Some("Example.com")), ("/", Some("other.com"))]);
        assert_eq!(routes.find("example.COM", "/api/v2"), Ok(1));
        assert_eq!(routes.find("example.com.", "/api"), Ok(1));
        assert_eq!(routes.find("elsewhere.com", "/api/v2"), Ok(0));
        assert_eq!(routes.find("example.com", "/"), Err(NoMatch::Unknown));
        assert_eq!(routes.find("", "/nothing"), Err(NoMatch::Unknown));
    }

    #[test]
    fn a_trailing_slash_in_the_config_changes_nothing() {
        let routes = routes(&[("/api/", None)]);
        assert_eq!(routes.find("", "/api"), Ok(0));
        assert_eq!(routes.find("", "/api/x"), Ok(0));
    }

    #[test]
    fn the_asterisk_form_takes_the_root_route() {
        assert_eq!(routes(&[("/", None)]).find("", "*"), Ok(0));
        assert_eq!(routes(&[("/api", None)]).find("", "*"), Err(NoMatch::Unknown));
    }

    #[test]
    fn a_path_that_an_upstream_could_read_as_another_route_is_refused() {
        let routes = routes(&[("/", None), ("/api", None)]);
        for path in [
            "//api",
            "/x/../api",
            "/api/../x",
            "/./api",
            "/api/.",
            "/%2e%2e/api",
            "/x/%2e./api",
            "/.%2e",
            "/%61pi",
            "/%2fapi",
            "/api%2fx",
            "/api%2Fx",
            "/\\api",
            "/api\\x",
            "/%5capi",
            "/api;v=1",
            "/api;/x",
            "/x/..;/api",
            "/%252e%252e/api",
            "/%2561pi",
            "/;x/api",
            "/api%3bx",
            "/x/%25252e%25252e/",
        ] {
            assert_eq!(routes.find("", path), Err(NoMatch::Ambiguous), "{path}");
        }
    }

    #[test]
    fn odd_paths_that_cannot_change_the_route_go_through() {
        let routes = routes(&[("/", None), ("/api", None)]);
        for (path, index) in [
            ("/api/a%2fb", 1),
            ("/api//x", 1),
            ("/api/x;v=1", 1),
            ("/api/%E2%82%AC%20x", 1),
            ("/api/100%", 1),
            ("/.well-known/x", 0),
            ("/...", 0),
            ("/a..b", 0),
            ("/x//y", 0),
        ] {
            assert_eq!(routes.find("", path), Ok(index), "{path}");
        }
    }

    #[test]
    fn endless_encoding_is_refused() {
        let path = format!("/%{}41", "25".repeat(20));
        assert_eq!(routes(&[("/", None)]).find("", &path), Err(NoMatch::Ambiguous));
    }

    /// What a lenient upstream makes of a path: everything decoded, merged and resolved.
    fn as_a_lenient_upstream(path: &str) -> String {
        let mut layer = path.as_bytes().to_vec();
        while let Some(decoded) = decode(&layer) {
            layer = decoded;
        }
        let mut segments: Vec<&[u8]> = Vec::new();
        for segment in layer.split(|byte| matches!(byte, b'/' | b'\\')) {
            match segment.split(|byte| *byte == b';').next().unwrap_or_default() {
                b"" | b"." => {}
                b".." => drop(segments.pop()),
                name => segments.push(name),
            }
        }
        segments.iter().fold(String::new(), |path, name| path + "/" + &String::from_utf8_lossy(name))
    }

    proptest! {
        #[test]
        fn no_accepted_path_reaches_another_route_at_a_lenient_upstream(
            pieces in proptest::collection::vec(
                prop::sample::select(vec![
                    "/", "//", "a", "api", "..", ".", ";", ";v=1", "\\", "%2f", "%2F", "%5c", "%2e", "%61", "%252e",
                    "%3b", "x", "%", "%25",
                ]),
                0..10,
            ),
        ) {
            let path = format!("/{}", pieces.concat());
            let routes = routes(&[("/", None), ("/api", None), ("/api/x", None), ("/a", None)]);
            if let Ok(index) = routes.find("", &path) {
                let read = as_a_lenient_upstream(&path);
                let there = routes.lookup("", read.as_bytes());
                prop_assert_eq!(Some(index), there, "{} is read as {}", path, read);
            }
        }

        #[test]
        fn plain_paths_match_by_whole_segments(segments in proptest::collection::vec("[a-z0-9_-]{1,5}", 0..4)) {
            let path = format!("/{}", segments.join("/"));
            let routes = routes(&[("/a/b", None)]);
            let expected = if segments.len() >= 2 && segments[0] == "a" && segments[1] == "b" {
                Ok(0)
            } else {
                Err(NoMatch::Unknown)
            };
            prop_assert_eq!(routes.find("", &path), expected);
        }
    }
}
