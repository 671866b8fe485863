//! The client of the Unix socket: see `http::control`.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use axum::body::Body;
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::clock::Micros;
use crate::data_dir::DataDir;
use crate::engine::{Replayed, Retried};
use crate::event::Report;
use crate::event::deadletter::{DeadLetter, Letter};
use crate::http::control::{Backlog, LINES_BEFORE, ShippedTo};

/// A gateway that holds the data folder.
pub(super) struct Control {
    socket: PathBuf,
}

impl Control {
    /// None when nobody answers there.
    pub(super) async fn connect(data_dir: &Path) -> anyhow::Result<Option<Self>> {
        let socket = DataDir::socket(data_dir)?;
        Ok(UnixStream::connect(&socket).await.is_ok().then_some(Self { socket }))
    }

    async fn ask(&self, method: Method, path: &str, headers: &[(&str, String)], body: Vec<u8>) -> anyhow::Result<Vec<u8>> {
        let stream = UnixStream::connect(&self.socket).await.context("the gateway that holds the data folder went away")?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", "tollgate");
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let response = sender.send_request(request.body(Body::from(body))?).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes().to_vec();
        drop(sender);
        drop(driver.await);
        if !status.is_success() {
            bail!("{}", String::from_utf8_lossy(&body));
        }
        Ok(body)
    }

    async fn json<T: DeserializeOwned>(&self, method: Method, path: &str, body: &impl Serialize) -> anyhow::Result<T> {
        let body = serde_json::to_vec(body)?;
        let answer = self.ask(method, path, &[("content-type", "application/json".to_owned())], body).await?;
        Ok(serde_json::from_slice(&answer)?)
    }

    pub(super) async fn ingest(&self, lines_before: u64, ndjson: Vec<u8>) -> anyhow::Result<Report> {
        let answer = self.ask(Method::POST, "/ingest", &[(LINES_BEFORE, lines_before.to_string())], ndjson).await?;
        Ok(serde_json::from_slice(&answer)?)
    }

    pub(super) async fn keep_letters(&self, letters: &[Letter]) -> anyhow::Result<()> {
        let headers = [("content-type", "application/json".to_owned())];
        self.ask(Method::POST, "/deadletters", &headers, serde_json::to_vec(letters)?).await.map(drop)
    }

    pub(super) async fn dead_letters(&self) -> anyhow::Result<Vec<DeadLetter>> {
        self.json(Method::GET, "/deadletters", &()).await
    }

    pub(super) async fn retry(&self, ids: &[u64]) -> anyhow::Result<Retried> {
        self.json(Method::POST, "/deadletters/retry", &ids).await
    }

    pub(super) async fn settle(&self) -> anyhow::Result<()> {
        self.ask(Method::POST, "/settle", &[], Vec::new()).await.map(drop)
    }

    pub(super) async fn close_journeys(&self, last: Micros) -> anyhow::Result<()> {
        self.json(Method::POST, "/journeys/close", &last).await
    }

    pub(super) async fn refresh_products(&self) -> anyhow::Result<()> {
        self.ask(Method::POST, "/journeys/refresh", &[], Vec::new()).await.map(drop)
    }

    pub(super) async fn dump(&self) -> anyhow::Result<String> {
        Ok(String::from_utf8(self.ask(Method::GET, "/features/dump", &[], Vec::new()).await?)?)
    }

    pub(super) async fn replay(&self, verify: bool) -> anyhow::Result<Replayed> {
        self.json(Method::POST, &format!("/replay?verify={verify}"), &()).await
    }

    pub(super) async fn ship(&self) -> anyhow::Result<ShippedTo> {
        self.json(Method::POST, "/ship", &()).await
    }

    pub(super) async fn close_journal(&self) -> anyhow::Result<ShippedTo> {
        self.json(Method::POST, "/journal/close", &()).await
    }

    pub(super) async fn replica(&self) -> anyhow::Result<Backlog> {
        self.json(Method::GET, "/replica", &()).await
    }

    pub(super) async fn refresh(&self) -> anyhow::Result<()> {
        self.ask(Method::POST, "/refresh", &[], Vec::new()).await.map(drop)
    }
}
