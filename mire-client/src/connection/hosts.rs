//! Connects to the hosts of a URL in turn, and stays with none that does not answer: the driver's own `connect_timeout` ends
//! with the TCP connection, and a server that takes it and says nothing would keep the next host from being tried.

use std::time::Duration;

use deadpool_postgres::Connect;
use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, LoadBalanceHosts};
use tokio_postgres::{Client, Config, Error};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Longer than this nobody waits for a host, unless the URL says so.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long connecting may take: every host has its time.
pub(crate) fn patience(config: &Config) -> Duration {
    let hosts = config.get_hosts().len().max(config.get_hostaddrs().len());
    let hosts = u32::try_from(hosts.max(1)).unwrap_or(u32::MAX);
    // A little more, so that the timeout with the better message comes first.
    timeout_of(config)
        .saturating_mul(hosts)
        .saturating_add(Duration::from_millis(100))
}

fn timeout_of(config: &Config) -> Duration {
    config
        .get_connect_timeout()
        .copied()
        .unwrap_or(CONNECT_TIMEOUT)
}

pub(crate) struct Hosts {
    pub(crate) tls: MakeRustlsConnect,
}

impl Connect for Hosts {
    fn connect(&self, config: &Config) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), Error>> {
        let (config, tls) = (config.clone(), self.tls.clone());
        Box::pin(async move {
            let mut outcome = None;
            for host in one_by_one(&config) {
                match connect_one(&host, tls.clone()).await {
                    Err(error) => outcome = Some(error),
                    connected => return connected,
                }
            }
            match outcome {
                Some(error) => Err(error),
                // No hosts: the driver says what is wrong with that.
                None => connect_one(&config, tls).await,
            }
        })
    }
}

async fn connect_one(
    config: &Config,
    tls: MakeRustlsConnect,
) -> Result<(Client, JoinHandle<()>), Error> {
    let connected = tokio::time::timeout(timeout_of(config), config.connect(tls)).await;
    // The same as the driver's own timeout.
    let (client, connection) = connected.unwrap_or_else(|_| Err(Error::__private_api_timeout()))?;
    let driver = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection ended");
        }
    });
    Ok((client, driver))
}

/// The configuration of each host alone. Where the driver is to choose among them, or to say that they do not fit, it gets
/// them all.
fn one_by_one(config: &Config) -> Vec<Config> {
    let (hosts, addresses, ports) = (
        config.get_hosts(),
        config.get_hostaddrs(),
        config.get_ports(),
    );
    let count = hosts.len().max(addresses.len());
    let fits = |len: usize| len == 0 || len == count;
    let left_to_the_driver = config.get_load_balance_hosts() == LoadBalanceHosts::Random
        || !fits(hosts.len())
        || !fits(addresses.len())
        || ports.len() > 1 && ports.len() != count;
    if count < 2 || left_to_the_driver {
        return vec![config.clone()];
    }
    (0..count)
        .map(|i| {
            let mut one = without_hosts(config);
            match hosts.get(i) {
                Some(Host::Tcp(name)) => drop(one.host(name)),
                #[cfg(unix)]
                Some(Host::Unix(path)) => drop(one.host_path(path)),
                None => {}
            }
            if let Some(address) = addresses.get(i) {
                one.hostaddr(*address);
            }
            if let Some(port) = ports.get(i).or(ports.first()) {
                one.port(*port);
            }
            one
        })
        .collect()
}

fn without_hosts(config: &Config) -> Config {
    let mut copy = Config::new();
    if let Some(user) = config.get_user() {
        copy.user(user);
    }
    if let Some(password) = config.get_password() {
        copy.password(password);
    }
    if let Some(database) = config.get_dbname() {
        copy.dbname(database);
    }
    if let Some(options) = config.get_options() {
        copy.options(options);
    }
    if let Some(name) = config.get_application_name() {
        copy.application_name(name);
    }
    if let Some(timeout) = config.get_connect_timeout() {
        copy.connect_timeout(*timeout);
    }
    if let Some(timeout) = config.get_tcp_user_timeout() {
        copy.tcp_user_timeout(*timeout);
    }
    if let Some(interval) = config.get_keepalives_interval() {
        copy.keepalives_interval(interval);
    }
    if let Some(retries) = config.get_keepalives_retries() {
        copy.keepalives_retries(retries);
    }
    copy.ssl_mode(config.get_ssl_mode())
        .ssl_negotiation(config.get_ssl_negotiation())
        .keepalives(config.get_keepalives())
        .keepalives_idle(config.get_keepalives_idle())
        .target_session_attrs(config.get_target_session_attrs())
        .channel_binding(config.get_channel_binding())
        .load_balance_hosts(config.get_load_balance_hosts());
    copy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_alone_keeps_everything_else_of_the_url() {
        let url = "host=a,b port=1,2 user=u password=p dbname=d application_name=n sslmode=require connect_timeout=3 \
                   target_session_attrs=read-write keepalives=0 options='-c x=y'";
        let config: Config = url.parse().expect("a valid URL");
        let hosts = one_by_one(&config);
        assert_eq!(hosts.len(), 2);
        for (one, (host, port)) in hosts.iter().zip([("a", 1), ("b", 2)]) {
            let alone = format!(
                "{} ",
                url.replace("host=a,b port=1,2", &format!("host={host} port={port}"))
            );
            let expected: Config = alone.parse().expect("a valid URL");
            assert_eq!(*one, expected);
        }
        assert_eq!(patience(&config), Duration::from_millis(6_100));
    }
}
