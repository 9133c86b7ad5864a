//! The selection that a request asks for: `where`, `params` and `columns` of its query string.

use protocol::{ErrorCode, SelectionRequest, json_fault};
use serde::Deserialize;

use super::error::HttpError;

/// The parameters' names.
pub(super) const NAMES: &[&str] = &["where", "params", "columns"];

/// The parameters as they arrive.
#[derive(Debug, Default, Deserialize)]
pub(super) struct SelectionParams {
    /// The filter's text.
    #[serde(rename = "where")]
    filter: Option<String>,
    /// A JSON array.
    params: Option<String>,
    /// A JSON array of names, or names separated by commas.
    columns: Option<String>,
}

impl SelectionParams {
    /// Reads them into the form that `subscribe` has.
    pub(super) fn read(self) -> Result<SelectionRequest, HttpError> {
        let wrong = |name: &str, expected: &str, error: &serde_json::Error| {
            let fault = json_fault(error);
            let message = format!("`{name}` is not {expected}: {fault}");
            HttpError::new(ErrorCode::BadFilter, message)
        };
        let params = self.params.map(|text| {
            serde_json::from_str(&text).map_err(|error| wrong("params", "a JSON array", &error))
        });
        let columns = self.columns.map(|text| {
            if text.starts_with('[') {
                return serde_json::from_str(&text)
                    .map_err(|error| wrong("columns", "a JSON array of texts", &error));
            }
            Ok(text
                .split(',')
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect())
        });
        Ok(SelectionRequest {
            filter: self.filter,
            params: params.transpose()?,
            columns: columns.transpose()?,
        })
    }
}
