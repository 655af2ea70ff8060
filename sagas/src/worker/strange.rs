//! Instances of topology versions that a worker does not know: left alone, counted, and reported once.

use std::collections::HashSet;
use std::time::Duration;

use super::claiming::Topologies;
use crate::measure;
use crate::storage::Storage;

/// Looks now and then, for ever.
pub(super) async fn report(storage: Storage, topologies: Topologies) {
    const PAUSE: Duration = Duration::from_secs(60);
    let sagas: HashSet<String> = topologies.keys().map(|(saga, _)| saga.clone()).collect();
    let sagas: Vec<String> = sagas.into_iter().collect();
    let mut reported = HashSet::new();
    loop {
        match storage.open_versions(&sagas).await {
            Ok(versions) => {
                for (saga, version, instances) in versions {
                    let key = (saga, version);
                    if topologies.contains_key(&key) {
                        continue;
                    }
                    measure::stranded(&key.0, version, instances);
                    if reported.insert(key.clone()) {
                        tracing::warn!(saga = %key.0, version, instances, "instances of a version that this worker does not know are left alone");
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "versions not looked at"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}
