//! Times as PostgreSQL writes them in JSON, and as clients write them: ISO 8601.

use std::fmt;

use super::day::{Day, LITERAL_DAYS, digits, name_day, read_days, strip_era};

/// Microseconds from the beginning of 2000-01-01 (in UTC, where there is a zone); the ends of the
/// range are `-infinity` and `infinity`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(i64);

/// What a time says of its zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Zone {
    /// Nothing.
    Unsaid,
    /// `Z`, or an offset of zero.
    Utc,
    /// Another offset.
    Offset,
}

const DAY_MICROS: i64 = 86_400_000_000;

impl Moment {
    /// The beginning of a day.
    pub(super) fn at_midnight(day: Day) -> Option<Self> {
        day.count().checked_mul(DAY_MICROS).map(Self)
    }

    /// Reads `YYYY-MM-DDTHH:MM[:SS[.fraction]][zone]`, also with a space for the `T` or ` BC` at
    /// the end, or `infinity`, `-infinity`; what has an offset comes out in UTC. None also for
    /// what is finer than a microsecond.
    pub(super) fn read(text: &str) -> Option<(Self, Zone)> {
        match text {
            "-infinity" => return Some((Self(i64::MIN), Zone::Unsaid)),
            "infinity" => return Some((Self(i64::MAX), Zone::Unsaid)),
            _ => {}
        }
        let (text, before_christ) = strip_era(text);
        let (date, rest) = text.split_once(['T', ' '])?;
        let (clock, zone) = match rest.find(['Z', '+', '-']) {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (zone, offset_minutes) = read_zone(zone)?;
        let micros = read_days(date, before_christ)?
            .checked_mul(DAY_MICROS)?
            .checked_add(read_clock(clock)?)?
            .checked_sub(offset_minutes * 60_000_000)?;
        Some((Self(micros), zone))
    }

    /// Whether it is of the years that a literal may name.
    pub(super) fn fits_a_literal(self) -> bool {
        LITERAL_DAYS.contains(&self.0.div_euclid(DAY_MICROS))
    }
}

/// The microseconds of `HH:MM[:SS[.fraction]]`.
fn read_clock(text: &str) -> Option<i64> {
    let mut parts = text.split(':');
    let hours = digits(parts.next()?, 2).filter(|&hours| hours < 24)?;
    let minutes = digits(parts.next()?, 2).filter(|&minutes| minutes < 60)?;
    let (seconds, fraction) = match parts.next() {
        None => ("00", "0"),
        Some(part) => part.split_once('.').unwrap_or((part, "0")),
    };
    let seconds = digits(seconds, 2).filter(|&seconds| seconds < 60)?;
    if parts.next().is_some() {
        return None;
    }
    Some(((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + read_fraction(fraction)?)
}

fn read_fraction(text: &str) -> Option<i64> {
    // Zeros beyond the sixth digit say nothing.
    let significant = text.trim_end_matches('0');
    if text.is_empty() || text.len() > 9 || significant.len() > 6 {
        return None;
    }
    digits(&format!("{significant:0<6}"), 6)
}

fn read_zone(text: &str) -> Option<(Zone, i64)> {
    match text {
        "" => return Some((Zone::Unsaid, 0)),
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

impl fmt::Display for Moment {
    /// Without a zone, with as many digits as it takes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            i64::MIN => return f.write_str("-infinity"),
            i64::MAX => return f.write_str("infinity"),
            _ => {}
        }
        let (year, month, day) = name_day(self.0.div_euclid(DAY_MICROS));
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

    fn moment(text: &str) -> Moment {
        Moment::read(text).expect(text).0
    }

    #[test]
    fn moments_have_an_order_and_a_spelling() {
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
            assert!(moment(pair[0]) < moment(pair[1]), "{pair:?}");
        }
        for text in [
            "1999-12-31T23:59:59.999999",
            "2026-11-20T07:00:00",
            "0044-03-15T12:00:00.5",
        ] {
            assert_eq!(moment(text).to_string(), text);
        }
        assert_eq!(
            moment("2026-11-20 07:00:00.120000000").to_string(),
            "2026-11-20T07:00:00.12"
        );
    }

    #[test]
    fn offsets_lead_to_utc() {
        for (text, utc) in [
            ("2026-11-20T07:00:00+05:30", "2026-11-20T01:30:00"),
            ("2026-11-20T23:59-08", "2026-11-21T07:59:00"),
            ("2026-01-01T00:00:00+00:01", "2025-12-31T23:59:00"),
            ("2026-11-20T07:00:00Z", "2026-11-20T07:00:00"),
            ("2026-11-20T07:00:00+00:00", "2026-11-20T07:00:00"),
        ] {
            assert_eq!(moment(text).to_string(), utc);
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
            assert_eq!(Moment::read(text), None, "{text}");
        }
    }

    #[test]
    fn literals_are_of_four_digit_years() {
        assert!(!moment("0001-01-01T00:00:00+01:00").fits_a_literal());
        assert!(moment("9999-12-31T23:59:59.999999").fits_a_literal());
    }
}
