use super::*;
use crate::event::{EventData, EventKind};
use crate::json::Json;
use serde::{Deserialize, Serialize};

// By hand: the derive macro writes `::mire_client`, which is somebody else in here.
#[derive(Debug, Serialize, Deserialize)]
struct Counted {
    n: i64,
}

impl EventData for Counted {
    const KINDS: &'static [EventKind] = &[EventKind {
        event_type: "counter.by",
        schema: 1,
        aliases: &[],
    }];

    fn kind_index(&self) -> usize {
        0
    }

    fn to_json(&self) -> Result<Json> {
        Json::new(self)
    }

    fn from_json(_: usize, json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Counter(i64);

impl Aggregate for Counter {
    type Event = Counted;
    const CATEGORY: &'static str = "counter";

    fn apply(&mut self, event: &Counted) {
        self.0 += event.n;
    }
}

fn fold(rows: &[(i64, &str, &str)]) -> Result<Hydrated<Counter>> {
    let mut hydrator = Hydrator::new(
        "counter-1",
        Some(|json: JsonRef<'_>| serde_json::from_slice(json.0)),
    );
    for &(version, event_type, data) in rows {
        hydrator.row(&LoadedRow {
            version,
            event_type,
            data: JsonRef(data.as_bytes()),
            metadata: None,
        })?;
    }
    hydrator.finish()
}

const HEAD: &str = r#"{"truncated_before": 1, "deleted": false}"#;
const CUT: &str = r#"{"truncated_before": 3, "deleted": false}"#;
const BY: &str = r#"{"n": 2}"#;

#[test]
fn a_whole_stream_is_folded() {
    let rows = [
        (2, "$stream", HEAD),
        (1, "counter.by", BY),
        (2, "counter.by", BY),
    ];
    assert!(matches!(fold(&rows), Ok(Hydrated::State(Counter(4), 2))));
}

#[test]
fn no_rows_are_no_stream() {
    assert!(matches!(fold(&[]), Ok(Hydrated::Missing)));
}

#[test]
fn a_gap_a_repeat_and_a_missing_end_are_refused() {
    for versions in [&[1, 3][..], &[1, 1, 2], &[2, 3], &[1, 2], &[]] {
        let mut rows = vec![(3, "$stream", HEAD)];
        rows.extend(versions.iter().map(|&v| (v, "counter.by", BY)));
        assert!(fold(&rows).is_err_and(|e| e.is_hydration()), "{versions:?}");
    }
}

#[test]
fn more_than_the_stream_says_is_refused() {
    let rows = [
        (1, "$stream", HEAD),
        (1, "counter.by", BY),
        (2, "counter.by", BY),
    ];
    assert!(fold(&rows).is_err_and(|e| e.is_hydration()));
}

#[test]
fn tombstones_count_as_versions_and_are_not_folded() {
    let rows = [
        (2, "$stream", HEAD),
        (1, "counter.by", BY),
        (2, "$stream_truncated", "{}"),
    ];
    assert!(matches!(fold(&rows), Ok(Hydrated::State(Counter(2), 2))));
}

#[test]
fn a_truncated_stream_needs_a_snapshot_that_covers_what_is_gone() {
    let tail = [(3, "counter.by", BY), (4, "$stream_truncated", "{}")];
    let without: Vec<_> = [(4, "$stream", CUT)].into_iter().chain(tail).collect();
    assert!(fold(&without).is_err_and(|e| e.is_hydration() && e.to_string().contains("truncated")));
    let with: Vec<_> = [(4, "$stream", CUT), (2, "$snapshot", "10")]
        .into_iter()
        .chain(tail)
        .collect();
    assert!(matches!(fold(&with), Ok(Hydrated::State(Counter(12), 4))));
}

#[test]
fn a_snapshot_that_cannot_be_read_or_is_ahead_of_the_log_is_not_trusted() {
    let unreadable = [
        (1, "$stream", HEAD),
        (1, "$snapshot", r#"{"no": "counter"}"#),
    ];
    assert!(matches!(
        fold(&unreadable),
        Ok(Hydrated::UnusableSnapshot(_))
    ));
    let ahead = [(1, "$stream", HEAD), (2, "$snapshot", "10")];
    assert!(matches!(fold(&ahead), Ok(Hydrated::UnusableSnapshot(_))));
}

#[test]
fn a_deleted_stream_is_refused() {
    let rows = [
        (1, "$stream", r#"{"truncated_before": 2, "deleted": true}"#),
        (1, "$stream_deleted", "{}"),
    ];
    assert!(fold(&rows).is_err_and(|e| e.is_deleted()));
}

#[test]
fn an_unknown_event_is_refused_with_its_version() {
    let rows = [(1, "$stream", HEAD), (1, "counter.reset", "{}")];
    let error = fold(&rows).expect_err("unknown type");
    assert!(
        error.is_decode() && error.to_string().contains("version 1"),
        "{error}"
    );
}
