//! One cluster for many tests, a database for each.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::{Cluster, Result, Server};

/// The environment variable with which one process lends its cluster to others, see [`Cluster::lend`].
pub const SHARED_CLUSTER: &str = "MIRE_TEST_CLUSTER";

/// The cluster that this process's tests share: the one lent to it, or one started at first use.
///
/// # Panics
/// When no cluster can be started; the message says what to install.
pub fn shared() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    SHARED.get_or_init(|| match borrow_or_start() {
        Ok(cluster) => cluster,
        Err(error) => panic!("no shared test cluster: {error}"),
    })
}

fn borrow_or_start() -> Result<Cluster> {
    let lent = std::env::var(SHARED_CLUSTER).ok().and_then(|lent| {
        let mut words = lent.splitn(3, ' ').map(str::to_owned);
        Some((
            words.next()?.parse().ok()?,
            words.next()?.parse().ok()?,
            words.next()?,
        ))
    });
    match lent {
        Some((version, port, folder)) => {
            Cluster::attach(Server::find(Some(version))?, folder.into(), port)
        }
        None => Cluster::start(),
    }
}

impl Cluster {
    /// What to put into [`SHARED_CLUSTER`] so that other processes' [`shared`] is this cluster.
    #[must_use]
    pub fn lend(&self) -> String {
        format!(
            "{} {} {}",
            self.server().version(),
            self.port(),
            self.folder().display()
        )
    }

    /// A new database with the extension, removed again when the answer is dropped.
    ///
    /// # Errors
    /// As [`Cluster::create_database`].
    pub fn fresh_database(&self) -> Result<Database<'_>> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!(
            "t{}_{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        self.create_database(&name)?;
        Ok(Database {
            url: self.url(&name),
            name,
            cluster: self,
        })
    }
}

/// A database of one test.
#[derive(Debug)]
pub struct Database<'c> {
    /// The superuser's URL.
    pub url: String,
    /// Its name.
    pub name: String,
    cluster: &'c Cluster,
}

impl Database<'_> {
    /// The URL for another role.
    #[must_use]
    pub fn url_as(&self, role: &str) -> String {
        self.cluster.url_as(role, &self.name)
    }

    /// Runs SQL through psql as the superuser, see [`Cluster::sql`].
    ///
    /// # Errors
    /// [`crate::Error::Failed`] with what psql said.
    pub fn sql(&self, sql: &str) -> Result<String> {
        self.cluster.sql(&self.name, sql)
    }

    /// The cluster it lives in.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        self.cluster
    }
}

impl Drop for Database<'_> {
    fn drop(&mut self) {
        // The cluster may be down or gone, and takes the database with it then.
        let _ = self.cluster.drop_database(&self.name);
    }
}
