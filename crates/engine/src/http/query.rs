//! The query string. A parameter that is not known is an error: without it, a misspelled filter would return everything.

use axum::extract::Query;
use axum::http::Uri;
use protocol::ErrorCode;
use serde::de::DeserializeOwned;

use super::error::HttpError;

/// The longest name that an error repeats, in characters.
const NAME_CHARS_MAX: usize = 40;

/// Reads the query string, whose parameters must be among `names` and occur once.
pub(super) fn read<T: DeserializeOwned>(uri: &Uri, names: &[&[&str]]) -> Result<T, HttpError> {
    let wrong = |message: String| HttpError::new(ErrorCode::Protocol, message);
    let Query(pairs): Query<Vec<(String, String)>> =
        Query::try_from_uri(uri).map_err(|error| wrong(error.body_text()))?;
    for (index, (name, _)) in pairs.iter().enumerate() {
        let shown: String = name.chars().take(NAME_CHARS_MAX).collect();
        if !names.iter().any(|known| known.contains(&name.as_str())) {
            let known = names.concat().join(", ");
            return Err(wrong(format!(
                "there is no parameter {shown:?}; known are {known}"
            )));
        }
        if pairs[..index].iter().any(|(other, _)| other == name) {
            return Err(wrong(format!("the parameter {shown:?} occurs twice")));
        }
    }
    let Query(read) = Query::try_from_uri(uri).map_err(|error| wrong(error.body_text()))?;
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_or_repeated_parameter_is_an_error() {
        let read = |uri: &'static str| {
            read::<Vec<(String, String)>>(&Uri::from_static(uri), &[&["where"], &["limit"]])
        };
        assert!(read("/t").is_ok() && read("/t?where=a&limit=1").is_ok());
        for uri in [
            "/t?WHERE=a",
            "/t?filter=a",
            "/t?where=a&where=b",
            "/t?limit=1&=2",
        ] {
            assert!(read(uri).is_err(), "{uri}");
        }
    }
}
