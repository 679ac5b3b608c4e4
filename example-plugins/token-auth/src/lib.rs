//! Lets through requests with a bearer token that the authorization server calls active (RFC 6750, RFC 7662).
//!
//! Each instance remembers what it was told: good tokens for `cache` seconds and never beyond their own end, bad ones for
//! `negative_cache` seconds. A token that is revoked is let through until then. Good and bad ones are remembered apart, so that
//! whoever tries many bad tokens pushes no good one out.
//!
//! The plugin asks while the client waits: give it a `wall` limit that allows for the answer, and enough instances. If the server
//! does not answer, the call fails, and the operator's `on_failure` decides; with `closed`, its default, the client gets 503.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tidegate_sdk::prelude::*;
use tidegate_sdk::{fetch, secrets};

/// The field that tells the upstream whose token it was, if the server says so. What a client sends under this name never gets
/// there.
const SUBJECT: &str = "x-auth-subject";

/// The longest that a token may be remembered, in seconds.
const DAY: u64 = 86_400;

struct TokenAuth {
    config: Config,
    /// The value of the field that proves to the server who asks.
    authorization: String,
    good: Cache<Subject>,
    bad: Cache<()>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The introspection endpoint. Its origin has to be granted: `http = ["https://login.example.com"]`.
    url: String,
    /// Who asks.
    client_id: String,
    /// The name of the secret that proves it: `secrets = [{ name = "introspection", file = ".." }]`.
    #[serde(default = "default_secret")]
    secret: String,
    /// A scope that a token has to have.
    scope: Option<String>,
    /// What the client is asked for.
    #[serde(default = "default_realm")]
    realm: String,
    /// Seconds for which a good token is remembered.
    #[serde(default = "default_cache")]
    cache: u64,
    /// Seconds for which a bad one is.
    #[serde(default = "default_negative_cache")]
    negative_cache: u64,
    /// How many of either kind.
    #[serde(default = "default_capacity")]
    capacity: usize,
}

fn default_secret() -> String {
    "introspection".to_owned()
}

fn default_realm() -> String {
    "api".to_owned()
}

fn default_cache() -> u64 {
    60
}

fn default_negative_cache() -> u64 {
    10
}

fn default_capacity() -> usize {
    10_000
}

/// What the server says of a token (RFC 7662, section 2.2).
#[derive(Deserialize)]
struct Introspection {
    active: bool,
    #[serde(default)]
    scope: String,
    sub: Option<String>,
    /// Seconds since 1970.
    exp: Option<u64>,
}

/// Whose token it is, and what it is good for.
#[derive(Clone)]
struct Subject {
    /// The server need not say.
    name: Option<String>,
    has_scope: bool,
}

#[tidegate_sdk::plugin]
impl Plugin for TokenAuth {
    type Config = Config;

    fn configure(config: Config) -> Result<Self> {
        if !config.realm.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\')) {
            return Err("`realm` has to be printable ASCII without quotes and backslashes".into());
        }
        if config.cache.max(config.negative_cache) > DAY {
            return Err(format!("`cache` and `negative_cache` may be {DAY} seconds at most").into());
        }
        let secret = secrets::get(&config.secret)?
            .ok_or_else(|| format!("there is no secret `{}`: name it under [plugin.grants] secrets", config.secret))?;
        // Encoded before they are joined (RFC 6749, section 2.3.1): either may have a colon.
        let [id, secret] = [&config.client_id, secret.expose()].map(fetch::form_value);
        let authorization = format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")));
        let (good, bad) = (Cache::new(config.capacity), Cache::new(config.capacity));
        Ok(Self { config, authorization, good, bad })
    }

    fn on_request(&mut self, request: &mut Request) -> Result<Verdict> {
        request.remove_header(SUBJECT)?;
        let Some(field) = request.header("authorization") else { return Ok(self.refuse(401, None)) };
        let Some(token) = bearer(&field) else { return Ok(self.refuse(401, Some("invalid_request"))) };
        match self.subject(token)? {
            None => Ok(self.refuse(401, Some("invalid_token"))),
            Some(Subject { has_scope: false, .. }) => Ok(self.refuse(403, Some("insufficient_scope"))),
            Some(Subject { name, .. }) => {
                if let Some(name) = name {
                    request.set_header(SUBJECT, name)?;
                }
                // The upstream has no use for it.
                request.remove_header("authorization")?;
                Ok(Verdict::Forward)
            }
        }
    }
}

impl TokenAuth {
    /// Whose token it is; `None` if it is not good.
    fn subject(&mut self, token: &str) -> Result<Option<Subject>> {
        let (key, now) = (<[u8; 32]>::from(Sha256::digest(token)), Instant::now());
        if let Some(subject) = self.good.get(&key, now) {
            return Ok(Some(subject));
        }
        if self.bad.get(&key, now).is_some() {
            return Ok(None);
        }
        let told = self.introspect(token)?;
        let left = match told.exp {
            // The servers' clocks may differ; a token that is about to end is asked for again.
            Some(exp) => Duration::from_secs(exp).saturating_sub(SystemTime::now().duration_since(UNIX_EPOCH)?),
            None => Duration::MAX,
        };
        if !told.active || left.is_zero() {
            self.bad.put(key, (), now, Duration::from_secs(self.config.negative_cache));
            return Ok(None);
        }
        let wanted = self.config.scope.as_deref();
        let has_scope = wanted.is_none_or(|wanted| told.scope.split(' ').any(|scope| scope == wanted));
        let subject = Subject { name: told.sub.filter(|name| !name.is_empty()), has_scope };
        self.good.put(key, subject.clone(), now, left.min(Duration::from_secs(self.config.cache)));
        Ok(Some(subject))
    }

    fn introspect(&self, token: &str) -> Result<Introspection> {
        let response = fetch::Request::post(&self.config.url)
            .header("authorization", self.authorization.as_str())
            .header("accept", "application/json")
            .form(&[("token", token), ("token_type_hint", "access_token")])
            .max_body(64 << 10)
            .send()?;
        if response.status() != 200 {
            return Err(format!("the authorization server says {}", response.status()).into());
        }
        Ok(response.json()?)
    }

    /// A refusal with the challenge of RFC 6750, section 3. One that carries no token is told no error.
    fn refuse(&self, status: u16, error: Option<&str>) -> Verdict {
        let mut challenge = format!("Bearer realm=\"{}\"", self.config.realm);
        if let Some(error) = error {
            challenge.push_str(&format!(", error=\"{error}\""));
        }
        if let (403, Some(scope)) = (status, &self.config.scope) {
            challenge.push_str(&format!(", scope=\"{scope}\""));
        }
        Reply::new(status).header("www-authenticate", challenge).into()
    }
}

/// The token of an `Authorization` field.
fn bearer(field: &str) -> Option<&str> {
    let (scheme, token) = field.split_once(' ')?;
    let token = token.trim();
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.bytes().all(fits)).then_some(token)
}

/// Values by the digest of a token, each for some time, and no more than so many.
struct Cache<V> {
    entries: HashMap<[u8; 32], (V, Instant)>,
    capacity: usize,
}

impl<V: Clone> Cache<V> {
    fn new(capacity: usize) -> Self {
        Self { entries: HashMap::new(), capacity }
    }

    fn get(&mut self, key: &[u8; 32], now: Instant) -> Option<V> {
        self.entries.get(key).filter(|(_, until)| now < *until).map(|(value, _)| value.clone())
    }

    fn put(&mut self, key: [u8; 32], value: V, now: Instant, time: Duration) {
        if time.is_zero() || self.capacity == 0 {
            return;
        }
        if self.entries.len() >= self.capacity {
            self.entries.retain(|_, (_, until)| now < *until);
        }
        if self.entries.len() >= self.capacity {
            // Rare, and simple: everybody is asked for once more.
            self.entries.clear();
        }
        self.entries.insert(key, (value, now + time));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_sdk::testing;

    fn plugin(extra: &str) -> Result<TokenAuth> {
        testing::secrets::set("introspection", "hunter2");
        testing::fetch::answer(|request| {
            assert_eq!(request.header_value("authorization"), Some(&b"Basic Z3c6aHVudGVyMg=="[..]));
            let token = String::from_utf8_lossy(request.body_bytes()).into_owned();
            let body = match token.as_str() {
                "token=good&token_type_hint=access_token" => r#"{"active": true, "sub": "ada", "scope": "read write"}"#,
                "token=nobody&token_type_hint=access_token" => r#"{"active": true}"#,
                "token=empty&token_type_hint=access_token" => r#"{"active": true, "sub": ""}"#,
                "token=over&token_type_hint=access_token" => r#"{"active": true, "sub": "ada", "exp": 1}"#,
                "token=down&token_type_hint=access_token" => return Err(fetch::FetchError::Timeout),
                _ => r#"{"active": false}"#,
            };
            Ok(fetch::Response::new(200).body(body))
        });
        let config = format!(r#"{{"url": "https://login.example.com/introspect", "client_id": "gw" {extra}}}"#);
        TokenAuth::configure(serde_json::from_str(&config)?)
    }

    /// The status and challenge of a refusal, or the subject that the upstream is told.
    type Answer = Result<Option<String>, (u16, String)>;

    /// A request of a client that would like to be root.
    fn send(plugin: &mut TokenAuth, authorization: Option<&str>) -> Result<Answer> {
        let mut request = Request::builder().header(SUBJECT, "root");
        if let Some(field) = authorization {
            request = request.header("authorization", field);
        }
        let mut request = request.build();
        Ok(match plugin.on_request(&mut request)? {
            Verdict::Respond(reply) => {
                let challenge = reply.headers.first().map(|(_, value)| String::from_utf8_lossy(value).into_owned());
                Err((reply.status, challenge.unwrap_or_default()))
            }
            _ => {
                assert_eq!(request.header("authorization"), None);
                Ok(request.header(SUBJECT))
            }
        })
    }

    fn ada() -> Answer {
        Ok(Some("ada".to_owned()))
    }

    fn refused(status: u16, challenge: &str) -> Answer {
        Err((status, format!("Bearer realm=\"api\"{challenge}")))
    }

    #[test]
    fn a_good_token_passes_and_its_subject_is_told_to_the_upstream() -> Result<()> {
        let mut plugin = plugin("")?;
        assert_eq!(send(&mut plugin, Some("Bearer good"))?, ada());
        assert_eq!(send(&mut plugin, Some("bearer good"))?, ada());
        assert_eq!(testing::fetch::take().len(), 1, "it is remembered");
        Ok(())
    }

    #[test]
    fn a_token_of_nobody_passes_without_a_subject_whatever_the_client_says() -> Result<()> {
        let mut plugin = plugin("")?;
        for nobody in ["Bearer nobody", "Bearer empty"] {
            assert_eq!(send(&mut plugin, Some(nobody))?, Ok(None), "{nobody}");
            assert_eq!(send(&mut plugin, Some(nobody))?, Ok(None), "{nobody}, remembered");
        }
        Ok(())
    }

    #[test]
    fn the_client_proves_itself_as_oauth_wants_it() -> Result<()> {
        testing::secrets::set("introspection", "a:b +%");
        let config = r#"{"url": "https://login.example.com/introspect", "client_id": "gate way:1"}"#;
        let plugin = TokenAuth::configure(serde_json::from_str(config)?)?;
        let encoded = plugin.authorization.strip_prefix("Basic ").unwrap_or_default();
        assert_eq!(STANDARD.decode(encoded).unwrap_or_default(), b"gate+way%3A1:a%3Ab+%2B%25");
        Ok(())
    }

    #[test]
    fn everything_else_is_answered_with_its_challenge() -> Result<()> {
        let mut plugin = plugin("")?;
        assert_eq!(send(&mut plugin, None)?, refused(401, ""));
        for malformed in ["Bearer", "Bearer ", "Basic Z3c6", "Bearer a b", "Bearer \"x\""] {
            assert_eq!(send(&mut plugin, Some(malformed))?, refused(401, ", error=\"invalid_request\""), "{malformed}");
        }
        assert!(testing::fetch::take().is_empty(), "the server hears nothing of these");
        for _ in 0..5 {
            for bad in ["Bearer bad", "Bearer over"] {
                assert_eq!(send(&mut plugin, Some(bad))?, refused(401, ", error=\"invalid_token\""));
            }
        }
        assert_eq!(testing::fetch::take().len(), 2, "bad ones are remembered, too");
        Ok(())
    }

    #[test]
    fn a_token_without_the_scope_is_forbidden() -> Result<()> {
        let scope = ", error=\"insufficient_scope\", scope=\"admin\"";
        assert_eq!(send(&mut plugin(r#", "scope": "admin""#)?, Some("Bearer good"))?, refused(403, scope));
        assert_eq!(send(&mut plugin(r#", "scope": "write""#)?, Some("Bearer good"))?, ada());
        Ok(())
    }

    #[test]
    fn a_server_that_does_not_answer_fails_the_call_and_is_asked_again() -> Result<()> {
        let mut plugin = plugin("")?;
        for _ in 0..2 {
            assert!(send(&mut plugin, Some("Bearer down")).is_err());
        }
        assert_eq!(testing::fetch::take().len(), 2);
        Ok(())
    }

    #[test]
    fn the_caches_are_bounded_and_many_bad_tokens_push_no_good_one_out() -> Result<()> {
        let mut plugin = plugin(r#", "capacity": 10"#)?;
        let _ = send(&mut plugin, Some("Bearer good"))?;
        for n in 0..100 {
            let _ = send(&mut plugin, Some(&format!("Bearer bad{n}")))?;
            assert!(plugin.bad.entries.len() <= 10);
        }
        let _ = testing::fetch::take();
        assert_eq!(send(&mut plugin, Some("Bearer good"))?, ada());
        assert!(testing::fetch::take().is_empty());
        Ok(())
    }

    #[test]
    fn without_its_secret_the_plugin_is_refused() {
        let config = serde_json::from_str(r#"{"url": "https://a.example", "client_id": "gw", "secret": "other"}"#);
        let error = config.ok().and_then(|config| TokenAuth::configure(config).err());
        assert!(error.is_some_and(|error| error.to_string().starts_with("there is no secret `other`")));
    }
}
