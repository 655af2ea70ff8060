//! The provider of flights, rooms, payments and confirmations: a service as services are. It is out of order now and then,
//! slow at times, and loses answers to what it has done. But it remembers keys, and what it was told to cancel.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use rand::RngExt;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::client::{Order, Reply};

/// How the provider behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manners {
    /// Every so-manieth request finds it out of order.
    pub(crate) unavailable_every: usize,
    /// The share of requests that take up to two seconds, longer than a client waits.
    pub(crate) slow: f64,
    /// The share of answers that are lost after the deed.
    pub(crate) cut_off: f64,
    /// The share of payments that are answered by a call back, within a second.
    pub(crate) later: f64,
    /// The share of those that take this long instead.
    pub(crate) much_later: (f64, Duration),
    /// It remembers keys. Without that, nobody can act once.
    pub(crate) knows_keys: bool,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            unavailable_every: 4,
            slow: 0.04,
            cut_off: 0.08,
            later: 0.4,
            much_later: (0.0, Duration::ZERO),
            knows_keys: true,
        }
    }
}

/// Something booked.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) cancelled: bool,
}

/// The ledger: what was booked, by kind and trip.
pub(crate) type Ledger = BTreeMap<(String, String), Vec<Entry>>;

/// What the provider says when it calls back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CallBack {
    pub(crate) trip: String,
    pub(crate) key: String,
    pub(crate) reply: Reply,
}

#[derive(Default)]
struct Books {
    ledger: Ledger,
    /// The answer that each key got.
    answers: HashMap<String, Reply>,
    /// Kinds and trips that were cancelled: nothing is booked for them any more.
    cancelled: HashSet<(String, String)>,
    numbers: u64,
}

/// What happened, in figures.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) requests: AtomicUsize,
    pub(crate) unavailable: AtomicUsize,
    pub(crate) cut_off: AtomicUsize,
    /// Requests whose key had been seen before.
    pub(crate) again: AtomicUsize,
    pub(crate) calls_back: AtomicUsize,
    /// Calls back that have not been heard yet.
    pub(crate) to_call: AtomicUsize,
}

/// A running provider.
pub(crate) struct Provider {
    pub(crate) url: String,
    inner: Arc<Inner>,
    server: JoinHandle<()>,
}

struct Inner {
    manners: Manners,
    books: Mutex<Books>,
    counts: Counts,
    http: reqwest::Client,
}

impl Provider {
    pub(crate) async fn start(manners: Manners) -> Result<Self, mire_client::BoxError> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(10))
            .build()?;
        let inner = Arc::new(Inner {
            manners,
            books: Mutex::default(),
            counts: Counts::default(),
            http,
        });
        let routes = Router::new()
            .route("/book", post(book))
            .route("/cancel", post(cancel))
            .with_state(inner.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, routes).await;
        });
        Ok(Self { url, inner, server })
    }

    pub(crate) fn ledger(&self) -> Ledger {
        self.inner.books().ledger.clone()
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.inner.counts
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Inner {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// None: out of order just now.
    async fn opens(&self) -> Option<()> {
        let number = self.counts.requests.fetch_add(1, Ordering::SeqCst) + 1;
        if number.is_multiple_of(self.manners.unavailable_every) {
            self.counts.unavailable.fetch_add(1, Ordering::SeqCst);
            return None;
        }
        self.dawdles().await;
        Some(())
    }

    async fn dawdles(&self) {
        let ms = if rand::random_bool(self.manners.slow / 2.0) {
            rand::rng().random_range(500..2_000)
        } else {
            rand::rng().random_range(0..15)
        };
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    /// The deed is done; now the answer, if it gets through.
    async fn says(&self, reply: Reply) -> Response {
        self.dawdles().await;
        if rand::random_bool(self.manners.cut_off) {
            self.counts.cut_off.fetch_add(1, Ordering::SeqCst);
            let cut = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
            let cut = futures_util::stream::once(std::future::ready(Err::<&[u8], _>(cut)));
            return Body::from_stream(cut).into_response();
        }
        Json(reply).into_response()
    }

    fn book(self: &Arc<Self>, order: Order) -> Reply {
        let mut books = self.books();
        if let Some(answer) = books.answers.get(&order.key) {
            self.counts.again.fetch_add(1, Ordering::SeqCst);
            if self.manners.knows_keys {
                return answer.clone();
            }
        }
        let what = (order.kind.clone(), order.trip.clone());
        let refused = if books.cancelled.contains(&what) {
            Some("cancelled before")
        } else if order.kind == "hotel" && order.details["city"] == "Atlantis" {
            Some("no room left")
        } else if order.kind == "payment" && order.details["cents"].as_i64() > Some(500_000) {
            Some("no money left")
        } else {
            None
        };
        let reply = match refused {
            Some(why) => Reply::Refused(why.to_owned()),
            None => {
                books.numbers += 1;
                let number = books.numbers;
                let entry = Entry {
                    key: order.key.clone(),
                    cancelled: false,
                };
                books.ledger.entry(what).or_default().push(entry);
                Reply::Done(number)
            }
        };
        let later = order.kind == "payment" && rand::random_bool(self.manners.later);
        books.answers.insert(order.key.clone(), reply.clone());
        if later {
            self.call_back(&order, reply);
            return Reply::Later;
        }
        reply
    }

    fn cancel(&self, order: &Order) -> Reply {
        let mut books = self.books();
        let what = (order.kind.clone(), order.trip.clone());
        for entry in books.ledger.entry(what.clone()).or_default() {
            entry.cancelled = true;
        }
        books.cancelled.insert(what);
        Reply::Done(0)
    }

    /// Calls back until it is heard: twice at the same time, since that happens too.
    fn call_back(self: &Arc<Self>, order: &Order, reply: Reply) {
        let (share, long) = self.manners.much_later;
        let wait = if rand::random_bool(share) {
            long
        } else {
            Duration::from_millis(rand::rng().random_range(0..1_000))
        };
        self.counts.calls_back.fetch_add(1, Ordering::SeqCst);
        for _ in 0..2 {
            self.counts.to_call.fetch_add(1, Ordering::SeqCst);
            let (inner, url) = (self.clone(), order.callback.clone());
            let call = CallBack {
                trip: order.trip.clone(),
                key: order.key.clone(),
                reply: reply.clone(),
            };
            tokio::spawn(async move {
                tokio::time::sleep(wait).await;
                loop {
                    let heard = inner.http.post(&url).json(&call).send().await;
                    if heard.is_ok_and(|answer| answer.status().is_success()) {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                inner.counts.to_call.fetch_sub(1, Ordering::SeqCst);
            });
        }
    }
}

async fn book(State(provider): State<Arc<Inner>>, Json(order): Json<Order>) -> Response {
    if provider.opens().await.is_none() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let reply = provider.book(order);
    provider.says(reply).await
}

async fn cancel(State(provider): State<Arc<Inner>>, Json(order): Json<Order>) -> Response {
    if provider.opens().await.is_none() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let reply = provider.cancel(&order);
    provider.says(reply).await
}
