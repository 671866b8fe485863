//! The demo, as somebody meets it: the pasted line works, and the bill shows exactly what was asked.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::{Database, Kind, counted, price, tollgate, upserted};

struct Demo {
    child: Child,
    banner: String,
}

impl Demo {
    fn start(database: &Database, arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(["demo", "--listen", "127.0.0.1:0"])
            .args(arguments)
            .envs(database.environment())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut banner = String::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            banner.push_str(&line);
            banner.push('\n');
            if line.contains("invoice preview") {
                break;
            }
        }
        Self { child, banner }
    }

    /// Runs the curl line as it was printed.
    fn paste(&self) -> Value {
        let line = self.banner.lines().find(|line| line.trim_start().starts_with("curl ")).expect(&self.banner);
        let output = Command::new("sh").args(["-c", line]).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
    }

    /// Ctrl-C.
    fn interrupt(mut self) {
        assert!(Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap().success());
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status:?}");
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pasted_line_answers_and_the_preview_shows_exactly_what_was_asked() {
    let database = Database::new(Kind::Sqlite).await;
    let demo = Demo::start(&database, &[]);
    for _ in 0..3 {
        let answer = demo.paste();
        let product = &answer["data"]["product"];
        assert!(product["inventory"]["onHand"].as_str().unwrap().parse::<i64>().is_ok(), "{answer}");
        assert!(product["price"]["amount"].as_str().unwrap().contains('.'), "{answer}");
        assert!(product["inventory"]["freshness"]["lagMs"].as_i64().unwrap() < 5000, "{answer}");
    }
    let previews: Value = serde_json::from_str(&tollgate(&database, &["invoice", "preview", "--format", "json"]).ok()).unwrap();
    let used = |preview: &Value| -> Vec<(String, u64, String)> {
        let lines = preview["lines"].as_array().unwrap().iter().filter(|line| line["kind"] == "usage");
        let text = |line: &Value, name: &str| line[name].as_str().unwrap().to_owned();
        lines.map(|line| (text(line, "meter"), line["units"].as_u64().unwrap(), text(line, "amount"))).collect()
    };
    let line = |meter: &str, units, amount: &str| (meter.to_owned(), units, amount.to_owned());
    // 3 × 0.0025 = 0.0075 → 0.01; 3 × 0.0040 = 0.0120 → 0.01.
    assert_eq!(used(&previews[0]), [line("inventory", 3, "0.01"), line("pricing", 3, "0.01"), line("requests", 3, "0.00")]);
    // Nothing of its first 1000 units was used, and 10.00 is the least that a month costs.
    assert_eq!(used(&previews[1]), [line("inventory", 0, "0.00")]);
    assert_eq!(previews[1]["totals"][0]["amount"], "10.00");
    demo.interrupt();

    // It begins again on the same folder; the old keys are no longer good, the bill goes on.
    let demo = Demo::start(&database, &["--seed", "2", "--rate", "500"]);
    assert!(demo.paste()["data"]["product"]["sku"].is_string());
    let previews: Value = serde_json::from_str(
        &tollgate(&database, &["invoice", "preview", "--partner", "Nordlicht Marketplace", "--format", "json"]).ok(),
    )
    .unwrap();
    assert_eq!(used(&previews[0])[0].1, 4);
    assert!(tollgate(&database, &["replay", "--verify"]).ok().contains("the same as the live store"));
    demo.interrupt();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_runs_on_a_file() {
    let database = Database::new(Kind::Sqlite).await;
    let events = [upserted("u", "it's", "Alba"), counted("c", "it's", "X", 42), price("p", "it's", "DE", "1.99")];
    let ndjson: String = events.iter().map(|event| format!("{event}\n")).collect();
    let demo = Demo::start(&database, &["--events", database.file("events.ndjson", &ndjson).to_str().unwrap()]);
    let answer = demo.paste();
    assert_eq!(answer["data"]["product"]["inventory"]["onHand"], "42", "{answer}");
    assert_eq!(answer["data"]["product"]["price"]["amount"], "1.99");
    demo.interrupt();
}
