//! Validation hooks: what the application says of plain writes.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use protocol::{Op, Reject, RejectCode};
use serde_json::Value;
use sync_core::mutation::CheckedWrite;
use sync_core::policy::Principal;

use super::error::Refusal;

/// A client's write that fits its table, as a validation hook sees it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ValidatedWrite {
    /// The entity.
    pub entity: String,
    /// What is to be done.
    pub op: Op,
    /// The row: a value, or the values of a key of several columns; none where the database makes the key.
    pub key: Option<Value>,
    /// The values to be written, also those that policies fill in. They have the key for a create and an upsert, but not for
    /// an update and a delete.
    pub values: BTreeMap<String, Value>,
}

impl ValidatedWrite {
    fn new(write: &CheckedWrite) -> Self {
        let key = write.key.as_ref().map(|parts| match parts.as_slice() {
            [one] => one.clone(),
            several => Value::Array(several.to_vec()),
        });
        let values = write.values.iter().map(|(column, raw)| {
            let name = write.schema.columns[*column].name.clone();
            let value = serde_json::from_str(raw.get());
            (name, value.unwrap_or_default())
        });
        Self {
            entity: write.entity.clone(),
            op: write.op,
            key,
            values: values.collect(),
        }
    }
}

/// One hook.
#[derive(Clone)]
pub(crate) struct Hook(Arc<Validate>);

type Validate = dyn Fn(&Principal, &ValidatedWrite) -> Result<(), Refusal> + Send + Sync;

impl Hook {
    pub(super) fn new<F>(hook: F) -> Self
    where
        F: Fn(&Principal, &ValidatedWrite) -> Result<(), Refusal> + Send + Sync + 'static,
    {
        Self(Arc::new(hook))
    }

    /// Whether none of these hooks refuses a write.
    pub(crate) fn validate(
        hooks: &[Self],
        principal: &Principal,
        write: &CheckedWrite,
    ) -> Result<(), Reject> {
        if hooks.is_empty() {
            return Ok(());
        }
        let write = ValidatedWrite::new(write);
        hooks.iter().try_for_each(|Self(hook)| {
            // A panic would end the connection each time the client pushes the write again.
            match catch_unwind(AssertUnwindSafe(|| hook(principal, &write))) {
                Ok(validated) => validated.map_err(Refusal::reject),
                Err(_) => {
                    tracing::error!(entity = write.entity, "a validation hook panicked");
                    Err(Reject::new(RejectCode::Refused, "the validation failed"))
                }
            }
        })
    }
}
