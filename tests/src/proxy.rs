//! A TCP proxy that cuts a connection at the worst moment: after the request, before the answer.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;

/// When the next exchange is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Cut {
    /// Bytes flow freely.
    Never,
    /// The server answers, so it has committed, and the client never hears of it.
    BeforeTheAnswer,
    /// The request has gone out; nobody knows whether it was carried out.
    AfterTheRequest,
}

/// Listens on a port of its own and passes everything on to the server's; ends with the test's process.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    cut: Arc<AtomicU8>,
}

impl Proxy {
    /// A proxy in front of a port on this machine.
    ///
    /// # Panics
    /// When it cannot listen.
    #[must_use]
    pub fn before(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let cut = Arc::new(AtomicU8::new(Cut::Never as u8));
        let wish = Arc::clone(&cut);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else {
                    continue;
                };
                let (up, down) = (pair(&client, &server), pair(&server, &client));
                let (up_wish, down_wish) = (Arc::clone(&wish), Arc::clone(&wish));
                thread::spawn(move || pass(up, &up_wish, Cut::AfterTheRequest));
                thread::spawn(move || pass(down, &down_wish, Cut::BeforeTheAnswer));
            }
        });
        Self { port, cut }
    }

    /// The superuser's URL of a database through the proxy.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Cuts the next exchange; once.
    pub fn cut_next(&self, cut: Cut) {
        self.cut.store(cut as u8, Ordering::SeqCst);
    }
}

fn pair(from: &TcpStream, to: &TcpStream) -> (TcpStream, TcpStream) {
    let clone = |stream: &TcpStream| stream.try_clone().expect("one handle more");
    (clone(from), clone(to))
}

/// Copies until an end closes, or cuts both when its turn has come.
fn pass((mut from, mut to): (TcpStream, TcpStream), wish: &AtomicU8, mine: Cut) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let cut = wish
            .compare_exchange(
                mine as u8,
                Cut::Never as u8,
                Ordering::SeqCst,
                Ordering::SeqCst,
            )
            .is_ok();
        if cut && mine == Cut::BeforeTheAnswer {
            break;
        }
        if to.write_all(&buffer[..count]).is_err() || cut {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
