//! Sizes and durations as people write them: `2MB`, `1GiB`, `64Ki`, `30s`, `1h30m`; a number alone is bytes or seconds.
//!
//! Units of sizes are those of Kubernetes' quantities and of IEC 80000-13, in any case: `k`, `M`, `G` and `T` are powers
//! of 1000, `Ki`, `Mi`, `Gi` and `Ti` powers of 1024, each with or without `B`. Durations are those of `jiff`
//! [spec:user-data.quantities].

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;

/// Units of a size, by their names in lower case without `b`.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("", 1),
    ("k", 1000),
    ("m", 1_000_000),
    ("g", 1_000_000_000),
    ("t", 1_000_000_000_000),
    ("ki", 1 << 10),
    ("mi", 1 << 20),
    ("gi", 1 << 30),
    ("ti", 1 << 40),
];

/// Units in which a size is shown, the preferred one first.
const SHOWN_SIZES: [(&str, u64); 8] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1000),
];

/// Units in which a duration is shown, the preferred one first.
const SHOWN_TIMES: [(&str, u64); 4] = [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)];

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(u64);

/// A whole number of seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds(u64);

/// A text is no size or no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("`{0}` is no size: write a number of bytes, or one with a unit, as in `2MB` or `1GiB`")]
    NoSize(String),
    #[error("`{0}` is no duration: write a number of seconds, or one with a unit, as in `30s`, `5m` or `1h30m`")]
    NoDuration(String),
    #[error("`{0}` is no whole number of seconds")]
    PartOfSecond(String),
}

impl ByteSize {
    #[must_use]
    pub const fn new(bytes: u64) -> ByteSize {
        ByteSize(bytes)
    }

    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<ByteSize, QuantityError> {
        parse_size(text.trim())
            .map(ByteSize)
            .ok_or_else(|| QuantityError::NoSize(text.to_owned()))
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let unit_at = lower.find(|letter: char| !(letter.is_ascii_digit() || letter == '.'));
    let (number, unit) = lower.split_at(unit_at.unwrap_or(lower.len()));
    let unit = unit.trim_start();
    let unit = unit.strip_suffix('b').unwrap_or(unit);
    let (_, unit) = SIZE_UNITS.iter().find(|(name, _)| *name == unit)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole = whole.parse::<u64>().ok()?.checked_mul(*unit)?;
    let fraction = match (number.contains('.'), fraction) {
        (false, _) => 0,
        (true, digits) => {
            let scale = 10_u64.checked_pow(u32::try_from(digits.len()).ok()?)?;
            let part = u128::from(digits.parse::<u64>().ok()?) * u128::from(*unit);
            // A part of a byte is no size.
            (part.is_multiple_of(u128::from(scale)))
                .then(|| u64::try_from(part / u128::from(scale)).ok())
                .flatten()?
        }
    };
    whole.checked_add(fraction)
}

/// Writes the shortest form that is exact.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_in_units(self.0, &SHOWN_SIZES, f)
    }
}

impl Seconds {
    #[must_use]
    pub const fn new(seconds: u64) -> Seconds {
        Seconds(seconds)
    }

    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }

    #[must_use]
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.0)
    }
}

impl FromStr for Seconds {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Seconds, QuantityError> {
        let trimmed = text.trim();
        if let Ok(seconds) = trimmed.parse() {
            return Ok(Seconds(seconds));
        }
        let refuse = || QuantityError::NoDuration(text.to_owned());
        // `jiff` knows no days here, because a day of a calendar may have 23 hours.
        let duration = match trimmed.strip_suffix(['d', 'D']).map(str::trim_end) {
            Some(days) => {
                let hours = days.parse::<i64>().ok().and_then(|days| days.checked_mul(24));
                SignedDuration::try_from_hours(hours.ok_or_else(refuse)?).ok_or_else(refuse)?
            }
            None => trimmed.parse::<SignedDuration>().map_err(|_reason| refuse())?,
        };
        if duration.subsec_nanos() != 0 {
            return Err(QuantityError::PartOfSecond(text.to_owned()));
        }
        u64::try_from(duration.as_secs())
            .map(Seconds)
            .map_err(|_negative| refuse())
    }
}

/// Writes the shortest form that is exact.
impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_in_units(self.0, &SHOWN_TIMES, f)
    }
}

fn write_in_units(number: u64, units: &[(&str, u64)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let exact = units
        .iter()
        .find(|(_, unit)| number > 0 && number.is_multiple_of(*unit));
    match exact {
        Some((name, unit)) => write!(f, "{}{name}", number / unit),
        None => write!(f, "{number}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_have_the_units_of_kubernetes_and_of_disks() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("2MB", 2_000_000),
            ("2 mb", 2_000_000),
            ("2M", 2_000_000),
            ("64Ki", 65_536),
            ("1GiB", 1 << 30),
            ("1.5GiB", 3 << 29),
            ("0.5k", 500),
            ("12B", 12),
            ("3TB", 3_000_000_000_000),
        ] {
            assert_eq!(text.parse().map(ByteSize::bytes), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "MB",
            "-1",
            "+1",
            "1.",
            ".5k",
            "1e6",
            "1.0001k1",
            "0.0001k",
            "2MBit",
            "2 M B",
            "1XB",
            "18446744073709551616",
            "99999999TiB",
            "1.5",
        ] {
            let error = text.parse::<ByteSize>();
            assert_eq!(error, Err(QuantityError::NoSize(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn durations_are_seconds_or_have_units() {
        for (text, seconds) in [
            ("0", 0),
            ("300", 300),
            ("30s", 30),
            ("5m", 300),
            ("5 min", 300),
            ("1h30m", 5400),
            ("1.5h", 5400),
            ("2d", 172_800),
            ("PT5M", 300),
        ] {
            assert_eq!(text.parse().map(Seconds::get), Ok(seconds), "{text}");
        }
        for text in ["", "m", "-5m", "5 parsecs", "1w2x", "99999999999999999999d"] {
            let error = text.parse::<Seconds>();
            assert_eq!(error, Err(QuantityError::NoDuration(text.to_owned())), "{text}");
        }
        let half = "500ms".parse::<Seconds>();
        assert_eq!(half, Err(QuantityError::PartOfSecond("500ms".to_owned())));
    }

    #[test]
    fn the_largest_exact_unit_is_shown() {
        for (bytes, shown) in [
            (0, "0"),
            (1, "1"),
            (1000, "1kB"),
            (1024, "1KiB"),
            (16 << 20, "16MiB"),
            (3_000_000_000, "3GB"),
            (1_000_001, "1000001"),
        ] {
            assert_eq!(ByteSize::new(bytes).to_string(), shown);
        }
        for (seconds, shown) in [
            (0, "0"),
            (59, "59s"),
            (60, "1m"),
            (90, "90s"),
            (3600, "1h"),
            (172_800, "2d"),
        ] {
            assert_eq!(Seconds::new(seconds).to_string(), shown);
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_as_the_same(number: u64, small in 0_u64..10_000_000) {
            for number in [number, small] {
                prop_assert_eq!(ByteSize::new(number).to_string().parse(), Ok(ByteSize::new(number)));
            }
            prop_assert_eq!(Seconds::new(small).to_string().parse(), Ok(Seconds::new(small)));
        }
    }
}
