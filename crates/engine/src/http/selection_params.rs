//! The selection that a request asks for: `where`, `params`, `columns` and `mode` of its query string.

use protocol::{ErrorCode, SelectionRequest, json_fault};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::HttpError;

/// The parameters' names.
pub(super) const NAMES: &[&str] = &["where", "params", "columns", "mode"];

/// The names of the parameters that ask for the first rows in some order.
pub(super) const WINDOW_NAMES: &[&str] = &["order", "limit", "after"];

/// These parameters as they arrive.
#[derive(Debug, Default, Deserialize)]
pub(super) struct WindowParams {
    /// A JSON array of pairs.
    order: Option<String>,
    limit: Option<String>,
    /// A JSON array.
    after: Option<String>,
}

impl WindowParams {
    /// Adds them to what is asked for.
    pub(super) fn read_into(self, request: &mut SelectionRequest) -> Result<(), HttpError> {
        request.order = read_json(
            "order",
            "a JSON array of columns with directions",
            self.order,
        )?;
        request.limit = read_json("limit", "a number of rows", self.limit)?;
        request.after = read_json("after", "a JSON array", self.after)?;
        Ok(())
    }
}

fn read_json<T: DeserializeOwned>(
    name: &str,
    expected: &str,
    text: Option<String>,
) -> Result<Option<T>, HttpError> {
    let wrong = |error: &serde_json::Error| {
        let fault = json_fault(error);
        let message = format!("`{name}` is not {expected}: {fault}");
        HttpError::new(ErrorCode::BadFilter, message)
    };
    let read = text.map(|text| serde_json::from_str(&text).map_err(|error| wrong(&error)));
    read.transpose()
}

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
    mode: Option<String>,
}

impl SelectionParams {
    /// Reads them into the form that `subscribe` has.
    pub(super) fn read(self) -> Result<SelectionRequest, HttpError> {
        let columns = match self.columns {
            Some(text) if !text.starts_with('[') => {
                let names = text.split(',').filter(|name| !name.is_empty());
                Some(names.map(str::to_owned).collect())
            }
            json => read_json("columns", "a JSON array of texts", json)?,
        };
        Ok(SelectionRequest {
            filter: self.filter,
            params: read_json("params", "a JSON array", self.params)?,
            columns,
            mode: self.mode,
            ..SelectionRequest::default()
        })
    }
}
