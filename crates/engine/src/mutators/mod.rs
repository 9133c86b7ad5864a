//! The application's own code in a mutation: mutators, which clients call by name, and validation hooks, which look at
//! their plain writes.
//!
//! Invariant: nothing here knows how a mutation is applied; `mutations` runs what is registered.

mod error;
mod hook;
mod transaction;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use schemars::{JsonSchema, Schema, schema_for};
use serde::de::DeserializeOwned;
use sync_core::policy::Principal;

pub use error::{MutatorError, Refusal, RejectedWrite};
pub(crate) use hook::Hook;
pub use hook::ValidatedWrite;
pub(crate) use transaction::Lent;
pub use transaction::{MutatorTx, TxConnection};

/// The longest name of a mutator, in bytes.
const NAME_BYTES_MAX: usize = 63;

/// What a call runs, once its arguments have been read.
pub(crate) type Run =
    Box<dyn FnOnce(MutatorTx) -> BoxFuture<'static, Result<(), MutatorError>> + Send>;

/// A function that clients call by name.
#[derive(Clone)]
pub(crate) struct Mutator {
    /// The JSON Schema of its arguments.
    pub(crate) args: Schema,
    read: Arc<Read>,
}

/// Reads the arguments of a call.
type Read = dyn Fn(&str) -> Result<Run, serde_json::Error> + Send + Sync;

impl Mutator {
    fn new<A, F, Fut>(function: F) -> Self
    where
        A: DeserializeOwned + JsonSchema + Send + 'static,
        F: Fn(MutatorTx, A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), MutatorError>> + Send + 'static,
    {
        let function = Arc::new(function);
        let read = move |text: &str| {
            let args: A = serde_json::from_str(text)?;
            let function = function.clone();
            let run: Run = Box::new(move |tx| async move { function(tx, args).await }.boxed());
            Ok(run)
        };
        Self {
            args: schema_for!(A),
            read: Arc::new(read),
        }
    }

    /// Reads the arguments of a call.
    pub(crate) fn read(&self, args: &str) -> Result<Run, serde_json::Error> {
        (self.read)(args)
    }
}

/// What the application has registered.
#[derive(Clone, Default)]
pub(crate) struct Mutators {
    by_name: BTreeMap<String, Mutator>,
    hooks: BTreeMap<String, Vec<Hook>>,
    /// Why the first registration that cannot be was none.
    fault: Option<String>,
}

impl fmt::Debug for Mutators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.by_name.keys()).finish()
    }
}

impl Mutators {
    pub(crate) fn add<A, F, Fut>(&mut self, name: String, function: F)
    where
        A: DeserializeOwned + JsonSchema + Send + 'static,
        F: Fn(MutatorTx, A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), MutatorError>> + Send + 'static,
    {
        if !is_name(&name) {
            self.fault.get_or_insert(format!(
                "the mutator name {name:?} must be a letter from a to z, then letters, digits and underscores, \
                 {NAME_BYTES_MAX} at most"
            ));
            return;
        }
        match self.by_name.entry(name) {
            Entry::Vacant(free) => {
                free.insert(Mutator::new(function));
            }
            Entry::Occupied(taken) => {
                let name = taken.key();
                self.fault
                    .get_or_insert(format!("mutator {name:?} is registered twice"));
            }
        }
    }

    pub(crate) fn add_hook<F>(&mut self, entity: String, hook: F)
    where
        F: Fn(&Principal, &ValidatedWrite) -> Result<(), Refusal> + Send + Sync + 'static,
    {
        let hooks = self.hooks.entry(entity).or_default();
        hooks.push(Hook::new(hook));
    }

    /// Why the application cannot start with these, where it configures these entities.
    pub(crate) fn fault(&self, entities: &BTreeSet<&String>) -> Option<String> {
        let unknown = |entity: &&String| !entities.contains(entity);
        let hook = self.hooks.keys().find(unknown);
        let hook =
            hook.map(|entity| format!("there is a validation for {entity:?}, which is no entity"));
        self.fault.clone().or(hook)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// All mutators, by name.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &Mutator)> {
        let all = self.by_name.iter();
        all.map(|(name, mutator)| (name.as_str(), mutator))
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Mutator> {
        self.by_name.get(name)
    }

    /// The hooks of an entity, in the order of their registration.
    pub(crate) fn hooks(&self, entity: &str) -> &[Hook] {
        self.hooks.get(entity).map_or(&[], Vec::as_slice)
    }
}

fn is_name(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase();
    let other = |byte: u8| letter(byte) || byte.is_ascii_digit() || byte == b'_';
    name.len() <= NAME_BYTES_MAX
        && name.bytes().next().is_some_and(letter)
        && name.bytes().all(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_lower_case_letters_digits_and_underscores() {
        let longest = "a".repeat(NAME_BYTES_MAX);
        for name in ["a", "complete_todo", "v2_", &longest] {
            assert!(is_name(name), "{name}");
        }
        let longer = "a".repeat(NAME_BYTES_MAX + 1);
        for name in [
            "",
            "_a",
            "2a",
            "A",
            "completeTodo",
            "a-b",
            "a.b",
            "é",
            " a",
            &longer,
        ] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn the_first_registration_that_cannot_be_is_named() {
        let mut mutators = Mutators::default();
        mutators.add("tidy".to_owned(), async |_, ()| Ok(()));
        assert_eq!(mutators.fault(&BTreeSet::new()), None);
        mutators.add("tidy".to_owned(), async |_, ()| Ok(()));
        mutators.add("Tidy".to_owned(), async |_, ()| Ok(()));
        mutators.add_hook("ghosts".to_owned(), |_, _| Ok(()));
        let fault = mutators.fault(&BTreeSet::new()).expect("a fault");
        assert_eq!(fault, "mutator \"tidy\" is registered twice");

        let mut hooked = Mutators::default();
        hooked.add_hook("todos".to_owned(), |_, _| Ok(()));
        assert_eq!(hooked.fault(&BTreeSet::from([&"todos".to_owned()])), None);
        let fault = hooked.fault(&BTreeSet::new()).expect("a fault");
        assert!(fault.contains("todos"), "{fault}");
    }
}
