//! Decimal numbers of any length, compared digit by digit, so that nothing is rounded.

use std::cmp::Ordering;
use std::fmt;

/// How many digits a literal may have on either side of its point.
const LITERAL_DIGITS_MAX: i64 = 1000;

/// The largest exponent that is read; PostgreSQL's own numbers end far below it.
const EXPONENT_MAX: i64 = 1_000_000;

/// A value of PostgreSQL's `numeric`. The variants stand in the order of their values: NaN is above all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Decimal {
    /// `-Infinity`
    NegativeInfinity,
    /// Any other number.
    Finite(Finite),
    /// `Infinity`
    Infinity,
    /// `NaN`
    NaN,
}

/// A finite decimal number, `0.digits × 10^point`; equal numbers have one form.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Finite {
    negative: bool,
    point: i64,
    /// ASCII digits, the first and the last of them not zero; none for zero.
    digits: Box<[u8]>,
}

impl Decimal {
    /// Reads a number as PostgreSQL and JSON write it, or one of the three names.
    pub fn read(text: &str) -> Option<Self> {
        match text {
            "NaN" => Some(Self::NaN),
            "Infinity" => Some(Self::Infinity),
            "-Infinity" => Some(Self::NegativeInfinity),
            number => Finite::read(number).map(Self::Finite),
        }
    }
}

impl Finite {
    /// Reads `[sign] digits [. digits] [e [sign] digits]`, with a digit beside the point.
    pub fn read(text: &str) -> Option<Self> {
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let unsigned = mantissa.strip_prefix(['+', '-']).unwrap_or(mantissa);
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
        let all_digits = whole
            .bytes()
            .chain(fraction.bytes())
            .all(|byte| byte.is_ascii_digit());
        if !all_digits || whole.len() + fraction.len() == 0 {
            return None;
        }
        let exponent = read_exponent(exponent)?;
        let digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
        let Some(first) = digits.iter().position(|&digit| digit != b'0') else {
            return Some(Self {
                negative: false,
                point: 0,
                digits: Box::default(),
            });
        };
        let last = digits
            .iter()
            .rposition(|&digit| digit != b'0')
            .unwrap_or(first);
        Some(Self {
            negative: mantissa.starts_with('-'),
            point: signed(whole.len()) - signed(first) + exponent,
            digits: digits[first..=last].into(),
        })
    }

    /// Whether the number is short enough for a literal.
    pub fn fits_a_literal(&self) -> bool {
        let fraction = signed(self.digits.len()) - self.point;
        self.point <= LITERAL_DIGITS_MAX && fraction <= LITERAL_DIGITS_MAX
    }

    /// The same number as an `i64`, if it is whole and fits.
    pub fn whole(&self) -> Option<i64> {
        let is_whole = self.point >= signed(self.digits.len());
        let is_short = self.point <= 19;
        if is_whole && is_short {
            self.to_string().parse().ok()
        } else {
            None
        }
    }

    fn sign(&self) -> i8 {
        match (self.digits.is_empty(), self.negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        }
    }
}

fn read_exponent(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let exponent: i64 = if all_digits {
        text.parse().ok()?
    } else {
        return None;
    };
    (exponent.abs() <= EXPONENT_MAX).then_some(exponent)
}

fn signed(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

impl Ord for Finite {
    fn cmp(&self, other: &Self) -> Ordering {
        // Without trailing zeros, digits compare like words in a dictionary.
        let sizes = || {
            self.point
                .cmp(&other.point)
                .then_with(|| self.digits.cmp(&other.digits))
        };
        self.sign()
            .cmp(&other.sign())
            .then_with(|| match self.sign() {
                -1 => sizes().reverse(),
                _ => sizes(),
            })
    }
}

impl PartialOrd for Finite {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Finite {
    /// Plain digits, without an exponent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = std::str::from_utf8(&self.digits).unwrap_or_default();
        f.write_str(if self.negative { "-" } else { "" })?;
        let zeros = |count: i64| "0".repeat(usize::try_from(count).unwrap_or_default());
        let length = signed(digits.len());
        match self.point {
            _ if digits.is_empty() => f.write_str("0"),
            point if point <= 0 => write!(f, "0.{}{digits}", zeros(-point)),
            point if point >= length => write!(f, "{digits}{}", zeros(point - length)),
            point => {
                let (whole, fraction) = digits.split_at(usize::try_from(point).unwrap_or_default());
                write!(f, "{whole}.{fraction}")
            }
        }
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NegativeInfinity => f.write_str("-Infinity"),
            Self::Finite(number) => number.fmt(f),
            Self::Infinity => f.write_str("Infinity"),
            Self::NaN => f.write_str("NaN"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Decimal {
        Decimal::read(text).expect(text)
    }

    #[test]
    fn equal_numbers_have_one_form() {
        for (spellings, text) in [
            (vec!["0", "-0", "0.000", "0e9", ".0", "0."], "0"),
            (
                vec!["1", "1.0", "01", "+1", "10e-1", "0.1e1", "1.", "1E0"],
                "1",
            ),
            (vec!["-0.05", "-.05", "-5e-2", "-0.0500"], "-0.05"),
            (vec!["1200", "1.2e3", "12e+2", "001200.00"], "1200"),
            (vec!["12.34", "1234e-2"], "12.34"),
        ] {
            for spelling in spellings {
                assert_eq!(read(spelling), read(text), "{spelling}");
                assert_eq!(read(spelling).to_string(), text);
            }
        }
        for text in [
            "",
            "-",
            ".",
            "1e",
            "e1",
            "1e1.5",
            "1_0",
            "0x1",
            "--1",
            "1 ",
            "inf",
            "nan",
            "1e9999999999",
        ] {
            assert_eq!(Decimal::read(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_are_ordered() {
        let ascending = [
            "-Infinity",
            "-1e1000",
            "-10.01",
            "-10",
            "-9.99",
            "-0.1",
            "-0.09",
            "-1e-900",
            "0",
            "1e-900",
            "0.09",
            "0.1",
            "0.10000000000000000000000001",
            "0.11",
            "1",
            "1.5",
            "2",
            "9",
            "9007199254740992",
            "9007199254740993",
            "1e20",
            "1e1000",
            "Infinity",
            "NaN",
        ];
        for (index, one) in ascending.iter().enumerate() {
            for (other_index, other) in ascending.iter().enumerate() {
                assert_eq!(
                    read(one).cmp(&read(other)),
                    index.cmp(&other_index),
                    "{one} {other}"
                );
            }
        }
    }

    #[test]
    fn whole_numbers_of_64_bits() {
        let whole = |text| Finite::read(text).expect("a number").whole();
        assert_eq!(whole("-9223372036854775808"), Some(i64::MIN));
        assert_eq!(whole("9223372036854775808"), None);
        assert_eq!(whole("1e1000"), None);
        assert_eq!(whole("12e2"), Some(1200));
        assert_eq!(whole("0.5"), None);
        assert_eq!(whole("0"), Some(0));
    }
}
