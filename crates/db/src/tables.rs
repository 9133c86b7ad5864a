//! The engine's own tables that both backends query through Diesel's query builder.

diesel::table! {
    /// Each client's newest answered mutation.
    _rhtmx_sync_client (client_id) {
        client_id -> Text,
        user_id -> Nullable<Text>,
        last_mutation -> BigInt,
        last_commit -> Nullable<BigInt>,
        chains -> Binary,
    }
}

diesel::table! {
    /// The stored rejects.
    _rhtmx_sync_reject (client_id, mutation) {
        client_id -> Text,
        mutation -> BigInt,
        reject -> Text,
    }
}

diesel::table! {
    /// What is told of mutations whose writes merged.
    _rhtmx_sync_merged (client_id, mutation) {
        client_id -> Text,
        mutation -> BigInt,
        merged -> Text,
    }
}

diesel::table! {
    /// The database's epoch and the log's floor.
    _rhtmx_sync_meta (singleton) {
        singleton -> Bool,
        epoch -> Text,
        floor -> Text,
        node -> Text,
        schema_version -> BigInt,
    }
}

diesel::table! {
    /// The entities whose capture is installed.
    _rhtmx_sync_entity (entity) {
        entity -> Text,
        relation -> Text,
        fingerprint -> Text,
        generation -> Integer,
        wanted -> Bool,
    }
}

diesel::table! {
    /// How far the rows of other databases have been merged.
    _rhtmx_sync_peer (node, entity) {
        node -> Text,
        entity -> Text,
        reached -> Text,
    }
}

diesel::table! {
    /// Which database is known to have what of which.
    _rhtmx_sync_horizon (entity, who, whose) {
        entity -> Text,
        who -> Text,
        whose -> Text,
        clock -> Text,
    }
}

diesel::table! {
    /// The records of other databases that could not be merged.
    _rhtmx_sync_parked (entity, entity_id, node) {
        entity -> Text,
        entity_id -> Text,
        node -> Text,
        record -> Text,
        reject -> Text,
    }
}

diesel::table! {
    /// What the nodes of the family of CRDTs over SQL have.
    _rhtmx_sync_crdt_node (user_id, node) {
        user_id -> Text,
        node -> Text,
        reached -> Nullable<Text>,
        sent -> Nullable<Text>,
        taken -> Nullable<Text>,
    }
}
