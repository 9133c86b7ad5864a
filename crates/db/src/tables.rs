//! The engine's own tables that both backends ask in the same words.

diesel::table! {
    /// How far each client has come.
    _rhtmx_sync_client (client_id) {
        client_id -> Text,
        last_mutation -> BigInt,
        last_commit -> Nullable<BigInt>,
    }
}

diesel::table! {
    /// Mutations that were not applied.
    _rhtmx_sync_reject (client_id, mutation) {
        client_id -> Text,
        mutation -> BigInt,
        reject -> Text,
    }
}

diesel::table! {
    /// Which history this is.
    _rhtmx_sync_meta (singleton) {
        singleton -> Bool,
        epoch -> Text,
        floor -> Text,
    }
}

diesel::table! {
    /// The entities whose tables carry triggers.
    _rhtmx_sync_entity (entity) {
        entity -> Text,
        relation -> Text,
        fingerprint -> Text,
    }
}
