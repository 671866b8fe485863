//! Journals and ledger, read past Tollgate's code by what is written of them, and held against what clients saw.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, Row};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Gateway;
use super::asking::{Answers, Partner};
use crate::support::Database;

/// The ledger's cells: 15 minutes UTC.
const CELL_MICROS: i64 = 15 * 60 * 1_000_000;

/// A replica's id is in its folder.
pub(super) fn replica(machine: &Database) -> String {
    std::fs::read_to_string(machine.data_dir().join("replica")).unwrap().trim().to_owned()
}

/// A record, and its name.
pub(super) struct Journaled {
    pub(super) replica: String,
    pub(super) epoch: i64,
    pub(super) sequence: u64,
    pub(super) record: Value,
}

/// One replica's journal: segments of the archive and those on its own disk, which may be in both. Nothing is missing: checksums are
/// right, segments are numbered without a gap, each epoch's sequence is 1, 2, 3, …, and each record has the hash of the one before.
fn journal(machine: &Database, archive: &Path) -> Vec<Journaled> {
    let id = replica(machine);
    let folders = [archive.join("journal").join(&id), machine.data_dir().join("journal")];
    let files = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().map(|entry| entry.unwrap().path());
    let files: BTreeMap<_, PathBuf> = files.map(|file| (file.file_name().unwrap().to_owned(), file)).collect();
    let (mut records, mut previous, mut last, mut number): (Vec<Journaled>, [u8; 32], _, u64) = (Vec::new(), [0; 32], (0, 0), 0);
    for (name, file) in files {
        let name = name.into_string().unwrap();
        let digits: String = name.chars().filter(char::is_ascii_digit).collect();
        number += 1;
        assert_eq!(digits.parse::<u64>().unwrap(), number, "{id}: segments have no gap: {name}");
        let bytes = std::fs::read(&file).unwrap();
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let mut at = 16 + u32_at(8) as usize;
        let header: Value = serde_json::from_slice(&bytes[16..at]).unwrap();
        assert_eq!(header["replica"], id.as_str(), "{}", file.display());
        let epoch = header["epoch"].as_i64().unwrap();
        if epoch != last.0 {
            assert!(epoch > last.0, "{id}: epochs go up: {header}");
            last = (epoch, 0);
        }
        assert_eq!(header["first"].as_u64().unwrap(), last.1 + 1, "{id}: {header}");
        while at < bytes.len() {
            let (length, crc) = (u32_at(at) as usize, u32_at(at + 4));
            assert_eq!(crc32c::crc32c(&bytes[at + 8..at + 16 + length]), crc, "{} at {at}", file.display());
            // The body: sequence (8), previous hash (32), JSON.
            let body = &bytes[at + 16..at + 16 + length];
            let sequence = u64::from_le_bytes(body[..8].try_into().unwrap());
            assert_eq!(sequence, last.1 + 1, "{id}: epoch {epoch} has a gap");
            assert_eq!(&body[8..40], &previous, "{id}: {epoch}/{sequence} does not continue the chain");
            (previous, last.1) = (Sha256::digest(body).into(), sequence);
            records.push(Journaled {
                replica: id.clone(),
                epoch,
                sequence,
                record: serde_json::from_slice(&body[40..]).unwrap(),
            });
            at += 16 + length;
        }
    }
    records
}

/// Partner, key, plan, version, meter, cell, replica, epoch: units, of those waived.
type Cells = BTreeMap<(String, String, String, i64, String, i64, String, i64), (i64, i64)>;

fn cells_of(records: &[Journaled]) -> Cells {
    let mut cells = Cells::new();
    for Journaled { replica, epoch, record, .. } in records {
        let text = |name: &str| record[name].as_str().unwrap().to_owned();
        let at = record["at"].as_i64().unwrap();
        let mut add = |meter: &str, units, waived| {
            let key = (text("partner"), text("key"), text("plan"), record["planVersion"].as_i64().unwrap());
            let key = (key.0, key.1, key.2, key.3, meter.to_owned(), at - at.rem_euclid(CELL_MICROS), replica.clone(), *epoch);
            let sum = cells.entry(key).or_default();
            *sum = (sum.0 + units, sum.1 + waived);
        };
        add("requests", 1, 0);
        for (meter, units) in record["units"].as_object().unwrap() {
            add(meter, units.as_i64().unwrap(), 0);
        }
        for (meter, units) in record["waivedUnits"].as_object().into_iter().flatten() {
            add(meter, 0, units.as_i64().unwrap());
        }
    }
    cells
}

/// What a test is held against.
pub(super) struct Evidence {
    machine: Database,
    archive: PathBuf,
    replicas: Vec<String>,
    partners: [Partner; 2],
}

/// Looks at what is granted, all the time.
pub(super) struct Watched {
    stop: watch::Sender<bool>,
    task: JoinHandle<u64>,
}

impl Watched {
    /// How often it looked.
    pub(super) async fn end(self) -> u64 {
        // It ends before when it found something.
        self.stop.send_replace(true);
        self.task.await.unwrap()
    }
}

/// One statement sees one instant. Of each partner and replica: units in the ledger, units granted.
const GRANTS: &str = "select partner_id, replica_id, cast(sum(used) as bigint), cast(sum(granted) as bigint) from (\
     select partner_id, replica_id, units as used, 0 as granted from usage_cell where meter <> 'requests' union all \
     select partner_id, replica_id, 0, units from budget_grant where key_id = '' and meter = '') both_sides group by 1, 2";
/// Of what the far partner's spend cap counts, that of which the ledger has more than is granted.
const PAST_LINES: &str = "select replica_id, meter, granted.units, used.units from budget_grant granted join \
     (select partner_id, replica_id, plan_id, plan_version, meter, cast(sum(units) as bigint) as units from usage_cell group by 1, 2, 3, 4, 5) used \
     using (partner_id, replica_id, plan_id, plan_version, meter) where granted.plan_id = 'far' and used.units > granted.units";

impl Evidence {
    pub(super) fn new(machine: Database, gateways: &[Gateway], archive: &Path, partners: [Partner; 2]) -> Self {
        let replicas: Vec<String> = gateways.iter().map(|gateway| replica(&gateway.machine)).collect();
        assert_eq!(replicas.iter().collect::<BTreeSet<_>>().len(), gateways.len(), "each has an id of its own");
        Self { machine, archive: archive.to_owned(), replicas, partners }
    }

    /// What a partner's units in the ledger are.
    pub(super) async fn billed(&self, partner: &str) -> i64 {
        let text = "select cast(coalesce(sum(units), 0) as bigint) from usage_cell where meter <> 'requests' and partner_id = $1";
        let mut connection = self.machine.connect().await;
        sqlx::query(text).bind(partner).fetch_one(&mut connection).await.unwrap().get(0)
    }

    /// At every instant: no replica has more in the ledger than it was granted, all of them together were granted no more than the
    /// partner's quota.
    pub(super) fn watch(&self) -> Watched {
        let (stop, mut stopped) = watch::channel(false);
        let (machine, partners) = (self.machine.beside(), self.partners.clone());
        let task = tokio::spawn(async move {
            let mut connection = machine.connect().await;
            for looks in 1.. {
                let mut granted: HashMap<String, i64> = HashMap::new();
                for row in sqlx::query(GRANTS).fetch_all(&mut connection).await.unwrap() {
                    let (partner, replica, used, units): (String, String, i64, i64) =
                        (row.get(0), row.get(1), row.get(2), row.get(3));
                    assert!(used <= units, "replica {replica} has {used} in the ledger and {units} granted, of {partner}");
                    *granted.entry(partner).or_default() += units;
                }
                for partner in &partners {
                    let granted = granted.get(&partner.id).copied().unwrap_or(0);
                    assert!(granted <= partner.quota, "{granted} of {} are granted", partner.quota);
                }
                let past = sqlx::query(PAST_LINES).fetch_all(&mut connection).await.unwrap();
                let past: Vec<(String, String, i64, i64)> =
                    past.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect();
                assert!(past.is_empty(), "the ledger has more than is granted: {past:?}");
                if tokio::time::timeout(Duration::from_millis(40), stopped.wait_for(|stop| *stop)).await.is_ok() {
                    return looks;
                }
            }
            unreachable!()
        });
        Watched { stop, task }
    }

    /// Answers are records, records are counted once, each by its own replica. All gateways have stopped.
    pub(super) async fn hold(&self, gateways: &[Gateway], answers: &Answers, told: &str) {
        let ids: Vec<String> = gateways.iter().map(|gateway| replica(&gateway.machine)).collect();
        assert_eq!(ids, self.replicas, "{told}: each keeps its id");
        let records: Vec<Journaled> = gateways.iter().flat_map(|gateway| journal(&gateway.machine, &self.archive)).collect();
        let units =
            |record: &Value| -> u64 { record["units"].as_object().unwrap().values().map(|units| units.as_u64().unwrap()).sum() };
        let by_id: HashMap<&str, u64> =
            records.iter().map(|it| (it.record["request"].as_str().unwrap(), units(&it.record))).collect();
        let received: HashMap<&str, u64> = answers.received.iter().map(|(id, units)| (id.as_str(), *units)).collect();
        let lost = received.keys().filter(|id| !by_id.contains_key(*id)).count();
        let duplicated = records.len() - by_id.len() + answers.received.len() - received.len();
        let extra = by_id.keys().filter(|id| !received.contains_key(*id)).count();
        let counted = self.machine.number("select cast(sum(units) as bigint) from usage_cell where meter = 'requests'").await;
        println!(
            "{told}: received {}, in the ledger {counted}, lost {lost}, duplicated {duplicated}, extra {extra} of {} cut off; \
             refused over quota {}, unavailable {}",
            received.len(),
            answers.cut_off,
            answers.over_quota,
            answers.unavailable
        );
        assert_eq!((lost, duplicated), (0, 0), "{told}");
        assert!(extra <= answers.cut_off, "{told}: nobody waited for some of the {extra} extra records");
        let differ = received.iter().find(|(id, units)| by_id[**id] != **units);
        assert_eq!(differ, None, "{told}: a record says what its answer said");
        assert_eq!(usize::try_from(counted).unwrap(), records.len(), "{told}: each record is counted once");
        self.hold_ledger(gateways, &records, told).await;
        for partner in &self.partners {
            let of = records.iter().filter(|it| it.record["partner"] == partner.id.as_str());
            let used: u64 = of.map(|it| units(&it.record)).sum();
            assert!(i64::try_from(used).unwrap() <= partner.quota, "{told}: {used} of {}", partner.quota);
        }
        let near = &self.partners[1];
        assert_eq!(self.billed(&near.id).await, near.quota, "{told}: all of it can be used, and no more");
        assert!(received.len() > 50 * gateways.len(), "{told}: too few answers to mean anything");
    }

    /// The ledger is what the journals say, cell by cell; positions and registered starts are theirs; what was not used is given back.
    async fn hold_ledger(&self, gateways: &[Gateway], records: &[Journaled], told: &str) {
        let mut connection = self.machine.connect().await;
        let text = "select partner_id, key_id, plan_id, plan_version, meter, cell_start, replica_id, epoch, \
                    cast(sum(units) as bigint), cast(sum(waived_units) as bigint) from usage_cell group by 1, 2, 3, 4, 5, 6, 7, 8";
        let rows = sqlx::query(text).fetch_all(&mut connection).await.unwrap();
        let cell = |row: &sqlx::any::AnyRow| {
            let name = (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4), row.get(5), row.get(6), row.get(7));
            (name, (row.get(8), row.get(9)))
        };
        let (ledger, expected): (Cells, Cells) = (rows.iter().map(cell).collect(), cells_of(records));
        let differ: Vec<_> = expected.iter().filter(|(key, sum)| ledger.get(*key) != Some(*sum)).collect();
        assert!(differ.is_empty() && ledger.len() == expected.len(), "{told}: {differ:?}");

        let mut last: BTreeMap<(String, i64), i64> = BTreeMap::new();
        for it in records {
            last.insert((it.replica.clone(), it.epoch), i64::try_from(it.sequence).unwrap());
        }
        let rows =
            sqlx::query("select replica_id, epoch, sequence from journal_watermark").fetch_all(&mut connection).await.unwrap();
        let marks: BTreeMap<(String, i64), i64> = rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect();
        assert_eq!(marks, last, "{told}: all is shipped, of each start");

        let rows = sqlx::query("select id, epoch from replica").fetch_all(&mut connection).await.unwrap();
        let epochs: BTreeMap<String, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        assert_eq!(epochs.keys().collect::<BTreeSet<_>>(), self.replicas.iter().collect(), "{told}: nobody else has an id");
        for gateway in gateways {
            let epoch = epochs[&replica(&gateway.machine)];
            let starts = gateway.starts..=gateway.starts + gateway.half_starts;
            assert!(starts.contains(&epoch), "{told}: {} has {epoch} epochs of {starts:?} starts", gateway.name);
        }
        for row in sqlx::query(AssertSqlSafe(GRANTS)).fetch_all(&mut connection).await.unwrap() {
            let (partner, replica, used, granted): (String, String, i64, i64) = (row.get(0), row.get(1), row.get(2), row.get(3));
            assert_eq!(used, granted, "{told}: a clean stop leaves what was used: {partner} {replica}");
        }
    }
}
