//! The commands to send a message for each of several transfer requests, or of several parts of a delivery.

use cloud::queue::Inbox;
use commerce::{
    envelope::{Content, Sealed},
    outcome::Outcome,
    platform::mapping::Part,
    transfer::Transfer,
};

use crate::{Parts, Processor, disposition::Ended, parse::CommandMessage};

impl<P: Parts> Processor<P> {
    pub(super) async fn split(&self, message: &CommandMessage, transfers: &[Transfer]) -> Result<Outcome, Ended> {
        self.queue(message, transfers.iter().cloned().map(Content::Transfer)).await.map(Outcome::Split)
    }

    pub(super) async fn split_parts(&self, message: &CommandMessage, parts: &[Part]) -> Result<Outcome, Ended> {
        let sealed: Vec<Sealed> = parts.iter().map(|part| Sealed::delivered_part(&message.envelope, part)).collect();
        self.edges.queues.send_all(&sealed).await?;
        Ok(Outcome::Split(sealed.len()))
    }
}
