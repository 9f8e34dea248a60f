//! Change events of the deployed bundle, read from the queue that `examples/changes-to-a-queue.yaml` makes.

use std::time::{Duration, Instant};

use aws_sdk_dynamodb::types::AttributeValue;
use cloud::aws::variable;
use commerce::{
    change_event::{ChangeEvent, ChangeKind},
    item::Item,
};
use serde_json::Value;
use tests::{
    reader::Replica,
    world::{PLATFORM, events},
};

use crate::{PATIENCE, Stack};

impl Stack {
    /// Takes the events that are in a queue, each with the `detail-type` of its envelope.
    async fn told(&self, queue: &str) -> Vec<(String, ChangeEvent)> {
        let sqs = self.aws.sqs();
        let request = sqs.receive_message().queue_url(queue).max_number_of_messages(10).wait_time_seconds(1);
        let mut told = Vec::new();
        for message in request.send().await.unwrap().messages.unwrap_or_default() {
            let envelope: Value = serde_json::from_str(&message.body.unwrap()).unwrap();
            let kind = envelope["detail-type"].as_str().unwrap().to_owned();
            told.push((kind, serde_json::from_value(envelope["detail"].clone()).unwrap()));
            let receipt = message.receipt_handle.unwrap();
            sqs.delete_message().queue_url(queue).receipt_handle(receipt).send().await.unwrap();
        }
        told
    }

    /// Returns what the table has of a connection.
    async fn items(&self, connection: &str) -> Vec<Item> {
        let request = self.aws.dynamodb().query().table_name(variable("ENTITIES_TABLE").unwrap());
        let request = request.key_condition_expression("pk = :pk").consistent_read(true);
        let request = request.expression_attribute_values(":pk", AttributeValue::S(format!("{PLATFORM}#{connection}")));
        let found = request.send().await.unwrap().items.unwrap_or_default();
        found.into_iter().map(|item| serde_dynamo::aws_sdk_dynamodb_1::from_item(item).unwrap()).collect()
    }
}

#[tokio::test]
async fn what_a_reader_is_told_becomes_the_table() {
    let (stack, connection) = (Stack::new().await, "changes.example.com");
    stack.connected(connection).await;
    let queue = variable("CHANGES_QUEUE").unwrap();
    // As they came, and all once more: duplicates, and events that are late by then.
    for sample in events().into_iter().chain(events()) {
        assert_eq!(stack.post(&stack.event(&sample.name, connection)).await, 200, "{}", sample.name);
    }
    let completed = |item: &Item| item.deleted && item.fields.get("status").is_some_and(|status| status == "completed");
    stack.until(connection, "order#13", completed).await;
    stack.until(connection, "customer#2", |item| item.deleted).await;
    stack.until(connection, "product#10", |item| item.deleted).await;

    let source = format!("/{PLATFORM}/{connection}");
    let (mut copy, mut events, started) = (Replica::default(), Vec::new(), Instant::now());
    loop {
        for (kind, event) in stack.told(&queue).await {
            assert_eq!(kind, event.kind);
            // The other tests change other connections meanwhile.
            if event.source == source {
                copy.take(event.clone());
                events.push(event);
            }
        }
        let Some(differs) = copy.difference(&stack.items(connection).await) else { break };
        assert!(started.elapsed() < PATIENCE * 2, "{differs}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let deleted = format!("order.{}", ChangeKind::Deleted.as_str());
    assert!(events.iter().any(|event| event.kind == deleted && event.subject == "order/13"), "{events:?}");
    let changed = events.iter().flat_map(|event| &event.data.changed);
    assert!(changed.into_iter().any(|change| change.field == "status" && change.before.is_some()), "{events:?}");
}
