//! Names at the server: any key has one, none has two, and a key that is a legal name is that name.

use std::fmt::Write as _;

/// The name of a key. Letters, digits, `-`, `_` and `/` stand for themselves, and so does a dot between two other
/// characters that are not dots; every other byte is `=` and two hexadecimal digits.
pub(super) fn encoded(key: &str) -> String {
    let bytes = key.as_bytes();
    let mut name = String::with_capacity(key.len());
    for (number, byte) in bytes.iter().enumerate() {
        let inside = || {
            let before = number.checked_sub(1).and_then(|number| bytes.get(number));
            let after = bytes.get(number + 1);
            matches!((before, after), (Some(before), Some(after)) if *before != b'.' && *after != b'.')
        };
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'/' => name.push(char::from(*byte)),
            b'.' if inside() => name.push('.'),
            byte => {
                let _ = write!(name, "={byte:02X}");
            }
        }
    }
    name
}

/// The key of a name, if it is the name of one.
pub(super) fn decoded(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'=' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        bytes.push(digit()? << 4 | digit()?);
    }
    let key = String::from_utf8(bytes).ok()?;
    (encoded(&key) == name).then_some(key)
}

/// The bucket of a plugin. No two plugins and buckets have the same: a configured bucket has no `--` and does not end with
/// a dash.
pub(super) fn owned_bucket(bucket: &str, plugin: &str) -> String {
    let mut name = format!("{bucket}--");
    for byte in plugin.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => name.push(char::from(byte)),
            byte => {
                let _ = write!(name, "_{byte:02X}");
            }
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_legal(name: &str) -> bool {
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_/=.".contains(c);
        !name.starts_with('.') && !name.ends_with('.') && !name.contains("..") && name.chars().all(fits)
    }

    #[test]
    fn a_key_that_is_a_legal_name_is_that_name() {
        for key in ["a", "session/42", "user.1.cart", "A-b_c"] {
            assert_eq!(encoded(key), key);
        }
        assert_eq!(encoded(".a..b."), "=2Ea=2E=2Eb=2E");
        assert_eq!(encoded("a b=*>"), "a=20b=3D=2A=3E");
        assert_eq!(decoded("=41"), None, "A has another name");
        assert_eq!(decoded("=ZZ"), None);
        assert_eq!(decoded("=4"), None);
    }

    #[test]
    fn plugins_have_buckets_of_their_own() {
        assert_eq!(owned_bucket("sessions", "audit"), "sessions--audit");
        assert_eq!(owned_bucket("sessions", "a.b_c"), "sessions--a_2Eb_5Fc");
    }

    proptest! {
        #[test]
        fn any_key_has_one_legal_name(key in "(\\PC|[.=/ *>]){1,60}") {
            let name = encoded(&key);
            prop_assert!(is_legal(&name), "{}", name);
            prop_assert_eq!(decoded(&name), Some(key));
        }

        #[test]
        fn a_name_is_that_of_a_key_or_of_none(name in "[a-c=0-9A-F.]{1,20}") {
            if let Some(key) = decoded(&name) {
                prop_assert_eq!(encoded(&key), name);
            }
        }
    }
}
