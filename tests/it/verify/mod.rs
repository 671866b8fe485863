//! `usage verify` and `usage export` over two partners' months that were really journaled, shipped, archived and closed: nothing
//! differs, until something was changed; then it is said where.

mod town;

use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::support::{Database, on_both_databases, rng};
use town::{PARTNERS, Town};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where the frames of a segment begin, read by the format's own words (src/segment/mod.rs), and where it ends.
fn frames(bytes: &[u8]) -> Vec<usize> {
    let number = |at: usize| usize::try_from(u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())).unwrap();
    let mut starts = vec![16 + number(8)];
    while *starts.last().unwrap() < bytes.len() {
        let at = *starts.last().unwrap();
        starts.push(at + 16 + number(at));
    }
    starts
}

/// A CRC32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0x82F6_3B78 } else { crc >> 1 })
    })
}

/// Tells the database that the archive has these bytes for a segment.
async fn relist(town: &Town, segment: usize, bytes: &[u8], records: usize) {
    let (sha256, size) = (hex(&Sha256::digest(bytes)), bytes.len());
    let row =
        format!("update archived_segment set sha256 = '{sha256}', bytes = {size}, records = {records} where segment = {segment}");
    town.execute(&[&row]).await;
}

#[track_caller]
fn one(differences: &[String], words: &[&str]) {
    let is = |said: &String| words.iter().all(|word| said.contains(word));
    assert!(differences.iter().any(is), "{words:?} is not among {differences:#?}");
}

/// Without what the archive proves of invoices, which is told for each change in it.
fn apart(differences: Vec<String>) -> Vec<String> {
    differences.into_iter().filter(|said| !said.contains("made anew")).collect()
}

on_both_databases! {
    async fn what_was_billed_is_what_was_used(database: Database) {
        let town = Town::build(database, rng("town").1).await;
        for arguments in [&["usage", "verify"][..], &["usage", "verify", "--period", "2026-01"], &["usage", "verify", "--period", "2026-02"]] {
            let said = town.run(arguments).ok();
            assert!(said.contains("4 numbers of invoices") || said.contains("5 numbers of invoices, without a gap"), "{said}");
            assert!(said.contains("2 numbers of credit notes, without a gap"), "{said}");
        }
        let said = town.run(&["usage", "verify"]).ok();
        assert!(said.contains("560 records of 1 replicas") && said.contains("5 invoices made anew from the archive"), "{said}");
        // Each partner's own files are enough, on another machine.
        let (elsewhere, folder) = (Database::new(crate::support::Kind::Sqlite).await, tempfile::tempdir().unwrap());
        for (partner, _) in PARTNERS.iter().enumerate() {
            for period in ["2026-01", "2026-02"] {
                let (bundle, invoice) = (folder.path().join("bundle"), folder.path().join("invoice"));
                let (bundle, invoice) = (bundle.to_str().unwrap(), invoice.to_str().unwrap());
                let document = town.invoice(partner, period);
                std::fs::write(invoice, document.to_string()).unwrap();
                let id = &town.ids[partner].0;
                town.run(&["usage", "export", "--partner", id, "--period", period, "--out", bundle]).ok();
                let on_stdout = town.run(&["usage", "export", "--partner", PARTNERS[partner], "--period", period]).ok();
                let text = std::fs::read_to_string(bundle).unwrap();
                assert_eq!(on_stdout, text);
                let said = crate::support::tollgate(&elsewhere, &["usage", "verify", "--bundle", bundle, "--invoice", invoice]).ok();
                assert!(said.contains(document["number"].as_str().unwrap()) && said.lines().count() == 4, "{said}");
                let (other, other_key) = &town.ids[1 - partner];
                assert!(!text.contains(other.as_str()) && !text.contains(other_key.as_str()), "it shows something of another");
                assert_eq!(u64::try_from(text.lines().filter(|line| line.contains("\"at\"")).count()).ok(), document["evidence"]["records"].as_u64());
                // With another's invoice, and with one record less, it fails.
                std::fs::write(invoice, town.invoice(1 - partner, period).to_string()).unwrap();
                let verify = ["usage", "verify", "--bundle", bundle, "--invoice", invoice];
                assert!(crate::support::tollgate(&elsewhere, &verify).failed().contains("partner"));
                std::fs::write(invoice, document.to_string()).unwrap();
                let last = text.trim_end().rfind('\n').unwrap();
                std::fs::write(bundle, &text[..=last]).unwrap();
                let error = crate::support::tollgate(&elsewhere, &verify).failed();
                assert!(error.contains("records are missing"), "{error}");
            }
        }
        // A month without an invoice: so far, and said so.
        let text = town.run(&["usage", "export", "--partner", "Ada", "--period", "2026-03"]).ok();
        let header: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert!(header["note"].as_str().unwrap().contains("no invoice yet"), "{text}");
        let bundle = folder.path().join("bundle");
        let wrong = ["usage", "verify", "--bundle", bundle.to_str().unwrap()];
        assert_eq!(town.run(&wrong).code, 2, "a bundle alone is bad usage");
    }

    async fn what_was_changed_in_the_archive_is_found_with_where(database: Database) {
        let (_, mut random) = rng("changed archive");
        let town = Town::build(database, rng("town").1).await;
        let files = town.segments();
        assert!(files.len() > 10, "{files:?}");
        let number = 4;
        let file: &Path = &files[number - 1];
        let whole = std::fs::read(file).unwrap();
        let starts = frames(&whole);
        let records = starts.len() - 1;
        let name = format!("segment {number} of replica rep_");
        let first: usize = town.database.number("select first_sequence from archived_segment where segment = 4").await.try_into().unwrap();

        for _ in 0..5 {
            let at = rand::Rng::random_range(&mut random, 0..whole.len());
            let mut changed = whole.clone();
            changed[at] ^= 4;
            std::fs::write(file, &changed).unwrap();
            let frame = starts.iter().rev().find(|&&start| start <= at && start < whole.len()).copied().unwrap_or(0);
            let differences = town.differs(&[]);
            one(&differences, &[&name, "with the SHA-256"]);
            one(&differences, &[&name, &format!("damaged at byte {frame}: ")]);
            // The period that it lies in finds it, another does not look at it.
            one(&town.differs(&["--period", "2026-01"]), &[&name, "damaged at byte"]);
        }

        // A record is removed, and the list made to fit.
        let removed = [&whole[..starts[2]], &whole[starts[3]..]].concat();
        std::fs::write(file, &removed).unwrap();
        relist(&town, number, &removed, records - 1).await;
        let where_it_was = format!("record 1/{} is not where it must be: record 1/{} stands at byte {}", first + 2, first + 3, starts[2]);
        one(&town.differs(&[]), &[&name, &where_it_was]);

        // The last record of a segment: what remains is whole, but the next one does not continue it.
        let removed = whole[..starts[records - 1]].to_vec();
        std::fs::write(file, &removed).unwrap();
        relist(&town, number, &removed, records - 1).await;
        let differences = town.differs(&[]);
        one(&differences, &[&format!("segment {} of replica", number + 1), "records are missing between them"]);
        one(&differences, &["the list of what was archived", &format!("1/{} must come next", first + records - 1)]);

        // A record is changed, its checksum made good, and the list made to fit: the chain tells.
        let mut forged = whole.clone();
        let units = (starts[1]..starts[2]).find(|&at| forged[at..].starts_with(b"\"inventory\":")).unwrap() + 12;
        forged[units] = if forged[units] == b'1' { b'2' } else { b'1' };
        let crc = crc32c(&forged[starts[1] + 8..starts[2]]);
        forged[starts[1] + 4..starts[1] + 8].copy_from_slice(&crc.to_le_bytes());
        std::fs::write(file, &forged).unwrap();
        relist(&town, number, &forged, records).await;
        let differences = town.differs(&[]);
        let chain = format!("record 1/{} at byte {} does not continue the chain of hashes", first + 2, starts[2]);
        one(&differences, &[&name, &chain]);
        relist(&town, number, &whole, records).await;

        // The object is gone.
        std::fs::remove_file(file).unwrap();
        one(&town.differs(&[]), &[&name, "is missing in the archive"]);
        let bundle = town.run(&["usage", "export", "--partner", "Ada", "--period", "2026-01"]);
        assert!(bundle.code == 1 && bundle.stderr.contains("is missing in the archive"), "{bundle:?}");

        // With its row.
        let row = "select sha256 from archived_segment where segment = 4";
        assert_eq!(town.text(row).await, hex(&Sha256::digest(&whole)));
        town.execute(&["create table aside as select * from archived_segment where segment = 4", "delete from archived_segment where segment = 4"]).await;
        let differences = town.differs(&[]);
        one(&differences, &[&name, "is not in the list of what was archived"]);
        one(&differences, &["the list of what was archived has segment 5", &format!("1/{first} must come next")]);
        one(&differences, &["the invoices of 2026-01 cannot be made anew", &format!("records 1/{first} to 1/")]);
        town.execute(&["insert into archived_segment select * from aside", "drop table aside"]).await;
        std::fs::write(file, &whole).unwrap();

        // The last one that holds records, with its row and all behind it: nothing follows that would miss it, but the ledger does.
        let last: usize = town.database.number("select max(segment) from archived_segment where records > 0").await.try_into().unwrap();
        let aside = town.database.data_dir().join("aside");
        std::fs::create_dir(&aside).unwrap();
        let journal = town.database.data_dir().join("journal");
        let mut local: Vec<_> = std::fs::read_dir(&journal).unwrap().map(|entry| entry.unwrap().path()).collect();
        local.sort();
        local.pop();
        let hidden: Vec<_> = files[last - 1..].iter().chain(&local).cloned().collect();
        for (place, file) in hidden.iter().enumerate() {
            std::fs::rename(file, aside.join(place.to_string())).unwrap();
        }
        town.execute(&[
            &format!("create table aside as select * from archived_segment where segment >= {last}"),
            &format!("delete from archived_segment where segment >= {last}"),
        ])
        .await;
        let differences = town.differs(&[]);
        one(&differences, &["records ", "are in the ledger, but neither in the archive nor in this data folder"]);
        one(&differences, &["the invoices of 2026-02 cannot be made anew", "are not archived: they cannot be proven"]);
        // From another machine it cannot be told whether the replica has them still.
        std::fs::rename(town.database.data_dir().join("replica"), aside.join("replica")).unwrap();
        let ran = town.run(&["usage", "verify", "--period", "2026-01"]);
        assert!(ran.stderr.contains("note: records ") && ran.stderr.contains("and their journal is not in this data folder"), "{ran:?}");
        std::fs::rename(aside.join("replica"), town.database.data_dir().join("replica")).unwrap();
        for (place, file) in hidden.iter().enumerate() {
            std::fs::rename(aside.join(place.to_string()), file).unwrap();
        }
        town.execute(&["insert into archived_segment select * from aside", "drop table aside"]).await;
        town.run(&["usage", "verify"]).ok();
    }

    async fn what_was_changed_in_the_database_is_found_with_where(database: Database) {
        let town = Town::build(database, rng("town").1).await;
        let (ada, _) = &town.ids[0];
        let one_cell = format!(
            "partner_id = '{ada}' and meter = 'inventory' and cell_start = \
             (select min(cell_start) from usage_cell where partner_id = '{ada}' and meter = 'inventory')"
        );
        for (change, words) in [
            ("units = units + 1", "the ledger's cell"),
            ("waived_units = 3", "3 waived"),
            ("records = records + 1", "the ledger's cell"),
            ("first_sequence = 0", "records 1/0 to"),
            ("last_sequence = 1000000", "the ledger's watermark stands at 1/"),
            ("product = 'pricing'", "has the product \"pricing\""),
            ("plan_version = 2", "no record counts in it"),
        ] {
            let kept = format!("create table aside as select * from usage_cell where {one_cell}");
            town.execute(&[&kept, &format!("update usage_cell set {change} where {one_cell}")]).await;
            let differences = apart(town.differs(&[]));
            one(&differences, &[ada, "inventory under ada@", "of replica rep_", words]);
            town.execute(&[
                &format!("delete from usage_cell where {one_cell}"),
                "insert into usage_cell select * from aside",
                "drop table aside",
            ])
            .await;
        }
        town.execute(&[&format!("create table aside as select * from usage_cell where {one_cell}"), &format!("delete from usage_cell where {one_cell}")]).await;
        one(&town.differs(&["--period", "2026-01"]), &["the ledger has no cell", ada, "count in it"]);
        town.execute(&["insert into usage_cell select * from aside", "update aside set key_id = 'another'", "insert into usage_cell select * from aside"]).await;
        one(&town.differs(&[]), &["the ledger has a cell", "by key another", "but no record counts in it"]);
        town.execute(&["delete from usage_cell where key_id = 'another'", "drop table aside"]).await;
        town.run(&["usage", "verify"]).ok();

        // The books.
        town.unguard("money_entry", &["money_entry_final", "money_entry_kept"]).await;
        town.unguard("money_transaction", &["money_transaction_final", "money_transaction_kept"]).await;
        let id = town.invoice(1, "2026-01")["id"].as_str().unwrap().to_owned();
        let transaction = format!("invoice:{id}");
        let of = format!("transaction_id = '{transaction}' and account = 'revenue'");
        town.execute(&[&format!("update money_entry set amount = amount - 1 where {of}")]).await;
        one(&town.differs(&[]), &[&transaction, "does not sum to zero, but to -1"]);
        town.execute(&[&format!("update money_entry set amount = amount - 1 where transaction_id = '{transaction}' and account = 'receivable'")]).await;
        town.execute(&[&format!("update money_entry set amount = amount + 2 where {of}")]).await;
        one(&town.differs(&[]), &[&transaction, "books receivable ", "but its document comes to"]);
        town.execute(&[&format!("update money_entry set amount = amount + 1 where transaction_id = '{transaction}' and account = 'receivable'")]).await;
        town.execute(&[&format!("update money_entry set amount = amount - 1 where {of}")]).await;
        town.run(&["usage", "verify"]).ok();
        town.execute(&[&format!("insert into money_entry (transaction_id, account, amount) values ('{transaction}', 'cash', 5)")]).await;
        one(&town.differs(&[]), &[&transaction, "but to 5 minor units of EUR"]);
        town.execute(&["delete from money_entry where account = 'cash' and amount = 5"]).await;
        town.execute(&[
            "insert into money_transaction (id, kind, document_id, partner_id, currency, posted_at) values ('void:inv_none', 'void', 'inv_none', 'x', 'EUR', 1)",
        ])
        .await;
        one(&town.differs(&[]), &["void:inv_none", "which is not there"]);
        town.execute(&["delete from money_transaction where document_id = 'inv_none'"]).await;
        town.execute(&[
            &format!("create table entries as select * from money_entry where transaction_id = '{transaction}'"),
            &format!("create table transactions as select * from money_transaction where id = '{transaction}'"),
            &format!("delete from money_entry where transaction_id = '{transaction}'"),
            &format!("delete from money_transaction where id = '{transaction}'"),
        ])
        .await;
        one(&town.differs(&[]), &[&format!("{id} is not booked: the transaction {transaction} is missing")]);
        town.execute(&[
            "insert into money_transaction select * from transactions",
            "insert into money_entry select * from entries",
        ])
        .await;
        town.run(&["usage", "verify"]).ok();

        // Documents.
        town.unguard("invoice", &["invoice_final", "invoice_kept"]).await;
        town.unguard("invoice_line", &["invoice_line_final", "invoice_line_kept", "invoice_line_closed"]).await;
        let document = town.invoice(1, "2026-02");
        let (id, number) = (document["id"].as_str().unwrap(), document["number"].as_str().unwrap());
        let body = town.text(&format!("select body from invoice where id = '{id}'")).await;
        let sha256 = town.text(&format!("select sha256 from invoice where id = '{id}'")).await;
        let store = async |body: &str, sha256: &str| {
            let body = body.replace('\'', "''");
            town.execute(&[&format!("update invoice set body = '{body}', sha256 = '{sha256}' where id = '{id}'")]).await;
        };
        store(&body.replace("\"name\":\"Bob\"", "\"name\":\"Rob\""), &sha256).await;
        one(&town.differs(&[]), &[number, "its document hashes to"]);
        let lines = document["lines"].as_array().unwrap();
        let place = lines.iter().position(|line| line["kind"] == "usage" && line["meter"] == "inventory").unwrap();
        let units = lines[place]["units"].as_u64().unwrap();
        let with = body.replace(&format!("\"units\":{units},\"pricing\""), &format!("\"units\":{},\"pricing\"", units + 1));
        assert_ne!(with, body);
        store(&with, &hex(&Sha256::digest(with.as_bytes()))).await;
        let differences = town.differs(&["--period", "2026-02"]);
        one(&differences, &[number, "made anew from the archive it is another", &format!("line {} of the invoice (usage of inventory under bob@1 for 2026-02)", place + 1)]);
        let root = document["evidence"]["days"][0]["root"].as_str().unwrap();
        let with = body.replace(root, &"0".repeat(64));
        store(&with, &hex(&Sha256::digest(with.as_bytes()))).await;
        one(&town.differs(&[]), &[number, "its evidence of day 2026-0", &"0".repeat(64)]);
        store(&body, &sha256).await;
        town.execute(&[&format!("update invoice_line set amount = amount + 1 where invoice_id = '{id}' and line = 1")]).await;
        one(&town.differs(&[]), &[number, "line 1 of the invoice", "the database's row is another"]);
        town.execute(&[&format!("update invoice_line set amount = amount - 1 where invoice_id = '{id}' and line = 1")]).await;
        town.execute(&[&format!("update invoice set total = total + 1 where id = '{id}'")]).await;
        one(&town.differs(&[]), &[number, "the document's total in minor units is"]);
        town.execute(&[&format!("update invoice set total = total - 1 where id = '{id}'")]).await;

        // Numbers, watermarks.
        town.unguard("number_series", &["number_series_steps", "number_series_kept"]).await;
        town.execute(&["update number_series set taken = taken + 1 where id = 'invoice'"]).await;
        let differences = town.differs(&[]);
        one(&differences, &["the series of invoices gave out 6 numbers, but 5 are used"]);
        one(&differences, &["the number that ends in 000006 is missing among invoices"]);
        town.execute(&["update number_series set taken = taken - 1 where id = 'invoice'"]).await;
        town.execute(&["update journal_watermark set sequence = sequence + 3 where epoch = 1"]).await;
        one(&town.differs(&[]), &["records 1/", "are in the ledger, but neither in the archive nor in this data folder"]);
        town.execute(&["update journal_watermark set sequence = sequence - 6 where epoch = 1"]).await;
        one(&town.differs(&[]), &["holds records up to 1/", "but the ledger's watermark stands at 1/"]);
        town.execute(&["update journal_watermark set sequence = sequence + 3 where epoch = 1"]).await;
        town.run(&["usage", "verify"]).ok();
    }
}
