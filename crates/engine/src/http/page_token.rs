//! The page token: where a client of plain HTTP continues. It is a cursor, or a point within a page.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use protocol::RefetchReason;
use sync_core::cursor::{Cursor, CursorError, Position};
use sync_core::log::NetChange;
use sync_core::shape::{GUARDED_MARK as MARK, Shape};

/// Where a paginated `GET` continues. Its text begins with a cursor's, and then with the mark of a guarded shape
/// ([`Shape::mark`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PageToken {
    /// Everything up to the cursor has been returned.
    At(Cursor),
    /// The rows up to this key have been returned. The first page was read at the cursor, from which changes
    /// count.
    InRows { since: Cursor, after_key: String },
    /// All rows have been returned, on several pages, so the client may hold rows created after the cursor.
    AfterRows { since: Cursor },
    /// Of the changes since the cursor, those up to `after_id` in the log, as of a read at `read_at`, have
    /// been returned.
    InChanges {
        since: Cursor,
        read_at: Position,
        after_id: i64,
        /// Whether transient changes are among them.
        transient: bool,
    },
}

impl PageToken {
    /// The text of a token for a shape.
    pub(super) fn text(&self, shape: &Shape) -> String {
        let text = self.to_string();
        let Some(mark) = shape.mark() else {
            return text;
        };
        match text.split_once('.') {
            Some((since, rest)) => format!("{since}.{mark}.{rest}"),
            None => format!("{text}.{mark}"),
        }
    }

    /// Reads the text of a token for a shape. The error says why the client must refetch.
    pub(super) fn read(text: &str, shape: &Shape) -> Result<Self, RefetchReason> {
        let (mark, plain) = match text.split_once('.') {
            Some((since, rest)) if rest.starts_with(MARK) => match rest.split_once('.') {
                Some((mark, rest)) => (Some(mark), format!("{since}.{rest}")),
                None => (Some(rest), since.to_owned()),
            },
            _ => (None, text.to_owned()),
        };
        let token = plain.parse().map_err(|CursorError| RefetchReason::Epoch)?;
        match shape.resumes(mark) {
            true => Ok(token),
            false => Err(RefetchReason::Permission),
        }
    }

    /// Whether a change was on an earlier page. A row that has changed again since has a newer entry, which
    /// was not.
    pub(super) fn has_returned(&self, entry: &NetChange) -> bool {
        match self {
            Self::InChanges {
                read_at, after_id, ..
            } => entry.order() <= *after_id && read_at.contains(entry.commit_id),
            _ => false,
        }
    }

    /// Whether the client may hold rows created after the cursor, so that it needs transient changes too.
    pub(super) fn may_hold_newer_rows(&self) -> bool {
        !matches!(self, Self::At(_))
    }

    /// Notes that the changes are read again, later than those that have been returned.
    pub(super) fn read_again(&mut self) {
        if let Self::InChanges { transient, .. } = self {
            *transient = true;
        }
    }

    /// Where a page of changes continues whose last change was `after_id`, of a read at `read_at`.
    pub(super) fn after(&self, after_id: i64, read_at: &Position) -> Self {
        Self::InChanges {
            since: self.since().clone(),
            read_at: read_at.clone(),
            after_id,
            transient: match self {
                Self::InChanges { transient, .. } => *transient,
                other => other.may_hold_newer_rows(),
            },
        }
    }

    /// The cursor since which changes are returned.
    pub(super) fn since(&self) -> &Cursor {
        match self {
            Self::At(since)
            | Self::InRows { since, .. }
            | Self::AfterRows { since }
            | Self::InChanges { since, .. } => since,
        }
    }
}

impl fmt::Display for PageToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(cursor) => write!(f, "{cursor}"),
            Self::InRows { since, after_key } => {
                write!(f, "{since}.k{}", URL_SAFE_NO_PAD.encode(after_key))
            }
            Self::AfterRows { since } => write!(f, "{since}.r"),
            Self::InChanges {
                since,
                read_at,
                after_id,
                transient,
            } => {
                let kind = if *transient { 't' } else { 'c' };
                write!(
                    f,
                    "{since}.{kind}{}",
                    URL_SAFE_NO_PAD.encode(format!("{after_id}/{read_at}"))
                )
            }
        }
    }
}

impl FromStr for PageToken {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let Some((since, rest)) = text.split_once('.') else {
            return text.parse().map(Self::At);
        };
        let since: Cursor = since.parse()?;
        let decode = |text: &str| {
            let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| CursorError)?;
            String::from_utf8(bytes).map_err(|_| CursorError)
        };
        if let Some(key) = rest.strip_prefix('k') {
            return Ok(Self::InRows {
                since,
                after_key: decode(key)?,
            });
        }
        if rest == "r" {
            return Ok(Self::AfterRows { since });
        }
        let transient = rest.starts_with('t');
        let token = decode(rest.strip_prefix(['c', 't']).ok_or(CursorError)?)?;
        let (after_id, read_at) = token.split_once('/').ok_or(CursorError)?;
        let after_id = after_id.parse().map_err(|_| CursorError)?;
        Ok(Self::InChanges {
            since,
            read_at: read_at.parse()?,
            after_id,
            transient,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use filter::Backend;
    use protocol::SelectionRequest;
    use sync_core::policy::ReadScope;
    use sync_core::shape::{CurrentTable, Others};

    use super::*;

    #[test]
    fn a_token_of_a_guarded_shape_is_good_for_that_shape() {
        let schema = value::schema::Schema {
            entity: "t".to_owned(),
            columns: Vec::new(),
            key: Vec::new(),
        };
        let table = CurrentTable {
            has_records: false,
            schema: Arc::new(schema),
            fingerprint: "1".into(),
            backend: Backend::Postgres,
            fields: None,
        };
        let scoped = |filter: &str| {
            let filter = Some(filter.to_owned());
            let scope = ReadScope::Restricted(SelectionRequest {
                filter,
                ..SelectionRequest::default()
            });
            Shape::resolve(&table, &SelectionRequest::default(), &scope, Others::NONE)
                .expect("a shape")
        };
        let (all, none, whole) = (scoped("TRUE"), scoped("FALSE"), Shape::whole("t"));
        for plain in ["ZS9zNA", "ZS9zNA.r", "ZS9zNA.kMQ"] {
            let token: PageToken = plain.parse().expect("a token");
            let text = token.text(&all);
            assert_eq!(PageToken::read(&text, &all), Ok(token.clone()));
            for (text, shape) in [
                (text.as_str(), &none),
                (text.as_str(), &whole),
                (plain, &all),
            ] {
                assert_eq!(PageToken::read(text, shape), Err(RefetchReason::Permission));
            }
            assert_eq!(token.text(&whole), plain);
            assert_eq!(PageToken::read(plain, &whole), Ok(token));
        }
        assert_eq!(
            PageToken::read("ZS9zNA.", &whole),
            Err(RefetchReason::Epoch)
        );
        assert_eq!(
            PageToken::read("ZS9zNA.~x.", &all),
            Err(RefetchReason::Epoch)
        );
    }

    #[test]
    fn a_token_survives_the_round_trip_through_text() {
        let since = Cursor {
            epoch: sync_core::cursor::Epoch::new("e"),
            position: Position::log_id(4),
        };
        for token in [
            PageToken::At(since.clone()),
            PageToken::InRows {
                since: since.clone(),
                after_key: "é/[1]".to_owned(),
            },
            PageToken::AfterRows {
                since: since.clone(),
            },
            PageToken::InChanges {
                since: since.clone(),
                read_at: "p7:9:7".parse().expect("a position"),
                after_id: 9,
                transient: false,
            },
            PageToken::InChanges {
                since,
                read_at: "s7".parse().expect("a position"),
                after_id: 9,
                transient: true,
            },
        ] {
            assert_eq!(token.to_string().parse(), Ok(token));
        }
        for text in [
            "",
            "x.k",
            "a.b",
            ".k",
            "ZS9zNA.q",
            "ZS9zNA.r1",
            "ZS9zNA.c!!",
        ] {
            assert_eq!(text.parse::<PageToken>(), Err(CursorError), "{text}");
        }
    }
}
