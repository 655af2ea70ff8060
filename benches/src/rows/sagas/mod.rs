//! Sagas: S1 and S2. Each side is a module of its own.

mod mire;
mod ours;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::oneshot;

use crate::row::{Measure, Role, Row, Target};
use crate::side::{Side, together};
use crate::world::World;

/// S1: so many sagas at a time, and so many one after the other in each task.
const S1: Plan = (24, 40);
/// S2, likewise.
const S2: Plan = (256, 16);

pub(crate) fn rows() -> Vec<Row> {
    const SAGAS: Measure = Measure::Rate("sagas/s");
    const S1_WHAT: &str = "saga of four steps: two answered from outside, one in-process effect, one value; 24 at a time";
    let row = |id: &str, what: &str, ours: Side, mire: Side| {
        Row::new(id, what, SAGAS).ours(ours).mire(mire)
    };
    vec![
        row(
            "S1",
            &format!("{S1_WHAT}; the runner is told the answers"),
            ours::delivered(S1),
            mire::delivered(S1),
        )
        .target(Target::Ratio(Role::Mire, 5.0))
        .target(Target::Calls(5.0))
        .target(Target::Commits(4.0))
        .target(Target::Wal(5_000.0)),
        row(
            "S1/outbox",
            &format!("{S1_WHAT}; a worker sends the requests from the outbox"),
            ours::from_outbox(S1),
            mire::from_outbox(S1),
        )
        .target(Target::Ratio(Role::Mire, 5.0)),
        row(
            "S2",
            "saga of four in-process effects of 0 ms, 256 at a time",
            ours::in_process(S2),
            mire::in_process(S2),
        )
        .target(Target::Ratio(Role::Mire, 10.0)),
    ]
}

/// So many at a time, so many one after the other.
type Plan = (usize, usize);

const PATIENCE: Duration = Duration::from_secs(60);

/// Who waits for a saga, by its id. Neither side shall pay for asking the database.
#[derive(Clone, Default)]
struct Waiting(Arc<Mutex<HashMap<String, oneshot::Sender<()>>>>);

impl Waiting {
    fn begin(&self, id: &str) -> oneshot::Receiver<()> {
        let (ended, end) = oneshot::channel();
        let mut all = self.0.lock().expect("nobody panics in there");
        all.insert(id.to_owned(), ended);
        end
    }

    /// A saga that comes here again finds nobody waiting.
    fn end(&self, id: &str) {
        let waiting = self.0.lock().expect("nobody panics in there").remove(id);
        if let Some(waiting) = waiting {
            // Whoever has given up waiting says so.
            let _ = waiting.send(());
        }
    }
}

async fn ended(end: oneshot::Receiver<()>, id: &str) -> Result<()> {
    tokio::time::timeout(PATIENCE, end)
        .await
        .with_context(|| format!("{id} has not ended"))??;
    Ok(())
}

/// Ids for a plan, one list a task.
fn ids(world: &World, (tasks, each): Plan) -> Vec<Vec<String>> {
    let some = || (0..each).map(|_| world.fresh_id()).collect();
    (0..tasks).map(|_| some()).collect()
}

/// Does something with every id, the lists at the same time.
async fn each_id<F, Fut>(ids: Vec<Vec<String>>, then: F) -> Result<()>
where
    F: Fn(String) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<()>> + Send,
{
    together(ids.into_iter().map(|ids| {
        let then = then.clone();
        async move {
            for id in ids {
                then(id).await?;
            }
            Ok(())
        }
    }))
    .await?;
    Ok(())
}
