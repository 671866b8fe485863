//! Files by command and over HTTP: the same bytes, in the formats that accountants take, and a sentence where there is nothing.

use serde_json::{Value, json};
use tollgate::operator::{Issuer, Role};

use super::sample::sha256;
use super::shelf::{EVE, Shelf};
use crate::support::{Answer, Gateway, on_both_databases, tollgate};

/// A gateway on the shelf's database, and the header of a token for it.
async fn serve(shelf: &Shelf) -> (Gateway, String) {
    let gateway = Gateway::start(&shelf.database).await;
    let issuer = Issuer::open(&shelf.database.data_dir(), &mut rand::rng()).unwrap();
    let now = gateway.running.app.clock.now();
    let token = issuer.issue(Role::Finance, std::time::Duration::from_secs(600), now, &mut rand::rng()).unwrap();
    (gateway, token)
}

async fn get(gateway: &Gateway, token: &str, path: &str) -> reqwest::Response {
    let url = format!("http://{}{path}", gateway.running.operator_address);
    gateway.http.get(url).bearer_auth(token).send().await.unwrap()
}

fn header<'a>(response: &'a reqwest::Response, name: &str) -> &'a str {
    response.headers()[name].to_str().unwrap()
}

fn rows(csv: &str) -> Vec<Vec<String>> {
    let mut reader = ::csv::ReaderBuilder::new().has_headers(false).from_reader(csv.as_bytes());
    reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect()
}

/// The cells of a column.
fn column(rows: &[Vec<String>], name: &str) -> Vec<String> {
    let place = rows[0].iter().position(|head| head == name).unwrap();
    rows[1..].iter().map(|row| row[place].clone()).collect()
}

on_both_databases! {
    async fn command_and_http_give_the_same_files(database: Database) {
        let shelf = Shelf::new(database).await;
        let (gateway, token) = serve(&shelf).await;
        let period = shelf.period.clone();
        let number = shelf.text("number", &shelf.ada).await;

        // All of a month: three invoices that count, one void, three credit notes; the draft stays out.
        let csv = shelf.run(&["invoice", "export", "--period", &period]);
        let answer = get(&gateway, &token, &format!("/exports/invoices?period={period}&format=csv")).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(header(&answer, "content-type"), "text/csv; charset=utf-8; header=present");
        assert_eq!(header(&answer, "content-disposition"), format!("attachment; filename=\"invoices-{period}.csv\""));
        assert_eq!(header(&answer, "cache-control"), "no-store");
        assert_eq!(answer.text().await.unwrap(), csv);
        let table = rows(&csv);
        assert_eq!(
            column(&table, "document"),
            ["invoice", "invoice", "credit_note", "credit_note", "invoice", "invoice", "invoice", "invoice", "credit_note", "invoice", "invoice"]
        );
        assert_eq!(column(&table, "amount")[..4], ["50.00", "11.25", "-1.25", "-10.00"]);
        assert_eq!(column(&table, "state").iter().filter(|state| *state == "void").count(), 2);
        assert!(!csv.contains(&shelf.dora));
        assert_eq!(column(&table, "buyer")[4], format!("'{EVE}"));
        assert_eq!(column(&table, "reason")[2], "'+1");

        let json = shelf.run(&["invoice", "export", "--period", &period, "--format", "json"]);
        let answer = get(&gateway, &token, &format!("/exports/invoices?period={period}&format=json")).await;
        assert_eq!(answer.text().await.unwrap(), json);
        let list: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(list.as_array().unwrap().len(), 7);
        assert_eq!((&list[0]["document"], &list[0]["state"]), (&json!("invoice"), &json!("finalized")));
        assert_eq!(list[1]["creditNote"]["net"], "1.25");
        let body = shelf.text("body", &shelf.ada).await;
        assert!(json.contains(&format!("\"invoice\":{body}}}")), "the bytes that were hashed stand in it");

        // One: exactly what was hashed, by number and by id, by command and over HTTP.
        for which in [&number, &shelf.ada] {
            assert_eq!(shelf.run(&["invoice", "export", "--invoice", which, "--format", "json"]), body);
            let answer = get(&gateway, &token, &format!("/exports/invoices?invoice={which}&format=json&period={period}")).await;
            assert_eq!(header(&answer, "content-disposition"), format!("attachment; filename=\"{number}.json\""));
            let answer = answer.text().await.unwrap();
            assert_eq!(sha256(&answer), shelf.text("sha256", &shelf.ada).await);
            assert_eq!(answer, body);
        }
        let note = shelf.run(&["invoice", "export", "--invoice", "CN-000001", "--format", "json"]);
        assert_eq!(serde_json::from_str::<Value>(&note).unwrap()["invoice"], number);

        let answer = get(&gateway, &token, &format!("/exports/invoices?invoice={number}&format=pdf")).await;
        assert_eq!(header(&answer, "content-type"), "application/pdf");
        assert_eq!(header(&answer, "content-disposition"), format!("attachment; filename=\"{number}.pdf\""));
        let pdf = answer.bytes().await.unwrap();
        let out = shelf.database.data_dir().join("out");
        let out = out.to_str().unwrap();
        let said = shelf.run(&["invoice", "export", "--period", &period, "--format", "pdf", "--out", out]);
        let paths: Vec<&str> = said.lines().collect();
        assert_eq!(paths.len(), 7, "{said}");
        assert_eq!(paths[0], format!("{out}/{number}.pdf"));
        assert_eq!(std::fs::read(paths[0]).unwrap(), pdf);
        assert_eq!(shelf.run(&["invoice", "export", "--out", out]), format!("{out}/invoices-{period}.csv\n"));
        assert_eq!(std::fs::read_to_string(format!("{out}/invoices-{period}.csv")).unwrap(), csv);
        let left: Vec<_> = std::fs::read_dir(out).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        assert_eq!(left.len(), 8, "{left:?}");

        // A draft, when it is asked for.
        let drafts = shelf.run(&["invoice", "export", "--state", "draft"]);
        assert_eq!(column(&rows(&drafts), "id"), [shelf.dora.clone(), shelf.dora.clone()]);

        let summary = get(&gateway, &token, &format!("/exports/revenue?period={period}&format=json")).await;
        assert_eq!(header(&summary, "content-disposition"), format!("attachment; filename=\"revenue-{period}.json\""));
        let by_command = shelf.run(&["invoice", "summary", "--period", &period, "--format", "json"]);
        assert_eq!(summary.json::<Value>().await.unwrap(), serde_json::from_str::<Value>(&by_command).unwrap());
        let summary = get(&gateway, &token, &format!("/exports/revenue?period={period}&format=csv")).await.text().await.unwrap();
        assert_eq!(column(&rows(&summary), "net"), ["-10.00", "100.00", "10.00", "4500", "21"]);
        gateway.stop().await;
    }

    async fn what_is_not_there_or_not_meant_is_told(database: Database) {
        let shelf = Shelf::new(database).await;
        let (gateway, token) = serve(&shelf).await;
        let period = shelf.period.clone();
        for (path, status, words) in [
            ("/exports/invoices".to_owned(), 400, "Say which format"),
            ("/exports/invoices?format=csv".to_owned(), 400, "Say which invoices: period=2026-11, or invoice=NUMBER."),
            ("/exports/invoices?period=2026-13&format=csv".to_owned(), 400, "\"2026-13\" is no period"),
            ("/exports/invoices?period=2026-11&format=xls".to_owned(), 400, "\"xls\" is no format: take csv, json or pdf."),
            ("/exports/invoices?period=2026-11&format=csv&state=open".to_owned(), 400, "\"open\" is no state: take draft, finalized, paid or void."),
            ("/exports/invoices?period=2026-11&fromat=csv".to_owned(), 400, "\"fromat\" is not known here"),
            ("/exports/invoices?period=2026-11&format=csv&format=pdf".to_owned(), 400, "stands there twice"),
            (format!("/exports/invoices?period={period}&format=pdf"), 400, "A PDF holds one document, and 4 were found"),
            ("/exports/invoices?period=2001-01&format=csv".to_owned(), 404, "There is no invoice of 2001-01"),
            (format!("/exports/invoices?period={period}&state=draft&invoice={}&format=csv", shelf.ada), 404, "is finalized, not draft."),
            (format!("/exports/invoices?period=2001-01&invoice={}&format=csv", shelf.ada), 404, "not of 2001-01."),
            ("/exports/invoices?invoice=INV-9&format=json".to_owned(), 404, "There is no invoice or credit note \"INV-9\"."),
            ("/exports/invoices?invoice=%27%22%0a%00&format=json".to_owned(), 404, "There is no invoice or credit note"),
            ("/exports/revenue?format=csv".to_owned(), 400, "Say which month"),
            ("/exports/revenue?period=2026-11&format=pdf".to_owned(), 400, "format=csv or format=json"),
            ("/exports/revenue?period=2001-01&format=csv".to_owned(), 404, "There is no finalized invoice of 2001-01."),
        ] {
            let answer = Answer::of(get(&gateway, &token, &path).await).await;
            assert_eq!(answer.status, status, "{path} {answer:?}");
            assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{path}");
            let detail = answer.json()["detail"].as_str().unwrap().to_owned();
            assert!(detail.contains(words), "{path} gave {detail}");
        }
        let url = format!("http://{}/exports/invoices", gateway.running.operator_address);
        let answer = Answer::of(gateway.http.post(url).bearer_auth(&token).send().await.unwrap()).await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")));
        let on_the_partners = gateway.http.get(gateway.url("/exports/invoices?period=2026-11&format=csv")).bearer_auth(&token);
        assert_eq!(on_the_partners.send().await.unwrap().status(), 404, "operators have a listener of their own");

        for (arguments, words) in [
            (vec!["--period", "2001-01"], "There is no invoice of 2001-01"),
            (vec!["--invoice", "INV-9"], "There is no invoice or credit note \"INV-9\"."),
            (vec!["--period", &period, "--format", "pdf"], "a PDF holds one document, and 4 were found: give --out DIR"),
            (vec!["--period", &period, "--out", "/proc/nowhere"], "cannot make the folder /proc/nowhere"),
        ] {
            let told = shelf.fails(&[&["invoice", "export"], &arguments[..]].concat());
            assert!(told.contains(words), "{told}");
        }
        assert_eq!(tollgate(&shelf.database, &shelf.arguments(&["invoice", "export", "--period", "2026-13"])).code, 2);

        // What was altered is not written.
        let mut connection = shelf.database.connect().await;
        let altered = "update invoice set body = replace(body, '\"EUR\"', '\"USD\"') where id = $1";
        sqlx::query(altered).bind(shelf.dora.as_str()).execute(&mut connection).await.unwrap();
        let told = shelf.fails(&["invoice", "export", "--invoice", &shelf.dora, "--format", "json"]);
        assert!(told.contains("it was altered, find out where with tollgate usage verify"), "{told}");
        let answer = Answer::of(get(&gateway, &token, &format!("/exports/invoices?invoice={}&format=json", shelf.dora)).await).await;
        assert_eq!((answer.status, answer.json()["code"].clone()), (500, json!("INTERNAL")));
        assert!(!answer.text.contains("USD"));
        gateway.stop().await;
    }
}
