//! What settings can be: each that cannot is told with its name and its mend.

use anyhow::{bail, ensure};

use super::Settings;
use crate::event::KafkaOptions;

impl Settings {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        ensure!(
            self.gate.answer_fields_max > 0,
            "the setting gate.answer_fields_max is 0, and would refuse every query: give for example 50000"
        );
        ensure!(!self.data_dir.as_os_str().is_empty(), "the setting data_dir is empty: name a folder");
        let redis = ["redis://", "rediss://", "redis+cluster://", "rediss+cluster://"];
        ensure!(
            !self.features.is_shared() || redis.iter().any(|scheme| self.features.url.starts_with(scheme)),
            "the setting features.url must be \"embedded\", or begin with {}",
            redis.join(", ")
        );
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        ensure!(
            (1..=64).contains(&self.features.prefix.len()) && self.features.prefix.chars().all(plain),
            "the setting features.prefix is \"{}\": give 1 to 64 letters, digits, and - _ . :",
            self.features.prefix.escape_default()
        );
        ensure!(
            self.events.url == "embedded" || KafkaOptions::brokers(&self.events.url).is_some(),
            "the setting events.url is \"{}\", but must be \"embedded\" or kafka://host:port,host:port",
            self.events.url
        );
        ensure!(
            !self.features.is_shared() || self.events.url != "embedded",
            "the setting features.url is a Redis that other processes read, but events.url is this process's own log: set events.url to \
             kafka://host:port"
        );
        for (name, value) in [("events.topic", &self.events.topic), ("events.group", &self.events.group)] {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            ensure!(
                (1..=249).contains(&value.len()) && value.chars().all(plain),
                "the setting {name} is \"{}\": give 1 to 249 letters, digits, and - _ .",
                value.escape_default()
            );
        }
        KafkaOptions::check(&self.events.kafka.0)?;
        if !(self.database.url.starts_with("sqlite://")
            || self.database.url.starts_with("postgres://")
            || self.database.url.starts_with("postgresql://"))
        {
            bail!("the setting database.url must begin with sqlite:// or postgres://");
        }
        let archive = &self.archive;
        let scheme = archive.url.split_once("://").map(|(scheme, _)| scheme);
        ensure!(
            !archive.url.is_empty() && matches!(scheme, None | Some("file" | "s3")),
            "the setting archive.url is \"{}\", but must be a folder, file:///folder or s3://bucket/prefix",
            archive.url
        );
        ensure!(
            archive.access_key_id.is_empty() == archive.secret_access_key.is_empty(),
            "of the settings archive.access_key_id and archive.secret_access_key only one is given: give both, or neither"
        );
        let at_least = |name: &str, value: u64, least: u64| {
            ensure!(value >= least, "the setting {name} is {value}, but must be at least {least}");
            Ok(())
        };
        at_least("server.connections_max", self.server.connections_max as u64, 1)?;
        at_least("server.graphql_body_bytes_max", self.server.graphql_body_bytes_max as u64, 1024)?;
        at_least("server.events_body_bytes_max", self.server.events_body_bytes_max as u64, 1024)?;
        at_least("database.connections_max", u64::from(self.database.connections_max), 2)?;
        at_least("events.partitions", u64::from(self.events.partitions), 1)?;
        at_least("events.segment_bytes", self.events.segment_bytes, 4096)?;
        at_least("events.event_bytes_max", self.events.event_bytes_max as u64, 256)?;
        at_least("dedup.ids_max", self.dedup.ids_max as u64, 1)?;
        at_least("history.kept", self.history.kept as u64, 1)?;
        at_least("journal.segment_bytes", self.journal.segment_bytes, 4096)?;
        for (name, prefix) in [
            ("invoice.number_prefix", &self.invoice.number_prefix),
            ("invoice.credit_note_prefix", &self.invoice.credit_note_prefix),
        ] {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
            ensure!(
                prefix.len() <= 20 && prefix.chars().all(plain),
                "the setting {name} is \"{}\": give up to 20 letters, digits, and - _ . /",
                prefix.escape_default()
            );
        }
        at_least("gate.shield_burst", u64::from(self.gate.shield_burst), 1)?;
        for (name, value) in [
            ("features.snapshot_every", self.features.snapshot_every),
            ("journal.segment_age", self.journal.segment_age),
            ("journal.ship_every", self.journal.ship_every),
            ("server.header_timeout", self.server.header_timeout),
            ("server.body_timeout", self.server.body_timeout),
            ("server.execution_timeout", self.server.execution_timeout),
            ("gate.shield_interval", self.gate.shield_interval),
            ("gate.directory_poll", self.gate.directory_poll),
            ("gate.last_used_every", self.gate.last_used_every),
        ] {
            ensure!(!value.is_zero(), "the setting {name} is zero, but must be a duration such as \"1s\"");
        }
        ensure!(
            self.events.event_bytes_max <= 16 << 20,
            "the setting events.event_bytes_max is {}, but may be 16777216 (16 MiB) at most",
            self.events.event_bytes_max
        );
        ensure!(
            self.events.event_bytes_max < self.events.segment_bytes as usize,
            "the setting events.event_bytes_max must be below events.segment_bytes"
        );
        Ok(())
    }
}
