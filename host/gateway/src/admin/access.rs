//! Who may ask. With a token, whoever carries it. Without one, whoever reaches the listener, which is on loopback by default;
//! but not a web page that a person on this machine happens to have open.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::{HeaderMap, HeaderValue, StatusCode};
use sha2::{Digest, Sha256};

use super::AdminState;
use super::answers::Problem;
use crate::config::Token;

/// Let a request pass, or say why not.
pub(super) async fn guard(State(state): State<AdminState>, request: Request, next: Next) -> Response {
    let refused = match &*state.tokens.load() {
        Some(token) => unauthorized(request.headers(), token),
        None => from_elsewhere(request.headers()),
    };
    match refused {
        Some(problem) => problem.into_response(),
        None => next.run(request).await,
    }
}

fn unauthorized(headers: &HeaderMap, token: &Token) -> Option<Problem> {
    let carried = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
    let bearer = carried.and_then(|value| value.split_at_checked(7)).filter(|(scheme, _)| {
        // RFC 9110, section 11.1: the scheme's case does not matter.
        scheme.eq_ignore_ascii_case(b"bearer ")
    });
    match bearer {
        // Digests take the same time to compare whatever they have in common with the secret's.
        Some((_, secret)) if Sha256::digest(secret.trim_ascii()) == Sha256::digest(token.secret()) => None,
        Some(_) => Some(Problem::new(StatusCode::UNAUTHORIZED, "The token is not the one in `token_file`.")),
        None => Some(
            Problem::new(StatusCode::UNAUTHORIZED, "The admin API demands a token.")
                .hint("send the header field `Authorization: Bearer TOKEN`"),
        ),
    }
}

/// A browser says which page a request comes from; one that this listener did not serve has no business here. The address
/// must be a literal one, or a foreign name could be made to resolve to it (DNS rebinding).
fn from_elsewhere(headers: &HeaderMap) -> Option<Problem> {
    let origin = headers.get(ORIGIN)?;
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let own = origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://")).is_some_and(|own| own == host);
    let name = host.rsplit_once(':').map_or(host, |(name, _port)| name);
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    let literal = bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok();
    (!own || !literal).then(|| {
        Problem::new(StatusCode::FORBIDDEN, "The request comes from a web page that is not this listener's.")
            .hint("set `token_file` under [admin] to use the API from elsewhere")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.parse().expect("a name"), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn only_the_listeners_own_page_may_ask_without_a_token() {
        let passes = |host, origin| from_elsewhere(&headers(&[("host", host), ("origin", origin)])).is_none();
        assert!(passes("127.0.0.1:9901", "http://127.0.0.1:9901"));
        assert!(passes("localhost:9901", "http://localhost:9901"));
        assert!(passes("[::1]:9901", "http://[::1]:9901"));
        assert!(!passes("127.0.0.1:9901", "https://attacker.example"));
        assert!(!passes("127.0.0.1:9901", "null"));
        assert!(!passes("attacker.example:9901", "http://attacker.example:9901"), "DNS rebinding");
        assert!(from_elsewhere(&headers(&[("host", "gateway.internal:9901")])).is_none(), "not a browser");
    }
}
