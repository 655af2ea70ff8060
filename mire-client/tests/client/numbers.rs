//! [`Numbers`]: a recorder for the `metrics` facade.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};

/// Keeps everything, by name and labels as in `name{label=value}`.
#[derive(Clone, Default)]
pub(crate) struct Numbers(Arc<Mutex<BTreeMap<String, Kept>>>);

#[derive(Clone)]
enum Kept {
    Counter(Arc<AtomicU64>),
    Gauge(Arc<AtomicU64>),
    Histogram(Arc<Values>),
}

#[derive(Default)]
struct Values(Mutex<Vec<f64>>);

impl HistogramFn for Values {
    fn record(&self, value: f64) {
        self.0.lock().unwrap().push(value);
    }
}

impl Numbers {
    fn keep(&self, key: &Key, kind: impl FnOnce() -> Kept) -> Kept {
        let labels: Vec<_> = key
            .labels()
            .map(|label| format!("{}={}", label.key(), label.value()))
            .collect();
        let name = format!("{}{{{}}}", key.name(), labels.join(","));
        self.0
            .lock()
            .unwrap()
            .entry(name)
            .or_insert_with(kind)
            .clone()
    }

    fn kept(&self, name: &str, labels: &str) -> Option<Kept> {
        let numbers = self.0.lock().unwrap();
        numbers.get(&format!("{name}{{{labels}}}")).cloned()
    }

    /// A counter, 0 if nothing was ever counted.
    pub(crate) fn counted(&self, name: &str, labels: &str) -> u64 {
        match self.kept(name, labels) {
            Some(Kept::Counter(value)) => value.load(Ordering::SeqCst),
            None => 0,
            _ => panic!("{name} is no counter"),
        }
    }

    pub(crate) fn gauge(&self, name: &str, labels: &str) -> f64 {
        match self.kept(name, labels) {
            Some(Kept::Gauge(value)) => f64::from_bits(value.load(Ordering::SeqCst)),
            None => f64::NAN,
            _ => panic!("{name} is no gauge"),
        }
    }

    pub(crate) fn values(&self, name: &str, labels: &str) -> Vec<f64> {
        match self.kept(name, labels) {
            Some(Kept::Histogram(values)) => values.0.lock().unwrap().clone(),
            None => Vec::new(),
            _ => panic!("{name} is no histogram"),
        }
    }
}

impl Recorder for Numbers {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        match self.keep(key, || Kept::Counter(Arc::default())) {
            Kept::Counter(value) => Counter::from_arc(value),
            _ => Counter::noop(),
        }
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        match self.keep(key, || Kept::Gauge(Arc::default())) {
            Kept::Gauge(value) => Gauge::from_arc(value),
            _ => Gauge::noop(),
        }
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        match self.keep(key, || Kept::Histogram(Arc::default())) {
            Kept::Histogram(values) => Histogram::from_arc(values),
            _ => Histogram::noop(),
        }
    }
}
