//! The one way out: every call to a platform goes through [`Guarded`].
//!
//! It allows https on 443 with a host name, no redirects, and limits time and size. It checks every address that the
//! name resolves to when connecting, so that a name that resolves differently the second time gains nothing. The only
//! exception is loopback, for local runs, by a parameter of the deployment, never by a setting of a connection.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use commerce::http_call::{ApiRequest, ApiResponse, Fault, Loopback, site_url};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{HttpConnector, dns::Name},
    },
    rt::TokioExecutor,
};
use tower_service::Service;

/// The longest time of one call, from connecting to the last byte.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest time for connecting.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The largest answer that is read, in bytes.
pub const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// The calls to platforms.
pub trait Outbound {
    /// Makes one call. Every status is an answer; only a call without an answer is a fault.
    fn call(&self, request: ApiRequest) -> impl Future<Output = Result<ApiResponse, Fault>> + Send;
}

/// The client that all outbound calls go through.
#[derive(Clone)]
pub struct Guarded {
    client: Client<HttpsConnector<HttpConnector<CheckedResolver>>, Full<Bytes>>,
    loopback: Loopback,
}

impl Guarded {
    /// Makes the client, with `loopback` allowed for local runs only.
    ///
    /// # Errors
    /// [`EdgeError`](crate::EdgeError) when TLS cannot be set up.
    pub fn new(loopback: Loopback) -> Result<Self, crate::EdgeError> {
        let mut http = HttpConnector::new_with_resolver(CheckedResolver { loopback });
        http.set_connect_timeout(Some(CONNECT_TIMEOUT));
        http.set_nodelay(true);
        http.enforce_http(false);
        let https = HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(rustls::crypto::aws_lc_rs::default_provider())
            .map_err(|error| crate::EdgeError::new("setting up TLS", error.to_string()))?
            // Each call is checked for which of the two it may use.
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        Ok(Self { client: Client::builder(TokioExecutor::new()).build(https), loopback })
    }

    async fn run(&self, request: ApiRequest) -> Result<ApiResponse, Fault> {
        let mut origin = request.url.clone();
        origin.set_path("");
        origin.set_query(None);
        site_url(origin.as_str(), self.loopback)
            .map_err(|error| Fault::Connection(format!("the address is not allowed: {error}")))?;
        let mut call = http::Request::new(Full::new(request.body));
        *call.method_mut() = request.method;
        *call.uri_mut() =
            request.url.as_str().parse().map_err(|_| Fault::Connection("the address cannot be called".into()))?;
        *call.headers_mut() = request.headers;
        let agent = http::HeaderValue::from_static(concat!("commerce-hooks/", env!("CARGO_PKG_VERSION")));
        call.headers_mut().insert(http::header::USER_AGENT, agent);
        let answer = self.client.request(call).await.map_err(|error| unreachable_platform(&error))?;
        let (parts, body) = answer.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES)
            .collect()
            .await
            .map_err(|_| Fault::Unreadable(format!("it broke off, or is larger than {MAX_ANSWER_BYTES} bytes")))?
            .to_bytes();
        Ok(ApiResponse { status: parts.status.as_u16(), headers: parts.headers, body })
    }
}

impl Outbound for Guarded {
    async fn call(&self, request: ApiRequest) -> Result<ApiResponse, Fault> {
        match tokio::time::timeout(CALL_TIMEOUT, self.run(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(Fault::Unavailable(format!("no answer within {} s", CALL_TIMEOUT.as_secs()))),
        }
    }
}

/// Maps a failed call to a fault. A refused address is a fault of the connection, which another attempt does not mend.
/// Any other failure may pass.
fn unreachable_platform(error: &(dyn std::error::Error + 'static)) -> Fault {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let refused = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(refused) = refused.and_then(|inner| inner.downcast_ref::<NotPublic>()) {
            return Fault::Connection(refused.to_string());
        }
        cause = error.source();
    }
    Fault::Unavailable("the platform could not be reached".into())
}

/// The error for a name that resolves to an address that is not public, or to none.
#[derive(Debug, thiserror::Error)]
#[error("the site's name resolves to no public address")]
struct NotPublic;

/// The resolver, which lets only public addresses through.
#[derive(Clone)]
struct CheckedResolver {
    loopback: Loopback,
}

impl Service<Name> for CheckedResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, io::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let loopback = self.loopback;
        Box::pin(async move {
            let resolved: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let allowed = |address: &SocketAddr| {
                is_public(address.ip()) || (loopback == Loopback::Allowed && address.ip().is_loopback())
            };
            // One private address among public ones is as suspicious as only private ones.
            if resolved.is_empty() || !resolved.iter().all(allowed) {
                return Err(io::Error::other(NotPublic));
            }
            Ok(resolved.into_iter())
        })
    }
}

/// Returns whether an address is public unicast. Forms that carry another address in them are judged by that one.
/// Source: the IANA special-purpose address registries for IPv4 and IPv6.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !matches!(
        (a, b, c),
        (0 | 10 | 127 | 224..=255, _, _)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (192, 168, _)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
    )
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match (a, b) {
        // ::ffff:a.b.c.d, mapped
        (0, 0) if (c, d, e, f) == (0, 0, 0, 0xffff) => embedded(g, h),
        // 64:ff9b::a.b.c.d, translated
        (0x64, 0xff9b) if (c, d, e, f) == (0, 0, 0, 0) => embedded(g, h),
        // 2002:a.b.c.d::, 6to4
        (0x2002, _) => embedded(b, c),
        // Teredo, ORCHID and other protocol assignments, documentation
        (0x2001, 0..=0x01ff | 0x0db8) => false,
        (0x3fff, 0..=0x0fff) => false,
        // global unicast; everything else is local, multicast, reserved or unspecified
        _ => (0x2000..=0x3fff).contains(&a),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::Method;

    use super::*;

    #[test]
    fn only_public_unicast_is_public() {
        for public in [
            "1.1.1.1",
            "8.8.8.8",
            "172.15.0.1",
            "172.32.0.1",
            "100.63.0.1",
            "192.0.3.1",
            "2606:4700::1111",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2002:0808:0808::1",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for private in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "192.0.0.1",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "3fff::1",
            "100::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
    }

    async fn refusal(url: &str, loopback: Loopback) -> Fault {
        let request = ApiRequest::basic(Method::GET, url.parse().unwrap(), "u", "p");
        Guarded::new(loopback).unwrap().call(request).await.unwrap_err()
    }

    #[tokio::test]
    async fn addresses_that_are_not_allowed_are_not_called() {
        for url in [
            "http://shop.example.com/a",
            "https://shop.example.com:8443/",
            "https://127.0.0.1/",
            "https://[::1]/",
            "https://169.254.169.254/latest",
        ] {
            assert!(matches!(refusal(url, Loopback::Refused).await, Fault::Connection(_)), "{url}");
        }
        // A name that resolves to loopback is refused when connecting.
        let resolved = refusal("https://localhost/", Loopback::Refused).await;
        assert_eq!(resolved, Fault::Connection("the site's name resolves to no public address".into()));
    }

    /// The exception: loopback may be called, and nobody listens on a port that was just given up.
    #[tokio::test]
    async fn loopback_is_allowed_for_local_runs() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        assert!(matches!(
            refusal(&format!("http://127.0.0.1:{port}/"), Loopback::Allowed).await,
            Fault::Unavailable(_)
        ));
    }
}
