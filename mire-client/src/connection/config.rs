//! Reads a connection URL: as tokio-postgres does, plus libpq's words for TLS, which it does not know.

use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::config::SslMode;

use super::hosts::CONNECT_TIMEOUT;
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
        let (mode, verify) = options.understand()?;
        // Where no word of ours was said, what the driver has understood stands.
        if let Some(mode) = mode {
            postgres.ssl_mode(mode);
        }
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
    /// What these words ask of the driver, if they ask for anything, and how the certificate is checked. Where libpq
    /// refuses a combination as weaker than it looks, it is refused.
    fn understand(self) -> Result<(Option<SslMode>, Verify)> {
        let roots = self.root_certificates.map(|path| match path.as_str() {
            "system" => Roots::System,
            path => Roots::File(path.into()),
        });
        Ok(match (self.mode.as_deref(), roots) {
            // As libpq: the authorities of the system certify anybody, so only the host's name tells anything.
            (None | Some("verify-full"), Some(Roots::System)) => {
                (Some(SslMode::Require), Verify::Host(Roots::System))
            }
            (
                Some(mode @ ("disable" | "allow" | "prefer" | "require" | "verify-ca")),
                Some(Roots::System),
            ) => {
                return refuse(format!(
                    "sslmode={mode} is too weak for sslrootcert=system; use verify-full"
                ));
            }
            (None, Some(Roots::File(_)) | None) => (None, Verify::Nothing),
            (Some("prefer" | "allow"), _) => (Some(SslMode::Prefer), Verify::Nothing),
            (Some("disable"), _) => (Some(SslMode::Disable), Verify::Nothing),
            (Some("require"), None) => (Some(SslMode::Require), Verify::Nothing),
            // As libpq: naming an authority and not asking it would be of no use.
            (Some("require" | "verify-ca"), Some(file)) => {
                (Some(SslMode::Require), Verify::Authority(file))
            }
            (Some("verify-ca"), None) => {
                return refuse("sslmode=verify-ca needs sslrootcert=FILE".into());
            }
            (Some("verify-full"), roots) => (
                Some(SslMode::Require),
                Verify::Host(roots.unwrap_or(Roots::System)),
            ),
            (Some(other), _) => {
                return refuse(format!(
                    "sslmode {other:?} is none of disable, allow, prefer, require, verify-ca, verify-full"
                ));
            }
        })
    }

    fn take(&mut self, key: &str, value: &str) -> bool {
        match key {
            "sslmode" => self.mode = Some(value.into()),
            "sslrootcert" => self.root_certificates = Some(value.into()),
            _ => return false,
        }
        true
    }
}

fn refuse<T>(reason: String) -> Result<T> {
    Err(Error::new(ErrorKind::Config { reason }))
}

/// Takes `sslmode` and `sslrootcert` out of a URL or of `key = value` pairs, by the driver's own grammar.
fn take_tls_options(text: &str) -> (String, TlsOptions) {
    let mut options = TlsOptions::default();
    let rest = match ["postgres://", "postgresql://"]
        .into_iter()
        .find_map(|prefix| text.strip_prefix(prefix))
    {
        Some(url) => take_from_url(text, url, &mut options),
        None => take_from_pairs(text, &mut options),
    };
    (rest, options)
}

fn take_from_url(text: &str, url: &str, options: &mut TlsOptions) -> String {
    // A question mark in the password begins no query.
    let after_credentials = url.split_once('@').map_or(url, |(_, rest)| rest);
    let Some((_, query)) = after_credentials.split_once('?') else {
        return text.to_owned();
    };
    let before = &text[..text.len() - query.len() - "?".len()];
    let kept: Vec<&str> = query
        .split('&')
        .filter(|pair| {
            !pair.split_once('=').is_some_and(|(key, value)| {
                options.take(&percent_decoded(key), &percent_decoded(value))
            })
        })
        .collect();
    let separator = if kept.is_empty() { "" } else { "?" };
    format!("{before}{separator}{}", kept.join("&"))
}

fn take_from_pairs(text: &str, options: &mut TlsOptions) -> String {
    let mut kept = Vec::new();
    let mut rest = text.trim_start();
    while let Some((pair, key, value, after)) = next_pair(rest) {
        if !options.take(key, &value) {
            kept.push(pair);
        }
        rest = after.trim_start();
    }
    // Whatever is no pair is for the driver to complain about.
    kept.push(rest);
    kept.join(" ").trim_end().to_owned()
}

/// The first `key = value` of a text: as it stands there, taken apart, and what comes after it.
fn next_pair(text: &str) -> Option<(&str, &str, String, &str)> {
    let (key, after_key) = text.split_once('=')?;
    let key = key.trim();
    if key.is_empty() || key.contains(char::is_whitespace) {
        return None;
    }
    let raw = after_key.trim_start();
    let quoted = raw.starts_with('\'');
    let mut value = String::new();
    let mut chars = raw.char_indices().skip(usize::from(quoted));
    let mut end = raw.len();
    let mut closed = !quoted;
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            '\'' if quoted => {
                end = at + c.len_utf8();
                closed = true;
                break;
            }
            c if c.is_whitespace() && !quoted => {
                end = at;
                break;
            }
            c => value.push(c),
        }
    }
    if !closed {
        return None;
    }
    let after = &raw[end..];
    Some((&text[..text.len() - after.len()], key, value, after))
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
    fn however_it_is_written_tls_is_never_weaker_than_asked() {
        let parsed = |url: &str| {
            ParsedUrl::parse(url)
                .map(|p| (p.postgres.get_ssl_mode(), p.verify))
                .map_err(|e| e.to_string())
        };
        let required = Ok((SslMode::Require, Verify::Nothing));
        for url in [
            "host=h sslmode = require",
            "host=h sslmode= 'require' user=u",
            "sslmode =require host=h password='a b=c \\' sslmode=disable'",
            "postgres://u:a?b@h/d?sslmode=require",
            "postgres://u:a?sslmode=disable@h/d?sslmode=require",
            "postgres://u@h/d?ssl%6Dode=require",
            "postgres://u@h?sslmode=requ%69re",
        ] {
            assert_eq!(parsed(url), required, "{url}");
        }
        let system = Ok((SslMode::Require, Verify::Host(Roots::System)));
        assert_eq!(parsed("postgres://u@h/d?sslrootcert=system"), system);
        assert_eq!(
            parsed("host=h sslrootcert = system sslmode = verify-full"),
            system
        );
        for weak in ["disable", "allow", "prefer", "require", "verify-ca"] {
            let url = format!("postgres://u@h/d?sslrootcert=system&sslmode={weak}");
            assert!(parsed(&url).is_err(), "{url}");
        }
        assert!(parsed("postgres://u@h/d?sslmode=verify-ca").is_err());
        // Neither the driver nor libpq knows such a word; it must not be overlooked.
        assert!(parsed("host=h sslmode require").is_err());
        assert!(parsed("postgres://u@h/d?sslmode").is_err());
    }

    #[test]
    fn passwords_pass_through_whatever_they_hold() {
        let password = |url: &str| {
            let parsed = ParsedUrl::parse(url).expect(url);
            parsed.postgres.get_password().map(<[u8]>::to_vec)
        };
        let quoted = r"host=h password='it\'s = a \\ ?' sslmode=disable user=u";
        assert_eq!(password(quoted), Some(br"it's = a \ ?".to_vec()));
        let url = "postgres://u:a?b%40@h/d?sslmode=require&application_name=x";
        assert_eq!(password(url), Some(b"a?b@".to_vec()));
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
