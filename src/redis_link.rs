//! The connection to Redis, for the feature store and for shared rates: one server, or a cluster. It comes back by itself after the
//! server was away; a request that waits fails within seconds, so that who waits for it is told so.

use std::time::Duration;

use anyhow::{Context, ensure};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{Client, Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisResult, ServerErrorKind};

/// One answer, and one attempt to connect.
const TIMEOUT: Duration = Duration::from_secs(2);
/// With what a cluster's redirections and moving slots may take.
const CLUSTER_TIMEOUT: Duration = Duration::from_secs(4);

#[derive(Clone)]
enum Connection {
    Single(ConnectionManager),
    Cluster(ClusterConnection),
}

#[derive(Clone)]
pub(crate) struct Link {
    connection: Connection,
    /// For people; without a password.
    place: String,
}

/// A script, and what a server that has it calls it.
pub(crate) struct Script {
    text: &'static str,
    hash: String,
}

impl Script {
    pub(crate) fn new(text: &'static str) -> Self {
        Self { text, hash: redis::Script::new(text).get_hash().to_owned() }
    }
}

/// A URL in its parts. Kept apart from what is shown: the password is in one of them.
struct Address<'a> {
    tls: bool,
    cluster: bool,
    /// With its `@`.
    login: &'a str,
    hosts: &'a str,
}

impl<'a> Address<'a> {
    fn of(url: &'a str) -> anyhow::Result<Self> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let (tls, cluster) = match scheme {
            "redis" => (false, false),
            "rediss" => (true, false),
            "redis+cluster" => (false, true),
            "rediss+cluster" => (true, true),
            _ => anyhow::bail!(
                "the URL of the feature store must begin with redis://, rediss://, redis+cluster:// or rediss+cluster://"
            ),
        };
        let (login, hosts) = rest.split_at(rest.rfind('@').map_or(0, |at| at + 1));
        let first = hosts.split('/').next().unwrap_or_default();
        ensure!(!first.is_empty(), "the URL of the feature store names no server: write {scheme}://HOST:PORT");
        ensure!(cluster || !first.contains(','), "the URL of the feature store names several servers: write redis+cluster://");
        Ok(Self { tls, cluster, login, hosts })
    }

    fn scheme(&self) -> &'static str {
        if self.tls { "rediss" } else { "redis" }
    }

    fn place(&self) -> String {
        format!("{}{}://{}", self.scheme(), if self.cluster { "+cluster" } else { "" }, self.hosts)
    }

    fn of_host(&self, host: &str) -> String {
        format!("{}://{}{host}", self.scheme(), self.login)
    }
}

impl Link {
    pub(crate) async fn open(url: &str) -> anyhow::Result<Self> {
        let address = Address::of(url)?;
        if address.tls {
            // Without a provider of its own choice the first connection would panic; fine when somebody was here before.
            drop(rustls::crypto::ring::default_provider().install_default());
        }
        let place = address.place();
        let connection = connect(&address).await.with_context(|| format!("Redis at {place} cannot be reached"))?;
        Ok(Self { connection, place })
    }

    /// What the server answered, as it was; sent once.
    pub(crate) async fn raw<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        match self.connection.clone() {
            Connection::Single(mut connection) => command.query_async(&mut connection).await,
            Connection::Cluster(mut connection) => command.query_async(&mut connection).await,
        }
    }

    /// A script, sent by its hash, and as text to a server that does not know it: the text goes to the node of its keys, where SCRIPT LOAD
    /// would need all of them. `build` completes a command that has its name and the script.
    pub(crate) async fn script<T: FromRedisValue>(&self, script: &Script, build: impl Fn(&mut Cmd)) -> RedisResult<T> {
        let send = async |name: &str, text: &str| {
            let mut command = redis::cmd(name);
            command.arg(text);
            build(&mut command);
            self.raw(&command).await
        };
        match send("EVALSHA", &script.hash).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => send("EVAL", script.text).await,
            answered => answered,
        }
    }

    /// A command that does no harm when it is sent twice.
    pub(crate) async fn query<T: FromRedisValue>(&self, command: &Cmd) -> anyhow::Result<T> {
        let mut answered = self.raw(command).await;
        if answered.as_ref().is_err_and(is_gone) {
            answered = self.raw(command).await;
        }
        answered.with_context(|| self.failed())
    }

    async fn raw_pipe<T: FromRedisValue>(&self, commands: &Pipeline) -> RedisResult<T> {
        match self.connection.clone() {
            Connection::Single(mut connection) => commands.query_async(&mut connection).await,
            Connection::Cluster(mut connection) => commands.query_async(&mut connection).await,
        }
    }

    /// Reads of one partition, in one round trip.
    pub(crate) async fn pipe<T: FromRedisValue>(&self, commands: &Pipeline) -> anyhow::Result<T> {
        let mut answered = self.raw_pipe(commands).await;
        if answered.as_ref().is_err_and(is_gone) {
            answered = self.raw_pipe(commands).await;
        }
        answered.with_context(|| self.failed())
    }

    /// Values by key, in the order asked. Keys of one slot are read at one instant; a cluster is asked for all slots at once.
    pub(crate) async fn get_many(&self, keys: &[String]) -> anyhow::Result<Vec<Option<Vec<u8>>>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let values: Vec<Option<Vec<u8>>> = self.query(redis::cmd("MGET").arg(keys)).await?;
        ensure!(values.len() == keys.len(), "Redis at {} answered with too few values", self.place);
        Ok(values)
    }

    pub(crate) fn failed(&self) -> String {
        format!("Redis at {} did not do as asked", self.place)
    }
}

/// The connection was of a server that went away: the next request makes a new one. Not after a time-out, which would double it.
fn is_gone(error: &RedisError) -> bool {
    error.is_connection_dropped() || error.is_connection_refusal()
}

async fn connect(address: &Address<'_>) -> anyhow::Result<Connection> {
    if address.cluster {
        let nodes: Vec<String> = address.hosts.split(',').map(|host| address.of_host(host)).collect();
        let client = ClusterClient::builder(nodes)
            .connection_timeout(TIMEOUT)
            .response_timeout(TIMEOUT)
            .overall_response_timeout(Some(CLUSTER_TIMEOUT))
            .retries(4)
            .min_retry_wait(50)
            .max_retry_wait(500)
            .build()?;
        return Ok(Connection::Cluster(client.get_async_connection().await?));
    }
    let client = Client::open(address.of_host(address.hosts))?;
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(TIMEOUT))
        .set_response_timeout(Some(TIMEOUT))
        // The next request tries again: none waits for a server that may stay away.
        .set_number_of_retries(1)
        .set_max_delay(Duration::from_millis(200));
    Ok(Connection::Single(ConnectionManager::new_with_config(client, config).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_a_url_has_no_password() {
        let place = |url| Address::of(url).map(|address| address.place()).map_err(|error| error.to_string());
        assert_eq!(place("redis://:s3cret@h:1/2").unwrap(), "redis://h:1/2");
        assert_eq!(place("rediss+cluster://me:s3@cret@a:1,b:2").unwrap(), "rediss+cluster://a:1,b:2");
        let address = Address::of("redis+cluster://me:x@a:1,b:2").unwrap();
        assert_eq!(address.of_host("b:2"), "redis://me:x@b:2");
        for wrong in ["http://u:s3cret@h", "redis://u:s3cret@", "redis://u:s3cret@a:1,b:2", "u:s3cret@h"] {
            assert!(!place(wrong).unwrap_err().contains("s3cret"), "{wrong}");
        }
    }
}
