//! The `ProofKeys` table: keys that clients brought, of which only hashes are kept. The receiver reads it only for
//! platforms whose clients bring keys.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use aws_sdk_dynamodb::{Client, types::AttributeValue};
use commerce::{key::ConnectionKey, keys::BroughtKey, timestamp::Timestamp};

use crate::{
    EdgeError,
    aws::{cause, fault, told},
    connections::{key, parse_key},
};

/// The sort key of the one item that holds all keys of a connection.
const BROUGHT: &str = "brought";
/// The time for which the receiver uses the keys that it has read, in seconds. A withdrawn key works this much longer.
pub const MAX_AGE_SECONDS: i64 = 60;
/// The least time between two reads after failed proofs, in seconds. Forgers must not run up the bill, but somebody may
/// just be connecting.
pub const REFRESH_SECONDS: i64 = 5;
/// The most pages of 1 MB that are read: some 60,000 connections whose clients brought keys.
const MAX_PAGES: usize = 16;

/// The keys that clients brought, by connection.
pub type Brought = HashMap<ConnectionKey, Arc<[BroughtKey]>>;

/// The reading of keys that clients brought.
pub trait ProofKeys {
    /// Reads all keys, so that no request costs a read of its own, whatever connection it names.
    fn all(&self) -> impl Future<Output = Result<Brought, EdgeError>> + Send;
}

/// The writing of keys that clients brought.
pub trait KeepProofKeys {
    /// Replaces the keys of a connection. Without keys, removes the item.
    fn replace(&self, key: &ConnectionKey, keys: &[BroughtKey]) -> impl Future<Output = Result<(), EdgeError>> + Send;
}

/// The `ProofKeys` table at DynamoDB.
#[derive(Clone, Debug)]
pub struct DynamoProofKeys {
    client: Client,
    table: String,
}

impl DynamoProofKeys {
    /// Makes the edge to the table of this name.
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }
}

impl ProofKeys for DynamoProofKeys {
    async fn all(&self) -> Result<Brought, EdgeError> {
        let operation = "Scan of keys that were brought";
        let (mut found, mut start) = (Brought::new(), None);
        for _ in 0..MAX_PAGES {
            let request = self.client.scan().table_name(&self.table).set_exclusive_start_key(start);
            let page = request.send().await.map_err(|error| fault(operation, &error))?;
            for item in told(operation, page.items)? {
                let text = |name: &str| item.get(name).and_then(|value| value.as_s().ok()).map_or("", String::as_str);
                // An unreadable item lets nobody in, and keeps nobody else out.
                let Some((key, keys)) = parse_key(text("pk")).zip(serde_json::from_str::<Vec<_>>(text("keys")).ok())
                else {
                    crate::telemetry::warn("brought-key-unreadable", text("pk"));
                    continue;
                };
                found.insert(key, keys.into());
            }
            start = page.last_evaluated_key;
            if start.is_none() {
                return Ok(found);
            }
        }
        Err(EdgeError::new(operation, format!("there are more than {MAX_PAGES} MB of them")))
    }
}

impl KeepProofKeys for DynamoProofKeys {
    async fn replace(&self, connection: &ConnectionKey, keys: &[BroughtKey]) -> Result<(), EdgeError> {
        let mut item = key(connection.to_string(), BROUGHT.to_owned());
        if keys.is_empty() {
            let deleted = self.client.delete_item().table_name(&self.table).set_key(Some(item)).send().await;
            return deleted.map(|_| ()).map_err(|error| EdgeError::new("DeleteItem", cause(&error)));
        }
        let text = serde_json::to_string(keys).map_err(|_| EdgeError::new("PutItem", "the keys cannot be written"))?;
        item.insert("keys".to_owned(), AttributeValue::S(text));
        let put = self.client.put_item().table_name(&self.table).set_item(Some(item)).send().await;
        put.map(|_| ()).map_err(|error| EdgeError::new("PutItem", cause(&error)))
    }
}

/// The keys that clients brought, remembered for a short time.
pub struct CachedProofKeys<P> {
    source: P,
    remembered: Mutex<Option<(Arc<Brought>, Timestamp)>>,
}

impl<P: ProofKeys + Sync> CachedProofKeys<P> {
    /// Makes a cache that remembers nothing yet.
    pub fn new(source: P) -> Self {
        Self { source, remembered: Mutex::default() }
    }

    /// Returns the keys of a connection, which may be none.
    ///
    /// # Errors
    /// [`EdgeError`] when the table cannot be read.
    pub async fn brought(&self, key: &ConnectionKey, now: Timestamp) -> Result<Arc<[BroughtKey]>, EdgeError> {
        let known = self.read_since(now.plus_seconds(-MAX_AGE_SECONDS));
        let all = match known {
            Some(all) => all,
            None => self.read(now).await?,
        };
        Ok(of(&all, key))
    }

    /// Reads the keys of a connection anew, because none of the remembered ones fits. Returns `None` when they were
    /// read a moment ago, or cannot be read.
    pub async fn after_failed_proof(&self, key: &ConnectionKey, now: Timestamp) -> Option<Arc<[BroughtKey]>> {
        if self.read_since(now.plus_seconds(-REFRESH_SECONDS)).is_some() {
            return None;
        }
        let all = self.read(now).await.ok()?;
        Some(of(&all, key))
    }

    /// Returns the keys that were read after a moment, if any.
    fn read_since(&self, moment: Timestamp) -> Option<Arc<Brought>> {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.as_ref().filter(|(_, read)| *read > moment).map(|(all, _)| Arc::clone(all))
    }

    async fn read(&self, now: Timestamp) -> Result<Arc<Brought>, EdgeError> {
        let all = Arc::new(self.source.all().await?);
        *self.remembered.lock().unwrap_or_else(PoisonError::into_inner) = Some((Arc::clone(&all), now));
        Ok(all)
    }
}

fn of(all: &Brought, key: &ConnectionKey) -> Arc<[BroughtKey]> {
    all.get(key).cloned().unwrap_or_default()
}
