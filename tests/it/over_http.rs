//! GraphQL over HTTP, as its specification has it: methods, media types, statuses. The npm package graphql-http audits a running
//! gateway where scripts/test could get it; [`audits`] holds the same rules for every machine, and the tests here go on where the
//! package stops.

mod ask;
mod audits;

use std::process::Command;

use axum::http::Method;
use axum::http::header::{ACCEPT, ALLOW, CONTENT_ENCODING, CONTENT_TYPE};
use serde_json::{Value, json};

use crate::support::{Database, Gateway, Kind};
use ask::Expected::{Data, DataOr400, Errors, Partial};
use ask::{Case, GRAPHQL, LEGACY, Request, case, get, post};

/// How many audits the pinned version has.
const AUDITS: usize = 61;
const QUERY: &str = "{\"query\":\"{ __typename }\"}";
const TYPENAME: (&str, &str) = ("query", "{ __typename }");

/// All cases are asked, then all failures are told.
async fn hold(cases: Vec<Case>) {
    let database = Database::new(Kind::Sqlite).await;
    let gateway = Gateway::start(&database).await;
    let partner = gateway.partner("P", "wide", &[]).await;
    let mut failures = Vec::new();
    for case in &cases {
        failures.extend(case.failure(gateway.running.address, &partner.key).await);
    }
    gateway.stop().await;
    assert!(failures.is_empty(), "{} of {} do not hold:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_of_every_audit_hold() {
    hold(audits::audits()).await;
}

#[test]
fn every_audit_has_one_rule() {
    let mut ids: Vec<String> = audits::audits().into_iter().map(|audit| audit.name).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), AUDITS);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_package_finds_nothing() {
    let Ok(folder) = std::env::var("TOLLGATE_TEST_GRAPHQL_HTTP") else {
        println!("the npm package graphql-http is not here: the rules of this file, which every machine checks, take its place");
        return;
    };
    let database = Database::new(Kind::Sqlite).await;
    let gateway = Gateway::start(&database).await;
    let partner = gateway.partner("P", "wide", &[]).await;
    let mut audit = Command::new("node");
    audit.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/graphql_http_audit.mjs"));
    audit.args([&gateway.url("/graphql"), &folder]).env("TOLLGATE_TEST_KEY", &partner.key);
    let ran = tokio::task::spawn_blocking(move || audit.output()).await.unwrap().expect("node does not start");
    gateway.stop().await;
    let (said, complaint) = (String::from_utf8(ran.stdout).unwrap(), String::from_utf8_lossy(&ran.stderr));
    let summary: Value = serde_json::from_str(said.lines().last().unwrap_or_default()).unwrap_or_default();
    let expected = json!({ "total": AUDITS, "ok": AUDITS, "notices": 0, "warnings": 0, "errors": 0 });
    assert_eq!((ran.status.code(), &summary), (Some(0), &expected), "{said}{complaint}");
    // The package's audits are the ones that we wrote rules for.
    let mut theirs: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("ok ")?.split(' ').next()).collect();
    let ours = audits::audits();
    let mut ours: Vec<&str> = ours.iter().map(|audit| audit.name.as_str()).collect();
    theirs.sort_unstable();
    ours.sort_unstable();
    assert_eq!(theirs, ours);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_accept_header_chooses_the_media_type() {
    let mut cases = Vec::new();
    for (accept, media) in [
        ("APPLICATION/JSON", LEGACY),
        ("application/*", LEGACY),
        ("application/json; charset=utf-8", LEGACY),
        ("text/html, application/xhtml+xml, */*;q=0.8", LEGACY),
        ("text/html, application/json;q=0.001", LEGACY),
        ("application/graphql-response+json;q=0.1, application/json", LEGACY),
        ("application/graphql-response+json; q=0.1 , application/json ; Q=0.2", LEGACY),
        ("application/graphql-response+json;q=0, application/json", LEGACY),
        ("application/graphql-response+json;q=0, */*;q=0.1", LEGACY),
        ("application/*;q=0.5, application/graphql-response+json;q=0.4", LEGACY),
        ("Application/GraphQL-Response+JSON", GRAPHQL),
        ("application/json;q=0.9, application/graphql-response+json", GRAPHQL),
        ("application/json;q=0, */*", GRAPHQL),
        ("application/json;q=0.000, application/*;q=0.001", GRAPHQL),
        // GraphQL over HTTP, Accept: what it wants clients to send. Of two that are liked as well as each other, the newer.
        ("application/graphql-response+json; charset=utf-8, application/json; charset=utf-8", GRAPHQL),
        // Who names it wants it more than who takes anything.
        ("application/graphql-response+json, */*", GRAPHQL),
        ("application/graphql-response+json, text/event-stream, application/json;q=0.9, */*;q=0.1", GRAPHQL),
    ] {
        cases.push(case(accept, post(QUERY).accept(accept), media, Data));
        cases.push(case(format!("GET {accept}"), get(&[TYPENAME]).accept(accept), media, Data));
        // A refusal is written as an answer would be.
        let refused = post("{").accept(accept);
        cases.push(case(format!("refused, {accept}"), refused, media, Errors(400)).code("BAD_USER_INPUT"));
    }
    for accept in [
        "text/html",
        "text/*",
        "image/png, text/html;q=0.9",
        "application/graphql",
        "application/jsonx",
        "text/event-stream",
        "multipart/mixed",
        "*/*;q=0",
        "*/*; q=0.000",
        "application/*;q=0, */*;q=0",
        // The more precise of two ranges counts (RFC 9110, 12.5.1).
        "application/*;q=0, */*",
        "application/json;q=0, application/graphql-response+json;q=0, */*",
    ] {
        cases.push(case(accept, post(QUERY).accept(accept), LEGACY, Errors(406)));
        cases.push(case(format!("GET {accept}"), get(&[TYPENAME]).accept(accept), LEGACY, Errors(406)));
    }
    let lines = post(QUERY).accept("text/html").accept_too(GRAPHQL);
    cases.push(case("two lines", lines, GRAPHQL, Data));
    hold(cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_json_in_utf_8() {
    let mut cases = Vec::new();
    for kind in [
        "application/json",
        "Application/JSON",
        "application/json;charset=UTF-8",
        "application/json; charset=\"utf-8\"",
        "application/json; odata=verbose; Charset=utf-8",
        "application/json ; profile=\"a;charset=latin1\"",
    ] {
        cases.push(case(kind, post(QUERY).header(CONTENT_TYPE, kind), LEGACY, Data));
    }
    for kind in [
        // What a page of another site can send without a preflight.
        "text/plain",
        "text/plain;charset=UTF-8",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain; x=application/json",
        "application/jsonx",
        "application/json-patch+json",
        "application/graphql",
        "application/graphql-response+json",
        "text/json",
        "*/*",
        "application/*",
        "json",
        "",
        "é",
        "application/json; charset=iso-8859-1",
        "application/json; charset=utf-16",
        "application/json; charset=\"us-ascii\"",
        "application/json; a=b; CHARSET=latin1",
    ] {
        let request = post(QUERY).header(CONTENT_TYPE, kind);
        cases.push(case(format!("{kind:?}"), request.clone(), LEGACY, Errors(415)));
        cases.push(case(format!("{kind:?} as {GRAPHQL}"), request.accept(GRAPHQL), GRAPHQL, Errors(415)));
    }
    cases.push(case("without a type", post(QUERY).without(CONTENT_TYPE).accept(GRAPHQL), GRAPHQL, Errors(415)));
    let form = post("query=%7B__typename%7D").header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    cases.push(case("a form", form, LEGACY, Errors(415)));
    hold(cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_graphql_request_is_400_for_everybody() {
    let mut cases = Vec::new();
    let batch = format!("[{QUERY},{QUERY}]");
    for body in ["", " ", "null", "5", "\"{ __typename }\"", "[]", &batch, "{}", "{\"query\":null}", "{\"query\":", "NONSENSE"] {
        for media in [GRAPHQL, LEGACY] {
            let named = format!("{body} as {media}");
            cases.push(case(named, post(body).accept(media), media, Errors(400)).code("BAD_USER_INPUT"));
        }
    }
    let trailing = format!("{QUERY}{QUERY}");
    let latin1 = post("").body(b"{\"query\":\"{ __typename } # \xe9\"}".to_vec());
    let gzip = post("").body(b"\x1f\x8b\x08\0\0\0\0\0\0\x03".to_vec()).header(CONTENT_ENCODING, "gzip");
    cases.push(case("something behind it", post(trailing), LEGACY, Errors(400)));
    cases.push(case("latin 1", latin1, LEGACY, Errors(400)));
    cases.push(case("half a surrogate pair", post("{\"query\":\"{ __typename } # \\ud83d\"}"), LEGACY, Errors(400)));
    cases.push(case("compressed", gzip, LEGACY, Errors(400)));
    cases.push(case("space around it", post(format!(" \r\n{QUERY}\n")), LEGACY, Data));
    for (name, body) in [
        ("two queries", "{\"query\":\"{ __typename }\",\"query\":\"{ viewer { name } }\"}"),
        ("two variables", "{\"query\":\"{ __typename }\",\"variables\":{\"a\":1,\"a\":2}}"),
        ("two lists of variables", "{\"query\":\"{ __typename }\",\"variables\":{},\"variables\":null}"),
        ("an unknown member", "{\"query\":\"{ __typename }\",\"documentId\":\"x\",\"__proto__\":{}}"),
        ("a persisted query", "{\"extensions\":{\"persistedQuery\":{\"version\":1}},\"query\":\"{ __typename }\"}"),
        ("a variable that no operation has", "{\"query\":\"{ __typename }\",\"variables\":{\"x\":1e999,\"y\":-0}}"),
        ("a byte order mark", &format!("\u{feff}{QUERY}")),
        ("an empty operation name", "{\"query\":\"{ __typename }\",\"operationName\":\"\"}"),
    ] {
        cases.push(case(name, post(body).accept(GRAPHQL), GRAPHQL, DataOr400));
    }
    hold(cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_run_is_200_without_data_for_legacy_clients_alone() {
    let (two, wanted) = ("query A { __typename } query B { __typename }", "query($s: ID!) { product(sku: $s) { sku } }");
    let mut cases = Vec::new();
    for (body, code) in [
        (json!({ "query": "{" }), "GRAPHQL_PARSE_FAILED"),
        (json!({ "query": "" }), "GRAPHQL_PARSE_FAILED"),
        (json!({ "query": "query A { __typename } }" }), "GRAPHQL_PARSE_FAILED"),
        (json!({ "query": "{ nothing }" }), "GRAPHQL_VALIDATION_FAILED"),
        (json!({ "query": "{ product { sku } }" }), "GRAPHQL_VALIDATION_FAILED"),
        (json!({ "query": "{ product(sku: {}) { sku } }" }), "GRAPHQL_VALIDATION_FAILED"),
        (json!({ "query": "{ viewer }" }), "GRAPHQL_VALIDATION_FAILED"),
        (json!({ "query": "mutation { __typename }" }), ""),
        (json!({ "query": "subscription { __typename }" }), ""),
        (json!({ "query": two }), "BAD_USER_INPUT"),
        (json!({ "query": two, "operationName": "C" }), "BAD_USER_INPUT"),
        (json!({ "query": wanted }), "BAD_USER_INPUT"),
        (json!({ "query": wanted, "variables": { "s": null } }), "BAD_USER_INPUT"),
        (json!({ "query": wanted, "variables": { "s": { "a": 1 } } }), ""),
    ] {
        for (media, status) in [(GRAPHQL, 400), (LEGACY, 200)] {
            let case = case(format!("{body} as {media}"), post(&body).accept(media), media, Errors(status));
            cases.push(if code.is_empty() { case } else { case.code(code) });
        }
    }
    let aliases: String = (0..2000).map(|n| format!("a{n}:__typename ")).collect();
    let (complex, large) = (json!({ "query": format!("{{ {aliases} }}") }), json!({ "query": "x".repeat(70_000) }));
    for media in [GRAPHQL, LEGACY] {
        // Limits and authentication keep their status.
        let complex = case(format!("too complex as {media}"), post(&complex).accept(media), media, Errors(400));
        cases.push(complex.code("QUERY_TOO_COMPLEX"));
        cases.push(case(format!("too large as {media}"), post(&large).accept(media), media, Errors(413)));
        for (name, request) in [("POST", post(QUERY)), ("GET", get(&[TYPENAME]))] {
            let anonymous = case(format!("{name} without a key as {media}"), request.accept(media), media, Errors(401));
            cases.push(anonymous.anonymous().code("UNAUTHENTICATED"));
        }
        // A field's error is part of an answer.
        let field = post(json!({ "query": "{ __typename catalog(first: 0) { nodes { sku } } }" }));
        cases.push(case(format!("a field's error as {media}"), field.accept(media), media, Partial).code("BAD_USER_INPUT"));
    }
    hold(cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn get_is_for_queries() {
    let (two, mixed) = ("query A { __typename } query B { __typename }", "query A { __typename } mutation B { __typename }");
    let wanted = ("query", "query($s: ID!) { product(sku: $s) { sku } }");
    let mut cases = Vec::new();
    for (name, parameters) in [
        ("a query", &[TYPENAME][..]),
        ("every parameter", &[("query", two), ("operationName", "B"), ("variables", "{}"), ("extensions", "{\"a\":1}")]),
        ("variables", &[wanted, ("variables", "{\"s\":\"A+1 é&=%\"}")]),
        ("variables that are null", &[TYPENAME, ("variables", "null"), ("extensions", "null")]),
        // GraphQL over HTTP, GET: the same as leaving it out.
        ("no operation name", &[TYPENAME, ("operationName", "")]),
        ("the operation named null", &[("query", "query null { __typename }"), ("operationName", "null")]),
    ] {
        cases.push(case(name, get(parameters).accept(GRAPHQL), GRAPHQL, Data));
        cases.push(case(format!("{name}, legacy"), get(parameters), LEGACY, Data));
    }
    let operations = [&[("query", "mutation { __typename }")][..], &[("query", mixed), ("operationName", "B")]];
    for parameters in operations.into_iter().chain([&[("query", "subscription { __typename }")][..]]) {
        for media in [GRAPHQL, LEGACY] {
            let name = format!("{parameters:?} as {media}");
            cases.push(case(name, get(parameters).accept(media), media, Errors(405)).allow("POST"));
        }
    }
    for (name, parameters) in [
        ("no query", &[("variables", "{}")][..]),
        ("no parameters", &[]),
        ("variables that are no JSON", &[TYPENAME, ("variables", "{a")]),
        ("variables in a list", &[TYPENAME, ("variables", "[]")]),
        ("a number of variables", &[TYPENAME, ("variables", "5")]),
        ("a string of variables", &[TYPENAME, ("variables", "\"{}\"")]),
        ("extensions that are no JSON", &[TYPENAME, ("extensions", "x")]),
        ("extensions in a list", &[TYPENAME, ("extensions", "[]")]),
    ] {
        for media in [GRAPHQL, LEGACY] {
            let name = format!("{name} as {media}");
            cases.push(case(name, get(parameters).accept(media), media, Errors(400)).code("BAD_USER_INPUT"));
        }
    }
    let bare = |target: &str| Request::new(Method::GET, target).accept(GRAPHQL);
    let long = format!("{}{{ __typename }}", " ".repeat(40_000));
    cases.extend([
        case("nothing behind the path", bare("/graphql"), GRAPHQL, Errors(400)),
        case("a batch", bare("/graphql?[]"), GRAPHQL, Errors(400)),
        case("spaces as %20", bare("/graphql?query=%7B%20__typename%20%7D"), GRAPHQL, Data),
        case("half an escape", bare("/graphql?query=%7B__typename%7D%2"), GRAPHQL, Errors(400)),
        case("no UTF-8", bare("/graphql?query=%7B__typename%7D%FF"), GRAPHQL, Errors(400)),
        case("an unknown parameter", get(&[TYPENAME, ("x", "y")]).accept(GRAPHQL), GRAPHQL, DataOr400),
        case("two queries", get(&[TYPENAME, TYPENAME]).accept(GRAPHQL), GRAPHQL, DataOr400),
        case("the query in the body", bare("/graphql").body(QUERY).header(CONTENT_TYPE, LEGACY), GRAPHQL, Errors(400)),
        // The bounds of POST hold for GET.
        case("a long text", get(&[("query", &long)]).accept(GRAPHQL), GRAPHQL, Errors(400)).code("QUERY_TOO_COMPLEX"),
        // And the other way round: parameters of the URL do not count beside a body.
        case("a query in the URL of a POST", post("{}").to("/graphql?query=%7B__typename%7D"), LEGACY, Errors(400)),
    ]);
    for (media, status) in [(GRAPHQL, 400), (LEGACY, 200)] {
        cases.push(case(format!("two operations as {media}"), get(&[("query", two)]).accept(media), media, Errors(status)));
        cases.push(case(format!("a broken query as {media}"), get(&[("query", "{")]).accept(media), media, Errors(status)));
        cases.push(case(format!("a missing variable as {media}"), get(&[wanted]).accept(media), media, Errors(status)));
    }
    hold(cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_methods_are_told_which_there_are() {
    let mut cases = Vec::new();
    for method in [Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
        for media in [GRAPHQL, LEGACY] {
            let request = Request::new(method.clone(), "/graphql").accept(media);
            let asked = || case(format!("{method} as {media}"), request.clone(), media, Errors(405)).allow("GET, POST");
            cases.push(asked());
            cases.push(asked().anonymous());
        }
    }
    hold(cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn head_has_no_body_and_an_accept_that_makes_no_sense_does_no_harm() {
    let database = Database::new(Kind::Sqlite).await;
    let gateway = Gateway::start(&database).await;
    let partner = gateway.partner("P", "wide", &[]).await;
    // HEAD is GET without its body, or refused as other methods are.
    let head = Request::new(Method::HEAD, "/graphql?query=%7B__typename%7D").accept(GRAPHQL);
    let answer = head.send(gateway.running.address, Some(&partner.key)).await;
    let refused = (answer.status, answer.header(ALLOW)) == (405, "GET, POST");
    let answered = answer.status == 200 && answer.header(CONTENT_TYPE).starts_with(GRAPHQL);
    assert!(answer.body.is_empty() && (refused || answered), "{answer:?}");
    for accept in ["", ",", ";q=1", "application/json;q=x", "application/json;q=9", "application/json;q", "a/b/c", "*/json", "é"]
    {
        let answer = post(QUERY).header(ACCEPT, accept).send(gateway.running.address, Some(&partner.key)).await;
        assert!([200, 400, 406].contains(&answer.status), "{accept:?}: {answer:?}");
    }
    gateway.stop().await;
}
