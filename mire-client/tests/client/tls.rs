//! TLS believes as much of the server's certificate as the URL asks for.

use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use mire_client::testing::Cluster;
use mire_client::{ErrorKind, EventStore};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// An authority of our own.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// Puts a certificate for `localhost` where the server looks for it.
    fn certify(&self, cluster: &Cluster) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        write_for_server(&cluster.data(), "server.crt", &certificate.pem());
        write_for_server(&cluster.data(), "server.key", &key.serialize_pem());
    }
}

fn write_for_server(data: &Path, name: &str, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    let path = data.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let owner = std::fs::metadata(data).unwrap();
    chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
}

/// Whether the connection is encrypted, if there is one.
async fn encrypted(url: &str) -> Result<bool, mire_client::Error> {
    let store = EventStore::connect(url).await?;
    store.migrate().await?;
    let client = store.pool().get().await?;
    let row = client
        .query_one(
            "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
            &[],
        )
        .await;
    Ok(row.unwrap().get(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_goes_as_far_as_the_url_asks() {
    let cluster = tokio::task::spawn_blocking(|| Cluster::start().unwrap())
        .await
        .unwrap();
    let (authority, stranger) = (Authority::new(), Authority::new());
    authority.certify(&cluster);
    if let Err(error) = cluster.sql("mire", "ALTER SYSTEM SET ssl = on") {
        assert!(
            error.to_string().contains("not supported by this build"),
            "{error}"
        );
        eprintln!("skipped: this server was built without TLS");
        return;
    }
    cluster.restart().unwrap();
    let roots = tempfile::tempdir().unwrap();
    let (known, unknown) = (
        roots.path().join("known.crt"),
        roots.path().join("unknown.crt"),
    );
    std::fs::write(&known, &authority.pem).unwrap();
    std::fs::write(&unknown, &stranger.pem).unwrap();
    let (known, unknown) = (known.display(), unknown.display());

    let by_number = cluster.url("mire");
    let by_name = by_number.replace("127.0.0.1", "localhost");
    assert!(by_number != by_name);
    for (url, expected) in [
        (format!("{by_number}?sslmode=disable"), Some(false)),
        (by_number.clone(), Some(true)),
        (format!("{by_number}?sslmode=require"), Some(true)),
        (
            format!("{by_number}?sslmode=require&sslrootcert={unknown}"),
            None,
        ),
        (
            format!("{by_number}?sslmode=verify-ca&sslrootcert={known}"),
            Some(true),
        ),
        (
            format!("{by_number}?sslmode=verify-ca&sslrootcert={unknown}"),
            None,
        ),
        (
            format!("{by_number}?sslmode=verify-full&sslrootcert={known}"),
            None,
        ),
        (
            format!("{by_name}?sslmode=verify-full&sslrootcert={known}"),
            Some(true),
        ),
        (
            format!("{by_name}?sslmode=verify-full&sslrootcert={unknown}"),
            None,
        ),
    ] {
        match (encrypted(&url).await, expected) {
            (Ok(encrypted), Some(expected)) => assert_eq!(encrypted, expected, "{url}"),
            (Err(error), None) => assert!(
                matches!(error.kind(), ErrorKind::Connection { .. }),
                "{url}: {error:?}"
            ),
            (outcome, _) => panic!("{url}: {outcome:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_for_tls_never_gets_plaintext_however_it_is_written() {
    let f = super::common::fixture().await;
    let (port, name) = (f.database.cluster().port(), &f.database.name);
    // This server speaks no TLS.
    for url in [
        format!("host=127.0.0.1 port={port} user=postgres dbname={name} sslmode=require"),
        format!("host=127.0.0.1 port={port} user=postgres dbname={name} sslmode = require"),
        format!("postgres://postgres:a?b@127.0.0.1:{port}/{name}?sslmode=require"),
        format!("postgres://postgres@127.0.0.1:{port}/{name}?ssl%6dode=require"),
        format!("postgres://postgres@127.0.0.1:{port}/{name}?sslrootcert=system"),
        format!("postgres://postgres@127.0.0.1:{port}/{name}?sslmode=prefer&sslrootcert=system"),
        format!("postgres://postgres@127.0.0.1:{port}/{name}?sslmode=verify-ca"),
    ] {
        assert!(EventStore::connect(&url).await.is_err(), "{url}");
    }
}
