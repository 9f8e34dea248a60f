//! Owns calls to platforms, as data: a platform says what to ask and reads what was answered; the edges do the asking.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use jiff::fmt::rfc2822;
use url::{Host, Url};

use crate::timestamp::Timestamp;

/// One call.
#[derive(Clone)]
pub struct ApiRequest {
    /// The method.
    pub method: Method,
    /// Where to. A secret is in it only under one of [`SECRET_PARAMETERS`], whose values nothing prints.
    pub url: Url,
    /// Headers; those that hold secrets are marked as sensitive.
    pub headers: HeaderMap,
    /// The body, empty for none.
    pub body: Bytes,
}

impl ApiRequest {
    /// A call that shows nothing of who makes it, but what is in its address.
    pub fn open(method: Method, url: Url) -> Self {
        let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static("application/json"))]);
        Self { method, url, headers, body: Bytes::new() }
    }

    /// A call with HTTP Basic authentication.
    pub fn basic(method: Method, url: Url, user: &str, password: &str) -> Self {
        use base64::{Engine, engine::general_purpose::STANDARD};
        let token = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        let mut headers = HeaderMap::new();
        if let Ok(mut value) = HeaderValue::from_str(&token) {
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        Self { method, url, headers, body: Bytes::new() }
    }

    /// A call with a secret in a header of its own.
    ///
    /// # Errors
    /// [`Fault::Connection`] when the secret is none that a header can carry.
    pub fn with_secret(method: Method, url: Url, name: &'static str, secret: &str) -> Result<Self, Fault> {
        let mut value = HeaderValue::from_str(secret)
            .map_err(|_| Fault::Connection("the connection's credentials cannot be read; connect it again".into()))?;
        value.set_sensitive(true);
        let mut headers = HeaderMap::new();
        headers.insert(name, value);
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        Ok(Self { method, url, headers, body: Bytes::new() })
    }

    /// The same call with a JSON body.
    #[must_use]
    pub fn json(mut self, body: &serde_json::Value) -> Self {
        self.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.body = Bytes::from(body.to_string());
        self
    }
}

/// The parameters of a query that hold a secret.
pub const SECRET_PARAMETERS: &[&str] = &["consumer_key", "consumer_secret"];

/// Method and address only: headers and bodies hold secrets. So do some parameters.
impl fmt::Debug for ApiRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_secret = |name: &str| SECRET_PARAMETERS.contains(&name);
        if !self.url.query_pairs().any(|(name, _)| is_secret(&name)) {
            return write!(f, "{} {}", self.method, self.url);
        }
        let mut shown = self.url.clone();
        let pairs = self.url.query_pairs().map(|(name, value)| {
            let value = if is_secret(&name) { "-".into() } else { value };
            (name, value)
        });
        shown.query_pairs_mut().clear().extend_pairs(pairs);
        write!(f, "{} {shown}", self.method)
    }
}

/// What a platform answered.
#[derive(Clone)]
pub struct ApiResponse {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl fmt::Debug for ApiResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {} bytes", self.status, self.body.len())
    }
}

impl ApiResponse {
    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body, read as JSON, with or without a byte order mark. What is wrong is told by its place, never by its content.
    ///
    /// # Errors
    /// [`Fault::Unreadable`].
    pub fn read<T: serde::de::DeserializeOwned>(&self) -> Result<T, Fault> {
        let body = self.body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&self.body);
        serde_json::from_slice(body)
            .map_err(|error| Fault::Unreadable(format!("line {} column {}", error.line(), error.column())))
    }

    /// How long the platform wants to be left alone, in seconds, from `Retry-After`: a number, or a date.
    pub fn retry_after(&self, now: Timestamp) -> Option<i64> {
        let text = self.headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
        if let Ok(seconds) = text.parse::<u32>() {
            return Some(i64::from(seconds));
        }
        let at: jiff::Timestamp = rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
        Some((Timestamp::from(at).seconds() - now.seconds()).max(0))
    }

    /// What the answer means when it is no success and the platform has no word of its own for it.
    pub fn fault(&self, now: Timestamp) -> Fault {
        match self.status {
            429 => Fault::Throttled { seconds: self.retry_after(now).unwrap_or(60) },
            503 if self.headers.contains_key(header::RETRY_AFTER) => {
                Fault::Throttled { seconds: self.retry_after(now).unwrap_or(60) }
            }
            500.. | 408 => Fault::Unavailable(format!("the platform answered {}", self.status)),
            401 | 403 => Fault::Connection(format!(
                "the platform refuses the credentials ({}): check the site and its keys",
                self.status
            )),
            status @ 300..=399 => Fault::Connection(match self.redirects_to() {
                Some(target) => format!(
                    "the site redirects to {target} ({status}), which is not followed: connect that address, if it is the store's"
                ),
                None => format!(
                    "the site redirects ({status}), which is not followed: connect the address that it redirects to"
                ),
            }),
            status => Fault::Connection(format!("the platform answered {status}: check the site and its keys")),
        }
    }

    /// Where a redirect leads to, as far as that is the address of a site: without the API's path, and without a query, which may hold
    /// what the call had.
    fn redirects_to(&self) -> Option<String> {
        let target = Url::parse(self.headers.get(header::LOCATION)?.to_str().ok()?).ok()?;
        let host = target.host_str().filter(|host| host.len() <= 253)?;
        let port = target.port().map(|port| format!(":{port}")).unwrap_or_default();
        let path = target.path().split("/wp-json").next().filter(|path| target.path() != *path && path.len() <= 200);
        Some(format!("{}://{host}{port}{}", target.scheme(), path.unwrap_or_default()))
    }
}

/// Why a call did not give what it was for.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    /// The platform wants to be left alone for a while.
    #[error("the platform asks to wait {seconds} s")]
    Throttled {
        /// For how long.
        seconds: i64,
    },
    /// The platform cannot be reached, or failed; it may work the next time.
    #[error("{0}")]
    Unavailable(String),
    /// The platform does not take this connection's calls: wrong credentials, wrong address, no such endpoint.
    #[error("{0}")]
    Connection(String),
    /// The entity is larger than any that is kept.
    #[error("the platform's answer is too large: {0}")]
    TooLarge(String),
    /// The answer is not what the platform documents.
    #[error("the platform's answer cannot be read: {0}")]
    Unreadable(String),
}

/// Where a platform's API is: no call ever goes anywhere else, whatever a payload or a setting names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hosts {
    /// Each store is a site of its own; its calls stay on it.
    Site,
    /// These hosts.
    Only(&'static [&'static str]),
    /// Hosts below these domains, each written with its leading dot.
    Below(&'static [&'static str]),
}

impl Hosts {
    /// Whether a site may be one of this platform's. A loopback address is, where `allow_loopback`, for local runs.
    pub fn allow(self, site: &Url, allow_loopback: bool) -> bool {
        let Some(host) = site.host_str() else { return false };
        if allow_loopback && is_loopback(site) {
            return true;
        }
        match self {
            Self::Site => true,
            Self::Only(hosts) => hosts.contains(&host),
            Self::Below(domains) => domains.iter().any(|domain| host.len() > domain.len() && host.ends_with(domain)),
        }
    }

    /// Checks a call before it is made: to one of the platform's hosts, and to the very one that the connection is to.
    ///
    /// # Errors
    /// [`Fault::Connection`].
    pub fn check(self, site: &str, request: &ApiRequest, allow_loopback: bool) -> Result<(), Fault> {
        let site = Url::parse(site).map_err(|_| Fault::Connection("the connection's site cannot be read".into()))?;
        let same = site.origin() == request.url.origin();
        if same && self.allow(&request.url, allow_loopback) {
            Ok(())
        } else {
            Err(Fault::Connection("a call to a host that is not the connection's was not made".into()))
        }
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// An address that cannot be a store's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SiteError {
    /// No absolute URL.
    #[error("not an absolute URL; give it as https://shop.example.com")]
    NotAUrl,
    /// Not https.
    #[error("must begin with https://")]
    NotHttps,
    /// Another port than 443.
    #[error("must be on port 443")]
    Port,
    /// Something that does not belong to a site's address.
    #[error("must have no user, password, query or fragment")]
    Parts,
    /// A host with characters that none has, or with a dot at its end.
    #[error("must have a host of letters, digits, - and _ with single dots between, and no dot at its end")]
    Host,
    /// An IP address instead of a name.
    #[error("must have a host name, not an IP address")]
    NoName,
}

/// Whether a host, as a URL has it (in lower case, and in punycode), can be a store's. URLs allow for more than names do, and for a dot at
/// the end, which means the same host: a store must have one address. The last part is a top-level domain, of letters or in punycode.
fn is_store_host(host: &str) -> bool {
    let part = |part: &str| {
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
        (1..=63).contains(&part.len()) && part.bytes().all(legal) && !part.starts_with('-') && !part.ends_with('-')
    };
    let last = host.rsplit('.').next().unwrap_or_default();
    let top = last.bytes().all(|byte| byte.is_ascii_lowercase())
        || last.strip_prefix("xn--").is_some_and(|rest| !rest.contains('_'));
    host.len() <= 253 && host.split('.').all(part) && top
}

/// Checks the address of a store: https on 443 with a host name, and a path at most. Gives it without a trailing slash. With
/// `allow_loopback`, for local runs, a loopback host may have http and any port.
///
/// # Errors
/// [`SiteError`].
pub fn site_url(text: &str, allow_loopback: bool) -> Result<String, SiteError> {
    let url = Url::parse(text.trim()).map_err(|_| SiteError::NotAUrl)?;
    let Some(host) = url.host() else { return Err(SiteError::NotAUrl) };
    let parts =
        !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some();
    if parts {
        return Err(SiteError::Parts);
    }
    if !(allow_loopback && is_loopback(&url)) {
        if url.scheme() != "https" {
            return Err(SiteError::NotHttps);
        }
        if !matches!(host, Host::Domain(_)) {
            return Err(SiteError::NoName);
        }
        if !url.host_str().is_some_and(is_store_host) {
            return Err(SiteError::Host);
        }
        if url.port().is_some() {
            return Err(SiteError::Port);
        }
    } else if !matches!(url.scheme(), "http" | "https") {
        return Err(SiteError::NotHttps);
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn nothing_prints_credentials() {
        let request = ApiRequest::basic(Method::GET, Url::parse("https://shop.example.com/a").unwrap(), "ck_1", "cs_2");
        let shown = format!("{request:?} {:?}", request.headers);
        assert!(shown.contains("GET https://shop.example.com/a") && shown.contains("Sensitive"), "{shown}");
        assert!(!shown.contains("Basic"), "{shown}");
    }

    #[test]
    fn nothing_prints_keys_in_a_query() {
        let url =
            Url::parse("https://shop.example.com/?rest_route=%2Fwc%2Fv3&consumer_key=ck_1&consumer_secret=cs_2&page=2");
        let request = ApiRequest::basic(Method::GET, url.unwrap(), "a", "b");
        let shown = format!("{request:?}");
        assert!(shown.contains("rest_route=%2Fwc%2Fv3") && shown.contains("page=2"), "{shown}");
        assert!(!shown.contains("ck_1") && !shown.contains("cs_2"), "{shown}");
    }

    #[test]
    fn a_redirect_is_told_by_its_target_without_what_the_call_had() {
        let told = |location: &'static str| {
            let headers = HeaderMap::from_iter([(header::LOCATION, HeaderValue::from_static(location))]);
            ApiResponse { status: 301, headers, body: Bytes::new() }.fault(Timestamp::from_micros(0)).to_string()
        };
        for (location, target) in [
            ("https://www.shop.example.com/wp-json/wc/v3/orders/7?consumer_key=ck_1", "https://www.shop.example.com "),
            ("https://shop.example.com/store/wp-json/wc/v3/orders", "https://shop.example.com/store "),
            ("https://user:ck_1@shop.example.com/login?to=ck_1#ck_1", "https://shop.example.com "),
            ("/login?ck_1", "the site redirects (301)"),
            ("http://127.0.0.1:81/wp-json", "http://127.0.0.1:81 "),
        ] {
            assert!(told(location).contains(target) && !told(location).contains("ck_1"), "{}", told(location));
        }
    }

    #[test]
    fn retry_after_is_a_number_or_a_date() {
        let now = Timestamp::from(crate::timestamp::parse_utc("2026-11-21T01:00:00").unwrap());
        let wait = |text: &'static str| {
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from_static(text))]);
            ApiResponse { status: 429, headers, body: Bytes::new() }.retry_after(now)
        };
        assert_eq!(wait("120"), Some(120));
        assert_eq!(wait("Sat, 21 Nov 2026 01:00:30 GMT"), Some(30));
        assert_eq!(wait("Sat, 21 Nov 2026 00:00:00 GMT"), Some(0));
        assert_eq!(wait("soon"), None);
    }

    #[test]
    fn calls_stay_on_the_connection_s_host() {
        let url = |text: &str| Url::parse(text).unwrap();
        let only = Hosts::Only(&["api.example.com"]);
        let below = Hosts::Below(&[".shops.example.com"]);
        assert!(only.allow(&url("https://api.example.com/x"), false));
        assert!(!only.allow(&url("https://api.example.com.attacker.test/x"), false));
        assert!(below.allow(&url("https://a.shops.example.com"), false));
        for bad in
            ["https://shops.example.com", "https://ashops.example.com", "https://a.shops.example.com.attacker.test"]
        {
            assert!(!below.allow(&url(bad), false), "{bad}");
        }
        assert!(!only.allow(&url("http://127.0.0.1:8080"), false) && only.allow(&url("http://127.0.0.1:8080"), true));
        let call = |text: &str| ApiRequest::basic(Method::GET, url(text), "a", "b");
        assert_eq!(only.check("https://api.example.com/stores/a", &call("https://api.example.com/b"), false), Ok(()));
        assert!(only.check("https://api.example.com", &call("https://other.example.com/b"), false).is_err());
        assert!(Hosts::Site.check("https://a.example.com", &call("https://b.example.com/"), false).is_err());
        assert!(only.check("http://127.0.0.1:1", &call("http://127.0.0.1:2/"), true).is_err(), "another port");
    }

    #[test]
    fn site_addresses() {
        for (text, site) in [
            ("https://shop.example.com", "https://shop.example.com"),
            ("https://Shop.example.com/sub/dir/", "https://shop.example.com/sub/dir"),
            ("https://shop.example.com:443/", "https://shop.example.com"),
            ("https://SHOP.EXAMPLE.COM", "https://shop.example.com"),
            ("https://B\u{fc}cher.example", "https://xn--bcher-kva.example"),
            ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
            ("https://my_shop-1.example.xn--p1ai", "https://my_shop-1.example.xn--p1ai"),
            ("https://shop%2eexample.com", "https://shop.example.com"),
            ("https://shop\u{3002}example.com", "https://shop.example.com"),
        ] {
            assert_eq!(site_url(text, false).as_deref(), Ok(site));
        }
        for (text, error) in [
            ("shop.example.com", SiteError::NotAUrl),
            ("http://shop.example.com", SiteError::NotHttps),
            ("ftp://shop.example.com", SiteError::NotHttps),
            ("https://shop.example.com:8443", SiteError::Port),
            ("https://user:pass@shop.example.com", SiteError::Parts),
            ("https://shop.example.com/?a=b", SiteError::Parts),
            ("https://127.0.0.1", SiteError::NoName),
            ("https://2130706433", SiteError::NoName),
            ("https://[::1]", SiteError::NoName),
            ("https://shop.example.com.", SiteError::Host),
            ("https://shop.example.com./sub", SiteError::Host),
            ("https://shop.example.com\u{3002}", SiteError::Host),
            ("https://shop..example.com", SiteError::Host),
            ("https://a_b.example+1", SiteError::Host),
            ("https://a!b.example.com", SiteError::Host),
            ("https://a~b.example.com", SiteError::Host),
            ("https://a,b.example.com", SiteError::Host),
            ("https://a&b.example.com", SiteError::Host),
            ("https://a'b.example.com", SiteError::Host),
            ("https://-a.example.com", SiteError::Host),
            ("https://a.example.com_x", SiteError::Host),
            ("https://a.example.d-1234abcd", SiteError::Host),
            ("https://_/", SiteError::Host),
        ] {
            assert_eq!(site_url(text, false), Err(error), "{text}");
        }
        assert_eq!(site_url("http://127.0.0.1:8080", true).as_deref(), Ok("http://127.0.0.1:8080"));
        assert_eq!(site_url("http://10.0.0.1", true), Err(SiteError::NotHttps));
        assert_eq!(site_url("ftp://localhost/", true), Err(SiteError::NotHttps));
    }
}
