//! One request with the headers that it names and no others (reqwest adds an Accept of its own), and what its answer must be.

use std::net::SocketAddr;

use axum::http::header::{ACCEPT, ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// No `data` means 4xx or 5xx.
pub(super) const GRAPHQL: &str = "application/graphql-response+json";
/// 200 for whatever is a GraphQL request.
pub(super) const LEGACY: &str = "application/json";

#[derive(Clone, Debug)]
pub(super) struct Request {
    method: Method,
    target: String,
    headers: HeaderMap,
    body: Bytes,
}

/// `POST` of JSON.
pub(super) fn post(body: impl ToString) -> Request {
    Request::new(Method::POST, "/graphql").body(body.to_string()).header(CONTENT_TYPE, "application/json")
}

/// `GET` with these parameters, encoded as forms are.
pub(super) fn get(parameters: &[(&str, &str)]) -> Request {
    let url = reqwest::Url::parse_with_params("http://gateway/graphql", parameters).unwrap();
    Request::new(Method::GET, &format!("/graphql?{}", url.query().unwrap_or_default()))
}

impl Request {
    pub(super) fn new(method: Method, target: &str) -> Self {
        Self { method, target: target.to_owned(), headers: HeaderMap::new(), body: Bytes::new() }
    }

    pub(super) fn to(self, target: &str) -> Self {
        Self { target: target.to_owned(), ..self }
    }

    pub(super) fn body(self, body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// In place of the one of that name.
    pub(super) fn header(mut self, name: HeaderName, value: &str) -> Self {
        self.headers.insert(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        self
    }

    pub(super) fn accept(self, value: &str) -> Self {
        self.header(ACCEPT, value)
    }

    /// Beside what it accepts already, in a header line of its own.
    pub(super) fn accept_too(mut self, value: &str) -> Self {
        self.headers.append(ACCEPT, HeaderValue::from_str(value).unwrap());
        self
    }

    pub(super) fn without(mut self, name: HeaderName) -> Self {
        self.headers.remove(name);
        self
    }

    /// Over a connection of its own.
    pub(super) async fn send(&self, address: SocketAddr, key: Option<&str>) -> Answer {
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = hyper::Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.target.parse().unwrap();
        *request.headers_mut() = self.headers.clone();
        request.headers_mut().insert(HOST, HeaderValue::from_static("gateway"));
        if let Some(key) = key {
            request.headers_mut().insert(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {key}")).unwrap());
        }
        let (head, body) = sender.send_request(request).await.unwrap().into_parts();
        Answer { status: head.status.as_u16(), headers: head.headers, body: body.collect().await.unwrap().to_bytes() }
    }
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn header(&self, name: HeaderName) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Expected {
    /// 200, `data`, no `errors`.
    Data,
    /// 200, and both: a field failed.
    Partial,
    /// This status, `errors`, no `data`.
    Errors(u16),
    /// `Data` or 400: both are fair answers to something this odd, a 500 is not.
    DataOr400,
}

/// A request, and what its answer must be.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) request: Request,
    media: &'static str,
    expected: Expected,
    code: Option<&'static str>,
    allow: Option<&'static str>,
    anonymous: bool,
}

pub(super) fn case(name: impl Into<String>, request: Request, media: &'static str, expected: Expected) -> Case {
    Case { name: name.into(), request, media, expected, code: None, allow: None, anonymous: false }
}

impl Case {
    /// And this is the first error's code.
    pub(super) fn code(self, code: &'static str) -> Self {
        Self { code: Some(code), ..self }
    }

    /// And this is what the Allow header says.
    pub(super) fn allow(self, allow: &'static str) -> Self {
        Self { allow: Some(allow), ..self }
    }

    /// Asked without a key.
    pub(super) fn anonymous(self) -> Self {
        Self { anonymous: true, ..self }
    }

    /// What is wrong with the answer.
    pub(super) async fn failure(&self, address: SocketAddr, key: &str) -> Option<String> {
        let answer = self.request.send(address, (!self.anonymous).then_some(key)).await;
        let what = self.judge(&answer).err()?;
        Some(format!("{}: {what}; the answer is {} {}", self.name, answer.status, String::from_utf8_lossy(&answer.body)))
    }

    fn judge(&self, answer: &Answer) -> Result<(), String> {
        let same = |what: &str, found: &str, expected: &str| {
            if found == expected { Ok(()) } else { Err(format!("{what} is {found:?} in place of {expected:?}")) }
        };
        same("Cache-Control", answer.header(CACHE_CONTROL), "no-store")?;
        let body: Value = serde_json::from_slice(&answer.body).map_err(|error| format!("the body is not JSON: {error}"))?;
        let (data, errors) = (body.get("data"), body.get("errors"));
        if answer.status >= 400 && data.is_some() {
            return Err("there is data beside a status that says it failed".to_owned());
        }
        let there = |data: Option<&Value>| data.is_some_and(Value::is_object);
        let (statuses, shape) = match self.expected {
            Expected::Data => (&[200][..], there(data) && errors.is_none()),
            Expected::Partial => (&[200][..], there(data) && explained(errors)),
            Expected::Errors(ref status) => (std::slice::from_ref(status), data.is_none() && explained(errors)),
            Expected::DataOr400 if answer.status == 200 => (&[200][..], there(data) && errors.is_none()),
            Expected::DataOr400 => (&[400][..], data.is_none() && explained(errors)),
        };
        if !statuses.contains(&answer.status) {
            return Err(format!("the status is {} in place of {statuses:?}", answer.status));
        }
        same("Content-Type", answer.header(CONTENT_TYPE), &format!("{}; charset=utf-8", self.media))?;
        if !shape {
            return Err(format!("the body is not the one of {:?}", self.expected));
        }
        if let Some(allow) = self.allow {
            same("Allow", answer.header(ALLOW), allow)?;
        }
        match self.code {
            Some(code) => same("the code", body["errors"][0]["extensions"]["code"].as_str().unwrap_or_default(), code),
            None => Ok(()),
        }
    }
}

/// Errors as GraphQL has them, each with a message of one line and a code.
fn explained(errors: Option<&Value>) -> bool {
    let errors = errors.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    !errors.is_empty()
        && errors.iter().all(|error| {
            let message = error["message"].as_str().unwrap_or("\n");
            !message.contains('\n') && error["extensions"]["code"].is_string()
        })
}
