//! Cron schedules: five fields, the `@` macros, and when they fire next in a time zone.
//!
//! A time that a change of the clock skips is skipped; one that it repeats fires each time. When both the day of the
//! month and the day of the week are restricted, either is enough.

use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan, Zoned};

/// A schedule that does not fire within this many years (30 February) never does.
const HORIZON_YEARS: i16 = 5;
const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    #[error("expected exactly 5 fields, found {found}: {text:?}")]
    Fields { found: usize, text: String },
    #[error("unrecognized descriptor: {0}")]
    Descriptor(String),
    #[error("failed to parse duration {0}")]
    Every(String),
    #[error("failed to parse int from {0:?}")]
    Number(String),
    #[error("{name} ({value}) outside of bounds ({min}-{max}): {text}")]
    Bounds { name: &'static str, value: u32, min: u32, max: u32, text: String },
    #[error("unknown time zone {0}")]
    TimeZone(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    Every(Duration),
    Fields(Fields),
}

/// One bit per allowed value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    any_day: bool,
    any_weekday: bool,
}

pub fn time_zone(name: &str) -> Result<TimeZone, ScheduleError> {
    let unknown = || ScheduleError::TimeZone(name.to_owned());
    if name.is_empty() || name.eq_ignore_ascii_case("local") {
        return Err(unknown());
    }
    TimeZoneDatabase::bundled().get(name).map_err(|_| unknown())
}

impl Schedule {
    pub fn parse(text: &str) -> Result<Self, ScheduleError> {
        let text = text.trim();
        if let Some(descriptor) = text.strip_prefix('@') {
            return Self::parse_descriptor(descriptor);
        }
        Fields::parse(text).map(Self::Fields)
    }

    fn parse_descriptor(descriptor: &str) -> Result<Self, ScheduleError> {
        let fields = match descriptor {
            "yearly" | "annually" => "0 0 1 1 *",
            "monthly" => "0 0 1 * *",
            "weekly" => "0 0 * * 0",
            "daily" | "midnight" => "0 0 * * *",
            "hourly" => "0 * * * *",
            _ => {
                let Some(every) = descriptor.strip_prefix("every ") else {
                    return Err(ScheduleError::Descriptor(format!("@{descriptor}")));
                };
                return parse_duration(every).map(Self::Every).ok_or_else(|| ScheduleError::Every(every.into()));
            }
        };
        Fields::parse(fields).map(Self::Fields)
    }

    /// The first time it fires strictly after `after`.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Every(period) => {
                let second = Timestamp::from_second(after.as_second()).ok()?;
                second.checked_add(*period).ok()
            }
            Self::Fields(fields) => fields.next(after, zone),
        }
    }
}

/// Go's duration syntax in whole units: `1h30m`, `90s`. Shorter than a second counts as a second.
fn parse_duration(text: &str) -> Option<Duration> {
    let (mut total, mut number) = (0_u64, String::new());
    for character in text.trim().chars() {
        if character.is_ascii_digit() {
            number.push(character);
            continue;
        }
        let unit = match character {
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return None,
        };
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(unit)?)?;
        number.clear();
    }
    number.is_empty().then_some(Duration::from_secs(total.max(1)))
}

impl Fields {
    fn parse(text: &str) -> Result<Self, ScheduleError> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields[..] else {
            return Err(ScheduleError::Fields { found: fields.len(), text: text.to_owned() });
        };
        let any = |field: &str| field.split(',').any(|part| part == "*" || part == "?" || part == "*/1");
        Ok(Self {
            minutes: parse_field(minutes, 0, 59, &[])?,
            hours: parse_field(hours, 0, 23, &[])?,
            days: parse_field(days, 1, 31, &[])?,
            months: parse_field(months, 1, 12, &MONTHS)?,
            weekdays: parse_field(weekdays, 0, 6, &DAYS)?,
            any_day: any(days),
            any_weekday: any(weekdays),
        })
    }

    fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let minute = Timestamp::from_second(after.as_second().div_euclid(60) * 60 + 60).ok()?;
        let mut at: Zoned = minute.to_zoned(zone.clone());
        let last_year = at.year() + HORIZON_YEARS;
        while at.year() <= last_year {
            at = if !has(self.months, at.month()) {
                start_of(at.date().first_of_month().checked_add(1.month()).ok()?, zone)?
            } else if !self.day_matches(at.date()) {
                start_of(at.date().tomorrow().ok()?, zone)?
            } else if !has(self.hours, at.hour()) {
                at.checked_add((60 - i64::from(at.minute())).minutes()).ok()?
            } else if !has(self.minutes, at.minute()) {
                at.checked_add(1.minute()).ok()?
            } else {
                return Some(at.timestamp());
            };
        }
        None
    }

    fn day_matches(&self, date: Date) -> bool {
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        if self.any_day || self.any_weekday { day && weekday } else { day || weekday }
    }
}

fn has(bits: u64, value: i8) -> bool {
    bits & (1 << value) != 0
}

fn start_of(date: Date, zone: &TimeZone) -> Option<Zoned> {
    date.to_zoned(zone.clone()).ok()
}

fn parse_field(text: &str, min: u32, max: u32, names: &[&str]) -> Result<u64, ScheduleError> {
    let mut bits = 0;
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(parse_value(step, min, &[])?)),
            None => (part, None),
        };
        let (low, high) = match range.split_once('-') {
            _ if range == "*" || range == "?" => (min, max),
            Some((low, high)) => (parse_value(low, min, names)?, parse_value(high, min, names)?),
            None => {
                let low = parse_value(range, min, names)?;
                (low, if step.is_some() { max } else { low })
            }
        };
        let step = step.unwrap_or(1);
        check_bounds("beginning of range", low, min, max, part)?;
        check_bounds("end of range", high, min, max, part)?;
        check_bounds("beginning of range", low, min, high, part)?;
        check_bounds("step of range", step, 1, u32::MAX, part)?;
        (low..=high).step_by(step as usize).for_each(|value| bits |= 1 << value);
    }
    Ok(bits)
}

fn check_bounds(name: &'static str, value: u32, min: u32, max: u32, text: &str) -> Result<(), ScheduleError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(ScheduleError::Bounds { name, value, min, max, text: text.to_owned() })
}

fn parse_value(text: &str, min: u32, names: &[&str]) -> Result<u32, ScheduleError> {
    let lower = text.to_ascii_lowercase();
    if let Some(index) = names.iter().position(|name| *name == lower) {
        return Ok(u32::try_from(index).expect("twelve names at most") + min);
    }
    text.parse().map_err(|_| ScheduleError::Number(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(schedule: &str, zone: &str, after: &str, expected: Option<&str>) {
        let zone = time_zone(zone).expect("known zone");
        let after: Timestamp = after.parse().expect("a timestamp");
        let next = Schedule::parse(schedule).expect("a schedule").next(after, &zone);
        let expected = expected.map(|text| text.parse::<Timestamp>().expect("a timestamp"));
        assert_eq!(next, expected, "{schedule} after {after}");
    }

    #[test]
    fn next_times() {
        check("* * * * *", "UTC", "2026-01-01T00:00:00Z", Some("2026-01-01T00:01:00Z"));
        check("* * * * *", "UTC", "2026-01-01T00:00:59.5Z", Some("2026-01-01T00:01:00Z"));
        check("*/15 * * * *", "UTC", "2026-01-01T00:46:00Z", Some("2026-01-01T01:00:00Z"));
        check("30 4 1,15 * *", "UTC", "2026-01-02T00:00:00Z", Some("2026-01-15T04:30:00Z"));
        check("0 0 * * mon", "UTC", "2026-01-01T00:00:00Z", Some("2026-01-05T00:00:00Z"));
        check("0 0 13 * fri", "UTC", "2026-01-01T00:00:00Z", Some("2026-01-02T00:00:00Z"));
        check("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", Some("2028-02-29T00:00:00Z"));
        check("0 0 30 2 *", "UTC", "2026-01-01T00:00:00Z", None);
        check("5/20 * * * *", "UTC", "2026-01-01T00:06:00Z", Some("2026-01-01T00:25:00Z"));
        check("@hourly", "UTC", "2026-01-01T00:00:00Z", Some("2026-01-01T01:00:00Z"));
        check("@weekly", "UTC", "2026-01-01T00:00:00Z", Some("2026-01-04T00:00:00Z"));
        check("@every 1h30m", "UTC", "2026-01-01T00:00:00Z", Some("2026-01-01T01:30:00Z"));
    }

    #[test]
    fn zones_and_clock_changes() {
        check("0 12 * * *", "Asia/Kolkata", "2026-01-01T00:00:00Z", Some("2026-01-01T06:30:00Z"));
        // 02:30 does not exist on 29 March 2026 in Berlin.
        check("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", Some("2026-03-30T00:30:00Z"));
        // 02:30 happens twice on 25 October 2026.
        check("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", Some("2026-10-25T00:30:00Z"));
        check("30 2 * * *", "Europe/Berlin", "2026-10-25T00:30:00Z", Some("2026-10-25T01:30:00Z"));
        assert!(time_zone("Mars/Olympus").is_err());
        assert!(time_zone("Local").is_err());
    }

    #[test]
    fn refuses_nonsense() {
        for text in [
            "",
            "* * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 7",
            "5-3 * * * *",
            "*/0 * * * *",
            "a * * * *",
            "@never",
            "@every x",
        ] {
            assert!(Schedule::parse(text).is_err(), "{text}");
        }
    }
}
