//! Clocks: a moment, a counter and the node that wrote, as a text whose order of bytes is their order.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use value::{Timestamp, Zone};

/// The longest node id, in bytes.
pub const NODE_BYTES_MAX: usize = 128;

/// The last millisecond of the year 9999, after which a year has more than four digits.
pub const MILLIS_MAX: u64 = 253_402_300_799_999;

/// Why something is no clock, or none that is accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClockError {
    /// The text has another form.
    #[error("a clock looks like 2026-11-20T07:00:00.000Z-0000-node")]
    Malformed,
    /// The text names a moment that is not between 1970 and 9999.
    #[error("a clock's moment lies in the years 1970 to 9999")]
    OutOfRange,
    /// The node id is empty, too long, or has a character that none may have.
    #[error(
        "a node id has 1 to {NODE_BYTES_MAX} bytes, begins with a letter or a digit, and has no `:`"
    )]
    Node,
    /// The clock is too far ahead of the one who reads it.
    #[error("the clock is {ahead_ms} ms ahead")]
    Ahead {
        /// By how much, in milliseconds.
        ahead_ms: u64,
    },
    /// There is no later clock before the year 10000.
    #[error("there is no later clock")]
    Exhausted,
}

/// Who stamps: a device, a server's database, another program. Without control characters and `:`, and it begins with a
/// letter or a digit, so that no node sorts below [`Clock::ground`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(Arc<str>);

impl NodeId {
    /// Takes a text that can be a node id.
    ///
    /// # Errors
    /// [`ClockError::Node`] for any other.
    pub fn new(text: &str) -> Result<Self, ClockError> {
        let begins = text.starts_with(char::is_alphanumeric);
        let forbidden = |character: char| character == ':' || character.is_control();
        if !begins || text.len() > NODE_BYTES_MAX || text.contains(forbidden) {
            return Err(ClockError::Node);
        }
        Ok(Self(text.into()))
    }

    /// The name under which a client stamps: the first 40 bits of its id, as eight digits of the base 36. Nobody has to be
    /// asked for it, so a device may stamp before it has ever been online; and it is short, because metadata keeps one for
    /// each field. Two clients with one name are unlikely, and merge all the same: equal clocks are decided by the values.
    pub fn of_client(client_id: &[u8; 16]) -> Self {
        const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
        let [a, b, c, d, e, ..] = *client_id;
        let mut rest = u64::from_be_bytes([0, 0, 0, a, b, c, d, e]);
        let mut text = ['0'; 8];
        for digit in text.iter_mut().rev() {
            *digit = char::from(DIGITS[(rest % 36) as usize]);
            rest /= 36;
        }
        Self(text.iter().collect::<String>().into())
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for NodeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

/// A hybrid logical clock's value: `2026-11-20T07:00:00.000Z-0000-node`.
///
/// Equal and ordered as its text is, byte by byte: what a database does with `COLLATE "C"`, and what every replica does,
/// is the same. For clocks in the one form, that is the order of (moment, counter, node). Those that others wrote with six
/// digits of a second, or small letters in the counter, keep their text, and so the place that it has among texts.
#[derive(Clone)]
pub struct Clock {
    text: Arc<str>,
    millis: u64,
    counter: u16,
}

impl Clock {
    /// Makes the clock of a moment (milliseconds from 1970), a counter and a node; a moment after the year 9999 counts as
    /// its end.
    pub fn new(millis: u64, counter: u16, node: &NodeId) -> Self {
        let millis = millis.min(MILLIS_MAX);
        let seconds = i64::try_from(millis / 1000 * 1000)
            .ok()
            .and_then(Timestamp::from_unix_millis)
            .map(|moment| moment.to_string())
            .unwrap_or_default();
        let text = format!("{seconds}.{:03}Z-{counter:04X}-{node}", millis % 1000);
        Self {
            text: text.into(),
            millis,
            counter,
        }
    }

    /// The least of all clocks: the birth of rows that were there before anything was stamped.
    pub fn ground() -> Self {
        Self::new(0, 0, &NodeId("0".into()))
    }

    /// Reads the one form: three digits of a second, a counter in four capital hexadecimal digits.
    ///
    /// # Errors
    /// When the text has another form, or names no moment or node that a clock may have.
    pub fn read(text: &str) -> Result<Self, ClockError> {
        let clock = Self::read_foreign(text)?;
        let counter = clock.counter_text();
        if clock.digits() == 3 && !counter.bytes().any(|byte| byte.is_ascii_lowercase()) {
            Ok(clock)
        } else {
            Err(ClockError::Malformed)
        }
    }

    /// Reads what programs of this family write: also six digits of a second, and small letters in the counter. The text
    /// is kept as it is.
    ///
    /// # Errors
    /// When the text has another form, or names no moment or node that a clock may have.
    pub fn read_foreign(text: &str) -> Result<Self, ClockError> {
        let (moment, rest) = split_moment(text).ok_or(ClockError::Malformed)?;
        let (counter, node) = rest
            .strip_prefix('-')
            .and_then(|rest| rest.split_once('-'))
            .ok_or(ClockError::Malformed)?;
        let is_counter = counter.len() == 4 && counter.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_counter {
            return Err(ClockError::Malformed);
        }
        NodeId::new(node)?;
        let counter = u16::from_str_radix(counter, 16).map_err(|_| ClockError::Malformed)?;
        let (moment, zone) = Timestamp::read(moment).ok_or(ClockError::Malformed)?;
        let millis = moment
            .unix_millis()
            .and_then(|millis| u64::try_from(millis).ok())
            .filter(|&millis| zone == Zone::Utc && millis <= MILLIS_MAX)
            .ok_or(ClockError::OutOfRange)?;
        Ok(Self {
            text: text.into(),
            millis,
            counter,
        })
    }

    /// The earliest clock in the one form, of this moment or later, that is above another. A writer that holds the row's
    /// lock needs no more to be above everything that it overwrites.
    ///
    /// # Errors
    /// [`ClockError::Exhausted`] at the end of the year 9999.
    pub fn after(below: Option<&Self>, millis: u64, node: &NodeId) -> Result<Self, ClockError> {
        let millis = millis.min(MILLIS_MAX);
        let Some(below) = below.filter(|below| below.millis >= millis) else {
            return Ok(Self::new(millis, 0, node));
        };
        let next = match below.counter.checked_add(1) {
            Some(counter) => Self::new(below.millis, counter, node),
            None => Self::after_millis(below.millis, node)?,
        };
        // A counter in small letters sorts above its own value.
        if next > *below {
            Ok(next)
        } else {
            Self::after_millis(below.millis, node)
        }
    }

    /// A counter that is full carries into the moment.
    fn after_millis(millis: u64, node: &NodeId) -> Result<Self, ClockError> {
        if millis < MILLIS_MAX {
            Ok(Self::new(millis + 1, 0, node))
        } else {
            Err(ClockError::Exhausted)
        }
    }

    /// Milliseconds from 1970.
    pub fn millis(&self) -> u64 {
        self.millis
    }

    /// How many clocks of the node were before it in the same millisecond.
    pub fn counter(&self) -> u16 {
        self.counter
    }

    /// Who stamped.
    pub fn node(&self) -> NodeId {
        NodeId(self.text[self.counter_at() + 5..].into())
    }

    /// Whether this node stamped.
    pub fn is_of(&self, node: &NodeId) -> bool {
        self.text[self.counter_at() + 5..] == *node.0
    }

    /// The text, as it was read.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The microseconds beyond its millisecond, where its text has six digits of a second.
    pub fn micros_beyond(&self) -> Option<u16> {
        let has_six = self.digits() == 6;
        has_six.then(|| self.text[23..26].parse().unwrap_or_default())
    }

    /// The text of the latest clock with six digits that neither its text nor its moment puts behind this one.
    pub fn floor_text(&self) -> String {
        if self.digits() == 6 || self.millis == 0 {
            return self.text.to_string();
        }
        let before = Self::new(self.millis - 1, u16::MAX, &self.node());
        let seconds = &before.text[..23];
        format!("{seconds}999Z-FFFF-{}", self.node())
    }

    fn digits(&self) -> usize {
        if self.text.as_bytes()[23] == b'Z' {
            3
        } else {
            6
        }
    }

    fn counter_at(&self) -> usize {
        self.digits() + 22
    }

    fn counter_text(&self) -> &str {
        &self.text[self.counter_at()..self.counter_at() + 4]
    }
}

/// The moment, with its `Z`, and what follows. Every other byte of a moment is where its form says.
fn split_moment(text: &str) -> Option<(&str, &str)> {
    let bytes = text.as_bytes();
    let length = match (bytes.get(23), bytes.get(26)) {
        (Some(b'Z'), _) => 24,
        (_, Some(b'Z')) => 27,
        _ => return None,
    };
    let form = &b"0000-00-00T00:00:00.000000"[..length - 1];
    let fits = form.iter().zip(bytes).all(|(&form, &byte)| match form {
        b'0' => byte.is_ascii_digit(),
        other => byte == other,
    });
    if fits {
        text.split_at_checked(length)
    } else {
        None
    }
}

impl PartialEq for Clock {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Clock {}

impl Ord for Clock {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

impl PartialOrd for Clock {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl std::hash::Hash for Clock {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Clock {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Clock {
    /// Takes every clock of the family; [`Clock::read`] is for those of this protocol's own clients.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::read_foreign(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The millisecond of `2001-09-09T01:46:40.000Z`.
    const T: u64 = 1_000_000_000_000;

    fn node(text: &str) -> NodeId {
        NodeId::new(text).expect("a node id")
    }

    #[test]
    fn the_floor_of_a_clock_is_behind_what_its_node_writes_after_it() {
        let read = |text: &str| Clock::read_foreign(text).expect("a clock");
        let coarse = read("2001-09-09T01:46:40.428Z-0001-db");
        let fine = read("2001-09-09T01:46:40.428170Z-0000-a");
        assert_eq!(
            (fine.micros_beyond(), coarse.micros_beyond()),
            (Some(170), None)
        );
        assert_eq!(coarse.floor_text(), "2001-09-09T01:46:40.427999Z-FFFF-db");
        let floor = read(&coarse.floor_text());
        assert!(floor < coarse && floor < fine);
        assert_eq!(fine.floor_text(), fine.as_str());
        let ground = Clock::ground();
        assert_eq!(ground.floor_text(), ground.as_str());
    }

    #[test]
    fn a_clock_is_written_as_the_family_writes_it() {
        let clock = Clock::new(T, 0x42, &node("abc"));
        assert_eq!(clock.as_str(), "2001-09-09T01:46:40.000Z-0042-abc");
        assert_eq!(
            Clock::new(0, 0, &node("abc")).as_str(),
            "1970-01-01T00:00:00.000Z-0000-abc"
        );
        assert_eq!(
            Clock::new(u64::MAX, u16::MAX, &node("z")).as_str(),
            "9999-12-31T23:59:59.999Z-FFFF-z"
        );
    }

    #[test]
    fn a_node_id_may_hold_dashes_and_more() {
        let text = "2024-01-02T03:04:05.678Z-000A-6f1c2f0e-3b5d-4e0a-9c61-0f6a3c1b2d4e";
        let clock = Clock::read(text).expect("a clock");
        assert_eq!(clock.counter(), 10);
        assert_eq!(
            clock.node().as_str(),
            "6f1c2f0e-3b5d-4e0a-9c61-0f6a3c1b2d4e"
        );
        assert!(clock.is_of(&clock.node()));
        assert_eq!(clock.as_str(), text);
    }

    #[test]
    fn a_foreign_clock_keeps_its_text_and_the_place_that_the_text_has() {
        let fine = Clock::read_foreign("2001-09-09T01:46:40.000123Z-0042-abc").expect("six digits");
        assert_eq!(fine.as_str(), "2001-09-09T01:46:40.000123Z-0042-abc");
        assert_eq!((fine.millis(), fine.counter()), (T, 0x42));
        assert_eq!(fine.node().as_str(), "abc");
        let coarse = Clock::read("2001-09-09T01:46:40.000Z-0000-a").expect("three digits");
        assert!(coarse > fine, "as their texts are");
        assert!(Clock::read(fine.as_str()).is_err(), "not in the one form");
        let small = "2001-09-09T01:46:40.000Z-00ff-abc";
        assert!(Clock::read(small).is_err());
        assert_eq!(
            Clock::read_foreign(small).map(|clock| clock.counter()),
            Ok(0xff)
        );
    }

    #[test]
    fn a_clock_is_after_a_foreign_one_however_that_is_spelled() {
        for text in [
            "2001-09-09T01:46:40.000123Z-FFFF-zzz",
            "2001-09-09T01:46:40.000Z-00ff-zzz",
            "2001-09-09T01:46:40.000Z-fffe-zzz",
            "2001-09-09T01:46:40.000Z-FFFF-zzz",
        ] {
            let foreign = Clock::read_foreign(text).expect("a clock");
            let next = Clock::after(Some(&foreign), T - 1000, &node("a")).expect("a later one");
            assert!(next > foreign, "{next} {foreign}");
        }
        let last = Clock::new(MILLIS_MAX, u16::MAX, &node("a"));
        for millis in [0, u64::MAX] {
            let next = Clock::after(Some(&last), millis, &node("a"));
            assert_eq!(next, Err(ClockError::Exhausted));
        }
    }

    #[test]
    fn what_is_no_clock_is_refused() {
        for text in [
            "",
            "-1",
            "2001-09-09T01:46:40.000Z",
            "2001-09-09T01:46:40.000Z-",
            "2001-09-09T01:46:40.000Z-0042",
            "2001-09-09T01:46:40.000Z-042-abc",
            "2001-09-09T01:46:40.000Z-+042-abc",
            "2001-09-09T01:46:40.000Z-10042-abc",
            "2001-09-09T01:46:40.00Z-0042-abc",
            "2001-09-09T01:46:40Z-0042-abc",
            "2001-09-09 01:46:40.000Z-0042-abc",
            "2001-09-09T01:46:40.000+01:00-0042-abc",
            "2001-02-30T01:46:40.000Z-0042-abc",
            "2001-09-09T24:00:00.000Z-0042-abc",
            "10001-09-09T01:46:40.000Z-0042-abc",
            "2001-09-09T01:46:40.000éZ-0042-abc",
        ] {
            assert_eq!(
                Clock::read_foreign(text),
                Err(ClockError::Malformed),
                "{text}"
            );
        }
        let long = format!("2001-09-09T01:46:40.000Z-0042-{}", "a".repeat(10_000));
        for text in [
            "2001-09-09T01:46:40.000Z-0042-",
            "2001-09-09T01:46:40.000Z-0042-a:b",
            "2001-09-09T01:46:40.000Z-0042-a\0b",
            "2001-09-09T01:46:40.000Z-0042--ab",
            &long,
        ] {
            assert_eq!(Clock::read_foreign(text), Err(ClockError::Node), "{text}");
        }
        assert_eq!(
            Clock::read_foreign("1969-12-31T23:59:59.999Z-0000-abc"),
            Err(ClockError::OutOfRange)
        );
    }

    #[test]
    fn a_client_is_named_by_the_beginning_of_its_id() {
        let id = |begin: [u8; 5]| {
            let mut id = [7; 16];
            id[..5].copy_from_slice(&begin);
            NodeId::of_client(&id).as_str().to_owned()
        };
        assert_eq!(id([0; 5]), "00000000");
        assert_eq!(id([0, 0, 0, 0, 37]), "00000011");
        // 2^40 - 1 in the base 36.
        assert_eq!(id([255; 5]), "e13wu1of");
        assert!(NodeId::new(&id([255; 5])).is_ok());
    }
}
