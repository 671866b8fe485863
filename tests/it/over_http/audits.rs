//! The rules that the npm package graphql-http audits a server by, under the package's own ids: its 61 audits, written from what
//! they check, and stricter where our surface promises more than the package asks (an exact status, content type and body).

use axum::http::Method;
use axum::http::header::CONTENT_TYPE;
use serde_json::{Value, json};

use super::ask::Expected::{Data, Errors};
use super::ask::{Case, GRAPHQL, LEGACY, Request, case, get, post};

const TYPENAME: &str = "{ __typename }";
const BY_NAME: &str = "query Type($name: String!) { __type(name: $name) { name } }";
/// A name cannot begin with a digit: the package has it fail in validation, but no parser gets so far.
const NO_FIELD: &str = "{ 8f31403dfe404bccbb0e835f2629c6a7 }";
const COERCE: &str = "query CoerceFailure($id: ID!){ __typename }";

pub(super) fn audits() -> Vec<Case> {
    let mut all = media_types();
    all.extend(requests());
    all.extend(parameters());
    all.extend(responses());
    all
}

fn ask(query: &str) -> Request {
    post(json!({ "query": query }))
}

/// `{ __typename }` beside another parameter.
fn with(name: &str, value: &Value) -> Request {
    post(json!({ "query": TYPENAME, name: value }))
}

fn media_types() -> Vec<Case> {
    let utf8 = ask("{ __type(name: \"Run🏃Swim🏊\") { name } }").header(CONTENT_TYPE, "application/json; charset=utf-8");
    vec![
        case("22EB", ask(TYPENAME).accept(GRAPHQL), GRAPHQL, Data),
        case("4655", ask(TYPENAME).accept(LEGACY), LEGACY, Data),
        case("47DE", ask(TYPENAME).accept("*/*"), LEGACY, Data),
        case("80D8", ask(TYPENAME), LEGACY, Data),
        case("82A3", ask("{ __type(name: \"🏊\") { name } }"), LEGACY, Data),
        case("BF61", utf8, LEGACY, Data),
        case("78D5", ask("{ __type(name: \"Run🏃Swim🏊\") { name } }"), LEGACY, Data),
    ]
}

fn requests() -> Vec<Case> {
    let mutation = get(&[("query", "mutation { __typename }")]).accept(GRAPHQL);
    vec![
        case("2C94", ask(TYPENAME), LEGACY, Data),
        case("5A70", get(&[("query", TYPENAME)]), LEGACY, Data),
        case("9C48", mutation, GRAPHQL, Errors(405)).allow("POST"),
        case("9ABE", ask(TYPENAME).without(CONTENT_TYPE), LEGACY, Errors(415)),
        case("03D4", ask(TYPENAME), LEGACY, Data),
        case("A5BF", Request::new(Method::POST, "/graphql").header(CONTENT_TYPE, "application/json"), LEGACY, Errors(400)),
    ]
}

fn parameters() -> Vec<Case> {
    let mut all = vec![
        case("423L", post(json!({ "notquery": TYPENAME })).accept(GRAPHQL), GRAPHQL, Errors(400)),
        case("34A2", ask(TYPENAME).accept(GRAPHQL), GRAPHQL, Data),
        case("13EE", ask(TYPENAME).accept(LEGACY), LEGACY, Data),
    ];
    // Neither a string nor a map: refused wherever one of them is due, whatever is accepted.
    let wrong = [json!({ "obj": "ect" }), json!(0), json!(false), json!(["array"])];
    for (n, value) in wrong.iter().enumerate() {
        all.push(case(format!("LKJ{n}"), post(json!({ "query": value })), LEGACY, Errors(400)));
        all.push(case(format!("6C0{n}"), with("operationName", value), LEGACY, Errors(400)));
        let value = if value.is_object() { json!("string") } else { value.clone() };
        all.push(case(format!("476{n}"), with("variables", &value), LEGACY, Errors(400)));
        all.push(case(format!("58B{n}"), with("extensions", &value), LEGACY, Errors(400)));
    }
    for (n, name) in ["variables", "operationName", "extensions"].into_iter().enumerate() {
        all.push(case(format!("94B{n}"), with(name, &Value::Null).accept(GRAPHQL), GRAPHQL, Data));
        all.push(case(format!("022{n}"), with(name, &Value::Null).accept(LEGACY), LEGACY, Data));
    }
    let named = post(json!({ "operationName": "Query", "query": "query Query { __typename }" }));
    let variables = post(json!({ "query": BY_NAME, "variables": { "name": "sometype" } }));
    let variables_of_get = get(&[("query", BY_NAME), ("variables", "{\"name\":\"sometype\"}")]);
    let extensions = with("extensions", &json!({ "some": "value" }));
    for (graphql, legacy, request) in
        [("8161", "B8B3", named), ("2EA1", "28B9", variables), ("D6D5", "6A70", variables_of_get), ("428F", "1B7A", extensions)]
    {
        all.push(case(graphql, request.clone().accept(GRAPHQL), GRAPHQL, Data));
        all.push(case(legacy, request.accept(LEGACY), LEGACY, Data));
    }
    all
}

fn responses() -> Vec<Case> {
    let (broken, typo) = (post("{ \"not a JSON"), post(json!({ "qeury": TYPENAME })));
    let null = post(json!({ "query": COERCE, "variables": { "id": null } }));
    vec![
        // What is no GraphQL request is 400 under either media type.
        case("B6DC", broken.clone().accept(LEGACY), LEGACY, Errors(400)),
        case("BCF8", broken.clone().accept(LEGACY), LEGACY, Errors(400)),
        case("B7N8", broken.accept(GRAPHQL), GRAPHQL, Errors(400)),
        case("8764", typo.clone(), LEGACY, Errors(400)),
        case("3E3A", typo, LEGACY, Errors(400)),
        // What is one, and does not run, is 200 for legacy clients.
        case("572B", ask("{").accept(LEGACY), LEGACY, Errors(200)).code("GRAPHQL_PARSE_FAILED"),
        case("FDE2", ask(NO_FIELD).accept(LEGACY), LEGACY, Errors(200)).code("GRAPHQL_PARSE_FAILED"),
        case("7B9B", null.clone().accept(LEGACY), LEGACY, Errors(200)),
        case("865D", ask("{").accept(GRAPHQL), GRAPHQL, Errors(400)).code("GRAPHQL_PARSE_FAILED"),
        case("556A", ask("{").accept(GRAPHQL), GRAPHQL, Errors(400)),
        case("D586", ask("{").accept(GRAPHQL), GRAPHQL, Errors(400)),
        case("51FE", ask(NO_FIELD).accept(GRAPHQL), GRAPHQL, Errors(400)).code("GRAPHQL_PARSE_FAILED"),
        case("74FF", ask(NO_FIELD).accept(GRAPHQL), GRAPHQL, Errors(400)),
        case("5E5B", ask(NO_FIELD).accept(GRAPHQL), GRAPHQL, Errors(400)),
        case("86EE", null.accept(GRAPHQL), GRAPHQL, Errors(400)),
    ]
}
