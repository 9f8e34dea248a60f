//! The endpoints of the vendor's own application, which the `Connections` table holds in a partition of their own, and the
//! queue of what is on its way to them.

use aws_sdk_dynamodb::types::AttributeValue;
use commerce::endpoint::{Endpoint, Outgoing};
use serde_dynamo::aws_sdk_dynamodb_1::{from_item, to_item};

use crate::{
    EdgeError,
    aws::{cause, told},
    connections::{DynamoConnections, key, put_over},
};

/// The partition of all endpoints. Every connection's partition contains a `#`.
const ENDPOINTS: &str = "endpoints";

/// The reading and writing of endpoints.
pub trait Endpoints {
    /// Reads all endpoints, consistently, by their ids.
    fn endpoints(&self) -> impl Future<Output = Result<Vec<Endpoint>, EdgeError>> + Send;

    /// Writes an endpoint over the revision before it. Returns `false` when somebody else wrote it in between.
    fn save_endpoint(&self, endpoint: &Endpoint) -> impl Future<Output = Result<bool, EdgeError>> + Send;

    /// Removes an endpoint.
    fn remove_endpoint(&self, id: &str) -> impl Future<Output = Result<(), EdgeError>> + Send;
}

impl Endpoints for DynamoConnections {
    async fn endpoints(&self) -> Result<Vec<Endpoint>, EdgeError> {
        let operation = "Query of endpoints";
        let request = self.client.query().table_name(&self.table).consistent_read(true);
        let request = request.key_condition_expression("pk = :pk");
        let request = request.expression_attribute_values(":pk", AttributeValue::S(ENDPOINTS.to_owned()));
        // The registrar allows 50 of them, of 20 KB at most, and a page holds 1 MB.
        let answer = request.send().await.map_err(|error| EdgeError::new(operation, cause(&error)))?;
        let unreadable = |_| EdgeError::new(operation, "an endpoint cannot be read");
        told(operation, answer.items)?.into_iter().map(|item| from_item(item).map_err(unreadable)).collect()
    }

    async fn save_endpoint(&self, endpoint: &Endpoint) -> Result<bool, EdgeError> {
        let operation = "PutItem of an endpoint";
        let item: Result<crate::connections::Attributes, _> = to_item(endpoint);
        let mut item = item.map_err(|_| EdgeError::new(operation, "the record cannot be written"))?;
        item.extend(key(ENDPOINTS.to_owned(), endpoint.id.clone()));
        put_over(&self.client, &self.table, item, endpoint.revision, operation).await
    }

    async fn remove_endpoint(&self, id: &str) -> Result<(), EdgeError> {
        let request = self.client.delete_item().table_name(&self.table);
        let deleted = request.set_key(Some(key(ENDPOINTS.to_owned(), id.to_owned()))).send().await;
        deleted.map(|_| ()).map_err(|error| EdgeError::new("DeleteItem of an endpoint", cause(&error)))
    }
}

/// The queue of deliveries, and of those that were given up.
pub trait Deliveries {
    /// Queues deliveries. Those of one group stay in their order. A delivery that was queued within the last five minutes
    /// is not queued again.
    fn queue(&self, deliveries: &[Outgoing]) -> impl Future<Output = Result<(), EdgeError>> + Send;

    /// Makes a delivery, and with it its group, visible again after `seconds`.
    fn put_off(&self, receipt_handle: &str, seconds: i32) -> impl Future<Output = Result<(), EdgeError>> + Send;

    /// Puts a delivery aside that was tried for too long.
    fn give_up(&self, delivery: &Outgoing) -> impl Future<Output = Result<(), EdgeError>> + Send;
}

/// The queues of deliveries at SQS, which keep the order within a group (FIFO).
#[derive(Clone, Debug)]
pub struct SqsDeliveries {
    client: aws_sdk_sqs::Client,
    deliveries: String,
    undelivered: String,
}

impl SqsDeliveries {
    /// Makes the edge to the queues at these URLs.
    pub fn new(client: aws_sdk_sqs::Client, deliveries: String, undelivered: String) -> Self {
        Self { client, deliveries, undelivered }
    }

    async fn send(&self, url: &str, delivery: &Outgoing) -> Result<(), EdgeError> {
        let operation = "SendMessage of a delivery";
        let text = serde_json::to_string(delivery).map_err(|error| EdgeError::new(operation, error.to_string()))?;
        let request = self.client.send_message().queue_url(url).message_body(text);
        let request = request.message_group_id(delivery.group()).message_deduplication_id(delivery.deduplication());
        let sent = request.send().await.map_err(|error| EdgeError::new(operation, cause(&error)))?;
        sent.message_id.map(|_| ()).ok_or_else(|| EdgeError::new(operation, "no message id came back"))
    }
}

impl Deliveries for SqsDeliveries {
    async fn queue(&self, deliveries: &[Outgoing]) -> Result<(), EdgeError> {
        // One after the other, so that the order within a group stays.
        for delivery in deliveries {
            self.send(&self.deliveries, delivery).await?;
        }
        Ok(())
    }

    async fn put_off(&self, receipt_handle: &str, seconds: i32) -> Result<(), EdgeError> {
        let request = self.client.change_message_visibility().queue_url(&self.deliveries);
        let put_off = request.receipt_handle(receipt_handle).visibility_timeout(seconds).send().await;
        put_off.map(|_| ()).map_err(|error| EdgeError::new("ChangeMessageVisibility of a delivery", cause(&error)))
    }

    async fn give_up(&self, delivery: &Outgoing) -> Result<(), EdgeError> {
        self.send(&self.undelivered, delivery).await
    }
}
