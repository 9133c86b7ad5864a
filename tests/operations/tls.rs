//! TLS to PostgreSQL as libpq does it, with certificates of the suite's own.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair,
};
use rhtmx_sync::{DbError, DbPool, SyncConfig, SyncEngine};
use rhtmx_sync_tests::bin_dir;
use test_postgres::{Cluster, FOR_TESTS};
use tokio_postgres::NoTls;

/// A certificate authority.
struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let issuer = Issuer::new(params, key);
        Self {
            certificate,
            issuer,
        }
    }

    /// A certificate and its key for a host or a client, the last day of which may be long ago.
    fn sign(&self, name: &str, expired: bool) -> (String, String) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        if expired {
            params.not_before = rcgen::date_time_ymd(2001, 1, 1);
            params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        }
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }
}

/// A server whose certificate is another one for each part of the test.
struct Server {
    cluster: Cluster,
}

impl Server {
    async fn start() -> Self {
        let started = tokio::task::spawn_blocking(|| Cluster::start(bin_dir(), FOR_TESTS)).await;
        let cluster = started
            .expect("no panic")
            .unwrap_or_else(|error| panic!("{error:#}"));
        Self { cluster }
    }

    /// Makes the server present this certificate, and believe those of the authority.
    async fn present(&mut self, (certificate, key): (String, String), authority: &str, hba: &str) {
        let write = |name: &str, text: &str| {
            self.cluster
                .write(name, text)
                .unwrap_or_else(|error| panic!("{error:#}"));
        };
        write("server.crt", &certificate);
        write("server.key", &key);
        write("root.crt", authority);
        write("pg_hba.conf", &format!("local all all trust\n{hba}\n"));
        self.execute("ALTER SYSTEM SET ssl = on; ALTER SYSTEM SET ssl_ca_file = 'root.crt'")
            .await;
        tokio::task::block_in_place(|| self.cluster.restart())
            .unwrap_or_else(|error| panic!("{error:#}"));
    }

    async fn execute(&self, sql: &str) {
        let address: tokio_postgres::Config = self.cluster.url().parse().expect("an address");
        let mut socket = tokio_postgres::Config::new();
        socket
            .user("postgres")
            .password(address.get_password().expect("a password"))
            .port(self.cluster.port())
            .host_path(self.cluster.directory());
        let (client, connection) = socket.connect(NoTls).await.expect("a socket");
        tokio::spawn(connection);
        for statement in sql.split("; ") {
            client.batch_execute(statement).await.expect(statement);
        }
    }

    /// What a start says of the address with these parameters.
    async fn open(&self, host: &str, parameters: &str) -> Result<(), DbError> {
        let url = self.cluster.url().replace("127.0.0.1", host);
        let pool = DbPool::from_url(&format!("{url}?{parameters}")).await?;
        // A server that is out of reach would be no error yet.
        let DbPool::Postgres(pool) = pool else {
            panic!("another database")
        };
        pool.batch_execute("SELECT 1").await
    }

    async fn opens(&self, host: &str, parameters: &str) {
        if let Err(error) = self.open(host, parameters).await {
            panic!("{host} {parameters}: {error}");
        }
    }

    /// The connection is refused for good, with these words.
    async fn refuses(&self, host: &str, parameters: &str, words: &str) {
        let error = self.open(host, parameters).await.expect_err(parameters);
        let text = error.to_string();
        assert!(
            matches!(error, DbError::Refused(_)) && text.contains(words),
            "{host} {parameters}: {error:?}"
        );
    }
}

const ANY: &str = "host all all 127.0.0.1/32 scram-sha-256";

fn write(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    fs::write(&path, text).expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its permissions");
    path.display().to_string()
}

/// Every `sslmode` against a certificate that is right, of another authority, of another host, and expired.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_checked_as_far_as_the_mode_says() {
    let mut server = Server::start().await;
    for mode in ["require", "verify-ca", "verify-full"] {
        server
            .refuses(
                "127.0.0.1",
                &format!("sslmode={mode}"),
                "does not support TLS",
            )
            .await;
    }
    for mode in ["disable", "allow", "prefer"] {
        server.opens("127.0.0.1", &format!("sslmode={mode}")).await;
    }

    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let directory = tempfile::tempdir().expect("a directory");
    let ca = write(directory.path(), "ca.pem", &ours.certificate.pem());
    let other = write(directory.path(), "other.pem", &theirs.certificate.pem());
    let root = ours.certificate.pem();

    server
        .present(ours.sign("localhost", false), &root, ANY)
        .await;
    for mode in ["disable", "allow", "prefer", "require"] {
        server.opens("127.0.0.1", &format!("sslmode={mode}")).await;
    }
    server
        .opens(
            "localhost",
            &format!("sslmode=verify-full&sslrootcert={ca}"),
        )
        .await;
    // Only `verify-full` looks at the host's name, and a file makes `require` check who signed.
    let wrong_name = format!("sslmode=verify-full&sslrootcert={ca}");
    server
        .refuses("127.0.0.1", &wrong_name, "alternative names")
        .await;
    for mode in ["verify-ca", "require"] {
        server
            .opens("127.0.0.1", &format!("sslmode={mode}&sslrootcert={ca}"))
            .await;
        let wrong = format!("sslmode={mode}&sslrootcert={other}");
        server.refuses("127.0.0.1", &wrong, "sslrootcert").await;
    }
    for parameters in [
        "sslmode=verify-full",
        "sslmode=verify-ca",
        "sslrootcert=system",
    ] {
        server.refuses("localhost", parameters, "sslrootcert").await;
    }
    // It goes on without TLS, as libpq does.
    server
        .opens("127.0.0.1", &format!("sslmode=prefer&sslrootcert={other}"))
        .await;
    server
        .opens("127.0.0.1", "sslmode=require&channel_binding=require")
        .await;

    server
        .present(ours.sign("localhost", true), &root, ANY)
        .await;
    for mode in ["verify-full", "verify-ca", "require"] {
        let expired = format!("sslmode={mode}&sslrootcert={ca}");
        server
            .refuses("localhost", &expired, "needs a new one")
            .await;
    }
    server.opens("localhost", "sslmode=require").await;

    // One that signed itself, as PostgreSQL's manual makes it, is its own authority.
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let own = params.self_signed(&key).expect("a certificate").pem();
    server
        .present((own.clone(), key.serialize_pem()), &root, ANY)
        .await;
    let itself = write(directory.path(), "own.pem", &own);
    server
        .opens(
            "localhost",
            &format!("sslmode=verify-full&sslrootcert={itself}"),
        )
        .await;
    server
        .refuses(
            "localhost",
            &format!("sslmode=verify-ca&sslrootcert={ca}"),
            "sslrootcert",
        )
        .await;
}

/// A server that asks for a client's certificate gets it, and one that takes only some connections gets those.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_may_ask_for_a_clients_certificate() {
    let mut server = Server::start().await;
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| write(directory.path(), name, text);
    let asks = "hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-full";
    server
        .present(ours.sign("localhost", false), &ours.certificate.pem(), asks)
        .await;

    let (certificate, key) = ours.sign("postgres", false);
    let (cert, key) = (file("client.pem", &certificate), file("client.key", &key));
    let shown = format!("sslcert={cert}&sslkey={key}");
    server
        .opens("127.0.0.1", &format!("sslmode=require&{shown}"))
        .await;
    // Both find out that the server takes no connection without TLS.
    for mode in ["allow", "prefer"] {
        server
            .opens("127.0.0.1", &format!("sslmode={mode}&{shown}"))
            .await;
    }
    server
        .refuses("127.0.0.1", "sslmode=require", "certificate")
        .await;
    server
        .refuses(
            "127.0.0.1",
            &format!("sslmode=require&sslcertmode=disable&{shown}"),
            "certificate",
        )
        .await;
    server
        .refuses(
            "127.0.0.1",
            &format!("sslmode=disable&{shown}"),
            "no encryption",
        )
        .await;
    for (authority, name) in [(&ours, "somebody"), (&theirs, "postgres")] {
        let (certificate, key) = authority.sign(name, false);
        let (cert, key) = (file("wrong.pem", &certificate), file("wrong.key", &key));
        let shown = format!("sslmode=require&sslcert={cert}&sslkey={key}");
        let error = server
            .open("127.0.0.1", &shown)
            .await
            .expect_err("another's certificate");
        assert!(matches!(error, DbError::Refused(_)), "{name}: {error:?}");
    }
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("permissions");
    let error = server
        .open("127.0.0.1", &format!("sslmode=require&{shown}"))
        .await;
    assert!(
        error
            .expect_err("a public key")
            .to_string()
            .contains("chmod 600")
    );
}

/// Such a certificate ends the start, also when only the listener's address meets it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_cannot_be_right_ends_the_start() {
    let mut server = Server::start().await;
    server
        .execute("CREATE TABLE items (id int PRIMARY KEY)")
        .await;
    let ours = Authority::new("ours");
    server
        .present(ours.sign("elsewhere", false), &ours.certificate.pem(), ANY)
        .await;
    let directory = tempfile::tempdir().expect("a directory");
    let ca = write(directory.path(), "ca.pem", &ours.certificate.pem());
    let pool = DbPool::from_url(&server.cluster.url())
        .await
        .expect("a pool");
    let mut config = SyncConfig::new(pool, vec!["items"]);
    config.database.listen_url = Some(format!(
        "{}?sslmode=verify-full&sslrootcert={ca}",
        server.cluster.url()
    ));
    let error = SyncEngine::new(config)
        .await
        .expect_err("another host's certificate");
    assert!(error.to_string().contains("alternative names"), "{error}");
}
