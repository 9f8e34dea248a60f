//! Owns calls to platforms, as data: a platform builds the call and reads the answer; the edges make the call.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use jiff::fmt::rfc2822;
use url::{Host, Url};

use crate::timestamp::Timestamp;

/// One call to a platform's API.
#[derive(Clone)]
pub struct ApiRequest {
    /// The method.
    pub method: Method,
    /// The URL. It carries secrets only under [`SECRET_PARAMETERS`], whose values are never printed.
    pub url: Url,
    /// The headers; those that hold secrets are marked as sensitive.
    pub headers: HeaderMap,
    /// The body, or empty for none.
    pub body: Bytes,
}

impl ApiRequest {
    /// Makes a call without credentials, except for those in its URL.
    pub fn open(method: Method, url: Url) -> Self {
        let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static("application/json"))]);
        Self { method, url, headers, body: Bytes::new() }
    }

    /// Makes a call with HTTP Basic authentication.
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

    /// Makes a call with a secret in a header of its own.
    ///
    /// # Errors
    /// [`Fault::Connection`] when a header cannot carry the secret.
    pub fn with_secret(method: Method, url: Url, name: &'static str, secret: &str) -> Result<Self, Fault> {
        let mut value = HeaderValue::from_str(secret)
            .map_err(|_| Fault::Connection("the connection's credentials cannot be read; connect it again".into()))?;
        value.set_sensitive(true);
        let mut headers = HeaderMap::new();
        headers.insert(name, value);
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        Ok(Self { method, url, headers, body: Bytes::new() })
    }

    /// Adds a JSON body to the call.
    #[must_use]
    pub fn json(mut self, body: &serde_json::Value) -> Self {
        self.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.body = Bytes::from(body.to_string());
        self
    }
}

/// The query parameters that hold a secret.
pub const SECRET_PARAMETERS: &[&str] = &["consumer_key", "consumer_secret"];

/// The method and URL only, without the values of secret parameters, because headers and bodies hold secrets.
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

/// A platform's answer to a call.
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
    /// Returns whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Reads the body as JSON, with or without a byte order mark. An error names its place, never its content.
    ///
    /// # Errors
    /// [`Fault::Unreadable`].
    pub fn read<T: serde::de::DeserializeOwned>(&self) -> Result<T, Fault> {
        let body = self.body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&self.body);
        serde_json::from_slice(body)
            .map_err(|error| Fault::Unreadable(format!("line {} column {}", error.line(), error.column())))
    }

    /// Returns the time that the platform asks to wait, in seconds, from `Retry-After`, which is a number or a date.
    pub fn retry_after(&self, now: Timestamp) -> Option<i64> {
        let text = self.headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
        if let Ok(seconds) = text.parse::<u32>() {
            return Some(i64::from(seconds));
        }
        let at: jiff::Timestamp = rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
        Some((Timestamp::from(at).seconds() - now.seconds()).max(0))
    }

    /// Maps an unsuccessful answer to a fault, where the platform does not define its own meaning.
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

    /// Returns the site that a redirect leads to: without the API's path, and without the query, which may repeat the
    /// call's own.
    fn redirects_to(&self) -> Option<String> {
        let target = Url::parse(self.headers.get(header::LOCATION)?.to_str().ok()?).ok()?;
        let host = target.host_str().filter(|host| host.len() <= 253)?;
        let port = target.port().map(|port| format!(":{port}")).unwrap_or_default();
        let path = target.path().split("/wp-json").next().filter(|path| target.path() != *path && path.len() <= 200);
        Some(format!("{}://{host}{port}{}", target.scheme(), path.unwrap_or_default()))
    }
}

/// The reason for which a call failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    /// The platform asks to wait.
    #[error("the platform asks to wait {seconds} s")]
    Throttled {
        /// The time to wait, in seconds.
        seconds: i64,
    },
    /// The platform cannot be reached, or failed. A later call may succeed.
    #[error("{0}")]
    Unavailable(String),
    /// The platform refuses this connection's calls: wrong credentials, wrong address, no such endpoint.
    #[error("{0}")]
    Connection(String),
    /// The entity is larger than any that is kept.
    #[error("the platform's answer is too large: {0}")]
    TooLarge(String),
    /// The answer is not as the platform documents.
    #[error("the platform's answer cannot be read: {0}")]
    Unreadable(String),
}

/// The hosts of a platform's API. No call goes anywhere else, whatever a payload or a setting names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hosts {
    /// Each store is its own site, and its calls stay on it.
    Site,
    /// These hosts.
    Only(&'static [&'static str]),
    /// Hosts below these domains, each written with its leading dot.
    Below(&'static [&'static str]),
}

/// The choice of whether a platform may be on this machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loopback {
    /// Only public addresses are called, as in every deployment on AWS.
    Refused,
    /// Loopback addresses are called, too, over http and on any port, for local runs.
    Allowed,
}

impl Loopback {
    /// Returns [`Loopback::Allowed`] if a deployment's parameter says so.
    pub fn allowed_if(says_so: bool) -> Self {
        if says_so { Self::Allowed } else { Self::Refused }
    }
}

impl Hosts {
    /// Returns whether a site can be one of this platform's. With [`Loopback::Allowed`], a loopback address can.
    pub fn allow(self, site: &Url, loopback: Loopback) -> bool {
        let Some(host) = site.host_str() else { return false };
        if loopback == Loopback::Allowed && is_loopback(site) {
            return true;
        }
        match self {
            Self::Site => true,
            Self::Only(hosts) => hosts.contains(&host),
            Self::Below(domains) => domains.iter().any(|domain| host.len() > domain.len() && host.ends_with(domain)),
        }
    }

    /// Checks before a call that it goes to one of the platform's hosts, and to the connection's own origin.
    ///
    /// # Errors
    /// [`Fault::Connection`].
    pub fn check(self, site: &str, request: &ApiRequest, loopback: Loopback) -> Result<(), Fault> {
        let site = Url::parse(site).map_err(|_| Fault::Connection("the connection's site cannot be read".into()))?;
        let same = site.origin() == request.url.origin();
        if same && self.allow(&request.url, loopback) {
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

/// An error for an address that cannot be a store's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SiteError {
    /// The text is not an absolute URL.
    #[error("not an absolute URL; give it as https://shop.example.com")]
    NotAUrl,
    /// Not https.
    #[error("must begin with https://")]
    NotHttps,
    /// A port other than 443.
    #[error("must be on port 443")]
    Port,
    /// A part that does not belong to a site's address.
    #[error("must have no user, password, query or fragment")]
    Parts,
    /// A host with illegal characters, or with a dot at its end.
    #[error("must have a host of letters, digits, - and _ with single dots between, and no dot at its end")]
    Host,
    /// An IP address instead of a name.
    #[error("must have a host name, not an IP address")]
    NoName,
}

/// Returns whether a host, in a URL's form (lower case, punycode), can be a store's. The last part must be a top-level
/// domain, of letters or in punycode.
///
/// URLs allow more than names do, and a dot at the end, which means the same host; a store must have one address.
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

/// Checks the address of a store: https on 443 with a host name, and at most a path. Returns it without a trailing
/// slash. With [`Loopback::Allowed`], a loopback host may have http and any port.
///
/// # Errors
/// [`SiteError`].
pub fn site_url(text: &str, loopback: Loopback) -> Result<String, SiteError> {
    let url = Url::parse(text.trim()).map_err(|_| SiteError::NotAUrl)?;
    let Some(host) = url.host() else { return Err(SiteError::NotAUrl) };
    let parts =
        !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some();
    if parts {
        return Err(SiteError::Parts);
    }
    if !(loopback == Loopback::Allowed && is_loopback(&url)) {
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
        assert!(only.allow(&url("https://api.example.com/x"), Loopback::Refused));
        assert!(!only.allow(&url("https://api.example.com.attacker.test/x"), Loopback::Refused));
        assert!(below.allow(&url("https://a.shops.example.com"), Loopback::Refused));
        for bad in
            ["https://shops.example.com", "https://ashops.example.com", "https://a.shops.example.com.attacker.test"]
        {
            assert!(!below.allow(&url(bad), Loopback::Refused), "{bad}");
        }
        assert!(
            !only.allow(&url("http://127.0.0.1:8080"), Loopback::Refused)
                && only.allow(&url("http://127.0.0.1:8080"), Loopback::Allowed)
        );
        let call = |text: &str| ApiRequest::basic(Method::GET, url(text), "a", "b");
        assert_eq!(
            only.check("https://api.example.com/stores/a", &call("https://api.example.com/b"), Loopback::Refused),
            Ok(())
        );
        assert!(
            only.check("https://api.example.com", &call("https://other.example.com/b"), Loopback::Refused).is_err()
        );
        assert!(
            Hosts::Site.check("https://a.example.com", &call("https://b.example.com/"), Loopback::Refused).is_err()
        );
        assert!(
            only.check("http://127.0.0.1:1", &call("http://127.0.0.1:2/"), Loopback::Allowed).is_err(),
            "another port"
        );
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
            assert_eq!(site_url(text, Loopback::Refused).as_deref(), Ok(site));
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
            assert_eq!(site_url(text, Loopback::Refused), Err(error), "{text}");
        }
        assert_eq!(site_url("http://127.0.0.1:8080", Loopback::Allowed).as_deref(), Ok("http://127.0.0.1:8080"));
        assert_eq!(site_url("http://10.0.0.1", Loopback::Allowed), Err(SiteError::NotHttps));
        assert_eq!(site_url("ftp://localhost/", Loopback::Allowed), Err(SiteError::NotHttps));
    }
}
