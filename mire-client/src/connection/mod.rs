//! The way down: one function call per operation ([`calls`]), on a connection that either prepares statements or does
//! without names ([`Conn`]).

pub(crate) mod calls;
mod config;
mod connector;
mod hosts;
mod pooler;
mod tls;

pub(crate) use calls::Call;
pub(crate) use config::ParsedUrl;
pub use connector::Statements;
pub(crate) use connector::{Conn, Connector, PrivateConn, Talk};
pub(crate) use hosts::{CONNECT_TIMEOUT, Hosts, patience as connect_patience};
pub(crate) use tls::connector as tls_connector;
