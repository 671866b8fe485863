//! Evidence against a plain reading of all records at once.

use std::path::Path;

use jiff::tz::TimeZone;
use sha2::{Digest, Sha256};

use super::super::journal::{hex, testing};
use super::super::reading::Reading;
use super::super::record::{Mode, UsageRecord};
use super::*;
use crate::config::Settings;

/// A record with its replica, epoch and sequence.
type Placed = (String, i64, u64, UsageRecord);

fn micros(text: &str) -> Micros {
    text.parse::<jiff::Timestamp>().unwrap().into()
}

/// Archives the journal in `folder` as the archiver would.
async fn archived(folder: &Path, replica: &str) -> (Archive, Vec<ArchivedSegment>, Vec<Placed>) {
    let settings = Settings::defaults(folder.parent().unwrap()).unwrap();
    let archive = Archive::open(&settings.archive, folder.parent().unwrap()).unwrap();
    let (mut rows, mut records) = (Vec::new(), Vec::new());
    for (segment, bytes) in (1..).zip(testing::segments(folder)) {
        let mut reading = Reading::new(bytes.clone()).unwrap();
        let header = reading.header.clone();
        let all: Vec<UsageRecord> = reading.by_ref().map(|it| serde_json::from_slice(&it.unwrap().json).unwrap()).collect();
        let at = || all.iter().map(|record| record.at);
        rows.push(ArchivedSegment {
            replica: replica.into(),
            segment,
            epoch: header.epoch,
            first_sequence: header.first,
            records: all.len() as u64,
            bytes: bytes.len() as u64,
            sha256: hex(&Sha256::digest(&bytes)),
            admitted: at().min().zip(at().max()),
            archived_at: Micros(0),
            removed_at: None,
        });
        records.extend((header.first..).zip(all).map(|(sequence, record)| (replica.to_owned(), header.epoch, sequence, record)));
        archive.put(&replica.into(), segment, bytes).await.unwrap();
    }
    (archive, rows, records)
}

/// All that belongs to one month, read plainly.
fn plainly(
    records: &[Placed],
    partner: &str,
    month: (Micros, Micros),
    is_in: impl Fn(&Placed) -> bool,
) -> Vec<(String, u64, Hash)> {
    let mut by_day: BTreeMap<String, Vec<&UsageRecord>> = BTreeMap::new();
    for placed in records {
        let record = &placed.3;
        let counts = record.mode == Mode::Live && record.partner.as_str() == partner && is_in(placed);
        if counts && record.at >= month.0 && record.at < month.1 {
            by_day.entry(record.at.to_string()[..10].to_owned()).or_default().push(record);
        }
    }
    let day = |(day, mut of): (String, Vec<&UsageRecord>)| {
        of.sort_by_key(|record| (record.at, record.request.to_string()));
        (day, of.len() as u64, merkle::root(of.iter().map(|record| serde_json::to_vec(record).unwrap())))
    };
    by_day.into_iter().map(day).collect()
}

#[tokio::test]
async fn each_day_of_a_month_has_the_records_that_the_cut_holds_and_no_others() {
    let data = tempfile::tempdir().unwrap();
    // Half an hour apart from 2026-10-26T07:33:20Z on: 2000 of them reach into December.
    let [one, two] = ["rep_1", "rep_2"].map(|replica| data.path().join(replica));
    testing::journal(&one, "rep_1", &[800, 1200]).await;
    testing::journal(&two, "rep_2", &[2000]).await;
    let (archive, mut rows, mut records) = archived(&one, "rep_1").await;
    let (_, more_rows, more_records) = archived(&two, "rep_2").await;
    rows.extend(more_rows);
    records.extend(more_records);
    let zone = TimeZone::get("Asia/Kathmandu").unwrap();
    let begins = |month: i8| -> Micros {
        let first = jiff::civil::date(2026, month, 1).to_zoned(zone.clone()).unwrap();
        first.timestamp().into()
    };
    let (october, november) = ((begins(10), begins(11)), (begins(11), begins(12)));
    let cut: Cut = [(("rep_1".into(), 1), 800), (("rep_1".into(), 2), 700), (("rep_2".into(), 1), 1500)].into();
    let after: Arc<Cut> = Arc::new([(("rep_1".into(), 1), 50), (("rep_2".into(), 1), 70)].into());
    let month = |period: &str, (from, to), after: &Arc<Cut>| WantedMonth {
        period: period.into(),
        from,
        to,
        after: after.clone(),
        plans: None,
    };
    let nothing = Arc::new(Cut::new());
    let wanted: HashMap<PartnerId, Vec<WantedMonth>> = [
        // What came after the first fifty was late for October.
        ("pt_0".into(), vec![month("2026-10", october, &after), month("2026-11", november, &nothing)]),
        ("pt_2".into(), vec![month("2026-11", november, &nothing)]),
        ("pt_none".into(), vec![month("2026-11", november, &nothing)]),
        ("pt_1".into(), vec![WantedMonth { plans: Some(Arc::default()), ..month("2026-11", november, &nothing) }]),
    ]
    .into();
    let mut shuffled = rows.clone();
    shuffled.reverse();
    let found = days(&archive, &shuffled, &cut, &wanted).await.unwrap();
    let in_cut = |it: &Placed| match (it.0.as_str(), it.1) {
        ("rep_1", 1) => true,
        ("rep_1", _) => it.2 <= 700,
        _ => it.2 <= 1500,
    };
    let late = |it: &Placed| in_cut(it) && if it.0 == "rep_1" { it.1 == 2 || it.2 > 50 } else { it.2 > 70 };
    for (partner, expected) in [
        (
            "pt_0",
            vec![("2026-10", plainly(&records, "pt_0", october, late)), ("2026-11", plainly(&records, "pt_0", november, in_cut))],
        ),
        ("pt_2", vec![("2026-11", plainly(&records, "pt_2", november, in_cut))]),
    ] {
        let flat: Vec<_> = expected
            .into_iter()
            .flat_map(|(period, days)| days.into_iter().map(move |(day, records, root)| (period.to_owned(), day, records, root)))
            .collect();
        let days = &found[partner].days;
        let got: Vec<_> = days.iter().map(|it| (it.period.clone(), it.day.to_string(), it.records, it.root)).collect();
        assert_eq!(got, flat, "{partner}");
        // The 18:15 edge cuts a UTC day in two: its halves stand under both months.
        assert!(partner != "pt_0" || got.iter().filter(|(_, day, ..)| day == "2026-10-31").count() == 2);
        assert_eq!(root(days), merkle::root(flat.iter().map(|(.., root)| root)));
        let sums = &found[partner].sums["2026-11"][&("p".into(), 1)];
        let november = |it: &&Placed| in_cut(it) && it.3.at >= november.0 && it.3.at < november.1 && it.3.mode == Mode::Live;
        let of: Vec<_> = records.iter().filter(november).filter(|it| it.3.partner.as_str() == partner).collect();
        let units = of.iter().flat_map(|it| it.3.units.values()).sum();
        let count = of.len() as u64;
        assert_eq!(sums[&Meter::Inventory], Sum { units, waived: 0, records: count });
        assert_eq!(sums[&Meter::Requests], Sum { units: count, waived: 0, records: count });
    }
    assert_eq!((&found["pt_none"].days, &found["pt_1"].days), (&vec![], &vec![]), "who used nothing, and under no plan");
}

#[tokio::test]
async fn what_is_missing_or_changed_is_named() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join("journal");
    testing::journal(&folder, "rep_1", &[200]).await;
    let (archive, rows, _) = archived(&folder, "rep_1").await;
    assert!(rows.len() > 3);
    let cut: Cut = [(("rep_1".into(), 1), 200)].into();
    let month = WantedMonth {
        period: "2026-11".into(),
        from: micros("2026-10-01T00:00:00Z"),
        to: micros("2026-12-01T00:00:00Z"),
        after: Arc::default(),
        plans: None,
    };
    let wanted: HashMap<PartnerId, Vec<WantedMonth>> = [("pt_1".into(), vec![month])].into();
    let error =
        async |rows: &[ArchivedSegment], cut: &Cut| format!("{:#}", days(&archive, rows, cut, &wanted).await.unwrap_err());
    days(&archive, &rows, &cut, &wanted).await.unwrap();
    let with = |change: fn(&mut ArchivedSegment)| {
        let mut rows = rows.clone();
        change(&mut rows[1]);
        rows
    };
    for (change, words) in [
        ((|row| row.removed_at = Some(Micros(0))) as fn(&mut ArchivedSegment), "segment 2 of replica rep_1 was removed"),
        (|row| row.sha256 = "0".repeat(64), "segment 2 of replica rep_1 in the archive is not what was archived"),
        (|row| row.records += 1, "but"),
        (|row| row.epoch = 2, "are not archived"),
        (|row| row.admitted = Some((row.admitted.unwrap().1, row.admitted.unwrap().1)), "admitted outside of the span"),
    ] {
        let said = error(&with(change), &cut).await;
        assert!(said.contains(words), "{said}");
    }
    let mut fewer = rows.clone();
    let gone = fewer.remove(1);
    let said = error(&fewer, &cut).await;
    assert!(said.starts_with(&format!("records 1/{} to 1/200 of replica rep_1 are not archived", gone.first_sequence)), "{said}");
    let more: Cut = [(("rep_1".into(), 1), 201)].into();
    assert!(error(&rows, &more).await.starts_with("records 1/201 to 1/201"));
    archive.remove(&"rep_1".into(), 3).await.unwrap();
    let said = error(&rows, &cut).await;
    assert!(said.starts_with("segment 3 of replica rep_1 is missing in the archive"), "{said}");
}
