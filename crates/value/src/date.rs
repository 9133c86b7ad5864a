//! Dates as PostgreSQL writes them in JSON, and as clients write them: ISO 8601.

use std::fmt;

/// A day, counted from 2000-01-01; the ends of the range are `-infinity` and `infinity`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date(i32);

/// The days of the years 1 to 9999, which every spelling can express.
pub(crate) const LITERAL_DAYS: std::ops::RangeInclusive<i64> = -730_119..=2_921_939;

impl Date {
    /// Reads `YYYY-MM-DD`, also with ` BC`, or `infinity`, `-infinity`.
    pub fn read(text: &str) -> Option<Self> {
        match text {
            "-infinity" => return Some(Self(i32::MIN)),
            "infinity" => return Some(Self(i32::MAX)),
            _ => {}
        }
        let (text, before_christ) = strip_era(text);
        let days = i32::try_from(read_days(text, before_christ)?).ok()?;
        Some(Self(days))
    }

    /// Whether a literal may name it: it lies in the years 1 to 9999.
    pub fn fits_a_literal(self) -> bool {
        LITERAL_DAYS.contains(&i64::from(self.0))
    }

    /// Days from 2000-01-01.
    pub(crate) fn count(self) -> i64 {
        self.0.into()
    }
}

/// The text without ` BC`, and whether it was there.
pub(crate) fn strip_era(text: &str) -> (&str, bool) {
    match text.strip_suffix(" BC") {
        Some(text) => (text, true),
        None => (text, false),
    }
}

/// The day that `YYYY-MM-DD` names, if the calendar has it.
pub(crate) fn read_days(text: &str, before_christ: bool) -> Option<i64> {
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let year_fits = (4..=7).contains(&year.len()) && !(year.len() > 4 && year.starts_with('0'));
    if parts.next().is_some() || !year_fits {
        return None;
    }
    let year = digits(year, year.len()).filter(|&year| year > 0)?;
    // The year before 1 is 1 BC.
    let year = if before_christ { 1 - year } else { year };
    let (month, day) = (digits(month, 2)?, digits(day, 2)?);
    let exists = (1..=12).contains(&month) && (1..=days_of(year, month)).contains(&day);
    exists.then(|| count_days(year, month, day))
}

fn days_of(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 2000-01-01 in the Gregorian calendar, carried back before its time as PostgreSQL does
/// (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`).
fn count_days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 730_425
}

/// The inverse of `count_days` (`civil_from_days`).
pub(crate) fn date_of_day(days: i64) -> (i64, i64, i64) {
    let days = days + 730_425;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

/// The number that exactly `count` digits spell.
pub(crate) fn digits(text: &str, count: usize) -> Option<i64> {
    let all_digits = text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    if all_digits { text.parse().ok() } else { None }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            i32::MIN => f.write_str("-infinity"),
            i32::MAX => f.write_str("infinity"),
            days => {
                let (year, month, day) = date_of_day(days.into());
                write!(f, "{year:04}-{month:02}-{day:02}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_days_from_2000() {
        for (text, days) in [
            ("2000-01-01", 0),
            ("1999-12-31", -1),
            ("2000-02-29", 59),
            ("1970-01-01", -10_957),
            ("0001-01-01", -730_119),
            ("9999-12-31", 2_921_939),
            ("0001-12-31 BC", -730_120),
            ("4713-01-01 BC", -2_451_507),
            ("5874897-12-31", 2_145_031_948),
        ] {
            assert_eq!(Date::read(text), Some(Date(days)), "{text}");
        }
        for days in (-800_000..3_000_000).step_by(97) {
            let (year, month, day) = date_of_day(days);
            assert_eq!(count_days(year, month, day), days);
        }
        for text in [
            "",
            "2023-02-29",
            "0000-01-01",
            "2026-1-1",
            "26-01-01",
            "2026-13-01",
            "02026-01-01",
            "now",
        ] {
            assert_eq!(Date::read(text), None, "{text}");
        }
    }

    #[test]
    fn a_literal_has_a_year_of_four_digits() {
        assert!(Date::read("9999-12-31").is_some_and(Date::fits_a_literal));
        assert!(!Date::read("10000-01-01").is_some_and(Date::fits_a_literal));
        assert!(!Date::read("infinity").is_some_and(Date::fits_a_literal));
    }

    #[test]
    fn only_days_of_the_calendar_fit_a_literal() {
        for text in [
            "0001-01-01",
            "2026-11-20",
            "2024-02-29",
            "2000-02-29",
            "9999-12-31",
        ] {
            assert!(Date::read(text).is_some_and(Date::fits_a_literal), "{text}");
        }
        for text in [
            "",
            "2026-1-1",
            "0000-01-01",
            "2026-00-10",
            "2026-13-01",
            "2026-04-31",
            "2026-02-29",
            "1900-02-29",
            "2026-01-00",
            "10000-01-01",
            "2026-11-20 ",
            "+026-11-20",
            "20261120",
            "2026-11-20-",
            "２026-11-20",
            "infinity",
        ] {
            assert!(
                !Date::read(text).is_some_and(Date::fits_a_literal),
                "{text}"
            );
        }
    }
}
