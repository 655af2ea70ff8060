//! The check that is always on: no stream's events ever reach a handler out of version order or with a gap.

use std::collections::HashMap;

use crate::event::RecordedEvent;

/// What is wrong with an event's place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Misplaced {
    /// It comes after an event that it should precede.
    Backward { after: i64 },
    /// Versions are missing between this one and the event. They may have been erased: the store knows.
    Gap { after: i64 },
}

/// Remembers the last version seen of each stream: of the last 30,000 streams at least, so that memory stays flat.
pub(crate) struct OrderCheck {
    recent: HashMap<String, i64>,
    older: HashMap<String, i64>,
    /// A filter by type leaves gaps; then versions must only grow.
    gaps: bool,
    /// Every stream's first event is yet to come, and nothing has been forgotten: it must be version 1.
    from_the_first: bool,
    position: i64,
    limit: usize,
}

const STREAMS: usize = 30_000;

impl OrderCheck {
    /// For a worker that begins after a position.
    pub(crate) fn new(after_position: i64, filtered_by_type: bool) -> Self {
        Self {
            recent: HashMap::new(),
            older: HashMap::new(),
            gaps: filtered_by_type,
            from_the_first: after_position == 0,
            position: after_position,
            limit: STREAMS,
        }
    }

    /// Takes the next event, in its place or not.
    pub(crate) fn next(&mut self, event: &RecordedEvent) -> Result<(), Misplaced> {
        let last = self.last(&event.stream);
        let ascending = event.position > self.position;
        self.position = self.position.max(event.position);
        self.remember(&event.stream, event.version);
        match last {
            Some(after) if event.version <= after || !ascending => {
                Err(Misplaced::Backward { after })
            }
            None if !ascending => Err(Misplaced::Backward {
                after: event.version,
            }),
            Some(after) if !self.gaps && event.version > after + 1 => Err(Misplaced::Gap { after }),
            None if !self.gaps && self.from_the_first && event.version > 1 => {
                Err(Misplaced::Gap { after: 0 })
            }
            _ => Ok(()),
        }
    }

    /// The next events of a stream come another way.
    pub(crate) fn forget(&mut self, stream: &str) {
        self.recent.remove(stream);
        self.older.remove(stream);
        self.some_are_parked();
    }

    /// The first events of some streams come, or came, another way.
    pub(crate) fn some_are_parked(&mut self) {
        self.from_the_first = false;
    }

    fn last(&self, stream: &str) -> Option<i64> {
        self.recent
            .get(stream)
            .or_else(|| self.older.get(stream))
            .copied()
    }

    fn remember(&mut self, stream: &str, version: i64) {
        if let Some(known) = self.recent.get_mut(stream) {
            *known = version;
            return;
        }
        if self.recent.len() >= self.limit {
            self.from_the_first &= self.older.is_empty();
            self.older = std::mem::take(&mut self.recent);
        }
        self.recent.insert(stream.to_owned(), version);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Json;

    fn event(position: i64, stream: &str, version: i64) -> RecordedEvent {
        RecordedEvent {
            position,
            stream: stream.into(),
            version,
            id: uuid::Uuid::nil(),
            event_type: "t".into(),
            recorded_at: std::time::SystemTime::UNIX_EPOCH,
            data: Json::from_text("{}").expect("json"),
            metadata: None,
        }
    }

    #[test]
    fn versions_that_follow_each_other_are_in_order() {
        let mut check = OrderCheck::new(0, false);
        for (position, stream, version) in [(1, "a", 1), (2, "b", 1), (5, "a", 2), (9, "b", 2)] {
            assert_eq!(check.next(&event(position, stream, version)), Ok(()));
        }
    }

    #[test]
    fn a_gap_a_repeat_and_a_step_back_are_not() {
        let mut check = OrderCheck::new(0, false);
        assert_eq!(check.next(&event(1, "a", 1)), Ok(()));
        assert_eq!(
            check.next(&event(2, "a", 3)),
            Err(Misplaced::Gap { after: 1 })
        );
        assert_eq!(
            check.next(&event(3, "a", 3)),
            Err(Misplaced::Backward { after: 3 })
        );
        assert_eq!(
            check.next(&event(4, "a", 2)),
            Err(Misplaced::Backward { after: 3 })
        );
        assert_eq!(
            check.next(&event(4, "b", 1)),
            Err(Misplaced::Backward { after: 1 })
        );
    }

    #[test]
    fn a_first_event_is_version_one_only_for_who_began_at_the_beginning() {
        let late = event(7, "a", 4);
        assert_eq!(
            OrderCheck::new(0, false).next(&late),
            Err(Misplaced::Gap { after: 0 })
        );
        assert_eq!(OrderCheck::new(6, false).next(&late), Ok(()));
    }

    #[test]
    fn a_filter_by_type_leaves_gaps() {
        let mut check = OrderCheck::new(0, true);
        assert_eq!(check.next(&event(1, "a", 2)), Ok(()));
        assert_eq!(check.next(&event(2, "a", 5)), Ok(()));
        assert_eq!(
            check.next(&event(3, "a", 4)),
            Err(Misplaced::Backward { after: 5 })
        );
    }

    #[test]
    fn memory_is_bounded_and_what_was_forgotten_is_not_missed() {
        let mut check = OrderCheck::new(0, false);
        check.limit = 2;
        for (position, stream) in (1..).zip(["a", "b", "c", "d", "e"]) {
            assert_eq!(check.next(&event(position, stream, 1)), Ok(()));
        }
        assert!(check.recent.len() + check.older.len() <= 4);
        assert_eq!(check.next(&event(9, "a", 2)), Ok(()));
    }
}
