//! A TCP proxy that cuts connections at the worst moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// When the next exchange is cut. Only the next one.
#[derive(Clone, Copy)]
pub(crate) enum Cut {
    /// The server has answered, so it has committed; the client never hears of it.
    TheAnswer = 1,
    /// The request has gone out, and nothing is known about it.
    AfterTheRequest = 2,
}

pub(crate) struct Proxy {
    port: u16,
    armed: Arc<AtomicU8>,
    cut_off: watch::Sender<bool>,
}

impl Proxy {
    /// A proxy in front of a server on this machine.
    pub(crate) async fn before(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let armed = Arc::new(AtomicU8::new(0));
        let (cut_off, is_cut_off) = watch::channel(false);
        let wish = armed.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (wish, mut is_cut_off) = (wish.clone(), is_cut_off.clone());
                tokio::spawn(async move {
                    if *is_cut_off.borrow() {
                        return;
                    }
                    tokio::select! {
                        _ = pass(client, server, wish) => {}
                        _ = is_cut_off.wait_for(|cut| *cut) => {}
                    }
                });
            }
        });
        Self {
            port,
            armed,
            cut_off,
        }
    }

    /// The same URL, by way of the proxy.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Cuts the next exchange.
    pub(crate) fn cut(&self, cut: Cut) {
        self.armed.store(cut as u8, Ordering::SeqCst);
    }

    /// Whether the wished-for cut has happened.
    pub(crate) fn has_cut(&self) -> bool {
        self.armed.load(Ordering::SeqCst) == 0
    }

    /// Lets nothing through any more.
    pub(crate) fn cut_off(&self) {
        self.cut_off.send_replace(true);
    }
}

async fn pass(mut client: TcpStream, server: u16, armed: Arc<AtomicU8>) -> std::io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", server)).await?;
    let (mut request, mut answer) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let strikes = |cut: Cut| {
        armed
            .compare_exchange(cut as u8, 0, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    };
    loop {
        tokio::select! {
            read = client.read(&mut request) => match read? {
                0 => return Ok(()),
                n => {
                    server.write_all(&request[..n]).await?;
                    if strikes(Cut::AfterTheRequest) {
                        return Ok(());
                    }
                }
            },
            read = server.read(&mut answer) => match read? {
                0 => return Ok(()),
                n => {
                    if strikes(Cut::TheAnswer) {
                        return Ok(());
                    }
                    client.write_all(&answer[..n]).await?;
                }
            },
        }
    }
}
