//! How long a receiver wants to be left alone (RFC 9110, section 10.2.3).

use std::time::{Duration, SystemTime};

use http::HeaderValue;

/// No receiver is left alone for longer, whatever it says.
pub(super) const LONGEST: Duration = Duration::from_secs(600);

/// What `Retry-After` says, in seconds or as a date. `None` if it says nothing that can be understood.
pub(super) fn wait(value: &HeaderValue, now: SystemTime) -> Option<Duration> {
    let value = value.to_str().ok()?.trim();
    let seconds = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let wait = if seconds {
        // A number that does not fit is long.
        value.parse().map_or(LONGEST, Duration::from_secs)
    } else {
        httpdate::parse_http_date(value).ok()?.duration_since(now).unwrap_or_default()
    };
    Some(wait.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates_are_understood_and_bounded() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let says = |value: &'static str| wait(&HeaderValue::from_static(value), now);
        assert_eq!(says("0"), Some(Duration::ZERO));
        assert_eq!(says("120"), Some(Duration::from_secs(120)));
        assert_eq!(says("601"), Some(LONGEST));
        assert_eq!(says("99999999999999999999999999"), Some(LONGEST));
        assert_eq!(says("Sun, 06 Nov 1994 08:50:00 GMT"), Some(Duration::from_secs(23)));
        assert_eq!(says("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(says("Fri, 31 Dec 9999 23:59:59 GMT"), Some(LONGEST));
        for nonsense in ["", "soon", "-1", "1.5", "Sun, 06 Nov"] {
            assert_eq!(says(nonsense), None, "{nonsense:?}");
        }
    }
}
