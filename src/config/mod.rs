//! Settings: `config.default.toml` (built in, and their documentation), a file over it, the environment over that.
//!
//! An unknown or impossible setting stops the start with its name and the mend.

mod check;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use figment::Figment;
use figment::providers::{Env, Format, Toml};
use jiff::SignedDuration;
use serde::{Deserialize, Deserializer};

const DEFAULTS: &str = include_str!("../../config.default.toml");

/// All settings; `config.default.toml` says what each is for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "documented in config.default.toml")]
pub struct Settings {
    pub data_dir: PathBuf,
    pub server: Server,
    pub database: Database,
    pub features: Features,
    pub events: Events,
    pub dedup: Dedup,
    pub history: History,
    pub journal: Journal,
    pub archive: Archive,
    pub retention: Retention,
    pub invoice: Invoice,
    pub gate: Gate,
    pub log: Log,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "documented in config.default.toml")]
pub struct Server {
    pub listen: SocketAddr,
    pub operator_listen: SocketAddr,
    pub connections_max: usize,
    #[serde(deserialize_with = "duration")]
    pub header_timeout: Duration,
    #[serde(deserialize_with = "duration")]
    pub body_timeout: Duration,
    #[serde(deserialize_with = "duration")]
    pub execution_timeout: Duration,
    pub graphql_body_bytes_max: usize,
    pub events_body_bytes_max: usize,
    pub trusted_proxies: Vec<IpAddr>,
    #[serde(deserialize_with = "duration")]
    pub drain_timeout: Duration,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "documented in config.default.toml")]
pub struct Database {
    pub url: String,
    pub connections_max: u32,
    #[serde(deserialize_with = "signed_duration")]
    pub clock_shift: SignedDuration,
}

impl fmt::Debug for Database {
    /// Without the URL: it may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("connections_max", &self.connections_max)
            .field("clock_shift", &self.clock_shift)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "documented in config.default.toml")]
pub struct Features {
    pub url: String,
    pub prefix: String,
    #[serde(deserialize_with = "duration")]
    pub snapshot_every: Duration,
}

impl fmt::Debug for Features {
    /// Without the URL: it may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Features")
            .field("prefix", &self.prefix)
            .field("snapshot_every", &self.snapshot_every)
            .finish_non_exhaustive()
    }
}

impl Features {
    /// Whether other processes share the store.
    pub fn is_shared(&self) -> bool {
        self.url != "embedded"
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "documented in config.default.toml")]
pub struct Events {
    pub url: String,
    pub partitions: u16,
    pub topic: String,
    pub group: String,
    pub kafka: Properties,
    #[serde(deserialize_with = "duration")]
    pub retention: Duration,
    pub segment_bytes: u64,
    pub event_bytes_max: usize,
    #[serde(deserialize_with = "duration")]
    pub idle_after: Duration,
}

/// Settings that are passed through, by names with dots.
#[derive(Clone, Default, Deserialize)]
#[serde(from = "BTreeMap<String, Passed>")]
pub struct Properties(pub BTreeMap<String, String>);

#[derive(Deserialize)]
#[serde(untagged)]
enum Passed {
    Flag(bool),
    Number(i64),
    Text(String),
}

impl From<BTreeMap<String, Passed>> for Properties {
    fn from(passed: BTreeMap<String, Passed>) -> Self {
        let text = |value| match value {
            Passed::Flag(flag) => flag.to_string(),
            Passed::Number(number) => number.to_string(),
            Passed::Text(text) => text,
        };
        Self(passed.into_iter().map(|(name, value)| (name.replace('_', "."), text(value))).collect())
    }
}

impl fmt::Debug for Properties {
    /// Without the values: one may be a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "documented in config.default.toml")]
pub struct Dedup {
    #[serde(deserialize_with = "duration")]
    pub window: Duration,
    pub ids_max: usize,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "documented in config.default.toml")]
pub struct History {
    pub kept: usize,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "documented in config.default.toml")]
pub struct Journal {
    pub durability: Durability,
    pub segment_bytes: u64,
    #[serde(deserialize_with = "duration")]
    pub segment_age: Duration,
    #[serde(deserialize_with = "duration")]
    pub ship_every: Duration,
}

/// What a durable write outlives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Written and synced: a crash of the machine.
    Fsync,
    /// Written: a crash of the process.
    Os,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "documented in config.default.toml")]
pub struct Archive {
    pub url: String,
    pub endpoint: String,
    pub region: String,
    pub access_key_id: String,
    pub secret_access_key: String,
    pub allow_http: bool,
}

impl fmt::Debug for Archive {
    /// Without the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Archive");
        shown.field("url", &self.url).field("endpoint", &self.endpoint).field("region", &self.region);
        shown.field("allow_http", &self.allow_http).finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "documented in config.default.toml")]
pub struct Retention {
    #[serde(deserialize_with = "months")]
    pub usage: jiff::Span,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "documented in config.default.toml")]
pub struct Invoice {
    #[serde(deserialize_with = "duration")]
    pub grace: Duration,
    pub payment_days: u16,
    pub number_prefix: String,
    pub credit_note_prefix: String,
    pub seller: Seller,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "documented in config.default.toml")]
pub struct Seller {
    pub name: String,
    pub address: Vec<String>,
    pub tax_id: String,
    pub email: String,
    pub payment: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "documented in config.default.toml")]
pub struct Gate {
    pub shield_burst: u32,
    #[serde(deserialize_with = "duration")]
    pub shield_interval: Duration,
    #[serde(deserialize_with = "duration")]
    pub directory_poll: Duration,
    #[serde(deserialize_with = "duration")]
    pub directory_stale_max: Duration,
    #[serde(deserialize_with = "duration")]
    pub last_used_every: Duration,
    pub introspection: Introspection,
    pub suggestions: bool,
    pub answer_fields_max: u64,
    pub documents_bytes_max: u64,
}

/// Who may ask for the schema itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Introspection {
    /// Every key.
    On,
    /// Test keys.
    Test,
    /// Nobody.
    Off,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "documented in config.default.toml")]
pub struct Log {
    pub format: LogFormat,
    pub level: String,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// For machines.
    Json,
}

impl Settings {
    /// The settings in force: defaults, then `file`, then the environment.
    pub fn load(file: Option<&Path>) -> anyhow::Result<Self> {
        let mut layers = Figment::from(Toml::string(DEFAULTS));
        if let Some(file) = file {
            let text =
                std::fs::read_to_string(file).with_context(|| format!("cannot read the settings file {}", file.display()))?;
            // Parsed here first: figment would word a syntax error without the file's line.
            toml::from_str::<toml::Table>(&text).map_err(|error| {
                anyhow::anyhow!("the settings file {} is not TOML: {}", file.display(), toml_sentence(&text, &error))
            })?;
            layers = layers.merge(Toml::file_exact(file));
        }
        layers = layers.merge(Env::prefixed("TOLLGATE__").split("__"));
        let settings: Self = layers.extract().map_err(|error| anyhow::anyhow!(sentence(&error, file)))?;
        settings.check()?;
        Ok(settings)
    }

    /// The built-in defaults, under another data folder.
    pub fn defaults(data_dir: &Path) -> anyhow::Result<Self> {
        let layers = Figment::from(Toml::string(DEFAULTS));
        let settings: Self = layers.extract().map_err(|error| anyhow::anyhow!(sentence(&error, None)))?;
        Ok(Self { data_dir: data_dir.to_owned(), ..settings })
    }

    /// `database.url` with `{data_dir}` filled in.
    pub fn database_url(&self) -> String {
        // Absolute and escaped: what stands between sqlite:// and the name would be read as a URL.
        let data_dir = std::path::absolute(&self.data_dir).unwrap_or_else(|_| self.data_dir.clone());
        let mut path = data_dir.display().to_string();
        for (plain, escaped) in [("%", "%25"), ("?", "%3F"), ("#", "%23"), (" ", "%20")] {
            path = path.replace(plain, escaped);
        }
        self.database.url.replace("{data_dir}", &path)
    }
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text)
        .map_err(|_| serde::de::Error::custom(format!("\"{text}\" is no duration: write for example \"30s\" or \"24h\"")))
}

/// A span of whole months: `25 months`.
fn months<'de, D: Deserializer<'de>>(deserializer: D) -> Result<jiff::Span, D::Error> {
    let text = String::deserialize(deserializer)?;
    let number = text.strip_suffix(" months").and_then(|number| number.parse::<i32>().ok());
    // A month's records are needed until the month after it is closed; a hundred years keep every instant within calendars.
    let number = number.filter(|number| (2..=1200).contains(number) && !text.starts_with('+'));
    number.and_then(|number| jiff::Span::new().try_months(number).ok()).ok_or_else(|| {
        serde::de::Error::custom(format!("\"{text}\" is no span of 2 to 1200 months: write for example \"25 months\""))
    })
}

fn signed_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SignedDuration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let (back, span) = text.strip_prefix('-').map_or((false, text.as_str()), |span| (true, span));
    let span = humantime::parse_duration(span).ok().and_then(|span| SignedDuration::try_from(span).ok());
    // A hundred years either way keep every instant within calendars.
    let span = span.filter(|span| span.as_hours() < 24 * 365 * 100);
    span.map(|span| if back { -span } else { span }).ok_or_else(|| {
        serde::de::Error::custom(format!(
            "\"{text}\" is no shift of the clock: write for example \"0s\", \"35 days\" or \"-35 days\""
        ))
    })
}

/// figment's error as one sentence: which setting, where it was set, what it should be.
fn sentence(error: &figment::Error, file: Option<&Path>) -> String {
    let first = error.clone().into_iter().next().unwrap_or_else(|| error.clone());
    let set_by_environment = first.metadata.as_ref().is_some_and(|m| m.name.contains("environment"));
    let place = match (set_by_environment, file) {
        (true, _) => "in the environment (TOLLGATE__…)".to_owned(),
        (false, Some(file)) => format!("in {}", file.display()),
        (false, None) => "in the defaults".to_owned(),
    };
    let mut path = first.path.clone();
    match first.kind {
        figment::error::Kind::UnknownField(field, known) => {
            // The path may or may not already end in the field, depending on the provider.
            if path.last().is_none_or(|last| last != &field) {
                path.push(field);
            }
            format!("unknown setting {} {place}: known there are {}", path.join("."), known.join(", "))
        }
        figment::error::Kind::MissingField(field) => format!("the setting {field} is missing {place}"),
        figment::error::Kind::InvalidType(found, expected) | figment::error::Kind::InvalidValue(found, expected) => {
            format!("the setting {} {place} is {found}, but must be {expected}", path.join("."))
        }
        figment::error::Kind::UnknownVariant(found, known) => {
            format!("the setting {} {place} is \"{found}\", but must be one of {}", path.join("."), known.join(", "))
        }
        kind => format!("the setting {} {place} cannot be used: {kind}", path.join(".")),
    }
}

/// A TOML error on one line: where in `text`, and what.
pub fn toml_sentence(text: &str, error: &toml::de::Error) -> String {
    let line = error.span().and_then(|span| text.get(..span.start)).map(|before| before.matches('\n').count() + 1);
    let message = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
    match line {
        Some(line) => format!("line {line}: {message}"),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> anyhow::Result<Settings> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tollgate.toml");
        std::fs::write(&file, text).unwrap();
        Settings::load(Some(&file))
    }

    #[test]
    fn the_defaults_load_and_a_file_overrides_them() {
        assert_eq!(Settings::load(None).unwrap().server.listen.port(), 8080);
        let settings = load("[server]\nlisten = \"127.0.0.1:9\"\n[dedup]\nwindow = \"3 days\"").unwrap();
        assert_eq!(settings.server.listen.port(), 9);
        assert_eq!(settings.dedup.window, Duration::from_secs(3 * 86_400));
        assert_eq!(settings.events.partitions, 12);
    }

    #[test]
    fn each_bad_setting_is_named_with_its_mend() {
        for (text, words) in [
            ("[server]\nlisen = \"x\"", &["unknown setting server.lisen", "listen"][..]),
            ("colour = 1", &["unknown setting colour"]),
            ("[server]\nlisten = \"here\"", &["server.listen"]),
            ("[events]\npartitions = 0", &["events.partitions", "at least 1"]),
            ("[events]\nurl = \"kafka://\"", &["events.url", "embedded", "kafka://host"]),
            ("[events]\nurl = \"amqp://b1\"", &["events.url", "embedded"]),
            ("[events]\ntopic = \"a b\"", &["events.topic"]),
            ("[events.kafka]\nenable_idempotence = false", &["events.kafka", "enable.idempotence", "take it away"]),
            ("[features]\nurl = \"memcached://b1\"", &["features.url", "redis+cluster://"]),
            ("[features]\nurl = \"redis://r1\"", &["features.url", "set events.url to kafka://"]),
            ("[features]\nprefix = \"{a}\"", &["features.prefix"]),
            ("[journal]\ndurability = \"maybe\"", &["journal.durability", "fsync"]),
            ("[dedup]\nwindow = \"soon\"", &["dedup.window", "no duration"]),
            ("[gate]\nlast_used_every = \"0s\"", &["gate.last_used_every", "is zero"]),
            ("[database]\nurl = \"mysql://x\"", &["database.url", "sqlite://"]),
            ("[archive]\nurl = \"gs://bucket\"", &["archive.url", "s3://bucket"]),
            ("[archive]\naccess_key_id = \"a\"", &["archive.secret_access_key", "give both"]),
            ("[retention]\nusage = \"25\"", &["retention.usage", "25 months"]),
            ("[retention]\nusage = \"1 months\"", &["retention.usage", "2 to 1200"]),
            ("[retention]\nusage = \"+25 months\"", &["retention.usage"]),
            ("[server", &["not TOML"]),
        ] {
            let error = load(text).unwrap_err().to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{text:?} gave: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
