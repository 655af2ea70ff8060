//! Who does what: workers in processes of their own, and the desk, which takes orders and the provider's calls back.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use mire_client::{BoxError, EventStore, Subscription};
use mire_sagas::{Answer, Saga, SagaRunner, SagaTopology, SagaWorker};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::booking::{PaymentTaken, Payments, TravelBooking};
use super::client::{Client, Reply};
use super::provider::CallBack;

/// What a worker's process has to know.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    pub(crate) database: String,
    pub(crate) provider: String,
    pub(crate) callback: String,
    /// How long instances outlive a worker that died with them in hand.
    pub(crate) ttl: Duration,
}

const DATABASE: &str = "MIRE_TRAVEL_DATABASE";
const PROVIDER: &str = "MIRE_TRAVEL_PROVIDER";
const CALLBACK: &str = "MIRE_TRAVEL_CALLBACK";
const TTL: &str = "MIRE_TRAVEL_TTL_MS";

impl Surroundings {
    /// In a worker's process.
    pub(crate) fn from_env() -> Option<Self> {
        let var = |name| std::env::var(name).ok();
        Some(Self {
            database: var(DATABASE)?,
            provider: var(PROVIDER)?,
            callback: var(CALLBACK)?,
            ttl: Duration::from_millis(var(TTL)?.parse().ok()?),
        })
    }

    pub(crate) fn topology(&self) -> Result<SagaTopology<TravelBooking>, BoxError> {
        let client = Client::new(&self.provider, &self.callback)?;
        Ok(TravelBooking::builder().dep(client).build()?)
    }

    /// What a worker's process does, until its standard input ends.
    pub(crate) async fn work(&self) -> Result<(), BoxError> {
        let store = EventStore::builder().url(&self.database).build()?;
        let topology = self.topology()?;
        let payments = || Client::new(&self.provider, &self.callback).map(Payments);
        let worker = loop {
            let worker = SagaWorker::builder(store.clone())
                .saga(&topology)
                .start_on(Subscription::new("trips"), &topology)
                .publisher(payments()?)
                .publish_attempts(1_000, Duration::from_millis(50), Duration::from_millis(500))
                .ttl(self.ttl)
                .recheck(Duration::from_millis(500))
                .spawn()
                .await;
            match worker {
                Ok(worker) => break worker,
                Err(error) => tracing::warn!(%error, "no worker yet"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        let end = || std::io::Read::read_to_end(&mut std::io::stdin(), &mut Vec::new());
        tokio::task::spawn_blocking(end).await??;
        worker.shutdown().await;
        Ok(())
    }

    /// Starts a worker's process.
    pub(crate) fn worker(&self, mut program: Command) -> std::io::Result<Worker> {
        program
            .env(DATABASE, &self.database)
            .env(PROVIDER, &self.provider)
            .env(CALLBACK, &self.callback)
            .env(TTL, self.ttl.as_millis().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        program.spawn().map(Worker)
    }
}

/// A worker's process.
pub(crate) struct Worker(pub(crate) Child);

impl Worker {
    pub(crate) fn kill(mut self) -> std::io::Result<()> {
        self.0.kill()?;
        self.0.wait().map(|_| ())
    }

    /// Asks it to leave in good order, and waits. Tells whether it did.
    pub(crate) fn leave(mut self) -> std::io::Result<bool> {
        drop(self.0.stdin.take());
        self.0.wait().map(|status| status.success())
    }
}

/// Hears the provider's calls back.
pub(crate) struct Desk {
    pub(crate) url: String,
    listener: TcpListener,
}

impl Desk {
    pub(crate) async fn open() -> Result<Self, BoxError> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/paid", listener.local_addr()?);
        Ok(Self { url, listener })
    }

    pub(crate) fn serve(self, runner: SagaRunner<TravelBooking>) -> JoinHandle<()> {
        let routes = Router::new().route("/paid", post(paid)).with_state(runner);
        tokio::spawn(async move {
            let _ = axum::serve(self.listener, routes).await;
        })
    }
}

/// Anything but a success makes the provider call again.
async fn paid(
    State(runner): State<SagaRunner<TravelBooking>>,
    Json(call): Json<CallBack>,
) -> StatusCode {
    let answer = match call.reply {
        Reply::Done(number) => Answer::response(PaymentTaken { number }),
        Reply::Refused(why) => Ok(Answer::failure(why)),
        Reply::Later => return StatusCode::BAD_REQUEST,
    };
    let Ok(answer) = answer else {
        return StatusCode::BAD_REQUEST;
    };
    let answer = answer.id(format!("called back about {}", call.key));
    match runner.deliver_answer(&call.trip, "payment", answer).await {
        Ok(_) => StatusCode::OK,
        Err(error) => {
            tracing::warn!(trip = %call.trip, %error, "an answer was not delivered");
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}
