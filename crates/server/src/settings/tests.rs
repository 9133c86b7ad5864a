use rhtmx_sync::{ClockPolicy, EntitySource};

use super::*;

fn merged(common: &Common, env: &[(&str, &str)], file: &str) -> anyhow::Result<Settings> {
    let file = toml::from_str(file)
        .map_err(|error: toml::de::Error| anyhow::anyhow!("{}", error.message()))?;
    let env = |name: &str| {
        env.iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| (*value).to_owned())
    };
    Settings::merge(common, &env, file)
}

#[test]
fn an_entity_that_the_file_calls_internal_is_internal_however_it_is_named() {
    let file = "[entities.todos]\nread = 'TRUE'\n[entities.members]\ninternal = true";
    let of = |env: &[(&str, &str)]| {
        let settings = merged(&Common::default(), env, file).expect("settings");
        let found = settings.entities.into_iter();
        found
            .map(|entity| (entity.name, entity.internal))
            .collect::<Vec<_>>()
    };
    let both = [("members".to_owned(), true), ("todos".to_owned(), false)];
    assert_eq!(of(&[]), both);
    assert_eq!(of(&[("RHTMX_SYNC_ENTITY", "members=of,todos")]), both);
}

#[test]
fn flags_override_the_environment_which_overrides_the_file() {
    let file = "bind = '127.0.0.1:1'\n[database]\nurl = 'sqlite://file'\npool_size = 3\n[retention]\nhours = 7\n[entities.todos]\ntable = 'public.todos'";
    let settings = merged(&Common::default(), &[], file).expect("settings");
    assert_eq!(
        (
            settings.bind.port(),
            settings.database.pool_size,
            settings.retention.hours
        ),
        (1, 3, 7)
    );
    assert_eq!(
        settings.entities[0].source,
        EntitySource::Table("public.todos".to_owned())
    );
    let env = [
        ("DATABASE_URL", "sqlite://env"),
        ("RHTMX_SYNC_DATABASE_POOL_SIZE", "4"),
        ("RHTMX_SYNC_BIND", "127.0.0.1:2"),
        ("RHTMX_SYNC_ENTITY", "a,b=c"),
    ];
    let settings = merged(&Common::default(), &env, file).expect("settings");
    assert_eq!((settings.bind.port(), settings.database.pool_size), (2, 4));
    assert_eq!(settings.database_url.as_deref(), Some("sqlite://env"));
    assert_eq!(settings.entities.len(), 2);
    let flags = Common {
        bind: Some("127.0.0.1:3".to_owned()),
        database_url: Some("sqlite://flag".to_owned()),
        ..Common::default()
    };
    let settings = merged(&flags, &env, file).expect("settings");
    assert_eq!(settings.bind.port(), 3);
    assert_eq!(settings.database_url.as_deref(), Some("sqlite://flag"));
}

#[test]
fn a_source_of_keys_in_the_environment_overrides_the_file() {
    let file = "[auth]\njwks_url = 'https://id.example/jwks'\nissuer = 'https://id.example'\naudience = ['a', 'b']";
    let settings = merged(&Common::default(), &[], file).expect("settings");
    let jwt = settings.jwt.expect("tokens are verified");
    assert_eq!(jwt.jwks_url.as_deref(), Some("https://id.example/jwks"));
    assert_eq!(
        (jwt.issuer, jwt.audience.len(), jwt.anonymous),
        (vec!["https://id.example".to_owned()], 2, false)
    );
    let env = [
        ("RHTMX_SYNC_AUTH_JWT_SECRET", "from the environment"),
        ("RHTMX_SYNC_AUTH_AUDIENCE", "c"),
        ("RHTMX_SYNC_AUTH_ANONYMOUS", "true"),
        ("RHTMX_SYNC_AUTH_LEEWAY_MS", "5"),
    ];
    let settings = merged(&Common::default(), &env, file).expect("settings");
    assert!(
        settings.has_authenticator() && !format!("{settings:?}").contains("from the environment")
    );
    let jwt = settings.jwt.expect("tokens are verified");
    assert_eq!(
        (jwt.jwt_secret.as_deref(), jwt.jwks_url),
        (Some("from the environment"), None)
    );
    assert_eq!(
        (jwt.audience, jwt.leeway_ms, jwt.anonymous),
        (vec!["c".to_owned()], 5, true)
    );
    assert!(
        !merged(&Common::default(), &[], "")
            .expect("settings")
            .has_authenticator()
    );
}

#[test]
fn how_rows_merge_is_said_by_the_file_and_the_environment() {
    let of = |env: &[(&str, &str)], file: &str| {
        merged(&Common::default(), env, file)
            .expect("settings")
            .merging
    };
    assert_eq!(of(&[], ""), MergingConfig::default());
    assert!(of(&[], "[sync]\ncrdt = true").crdt);
    assert!(!of(&[("RHTMX_SYNC_SYNC_CRDT", "false")], "[sync]\ncrdt = true").crdt);
    let file = "[sync]\nfields = 'keep_both'\nclock = 'reject'\n[entities.todos]";
    let found = of(&[], file);
    assert_eq!(found.fields, Some(FieldMergeStrategy::KeepBoth));
    assert_eq!(found.clock, ClockPolicy::Reject);
    let env = [
        ("RHTMX_SYNC_SYNC_FIELDS", "server_wins"),
        ("RHTMX_SYNC_SYNC_CLOCK", "clamp"),
    ];
    let found = of(&env, file);
    assert_eq!(found.fields, Some(FieldMergeStrategy::ServerWins));
    assert_eq!(found.clock, ClockPolicy::Clamp);
    let settings = merged(&Common::default(), &env, file).expect("settings");
    let rules = settings.entities[0].fields.as_ref().expect("rules");
    assert_eq!(rules.strategy, FieldMergeStrategy::ServerWins);
}

#[test]
fn an_error_names_the_unknown_or_unimplemented_key() {
    for (file, named) in [
        ("bnd = 'x'", "bnd"),
        ("[database]\npool = 1", "pool"),
        ("[auth]\nissuer = 'https://id.example'", "auth.jwt_secret"),
        ("[auth]\nanonymous = true", "auth.jwt_secret"),
        ("[auth]\njwt_secret = ['hunter2']", "invalid type"),
        ("[entities.todos]\ndeletes = 'win'", "entities.todos"),
        (
            "[entities.todos]\nrls = true\nread = 'TRUE'",
            "entities.todos",
        ),
        ("[entities.todos]\nrls = 'yes'", "invalid type"),
        ("[auth.settings]\n\"app.x\" = 1", "invalid type"),
        ("[entities.todos]\nraed = 'true'", "raed"),
        ("[sync]\nfields = 'newest_wins'", "sync.fields"),
        ("[sync]\nclock = 'ignore'", "sync.clock"),
        ("[sync]\ncrdt = 'yes'", "invalid type"),
        ("[sync]\nclok = 'clamp'", "clok"),
    ] {
        let error = format!(
            "{:#}",
            merged(&Common::default(), &[], file).expect_err(file)
        );
        assert!(
            error.contains(named) && !error.contains("hunter2"),
            "{error}"
        );
    }
    let error = merged(
        &Common::default(),
        &[("RHTMX_SYNC_RETENTION_SIZE_MAX_MB", "much")],
        "",
    )
    .expect_err("no number");
    assert!(
        error
            .to_string()
            .contains("RHTMX_SYNC_RETENTION_SIZE_MAX_MB"),
        "{error}"
    );
}

/// The names and defaults that the tables of docs/limits.md have.
fn documented() -> BTreeMap<String, u64> {
    let document = include_str!("../../../../docs/limits.md");
    let rows = document.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let default = cells[2].replace(',', "").parse().expect(row);
        (cells[1].trim_matches('`').to_owned(), default)
    });
    cells.collect()
}

/// For applications with mutators, so the server has no key for it.
const ONLY_IN_RUST: &str = "limits.mutator_ms";

/// The sections whose numbers are limits.
const SECTIONS: [&str; 3] = ["limits", "reads", "connections"];

#[test]
fn the_document_of_limits_has_each_with_its_default() {
    let default = merged(&Common::default(), &[], "").expect("settings");
    let shown = |settings: &Settings| {
        let Settings {
            limits,
            reads,
            connections,
            ..
        } = settings;
        [
            format!("{limits:?}"),
            format!("{reads:?}"),
            format!("{connections:?}"),
        ]
    };
    let documented = documented();
    for (name, value) in &documented {
        let (section, key) = name.split_once('.').expect(name);
        let set = |value: u64| {
            let file = format!("[{section}]\n{key} = {value}");
            shown(&merged(&Common::default(), &[], &file).expect(name))
        };
        assert_eq!(set(*value), shown(&default), "{name}");
        assert_ne!(set(value + 1), shown(&default), "{name}");
    }
    for (section, text) in SECTIONS.iter().zip(shown(&default)) {
        let (_, fields) = text.split_once('{').expect("a struct");
        let names = fields.split(',').filter_map(|field| field.split_once(':'));
        for (name, value) in names {
            let name = format!("{section}.{}", name.trim());
            let is_number = value
                .trim()
                .starts_with(|first: char| first.is_ascii_digit());
            let is_key = is_number && name != ONLY_IN_RUST;
            assert!(!is_key || documented.contains_key(&name), "{name}");
        }
    }
}

#[test]
fn the_example_shows_each_limit_with_its_default() {
    let example = include_str!("../../../../rhtmx-sync.example.toml");
    let mut section = "";
    let mut found = BTreeMap::new();
    for line in example.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        }
        let value = line
            .strip_prefix("# ")
            .and_then(|line| line.split_once(" = "));
        let value = value.and_then(|(key, value)| Some((key, value.parse::<u64>().ok()?)));
        if let Some((key, value)) = value.filter(|_| SECTIONS.contains(&section)) {
            found.insert(format!("{section}.{key}"), value);
        }
    }
    assert_eq!(found, documented());
}
