//! Free TCP ports.

use std::net::TcpListener;
use std::time::{SystemTime, UNIX_EPOCH};

/// A port of 127.0.0.1 that nobody listens on.
///
/// Not one the kernel would choose: those also serve outgoing connections, and one of these could
/// take the port away while a crashed server is down and about to start again.
pub(crate) fn free_port() -> std::io::Result<u16> {
    let clock = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.subsec_nanos());
    let seed = clock ^ std::process::id().wrapping_mul(0x9E37_79B1);
    (0..500_u32)
        .map(|step| 12_000 + (seed.wrapping_add(step.wrapping_mul(7_919)) % 18_000))
        .filter_map(|port| u16::try_from(port).ok())
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .ok_or_else(|| std::io::Error::other("no free port between 12000 and 30000"))
}
