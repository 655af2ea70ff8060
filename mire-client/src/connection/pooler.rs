//! Tells whether a pooler stands between this client and PostgreSQL.
//!
//! A pooler in transaction mode gives a client's statements to whatever server connection is free: a statement that was
//! prepared by name is missing there, or, worse, another client's statement of the same name answers. So named
//! statements are used only on direct connections. PostgreSQL tells every client its process id (for cancel requests);
//! a pooler makes one up. Comparing it with `pg_backend_pid()` decides.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex,
};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

/// The server process id this client was given when it connected.
///
/// The driver keeps it to itself, so it is made to write a cancel request, into memory, and that is read.
pub(crate) async fn announced_pid(client: &tokio_postgres::Client) -> Option<i32> {
    const CANCEL_REQUEST_BYTES: usize = 16;
    let (near, mut far) = duplex(256);
    // Where TLS is required the driver asks for it first, and waits for the server's yes.
    far.write_all(b"S").await.ok()?;
    client
        .cancel_token()
        .cancel_query_raw(near, Plain)
        .await
        .ok()?;
    let mut written = Vec::new();
    far.read_to_end(&mut written).await.ok()?;
    let request = &written[written.len().checked_sub(CANCEL_REQUEST_BYTES)?..];
    Some(i32::from_be_bytes(request[8..12].try_into().ok()?))
}

/// "TLS" that changes nothing.
struct Plain;

impl TlsConnect<DuplexStream> for Plain {
    type Stream = PlainStream;
    type Error = Infallible;
    type Future = Ready<Result<PlainStream, Infallible>>;

    fn connect(self, stream: DuplexStream) -> Self::Future {
        ready(Ok(PlainStream(stream)))
    }
}

struct PlainStream(DuplexStream);

impl TlsStream for PlainStream {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for PlainStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for PlainStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
