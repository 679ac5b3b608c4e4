//! Lets each client have so many requests per window of time, and answers the others with 429.
//!
//! Counts are kept in a key-value bucket, which all instances share: one process with the kind `memory`, a fleet of gateways with
//! `nats`. The window slides: a request counts with those of this window and a share of those of the last one, so a client cannot
//! have twice its limit around the turn of a window. A request costs one `increment` and one `get`.
//!
//! A client is its address (an IPv6 client its /64 network, which is what one subscriber has) or the value of a request field, an
//! API key for example; keys of the bucket are digests of it. Give the bucket a `ttl` of two windows, so that it forgets clients.
//!
//! Answers have the fields `RateLimit` and `RateLimit-Policy` of the IETF draft (draft-ietf-httpapi-ratelimit-headers-10), refusals
//! `Retry-After` as well.

use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tidegate_sdk::kv::{Bucket, KvError};
use tidegate_sdk::prelude::*;

/// The note that carries the field of the answer from the request to its response.
const NOTE: &str = "ratelimit";

struct RateLimit {
    config: Config,
    /// Opened with the first request: a bucket whose broker is down keeps no plugin from being loaded.
    bucket: Option<Bucket>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Requests of a client in a window.
    limit: u32,
    /// The window in seconds.
    window: u32,
    /// Where the counts are. It has to be granted: `kv = ["rate-limit"]`.
    #[serde(default = "default_bucket")]
    bucket: String,
    /// The request field that tells clients apart; the client's address without it, and for requests that lack it.
    header: Option<String>,
    /// What becomes of a request when its count cannot be had.
    #[serde(default)]
    on_trouble: OnTrouble,
}

fn default_bucket() -> String {
    "rate-limit".to_owned()
}

/// What is worse: too many requests, or none.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OnTrouble {
    /// It passes.
    #[default]
    Open,
    /// The call fails, and the operator's `on_failure` decides.
    Closed,
}

#[tidegate_sdk::plugin]
impl Plugin for RateLimit {
    type Config = Config;

    fn configure(config: Config) -> Result<Self> {
        if config.limit == 0 {
            return Err("`limit` is 0: nobody would be let through".into());
        }
        if !(1..=86_400).contains(&config.window) {
            return Err("`window` has to be 1 to 86400 seconds".into());
        }
        Ok(Self { config, bucket: None })
    }

    fn on_request(&mut self, request: &mut Request) -> Result<Verdict> {
        self.admit(request, SystemTime::now().duration_since(UNIX_EPOCH)?)
    }

    fn on_response(&mut self, request: &Request, response: &mut Response) -> Result<()> {
        if let Some(field) = request.note(NOTE) {
            response.set_header("ratelimit-policy", self.policy())?;
            response.set_header("ratelimit", field)?;
        }
        Ok(())
    }
}

impl RateLimit {
    /// What becomes of a request that comes at this time since 1970.
    fn admit(&mut self, request: &mut Request, now: Duration) -> Result<Verdict> {
        let client = self.client(request);
        let used = match self.count(&client, now) {
            Ok(used) => used,
            Err(error) => {
                return match self.config.on_trouble {
                    OnTrouble::Open => {
                        log::warn!("a request was not counted: {error}");
                        Ok(Verdict::Forward)
                    }
                    OnTrouble::Closed => Err(error.into()),
                };
            }
        };
        let limit = f64::from(self.config.limit);
        if used.now() > limit {
            let wait = used.wait(limit, f64::from(self.config.window));
            return Ok(Reply::new(429)
                .header("retry-after", wait.to_string())
                .header("ratelimit-policy", self.policy())
                .header("ratelimit", format!("\"default\";r=0;t={wait}"))
                .header("content-type", "text/plain")
                .body("too many requests\n")
                .into());
        }
        let left = u64::from(self.config.window) - now.as_secs() % u64::from(self.config.window);
        let field = format!("\"default\";r={};t={left}", limit - used.now());
        request.set_note(NOTE, field)?;
        Ok(Verdict::Forward)
    }

    fn policy(&self) -> String {
        format!("\"default\";q={};w={}", self.config.limit, self.config.window)
    }

    /// Who the client is, as a key of the bucket: the same in every instance, and nothing that one would want to steal.
    fn client(&self, request: &Request) -> String {
        let value = self.config.header.as_deref().and_then(|name| request.header_bytes(name));
        let digest = match value {
            Some(value) => Sha256::new().chain_update(b"header\0").chain_update(value),
            None => Sha256::new().chain_update(b"address\0").chain_update(network(&request.client_address())),
        };
        digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Count a request, and tell how many there are with it.
    fn count(&mut self, client: &str, now: Duration) -> Result<Used, KvError> {
        let window = u64::from(self.config.window);
        let number = now.as_secs() / window;
        let bucket = match &self.bucket {
            Some(bucket) => bucket,
            None => self.bucket.insert(Bucket::open(&self.config.bucket)?),
        };
        let current = bucket.increment(&format!("{client}.{number}"), 1)?;
        let last = bucket.get(&format!("{client}.{}", number.saturating_sub(1)))?;
        let last: u32 = last.and_then(|text| std::str::from_utf8(&text).ok()?.parse().ok()).unwrap_or(0);
        let passed = (now.as_secs_f64() / f64::from(self.config.window)).fract();
        Ok(Used { current: current as f64, last: f64::from(last), passed })
    }
}

/// Requests of a client.
struct Used {
    /// Of this window.
    current: f64,
    /// Of the last one.
    last: f64,
    /// How much of this window has passed, from 0 to 1.
    passed: f64,
}

impl Used {
    /// Those of the window that ends now: of the last one the share that it has of that. Rounded down, in favour of the client.
    fn now(&self) -> f64 {
        self.current + (self.last * (1.0 - self.passed)).floor()
    }

    /// Seconds until there is room for one more, if nothing comes until then; at least 1.
    fn wait(&self, limit: f64, window: f64) -> u64 {
        // When so much of a window has passed, so many of the one before it still count.
        let passed_when = |many: f64, of: f64| 1.0 - (many / of).clamp(0.0, 1.0);
        let windows = if self.current < limit {
            passed_when(limit - self.current, self.last) - self.passed
        } else {
            1.0 - self.passed + passed_when(limit, self.current)
        };
        (windows * window).floor().max(0.0) as u64 + 1
    }
}

/// The address without its port; of an IPv6 address the network.
fn network(client: &str) -> Vec<u8> {
    match client.parse::<SocketAddr>().map(|address| address.ip().to_canonical()) {
        Ok(IpAddr::V4(address)) => address.octets().to_vec(),
        Ok(IpAddr::V6(address)) => address.octets().into_iter().take(8).collect(),
        Err(_) => client.as_bytes().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_sdk::testing;

    /// When all requests come that a test sends: in the middle of a day.
    const NOON: Duration = Duration::from_secs(20_000 * 86_400 + 43_200);

    fn plugin(extra: &str) -> Result<RateLimit> {
        RateLimit::configure(serde_json::from_str(&format!(r#"{{"limit": 3, "window": 86400 {extra}}}"#))?)
    }

    /// The status of a refusal, if it is one.
    fn send(plugin: &mut RateLimit, client: &str, key: Option<&str>) -> Result<Option<Reply>> {
        let mut request = Request::builder().client_address(client);
        if let Some(key) = key {
            request = request.header("x-key", key);
        }
        match plugin.admit(&mut request.build(), NOON)? {
            Verdict::Respond(reply) => Ok(Some(reply)),
            _ => Ok(None),
        }
    }

    #[test]
    fn each_client_has_its_limit_and_then_429_with_a_time() -> Result<()> {
        let mut plugin = plugin("")?;
        for _ in 0..3 {
            assert!(send(&mut plugin, "192.0.2.7:1000", None)?.is_none());
        }
        let reply = send(&mut plugin, "192.0.2.7:2000", None)?.ok_or("another port is the same client")?;
        let field = |name: &str| {
            let found = reply.headers.iter().find(|(have, _)| have == name);
            found.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
        };
        assert_eq!((reply.status, field("ratelimit-policy").as_str()), (429, "\"default\";q=3;w=86400"));
        // The fourth of three counts until a quarter of the next day has passed.
        assert_eq!((field("retry-after").as_str(), field("ratelimit").as_str()), ("64801", "\"default\";r=0;t=64801"));
        assert!(send(&mut plugin, "192.0.2.8:1000", None)?.is_none());
        Ok(())
    }

    #[test]
    fn an_answer_says_what_is_left() -> Result<()> {
        let mut plugin = plugin("")?;
        let (mut request, mut response) = (Request::builder().build(), Response::builder().build());
        plugin.admit(&mut request, NOON)?;
        plugin.on_response(&request, &mut response)?;
        assert_eq!(response.header("ratelimit").as_deref(), Some("\"default\";r=2;t=43200"));
        Ok(())
    }

    #[test]
    fn clients_are_told_apart_by_a_field_or_by_their_network() -> Result<()> {
        let mut plugin = plugin(r#", "header": "x-key""#)?;
        for _ in 0..3 {
            assert!(send(&mut plugin, "192.0.2.7:1", Some("a"))?.is_none());
            assert!(send(&mut plugin, "[2001:db8::1]:1", None)?.is_none());
        }
        assert!(send(&mut plugin, "192.0.2.8:1", Some("a"))?.is_some());
        assert!(send(&mut plugin, "[2001:db8::ffff]:1", None)?.is_some(), "the same network");
        assert!(send(&mut plugin, "[2001:db8:0:1::1]:1", None)?.is_none());
        assert!(send(&mut plugin, "192.0.2.7:1", Some("b"))?.is_none());
        for (key, _) in testing::kv::contents("rate-limit") {
            assert!(key.len() > 33 && key.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'.'), "{key}");
        }
        Ok(())
    }

    #[test]
    fn the_last_window_counts_by_what_is_left_of_it() -> Result<()> {
        let mut plugin = RateLimit::configure(serde_json::from_str(r#"{"limit": 10, "window": 10}"#)?)?;
        let at = |millis: u64| Duration::from_secs(1_000) + Duration::from_millis(millis);
        let mut used = |millis| plugin.count("c", at(millis)).map(|used| used.now());
        for n in 1..=8 {
            assert_eq!(used(9_999)?, f64::from(n));
        }
        assert_eq!(used(10_000)?, 1.0 + 8.0);
        assert_eq!(used(15_000)?, 2.0 + 4.0);
        assert_eq!(used(19_999)?, 3.0);
        assert_eq!(used(30_000)?, 1.0, "two windows later nothing is left");
        Ok(())
    }

    #[test]
    fn who_waits_as_long_as_told_is_let_through() {
        // Ten per 100 seconds; the client comes again in the same window, in the next, or in the one after that.
        for (current, last, passed) in [(5.0, 20.0, 0.5), (11.0, 0.0, 0.0), (11.0, 0.0, 0.99), (500.0, 0.0, 0.3)] {
            let wait = Used { current, last, passed }.wait(10.0, 100.0);
            let later = passed + wait as f64 / 100.0;
            let then = match later {
                0.0..1.0 => Used { current: current + 1.0, last, passed: later },
                1.0..2.0 => Used { current: 1.0, last: current, passed: later - 1.0 },
                _ => Used { current: 1.0, last: 0.0, passed: later - 2.0 },
            };
            assert!(then.now() <= 10.0, "{current} {last} {passed}: {wait} s, then {}", then.now());
        }
    }

    #[test]
    fn trouble_with_the_bucket_is_the_operators_choice() -> Result<()> {
        testing::kv::refuse(KvError::Other("the broker is down".to_owned()));
        assert!(send(&mut plugin("")?, "192.0.2.7:1", None)?.is_none());
        let closed = send(&mut plugin(r#", "on_trouble": "closed""#)?, "192.0.2.7:1", None);
        assert!(closed.err().is_some_and(|error| error.to_string().contains("the broker is down")));
        Ok(())
    }
}
