//! Reads a connection URL: as tokio-postgres does, plus libpq's words for TLS, which it does not know.

use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::config::SslMode;

use crate::error::{Error, ErrorKind, Result};

/// How much of the server's certificate is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verify {
    /// Encrypts, and asks for nothing: libpq's `prefer` and `require`.
    Nothing,
    /// The certificate must come from a known authority: `verify-ca`.
    Authority(Roots),
    /// … and be made out to the host's name: `verify-full`.
    Host(Roots),
}

/// Which authorities are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Roots {
    /// Those of the operating system.
    System,
    /// Those in a PEM file.
    File(PathBuf),
}

/// A connection URL, understood.
#[derive(Clone, Debug)]
pub(crate) struct ParsedUrl {
    pub(crate) postgres: tokio_postgres::Config,
    pub(crate) verify: Verify,
}

/// Longer than this nobody waits for a connection, unless the URL says so.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

impl ParsedUrl {
    /// Parses `postgresql://…` or `key=value …`.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let (rest, options) = take_tls_options(url);
        let mut postgres: tokio_postgres::Config =
            rest.parse().map_err(|e: tokio_postgres::Error| {
                // The driver's error does not repeat the URL, which may hold a password.
                Error::with_source(
                    ErrorKind::Config {
                        reason: format!("connection URL: {e}"),
                    },
                    e,
                )
            })?;
        let given_roots = options.root_certificates.map(|path| match path.as_str() {
            "system" => Roots::System,
            path => Roots::File(path.into()),
        });
        let (mode, verify) = match (options.mode.as_deref(), given_roots) {
            (None | Some("prefer" | "allow"), _) => (SslMode::Prefer, Verify::Nothing),
            (Some("disable"), _) => (SslMode::Disable, Verify::Nothing),
            // As libpq: naming an authority and not asking it would be of no use.
            (Some("require"), Some(Roots::File(file))) => {
                (SslMode::Require, Verify::Authority(Roots::File(file)))
            }
            (Some("require"), _) => (SslMode::Require, Verify::Nothing),
            (Some("verify-ca"), roots) => (
                SslMode::Require,
                Verify::Authority(roots.unwrap_or(Roots::System)),
            ),
            (Some("verify-full"), roots) => (
                SslMode::Require,
                Verify::Host(roots.unwrap_or(Roots::System)),
            ),
            (Some(other), _) => {
                return Err(Error::new(ErrorKind::Config {
                    reason: format!(
                        "sslmode {other:?} is none of disable, allow, prefer, require, verify-ca, verify-full"
                    ),
                }));
            }
        };
        postgres.ssl_mode(mode);
        if postgres.get_connect_timeout().is_none() {
            postgres.connect_timeout(CONNECT_TIMEOUT);
        }
        if postgres.get_application_name().is_none() {
            postgres.application_name("mire-client");
        }
        notice_dead_peers(&mut postgres);
        Ok(Self { postgres, verify })
    }
}

/// A server that vanishes without a word (a partition, a pulled plug) is noticed within a minute, and not, as TCP would
/// have it, within hours: shared commits wait behind one connection.
fn notice_dead_peers(postgres: &mut tokio_postgres::Config) {
    const SILENCE: Duration = Duration::from_secs(30);
    const DRIVERS_DEFAULT: Duration = Duration::from_secs(2 * 60 * 60);
    if postgres.get_tcp_user_timeout().is_none() {
        postgres.tcp_user_timeout(SILENCE);
    }
    if postgres.get_keepalives() && postgres.get_keepalives_idle() == DRIVERS_DEFAULT {
        postgres.keepalives_idle(SILENCE);
        if postgres.get_keepalives_interval().is_none() {
            postgres.keepalives_interval(Duration::from_secs(5));
        }
    }
}

#[derive(Default)]
struct TlsOptions {
    mode: Option<String>,
    root_certificates: Option<String>,
}

impl TlsOptions {
    fn take(&mut self, key: &str, value: &str) -> bool {
        match key {
            "sslmode" => self.mode = Some(value.into()),
            "sslrootcert" => self.root_certificates = Some(value.into()),
            _ => return false,
        }
        true
    }
}

/// Takes `sslmode` and `sslrootcert` out of a URL or of `key=value` pairs.
fn take_tls_options(url: &str) -> (String, TlsOptions) {
    let mut options = TlsOptions::default();
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        let Some((before, query)) = url.split_once('?') else {
            return (url.to_owned(), options);
        };
        let kept: Vec<&str> = query
            .split('&')
            .filter(|pair| {
                !pair
                    .split_once('=')
                    .is_some_and(|(key, value)| options.take(key, &percent_decoded(value)))
            })
            .collect();
        let separator = if kept.is_empty() { "" } else { "?" };
        return (format!("{before}{separator}{}", kept.join("&")), options);
    }
    let kept: Vec<&str> = words(url)
        .into_iter()
        .filter(|word| {
            !word.split_once('=').is_some_and(|(key, value)| {
                options.take(key.trim(), value.trim().trim_matches('\''))
            })
        })
        .collect();
    (kept.join(" "), options)
}

/// Splits at spaces outside of quotes.
fn words(text: &str) -> Vec<&str> {
    let mut quoted = false;
    let mut escaped = false;
    text.split(move |c: char| {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '\'' => quoted = !quoted,
            _ => return c.is_whitespace() && !quoted,
        }
        false
    })
    .filter(|word| !word.is_empty())
    .collect()
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes
            .get(at + 1..at + 3)
            .and_then(|h| std::str::from_utf8(h).ok());
        match hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
            Some(byte) if bytes[at] == b'%' => {
                out.push(byte);
                at += 3;
            }
            _ => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_is_verified_as_far_as_the_url_asks() {
        let verify = |url: &str| {
            ParsedUrl::parse(url)
                .map(|p| (p.postgres.get_ssl_mode(), p.verify))
                .expect(url)
        };
        let file = || Roots::File("/a b/root.crt".into());
        assert_eq!(
            verify("postgres://u@h/d"),
            (SslMode::Prefer, Verify::Nothing)
        );
        assert_eq!(
            verify("postgres://u@h/d?sslmode=disable"),
            (SslMode::Disable, Verify::Nothing)
        );
        assert_eq!(
            verify("postgres://u@h/d?sslmode=require"),
            (SslMode::Require, Verify::Nothing)
        );
        assert_eq!(
            verify("postgres://u@h/d?sslmode=verify-full"),
            (SslMode::Require, Verify::Host(Roots::System))
        );
        assert_eq!(
            verify(
                "postgres://u@h/d?application_name=x&sslmode=require&sslrootcert=%2Fa%20b%2Froot.crt"
            ),
            (SslMode::Require, Verify::Authority(file()))
        );
        assert_eq!(
            verify("host=h user=u sslmode=verify-ca sslrootcert='/a b/root.crt'"),
            (SslMode::Require, Verify::Authority(file()))
        );
    }

    #[test]
    fn several_hosts_and_session_attributes_pass_through() {
        let parsed = ParsedUrl::parse(
            "postgresql://u@a:5432,b:5433/d?target_session_attrs=read-write&sslmode=require",
        );
        let parsed = parsed.expect("a valid URL");
        assert_eq!(parsed.postgres.get_hosts().len(), 2);
        assert_eq!(parsed.postgres.get_ports(), [5432, 5433]);
    }

    #[test]
    fn nonsense_is_refused_without_repeating_the_password() {
        let error = ParsedUrl::parse("postgres://u:secret@h/d?sslmode=maybe")
            .map(|_| ())
            .expect_err("sslmode");
        assert!(matches!(error.kind(), ErrorKind::Config { .. }));
        assert!(!error.to_string().contains("secret"));
        assert!(ParsedUrl::parse("postgres://u:secret@h/d?colour=red").is_err());
    }
}
