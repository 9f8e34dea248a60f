//! Owns the `Connections` table and the vault that credentials are encrypted with before they get there. Only the registrar
//! writes here.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aws_sdk_dynamodb::{Client, error::SdkError, types::AttributeValue};
use aws_sdk_kms::primitives::Blob;
use base64::{Engine, engine::general_purpose::STANDARD};
use commerce::connection::{Connection, ConnectionKey, SubscriptionRecord};
use serde_dynamo::aws_sdk_dynamodb_1::{from_item, to_item};

use crate::{EdgeError, aws::cause};

/// The sort key of a connection's own record.
pub const CONNECTION: &str = "connection";
/// What the sort keys of its subscriptions begin with; the scope follows.
const SUBSCRIPTION: &str = "subscription#";
/// The partition of what is true of the whole deployment. No connection's partition is without a `#`.
const DEPLOYMENT: &str = "deployment";
/// The sort key of all base URLs that this deployment ever used.
const BASE_URLS: &str = "base-urls";

/// All that is known of one connection.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Loaded {
    /// Its own record.
    pub connection: Option<Connection>,
    /// Its subscriptions, by scope.
    pub subscriptions: BTreeMap<String, SubscriptionRecord>,
}

/// Keeping connections.
pub trait Connections {
    /// Reads a connection with its subscriptions, consistently.
    fn load(&self, key: &ConnectionKey) -> impl Future<Output = Result<Loaded, EdgeError>> + Send;

    /// Writes a connection's own record over the revision before it; `false` when somebody else did in between.
    fn save(
        &self,
        key: &ConnectionKey,
        connection: &Connection,
    ) -> impl Future<Output = Result<bool, EdgeError>> + Send;

    /// Writes the record of a subscription.
    fn save_subscription(
        &self,
        key: &ConnectionKey,
        record: &SubscriptionRecord,
    ) -> impl Future<Output = Result<(), EdgeError>> + Send;

    /// Removes the record of a subscription.
    fn remove_subscription(
        &self,
        key: &ConnectionKey,
        scope: &str,
    ) -> impl Future<Output = Result<(), EdgeError>> + Send;

    /// Adds a base URL to those that this deployment ever used, and gives them all.
    fn base_urls(&self, current: &str) -> impl Future<Output = Result<BTreeSet<String>, EdgeError>> + Send;
}

/// The table at DynamoDB.
#[derive(Clone, Debug)]
pub struct DynamoConnections {
    client: Client,
    table: String,
}

/// An item, or the key of one, as the SDK has it.
pub(crate) type Attributes = HashMap<String, AttributeValue>;

impl DynamoConnections {
    /// With the table's name.
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    async fn put(&self, pk: String, sk: String, mut item: Attributes) -> Result<(), EdgeError> {
        item.extend(key(pk, sk));
        let put = self.client.put_item().table_name(&self.table).set_item(Some(item)).send().await;
        put.map(|_| ()).map_err(|error| EdgeError::new("PutItem", cause(&error)))
    }
}

/// Writes an item as a revision, over the one before it; `false` when somebody else did in between.
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

/// The key of an item; all tables have the same two parts.
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
            for item in page.items.unwrap_or_default() {
                let sk = item.get("sk").and_then(|sk| sk.as_s().ok()).cloned().unwrap_or_default();
                if sk == CONNECTION {
                    loaded.connection = Some(from_item(item).map_err(unreadable)?);
                } else if let Some(scope) = sk.strip_prefix(SUBSCRIPTION) {
                    loaded.subscriptions.insert(scope.to_owned(), from_item(item).map_err(unreadable)?);
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
        put_over(&self.client, &self.table, item, connection.revision, operation).await
    }

    async fn save_subscription(&self, key: &ConnectionKey, record: &SubscriptionRecord) -> Result<(), EdgeError> {
        let item = to_item(record).map_err(|_| EdgeError::new("PutItem", "the record cannot be written"))?;
        self.put(key.to_string(), format!("{SUBSCRIPTION}{}", record.scope), item).await
    }

    async fn remove_subscription(&self, connection: &ConnectionKey, scope: &str) -> Result<(), EdgeError> {
        let key = key(connection.to_string(), format!("{SUBSCRIPTION}{scope}"));
        let deleted = self.client.delete_item().table_name(&self.table).set_key(Some(key)).send().await;
        deleted.map(|_| ()).map_err(|error| EdgeError::new("DeleteItem", cause(&error)))
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
        let urls = updated.attributes.unwrap_or_default().remove("urls");
        Ok(urls.and_then(|urls| urls.as_ss().ok().cloned()).unwrap_or_default().into_iter().collect())
    }
}

/// Encrypting and decrypting a connection's credentials.
pub trait Vault {
    /// Encrypts, bound to the connection.
    fn encrypt(&self, key: &ConnectionKey, plain: &str) -> impl Future<Output = Result<String, EdgeError>> + Send;

    /// Decrypts what was encrypted for the same connection.
    fn decrypt(&self, key: &ConnectionKey, cipher: &str) -> impl Future<Output = Result<String, EdgeError>> + Send;
}

/// A key of KMS.
#[derive(Clone, Debug)]
pub struct Kms {
    client: aws_sdk_kms::Client,
    key: String,
}

impl Kms {
    /// With the key's ARN.
    pub fn new(client: aws_sdk_kms::Client, key: String) -> Self {
        Self { client, key }
    }
}

/// What the ciphertext is bound to: copied into another connection's record, it does not decrypt.
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
