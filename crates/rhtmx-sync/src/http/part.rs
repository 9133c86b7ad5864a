//! Which part of an entity a request asks for: `where`, `params` and `columns` of its query string.

use rhtmx_sync_core::protocol::{ErrorCode, json_fault};
use rhtmx_sync_core::session::Refusal;
use rhtmx_sync_core::shape::{Shape, Wanted};
use serde_json::value::RawValue;

use super::HttpError;
use crate::engine::Inner;

/// The three, as they came.
#[derive(Debug, Default)]
pub(super) struct PartParameters {
    /// The filter's text.
    pub(super) filter: Option<String>,
    /// A JSON array.
    pub(super) params: Option<String>,
    /// A JSON array of names, or names with commas between them.
    pub(super) columns: Option<String>,
}

/// The three, as a `subscribe` would have them.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) filter: Option<String>,
    pub(super) params: Option<Vec<Box<RawValue>>>,
    pub(super) columns: Option<Vec<String>>,
}

impl PartParameters {
    /// Reads them.
    pub(super) fn read(self) -> Result<Asked, HttpError> {
        let array = |text: &str, what: &str, error: &serde_json::Error| {
            let fault = json_fault(error);
            let message = format!("`{what}` is not what it should be ({text}): {fault}");
            HttpError::of(ErrorCode::BadFilter, message)
        };
        let params = self.params.map(|text| {
            serde_json::from_str(&text).map_err(|error| array("a JSON array", "params", &error))
        });
        let columns = self.columns.map(|text| match text.starts_with('[') {
            true => serde_json::from_str(&text)
                .map_err(|error| array("a JSON array of texts", "columns", &error)),
            false => Ok(text
                .split(',')
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect()),
        });
        Ok(Asked {
            filter: self.filter,
            params: params.transpose()?,
            columns: columns.transpose()?,
        })
    }
}

impl Asked {
    /// The shape that is asked for.
    pub(super) fn shape(&self, engine: &Inner, entity: &str) -> Result<Shape, HttpError> {
        let wanted = Wanted {
            filter: self.filter.as_deref(),
            params: self.params.as_deref(),
            columns: self.columns.as_deref(),
        };
        let shape = engine.resolve(entity, wanted);
        shape.map_err(|Refusal { code, message }| HttpError::of(code, message))
    }
}
