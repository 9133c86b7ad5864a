//! Times as PostgreSQL writes them in JSON, and as clients write them: ISO 8601.

use std::fmt;

use super::date::{Date, LITERAL_DAYS, date_of_day, digits, read_days, strip_era};

/// Microseconds from the beginning of 2000-01-01 (in UTC, where there is a zone); the ends of the
/// range are `-infinity` and `infinity`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// The zone that a time is written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zone {
    /// None.
    Unspecified,
    /// `Z`, or an offset of zero.
    Utc,
    /// Another offset.
    Offset,
}

const DAY_MICROS: i64 = 86_400_000_000;

/// From 1970-01-01, where Unix begins to count, to 2000-01-01.
const UNIX_MICROS: i64 = 946_684_800_000_000;

impl Timestamp {
    /// The beginning of a day.
    pub fn at_midnight(day: Date) -> Option<Self> {
        day.count().checked_mul(DAY_MICROS).map(Self)
    }

    /// The time that lies so many milliseconds after 1970-01-01; none if it is out of range.
    pub fn from_unix_millis(millis: i64) -> Option<Self> {
        let micros = millis.checked_mul(1000)?;
        micros.checked_sub(UNIX_MICROS).map(Self)
    }

    /// The whole milliseconds from 1970-01-01 to the time; none for one that is too late, as `infinity` is.
    pub fn unix_millis(self) -> Option<i64> {
        let micros = self.0.checked_add(UNIX_MICROS)?;
        Some(micros.div_euclid(1000))
    }

    /// Reads `YYYY-MM-DDTHH:MM[:SS[.fraction]][zone]`, also with a space for the `T` or ` BC` at the end, or
    /// `infinity`, `-infinity`; a time with an offset becomes UTC. None also for a time finer than a
    /// microsecond.
    pub fn read(text: &str) -> Option<(Self, Zone)> {
        match text {
            "-infinity" => return Some((Self(i64::MIN), Zone::Unspecified)),
            "infinity" => return Some((Self(i64::MAX), Zone::Unspecified)),
            _ => {}
        }
        let (text, before_christ) = strip_era(text);
        let spelled = Spelled::read(text, before_christ)?;
        let micros = spelled
            .days
            .checked_mul(DAY_MICROS)?
            .checked_add(spelled.clock.micros)?
            .checked_sub(spelled.offset_minutes * 60_000_000)?;
        (!spelled.clock.is_finer).then_some((Self(micros), spelled.zone))
    }

    /// The zone of a text that PostgreSQL reads as a time in the years 1 to 9999, however fine, or as an
    /// infinite one; none for any other text.
    pub fn zone_of(text: &str) -> Option<Zone> {
        if matches!(text, "infinity" | "-infinity") {
            return Some(Zone::Unspecified);
        }
        let spelled = Spelled::read(text, false)?;
        LITERAL_DAYS.contains(&spelled.days).then_some(spelled.zone)
    }

    /// Whether a literal may name it: it lies in the years 1 to 9999.
    pub fn fits_a_literal(self) -> bool {
        LITERAL_DAYS.contains(&self.0.div_euclid(DAY_MICROS))
    }
}

/// A time as it is written.
struct Spelled {
    days: i64,
    clock: Clock,
    zone: Zone,
    offset_minutes: i64,
}

struct Clock {
    micros: i64,
    /// Whether there are digits below a microsecond.
    is_finer: bool,
}

impl Spelled {
    fn read(text: &str, before_christ: bool) -> Option<Self> {
        let (date, rest) = text.split_once(['T', ' '])?;
        let (clock, zone) = match rest.find(['Z', '+', '-']) {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (zone, offset_minutes) = read_zone(zone)?;
        Some(Self {
            days: read_days(date, before_christ)?,
            clock: read_clock(clock)?,
            zone,
            offset_minutes,
        })
    }
}

/// Reads `HH:MM[:SS[.fraction]]`.
fn read_clock(text: &str) -> Option<Clock> {
    let mut parts = text.split(':');
    let hours = digits(parts.next()?, 2).filter(|&hours| hours < 24)?;
    let minutes = digits(parts.next()?, 2).filter(|&minutes| minutes < 60)?;
    let (seconds, fraction) = match parts.next() {
        None => ("00", "0"),
        Some(part) => part.split_once('.').unwrap_or((part, "0")),
    };
    let seconds = digits(seconds, 2).filter(|&seconds| seconds < 60)?;
    if parts.next().is_some() || !(1..=9).contains(&fraction.len()) {
        return None;
    }
    let nanos = digits(&format!("{fraction:0<9}"), 9)?;
    Some(Clock {
        micros: ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + nanos / 1000,
        is_finer: nanos % 1000 != 0,
    })
}

fn read_zone(text: &str) -> Option<(Zone, i64)> {
    match text {
        "" => return Some((Zone::Unspecified, 0)),
        "Z" => return Some((Zone::Utc, 0)),
        _ => {}
    }
    let offset = text.strip_prefix(['+', '-'])?;
    let (hours, minutes) = offset.split_once(':').unwrap_or((offset, "00"));
    // 15:59 is PostgreSQL's own bound.
    let hours = digits(hours, 2).filter(|&hours| hours <= 15)?;
    let minutes = digits(minutes, 2).filter(|&minutes| minutes < 60)?;
    let minutes = hours * 60 + minutes;
    let zone = if minutes == 0 {
        Zone::Utc
    } else {
        Zone::Offset
    };
    Some((
        zone,
        if text.starts_with('-') {
            -minutes
        } else {
            minutes
        },
    ))
}

impl fmt::Display for Timestamp {
    /// Writes the time without a zone and without trailing zeros.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            i64::MIN => return f.write_str("-infinity"),
            i64::MAX => return f.write_str("infinity"),
            _ => {}
        }
        let (year, month, day) = date_of_day(self.0.div_euclid(DAY_MICROS));
        let micros = self.0.rem_euclid(DAY_MICROS);
        let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}"
        )?;
        if fraction == 0 {
            return Ok(());
        }
        write!(f, ".{}", format!("{fraction:06}").trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timestamp(text: &str) -> Timestamp {
        Timestamp::read(text).expect(text).0
    }

    #[test]
    fn timestamps_are_ordered_and_have_one_spelling() {
        let ascending = [
            "-infinity",
            "4713-01-01T00:00:00 BC",
            "0001-12-31T23:59:59.999999 BC",
            "0001-01-01T00:00:00",
            "1999-12-31T23:59:59.999999",
            "2000-01-01T00:00:00",
            "2000-01-01T00:00:00.000001",
            "2026-11-20T07:00",
            "294276-12-31T23:59:59.999999",
            "infinity",
        ];
        for pair in ascending.windows(2) {
            assert!(timestamp(pair[0]) < timestamp(pair[1]), "{pair:?}");
        }
        for text in [
            "1999-12-31T23:59:59.999999",
            "2026-11-20T07:00:00",
            "0044-03-15T12:00:00.5",
        ] {
            assert_eq!(timestamp(text).to_string(), text);
        }
        assert_eq!(
            timestamp("2026-11-20 07:00:00.120000000").to_string(),
            "2026-11-20T07:00:00.12"
        );
    }

    #[test]
    fn a_time_with_an_offset_becomes_utc() {
        for (text, utc) in [
            ("2026-11-20T07:00:00+05:30", "2026-11-20T01:30:00"),
            ("2026-11-20T23:59-08", "2026-11-21T07:59:00"),
            ("2026-01-01T00:00:00+00:01", "2025-12-31T23:59:00"),
            ("2026-11-20T07:00:00Z", "2026-11-20T07:00:00"),
            ("2026-11-20T07:00:00+00:00", "2026-11-20T07:00:00"),
        ] {
            assert_eq!(timestamp(text).to_string(), utc);
        }
        for text in [
            "2026-11-20",
            "2026-11-20T07",
            "2026-11-20T24:00",
            "2026-11-20T07:60",
            "2026-11-20T07:00:60",
            "2026-11-20T07:00:00.",
            "2026-11-20T07:00:00.1234567",
            "2026-11-20T07:00:00+16",
            "2026-11-20T07:00:00z",
            "2026-11-20T07:00:00 +1",
            "Infinity",
        ] {
            assert_eq!(Timestamp::read(text), None, "{text}");
        }
    }

    #[test]
    fn milliseconds_count_from_1970() {
        for (text, millis) in [
            ("1970-01-01T00:00:00", 0),
            ("1969-12-31T23:59:59.9995", -1),
            ("2001-09-09T01:46:40", 1_000_000_000_000),
            ("9999-12-31T23:59:59.999999", 253_402_300_799_999),
        ] {
            assert_eq!(timestamp(text).unix_millis(), Some(millis), "{text}");
        }
        let billion = Timestamp::from_unix_millis(1_000_000_000_001).expect("in range");
        assert_eq!(billion.to_string(), "2001-09-09T01:46:40.001");
        assert_eq!(timestamp("infinity").unix_millis(), None);
        assert_eq!(Timestamp::from_unix_millis(i64::MAX), None);
    }

    #[test]
    fn a_literal_has_a_year_of_four_digits() {
        assert!(!timestamp("0001-01-01T00:00:00+01:00").fits_a_literal());
        assert!(timestamp("9999-12-31T23:59:59.999999").fits_a_literal());
    }

    #[test]
    fn a_zone_is_utc_an_offset_or_unsaid() {
        for (text, zone) in [
            ("2026-11-20T07:00", Zone::Unspecified),
            ("2026-11-20 07:00:59.123456", Zone::Unspecified),
            ("2026-11-20T07:00:00Z", Zone::Utc),
            ("2026-11-20T07:00:00.5+00:00", Zone::Utc),
            ("2026-11-20T07:00-00", Zone::Utc),
            ("2026-11-20T07:00:00+05:30", Zone::Offset),
            ("2026-11-20T23:59-08", Zone::Offset),
            ("-infinity", Zone::Unspecified),
        ] {
            assert_eq!(Timestamp::zone_of(text), Some(zone), "{text}");
        }
        for text in [
            "",
            "2026-11-20",
            "2026-11-20T",
            "2026-11-20T07",
            "2026-11-20T7:00",
            "2026-11-20x07:00",
            "2026-11-20T24:00",
            "2026-11-20T07:60",
            "2026-11-20T07:00:60",
            "2026-11-20T07:00:00.",
            "2026-11-20T07:00:00.1234567890",
            "2026-11-20T07:00:00z",
            "2026-11-20T07:00:00+16:00",
            "2026-11-20T07:00:00+05:60",
            "2026-11-20T07:00:00+5",
            "2026-11-20T07:00:00ZZ",
            "2026-02-30T07:00",
            "2026-11-2é07:00",
            "now",
            "Infinity",
        ] {
            assert_eq!(Timestamp::zone_of(text), None, "{text}");
        }
    }
}
