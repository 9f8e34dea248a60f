//! The `Entities` table: many items are read at once, and one is written on the condition that nobody else wrote it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use aws_sdk_dynamodb::{
    Client,
    error::SdkError,
    operation::put_item::PutItemError,
    types::{
        AttributeValue, DeleteRequest, KeysAndAttributes, ReturnValuesOnConditionCheckFailure, Select, WriteRequest,
    },
};
use commerce::{
    change::Version,
    connection::Connection,
    entity::{EntityKey, EntityKind},
    item::Item,
    key::ConnectionKey,
    request::weight,
    timestamp::Timestamp,
};
use serde_dynamo::aws_sdk_dynamodb_1::{from_item, to_item};

use crate::{
    EdgeError,
    aws::{cause, told},
    connections::{Attributes, CONNECTION, key},
};

/// The most keys that BatchGetItem takes.
const MAX_KEYS: usize = 100;
/// The number of rounds without any progress after which a batch call is given up.
const ROUNDS: u32 = 4;

/// The facts that a batch needs. Keys that are not in here are absent, because keys that could not be read are an
/// error.
#[derive(Clone, Debug, Default)]
pub struct Read {
    /// The items that exist.
    pub items: BTreeMap<EntityKey, Stored>,
    /// The connections that exist.
    pub connections: BTreeMap<ConnectionKey, Connection>,
    /// The connections that exist but cannot be read. They must neither be taken for absent nor keep others back.
    pub broken: BTreeSet<ConnectionKey>,
}

/// An item as it is stored. As a tree it takes many times the memory, so it is opened only when its entity's turn has
/// come.
#[derive(Clone, Debug)]
pub struct Stored(pub(crate) Attributes);

impl Stored {
    /// Estimates the memory that it takes once it is open, in bytes.
    pub fn weight(&self) -> usize {
        let texts = self.0.values().filter_map(|value| value.as_s().ok());
        texts.map(|text| weight(text.as_bytes())).sum()
    }

    /// Returns the item, and `true` when a part of it could not be read and was left out. Returns `None` when the item
    /// cannot be read, which must not be taken for absent.
    pub fn open(self) -> Option<(Item, bool)> {
        stored(self.0)
    }
}

/// Reads a stored item. Returns what could be read of it, and `true` when that is less than all; `None` if it is no item of
/// ours, because it lacks its key or its fingerprint.
///
/// An item that cannot be read as a whole, because another release wrote it, or somebody by hand, must not block its
/// entity for ever. As long as it has its key and its fingerprint, on which it can be replaced, the attributes that can
/// be read are taken. If the facets are lost, the content that a reader saw takes their place, as a full payload
/// without a time, which is below all that is dated.
pub fn stored(attributes: Attributes) -> Option<(Item, bool)> {
    if let Ok(item) = from_item(attributes.clone()) {
        return Some((item, false));
    }
    let (identity, others): (Attributes, Attributes) =
        attributes.into_iter().partition(|(name, _)| ["pk", "sk", "rev"].contains(&name.as_str()));
    let mut kept = identity;
    for (name, default) in [
        ("deleted", AttributeValue::Bool(false)),
        ("changed_at", AttributeValue::S(String::new())),
        ("by", AttributeValue::S(String::new())),
    ] {
        kept.insert(name.to_owned(), default);
    }
    let (facets, mut item): (_, Item) = (others.contains_key("facets"), from_item(kept.clone()).ok()?);
    for (name, value) in others {
        let mut more = kept.clone();
        more.insert(name, value);
        if let Ok(read) = from_item(more.clone()) {
            (kept, item) = (more, read);
        }
    }
    if facets && item.facets.is_empty() && item.version.is_none() {
        let received = item.marks.first.unwrap_or(Timestamp::from_micros(0));
        item.version = Some(Version { rank: None, received, mapping: 0, hash: String::new() });
    }
    // The content no longer fits its hash, so whatever brings the rest back counts as new.
    if let Some(version) = &mut item.version {
        version.hash = String::new();
    }
    item.truncated = true;
    Some((item, true))
}

/// The result of a conditional write.
#[derive(Clone, PartialEq, Debug)]
pub enum Put {
    /// The item was written.
    Written,
    /// Another writer was first. This is its item, or `None` when the item has expired since it was read.
    Conflict(Option<Box<Item>>),
}

/// One page of the known entities of a connection.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct KeyPage {
    /// The entities, each with `true` when it is not marked as deleted.
    pub keys: Vec<(EntityKey, bool)>,
    /// The position to continue at, or `None` at the end.
    pub next: Option<String>,
}

/// The count of one page of known entities.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct CountPage {
    /// The number of whole entities that are not marked as deleted.
    pub alive: u64,
    /// The position to continue at, or `None` at the end.
    pub next: Option<String>,
}

/// The most items that BatchWriteItem takes.
const MAX_REMOVED: usize = 25;

/// The reading and writing of entities.
pub trait Entities {
    /// Reads items and connections in as few calls as possible. Items are read eventually consistently, which is
    /// enough, because states only grow. Connections are read consistently, because a delivery that comes right after
    /// connecting must not be ignored for ever.
    fn read(
        &self,
        entities: &[EntityKey],
        connections: &[ConnectionKey],
    ) -> impl Future<Output = Result<Read, EdgeError>> + Send;

    /// Returns those of the entities that have an item. Eventually consistent.
    fn known(&self, entities: &[EntityKey]) -> impl Future<Output = Result<BTreeSet<EntityKey>, EdgeError>> + Send;

    /// Reads one item, consistently.
    fn latest(&self, entity: &EntityKey) -> impl Future<Output = Result<Option<Item>, EdgeError>> + Send;

    /// Reads a page of `limit` known entities of a connection, of one kind or of all, each with `true` when it is not
    /// marked as deleted. Eventually consistent.
    fn keys(
        &self,
        key: &ConnectionKey,
        kind: Option<EntityKind>,
        after: Option<&str>,
        limit: u32,
    ) -> impl Future<Output = Result<KeyPage, EdgeError>> + Send;

    /// Counts the known entities of a kind that are not marked as deleted, without parts of another (variations of a
    /// product), a page at a time. Eventually consistent.
    fn count(
        &self,
        key: &ConnectionKey,
        kind: EntityKind,
        after: Option<&str>,
    ) -> impl Future<Output = Result<CountPage, EdgeError>> + Send;

    /// Removes items, whatever they hold.
    fn remove(&self, entities: &[EntityKey]) -> impl Future<Output = Result<(), EdgeError>> + Send;

    /// Writes an item if the stored one still has the fingerprint `expected`, or is still absent.
    fn put(&self, item: &Item, expected: Option<&str>) -> impl Future<Output = Result<Put, EdgeError>> + Send;
}

/// The `Entities` and `Connections` tables at DynamoDB.
#[derive(Clone, Debug)]
pub struct DynamoEntities {
    client: Client,
    entities: String,
    connections: String,
}

impl DynamoEntities {
    /// Makes the edge to the tables of these names.
    pub fn new(client: Client, entities: String, connections: String) -> Self {
        Self { client, entities, connections }
    }

    /// Opens the connection while Lambda initialises. A failure shows with the first batch.
    pub async fn warm(&self) {
        let key = key("warm".to_owned(), "warm".to_owned());
        let _ = self.client.get_item().table_name(&self.entities).set_key(Some(key)).send().await;
    }

    /// Reads items of both tables, whole or only their keys.
    async fn get(
        &self,
        mut wanted: Vec<(String, Attributes)>,
        only_keys: bool,
    ) -> Result<Vec<(String, Attributes)>, EdgeError> {
        let operation = "BatchGetItem";
        let mut found = Vec::new();
        let mut idle_rounds = 0;
        while !wanted.is_empty() {
            let rest = wanted.split_off(wanted.len().min(MAX_KEYS));
            let mut request = self.client.batch_get_item();
            for table in [&self.entities, &self.connections] {
                let keys: Vec<_> = wanted.iter().filter(|(of, _)| of == table).map(|(_, key)| key.clone()).collect();
                if !keys.is_empty() {
                    let consistent = table == &self.connections;
                    let attributes = only_keys.then(|| "pk, sk".to_owned());
                    let keys = KeysAndAttributes::builder()
                        .set_keys(Some(keys))
                        .consistent_read(consistent)
                        .set_projection_expression(attributes)
                        .build();
                    let keys = keys.map_err(|_| EdgeError::new(operation, "the keys cannot be built"))?;
                    request = request.request_items(table, keys);
                }
            }
            let answer = request.send().await.map_err(|error| EdgeError::new(operation, cause(&error)))?;
            let asked = wanted.len();
            let mut left: BTreeMap<String, usize> = BTreeMap::new();
            let asked_of = |table: &str| wanted.iter().filter(|(of, _)| of == table).count();
            let mut again = Vec::new();
            for (table, keys) in answer.unprocessed_keys.unwrap_or_default() {
                left.insert(table.clone(), keys.keys.len());
                again.extend(keys.keys.into_iter().map(|key| (table.clone(), key)));
            }
            let mut responses = told(operation, answer.responses)?;
            for table in [&self.entities, &self.connections] {
                // The answer has an entry for each table that was asked, even if it is empty, unless all of its keys
                // are left for later.
                let all_left = left.get(table).copied().unwrap_or(0) == asked_of(table);
                let items =
                    if all_left { responses.remove(table) } else { Some(told(operation, responses.remove(table))?) };
                found.extend(items.into_iter().flatten().map(|item| (table.clone(), item)));
            }
            let unprocessed = again.len();
            wanted = rest;
            wanted.extend(again);
            // Keys are left when the answer would be larger than 16 MB, which is progress, or when the table is
            // throttled.
            if unprocessed == asked {
                idle_rounds += 1;
                if idle_rounds == ROUNDS {
                    return Err(EdgeError::new(operation, "keys stay unprocessed"));
                }
                tokio::time::sleep(Duration::from_millis(25 << idle_rounds)).await;
            }
        }
        Ok(found)
    }
}

fn text<'a>(item: &'a Attributes, name: &str) -> &'a str {
    item.get(name).and_then(|value| value.as_s().ok()).map_or("", String::as_str)
}

impl Entities for DynamoEntities {
    async fn read(&self, entities: &[EntityKey], connections: &[ConnectionKey]) -> Result<Read, EdgeError> {
        let by_key: BTreeMap<_, _> =
            entities.iter().map(|entity| ((entity.partition(), entity.sort()), entity)).collect();
        let by_partition: BTreeMap<_, _> = connections.iter().map(|key| (key.to_string(), key)).collect();
        let items = by_key.keys().map(|(pk, sk)| (self.entities.clone(), key(pk.clone(), sk.clone())));
        let records = by_partition.keys().map(|pk| (self.connections.clone(), key(pk.clone(), CONNECTION.to_owned())));
        let mut read = Read::default();
        for (table, item) in self.get(items.chain(records).collect(), false).await? {
            let place = (text(&item, "pk").to_owned(), text(&item, "sk").to_owned());
            if table == self.entities {
                let Some(key) = by_key.get(&place) else { continue };
                read.items.insert((*key).clone(), Stored(item));
                continue;
            }
            let Some(key) = by_partition.get(&place.0) else { continue };
            match from_item(item) {
                Ok(record) => _ = read.connections.insert((*key).clone(), record),
                Err(_) => _ = read.broken.insert((*key).clone()),
            }
        }
        Ok(read)
    }

    async fn known(&self, entities: &[EntityKey]) -> Result<BTreeSet<EntityKey>, EdgeError> {
        let by_key: BTreeMap<_, _> =
            entities.iter().map(|entity| ((entity.partition(), entity.sort()), entity)).collect();
        let wanted = by_key.keys().map(|(pk, sk)| (self.entities.clone(), key(pk.clone(), sk.clone())));
        let found = self.get(wanted.collect(), true).await?;
        let place = |item: &Attributes| (text(item, "pk").to_owned(), text(item, "sk").to_owned());
        Ok(found.iter().filter_map(|(_, item)| by_key.get(&place(item)).copied().cloned()).collect())
    }

    async fn latest(&self, entity: &EntityKey) -> Result<Option<Item>, EdgeError> {
        let operation = "GetItem";
        let request = self.client.get_item().table_name(&self.entities).consistent_read(true);
        let answer = request.set_key(Some(key(entity.partition(), entity.sort()))).send().await;
        let item = answer.map_err(|error| EdgeError::new(operation, cause(&error)))?.item;
        let unreadable = || EdgeError::new(operation, "the item cannot be read");
        item.map(|item| Ok(stored(item).ok_or_else(unreadable)?.0)).transpose()
    }

    async fn keys(
        &self,
        connection: &ConnectionKey,
        kind: Option<EntityKind>,
        after: Option<&str>,
        limit: u32,
    ) -> Result<KeyPage, EdgeError> {
        let operation = "Query of entities";
        let request = self
            .client
            .query()
            .table_name(&self.entities)
            .projection_expression("sk, deleted")
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .expression_attribute_values(":pk", AttributeValue::S(connection.to_string()))
            .set_exclusive_start_key(after.map(|after| key(connection.to_string(), after.to_owned())));
        let request = match kind {
            None => request.key_condition_expression("pk = :pk"),
            Some(kind) => request
                .key_condition_expression("pk = :pk AND begins_with(sk, :kind)")
                .expression_attribute_values(":kind", AttributeValue::S(format!("{kind}#"))),
        };
        let answer = request.send().await.map_err(|error| EdgeError::new(operation, cause(&error)))?;
        let found = told(operation, answer.items)?;
        let read = |item: &Attributes| {
            let deleted = item.get("deleted").and_then(|deleted| deleted.as_bool().ok()).copied().unwrap_or(false);
            Some((EntityKey::of(connection, text(item, "sk"))?, !deleted))
        };
        let next = answer.last_evaluated_key.map(|last| text(&last, "sk").to_owned());
        Ok(KeyPage { keys: found.iter().filter_map(read).collect(), next })
    }

    async fn count(
        &self,
        connection: &ConnectionKey,
        kind: EntityKind,
        after: Option<&str>,
    ) -> Result<CountPage, EdgeError> {
        let request = self
            .client
            .query()
            .table_name(&self.entities)
            .select(Select::Count)
            .key_condition_expression("pk = :pk AND begins_with(sk, :kind)")
            .filter_expression("deleted = :no AND attribute_not_exists(#fields.#parent)")
            .expression_attribute_names("#fields", "fields")
            .expression_attribute_names("#parent", "parent")
            .expression_attribute_values(":pk", AttributeValue::S(connection.to_string()))
            .expression_attribute_values(":kind", AttributeValue::S(format!("{kind}#")))
            .expression_attribute_values(":no", AttributeValue::Bool(false))
            .set_exclusive_start_key(after.map(|after| key(connection.to_string(), after.to_owned())));
        let answer = request.send().await.map_err(|error| EdgeError::new("Count of entities", cause(&error)))?;
        // The SDK returns 0 for a missing count. Too few are known then, from which nothing follows.
        let next = answer.last_evaluated_key.map(|last| text(&last, "sk").to_owned());
        Ok(CountPage { alive: u64::try_from(answer.count).unwrap_or(0), next })
    }

    async fn remove(&self, entities: &[EntityKey]) -> Result<(), EdgeError> {
        let operation = "BatchWriteItem";
        let mut wanted: Vec<WriteRequest> = Vec::with_capacity(entities.len());
        for entity in entities {
            let delete = DeleteRequest::builder().set_key(Some(key(entity.partition(), entity.sort()))).build();
            let delete = delete.map_err(|_| EdgeError::new(operation, "a key cannot be built"))?;
            wanted.push(WriteRequest::builder().delete_request(delete).build());
        }
        let mut idle_rounds = 0;
        while !wanted.is_empty() {
            let rest = wanted.split_off(wanted.len().min(MAX_REMOVED));
            let asked = wanted.len();
            let request = self.client.batch_write_item().request_items(&self.entities, wanted);
            let answer = request.send().await.map_err(|error| EdgeError::new(operation, cause(&error)))?;
            wanted = rest;
            let unprocessed: Vec<_> = told(operation, answer.unprocessed_items)?.into_values().flatten().collect();
            if unprocessed.len() == asked {
                idle_rounds += 1;
                if idle_rounds == ROUNDS {
                    return Err(EdgeError::new(operation, "items stay unprocessed"));
                }
                tokio::time::sleep(Duration::from_millis(25 << idle_rounds)).await;
            }
            wanted.extend(unprocessed);
        }
        Ok(())
    }

    async fn put(&self, item: &Item, expected: Option<&str>) -> Result<Put, EdgeError> {
        let operation = "PutItem";
        let attributes = to_item(item).map_err(|_| EdgeError::new(operation, "the item cannot be written"))?;
        let request = self
            .client
            .put_item()
            .table_name(&self.entities)
            .set_item(Some(attributes))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let request = match expected {
            None => request.condition_expression("attribute_not_exists(pk)"),
            Some(rev) => request
                .condition_expression("rev = :rev")
                .expression_attribute_values(":rev", AttributeValue::S(rev.to_owned())),
        };
        match request.send().await {
            Ok(_) => Ok(Put::Written),
            Err(SdkError::ServiceError(error)) if error.err().is_conditional_check_failed_exception() => {
                let PutItemError::ConditionalCheckFailedException(failed) = error.into_err() else {
                    return Err(EdgeError::new(operation, "conditional check failed"));
                };
                let unreadable = || EdgeError::new(operation, "the stored item cannot be read");
                let item = failed.item.map(|item| stored(item).ok_or_else(unreadable)).transpose()?;
                Ok(Put::Conflict(item.map(|(item, _)| Box::new(item))))
            }
            Err(error) => Err(EdgeError::new(operation, cause(&error))),
        }
    }
}
