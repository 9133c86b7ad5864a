//! Sets: of an element that one adds and another removes at once, the adding wins.
//!
//! An element has the clock of its newest adding, and the newest adding that a remover saw. It is in the set while the
//! first is above the second. (Of two concurrent additions, who removes the later removes the earlier too; a set that
//! kept one clock for each database could tell them apart.)

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use value::Finite;

use crate::clock::Clock;

/// How many elements of a set may bear the marks of an edit. A larger relation is a table of its own.
pub const EDITED_ELEMENTS_MAX: usize = 256;

/// The most bytes of an element's JSON text.
pub const ELEMENT_BYTES_MAX: usize = 1024;

/// Why a value is no set, or no element of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// A set is an array.
    #[error("a set is an array")]
    NotAnArray,
    /// Elements are texts, numbers and booleans.
    #[error(
        "an element of a set is a text, a number or a boolean, of {ELEMENT_BYTES_MAX} bytes at most"
    )]
    NotAnElement,
    /// Too many elements have been edited.
    #[error(
        "at most {EDITED_ELEMENTS_MAX} elements of a set may be edited; use a table of elements"
    )]
    TooLarge,
}

/// When an element was added. The variants stand in their order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Added {
    /// With the row.
    AtBirth,
    At(Clock),
}

/// That an element was removed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Removed {
    /// The adding that the remover saw.
    seen: Added,
    at: Clock,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Element {
    added: Added,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    removed: Option<Removed>,
}

impl Element {
    const OF_BIRTH: Self = Self {
        added: Added::AtBirth,
        removed: None,
    };

    pub(crate) fn is_present(&self) -> bool {
        self.removed
            .as_ref()
            .is_none_or(|removed| self.added > removed.seen)
    }

    /// Forgets that it was removed, where that was so early that everybody knows. Returns whether there is still something to
    /// keep: not of one that has not been added since.
    pub(crate) fn fold(&mut self, horizon: &Clock) -> bool {
        let is_present = self.is_present();
        let forgotten = self.removed.take_if(|removed| removed.at <= *horizon);
        is_present || forgotten.is_none()
    }

    pub(crate) fn newest(&self) -> Option<&Clock> {
        let added = match &self.added {
            Added::AtBirth => None,
            Added::At(clock) => Some(clock),
        };
        let removed = self.removed.as_ref().map(|removed| &removed.at);
        added.max(removed)
    }

    /// Brings the marks into line with what the table shows: a program that knows no marks has added the element, or removed
    /// it, after all that they say.
    fn show(&mut self, is_shown: bool) {
        if self.is_present() == is_shown {
            return;
        }
        let newest = self.newest().cloned().unwrap_or_else(Clock::ground);
        let Ok(at) = Clock::after(Some(&newest), 0, &newest.node()) else {
            return;
        };
        if is_shown {
            self.added = Added::At(at);
        } else {
            let seen = self.added.clone();
            self.removed = Some(Removed { seen, at });
        }
    }

    fn join(&mut self, other: &Self) {
        if other.added > self.added {
            self.added = other.added.clone();
        }
        // Both parts are maxima of their own.
        match (&mut self.removed, &other.removed) {
            (Some(ours), Some(theirs)) => {
                ours.seen = ours.seen.clone().max(theirs.seen.clone());
                ours.at = ours.at.clone().max(theirs.at.clone());
            }
            (ours @ None, theirs) => *ours = theirs.clone(),
            (Some(_), None) => {}
        }
    }
}

/// The state of a set, by the elements' JSON texts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Set {
    /// Whether it ever was an array, and not null.
    is_array: bool,
    elements: BTreeMap<String, Element>,
}

impl Set {
    /// The set of a row's birth: an array or null.
    ///
    /// # Errors
    /// When it is another value, or holds what is no element.
    pub(crate) fn of_birth(value: &Value) -> Result<Self, SetError> {
        let (is_array, texts) = read(value)?;
        let elements = texts
            .into_iter()
            .map(|text| (text, Element::OF_BIRTH))
            .collect();
        Ok(Self { is_array, elements })
    }

    /// The set that shows a value, with what is known of the elements that were edited.
    ///
    /// # Errors
    /// As [`Set::of_birth`].
    pub(crate) fn shown(
        value: &Value,
        edited: BTreeMap<String, Element>,
    ) -> Result<Self, SetError> {
        let mut set = Self::of_birth(value)?;
        set.is_array |= !edited.is_empty();
        for (text, mut element) in edited {
            element.show(set.elements.contains_key(&text));
            set.elements.insert(text, element);
        }
        Ok(set)
    }

    /// The same elements, all of the row's birth.
    pub(crate) fn untracked(mut self) -> Self {
        self.elements.retain(|_, element| element.is_present());
        for element in self.elements.values_mut() {
            *element = Element::OF_BIRTH;
        }
        self
    }

    /// Adds elements and removes others, as far as they are there.
    ///
    /// # Errors
    /// When one is no element, or too many have been edited: it is as it was then.
    pub(crate) fn edit(
        &mut self,
        add: &Value,
        remove: &Value,
        clock: &Clock,
    ) -> Result<(), SetError> {
        let ((_, add), (_, remove)) = (read(add)?, read(remove)?);
        let mut edited = self.clone();
        edited.is_array = true;
        for text in remove {
            if let Some(element) = edited
                .elements
                .get_mut(&text)
                .filter(|element| element.is_present())
            {
                let removed = Removed {
                    seen: element.added.clone(),
                    at: clock.clone(),
                };
                element.join(&Element {
                    added: Added::AtBirth,
                    removed: Some(removed),
                });
            }
        }
        for text in add {
            let added = Element {
                added: Added::At(clock.clone()),
                removed: None,
            };
            edited
                .elements
                .entry(text)
                .or_insert(added.clone())
                .join(&added);
        }
        if edited.marks().count() > EDITED_ELEMENTS_MAX {
            return Err(SetError::TooLarge);
        }
        *self = edited;
        Ok(())
    }

    /// Adds and removes what makes it these elements.
    ///
    /// # Errors
    /// As [`Set::edit`].
    pub(crate) fn assign(&mut self, value: &Value, clock: &Clock) -> Result<(), SetError> {
        let (_, texts) = read(value)?;
        let here = |text: &String| self.elements.get(text).is_some_and(Element::is_present);
        let add = texts
            .iter()
            .filter(|text| !here(text))
            .map(|text| element(text))
            .collect();
        let remove = self
            .elements
            .iter()
            .filter(|(text, element)| element.is_present() && !texts.contains(text));
        let remove = remove.map(|(text, _)| element(text)).collect();
        self.edit(&Value::Array(add), &Value::Array(remove), clock)
    }

    pub(crate) fn join(&mut self, other: &Self) {
        self.is_array |= other.is_array;
        for (text, theirs) in &other.elements {
            self.elements
                .entry(text.clone())
                .or_insert(theirs.clone())
                .join(theirs);
        }
    }

    /// Forgets the elements that were removed so early that everybody knows.
    pub(crate) fn fold(&mut self, horizon: &Clock) {
        self.elements.retain(|_, element| element.fold(horizon));
    }

    /// The elements that are in it, in the order of their JSON texts; null if it never was an array.
    pub fn value(&self) -> Value {
        let present = self
            .elements
            .iter()
            .filter(|(_, element)| element.is_present());
        match self.is_array {
            true => present.map(|(text, _)| element(text)).collect(),
            false => Value::Null,
        }
    }

    /// The newest clock of an edit.
    pub(crate) fn newest(&self) -> Option<&Clock> {
        self.elements.values().filter_map(Element::newest).max()
    }

    /// What is not to be seen from the value: the elements that were edited.
    pub(crate) fn marks(&self) -> impl Iterator<Item = (&String, &Element)> {
        self.elements
            .iter()
            .filter(|(_, element)| **element != Element::OF_BIRTH)
    }
}

/// Whether it is an array and no null, and the texts of its elements.
fn read(value: &Value) -> Result<(bool, Vec<String>), SetError> {
    match value {
        Value::Null => Ok((false, Vec::new())),
        Value::Array(elements) => Ok((
            true,
            elements.iter().map(text_of).collect::<Result<_, _>>()?,
        )),
        _ => Err(SetError::NotAnArray),
    }
}

/// One text for all spellings of a number.
fn text_of(element: &Value) -> Result<String, SetError> {
    let text = match element {
        Value::Number(number) => Finite::read(&number.to_string())
            .filter(Finite::fits_a_literal)
            .map(|number| number.to_string())
            .filter(|plain| serde_json::from_str::<Value>(plain).is_ok())
            .ok_or(SetError::NotAnElement)?,
        Value::String(_) | Value::Bool(_) => element.to_string(),
        _ => return Err(SetError::NotAnElement),
    };
    if text.len() > ELEMENT_BYTES_MAX {
        Err(SetError::NotAnElement)
    } else {
        Ok(text)
    }
}

fn element(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}
