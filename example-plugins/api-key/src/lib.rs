//! Lets through requests that carry a known key, and answers all others itself.

use serde::Deserialize;
use tidegate_sdk::prelude::*;

struct ApiKey(Config);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The header that carries the key.
    #[serde(default = "default_header")]
    header: String,
    /// The keys that are let through.
    keys: Vec<String>,
}

fn default_header() -> String {
    "x-api-key".to_owned()
}

#[tidegate_sdk::plugin]
impl Plugin for ApiKey {
    type Config = Config;

    fn configure(config: Config) -> Result<Self> {
        if config.keys.is_empty() {
            return Err("`keys` is empty: nobody would be let through".into());
        }
        Ok(Self(config))
    }

    fn on_request(&mut self, request: &mut Request) -> Result<Verdict> {
        let given = request.header_bytes(&self.0.header).unwrap_or_default();
        // Every key is compared in full, so that the time taken tells nothing about them.
        let known = self.0.keys.iter().fold(false, |known, key| known | same(key.as_bytes(), &given));
        if !known {
            return Ok(Verdict::Respond(unauthorized(&self.0.header)?));
        }
        // The upstream has no use for it.
        request.remove_header(&self.0.header)?;
        Ok(Verdict::Forward)
    }
}

/// Whether two byte strings are the same, in a time that depends on their lengths alone.
fn same(a: &[u8], b: &[u8]) -> bool {
    let differing = a.iter().zip(b).fold(0, |differing, (a, b)| differing | (a ^ b));
    a.len() == b.len() && std::hint::black_box(differing) == 0
}

/// A 401 with a problem document (RFC 9457).
fn unauthorized(header: &str) -> Result<Reply> {
    let body = serde_json::to_vec(&serde_json::json!({
        "title": "Unauthorized",
        "status": 401,
        "detail": format!("a known key in `{header}` is needed"),
    }))?;
    Ok(Reply::new(401)
        .header("content-type", "application/problem+json")
        .header("www-authenticate", format!("ApiKey header=\"{header}\""))
        .body(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(key: Option<&str>) -> Result<Option<u16>> {
        let mut plugin =
            ApiKey::configure(Config { header: default_header(), keys: vec!["open".into(), "sesame".into()] })?;
        let mut request = Request::builder();
        if let Some(key) = key {
            request = request.header("x-api-key", key);
        }
        let mut request = request.build();
        let verdict = plugin.on_request(&mut request)?;
        Ok(match verdict {
            Verdict::Respond(reply) => Some(reply.status),
            _ => {
                assert_eq!(request.header("x-api-key"), None);
                None
            }
        })
    }

    #[test]
    fn a_known_key_passes_and_is_not_handed_on() -> Result<()> {
        assert_eq!(status(Some("sesame"))?, None);
        Ok(())
    }

    #[test]
    fn no_key_and_unknown_keys_are_answered_with_401() -> Result<()> {
        for key in [None, Some(""), Some("sesam"), Some("sesame ")] {
            assert_eq!(status(key)?, Some(401), "{key:?}");
        }
        Ok(())
    }
}
