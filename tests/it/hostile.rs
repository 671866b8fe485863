//! Input that is meant to hurt: none of it aborts the process, and each gets its words.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Database, Gateway, Kind, Process, graphql, plan, tollgate};

/// hazards.md, async-graphql: 3.4 KB overflow the parser's stack; 952 bytes keep the validator busy for a minute; a field
/// repeated beside many arguments fills the memory.
fn documents() -> Vec<(&'static str, String)> {
    let chain = |depth: usize| {
        let mut text = String::from("{ viewer { ...F0 } } ");
        for n in 0..depth {
            text.push_str(&format!("fragment F{n} on Viewer {{ ...F{} ...F{} }} ", n + 1, n + 1));
        }
        text + &format!("fragment F{depth} on Viewer {{ name }}")
    };
    let repeated = {
        let arguments: String = (0..600).map(|n| format!("a{n}:1 ")).collect();
        format!("{{ viewer {{ name({arguments}) {} }} }}", "name ".repeat(1800))
    };
    vec![
        ("nested lists", format!("{{ product(sku: {}1{}) {{ sku }} }}", "[".repeat(1700), "]".repeat(1700))),
        ("nested objects", format!("{{ product(sku: {}1{}) {{ sku }} }}", "{a:".repeat(1300), "}".repeat(1300))),
        ("nested selections", format!("{}x{}", "{a".repeat(2000), "}".repeat(2000))),
        ("unclosed brackets", "[".repeat(8000)),
        ("doubling fragments", chain(24)),
        ("more doubling fragments", chain(45)),
        ("a fragment circle", "{ viewer { ...A } } fragment A on Viewer { ...B } fragment B on Viewer { ...A }".to_owned()),
        ("a field repeated beside many arguments", repeated),
        ("many aliases", format!("{{ {} }}", (0..2000).map(|n| format!("a{n}:__typename ")).collect::<String>())),
        ("many directives", format!("{{ __typename {} }}", "@skip(if: false) ".repeat(500))),
        ("a long text", " ".repeat(40_000) + "{ __typename }"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_documents_are_refused_in_words_and_the_gateway_lives() {
    let database = Database::new(Kind::Sqlite).await;
    let gateway = Gateway::start(&database).await;
    let partner = gateway.partner("P", "wide", &[]).await;
    let url = gateway.url("/graphql");
    for (name, document) in documents() {
        let asked = graphql(&gateway.http, &url, &partner.key, json!({ "query": document }));
        let (status, answer) = tokio::time::timeout(Duration::from_secs(20), asked).await.expect(name);
        assert_eq!(
            (status, answer["errors"][0]["extensions"]["code"].as_str()),
            (400, Some("QUERY_TOO_COMPLEX")),
            "{name}: {answer}"
        );
        assert!(answer.get("data").is_none(), "{name}: {answer}");
    }
    let answer = gateway.query(&partner.key, "{ viewer { name } }").await;
    assert_eq!(answer["data"]["viewer"]["name"], "P");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_reads_a_bounded_number_of_rows() {
    let database = Database::new(Kind::Sqlite).await;
    let gateway = Gateway::start(&database).await;
    let partner = gateway.partner("P", "wide", &[]).await;
    // 40 × 50 rows, free of charge.
    let skus: Vec<String> = (0..50).map(|n| format!("S{n}")).collect();
    let query = format!(
        "query($s: [ID!]!) {{ {} }}",
        (0..40).map(|n| format!("f{n}: products(skus: $s) {{ sku }} ")).collect::<String>()
    );
    let (_, answer) =
        graphql(&gateway.http, &gateway.url("/graphql"), &partner.key, json!({ "query": query, "variables": { "s": skus } }))
            .await;
    assert_eq!(answer["errors"][0]["extensions"]["code"], "QUERY_TOO_COMPLEX", "{answer}");
    // Errors are dear to make: 100 rows × 90 fields that are going to fail, for no units.
    let fields: String = (0..90).map(|n| format!("a{n}: priceHistory(market: \"X\", first: 0) {{ amount }} ")).collect();
    let skus: Vec<String> = (0..100).map(|n| format!("S{n}")).collect();
    let body =
        json!({ "query": format!("query($s: [ID!]!) {{ products(skus: $s) {{ {fields} }} }}"), "variables": { "s": skus } });
    let (status, answer) = graphql(&gateway.http, &gateway.url("/graphql"), &partner.key, body).await;
    assert_eq!((status, &answer["errors"][0]["extensions"]["code"]), (400, &json!("QUERY_TOO_COMPLEX")), "{answer}");
    let too_many: Vec<String> = (0..101).map(|n| format!("S{n}")).collect();
    let body = json!({ "query": "query($s: [ID!]!) { products(skus: $s) { sku } }", "variables": { "s": too_many } });
    let (_, answer) = graphql(&gateway.http, &gateway.url("/graphql"), &partner.key, body).await;
    assert_eq!(answer["errors"][0]["extensions"]["code"], "BAD_USER_INPUT", "{answer}");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_no_graphql_are_told_why() {
    let database = Database::new(Kind::Sqlite).await;
    let gateway = Gateway::start(&database).await;
    let partner = gateway.partner("P", "wide", &[]).await;
    let url = gateway.url("/graphql");
    let large = json!({ "query": "x".repeat(70_000) }).to_string();
    for (kind, body, status, code, words) in [
        ("text/plain", "{\"query\":\"{a}\"}", 415, "BAD_USER_INPUT", "application/json"),
        ("application/x-www-form-urlencoded", "query={a}", 415, "BAD_USER_INPUT", "application/json"),
        ("application/json", "[{\"query\":\"{a}\"}]", 400, "BAD_USER_INPUT", "batches are not taken"),
        ("application/json", "{\"query\":", 400, "BAD_USER_INPUT", "not a GraphQL request"),
        ("application/json", "{\"query\":5}", 400, "BAD_USER_INPUT", "not a GraphQL request"),
        ("application/json", "{\"query\":\"{a}\",\"variables\":[]}", 400, "BAD_USER_INPUT", "not a GraphQL request"),
        ("application/json", "{\"query\":\"{ a \"}", 400, "GRAPHQL_PARSE_FAILED", "not GraphQL"),
        ("application/json", "{\"query\":\"{ viewer { name \"}", 400, "GRAPHQL_PARSE_FAILED", " at 1:"),
        ("application/json", "[\"{viewer{name}}\",null,null,null]", 400, "BAD_USER_INPUT", "batches are not taken"),
        (
            "application/json",
            "{\"query\":\"query($s: ID!) { product(sku: $s) { sku } }\"}",
            400,
            "BAD_USER_INPUT",
            "$s of type ID! is missing",
        ),
        ("application/json", "{\"query\":\"{ nothing }\"}", 400, "GRAPHQL_VALIDATION_FAILED", "nothing"),
        ("application/json", "{\"query\":\"{ product { sku } }\"}", 400, "GRAPHQL_VALIDATION_FAILED", "sku"),
        (
            "application/json",
            "{\"query\":\"query A { __typename } query B { __typename }\"}",
            400,
            "BAD_USER_INPUT",
            "several operations",
        ),
        ("application/json", &large, 413, "BAD_USER_INPUT", "more than 65536 bytes"),
    ] {
        let request = gateway.http.post(&url).bearer_auth(&partner.key).header("content-type", kind);
        let response = request.header("accept", "application/graphql-response+json").body(body.to_owned()).send().await.unwrap();
        assert_eq!(response.status(), status, "{body:.60}");
        let answer: Value = response.json().await.unwrap();
        let error = &answer["errors"][0];
        assert_eq!(error["extensions"]["code"], code, "{answer}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(words) && !message.contains('\n'), "{message}");
        assert!(answer.get("data").is_none());
    }
    // Nested variables come as far as the JSON reader's own bound.
    let nested = format!("{{\"query\":\"{{a}}\",\"variables\":{{\"x\":{}1{}}}}}", "[".repeat(20_000), "]".repeat(20_000));
    let response = gateway
        .http
        .post(&url)
        .bearer_auth(&partner.key)
        .header("content-type", "application/json")
        .body(nested)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 400);
    // Legacy clients get document errors with 200, as GraphQL over HTTP has it; limits keep their status.
    let legacy = gateway.http.post(&url).bearer_auth(&partner.key).json(&json!({ "query": "{ nothing }" })).send().await.unwrap();
    assert_eq!(
        (legacy.status().as_u16(), legacy.headers()["content-type"].to_str().unwrap()),
        (200, "application/json; charset=utf-8")
    );
    assert_eq!(gateway.http.get(gateway.url("/nothing")).send().await.unwrap().status(), 404);
    gateway.running.app.ship().await.unwrap();
    assert_eq!(database.number("select count(*) from usage_cell").await, 0, "what did not run is not usage");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_finishes_is_let_go() {
    let database = Database::new(Kind::Sqlite).await;
    let gateway = Gateway::start_with(&database, |settings| {
        settings.server.header_timeout = Duration::from_millis(300);
        settings.server.body_timeout = Duration::from_millis(300);
    })
    .await;
    let partner = gateway.partner("P", "wide", &[]).await;
    let talk = async |text: String| {
        let mut stream = TcpStream::connect(gateway.running.address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        tokio::time::timeout(Duration::from_secs(20), read).await.expect("the connection stays open").unwrap();
        answer
    };
    talk("POST /graphql HTTP/1.1\r\nHost: x\r\nX-Slow: ".to_owned()).await;
    talk(String::new()).await;
    talk("PRI * HT".to_owned()).await;
    let idle_http2 = tokio::time::timeout(Duration::from_secs(20), async {
        let mut stream = TcpStream::connect(gateway.running.address).await.unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        // Frames come, pings among them; the end must come too.
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer).await);
    });
    idle_http2.await.expect("an idle HTTP/2 connection stays open");
    let body = talk(format!(
        "POST /graphql HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{{",
        partner.key
    ))
    .await;
    assert!(body.starts_with("HTTP/1.1 408 "), "{body}");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_of_documents_takes_as_much_memory_as_the_setting_says() {
    let database = Database::new(Kind::Sqlite).await;
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.arg("serve").env("TOLLGATE__GATE__DOCUMENTS_BYTES_MAX", "8388608");
    let process = Process::start(command, &database);
    tollgate(&database, &["plan", "apply", database.file("plan.toml", &plan("p", "")).to_str().unwrap()]).ok();
    tollgate(&database, &["partner", "create", "Ada", "--plan", "p"]).ok();
    let key = tollgate(&database, &["key", "issue", "Ada"]).ok().trim().to_owned();
    let (http, url) = (reqwest::Client::new(), format!("http://{}/graphql", process.address));
    // Small documents of many operations that spread one large fragment, each under 16 combinations of conditions.
    let fields: String = (0..60).map(|n| format!("a{n}: title ")).collect();
    let variables: String = (0..4).map(|n| format!("$c{n}: Boolean! ")).collect();
    let spreads: String = (0..4).map(|n| format!("s{n}: product(sku: \"A\") @include(if: $c{n}) {{ ...F }} ")).collect();
    let ask = async |round: usize| {
        let operations: String = (0..8).map(|n| format!("query O{n}({variables}) {{ viewer {{ name }} {spreads} }} ")).collect();
        let text = format!("# {round}\n{operations} fragment F on Product {{ {fields} }}");
        for (operation, bits) in (0..8).flat_map(|operation| (0..16).map(move |bits| (operation, bits))) {
            let variables: Value =
                (0..4).map(|n| (format!("c{n}"), Value::Bool(bits >> n & 1 == 1))).collect::<serde_json::Map<_, _>>().into();
            let body = json!({ "query": text, "operationName": format!("O{operation}"), "variables": variables });
            let (status, answer) = graphql(&http, &url, &key, body).await;
            assert_eq!(status, 200, "{answer}");
        }
    };
    ask(0).await;
    let before = resident_bytes(&process.pid());
    for round in 1..=20 {
        ask(round).await;
    }
    let grown = resident_bytes(&process.pid()).saturating_sub(before);
    println!("{} MB more after 20 documents of 128 variants", grown >> 20);
    // The setting, and what an allocator leaves between things. Kept whole, they would take some 400 MB.
    assert!(grown < 64 << 20, "{} MB more", grown >> 20);
    process.terminate();
}

fn resident_bytes(pid: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}
