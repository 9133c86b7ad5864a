//! Doubles, and numbers that are whole or double, in the databases' order.

use std::cmp::Ordering;
use std::fmt;

/// A double with PostgreSQL's order: NaN equals itself and is above everything, -0 equals 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Double {
    /// Never those of -0, and of one NaN only, so that equal bits are equal values.
    bits: u64,
}

impl Double {
    /// The canonical NaN: quiet, with a positive sign.
    const NAN_BITS: u64 = 0x7ff8_0000_0000_0000;

    /// Makes the canonical form of any double.
    pub fn new(value: f64) -> Self {
        let bits = match value {
            nan if nan.is_nan() => Self::NAN_BITS,
            // Turns -0 into 0 and nothing else.
            other => (other + 0.0).to_bits(),
        };
        Self { bits }
    }

    /// The double.
    pub fn value(self) -> f64 {
        f64::from_bits(self.bits)
    }
}

impl Ord for Double {
    fn cmp(&self, other: &Self) -> Ordering {
        // IEEE 754's total order is PostgreSQL's on canonical values.
        self.value().total_cmp(&other.value())
    }
}

impl PartialOrd for Double {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Double {
    /// The shortest text that names this double, as PostgreSQL and JSON read it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value() {
            nan if nan.is_nan() => f.write_str("NaN"),
            f64::INFINITY => f.write_str("Infinity"),
            f64::NEG_INFINITY => f.write_str("-Infinity"),
            // Plain digits for numbers as people write them, an exponent for the others.
            value if value == 0.0 || (1e-7..1e16).contains(&value.abs()) => write!(f, "{value}"),
            value => write!(f, "{value:e}"),
        }
    }
}

/// A number as SQLite keeps it: whole or double, compared exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Real {
    /// Also the form of a double that is a whole number of 64 bits.
    Whole(i64),
    /// Any other number.
    Double(Double),
}

impl Real {
    /// The number that a double names.
    pub fn new(value: f64) -> Self {
        const BOUND: f64 = 9_223_372_036_854_775_808.0;
        if value.fract() == 0.0 && (-BOUND..BOUND).contains(&value) {
            #[expect(clippy::cast_possible_truncation, reason = "whole and in range")]
            return Self::Whole(value as i64);
        }
        Self::Double(Double::new(value))
    }
}

impl Ord for Real {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Whole(one), Self::Whole(two)) => one.cmp(two),
            (Self::Double(one), Self::Double(two)) => one.cmp(two),
            (Self::Whole(one), Self::Double(two)) => whole_to_double(*one, *two),
            (Self::Double(one), Self::Whole(two)) => whole_to_double(*two, *one).reverse(),
        }
    }
}

impl PartialOrd for Real {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Compares a whole number with a double that is not one of 64 bits; the two are never equal.
fn whole_to_double(whole: i64, double: Double) -> Ordering {
    let value = double.value();
    match Real::new(value.floor()) {
        Real::Whole(floor) if whole <= floor => Ordering::Less,
        Real::Whole(_) => Ordering::Greater,
        Real::Double(_) if value < 0.0 => Ordering::Greater,
        Real::Double(_) => Ordering::Less,
    }
}

impl fmt::Display for Real {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(whole) => whole.fmt(f),
            Self::Double(double) => double.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_are_ordered_as_in_postgresql() {
        let ascending = [
            f64::NEG_INFINITY,
            -1.0,
            0.0,
            f64::MIN_POSITIVE,
            1.0,
            f64::INFINITY,
            f64::NAN,
        ];
        for pair in ascending.windows(2) {
            assert!(Double::new(pair[0]) < Double::new(pair[1]), "{pair:?}");
        }
        assert_eq!(Double::new(-0.0), Double::new(0.0));
        assert_eq!(Double::new(f64::NAN), Double::new(-f64::NAN));
    }

    #[test]
    fn the_text_of_a_double_names_the_same_double() {
        for value in [
            0.1,
            -1.5e300,
            5e-324,
            1e15,
            1e16,
            1e-7,
            9_007_199_254_740_993.0,
            f64::MAX,
        ] {
            let text = Double::new(value).to_string();
            assert_eq!(text.parse(), Ok(value), "{text}");
            assert!(text.len() < 30, "{text}");
        }
        assert_eq!(Double::new(-0.0).to_string(), "0");
        assert_eq!(Double::new(f64::NEG_INFINITY).to_string(), "-Infinity");
    }

    #[test]
    fn whole_numbers_and_doubles_compare_exactly() {
        let max = 9_223_372_036_854_775_807_i64;
        let ascending = [
            Real::new(f64::NEG_INFINITY),
            Real::new(-1e300),
            Real::Whole(i64::MIN),
            Real::Whole(i64::MIN + 1),
            Real::new(-1.5),
            Real::Whole(-1),
            Real::new(-0.5),
            Real::new(-0.0),
            Real::new(0.5),
            Real::new(9_007_199_254_740_992.0),
            Real::Whole(9_007_199_254_740_993),
            Real::Whole(max),
            Real::new(9_223_372_036_854_775_808.0),
            Real::new(f64::INFINITY),
        ];
        for (index, one) in ascending.iter().enumerate() {
            for (other_index, other) in ascending.iter().enumerate() {
                assert_eq!(one.cmp(other), index.cmp(&other_index), "{one} {other}");
            }
        }
    }
}
