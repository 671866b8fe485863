//! A partner's bundle and its invoice, checked offline. Both are made here by plain arithmetic, never by the code that is tested.

use std::collections::BTreeMap;

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tollgate::billing::verify::bundle::check;

use crate::support::{full, rng};

const PARTNER: &str = "pt_01mine";
/// November as Kathmandu has it.
const FROM: &str = "2026-10-31T18:15:00.000Z";
const TO: &str = "2026-11-30T18:15:00.000Z";
const SECOND: i64 = 1_000_000;

fn micros(text: &str) -> i64 {
    text.parse::<jiff::Timestamp>().unwrap().as_microsecond()
}

fn hash(parts: &[&[u8]]) -> Vec<u8> {
    Sha256::digest(parts.concat()).to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// RFC 6962, 2.1, word by word.
fn merkle(leaves: &[Vec<u8>]) -> Vec<u8> {
    match leaves.len() {
        0 => hash(&[]),
        1 => hash(&[&[0], &leaves[0]]),
        n => {
            let mut k = 1;
            while k * 2 < n {
                k *= 2;
            }
            hash(&[&[1], &merkle(&leaves[..k]), &merkle(&leaves[k..])])
        }
    }
}

/// A record, and what this test knows of it.
struct Made {
    at: i64,
    plan: &'static str,
    inventory: u64,
    waived: u64,
    json: String,
}

fn record(rng: &mut ChaCha8Rng, n: usize, at: i64) -> Made {
    let plan = if at < micros("2026-11-17T00:00:00Z") { "starter" } else { "big" };
    let (inventory, waived) = (rng.random_range(0..40), if rng.random_bool(0.2) { rng.random_range(1..9) } else { 0 });
    let units = if inventory > 0 { format!("\"inventory\":{inventory}") } else { String::new() };
    let waived_units = if waived > 0 { format!(",\"waivedUnits\":{{\"inventory\":{waived}}}") } else { String::new() };
    let json = format!(
        "{{\"v\":1,\"request\":\"req_{n:026}\",\"at\":{at},\"partner\":\"{PARTNER}\",\"key\":\"k1\",\"mode\":\"live\",\
         \"plan\":\"{plan}\",\"planVersion\":1,\"units\":{{{units}}}{waived_units}}}"
    );
    Made { at, plan, inventory, waived, json }
}

/// Cents out of hundredths of cents, half away from zero.
fn cents(hundredths: i128) -> i128 {
    (hundredths.abs() + 50) / 100 * hundredths.signum()
}

fn text(cents: i128) -> String {
    format!("{}{}.{:02}", if cents < 0 { "-" } else { "" }, cents.abs() / 100, cents.abs() % 100)
}

/// A decimal of four places without zeros at its end.
fn exact(hundredths: i128) -> String {
    let text = format!("{}.{:04}", hundredths / 10_000, hundredths % 10_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

struct Case {
    bundle: String,
    invoice: Value,
}

/// A month with a change of plan, a trial until `trial_end`, and some late records of October.
fn case(rng: &mut ChaCha8Rng, count: usize, trial_end: Option<&str>) -> Case {
    let (from, to) = (micros(FROM), micros(TO));
    let mut records = Vec::new();
    for n in 0..count {
        let at = rng.random_range(from..to) / SECOND * SECOND;
        records.push(("2026-11", record(rng, n, at.max(from))));
    }
    for n in 0..count / 10 {
        let at = from - rng.random_range(1..9 * 86_400) * SECOND;
        records.push(("2026-10", record(rng, count + n, at)));
    }
    records.sort_by_key(|(period, made)| (*period, made.at, made.json.clone()));
    let mut days: BTreeMap<(&str, String), Vec<&Made>> = BTreeMap::new();
    for (period, made) in &records {
        let day = jiff::Timestamp::from_microsecond(made.at).unwrap().to_string()[..10].to_owned();
        days.entry((period, day)).or_default().push(made);
    }
    let mut bundle = format!(
        "{{\"tollgate\":\"usage\",\"v\":1,\"partner\":\"{PARTNER}\",\"period\":\"2026-11\",\"from\":\"{FROM}\",\"to\":\"{TO}\",\
         \"invoiceId\":\"inv_1\",\"invoice\":\"T-000007\"}}\n"
    );
    let (mut evidence, mut roots) = (Vec::new(), Vec::new());
    for ((period, day), of) in &days {
        bundle += &format!("{{\"period\":\"{period}\",\"day\":\"{day}\",\"records\":{}}}\n", of.len());
        of.iter().for_each(|made| bundle += &format!("{}\n", made.json));
        let root = merkle(&of.iter().map(|made| made.json.clone().into_bytes()).collect::<Vec<_>>());
        evidence.push(json!({ "period": period, "day": day, "records": of.len(), "root": hex(&root) }));
        roots.push(root);
    }
    let trial_end = trial_end.map_or(i64::MIN, micros);
    let sum = |period: &str, plan: &str, of: fn(&Made, bool) -> u64| -> u64 {
        let of_plan = records.iter().filter(|(its, made)| *its == period && made.plan == plan);
        of_plan.map(|(_, made)| of(made, made.at < trial_end)).sum()
    };
    let mut lines: Vec<Value> = Vec::new();
    let mut subtotal = 0;
    let mut add = |period: &str, plan: &str, kind: &str, meter: &str, more: Value, amount: i128| {
        let mut line = json!({ "kind": kind, "period": period, "plan": format!("{plan}@1"), "planName": plan,
            "meter": meter, "description": "Units", "amount": text(amount) });
        if meter == "inventory" {
            line["product"] = json!("inventory");
        }
        line.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        subtotal += amount;
        lines.push(line);
    };
    let billed = 3;
    for (period, plan) in [("2026-11", "starter"), ("2026-11", "big"), ("2026-10", "starter")] {
        let rated = sum(period, plan, |made, trial| if trial { 0 } else { made.inventory });
        let trial = sum(period, plan, |made, trial| if trial { made.inventory + made.waived } else { 0 });
        let waived = sum(period, plan, |made, trial| if trial { 0 } else { made.waived });
        let requests = sum(period, plan, |_, trial| u64::from(!trial));
        let trial_requests = sum(period, plan, |_, trial| u64::from(trial));
        // October was billed before without the late ones: 3 units, all of them included.
        let before = if period == "2026-10" { billed } else { 0 };
        let units = rated + before;
        let mut more = if plan == "starter" {
            // 50 included; the first hundred at 0.0333, the next two hundred at 0.02, the rest at 0.0101.
            let b = units.saturating_sub(50);
            let mut steps = Vec::new();
            let mut exactly = 0;
            for (first, last, price) in [(1, Some(100), 333_i128), (101, Some(300), 200), (301, None, 101)] {
                if first > 1 && b < first {
                    break;
                }
                let quantity = last.map_or(b, |last| b.min(last)) - (first - 1).min(b);
                let amount = i128::from(quantity) * price;
                let mut step = json!({ "from": first, "quantity": quantity, "price": exact(price), "amount": exact(amount) });
                if let Some(last) = last {
                    step["to"] = json!(last);
                }
                steps.push(step);
                exactly += amount;
            }
            let pricing = json!({ "model": "graduated", "included": 50, "steps": steps });
            (json!({ "units": units, "pricing": pricing }), cents(exactly))
        } else {
            let packages = units.div_ceil(25);
            let amount = i128::from(packages) * 12_345;
            let step = json!({ "quantity": packages, "package": 25, "price": exact(12_345), "amount": exact(amount) });
            (json!({ "units": units, "pricing": { "model": "package", "included": 0, "steps": [step] } }), cents(amount))
        };
        if before > 0 {
            more.0["billedBefore"] = json!({ "units": before, "amount": "0.00", "invoices": ["T-000006"] });
        }
        // Nothing new of an earlier month: left out.
        if before == 0 || rated > 0 {
            add(period, plan, "usage", "inventory", more.0, more.1);
        }
        if requests > 0 {
            let free = json!({ "units": requests + before, "pricing": { "model": "none", "included": 0, "steps": [] } });
            let mut free = free;
            if before > 0 {
                free["billedBefore"] = json!({ "units": before, "amount": "0.00", "invoices": ["T-000006"] });
            }
            add(period, plan, "usage", "requests", free, 0);
        }
        for (kind, meter, units) in
            [("trial", "inventory", trial), ("trial", "requests", trial_requests), ("waived", "inventory", waived)]
        {
            if units > 0 {
                let value = if kind == "waived" { json!({ "units": units, "value": "0.07" }) } else { json!({ "units": units }) };
                add(period, plan, kind, meter, value, 0);
            }
        }
    }
    let tax = cents(subtotal * 19);
    let invoice = json!({
        "v": 1, "id": "inv_1", "number": "T-000007", "issuedAt": "2026-12-03T09:00:00.000Z", "dueOn": "2026-12-17",
        "period": { "month": "2026-11", "from": FROM, "to": TO, "timezone": "Asia/Kathmandu" },
        "seller": { "name": "S", "address": [] }, "buyer": { "name": "B", "address": [] }, "partner": PARTNER,
        "currency": "EUR", "lines": lines, "subtotal": text(subtotal), "tax": { "rate": "19", "amount": text(tax) },
        "total": text(subtotal + tax),
        "evidence": { "root": hex(&merkle(&roots)), "records": records.len(), "days": evidence },
    });
    Case { bundle, invoice }
}

impl Case {
    fn check(&self) -> Result<String, String> {
        run(self.bundle.as_bytes(), &self.invoice)
    }
}

fn run(bundle: &[u8], invoice: &Value) -> Result<String, String> {
    let held = check(bundle, invoice.to_string().as_bytes());
    held.map(|held| held.to_string()).map_err(|error| format!("{error:#}"))
}

#[test]
fn a_bundle_that_is_what_the_invoice_bills_holds() {
    let (_, mut rng) = rng("bundles");
    for trial_end in [None, Some("2026-11-08T18:15:00Z"), Some("2026-11-20T18:15:00Z"), Some("2027-01-01T00:00:00Z")] {
        for count in [0, 1, 30, 400] {
            let case = case(&mut rng, count, trial_end);
            let said = case.check().unwrap_or_else(|error| panic!("{trial_end:?} {count}: {error}\n{:#}", case.invoice));
            assert!(said.contains("T-000007") && said.lines().count() == 4, "{said}");
        }
    }
}

#[test]
fn a_bundle_that_was_changed_anywhere_fails() {
    let (seed, mut rng) = rng("changed bundles");
    let case = case(&mut rng, 60, Some("2026-11-08T18:15:00Z"));
    case.check().unwrap();
    let bytes = case.bundle.as_bytes();
    let lines: Vec<&str> = case.bundle.lines().collect();
    let rounds = if full() { 50_000 } else { 4_000 };
    for round in 0..rounds {
        let place = rng.random_range(0..lines.len());
        let mut changed: Vec<&str> = lines.clone();
        let other;
        let bundle = match rng.random_range(0..7) {
            0 => {
                changed.remove(place);
                changed.join("\n") + "\n"
            }
            1 => {
                changed.insert(place, lines[place]);
                changed.join("\n") + "\n"
            }
            2 => {
                let with = rng.random_range(0..lines.len());
                if with == place {
                    continue;
                }
                changed.swap(place, with);
                changed.join("\n") + "\n"
            }
            3 => {
                other = lines[place].replace(PARTNER, "pt_02other");
                changed.insert(place, &other);
                changed.join("\n") + "\n"
            }
            4 => case.bundle[..rng.random_range(0..bytes.len())].to_owned(),
            _ => {
                let mut changed = bytes.to_vec();
                let at = rng.random_range(0..changed.len());
                changed[at] ^= rng.random_range(1..=255_u8);
                let error = run(&changed, &case.invoice);
                assert!(error.is_err(), "TOLLGATE_TEST_SEED={seed} round {round}: byte {at} was changed");
                continue;
            }
        };
        assert!(run(bundle.as_bytes(), &case.invoice).is_err(), "TOLLGATE_TEST_SEED={seed} round {round}: line {place}");
    }
}

/// Paths of all values that an offline check can hold against something.
fn checked(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            let nothing = |field: &str| value[field] == json!(0);
            for (name, field) in fields {
                let is_checked = match name.as_str() {
                    "number" | "issuedAt" | "dueOn" | "planName" | "description" | "timezone" | "value" | "invoices" => false,
                    "name" | "address" | "kind" | "plan" | "product" | "rate" => false,
                    // Where a unit more changes nothing: what nobody used may cost anything.
                    "price" => !nothing("quantity"),
                    "from" | "to" | "package" | "included" => path == "/period",
                    _ => true,
                };
                if is_checked {
                    checked(field, &format!("{path}/{name}"), found);
                }
            }
        }
        Value::Array(items) => {
            (0..).zip(items).for_each(|(place, item): (usize, _)| checked(item, &format!("{path}/{place}"), found))
        }
        _ => found.push(path.to_owned()),
    }
}

#[test]
fn an_invoice_with_a_changed_amount_or_count_or_hash_fails() {
    let (seed, mut rng) = rng("changed invoices");
    for round in 0..if full() { 400 } else { 40 } {
        let case = case(&mut rng, 80, (round % 2 == 1).then_some("2026-11-08T18:15:00Z"));
        case.check().unwrap();
        let mut paths = Vec::new();
        checked(&case.invoice, "", &mut paths);
        assert!(paths.iter().any(|path| path.ends_with("/amount")) && paths.iter().any(|path| path.ends_with("/units")));
        for path in paths {
            let mut invoice = case.invoice.clone();
            let value = invoice.pointer_mut(&path).unwrap();
            *value = match &*value {
                Value::Number(number) => json!(number.as_u64().unwrap() + 1),
                Value::String(text) => {
                    let mut bytes = text.clone().into_bytes();
                    let digits: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at].is_ascii_alphanumeric()).collect();
                    let at = *digits.choose(&mut rng).unwrap();
                    bytes[at] = if bytes[at] == b'1' { b'2' } else { b'1' };
                    json!(String::from_utf8(bytes).unwrap())
                }
                other => panic!("{path}: {other}"),
            };
            let said = run(case.bundle.as_bytes(), &invoice);
            assert!(
                said.is_err(),
                "TOLLGATE_TEST_SEED={seed} round {round}: {path} was changed to {}",
                invoice.pointer(&path).unwrap()
            );
        }
    }
}

#[test]
fn it_is_said_where_they_part() {
    let (_, mut rng) = rng("where");
    let case = case(&mut rng, 60, None);
    let line = case.bundle.lines().position(|line| line.contains("\"at\"")).unwrap();
    let with = |from: &str, to: &str| {
        let mut lines: Vec<String> = case.bundle.lines().map(str::to_owned).collect();
        assert!(lines[line].contains(from));
        lines[line] = lines[line].replace(from, to);
        run((lines.join("\n") + "\n").as_bytes(), &case.invoice).unwrap_err()
    };
    let number = format!("line {} of the bundle, a record of day 2026-10-", line + 1);
    let error = with(PARTNER, "pt_02other");
    assert!(error.starts_with(&number) && error.contains("it is of the partner pt_02other"), "{error}");
    let error = with("\"live\"", "\"test\"");
    assert!(error.starts_with(&number) && error.contains("test key"), "{error}");
    let error = with("\"key\":\"k1\"", "\"key\":\"k2\"");
    assert!(error.contains("of 2026-10, lines 3 to ") && error.contains("a record was changed"), "{error}");
    let mut invoice = case.invoice.clone();
    invoice["lines"][0]["amount"] = json!("999.00");
    let error = run(case.bundle.as_bytes(), &invoice).unwrap_err();
    assert!(error.starts_with("line 1 of the invoice (usage of inventory under starter@1 for 2026-11): "), "{error}");
    let mut invoice = case.invoice.clone();
    invoice["total"] = json!("999.00");
    assert!(run(case.bundle.as_bytes(), &invoice).unwrap_err().contains("but the total says 999.00"));
    for nonsense in ["", "{", "null", "[1]"] {
        assert!(check(nonsense.as_bytes(), case.invoice.to_string().as_bytes()).is_err());
        assert!(check(case.bundle.as_bytes(), nonsense.as_bytes()).is_err());
    }
}
