//! Dates and times as text: ISO 8601 in the spellings that PostgreSQL reads without guessing.

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

/// Whether this is a day of the years 1 to 9999, as `YYYY-MM-DD`.
pub(super) fn is_date(text: &str) -> bool {
    let mut parts = text.split('-');
    let (Some(year), Some(month), Some(day), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let (Some(year), Some(month), Some(day)) = (digits(year, 4), digits(month, 2), digits(day, 2))
    else {
        return false;
    };
    year >= 1 && (1..=12).contains(&month) && (1..=days_of(year, month)).contains(&day)
}

fn days_of(year: u32, month: u32) -> u32 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Reads `YYYY-MM-DDTHH:MM[:SS[.fraction]][zone]`, with `T` or a space, or `infinity`,
/// `-infinity`; none when it is something else.
pub(super) fn zone_of_time(text: &str) -> Option<Zone> {
    if matches!(text, "infinity" | "-infinity") {
        return Some(Zone::Unsaid);
    }
    let (date, rest) = text.split_at_checked("YYYY-MM-DD".len())?;
    let rest = rest.strip_prefix(['T', ' '])?;
    let (clock, zone) = match rest.find(['Z', '+', '-']) {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    if is_date(date) && is_clock(clock) {
        read_zone(zone)
    } else {
        None
    }
}

fn is_clock(text: &str) -> bool {
    let mut parts = text.split(':');
    let hours = parts.next().and_then(|hours| digits(hours, 2));
    let minutes = parts.next().and_then(|minutes| digits(minutes, 2));
    let seconds_fit = parts.next().is_none_or(is_seconds);
    let in_day = hours.is_some_and(|hours| hours < 24);
    let in_hour = minutes.is_some_and(|minutes| minutes < 60);
    in_day && in_hour && seconds_fit && parts.next().is_none()
}

fn is_seconds(text: &str) -> bool {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let fraction_fits = (1..=9).contains(&fraction.len()) && is_digits(fraction);
    digits(whole, 2).is_some_and(|seconds| seconds < 60) && fraction_fits
}

fn read_zone(text: &str) -> Option<Zone> {
    match text {
        "" => return Some(Zone::Unsaid),
        "Z" => return Some(Zone::Utc),
        _ => {}
    }
    let offset = text.strip_prefix(['+', '-'])?;
    let (hours, minutes) = offset.split_once(':').unwrap_or((offset, "00"));
    match (digits(hours, 2)?, digits(minutes, 2)?) {
        (0, 0) => Some(Zone::Utc),
        // PostgreSQL's own bound.
        (0..=15, 0..=59) => Some(Zone::Offset),
        _ => None,
    }
}

/// The number that exactly `count` digits spell.
fn digits(text: &str, count: usize) -> Option<u32> {
    if text.len() == count && is_digits(text) {
        text.parse().ok()
    } else {
        None
    }
}

/// Whether there are only digits, if anything.
pub(super) fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_days_of_the_calendar() {
        for text in [
            "0001-01-01",
            "2026-11-20",
            "2024-02-29",
            "2000-02-29",
            "9999-12-31",
        ] {
            assert!(is_date(text), "{text}");
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
            assert!(!is_date(text), "{text}");
        }
    }

    #[test]
    fn times_say_their_zone_or_nothing() {
        for (text, zone) in [
            ("2026-11-20T07:00", Zone::Unsaid),
            ("2026-11-20 07:00:59.123456", Zone::Unsaid),
            ("2026-11-20T07:00:00Z", Zone::Utc),
            ("2026-11-20T07:00:00.5+00:00", Zone::Utc),
            ("2026-11-20T07:00-00", Zone::Utc),
            ("2026-11-20T07:00:00+05:30", Zone::Offset),
            ("2026-11-20T23:59-08", Zone::Offset),
            ("-infinity", Zone::Unsaid),
        ] {
            assert_eq!(zone_of_time(text), Some(zone), "{text}");
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
            assert_eq!(zone_of_time(text), None, "{text}");
        }
    }
}
