//! The secrets at run time: fetched from Secrets Manager, cached, and refreshed by age and after a failed proof.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aws_sdk_secretsmanager::Client;
use commerce::{apps::Apps, keys::KeyRing, platforms::INBOUND, timestamp::Timestamp};

use crate::{
    EdgeError,
    aws::{cause, fault, within},
};

/// The age at which a cached secret is fetched again, in seconds, to which up to [`JITTER_SECONDS`] are added.
pub const MAX_AGE_SECONDS: i64 = 300;
/// The bound of the random addition to [`MAX_AGE_SECONDS`], in seconds, which spreads the fetches of many environments.
pub const JITTER_SECONDS: i64 = 60;
/// The least time between two fetches after failed proofs, in seconds, because forgers must not run up the bill. A
/// refresh that failed is repeated after it, too.
pub const REFRESH_SECONDS: i64 = 30;

/// The time for which a first fetch that failed is not repeated, in seconds.
pub const FAILED_SECONDS: i64 = 2;

/// The source of a secret's value.
pub trait SecretSource {
    /// Fetches the present value.
    fn fetch(&self) -> impl Future<Output = Result<String, EdgeError>> + Send;
}

/// The writing of a secret's value.
pub trait KeepSecret {
    /// Replaces the value.
    fn replace(&self, text: &str) -> impl Future<Output = Result<(), EdgeError>> + Send;
}

impl KeepSecret for SecretsManager {
    async fn replace(&self, text: &str) -> Result<(), EdgeError> {
        let put = self.client.put_secret_value().secret_id(&self.id).secret_string(text).send().await;
        put.map(|_| ()).map_err(|error| EdgeError::new("PutSecretValue", cause(&error)))
    }
}

/// A secret of Secrets Manager.
#[derive(Clone, Debug)]
pub struct SecretsManager {
    client: Client,
    id: String,
}

impl SecretsManager {
    /// Makes the edge to the secret of this ARN or name.
    pub fn new(client: Client, id: String) -> Self {
        Self { client, id }
    }
}

impl SecretSource for SecretsManager {
    async fn fetch(&self) -> Result<String, EdgeError> {
        let operation = "GetSecretValue";
        let value = self
            .client
            .get_secret_value()
            .secret_id(&self.id)
            .send()
            .await
            .map_err(|error| fault(operation, &error))?;
        value.secret_string.ok_or_else(|| EdgeError::new(operation, "the secret has no text"))
    }
}

/// A type that a secret's text can be read as.
pub trait FromSecret: Sized {
    /// Reads the text.
    ///
    /// # Errors
    /// The fault in the text, without any of the secret.
    fn read(text: &str) -> Result<Self, String>;
}

impl FromSecret for KeyRing {
    fn read(text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(|error| error.to_string())
    }
}

impl FromSecret for Apps {
    fn read(text: &str) -> Result<Self, String> {
        Self::parse(text, |name| INBOUND.iter().any(|platform| platform.name == name))
            .map_err(|error| error.to_string())
    }
}

struct Cached<T> {
    value: Arc<T>,
    /// The time at which it was fetched.
    fetched: Timestamp,
    /// The time at which it is to be fetched again.
    due: Timestamp,
}

/// A secret, cached in the form in which it was read.
pub struct Cache<S, T> {
    source: S,
    cached: Mutex<Option<Cached<T>>>,
    /// The time of the last fetch after a failed proof.
    refreshed: Mutex<Option<Timestamp>>,
    /// The time and the error of the last failed first fetch.
    failed: Mutex<Option<(Timestamp, EdgeError)>>,
    /// The lock that lets one task fetch at first. The tasks that wait find what it fetched.
    first: tokio::sync::Mutex<()>,
    /// The number of first fetches that callers have waited for.
    looks: AtomicU64,
}

/// A cached key ring.
pub type Keys<S> = Cache<S, KeyRing>;

/// The vendor's cached app credentials.
pub type AppCredentials<S> = Cache<S, Apps>;

impl<S: SecretSource + Sync, T: FromSecret + Send + Sync> Cache<S, T> {
    /// Returns the source of the value.
    pub fn source(&self) -> &S {
        &self.source
    }

    /// Makes a cache that has fetched nothing yet.
    pub fn new(source: S) -> Self {
        Self {
            source,
            cached: Mutex::new(None),
            refreshed: Mutex::new(None),
            failed: Mutex::new(None),
            first: tokio::sync::Mutex::new(()),
            looks: AtomicU64::new(0),
        }
    }

    /// Returns the value, fetched if there is none or it is old. If that fails, the last good one stays for another
    /// while.
    ///
    /// # Errors
    /// [`EdgeError`] when there never was a good one.
    pub async fn current(&self, now: Timestamp) -> Result<Arc<T>, EdgeError> {
        let cached = {
            let cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
            cached.as_ref().map(|cached| (Arc::clone(&cached.value), cached.fetched, cached.due))
        };
        match cached {
            Some((value, _, due)) if now < due => Ok(value),
            Some((value, fetched, _)) => match self.fetch(now).await {
                Ok(fresh) => Ok(fresh),
                Err(error) => {
                    crate::telemetry::warn("keys-kept", &error.to_string());
                    self.keep(Arc::clone(&value), fetched, now.plus_seconds(REFRESH_SECONDS));
                    Ok(value)
                }
            },
            None => self.first(now).await,
        }
    }

    /// Returns the value to a caller that waits for `limit`. If there is none yet, it is fetched again and again until
    /// then.
    ///
    /// # Errors
    /// As [`Cache::current`], and when the time is up.
    pub async fn current_within(&self, now: Timestamp, limit: Duration) -> Result<Arc<T>, EdgeError> {
        if self.has_any() {
            return self.current(now).await;
        }
        let (until, looks) = (tokio::time::Instant::now() + limit, self.looks.load(Ordering::Relaxed));
        let timed_out = || EdgeError::new("waiting for a secret", "timed out");
        let Ok(_one_at_a_time) = tokio::time::timeout_at(until, self.first.lock()).await else {
            return Err(timed_out());
        };
        if self.has_any() {
            return self.current(now).await;
        }
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // A caller that has waited for another one's fetch takes its result.
        let is_told = looks != self.looks.load(Ordering::Relaxed);
        let told = failed.filter(|(at, error)| is_told || error.lasting && now < at.plus_seconds(FAILED_SECONDS));
        if let Some((_, error)) = told {
            return Err(error);
        }
        let left = until.saturating_duration_since(tokio::time::Instant::now());
        let looked = self.noted(now, within(left, || self.fetch(now)).await);
        self.looks.fetch_add(1, Ordering::Relaxed);
        looked
    }

    fn has_any(&self) -> bool {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Fetches the value for the first time. A fetch that failed a moment ago is not repeated, because every request
    /// would repeat it.
    async fn first(&self, now: Timestamp) -> Result<Arc<T>, EdgeError> {
        {
            let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, error)) = failed.as_ref().filter(|(at, _)| now < at.plus_seconds(FAILED_SECONDS)) {
                return Err(error.clone());
            }
        }
        self.noted(now, self.fetch(now).await)
    }

    /// Remembers the result of a first fetch.
    fn noted(&self, now: Timestamp, fetched: Result<Arc<T>, EdgeError>) -> Result<Arc<T>, EdgeError> {
        let failure = fetched.as_ref().err().map(|error| (now, error.clone()));
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = failure;
        fetched
    }

    /// Fetches the present value, whatever is cached, for callers that must not miss a rotation.
    ///
    /// # Errors
    /// [`EdgeError`] when it cannot be fetched or read.
    pub async fn fresh(&self, now: Timestamp) -> Result<Arc<T>, EdgeError> {
        self.fetch(now).await
    }

    /// Returns the value as it was at most this many seconds ago, for callers that should not miss a rotation but that
    /// strangers can trigger.
    ///
    /// # Errors
    /// [`EdgeError`] when it has to be fetched, and cannot be fetched or read.
    pub async fn recent(&self, now: Timestamp, seconds: i64) -> Result<Arc<T>, EdgeError> {
        let recent = {
            let cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
            let recent = cached.as_ref().filter(|cached| now < cached.fetched.plus_seconds(seconds));
            recent.map(|cached| Arc::clone(&cached.value))
        };
        match recent {
            Some(value) => Ok(value),
            None => self.fetch(now).await,
        }
    }

    /// Fetches the value anew because a proof failed. Returns `None` when that was done a moment ago, or fails.
    pub async fn after_failed_proof(&self, now: Timestamp) -> Option<Arc<T>> {
        {
            let mut refreshed = self.refreshed.lock().unwrap_or_else(PoisonError::into_inner);
            if refreshed.is_some_and(|at| now < at.plus_seconds(REFRESH_SECONDS)) {
                return None;
            }
            *refreshed = Some(now);
        }
        self.fetch(now).await.ok()
    }

    async fn fetch(&self, now: Timestamp) -> Result<Arc<T>, EdgeError> {
        let text = self.source.fetch().await?;
        // The text stays unreadable until somebody mends it.
        let unreadable = |error| EdgeError { lasting: true, ..EdgeError::new("reading a secret", error) };
        let value = Arc::new(T::read(&text).map_err(unreadable)?);
        let jitter = i64::try_from(RandomState::new().build_hasher().finish() % JITTER_SECONDS.unsigned_abs());
        self.keep(Arc::clone(&value), now, now.plus_seconds(MAX_AGE_SECONDS + jitter.unwrap_or(0)));
        Ok(value)
    }

    fn keep(&self, value: Arc<T>, fetched: Timestamp, due: Timestamp) {
        *self.cached.lock().unwrap_or_else(PoisonError::into_inner) = Some(Cached { value, fetched, due });
    }
}
