//! Signatures by Standard Webhooks 1.0.0, so that receivers can use the libraries that there are.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::event::Event;

/// What a key begins with in files and variables. Libraries for receivers take it with and without.
const PREFIX: &str = "whsec_";

/// The bytes that a key may have: 192 to 512 bits.
const LENGTHS: std::ops::RangeInclusive<usize> = 24..=64;

/// A key that events are signed with.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey(Vec<u8>);

/// Text that is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SigningKeyError {
    /// It is not `whsec_` and base64.
    #[error("it is not `{PREFIX}` and base64")]
    Syntax,
    /// The key is too short to be safe, or longer than libraries take: its bytes.
    #[error("the key has {0} bytes, and not {least} to {most}", least = LENGTHS.start(), most = LENGTHS.end())]
    Length(usize),
}

impl SigningKey {
    /// Read `whsec_` and base64, or base64 alone.
    ///
    /// # Errors
    /// When it is neither, or the key is too short or too long.
    pub fn parse(text: &str) -> Result<Self, SigningKeyError> {
        let text = text.trim();
        let key = STANDARD.decode(text.strip_prefix(PREFIX).unwrap_or(text)).map_err(|_| SigningKeyError::Syntax)?;
        if !LENGTHS.contains(&key.len()) {
            return Err(SigningKeyError::Length(key.len()));
        }
        Ok(Self(key))
    }

    /// `None` for a length that HMAC does not take: it takes every one.
    fn sign(&self, signed: &str, body: &[u8]) -> Option<String> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(signed.as_bytes());
        mac.update(body);
        Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

/// The fields of an attempt at this time. With several keys there are several signatures, and a receiver that knows one of
/// the keys is content.
pub(super) fn fields(keys: &[SigningKey], event: &Event, now: SystemTime) -> [(&'static str, String); 3] {
    let id = event.id.to_string();
    // Before 1970 no receiver takes it anyway.
    let timestamp = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().to_string();
    let signed = format!("{id}.{timestamp}.");
    let signatures: Vec<_> = keys.iter().filter_map(|key| key.sign(&signed, &event.body)).collect();
    [("webhook-id", id), ("webhook-timestamp", timestamp), ("webhook-signature", signatures.join(" "))]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example that the libraries of Standard Webhooks test themselves with.
    #[test]
    fn a_signature_is_that_of_the_libraries() {
        let key = SigningKey::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a key");
        let signed = "msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.";
        let signature = key.sign(signed, br#"{"test": 2432232314}"#);
        assert_eq!(signature.as_deref(), Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let says = |text: &str| SigningKey::parse(text).map(drop).expect_err("refused").to_string();
        assert_eq!(says("whsec_not base64"), "it is not `whsec_` and base64");
        assert_eq!(says(""), "the key has 0 bytes, and not 24 to 64");
        assert_eq!(says("whsec_c2hvcnQ="), "the key has 5 bytes, and not 24 to 64");
        assert_eq!(says(&STANDARD.encode([7; 65])), "the key has 65 bytes, and not 24 to 64");
        assert!(SigningKey::parse(&format!(" {}\n", STANDARD.encode([7; 32]))).is_ok());
    }
}
