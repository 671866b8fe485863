//! Asking as a partner's client does, and reading the whole answer: status, headers, body.

use serde_json::{Value, json};

use super::{Database, Gateway, tollgate};

/// All that a client sees of an answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// Such as `HTTP/1.1 200 OK`.
    pub(crate) line: String,
    pub(crate) status: u16,
    /// Sorted by name.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) text: String,
}

/// One entry of `RateLimit-Policy` and `RateLimit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    /// How much in all,
    pub(crate) q: u64,
    /// in how many seconds.
    pub(crate) w: u64,
    /// How much is left,
    pub(crate) r: u64,
    /// for how many seconds.
    pub(crate) t: u64,
}

impl Answer {
    pub(crate) async fn of(response: reqwest::Response) -> Self {
        let status = response.status();
        let mut headers: Vec<(String, String)> =
            response.headers().iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
        headers.sort();
        let line = format!("{:?} {status}", response.version());
        Self { line, status: status.as_u16(), headers, text: response.text().await.unwrap() }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(of, _)| of == name).map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Of its first error; empty when it has none.
    #[track_caller]
    pub(crate) fn code(&self) -> String {
        self.json()["errors"][0]["extensions"]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// What it is billed; 0 for a refusal.
    #[track_caller]
    pub(crate) fn units(&self) -> u64 {
        self.json()["extensions"]["usage"]["units"].as_u64().unwrap_or_default()
    }

    /// Seconds.
    pub(crate) fn retry_after(&self) -> Option<u64> {
        self.header("retry-after").map(|seconds| seconds.parse().unwrap())
    }

    /// The limit of a name, out of both headers; none when neither names it.
    #[track_caller]
    pub(crate) fn limit(&self, name: &str) -> Option<Limit> {
        let entry = |header: &str| {
            let entries = self.header(header)?.split(',').map(str::trim);
            let quoted = format!("\"{name}\";");
            entries.into_iter().find_map(|entry| entry.strip_prefix(&quoted).map(str::to_owned))
        };
        let parameter = |entry: &str, key: &str| -> u64 {
            let found = entry.split(';').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
            found.unwrap_or_else(|| panic!("no {key} in {entry}: {self:?}")).parse().unwrap()
        };
        match (entry("ratelimit-policy"), entry("ratelimit")) {
            (Some(policy), Some(state)) => Some(Limit {
                q: parameter(&policy, "q"),
                w: parameter(&policy, "w"),
                r: parameter(&state, "r"),
                t: parameter(&state, "t"),
            }),
            (None, None) => None,
            _ => panic!("one header alone names {name}: {self:?}"),
        }
    }
}

/// A key of the command line.
pub(crate) struct Issued {
    pub(crate) id: String,
    pub(crate) key: String,
}

/// `tollgate key issue`, with what is given; takes effect on a running gateway within a second, at the latest at its next
/// refresh.
#[track_caller]
pub(crate) fn issue(database: &Database, arguments: &[&str]) -> Issued {
    let mut all = vec!["key", "issue", "--format", "json"];
    all.extend(arguments);
    let issued: Value = serde_json::from_str(&tollgate(database, &all).ok()).unwrap();
    Issued { id: issued["id"].as_str().unwrap().to_owned(), key: issued["key"].as_str().unwrap().to_owned() }
}

impl Gateway {
    /// Sees what a command changed.
    pub(crate) async fn refresh(&self) {
        self.running.app.directory.refresh().await.unwrap();
    }

    /// What is answered to a query.
    pub(crate) async fn ask(&self, key: &str, query: &str) -> Answer {
        self.ask_with(key, query, json!({})).await
    }

    /// What is answered to a query with variables.
    pub(crate) async fn ask_with(&self, key: &str, query: &str, variables: Value) -> Answer {
        ask(&self.http, &self.url("/graphql"), key, json!({ "query": query, "variables": variables })).await
    }
}

/// What is answered to a body.
pub(crate) async fn ask(http: &reqwest::Client, url: &str, key: &str, body: Value) -> Answer {
    let request = http.post(url).bearer_auth(key).header("accept", "application/graphql-response+json").json(&body);
    Answer::of(request.send().await.unwrap()).await
}
