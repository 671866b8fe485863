//! Connections: bounded in number and in time, drained at a stop. axum's own loop installs no timer, so a client could hold a
//! connection by never finishing its headers.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt;

use super::Peer;

/// Bounds on a listener's connections.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Open at once.
    pub connections_max: usize,
    /// From the end of one request to the end of the next one's headers.
    pub header_timeout: Duration,
    /// How long requests in flight may take at a stop.
    pub drain_timeout: Duration,
}

/// After a failed accept (out of file descriptors): the kernel keeps the others waiting meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where connections come from.
pub trait Listener: Send {
    /// Their kind.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// The next one.
    fn next(&mut self) -> impl Future<Output = std::io::Result<(Self::Stream, SocketAddr)>> + Send;
}

impl Listener for TcpListener {
    type Stream = tokio::net::TcpStream;

    async fn next(&mut self) -> std::io::Result<(Self::Stream, SocketAddr)> {
        let (stream, peer) = self.accept().await?;
        stream.set_nodelay(true)?;
        Ok((stream, peer))
    }
}

impl Listener for UnixListener {
    type Stream = tokio::net::UnixStream;

    async fn next(&mut self) -> std::io::Result<(Self::Stream, SocketAddr)> {
        Ok((self.accept().await?.0, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))
    }
}

/// Returns after `limit` when no request came; never once one did, because its answer may take its reader a while.
async fn silent(asked: &AtomicBool, limit: Duration) {
    tokio::time::sleep(limit).await;
    if asked.load(Ordering::Acquire) {
        std::future::pending::<()>().await;
    }
}

/// Serves until `stop` says so, then lets requests in flight finish.
pub async fn serve(mut listener: impl Listener, router: Router, bounds: Bounds, open: Gauge, mut stop: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(bounds.connections_max));
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            accepted = async {
                // The place first: who finds none waits in the kernel's backlog.
                let place = places.clone().acquire_owned().await;
                (place, listener.next().await)
            } => accepted,
        };
        let (place, stream, peer) = match accepted {
            (Ok(place), Ok((stream, peer))) => (place, stream, peer),
            (Ok(_), Err(error)) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
            (Err(_), _) => break,
        };
        let router = router.clone();
        let activity = Arc::new(AtomicBool::new(false));
        let service = service_fn({
            let activity = activity.clone();
            move |request: Request<Incoming>| {
                let mut request = request.map(Body::new);
                request.extensions_mut().insert(Peer(peer));
                activity.store(true, Ordering::Release);
                router.clone().oneshot(request)
            }
        });
        let mut builder = Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(bounds.header_timeout);
        builder.http2().timer(TokioTimer::new()).max_concurrent_streams(200).keep_alive_interval(bounds.header_timeout / 2);
        let connection = graceful.watch(builder.serve_connection(TokioIo::new(stream), service).into_owned());
        let (open, header_timeout) = (open.clone(), bounds.header_timeout);
        open.inc();
        tokio::spawn(async move {
            tokio::select! {
                // Ends in an error whenever a client goes away: nothing to tell anybody.
                _ = connection => {}
                // hyper's own timer begins with the first byte of HTTP/1: it sees no client that never says anything.
                () = silent(&activity, header_timeout) => {}
            }
            open.dec();
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(bounds.drain_timeout, graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests did not finish in time at the stop");
    }
}
