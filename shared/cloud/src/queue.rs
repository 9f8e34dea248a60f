//! The queues: the inbox, the dead-letter queue and the registrar's own queue, and the time at which a failed message
//! comes back.

use aws_sdk_sqs::{
    Client,
    types::{Message, MessageAttributeValue, SendMessageBatchRequestEntry},
};
use commerce::{
    envelope::{MAX_MESSAGE_BYTES, Sealed},
    job::Job,
    outcome::Reason,
};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};

use crate::{
    EdgeError,
    aws::{cause, fault},
};

/// The writing of messages to the inbox.
pub trait Inbox {
    /// Sends a message, to be delivered after `delay_seconds` (0 to 900), and returns its id from SQS. Without an id,
    /// there was no acknowledgement.
    fn send(&self, sealed: &Sealed, delay_seconds: i32) -> impl Future<Output = Result<String, EdgeError>> + Send;

    /// Sends many messages, in as few calls as possible. An error says that not all of them were sent. The caller may
    /// send all of them again, because repeated messages change nothing.
    fn send_all(&self, sealed: &[Sealed]) -> impl Future<Output = Result<(), EdgeError>> + Send;
}

/// The most entries that SendMessageBatch takes.
const MAX_ENTRIES: usize = 10;
/// The number of batches that are sent side by side.
const SENDERS: usize = 8;

/// A quarantined message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeadLetter {
    /// The message's text, as it came.
    pub body: String,
    /// The reason for the quarantine.
    pub reason: Reason,
    /// The platform, if the message states it.
    pub platform: Option<String>,
    /// The connection, if the message states it.
    pub connection: Option<String>,
    /// The topic (`scope`), if the message states it.
    pub scope: Option<String>,
}

impl DeadLetter {
    /// Returns the attributes that SQS carries beside the body.
    pub fn attributes(&self) -> Vec<(&'static str, String)> {
        let known = [("platform", &self.platform), ("connection", &self.connection), ("scope", &self.scope)];
        let known = known.into_iter().filter_map(|(name, value)| Some((name, attribute_text(value.as_deref()?)?)));
        std::iter::once(("reason", self.reason.name().to_owned())).chain(known).collect()
    }

    /// Returns the message group, which keeps queuing fair on the way back, too.
    pub fn group(&self) -> String {
        match (&self.platform, &self.connection) {
            (Some(platform), Some(connection)) => format!("{platform}#{connection}"),
            _ => "unknown".to_owned(),
        }
    }
}

/// Returns a text as an attribute can carry it, or `None` when nothing is left. SQS refuses empty attributes and
/// characters outside of XML's.
fn attribute_text(text: &str) -> Option<String> {
    let legal: String =
        text.chars().filter(|c| !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}')).take(256).collect();
    (!legal.is_empty()).then_some(legal)
}

/// The writing of jobs to the registrar's own queue.
pub trait Jobs {
    /// Sends jobs, each to be delivered after its delay in seconds (0 to 900). An error says that not all of them were
    /// sent.
    fn send_jobs(&self, jobs: &[(Job, i32)]) -> impl Future<Output = Result<(), EdgeError>> + Send;
}

/// The registrar's own queue at SQS.
#[derive(Clone, Debug)]
pub struct SqsJobs {
    client: Client,
    url: String,
}

impl SqsJobs {
    /// Makes the edge to the queue at this URL.
    pub fn new(client: Client, url: String) -> Self {
        Self { client, url }
    }

    async fn send_batch(&self, jobs: &[(Job, i32)]) -> Result<(), EdgeError> {
        let operation = "SendMessageBatch of jobs";
        let mut request = self.client.send_message_batch().queue_url(&self.url);
        for (place, (job, delay)) in jobs.iter().enumerate() {
            let entry = SendMessageBatchRequestEntry::builder()
                .id(place.to_string())
                .message_body(job.text())
                .message_group_id(job.group())
                .set_delay_seconds((*delay > 0).then_some((*delay).min(900)))
                .build()
                .map_err(|_| EdgeError::new(operation, "an entry cannot be built"))?;
            request = request.entries(entry);
        }
        let sent = request.send().await.map_err(|error| EdgeError::new(operation, cause(&error)))?;
        if sent.successful.len() == jobs.len() {
            Ok(())
        } else {
            Err(EdgeError::new(operation, format!("{} entries were not taken", sent.failed.len())))
        }
    }
}

impl Jobs for SqsJobs {
    async fn send_jobs(&self, jobs: &[(Job, i32)]) -> Result<(), EdgeError> {
        let sending: Vec<BoxFuture<'_, _>> =
            jobs.chunks(MAX_ENTRIES).map(|entries| self.send_batch(entries).boxed()).collect();
        stream::iter(sending).buffer_unordered(SENDERS).collect::<Vec<_>>().await.into_iter().collect()
    }
}

/// The dead-letter queue.
pub trait DeadLetters {
    /// Sends a message to the dead-letter queue.
    fn quarantine(&self, letter: &DeadLetter) -> impl Future<Output = Result<(), EdgeError>> + Send;

    /// Receives up to ten letters, and hides them from others for [`HIDDEN_SECONDS`]. There may be more even if none
    /// comes.
    fn receive(&self) -> impl Future<Output = Result<Vec<Received>, EdgeError>> + Send;

    /// Removes a letter, by its handle.
    fn remove(&self, handle: &str) -> impl Future<Output = Result<(), EdgeError>> + Send;

    /// Shows a letter to others again. If that fails, it shows by itself after a while.
    fn release(&self, handle: &str) -> impl Future<Output = ()> + Send;
}

/// The time for which a received letter is hidden, in seconds.
pub const HIDDEN_SECONDS: i32 = 300;

/// A letter of the dead-letter queue, as it was received.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Received {
    /// The message's text.
    pub body: String,
    /// The handle by which it is removed or released.
    pub handle: String,
}

/// The return of failed messages.
pub trait Retries {
    /// Makes a message visible again after `seconds`.
    fn retry_in(&self, receipt_handle: &str, seconds: i32) -> impl Future<Output = Result<(), EdgeError>> + Send;
}

/// The inbox and the dead-letter queue at SQS.
#[derive(Clone, Debug)]
pub struct Sqs {
    client: Client,
    inbox: String,
    dead_letters: String,
}

impl Sqs {
    /// Makes the edge to the queues at these URLs. A function that never uses one of them may give an empty one.
    pub fn new(client: Client, inbox: String, dead_letters: String) -> Self {
        Self { client, inbox, dead_letters }
    }

    /// Opens the connection while Lambda initialises, which is not throttled, so that the first sender does not wait
    /// for it. A failure shows with the first message.
    pub async fn warm(&self) {
        let _ = self.client.get_queue_attributes().queue_url(&self.inbox).send().await;
    }
}

impl Inbox for Sqs {
    async fn send(&self, sealed: &Sealed, delay_seconds: i32) -> Result<String, EdgeError> {
        let operation = "SendMessage to the inbox";
        let sent = self
            .client
            .send_message()
            .queue_url(&self.inbox)
            .message_body(sealed.text())
            .message_group_id(sealed.group())
            .set_delay_seconds((delay_seconds > 0).then_some(delay_seconds.min(900)))
            .send()
            .await
            .map_err(|error| fault(operation, &error))?;
        sent.message_id.ok_or_else(|| EdgeError::new(operation, "no message id came back"))
    }

    async fn send_all(&self, sealed: &[Sealed]) -> Result<(), EdgeError> {
        let sending = batches(sealed).into_iter().map(|entries| self.send_batch(entries));
        // Boxed, because the compiler cannot see that these futures are `Send` for every lifetime of a batch.
        let sending: Vec<BoxFuture<'_, _>> = sending.map(FutureExt::boxed).collect();
        stream::iter(sending).buffer_unordered(SENDERS).collect::<Vec<_>>().await.into_iter().collect()
    }
}

impl Sqs {
    async fn send_batch(&self, entries: &[Sealed]) -> Result<(), EdgeError> {
        let operation = "SendMessageBatch to the inbox";
        let mut request = self.client.send_message_batch().queue_url(&self.inbox);
        for (place, sealed) in entries.iter().enumerate() {
            let entry = SendMessageBatchRequestEntry::builder()
                .id(place.to_string())
                .message_body(sealed.text())
                .message_group_id(sealed.group())
                .build()
                .map_err(|_| EdgeError::new(operation, "an entry cannot be built"))?;
            request = request.entries(entry);
        }
        let sent = request.send().await.map_err(|error| EdgeError::new(operation, cause(&error)))?;
        if sent.successful.len() == entries.len() {
            Ok(())
        } else {
            Err(EdgeError::new(operation, format!("{} entries were not taken", sent.failed.len())))
        }
    }
}

/// Splits messages into batches of at most ten, each no longer than one message may be. Both are limits of SQS.
fn batches(sealed: &[Sealed]) -> Vec<&[Sealed]> {
    let (mut batches, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (place, message) in sealed.iter().enumerate() {
        let size = message.text().len();
        if place > start && (place - start == MAX_ENTRIES || bytes + size > MAX_MESSAGE_BYTES) {
            batches.push(&sealed[start..place]);
            (start, bytes) = (place, 0);
        }
        bytes += size;
    }
    if start < sealed.len() {
        batches.push(&sealed[start..]);
    }
    batches
}

impl DeadLetters for Sqs {
    async fn quarantine(&self, letter: &DeadLetter) -> Result<(), EdgeError> {
        let operation = "SendMessage to the dead-letter queue";
        let mut request = self
            .client
            .send_message()
            .queue_url(&self.dead_letters)
            .message_body(&letter.body)
            .message_group_id(letter.group());
        for (name, value) in letter.attributes() {
            let value = MessageAttributeValue::builder()
                .data_type("String")
                .string_value(value)
                .build()
                .map_err(|_| EdgeError::new(operation, "an attribute cannot be built"))?;
            request = request.message_attributes(name, value);
        }
        let sent = request.send().await.map_err(|error| EdgeError::new(operation, cause(&error)))?;
        sent.message_id.map(|_| ()).ok_or_else(|| EdgeError::new(operation, "no message id came back"))
    }

    async fn receive(&self) -> Result<Vec<Received>, EdgeError> {
        // Without waiting, SQS asks only some of its servers.
        let request = self.client.receive_message().queue_url(&self.dead_letters).wait_time_seconds(1);
        let request = request.max_number_of_messages(10).visibility_timeout(HIDDEN_SECONDS);
        let answer = request.send().await;
        let answer = answer.map_err(|error| EdgeError::new("ReceiveMessage of dead letters", cause(&error)))?;
        let letters = answer.messages.unwrap_or_default().into_iter();
        let received = |letter: Message| Some(Received { body: letter.body?, handle: letter.receipt_handle? });
        Ok(letters.filter_map(received).collect())
    }

    async fn remove(&self, handle: &str) -> Result<(), EdgeError> {
        let request = self.client.delete_message().queue_url(&self.dead_letters).receipt_handle(handle);
        let removed = request.send().await;
        removed.map(|_| ()).map_err(|error| EdgeError::new("DeleteMessage of a dead letter", cause(&error)))
    }

    async fn release(&self, handle: &str) {
        let request = self.client.change_message_visibility().queue_url(&self.dead_letters);
        let _ = request.receipt_handle(handle).visibility_timeout(0).send().await;
    }
}

impl Retries for Sqs {
    async fn retry_in(&self, receipt_handle: &str, seconds: i32) -> Result<(), EdgeError> {
        self.client
            .change_message_visibility()
            .queue_url(&self.inbox)
            .receipt_handle(receipt_handle)
            .visibility_timeout(seconds)
            .send()
            .await
            .map(|_| ())
            .map_err(|error| EdgeError::new("ChangeMessageVisibility", cause(&error)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_batch_keeps_to_both_limits() {
        let message = |id: u64| {
            let text = format!(
                r#"{{"version":1,"provenance":"envelope","platform":"p","connection":"c","generation":1,"scope":"s","key_id":"k",
                "strength":"body","received":1,"content":{{"transfer":{{"entity":"order","id":{id},"reason":"{}"}}}}}}"#,
                if id == 3 { "x".repeat(MAX_MESSAGE_BYTES - 500) } else { String::new() },
            );
            Sealed::redriven(&commerce::envelope::Envelope::parse(&text).unwrap())
        };
        let sizes = |sealed: &[Sealed]| batches(sealed).iter().map(|batch| batch.len()).collect::<Vec<_>>();
        assert_eq!(sizes(&(100..125).map(message).collect::<Vec<_>>()), [10, 10, 5]);
        assert_eq!(sizes(&(0..8).map(message).collect::<Vec<_>>()), [3, 2, 3]);
        assert!(sizes(&[]).is_empty());
    }

    #[test]
    fn attributes_are_legal_whatever_the_scope_says() {
        let letter = DeadLetter {
            body: "?".into(),
            reason: Reason::Malformed,
            platform: Some("woocommerce".into()),
            connection: None,
            scope: Some("a\u{0}b\u{ffff}".into()),
        };
        let attributes = letter.attributes();
        assert_eq!(
            attributes,
            [("reason", "malformed".into()), ("platform", "woocommerce".into()), ("scope", "ab".into())]
        );
        assert_eq!(letter.group(), "unknown");
    }
}
