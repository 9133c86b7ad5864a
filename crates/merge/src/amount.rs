//! What counters add up: decimal numbers with nine digits behind the point, added without rounding.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Number, Value};
use value::Finite;

/// Why a value is nothing that a counter adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// It is no number, or not a finite one.
    #[error("it is no finite number")]
    NotANumber,
    /// It has more than nine digits behind the point.
    #[error("it has more than nine digits behind the point")]
    TooFine,
    /// It, or the sum, has more than 27 digits before the point.
    #[error("it has more than 27 digits before the point")]
    Overflow,
}

/// A number, in billionths. Sums of those of every database of a counter are far from the ends of the type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Amount(i128);

const BILLION: i128 = 1_000_000_000;
const MAX: i128 = 10_i128.pow(36);

/// How many digits an amount may have before its point.
const DIGITS_MAX: usize = 27;

/// The same for a counter's number, to which as many databases as may have each added an amount.
const NUMBER_DIGITS_MAX: usize = 29;

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// Reads a JSON number, or the text of one that a double cannot hold.
    ///
    /// # Errors
    /// When it is none, or one with too many digits.
    pub fn of(value: &Value) -> Result<Self, AmountError> {
        Self::of_digits(value, DIGITS_MAX)
    }

    /// Reads the number of a counter to which databases have added, which is larger than what one may add.
    ///
    /// # Errors
    /// As [`Amount::of`].
    pub(crate) fn of_number(value: &Value) -> Result<Self, AmountError> {
        Self::of_digits(value, NUMBER_DIGITS_MAX)
    }

    fn of_digits(value: &Value, digits_max: usize) -> Result<Self, AmountError> {
        match value {
            Value::Number(number) => Self::read(&number.to_string(), digits_max),
            Value::String(text) => Self::read(text, digits_max),
            _ => Err(AmountError::NotANumber),
        }
    }

    fn read(text: &str, digits_max: usize) -> Result<Self, AmountError> {
        let number = Finite::read(text).ok_or(AmountError::NotANumber)?;
        // Before it is written out: an exponent would make it long.
        if !number.fits_a_literal() {
            return Err(AmountError::Overflow);
        }
        let plain = number.to_string();
        let (negative, plain) = match plain.strip_prefix('-') {
            Some(plain) => (true, plain),
            None => (false, &*plain),
        };
        let (whole, fraction) = plain.split_once('.').unwrap_or((plain, ""));
        if fraction.len() > 9 {
            return Err(AmountError::TooFine);
        }
        if whole.len() > digits_max {
            return Err(AmountError::Overflow);
        }
        let digits = format!("{whole}{fraction:0<9}");
        let billionths: i128 = digits.parse().map_err(|_| AmountError::Overflow)?;
        Ok(Self(if negative { -billionths } else { billionths }))
    }

    /// The sum.
    ///
    /// # Errors
    /// [`AmountError::Overflow`]
    pub fn plus(self, other: Self) -> Result<Self, AmountError> {
        let sum = self.saturating_plus(other);
        if sum.0.abs() < MAX {
            Ok(sum)
        } else {
            Err(AmountError::Overflow)
        }
    }

    /// The sum, where it cannot be refused any more.
    #[must_use]
    pub fn saturating_plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The number below zero, or above.
    #[must_use]
    pub fn negated(self) -> Self {
        Self(self.0.saturating_neg())
    }

    /// Whether it is below zero.
    pub fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// As JSON: a number, or a string where a double would lose digits.
    pub fn to_value(self) -> Value {
        const EXACT: i64 = 1 << 53;
        let text = self.to_string();
        if let Ok(whole) = text.parse::<i64>() {
            return match (-EXACT..=EXACT).contains(&whole) {
                true => Value::from(whole),
                false => Value::String(text),
            };
        }
        let double = text
            .parse::<f64>()
            .ok()
            .filter(|double| double.to_string() == text);
        match double.and_then(Number::from_f64) {
            Some(number) => Value::Number(number),
            None => Value::String(text),
        }
    }
}

impl std::fmt::Display for Amount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let size = self.0.unsigned_abs();
        let (whole, fraction) = (size / BILLION.unsigned_abs(), size % BILLION.unsigned_abs());
        write!(f, "{sign}{whole}")?;
        if fraction == 0 {
            return Ok(());
        }
        write!(f, ".{}", format!("{fraction:09}").trim_end_matches('0'))
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_value().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Self::of(&value).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_amount_is_read_and_written_without_rounding() {
        for (value, written) in [
            (json!(3), json!(3)),
            (json!(-0.0), json!(0)),
            (json!(0.1), json!(0.1)),
            (json!("12.340"), json!(12.34)),
            (json!(1e3), json!(1000)),
            (json!("9007199254740993"), json!("9007199254740993")),
            (
                json!("-123456789012345.123456789"),
                json!("-123456789012345.123456789"),
            ),
        ] {
            let amount = Amount::of(&value).expect("an amount");
            assert_eq!(amount.to_value(), written, "{value}");
        }
        let tenths = (0..10).map(|_| Amount::of(&json!(0.1)).expect("an amount"));
        assert_eq!(
            tenths
                .fold(Amount::ZERO, Amount::saturating_plus)
                .to_value(),
            json!(1)
        );
    }

    #[test]
    fn what_no_counter_adds_is_refused() {
        for (value, error) in [
            (json!(null), AmountError::NotANumber),
            (json!("NaN"), AmountError::NotANumber),
            (json!("Infinity"), AmountError::NotANumber),
            (json!("three"), AmountError::NotANumber),
            (json!([3]), AmountError::NotANumber),
            (json!("0.0000000001"), AmountError::TooFine),
            (json!(1e300), AmountError::Overflow),
            (json!("1e999999"), AmountError::Overflow),
        ] {
            assert_eq!(Amount::of(&value), Err(error), "{value}");
        }
        let most = Amount::of(&json!("999999999999999999999999999")).expect("27 digits");
        assert_eq!(most.plus(most), Err(AmountError::Overflow));
    }
}
