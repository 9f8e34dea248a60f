//! The key sets (JWKS) that senders publish at a URL, fetched when they are needed and remembered.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use commerce::{
    http_call::{ApiRequest, ApiResponse, Fault, Loopback},
    timestamp::Timestamp,
};

use crate::{
    EdgeError,
    outbound::{Guarded, Outbound},
};

/// The time for which a set is used before it is fetched again, in seconds.
const MAX_AGE_SECONDS: i64 = 3_600;
/// The least time between two fetches of a set, in seconds: a token can name any key, and must not cost a fetch each
/// time.
const REFRESH_SECONDS: i64 = 60;
/// The largest set, in bytes.
const MAX_BYTES: usize = 256 * 1024;
/// The most sets that are remembered.
const MAX_SETS: usize = 100;

/// The way out, which is made ready with the first call.
#[derive(Clone)]
pub struct LazyGuarded {
    loopback: Loopback,
    client: Arc<OnceLock<Guarded>>,
}

impl LazyGuarded {
    /// Makes the way out, with `loopback` allowed for local runs only.
    pub fn new(loopback: Loopback) -> Self {
        Self { loopback, client: Arc::default() }
    }
}

impl Outbound for LazyGuarded {
    async fn call(&self, request: ApiRequest) -> Result<ApiResponse, Fault> {
        let client = match self.client.get() {
            Some(client) => client.clone(),
            None => {
                let client = Guarded::new(self.loopback).map_err(|error| Fault::Unavailable(error.to_string()))?;
                self.client.get_or_init(|| client).clone()
            }
        };
        client.call(request).await
    }
}

/// A set that was fetched at a time.
#[derive(Clone, Default)]
struct Fetched {
    set: Option<Arc<str>>,
    /// The time of the set.
    at: Option<Timestamp>,
    /// The time of the last try.
    tried: Option<Timestamp>,
}

/// The key sets, each fetched by one caller at a time.
pub struct KeySets<O> {
    outbound: O,
    sets: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Fetched>>>>,
}

impl<O: Outbound + Sync> KeySets<O> {
    /// Makes a cache that remembers nothing yet.
    pub fn new(outbound: O) -> Self {
        Self { outbound, sets: Mutex::default() }
    }

    /// Returns the set at a URL. With `unknown`, the remembered set lacks a key, and is fetched again unless that was
    /// tried a moment ago. Where it cannot be fetched, the last good one stays.
    ///
    /// # Errors
    /// [`EdgeError`] when there never was one.
    pub async fn set(&self, url: &str, unknown: bool, now: Timestamp) -> Result<Arc<str>, EdgeError> {
        let entry = {
            let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
            if sets.len() >= MAX_SETS && !sets.contains_key(url) {
                sets.clear();
            }
            Arc::clone(sets.entry(url.to_owned()).or_default())
        };
        let mut fetched = entry.lock().await;
        let within = |at: Option<Timestamp>, seconds: i64| at.is_some_and(|at| at.plus_seconds(seconds) > now);
        let fresh = fetched.set.is_some() && within(fetched.at, MAX_AGE_SECONDS) && !unknown;
        if !fresh && !within(fetched.tried, REFRESH_SECONDS) {
            fetched.tried = Some(now);
            match self.fetch(url).await {
                Ok(set) => (fetched.set, fetched.at) = (Some(set), Some(now)),
                Err(fault) => crate::telemetry::warn("key-set-not-fetched", &format!("{url}: {fault}")),
            }
        }
        fetched.set.clone().ok_or_else(|| EdgeError::new("fetching a key set", format!("{url} gave none")))
    }

    async fn fetch(&self, url: &str) -> Result<Arc<str>, Fault> {
        let url = url::Url::parse(url).map_err(|_| Fault::Connection("no URL".into()))?;
        let answer = self.outbound.call(ApiRequest::open(http::Method::GET, url)).await?;
        if !answer.is_success() || answer.body.len() > MAX_BYTES {
            return Err(Fault::Unreadable(format!("{} with {} bytes", answer.status, answer.body.len())));
        }
        let text = std::str::from_utf8(&answer.body).map_err(|_| Fault::Unreadable("no text".into()))?;
        commerce::scheme::jwt::PublicKeys::from_jwks(&answer.read()?)
            .map_err(|_| Fault::Unreadable("no key set".into()))?;
        Ok(text.into())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Clone, Default)]
    struct Site(Arc<(AtomicUsize, Mutex<Option<&'static str>>)>);

    impl Outbound for Site {
        async fn call(&self, _: ApiRequest) -> Result<ApiResponse, Fault> {
            self.0.0.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            let body = self.0.1.lock().unwrap().ok_or(Fault::Unavailable("down".into()))?;
            Ok(ApiResponse { status: 200, headers: http::HeaderMap::new(), body: body.into() })
        }
    }

    const ONE: &str =
        r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"1","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    const TWO: &str =
        r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"2","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

    #[tokio::test]
    async fn a_set_is_fetched_once_and_the_last_good_one_stays() {
        let site = Site::default();
        let (sets, calls) = (KeySets::new(site.clone()), || site.0.0.load(Ordering::SeqCst));
        let (url, at) = ("https://keys.example.com/jwks", Timestamp::from_millis(1_000_000));
        assert!(sets.set(url, false, at).await.is_err());
        *site.0.1.lock().unwrap() = Some(ONE);
        assert!(sets.set(url, false, at.plus_seconds(59)).await.is_err(), "it was tried a moment ago");
        let at = at.plus_seconds(61);
        let several = futures_util::future::join_all((0..20).map(|_| sets.set(url, false, at))).await;
        assert!(several.iter().all(|set| set.as_deref().unwrap() == ONE));
        assert_eq!(calls(), 2, "one of twenty fetched it");
        *site.0.1.lock().unwrap() = Some(TWO);
        assert_eq!(&*sets.set(url, true, at.plus_seconds(59)).await.unwrap(), ONE, "a token can name any key");
        assert_eq!(&*sets.set(url, true, at.plus_seconds(61)).await.unwrap(), TWO);
        assert_eq!(calls(), 3);
        for broken in [None, Some("no JSON"), Some("{}")] {
            *site.0.1.lock().unwrap() = broken;
            assert_eq!(&*sets.set(url, false, at.plus_seconds(100_000)).await.unwrap(), TWO, "{broken:?}");
        }
        assert_eq!(calls(), 4);
    }
}
