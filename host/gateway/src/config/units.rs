//! Durations and sizes as people write them, and back.

use std::fmt;
use std::time::Duration;

/// The units of a duration and their length in milliseconds, the shortest first.
const DURATIONS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

/// The units of a size and their length in bytes.
const SIZES: [(&str, u64); 9] = [
    ("B", 1),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Read `"250ms"`, `"5s"`, `"2m"`, `"1h"`. `Err` says what is wrong with it.
pub(super) fn duration(text: &str) -> Result<Duration, &'static str> {
    let millis = quantity(text, &DURATIONS).map_err(|error| match error {
        QuantityError::Number => "a duration is a whole number and a unit",
        QuantityError::Unit => "the units of a duration are ms, s, m and h",
        QuantityError::Overflow => "this duration is out of all proportion",
    })?;
    Ok(Duration::from_millis(millis))
}

/// Read `"64MiB"`, `"1MB"`, `"512KiB"`. `Err` says what is wrong with it.
pub(super) fn size(text: &str) -> Result<u64, &'static str> {
    quantity(text, &SIZES).map_err(|error| match error {
        QuantityError::Number => "a size is a whole number and a unit",
        QuantityError::Unit => "the units of a size are B, KiB, MiB, GiB, TiB, KB, MB, GB and TB",
        QuantityError::Overflow => "this size is out of all proportion",
    })
}

enum QuantityError {
    Number,
    Unit,
    Overflow,
}

fn quantity(text: &str, units: &[(&str, u64)]) -> Result<u64, QuantityError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(QuantityError::Number);
    }
    // A fraction is a mistake in the number, not an unknown unit.
    if unit.starts_with(['.', ',']) {
        return Err(QuantityError::Number);
    }
    let unit = unit.trim_start_matches(' ');
    let (_, scale) = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or(QuantityError::Unit)?;
    let number: u64 = number.parse().map_err(|_| QuantityError::Overflow)?;
    number.checked_mul(*scale).ok_or(QuantityError::Overflow)
}

/// Shows a duration with the unit that suits it: `3.1ms`, `250ms`, `33.25s`, `1m30s`, `2h`.
#[derive(Debug, Clone, Copy)]
pub struct HumanDuration(pub Duration);

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let duration = self.0;
        let text = if duration.is_zero() {
            "0s".to_owned()
        } else if duration < Duration::from_millis(10) && !duration.subsec_nanos().is_multiple_of(1_000_000) {
            format!("{}ms", trimmed(duration.as_secs_f64() * 1e3, 2))
        } else if duration < Duration::from_secs(1) {
            format!("{}ms", duration.as_millis())
        } else if duration < Duration::from_secs(60) {
            format!("{}s", trimmed(duration.as_secs_f64(), 3))
        } else {
            let (minutes, millis) = (duration.as_secs() / 60, (duration.as_millis() % 60_000) as f64);
            let mut text = String::new();
            for (number, unit) in [(minutes / 60, "h"), (minutes % 60, "m")] {
                if number > 0 {
                    text += &format!("{number}{unit}");
                }
            }
            if millis > 0.0 {
                text += &format!("{}s", trimmed(millis / 1e3, 3));
            }
            text
        };
        f.pad(&text)
    }
}

/// Shows a size in the largest binary unit that leaves no more than two decimals: `32MiB`, `1.5KiB`, `100B`.
#[derive(Debug, Clone, Copy)]
pub struct HumanSize(pub u64);

impl std::str::FromStr for HumanSize {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        size(text).map(Self)
    }
}

impl fmt::Display for HumanSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scale = |unit: u64| trimmed(self.0 as f64 / unit as f64, 2);
        let text = match self.0 {
            0..1024 => format!("{}B", self.0),
            1024..0x10_0000 => format!("{}KiB", scale(1 << 10)),
            0x10_0000..0x4000_0000 => format!("{}MiB", scale(1 << 20)),
            0x4000_0000..0x100_0000_0000 => format!("{}GiB", scale(1 << 30)),
            _ => format!("{}TiB", scale(1 << 40)),
        };
        f.pad(&text)
    }
}

/// A number with at most `decimals` decimals and no trailing zeros.
fn trimmed(number: f64, decimals: usize) -> String {
    let text = format!("{number:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("2 m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3600)));
        for wrong in
            ["", "5", "s", "-5s", "1.5s", "5 parsecs", "5s5s", " 5s", "99999999999999999999s", "9999999999999999h"]
        {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_are_binary_or_decimal() {
        assert_eq!(size("64MiB"), Ok(64 << 20));
        assert_eq!(size("1MB"), Ok(1_000_000));
        assert_eq!(size("512kib"), Ok(512 << 10));
        assert_eq!(size("7B"), Ok(7));
        assert_eq!((size("1TiB"), size("2TB")), (Ok(1 << 40), Ok(2_000_000_000_000)));
        for wrong in ["", "64", "64M", "MiB", "-1KiB", "0.5GiB", "99999999999GiB", "99999999TiB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn shown_as_a_person_would_write_it() {
        let shown = |micros| HumanDuration(Duration::from_micros(micros)).to_string();
        assert_eq!(shown(0), "0s");
        assert_eq!(shown(3_100), "3.1ms");
        assert_eq!(shown(250_000), "250ms");
        assert_eq!(shown(33_250_000), "33.25s");
        assert_eq!(shown(90_000_000), "1m30s");
        assert_eq!(shown(7_278_250_000), "2h1m18.25s");
        assert_eq!(shown(60_000_000), "1m");
        assert_eq!(HumanSize(32 << 20).to_string(), "32MiB");
        assert_eq!(HumanSize(1_536).to_string(), "1.5KiB");
        assert_eq!(HumanSize(100).to_string(), "100B");
        assert_eq!(HumanSize(1_023 << 30).to_string(), "1023GiB");
        assert_eq!(HumanSize(3 << 39).to_string(), "1.5TiB");
    }

    proptest! {
        #[test]
        fn any_text_is_an_answer(text in ".*") {
            let _ = (duration(&text), size(&text));
        }

        #[test]
        fn what_is_shown_below_a_minute_reads_back(millis in 0u64..60_000) {
            let text = HumanDuration(Duration::from_millis(millis)).to_string();
            if !text.contains('.') {
                prop_assert_eq!(duration(&text), Ok(Duration::from_millis(millis)));
            }
        }
    }
}
