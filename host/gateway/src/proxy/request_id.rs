//! The id of an exchange: the client's `x-request-id` if it is fit to be logged, a new one otherwise.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderValue};

use super::headers::X_REQUEST_ID;

/// Longest id taken over from a client.
const MAX_LENGTH: usize = 128;

/// Makes ids: 32 hex digits, unlike each other and unlike those of other processes. They name exchanges and protect
/// nothing, so they need no cryptographic randomness and no system call.
#[derive(Debug)]
pub(super) struct RequestIds {
    high: u64,
    low: u64,
    next: AtomicU64,
}

impl RequestIds {
    pub(super) fn new() -> Self {
        // The standard library's hash keys are the one source of randomness that needs no dependency.
        let random = RandomState::new();
        Self { high: random.hash_one(0), low: random.hash_one(1), next: AtomicU64::new(0) }
    }

    /// The id for a request with these fields.
    pub(super) fn of(&self, headers: &HeaderMap) -> HeaderValue {
        match headers.get(X_REQUEST_ID) {
            Some(id) if is_fit(id.as_bytes()) => id.clone(),
            _ => self.generate(),
        }
    }

    fn generate(&self) -> HeaderValue {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut id = [0; 32];
        let bytes = mix(self.high.wrapping_add(number)).to_be_bytes().into_iter();
        let bytes = bytes.chain(mix(self.low ^ number.rotate_left(32)).to_be_bytes());
        for (pair, byte) in id.chunks_exact_mut(2).zip(bytes) {
            if let [high, low] = pair {
                *high = hex(byte >> 4);
                *low = hex(byte & 15);
            }
        }
        HeaderValue::from_bytes(&id).unwrap_or_else(|_| HeaderValue::from_static("none"))
    }
}

/// Visible ASCII without what quoting, lists and log formats use.
fn is_fit(id: &[u8]) -> bool {
    (1..=MAX_LENGTH).contains(&id.len())
        && id.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/+=@~".contains(byte))
}

fn hex(digit: u8) -> u8 {
    if digit < 10 { b'0' + digit } else { b'a' - 10 + digit }
}

/// The finaliser of SplitMix64: a bijection, so that different numbers stay different.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn with(id: &'static [u8]) -> HeaderMap {
        HeaderMap::from_iter([(X_REQUEST_ID, HeaderValue::from_bytes(id).expect("a field value"))])
    }

    #[test]
    fn a_fit_id_of_the_client_is_kept() {
        let ids = RequestIds::new();
        assert_eq!(ids.of(&with(b"3f2a-41:x/y")), "3f2a-41:x/y");
    }

    #[test]
    fn an_unfit_id_is_replaced() {
        let ids = RequestIds::new();
        let long: &'static [u8] = [b'x'; 129].as_slice().to_vec().leak();
        for unfit in [b"".as_slice(), b"a b", b"a\"b", b"a\\b", b"a,b", b"\xe2\x82\xac", long] {
            let id = ids.of(&with(unfit));
            assert_eq!(id.len(), 32);
            assert!(is_fit(id.as_bytes()));
        }
    }

    #[test]
    fn generated_ids_differ() {
        let (one, other) = (RequestIds::new(), RequestIds::new());
        let ids: HashSet<HeaderValue> = (0..10_000).flat_map(|_| [one.generate(), other.generate()]).collect();
        assert_eq!(ids.len(), 20_000);
    }
}
