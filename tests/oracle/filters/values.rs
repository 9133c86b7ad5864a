//! Random values of each kind, as texts that both databases and filters parse.

use super::random::Random;

/// The kind of a column's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sort {
    Bool,
    Int {
        min: i64,
        max: i64,
    },
    Numeric,
    Float4,
    Float8,
    Text {
        chars_max: usize,
    },
    Uuid,
    Date,
    Timestamp,
    TimestampTz,
    /// One of these.
    Labels(&'static [&'static str]),
}

/// A value that a column may hold.
pub(crate) fn value(random: &mut Random, sort: Sort) -> String {
    match sort {
        Sort::Bool => random.pick(&["true", "false"]).to_string(),
        Sort::Int { min, max } => int(random, min, max).to_string(),
        Sort::Numeric => numeric(random),
        Sort::Float4 => double(random, true),
        Sort::Float8 => double(random, false),
        Sort::Text { chars_max } => text(random, chars_max),
        Sort::Uuid => uuid(random),
        Sort::Date => date(random, true),
        Sort::Timestamp => moment(random, true),
        Sort::TimestampTz => match moment(random, true) {
            infinite if infinite.ends_with("infinity") => infinite,
            at => match at.strip_suffix(" BC") {
                Some(at) => format!("{at}+00 BC"),
                None => format!("{at}+00"),
            },
        },
        Sort::Labels(labels) => random.pick(labels).to_string(),
    }
}

fn int(random: &mut Random, min: i64, max: i64) -> i64 {
    match random.below(8) {
        0 => min,
        1 => max,
        2 => (random.number() as i64).clamp(min, max),
        3 => [
            9_007_199_254_740_992,
            9_007_199_254_740_993,
            -9_007_199_254_740_993,
        ][random.below(3)]
        .clamp(min, max),
        _ => random.below(7) as i64 - 3,
    }
}

fn digits(random: &mut Random, count: usize) -> String {
    (0..count)
        .map(|_| char::from(b'0' + random.below(10) as u8))
        .collect()
}

fn numeric(random: &mut Random) -> String {
    let sign = *random.pick(&["", "", "-"]);
    match random.below(10) {
        0 => random
            .pick(&[
                "NaN",
                "Infinity",
                "-Infinity",
                "0",
                "-0.000",
                "1",
                "1.0",
                "1.00",
            ])
            .to_string(),
        1 => {
            let (whole, fraction) = (random.below(40) + 1, random.below(40) + 1);
            format!(
                "{sign}1{}.{}",
                digits(random, whole),
                digits(random, fraction)
            )
        }
        2 => format!(
            "{sign}{}e{}",
            random.below(1000),
            random.below(600) as i64 - 300
        ),
        3 => random
            .pick(&[
                "0.1",
                "0.10",
                "0.1000000000000000055511151231257827",
                "0.3",
                "0.30000000000000004",
            ])
            .to_string(),
        4 => format!("{sign}{}", digits(random, 15)),
        5 => format!("{sign}9{}.{}", digits(random, 8), digits(random, 7)),
        _ => format!("{sign}{}.{}", random.below(4), random.below(4)),
    }
}

fn double(random: &mut Random, single: bool) -> String {
    let bits = random.number();
    match random.below(8) {
        0 => random
            .pick(&["NaN", "Infinity", "-Infinity", "-0", "0"])
            .to_string(),
        1 => random
            .pick(&[
                "0.1",
                "0.2",
                "0.3",
                "1e10",
                "16777217",
                "0.10000000149011612",
            ])
            .to_string(),
        2 if single => f32::from_bits(bits as u32)
            .to_string()
            .replace("inf", "Infinity"),
        2 => f64::from_bits(bits).to_string().replace("inf", "Infinity"),
        3 if single => random
            .pick(&["3.4028235e38", "1e-45", "1.17549435e-38", "-3.4028235e38"])
            .to_string(),
        3 => random
            .pick(&[
                "1.7976931348623157e308",
                "5e-324",
                "2.2250738585072014e-308",
                "9007199254740993",
            ])
            .to_string(),
        _ => format!("{}.{}", random.below(7) as i64 - 3, random.below(10)),
    }
}

const CHARACTERS: &str = "abABz0 %_\\'\"*?[]^-${,\u{1}\n\t\u{7f}ée\u{301}ßİ\u{ad}\u{fb01}\u{e000}\u{ffff}😀\u{10000}\u{10ffff}\u{feff}中";

pub(crate) fn text(random: &mut Random, chars_max: usize) -> String {
    if random.once_in(4) {
        return random
            .pick(&[
                "a", "ab", "abc", "abab", "", "A", "é", "e\u{301}", "NULL", "a b",
            ])
            .to_string();
    }
    let length = random.below(7).min(chars_max);
    let usual: Vec<char> = CHARACTERS.chars().collect();
    let any =
        |random: &mut Random| char::from_u32(random.below(0x11_0000) as u32).filter(|c| *c != '\0');
    (0..length)
        .map(|_| {
            if random.once_in(10) {
                any(random).unwrap_or('x')
            } else {
                *random.pick(&usual)
            }
        })
        .collect()
}

fn uuid(random: &mut Random) -> String {
    let number = match random.below(4) {
        0 => 0,
        1 => u128::MAX,
        2 => 1_u128 << random.below(128),
        _ => u128::from(random.number()) << 64 | u128::from(random.number()),
    };
    let hex = format!("{number:032x}");
    [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ]
    .join("-")
}

fn date(random: &mut Random, days: bool) -> String {
    match random.below(10) {
        0 if days => random.pick(&["infinity", "-infinity"]).to_string(),
        1 if days => random
            .pick(&[
                "5874897-12-31",
                "4713-01-01 BC",
                "0001-12-31 BC",
                "10000-01-01",
            ])
            .to_string(),
        2 => random
            .pick(&["0001-01-01", "9999-12-31", "2000-02-29", "1900-02-28"])
            .to_string(),
        3 => format!(
            "{:04}-{:02}-{:02}",
            random.below(9999) + 1,
            random.below(12) + 1,
            random.below(28) + 1
        ),
        _ => format!("2026-11-{:02}", random.below(3) + 19),
    }
}

fn moment(random: &mut Random, any: bool) -> String {
    if any && random.once_in(10) {
        let far = [
            "infinity",
            "-infinity",
            "294276-12-31 23:59:59.999999",
            "4713-01-01 00:00:00 BC",
        ];
        return random.pick(&far).to_string();
    }
    let date = date(random, false);
    match random.below(3) {
        0 => format!("{date} 00:00:00"),
        1 => format!("{date} 07:00:00.{:06}", random.below(3)),
        _ => format!(
            "{date} {:02}:{:02}:{:02}.{}",
            random.below(24),
            random.below(60),
            random.below(60),
            random.below(999)
        ),
    }
}

/// Another notation of a value.
pub(crate) fn rewritten(random: &mut Random, sort: Sort, value: &str) -> String {
    match sort {
        Sort::Uuid => match random.below(4) {
            0 => value.to_uppercase(),
            1 => value.replace('-', ""),
            2 => format!("{{{value}}}"),
            _ => value.to_owned(),
        },
        Sort::Timestamp if random.once_in(3) => value.replacen(' ', "T", 1),
        Sort::TimestampTz => match (random.below(4), value.strip_suffix("+00")) {
            (0, Some(at)) => format!("{at}Z"),
            (1, Some(at)) => format!(
                "{}{}",
                at.replacen(' ', "T", 1),
                random.pick(&["-01:30", "+02", "+14:00"])
            ),
            (2, Some(at)) => at.to_owned(),
            _ => value.to_owned(),
        },
        Sort::Numeric | Sort::Int { .. } if random.once_in(4) => {
            if value.contains(['e', '.']) || !value.ends_with(|last: char| last.is_ascii_digit()) {
                value.to_owned()
            } else {
                format!("{value}{}", random.pick(&[".0", ".00", "e0", "."]))
            }
        }
        _ => value.to_owned(),
    }
}
