//! How all rows merge by their fields: the section `[sync]`.

use anyhow::anyhow;
use rhtmx_sync::{ClockPolicy, FieldMergeStrategy};
use serde::Deserialize;
use serde::de::value::Error;
use serde::de::{DeserializeOwned, IntoDeserializer as _};

/// The section. Its words are read together with those of the environment.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SyncSection {
    fields: Option<String>,
    clock: Option<String>,
    crdt: Option<bool>,
}

/// What the section and the environment say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct MergingConfig {
    /// With which strategy entities merge that have none of their own.
    pub(crate) fields: Option<FieldMergeStrategy>,
    /// What happens to clocks of clients that are ahead.
    pub(crate) clock: ClockPolicy,
    /// Whether nodes of the family of CRDTs over SQL may sync.
    pub(crate) crdt: bool,
}

impl SyncSection {
    /// Reads the words.
    pub(super) fn read(
        self,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> anyhow::Result<MergingConfig> {
        let fields = env("RHTMX_SYNC_SYNC_FIELDS").or(self.fields);
        let clock = env("RHTMX_SYNC_SYNC_CLOCK").or(self.clock);
        let crdt = match env("RHTMX_SYNC_SYNC_CRDT") {
            None => self.crdt.unwrap_or_default(),
            Some(text) => text
                .parse()
                .map_err(|_| anyhow!("RHTMX_SYNC_SYNC_CRDT: expected true or false"))?,
        };
        Ok(MergingConfig {
            crdt,
            fields: word("sync.fields", fields)?,
            clock: word("sync.clock", clock)?.unwrap_or_default(),
        })
    }
}

fn word<T: DeserializeOwned>(key: &str, word: Option<String>) -> anyhow::Result<Option<T>> {
    let read = word.map(|word| {
        let read = T::deserialize(word.into_deserializer());
        read.map_err(|error: Error| anyhow!("{key}: {error}"))
    });
    read.transpose()
}
