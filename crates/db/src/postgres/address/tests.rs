use proptest::prelude::*;

use super::*;

fn parsed(text: &str) -> Address {
    Address::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refusal(text: &str) -> String {
    Address::parse(text)
        .expect_err("an address that cannot be used")
        .to_string()
}

fn password(text: &str) -> Option<String> {
    let password = parsed(text).password?;
    Some(String::from_utf8(password).expect("UTF-8"))
}

#[test]
fn each_part_is_read_as_libpq_reads_it() {
    let address = parsed(
        "postgresql://u%40x:p%2Fw@h1:1,[::1]:2,h3/my%20db?application_name=a+b&options=-c%20a%3Db",
    );
    assert_eq!(address.user.as_deref(), Some("u@x"));
    assert_eq!(address.password.as_deref(), Some(b"p/w".as_slice()));
    assert_eq!(address.hosts, ["h1", "::1", "h3"]);
    assert_eq!(address.ports, [1, 2, 5432]);
    assert_eq!(address.dbname.as_deref(), Some("my db"));
    assert_eq!(address.application_name.as_deref(), Some("a+b"));
    assert_eq!(address.options.as_deref(), Some("-c a=b"));
    let address =
        parsed("postgres://h/db?options=-csearch_path=x&user=u&password=p@w&port=7&dbname=e");
    assert_eq!(address.options.as_deref(), Some("-csearch_path=x"));
    assert_eq!(
        (address.user.as_deref(), address.dbname.as_deref()),
        (Some("u"), Some("e"))
    );
    assert_eq!(
        (address.ports.as_slice(), address.password),
        ([7].as_slice(), Some(b"p@w".to_vec()))
    );
    let address = parsed("postgresql:///db?host=/tmp&sslmode=require");
    assert_eq!(
        (address.hosts, address.tls.mode),
        (vec!["/tmp".to_owned()], TlsMode::Disable)
    );
    assert_eq!(parsed("postgresql://%2Frun%2Fpg/db").hosts, ["/run/pg"]);
    let address =
        parsed("postgresql:///?hostaddr=10.0.0.1,::1&tcp_user_timeout=5000&connect_timeout=1");
    assert_eq!(address.hosts, ["10.0.0.1", "::1"]);
    assert_eq!(address.tcp_user_timeout, Some(Duration::from_secs(5)));
    assert_eq!(address.connect_timeout, Some(Duration::from_secs(2)));
    let address = parsed("postgresql://h?keepalives=0&keepalives_idle=7&keepalives_count=2");
    assert!(address.keepalives.is_off && address.keepalives.idle == Some(Duration::from_secs(7)));
    assert_eq!(address.keepalives.count, Some(2));
}

#[test]
fn a_password_may_be_pasted_where_there_is_one_way_to_read_it() {
    for (address, expected) in [
        ("postgresql://u:p@h/db", "p"),
        ("postgresql://u:p@ss@h:5/db", "p@ss"),
        ("postgresql://u:p#s?s&=+s@h/db", "p#s?s&=+s"),
        ("postgresql://u:p:s@h/db", "p:s"),
        ("postgresql://u:p/ss@h/db", "p/ss"),
        ("postgresql://u:p/s@s@h/db?sslmode=require", "p/s@s"),
        ("postgresql://u:p%25@h/db", "p%"),
    ] {
        assert_eq!(password(address).as_deref(), Some(expected), "{address}");
        assert_eq!(parsed(address).hosts, ["h"], "{address}");
        assert_eq!(parsed(address).dbname.as_deref(), Some("db"), "{address}");
    }
    for address in [
        "postgresql://u:p@x/hunter2@h/db",
        "postgresql://u:5432/hunter2@h/db",
        "postgresql://u:p@x?hunter2=1@h/db",
        "postgresql://u:p@x?sslmode=hunter2@h/db",
        "postgresql://u:p@x?hunter2@h/db",
        "postgresql://u:hunter2%zz@h/db",
        "postgresql://u:hunter2%00@h/db",
        "postgresql://u:hunter2/x?y@h/db",
        "postgresql://u:hunter2/db",
    ] {
        let error = refusal(address);
        assert!(
            !error.contains("hunter2") && error.contains('%'),
            "{address}: {error}"
        );
    }
    let error = refusal("postgresql://postgres:[YOUR-PASSWORD]@db.x.supabase.co:5432/postgres");
    assert!(error.contains("placeholder"), "{error}");
}

#[test]
fn a_refused_parameter_is_named_with_what_to_do() {
    for (parameter, advice) in [
        ("connection_limit=1", "database.pool_size"),
        ("pool_timeout=10", "database.connect_timeout_ms"),
        ("schema=app", "search_path"),
        ("service=main", "host"),
        ("passfile=/x", "DATABASE_URL"),
        ("sslcrl=/x", "remove it"),
        ("target_session_attrs=standby", "primary"),
        ("gssencmode=require", "sslmode"),
        ("sslmode=sometimes", "verify-full"),
        ("sslcert=/c.pem", "sslkey"),
        ("sslnegotiation=direct", "sslmode=require"),
        ("sslrootcert=system&sslmode=require", "verify-full"),
        ("keepalives_idle=x", "number"),
        ("port=1,2", "one for each"),
        ("aplication_name=x", "remove it"),
    ] {
        let error = refusal(&format!("postgresql://u:hunter2@h/db?{parameter}"));
        let (name, _) = parameter.split_once('=').expect("a name");
        assert!(
            error.contains(&format!("`{name}"))
                && error.contains(advice)
                && !error.contains("hunter2"),
            "{error}"
        );
    }
}

#[test]
fn parameters_of_other_drivers_that_change_nothing_are_taken() {
    for parameter in [
        "pgbouncer=true",
        "schema=public",
        "gssencmode=prefer",
        "sslcompression=1",
        "krbsrvname=postgres",
        "client_encoding=UTF8",
        "target_session_attrs=read-write",
        "channel_binding=require",
        "fallback_application_name=x",
        "load_balance_hosts=random",
        "supa=base-pooler.x",
    ] {
        parsed(&format!("postgresql://u:p@h/db?{parameter}"));
    }
}

#[test]
fn tls_is_chosen_as_libpq_chooses_it() {
    let tls = |parameters: &str| parsed(&format!("postgresql://h/db?{parameters}")).tls;
    assert_eq!(tls(""), TlsOptions::default());
    assert_eq!(tls("ssl=true").mode, TlsMode::Require);
    assert_eq!(tls("sslrootcert=system").mode, TlsMode::VerifyFull);
    let tls = tls(
        "sslmode=verify-ca&sslrootcert=%2Fca.pem&sslcert=/c&sslkey=/k&sslsni=0&ssl_min_protocol_version=TLSv1.3",
    );
    assert_eq!(tls.mode, TlsMode::VerifyCa);
    assert_eq!(tls.authorities, Authorities::File("/ca.pem".to_owned()));
    assert_eq!(tls.client, Some(("/c".to_owned(), "/k".to_owned())));
    assert!(tls.hides_name && tls.versions.without_12);
}

fn encoded(text: &str) -> String {
    let byte = |byte: u8| {
        if byte.is_ascii_alphanumeric() {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    text.bytes().map(byte).collect()
}

proptest! {
    #[test]
    fn what_is_encoded_comes_back(
        user in "[^\0]{1,12}", password in "[^\0]{1,12}", dbname in "[^\0]{1,12}", name in "[^\0]{1,12}",
        hosts in prop::collection::vec(("[a-z][a-z0-9.-]{0,9}", 1_u16..), 1..4),
    ) {
        let list: Vec<String> = hosts.iter().map(|(host, port)| format!("{host}:{port}")).collect();
        let text = format!(
            "postgresql://{}:{}@{}/{}?application_name={}",
            encoded(&user), encoded(&password), list.join(","), encoded(&dbname), encoded(&name)
        );
        let address = parsed(&text);
        prop_assert_eq!(address.user, Some(user));
        prop_assert_eq!(address.password, Some(password.into_bytes()));
        prop_assert_eq!(address.dbname, Some(dbname));
        prop_assert_eq!(address.application_name, Some(name));
        let (names, ports): (Vec<String>, Vec<u16>) = hosts.into_iter().unzip();
        prop_assert_eq!((address.hosts, address.ports), (names, ports));
    }

    /// Whatever a password is, it is read whole or refused, and no error has a part of it.
    #[test]
    fn a_password_is_read_whole_or_not_at_all(
        password in "(hunter[2@:/?#&=%+\\[\\], é\"'\\\\]{1,6}){1,3}", port in prop::option::of(1_u16..),
    ) {
        let port = port.map_or(String::new(), |port| format!(":{port}"));
        let text = format!("postgresql://u:{password}@host{port}/db?sslmode=require");
        match Address::parse(&text) {
            Ok(address) => {
                prop_assert_eq!(address.hosts, ["host"]);
                let read = address.password.unwrap_or_default();
                let whole = split::decode(&password, "").unwrap_or_default();
                prop_assert_eq!(read, whole);
            }
            Err(error) => {
                let error = error.to_string();
                prop_assert!(!error.contains("hunter"), "{}", error);
            }
        }
    }

    #[test]
    fn no_text_panics(text in "(postgres(ql)?://)?[a-z0-9@:/?#&=%,.\\[\\]é -]{0,40}") {
        let _ = Address::parse(&text);
    }
}
