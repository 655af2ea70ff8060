//! Instances of topology versions that a worker does not know: left alone, counted, and reported when they appear.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crate::hand::Drivers;
use crate::measure;
use crate::storage::Storage;

/// Looks now and then, for ever.
pub(super) async fn report(storage: Storage, drivers: Arc<Drivers>, pause: Duration) {
    let sagas: HashSet<String> = drivers.keys().map(|(saga, _)| saga.clone()).collect();
    let sagas: Vec<String> = sagas.into_iter().collect();
    let mut reported = HashSet::new();
    loop {
        match storage.open_versions(&sagas).await {
            Ok(versions) => {
                let mut unknown = HashSet::new();
                for (saga, version, instances) in versions {
                    let key = (saga, version);
                    if drivers.contains_key(&key) {
                        continue;
                    }
                    measure::stranded(&key.0, version, instances);
                    if !reported.contains(&key) {
                        tracing::warn!(saga = %key.0, version, instances, "instances of a version that this worker does not know are left alone");
                    }
                    unknown.insert(key);
                }
                for (saga, version) in reported.difference(&unknown) {
                    measure::stranded(saga, *version, 0);
                }
                reported = unknown;
            }
            Err(error) => tracing::debug!(%error, "versions not looked at"),
        }
        tokio::time::sleep(pause).await;
    }
}
