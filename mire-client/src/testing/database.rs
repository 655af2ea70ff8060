//! A database to try something on: the one in `DATABASE_URL`, or a throwaway cluster.

use mire_cluster::Cluster;

use crate::BoxError;

/// A database with the extension. A throwaway cluster goes with it when it is dropped.
#[derive(Debug)]
pub struct TestDatabase {
    url: String,
    cluster: Option<Cluster>,
}

/// The database in `DATABASE_URL` if that is set; otherwise a cluster is started, which takes about a second.
///
/// # Errors
/// When no cluster can be started; the message says what to run.
pub fn database() -> Result<TestDatabase, BoxError> {
    match std::env::var("DATABASE_URL") {
        Ok(url) if !url.is_empty() => Ok(TestDatabase { url, cluster: None }),
        _ => {
            let cluster = Cluster::start()?;
            Ok(TestDatabase {
                url: cluster.url(mire_cluster::DATABASE),
                cluster: Some(cluster),
            })
        }
    }
}

impl TestDatabase {
    /// Its URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether it is a throwaway, gone when this is dropped.
    #[must_use]
    pub fn is_throwaway(&self) -> bool {
        self.cluster.is_some()
    }
}
