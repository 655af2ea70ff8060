use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// An append that remembers its number, and whether its caller has gone.
#[derive(Debug, Clone, PartialEq)]
struct Numbered {
    number: usize,
    gone: bool,
}

impl Payload for Numbered {
    fn is_abandoned(&self) -> bool {
        self.gone
    }

    fn parked(&mut self) {}
}

const LIMITS: Limits = Limits {
    batch_events: 4,
    batch_bytes: 1_000,
    alone: 2,
};

fn item(number: usize, stream: &str) -> Item<Numbered> {
    Item {
        stream: stream.into(),
        events: 1,
        bytes: 10,
        deadline: Instant::now() + Duration::from_secs(3600),
        payload: Numbered {
            number,
            gone: false,
        },
    }
}

fn numbers(batch: Option<Vec<Item<Numbered>>>) -> Vec<usize> {
    batch
        .unwrap_or_default()
        .iter()
        .map(|item| item.payload.number)
        .collect()
}

#[test]
fn an_idle_scheduler_sends_at_once_and_gathers_while_a_batch_is_in_flight() {
    let mut scheduler = Scheduler::new(LIMITS);
    scheduler.push(item(1, "a"));
    assert_eq!(numbers(scheduler.next_batch()), [1]);
    scheduler.push(item(2, "a"));
    scheduler.push(item(3, "b"));
    assert!(scheduler.next_batch().is_none());
    scheduler.batch_returned(vec![]);
    assert_eq!(numbers(scheduler.next_batch()), [2, 3]);
}

#[test]
fn a_batch_keeps_to_its_limits_but_for_a_single_large_append() {
    let mut scheduler = Scheduler::new(LIMITS);
    for number in 1..=5 {
        scheduler.push(item(number, "a"));
    }
    scheduler.push(Item {
        bytes: 5_000,
        ..item(6, "a")
    });
    scheduler.push(item(7, "a"));
    for expected in [&[1, 2, 3, 4][..], &[5], &[6], &[7]] {
        assert_eq!(numbers(scheduler.next_batch()), expected);
        scheduler.batch_returned(vec![]);
    }
}

#[test]
fn a_busy_stream_delays_its_own_appends_only_and_keeps_their_order() {
    let mut scheduler = Scheduler::new(LIMITS);
    for (number, stream) in [(1, "busy"), (2, "free"), (3, "busy")] {
        scheduler.push(item(number, stream));
    }
    let batch = scheduler.next_batch().unwrap();
    scheduler.push(item(4, "busy"));
    scheduler.push(item(5, "free"));
    scheduler.batch_returned(
        batch
            .into_iter()
            .filter(|item| &*item.stream == "busy")
            .collect(),
    );

    let alone = scheduler.next_alone().unwrap();
    assert_eq!(alone.payload.number, 1);
    assert!(scheduler.next_alone().is_none(), "one a stream");
    assert_eq!(numbers(scheduler.next_batch()), [5]);
    scheduler.batch_returned(vec![]);

    scheduler.push(item(6, "free"));
    scheduler.push(item(7, "busy"));
    scheduler.alone_done(&alone.stream);
    assert_eq!(numbers(scheduler.next_batch()), [3, 4, 6, 7]);
}

#[test]
fn busy_streams_take_turns_when_there_are_more_than_may_go_alone() {
    let mut scheduler = Scheduler::new(LIMITS);
    for (number, stream) in [(1, "a"), (2, "b"), (3, "c")] {
        scheduler.push(item(number, stream));
    }
    let batch = scheduler.next_batch().unwrap();
    scheduler.batch_returned(batch);
    let first = scheduler.next_alone().unwrap();
    let second = scheduler.next_alone().unwrap();
    assert!(scheduler.next_alone().is_none());
    scheduler.alone_busy(first);
    assert_eq!(
        scheduler.next_alone().unwrap().payload.number,
        3,
        "then it is the third's turn"
    );
    scheduler.alone_done(&second.stream);
    assert_eq!(scheduler.next_alone().unwrap().payload.number, 1);
}

#[test]
fn a_stream_that_waits_for_its_turn_goes_along_with_a_batch_when_it_is_probed() {
    let mut scheduler = Scheduler::new(LIMITS);
    for (number, stream) in [(1, "a"), (2, "b"), (3, "c"), (4, "d")] {
        scheduler.push(item(number, stream));
    }
    let batch = scheduler.next_batch().unwrap();
    scheduler.batch_returned(batch);
    while scheduler.next_alone().is_some() {}
    scheduler.push(item(5, "c"));
    scheduler.push(item(6, "d"));
    assert!(scheduler.next_batch().is_none());
    scheduler.probe();
    let batch = scheduler.next_batch().unwrap();
    let probed: Vec<_> = batch.iter().map(|item| item.payload.number).collect();
    assert_eq!(probed, [3, 4]);
    // One of them is still busy.
    scheduler.batch_returned(
        batch
            .into_iter()
            .filter(|item| &*item.stream == "d")
            .collect(),
    );
    assert_eq!(numbers(scheduler.next_batch()), [5]);
    scheduler.batch_returned(vec![]);
    assert!(scheduler.is_waiting_for_turns());
    assert!(scheduler.next_batch().is_none(), "only when told");
}

#[test]
fn what_its_caller_has_left_is_withdrawn_wherever_it_waits() {
    let gone = |number, stream| Item {
        payload: Numbered { number, gone: true },
        ..item(number, stream)
    };
    let mut scheduler = Scheduler::new(LIMITS);
    scheduler.push(gone(1, "a"));
    scheduler.push(item(2, "a"));
    assert_eq!(numbers(scheduler.next_batch()), [2]);
    scheduler.batch_returned(vec![gone(2, "a")]);
    assert!(scheduler.next_alone().is_none());
    assert!(scheduler.is_idle());
}

#[test]
fn what_has_been_parked_for_too_long_is_given_back() {
    let mut scheduler = Scheduler::new(LIMITS);
    let now = Instant::now();
    scheduler.push(Item {
        deadline: now,
        ..item(1, "a")
    });
    scheduler.push(Item {
        deadline: now + Duration::from_secs(5),
        ..item(2, "a")
    });
    let batch = scheduler.next_batch().unwrap();
    assert!(
        scheduler.expired(now).is_empty(),
        "what is in flight is left alone"
    );
    scheduler.batch_returned(batch);
    assert_eq!(scheduler.next_deadline(), Some(now));
    assert_eq!(scheduler.expired(now).len(), 1);
    assert_eq!(scheduler.next_alone().unwrap().payload.number, 2);
}

/// What happens next in the outside world.
#[derive(Debug, Clone)]
enum Step {
    /// A caller appends to a stream, and may lose patience at once.
    Push {
        stream: u8,
        events: usize,
        gone: bool,
    },
    /// The batch in flight returns; streams whose bit is set are busy.
    Return { busy: u8 },
    /// An append that went alone returns, through or still busy.
    Alone { which: usize, through: bool },
    /// Streams that wait for their turn are to be probed.
    Probe,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u8..4, 1_usize..4, prop::bool::weighted(0.1))
            .prop_map(|(stream, events, gone)| Step::Push { stream, events, gone }),
        2 => any::<u8>().prop_map(|busy| Step::Return { busy }),
        2 => (0_usize..4, any::<bool>()).prop_map(|(which, through)| Step::Alone { which, through }),
        1 => Just(Step::Probe),
    ]
}

/// Drives a scheduler, checks what must hold at every step, and keeps a record of what was carried out.
struct World {
    scheduler: Scheduler<Numbered>,
    pushed: usize,
    withdrawn: BTreeSet<usize>,
    batch: Option<Vec<Item<Numbered>>>,
    alone: Vec<Item<Numbered>>,
    done: BTreeMap<Arc<str>, Vec<usize>>,
}

impl World {
    fn take(&mut self, step: Step) {
        match step {
            Step::Push {
                stream,
                events,
                gone,
            } => {
                let number = self.pushed;
                self.pushed += 1;
                if gone {
                    self.withdrawn.insert(number);
                }
                let payload = Numbered { number, gone };
                self.scheduler.push(Item {
                    events,
                    payload,
                    ..item(number, &format!("s{stream}"))
                });
            }
            Step::Return { busy } => {
                if let Some(batch) = self.batch.take() {
                    let is_busy = |item: &Item<Numbered>| {
                        let stream: u8 = item.stream[1..].parse().unwrap();
                        busy & (1 << stream) != 0
                    };
                    let (busy, through): (Vec<_>, Vec<_>) = batch.into_iter().partition(is_busy);
                    through.into_iter().for_each(|item| self.carried_out(&item));
                    self.scheduler.batch_returned(busy);
                }
            }
            Step::Probe => self.scheduler.probe(),
            Step::Alone { which, through } => {
                if which < self.alone.len() {
                    let item = self.alone.remove(which);
                    if through {
                        self.carried_out(&item);
                        self.scheduler.alone_done(&item.stream);
                    } else {
                        self.scheduler.alone_busy(item);
                    }
                }
            }
        }
        self.start_what_may_start();
    }

    fn start_what_may_start(&mut self) {
        if let Some(batch) = self.scheduler.next_batch() {
            assert!(self.batch.is_none(), "one batch at a time");
            let events: usize = batch.iter().map(|item| item.events).sum();
            assert!(batch.len() == 1 || events <= LIMITS.batch_events);
            for item in &batch {
                assert!(
                    self.alone.iter().all(|alone| alone.stream != item.stream),
                    "overtakes what went alone"
                );
            }
            self.batch = Some(batch);
        }
        while let Some(item) = self.scheduler.next_alone() {
            assert!(
                self.alone.iter().all(|other| other.stream != item.stream),
                "two of one stream alone"
            );
            self.alone.push(item);
            assert!(self.alone.len() <= LIMITS.alone);
        }
    }

    fn carried_out(&mut self, item: &Item<Numbered>) {
        self.done
            .entry(item.stream.clone())
            .or_default()
            .push(item.payload.number);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// Whatever happens: nothing is lost or carried out twice, every stream keeps its order, only what its caller left
    /// is withdrawn, and when the outside world calms down everything gets its turn.
    #[test]
    fn every_append_is_carried_out_once_and_in_order(steps in prop::collection::vec(step(), 1..200)) {
        let mut world = World {
            scheduler: Scheduler::new(LIMITS),
            pushed: 0,
            withdrawn: BTreeSet::new(),
            batch: None,
            alone: Vec::new(),
            done: BTreeMap::new(),
        };
        for step in steps {
            world.take(step);
        }
        let mut rounds = 0;
        while !world.scheduler.is_idle() {
            world.take(Step::Return { busy: 0 });
            world.take(Step::Alone { which: 0, through: true });
            rounds += 1;
            prop_assert!(rounds < 1_000, "it never comes to rest");
        }
        let mut carried_out: Vec<usize> = Vec::new();
        for numbers in world.done.values() {
            prop_assert!(numbers.is_sorted(), "out of order: {numbers:?}");
            carried_out.extend(numbers);
        }
        carried_out.sort_unstable();
        let expected: Vec<usize> = (0..world.pushed).filter(|n| !world.withdrawn.contains(n)).collect();
        prop_assert_eq!(carried_out, expected);
    }
}
