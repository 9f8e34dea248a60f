//! The command to send a message for each of several transfer requests.

use commerce::{envelope::Content, outcome::Outcome, transfer::Transfer};

use crate::{Parts, Processor, disposition::Ended, parse::CommandMessage};

impl<P: Parts> Processor<P> {
    pub(super) async fn split(&self, message: &CommandMessage, transfers: &[Transfer]) -> Result<Outcome, Ended> {
        self.queue(message, transfers.iter().cloned().map(Content::Transfer)).await.map(Outcome::Split)
    }
}
