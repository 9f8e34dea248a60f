//! The `Connections` table, and the vault that encrypts credentials before they get there. Only the registrar writes
//! here.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aws_sdk_dynamodb::{Client, error::SdkError, types::AttributeValue};
use aws_sdk_kms::primitives::Blob;
use base64::{Engine, engine::general_purpose::STANDARD};
use commerce::{
    connection::{Connection, ConnectionStatus},
    cursor::Cursor,
    entity::EntityKind,
    health::WebhookRecord,
    job::shard,
    key::ConnectionKey,
    timestamp::Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_dynamo::aws_sdk_dynamodb_1::{from_item, to_item};

use crate::{
    EdgeError,
    aws::{cause, told},
};

/// The sort key of a connection's own record.
pub const CONNECTION: &str = "connection";
/// The prefix of the sort keys of a connection's webhooks; the topic (`scope`) follows.
const SUBSCRIPTION: &str = "subscription#";
/// The prefix of the sort keys of a connection's cursors; the kind of entity follows.
const CURSOR: &str = "cursor#";
/// The sort key of the result of a connection's last check.
const CHECK: &str = "check";
/// The index that lists connections, in [`commerce::job::SHARDS`] shards. It is sparse, because only connections' own
/// records have its keys.
pub const LISTING: &str = "listing";
/// The partition of facts about the whole deployment. Every connection's partition contains a `#`.
const DEPLOYMENT: &str = "deployment";
/// The sort key of all base URLs that this deployment ever used.
const BASE_URLS: &str = "base-urls";

/// The records of one connection.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Loaded {
    /// Its own record.
    pub connection: Option<Connection>,
    /// Its webhooks, by topic.
    pub webhooks: BTreeMap<String, WebhookRecord>,
    /// The progress of fetching its entities.
    pub cursors: BTreeMap<EntityKind, Cursor>,
    /// The result of its last check.
    pub check: Option<Check>,
}

/// The result of the last check of a connection.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Check {
    /// The last time at which all was as it should be, or had been repaired. If there was only ever trouble, the time
    /// of the first check.
    pub at: Timestamp,
    /// The trouble, or the work for somebody to do; for people. Nothing secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// The time since which there is trouble.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// A connection as lists show it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// The connection's key.
    pub key: ConnectionKey,
    /// The connection's status.
    pub status: ConnectionStatus,
    /// The store's or account's base URL.
    pub site: String,
    /// The signing key that the secrets of all its webhooks are derived from, if it is one.
    pub signed_with: Option<String>,
}

/// One page of a list of connections.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EntryPage {
    /// The connections, by platform and id.
    pub entries: Vec<Entry>,
    /// The position to continue at, or `None` at the end.
    pub next: Option<String>,
}

/// The reading and writing of connections.
pub trait Connections {
    /// Reads all records of a connection, consistently.
    fn load(&self, key: &ConnectionKey) -> impl Future<Output = Result<Loaded, EdgeError>> + Send;

    /// Writes a connection's own record over the revision before it. Returns `false` when somebody else wrote it in
    /// between.
    fn save(
        &self,
        key: &ConnectionKey,
        connection: &Connection,
    ) -> impl Future<Output = Result<bool, EdgeError>> + Send;

    /// Writes the record of a webhook.
    fn save_webhook(
        &self,
        key: &ConnectionKey,
        record: &WebhookRecord,
    ) -> impl Future<Output = Result<(), EdgeError>> + Send;

    /// Removes the record of a webhook.
    fn remove_webhook(&self, key: &ConnectionKey, scope: &str) -> impl Future<Output = Result<(), EdgeError>> + Send;

    /// Writes the cursor of an entity over the revision before it. Returns `false` when somebody else wrote it in
    /// between.
    fn save_cursor(&self, key: &ConnectionKey, cursor: &Cursor)
    -> impl Future<Output = Result<bool, EdgeError>> + Send;

    /// Removes the cursor of an entity.
    fn remove_cursor(
        &self,
        key: &ConnectionKey,
        entity: EntityKind,
    ) -> impl Future<Output = Result<(), EdgeError>> + Send;

    /// Writes the result of a check of a connection.
    fn save_check(&self, key: &ConnectionKey, check: &Check) -> impl Future<Output = Result<(), EdgeError>> + Send;

    /// Lists the connections of one shard, which is below [`commerce::job::SHARDS`], of one platform or of all, `limit`
    /// at a time, from the position of the page before. Eventually consistent.
    fn list(
        &self,
        shard: u32,
        platform: Option<&str>,
        after: Option<&str>,
        limit: u32,
    ) -> impl Future<Output = Result<EntryPage, EdgeError>> + Send;

    /// Adds a base URL to those that this deployment ever used, and returns all of them.
    fn base_urls(&self, current: &str) -> impl Future<Output = Result<BTreeSet<String>, EdgeError>> + Send;
}

/// The `Connections` table at DynamoDB.
#[derive(Clone, Debug)]
pub struct DynamoConnections {
    pub(crate) client: Client,
    pub(crate) table: String,
}

/// An item, or the key of one, in the SDK's form.
pub(crate) type Attributes = HashMap<String, AttributeValue>;

impl DynamoConnections {
    /// Makes the edge to the table of this name.
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    async fn delete(&self, connection: &ConnectionKey, sk: String) -> Result<(), EdgeError> {
        let key = key(connection.to_string(), sk);
        let deleted = self.client.delete_item().table_name(&self.table).set_key(Some(key)).send().await;
        deleted.map(|_| ()).map_err(|error| EdgeError::new("DeleteItem", cause(&error)))
    }

    async fn put(&self, pk: String, sk: String, mut item: Attributes) -> Result<(), EdgeError> {
        item.extend(key(pk, sk));
        let put = self.client.put_item().table_name(&self.table).set_item(Some(item)).send().await;
        put.map(|_| ()).map_err(|error| EdgeError::new("PutItem", cause(&error)))
    }
}

/// Writes an item as a revision over the one before it. Returns `false` when somebody else wrote it in between.
pub(crate) async fn put_over(
    client: &Client,
    table: &str,
    item: Attributes,
    revision: u64,
    operation: &'static str,
) -> Result<bool, EdgeError> {
    let request = client.put_item().table_name(table).set_item(Some(item));
    let request = match revision.checked_sub(1) {
        None | Some(0) => request.condition_expression("attribute_not_exists(pk)"),
        Some(before) => request
            .condition_expression("revision = :before")
            .expression_attribute_values(":before", AttributeValue::N(before.to_string())),
    };
    match request.send().await {
        Ok(_) => Ok(true),
        Err(SdkError::ServiceError(error)) if error.err().is_conditional_check_failed_exception() => Ok(false),
        Err(error) => Err(EdgeError::new(operation, cause(&error))),
    }
}

/// Reads a platform and a connection from the text that [`ConnectionKey`] writes.
pub fn parse_key(text: &str) -> Option<ConnectionKey> {
    let (platform, connection) = text.split_once('#')?;
    Some(ConnectionKey { platform: platform.to_owned(), connection: connection.parse().ok()? })
}

/// Returns the key of an item. All tables have the same two parts.
pub(crate) fn key(pk: String, sk: String) -> Attributes {
    HashMap::from([("pk".to_owned(), AttributeValue::S(pk)), ("sk".to_owned(), AttributeValue::S(sk))])
}

impl Connections for DynamoConnections {
    async fn load(&self, key: &ConnectionKey) -> Result<Loaded, EdgeError> {
        let operation = "Query";
        let unreadable = |_| EdgeError::new(operation, "a record cannot be read");
        let mut loaded = Loaded::default();
        let mut start = None;
        loop {
            let page = self
                .client
                .query()
                .table_name(&self.table)
                .consistent_read(true)
                .key_condition_expression("pk = :pk")
                .expression_attribute_values(":pk", AttributeValue::S(key.to_string()))
                .set_exclusive_start_key(start)
                .send()
                .await
                .map_err(|error| EdgeError::new(operation, cause(&error)))?;
            for item in told(operation, page.items)? {
                let sk = item.get("sk").and_then(|sk| sk.as_s().ok()).cloned().unwrap_or_default();
                if sk == CONNECTION {
                    loaded.connection = Some(from_item(item).map_err(unreadable)?);
                } else if sk == CHECK {
                    loaded.check = Some(from_item(item).map_err(unreadable)?);
                } else if sk.starts_with(CURSOR) {
                    let cursor: Cursor = from_item(item).map_err(unreadable)?;
                    loaded.cursors.insert(cursor.entity, cursor);
                } else if let Some(scope) = sk.strip_prefix(SUBSCRIPTION) {
                    loaded.webhooks.insert(scope.to_owned(), from_item(item).map_err(unreadable)?);
                }
            }
            start = page.last_evaluated_key;
            if start.is_none() {
                return Ok(loaded);
            }
        }
    }

    async fn save(&self, key: &ConnectionKey, connection: &Connection) -> Result<bool, EdgeError> {
        let operation = "PutItem";
        let mut item: Attributes =
            to_item(connection).map_err(|_| EdgeError::new(operation, "the record cannot be written"))?;
        item.extend(self::key(key.to_string(), CONNECTION.to_owned()));
        item.insert("shard".to_owned(), AttributeValue::N(shard(key).to_string()));
        item.insert("listed".to_owned(), AttributeValue::S(key.to_string()));
        put_over(&self.client, &self.table, item, connection.revision, operation).await
    }

    async fn save_webhook(&self, key: &ConnectionKey, record: &WebhookRecord) -> Result<(), EdgeError> {
        let item = to_item(record).map_err(|_| EdgeError::new("PutItem", "the record cannot be written"))?;
        self.put(key.to_string(), format!("{SUBSCRIPTION}{}", record.scope), item).await
    }

    async fn remove_webhook(&self, connection: &ConnectionKey, scope: &str) -> Result<(), EdgeError> {
        self.delete(connection, format!("{SUBSCRIPTION}{scope}")).await
    }

    async fn save_cursor(&self, key: &ConnectionKey, cursor: &Cursor) -> Result<bool, EdgeError> {
        let operation = "PutItem of a cursor";
        let mut item: Attributes =
            to_item(cursor).map_err(|_| EdgeError::new(operation, "the record cannot be written"))?;
        item.extend(self::key(key.to_string(), format!("{CURSOR}{}", cursor.entity)));
        put_over(&self.client, &self.table, item, cursor.revision, operation).await
    }

    async fn remove_cursor(&self, connection: &ConnectionKey, entity: EntityKind) -> Result<(), EdgeError> {
        self.delete(connection, format!("{CURSOR}{entity}")).await
    }

    async fn save_check(&self, key: &ConnectionKey, check: &Check) -> Result<(), EdgeError> {
        let item = to_item(check).map_err(|_| EdgeError::new("PutItem", "the record cannot be written"))?;
        self.put(key.to_string(), CHECK.to_owned(), item).await
    }

    async fn list(
        &self,
        shard: u32,
        platform: Option<&str>,
        after: Option<&str>,
        limit: u32,
    ) -> Result<EntryPage, EdgeError> {
        let operation = "Query of the list";
        let unreadable = || EdgeError::new(operation, "a record cannot be read");
        let mut request = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(LISTING)
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            // DynamoDB reserves the word.
            .expression_attribute_names("#shard", "shard")
            .expression_attribute_values(":shard", AttributeValue::N(shard.to_string()));
        request = match platform {
            None => request.key_condition_expression("#shard = :shard"),
            Some(platform) => request
                .key_condition_expression("#shard = :shard AND begins_with(listed, :platform)")
                .expression_attribute_values(":platform", AttributeValue::S(format!("{platform}#"))),
        };
        if let Some(after) = after {
            let mut start = key(after.to_owned(), CONNECTION.to_owned());
            start.insert("shard".to_owned(), AttributeValue::N(shard.to_string()));
            start.insert("listed".to_owned(), AttributeValue::S(after.to_owned()));
            request = request.set_exclusive_start_key(Some(start));
        }
        let answer = request.send().await.map_err(|error| EdgeError::new(operation, cause(&error)))?;
        let mut page = EntryPage::default();
        for mut item in told(operation, answer.items)? {
            let mut text = |name: &str| item.remove(name).and_then(|value| value.as_s().ok().cloned());
            let (listed, site) = (text("listed").ok_or_else(unreadable)?, text("site").unwrap_or_default());
            let signed_with = text("signed_with");
            let status = text("status").and_then(|status| serde_json::from_value(status.into()).ok());
            page.entries.push(Entry {
                key: parse_key(&listed).ok_or_else(unreadable)?,
                status: status.ok_or_else(unreadable)?,
                site,
                signed_with,
            });
        }
        let last = answer.last_evaluated_key.as_ref().and_then(|last| last.get("listed")?.as_s().ok());
        page.next = last.cloned();
        Ok(page)
    }

    async fn base_urls(&self, current: &str) -> Result<BTreeSet<String>, EdgeError> {
        let updated = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key(DEPLOYMENT.to_owned(), BASE_URLS.to_owned())))
            .update_expression("ADD urls :url")
            .expression_attribute_values(":url", AttributeValue::Ss(vec![current.to_owned()]))
            .return_values(aws_sdk_dynamodb::types::ReturnValue::AllNew)
            .send()
            .await
            .map_err(|error| EdgeError::new("UpdateItem", cause(&error)))?;
        let urls = told("UpdateItem", updated.attributes)?.remove("urls");
        let urls = told("UpdateItem", urls.and_then(|urls| urls.as_ss().ok().cloned()))?;
        Ok(urls.into_iter().collect())
    }
}

/// The encryption of connections' credentials.
pub trait Vault {
    /// Encrypts credentials, bound to the connection.
    fn encrypt(&self, key: &ConnectionKey, plain: &str) -> impl Future<Output = Result<String, EdgeError>> + Send;

    /// Decrypts credentials that were encrypted for the same connection.
    fn decrypt(&self, key: &ConnectionKey, cipher: &str) -> impl Future<Output = Result<String, EdgeError>> + Send;
}

/// A key of KMS.
#[derive(Clone, Debug)]
pub struct Kms {
    client: aws_sdk_kms::Client,
    key: String,
}

impl Kms {
    /// Makes the edge to the key of this ARN.
    pub fn new(client: aws_sdk_kms::Client, key: String) -> Self {
        Self { client, key }
    }
}

/// Returns the context that a ciphertext is bound to. Copied into another connection's record, it does not decrypt.
fn context(key: &ConnectionKey) -> HashMap<String, String> {
    [("platform", key.platform.as_str()), ("connection", key.connection.as_str()), ("purpose", "credentials")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

impl Vault for Kms {
    async fn encrypt(&self, key: &ConnectionKey, plain: &str) -> Result<String, EdgeError> {
        let answer = self
            .client
            .encrypt()
            .key_id(&self.key)
            .set_encryption_context(Some(context(key)))
            .plaintext(Blob::new(plain))
            .send()
            .await
            .map_err(|error| EdgeError::new("Encrypt", cause(&error)))?;
        let cipher = answer.ciphertext_blob.ok_or_else(|| EdgeError::new("Encrypt", "no ciphertext came back"))?;
        Ok(STANDARD.encode(cipher))
    }

    async fn decrypt(&self, key: &ConnectionKey, cipher: &str) -> Result<String, EdgeError> {
        let operation = "Decrypt";
        let cipher = STANDARD.decode(cipher).map_err(|_| EdgeError::new(operation, "the ciphertext is not base64"))?;
        let answer = self
            .client
            .decrypt()
            .key_id(&self.key)
            .set_encryption_context(Some(context(key)))
            .ciphertext_blob(Blob::new(cipher))
            .send()
            .await
            .map_err(|error| EdgeError::new(operation, cause(&error)))?;
        let plain = answer.plaintext.ok_or_else(|| EdgeError::new(operation, "no plaintext came back"))?;
        String::from_utf8(plain.into_inner()).map_err(|_| EdgeError::new(operation, "the plaintext is not text"))
    }
}
