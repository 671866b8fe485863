//! A refusal as text: what was asked in a line or two, then status line, headers and body, less what differs from run to run.

use reqwest::Method;

use crate::support::{Answer, Gateway};

pub(super) const RESPONSE_JSON: &str = "application/graphql-response+json";
pub(super) const JSON: &str = "application/json";

/// What is asked.
#[derive(Clone)]
pub(super) struct Ask {
    method: Method,
    /// Behind `/graphql`.
    parameters: String,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Ask {
    /// A query, as most clients send it.
    pub(super) fn query(key: &str, query: &str) -> Self {
        Self::body(key, &serde_json::json!({ "query": query }).to_string())
    }

    /// Any body.
    pub(super) fn body(key: &str, body: &str) -> Self {
        let headers = vec![("authorization", format!("Bearer {key}")), ("content-type", JSON.to_owned())];
        Self { method: Method::POST, parameters: String::new(), headers, body: body.to_owned() }.with("accept", RESPONSE_JSON)
    }

    /// Without a body.
    pub(super) fn method(key: &str, method: Method, parameters: &str) -> Self {
        let headers = vec![("authorization", format!("Bearer {key}"))];
        Self { method, parameters: parameters.to_owned(), headers, body: String::new() }.with("accept", RESPONSE_JSON)
    }

    /// With another value of a header.
    pub(super) fn with(mut self, name: &'static str, value: &str) -> Self {
        self = self.without(name);
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Without a header.
    pub(super) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(of, _)| *of != name);
        self
    }

    /// Asks.
    pub(super) async fn of(&self, gateway: &Gateway) -> Answer {
        let url = gateway.url("/graphql") + &self.parameters;
        let mut request = gateway.http.request(self.method.clone(), url);
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        if !self.body.is_empty() {
            request = request.body(self.body.clone());
        }
        Answer::of(request.send().await.unwrap()).await
    }

    fn shown(&self) -> String {
        let mut text = format!("{} /graphql{}\n", self.method, self.parameters);
        for (name, value) in self.headers.iter().filter(|(name, _)| *name != "authorization") {
            text.push_str(&format!("{name}: {value}\n"));
        }
        if self.body.is_empty() {
            return text;
        }
        // Long ones are about their length.
        let cut = self.body.char_indices().nth(200).map(|(at, _)| at);
        let body = cut.map_or(self.body.clone(), |at| format!("{} … {} bytes in all", &self.body[..at], self.body.len()));
        format!("{text}\n{body}\n")
    }
}

/// Compares with `snapshots/NAME.snap`.
#[track_caller]
pub(super) fn assert(name: &str, ask: &Ask, answer: &Answer) {
    assert_text(name, &ask.shown(), answer);
}

/// The same, of what was asked otherwise.
#[track_caller]
pub(super) fn assert_text(name: &str, asked: &str, answer: &Answer) {
    compare(name, &format!("{asked}\n{}", shown(answer).trim_end()));
}

/// The same, of a text.
#[track_caller]
pub(super) fn compare(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, redacted(text)));
}

fn shown(answer: &Answer) -> String {
    let mut text = format!("{}\n", answer.line);
    for (name, value) in &answer.headers {
        match name.as_str() {
            "date" | "content-length" => {}
            "ratelimit" | "ratelimit-policy" => text.push_str(&format!("{name}: {}\n", limits(value))),
            // A month's end is somewhere; so is a full minute.
            "retry-after" if value.parse::<u64>().unwrap() > 60 => text.push_str(&format!("{name}: <seconds>\n")),
            _ => text.push_str(&format!("{name}: {value}\n")),
        }
    }
    format!("{text}\n{}\n", pretty(&answer.text))
}

/// One field a line, in the order in which they came.
fn pretty(json: &str) -> String {
    let (mut text, mut depth, mut quoted, mut escaped) = (String::new(), 0, false, false);
    let mut rest = json.chars().peekable();
    while let Some(character) = rest.next() {
        text.push(character);
        if quoted {
            quoted = escaped || character != '"';
            escaped = !escaped && character == '\\';
            continue;
        }
        match character {
            '"' => quoted = true,
            ':' => text.push(' '),
            ',' => new_line(&mut text, depth),
            '{' | '[' if !rest.peek().is_some_and(|next| "}]".contains(*next)) => {
                depth += 1;
                new_line(&mut text, depth);
            }
            '{' | '[' => text.extend(rest.next()),
            '}' | ']' => {
                text.pop();
                depth -= 1;
                new_line(&mut text, depth);
                text.push(character);
            }
            _ => {}
        }
    }
    text
}

fn new_line(text: &mut String, depth: usize) {
    text.push('\n');
    text.push_str(&"  ".repeat(depth));
}

/// What is left of a rate depends on the moment, and so do seconds; a quota's units do not.
fn limits(header: &str) -> String {
    let entry = |entry: &str| {
        let rate = entry.contains("rate\"");
        let pair = |pair: &str| match pair.split_once('=') {
            Some(("t", _)) => "t=<seconds>".to_owned(),
            Some(("w", _)) if !rate => "w=<seconds>".to_owned(),
            Some(("r", _)) if rate => "r=<left>".to_owned(),
            _ => pair.to_owned(),
        };
        entry.split(';').map(pair).collect::<Vec<_>>().join(";")
    };
    header.split(',').map(|each| entry(each.trim())).collect::<Vec<_>>().join(", ")
}

/// Ids of requests, instants, and what is left of a rate, wherever they stand.
fn redacted(text: &str) -> String {
    let (mut found, mut rest) = (String::new(), text);
    while !rest.is_empty() {
        let word = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "_-:.+".contains(c))).unwrap_or(rest.len());
        let (token, behind) = rest.split_at(word);
        // A sentence may end in one.
        let bare = token.trim_end_matches('.');
        let shown = if bare.starts_with("req_") {
            "req_<id>"
        } else if bare.parse::<jiff::Timestamp>().is_ok() {
            "<instant>"
        } else {
            bare
        };
        found.push_str(shown);
        found.push_str(&token[bare.len()..]);
        if bare == "currentlyAvailable" {
            // It depends on the moment, as in the header.
            let number = behind.trim_start_matches(|c: char| !c.is_ascii_digit());
            found.push_str(&behind[..behind.len() - number.len()]);
            found.push_str("<left>");
            rest = number.trim_start_matches(|c: char| c.is_ascii_digit());
            continue;
        }
        let separator = behind.chars().next().map_or(0, char::len_utf8);
        found.push_str(&behind[..separator]);
        rest = &behind[separator..];
    }
    found
}

#[test]
fn what_varies_is_taken_out_and_nothing_else() {
    let text = "{\"requestId\": \"req_01KXYZ\", \"currentlyAvailable\": 17} expired at 2026-11-22T20:36:02.000Z. Ask for a new one; é 12.50 a.b";
    let expected =
        "{\"requestId\": \"req_<id>\", \"currentlyAvailable\": <left>} expired at <instant>. Ask for a new one; é 12.50 a.b";
    assert_eq!(redacted(text), expected);
    let body = "{\"b\":[{\"text\":\"a, \\\"b\\\": {}\"},1],\"a\":{},\"c\":[]}";
    let expected =
        "{\n  \"b\": [\n    {\n      \"text\": \"a, \\\"b\\\": {}\"\n    },\n    1\n  ],\n  \"a\": {},\n  \"c\": []\n}";
    assert_eq!(pretty(body), expected);
    assert_eq!(limits("\"rate\";r=3;t=1, \"quota\";r=0;t=99"), "\"rate\";r=<left>;t=<seconds>, \"quota\";r=0;t=<seconds>");
    assert_eq!(limits("\"key-rate\";q=3;w=1, \"quota\";q=5;w=99"), "\"key-rate\";q=3;w=1, \"quota\";q=5;w=<seconds>");
}
