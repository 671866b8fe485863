//! The shield: callers whose keys fail get a few tries an address (tower-governor), then 429. Good keys from the same address
//! are not held up.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Request, Response, StatusCode};
use governor::middleware::NoOpMiddleware;
use tower::util::BoxCloneSyncService;
use tower::{ServiceExt, service_fn};
use tower_governor::GovernorError;
use tower_governor::governor::{Governor, GovernorConfig, GovernorConfigBuilder};
use tower_governor::key_extractor::KeyExtractor;

use crate::error::{Code, Refusal};

/// Counts failed keys by address.
pub struct Shield {
    config: Arc<GovernorConfig<Address, NoOpMiddleware>>,
    service: BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>,
}

#[derive(Clone, Copy, Debug)]
struct Client(IpAddr);

/// The address that [`Shield::judge`] put into the request.
#[derive(Clone, Copy, Debug)]
struct Address;

impl KeyExtractor for Address {
    type Key = IpAddr;

    fn extract<T>(&self, request: &Request<T>) -> Result<IpAddr, GovernorError> {
        request.extensions().get::<Client>().map(|client| client.0).ok_or(GovernorError::UnableToExtractKey)
    }
}

impl Shield {
    /// `burst` failures at once, then one each `interval`. None when one of them is zero.
    pub fn new(burst: u32, interval: Duration) -> Option<Self> {
        let config =
            Arc::new(GovernorConfigBuilder::default().period(interval).burst_size(burst).key_extractor(Address).finish()?);
        let passed = service_fn(|_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::empty())) });
        let governed = Governor::new(passed, &config).error_handler(|error| {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
            if let GovernorError::TooManyRequests { wait_time, .. } = error {
                response.headers_mut().insert("retry-after", (wait_time + 1).into());
            }
            response
        });
        Some(Self { config, service: BoxCloneSyncService::new(governed) })
    }

    /// The refusal of a failed key, or 429 when its address had too many of them.
    pub async fn judge(&self, address: IpAddr, refusal: Refusal) -> Refusal {
        if refusal.code != Code::Unauthenticated {
            return refusal;
        }
        let mut request = Request::new(Body::empty());
        request.extensions_mut().insert(Client(subject(address)));
        let Ok(response) = self.service.clone().oneshot(request).await;
        if response.status() != StatusCode::TOO_MANY_REQUESTS {
            return refusal;
        }
        let wait = retry_after(response.headers());
        Refusal::new(Code::RateLimited, "Too many failed keys from your address. Mend the key, then try again.").retry_after(wait)
    }

    /// Forgets addresses that are calm again: memory is bounded by recent failures.
    pub fn sweep(&self) {
        self.config.limiter().retain_recent();
    }
}

fn retry_after(headers: &HeaderMap) -> Duration {
    let seconds = headers.get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
    Duration::from_secs(seconds.unwrap_or(1))
}

/// Who is counted: an IPv4 address, or an IPv6 /64, which is what one customer gets.
fn subject(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

/// The client behind `peer`: itself, unless it is one of our proxies; then the last address in X-Forwarded-For that is not.
pub fn client_address(peer: IpAddr, headers: &HeaderMap, trusted_proxies: &[IpAddr]) -> IpAddr {
    let peer = peer.to_canonical();
    if !trusted_proxies.contains(&peer) {
        return peer;
    }
    let forwarded: Vec<&str> = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok()).collect();
    let hops: Vec<&str> = forwarded.iter().flat_map(|value| value.split(',')).map(str::trim).collect();
    for hop in hops.into_iter().rev() {
        // Some proxies add the port. What cannot be read was not written by ours, and neither was anything before it.
        let read = hop.parse::<IpAddr>().or_else(|_| hop.parse::<SocketAddr>().map(|address| address.ip()));
        match read.map(|hop| hop.to_canonical()) {
            Ok(hop) if trusted_proxies.contains(&hop) => {}
            Ok(hop) => return hop,
            Err(_) => return peer,
        }
    }
    peer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwarded_addresses_count_only_behind_a_trusted_proxy() {
        let proxy: IpAddr = "10.0.0.1".parse().unwrap();
        let stranger: IpAddr = "192.0.2.7".parse().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", "198.51.100.9, 203.0.113.5, 10.0.0.1".parse().unwrap());
        assert_eq!(client_address(stranger, &headers, &[proxy]), stranger);
        assert_eq!(client_address(proxy, &headers, &[]), proxy);
        assert_eq!(client_address(proxy, &headers, &[proxy]).to_string(), "203.0.113.5");
        headers.insert("x-forwarded-for", "6.6.6.6, 203.0.113.5:4711".parse().unwrap());
        assert_eq!(client_address(proxy, &headers, &[proxy]).to_string(), "203.0.113.5");
        headers.insert("x-forwarded-for", "6.6.6.6, nonsense".parse().unwrap());
        assert_eq!(client_address(proxy, &headers, &[proxy]), proxy);
        assert_eq!(client_address(proxy, &HeaderMap::new(), &[proxy]), proxy);
    }

    #[tokio::test]
    async fn an_address_runs_out_of_tries_and_its_neighbours_do_not() {
        let shield = Shield::new(3, Duration::from_secs(3600)).unwrap();
        let failed = || Refusal::new(Code::Unauthenticated, "no");
        let (one, same_network, other) = ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1");
        for _ in 0..3 {
            assert_eq!(shield.judge(one.parse().unwrap(), failed()).await.code, Code::Unauthenticated);
        }
        let refusal = shield.judge(same_network.parse().unwrap(), failed()).await;
        assert_eq!(refusal.code, Code::RateLimited);
        assert!(refusal.retry_after_seconds().unwrap() > 60);
        assert_eq!(shield.judge(other.parse().unwrap(), failed()).await.code, Code::Unauthenticated);
    }
}
