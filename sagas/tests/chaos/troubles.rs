//! What happens to workers and to the database.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mire_client::testing::Cluster;
use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use rand::{Rng, RngExt};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::TTL;
use super::processes::{Surroundings, Worker};

const WORKERS: usize = 4;

/// What a worker's process does.
pub(crate) fn work(surroundings: &Surroundings) {
    // Not even a stopped one outlives the test.
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    let level = std::env::var("MIRE_CHAOS_LOG").map(|level| level.parse::<tracing::Level>());
    if let Ok(Ok(level)) = level {
        tracing_subscriber::fmt()
            .with_max_level(level)
            .with_writer(std::io::stderr)
            .init();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(surroundings.work()).unwrap();
}

/// A proxy that cuts all connections when asked to, and takes new ones.
pub(crate) async fn proxy(server: u16) -> (u16, watch::Sender<u32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (cut, cuts) = watch::channel(0);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut cuts = cuts.clone();
            cuts.mark_unchanged();
            tokio::spawn(async move {
                let Ok(mut server) = TcpStream::connect(("127.0.0.1", server)).await else {
                    return;
                };
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                    _ = cuts.changed() => {}
                }
            });
        }
    });
    (port, cut)
}

/// How often what happened.
#[derive(Debug, Default)]
#[allow(dead_code)] // they are printed
pub(crate) struct Troubles {
    kills: usize,
    stops: usize,
    cuts: usize,
    crashes: usize,
    immediate_shutdowns: usize,
    restarts: usize,
}

struct Member {
    worker: Worker,
    /// Stopped until then.
    stopped_until: Option<Instant>,
}

/// The workers, and all that happens to them.
pub(crate) struct Fleet {
    direct: Surroundings,
    proxied: Surroundings,
    cluster: Arc<Cluster>,
    cut: watch::Sender<u32>,
    members: Vec<Member>,
    done: Troubles,
}

impl Fleet {
    pub(crate) fn start(
        direct: Surroundings,
        proxied: Surroundings,
        cluster: Arc<Cluster>,
        cut: watch::Sender<u32>,
    ) -> Self {
        let mut fleet = Self {
            direct,
            proxied,
            cluster,
            cut,
            members: Vec::new(),
            done: Troubles::default(),
        };
        fleet.members = (0..WORKERS).map(|n| fleet.fresh(n)).collect();
        fleet
    }

    /// Half of the workers are behind the proxy.
    fn fresh(&self, n: usize) -> Member {
        let mut program = Command::new(std::env::current_exe().unwrap());
        program.args(["--exact", "worker_process", "--ignored", "--quiet"]);
        let proxied = !n.is_multiple_of(2);
        let surroundings = if proxied { &self.proxied } else { &self.direct };
        Member {
            worker: surroundings.worker(program).unwrap(),
            stopped_until: None,
        }
    }

    /// One trouble after the other for this long. The database goes down every 7 seconds or so, in three ways by turns.
    pub(crate) async fn suffers(&mut self, time: Duration, rng: &mut StdRng) {
        let started = Instant::now();
        let every = time.min(Duration::from_secs(30)) / 4;
        let mut down_after = every;
        while started.elapsed() < time {
            tokio::time::sleep(Duration::from_millis(rng.random_range(50..600))).await;
            self.resume(Instant::now());
            if started.elapsed() > down_after {
                down_after += every;
                self.database_goes_down().await;
                continue;
            }
            let up = (0..WORKERS).filter(|n| self.members[*n].stopped_until.is_none());
            let victim = up.choose(rng);
            match (rng.random_range(0..3), victim) {
                (0, Some(n)) => {
                    let fresh = self.fresh(n);
                    let killed = std::mem::replace(&mut self.members[n], fresh);
                    killed.worker.kill().unwrap();
                    self.done.kills += 1;
                }
                (1, Some(n)) => {
                    let member = &mut self.members[n];
                    signal(&member.worker, Signal::STOP);
                    member.stopped_until = Some(Instant::now() + past_the_lease(rng));
                    self.done.stops += 1;
                }
                _ => {
                    self.cut.send_modify(|cuts| *cuts += 1);
                    self.done.cuts += 1;
                }
            }
        }
        self.resume(Instant::now() + Duration::from_secs(3_600));
    }

    /// Those that have been stopped until then go on.
    fn resume(&mut self, then: Instant) {
        for member in &mut self.members {
            if member.stopped_until.is_some_and(|until| until <= then) {
                signal(&member.worker, Signal::CONT);
                member.stopped_until = None;
            }
        }
    }

    async fn database_goes_down(&mut self) {
        let done = &mut self.done;
        let ways = [
            &mut done.crashes,
            &mut done.immediate_shutdowns,
            &mut done.restarts,
        ];
        let (way, count) = ways
            .into_iter()
            .enumerate()
            .min_by_key(|(_, count)| **count)
            .unwrap();
        *count += 1;
        let cluster = self.cluster.clone();
        let down = tokio::task::spawn_blocking(move || match way {
            0 => cluster.crash().unwrap(),
            1 => shut_down_at_once(&cluster),
            _ => cluster.restart().unwrap(),
        });
        down.await.unwrap();
    }

    /// They leave in good order.
    pub(crate) fn leave(self) -> Troubles {
        for member in self.members {
            assert!(member.worker.leave().unwrap());
        }
        self.done
    }
}

fn past_the_lease(rng: &mut impl Rng) -> Duration {
    TTL + Duration::from_millis(rng.random_range(100..2_000))
}

fn signal(worker: &Worker, signal: Signal) {
    kill_process(Pid::from_child(&worker.0), signal).unwrap();
}

/// No checkpoint is written: it recovers when it starts.
fn shut_down_at_once(cluster: &Cluster) {
    let postmaster = i32::try_from(cluster.pid().unwrap()).unwrap();
    kill_process(Pid::from_raw(postmaster).unwrap(), Signal::QUIT).unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    while cluster.pid().is_some() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    cluster.crash().unwrap();
}
