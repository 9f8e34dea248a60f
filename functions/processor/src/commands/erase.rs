//! The command to erase the state of a disconnected connection.

use cloud::state::Entities;
use commerce::{
    connection::ConnectionStatus,
    envelope::{Content, Erasure},
    outcome::{Outcome, Rule},
};

use crate::{Parts, Processor, disposition::Ended, parse::CommandMessage};

/// The number of items that are read and erased at once.
const ERASED_AT_ONCE: u32 = 100;
/// The number of pages of items that one message erases. The rest becomes a message of its own.
const ERASED_PAGES: usize = 20;

impl<P: Parts> Processor<P> {
    /// Erases page after page, as long as the connection is disconnected. Connecting it again cancels the erasure, even
    /// between two pages. Meanwhile the connection's other messages are ignored, so nothing new comes.
    pub(super) async fn erase(&self, message: &CommandMessage, erasure: &Erasure) -> Result<Outcome, Ended> {
        let key = &message.envelope.key;
        let mut after = erasure.after.clone();
        for _ in 0..ERASED_PAGES {
            let read = self.edges.entities.read(&[], std::slice::from_ref(key)).await?;
            let gone = read.connections.get(key).is_some_and(|connection| {
                connection.status == ConnectionStatus::Disconnected
                    && connection.generation == message.envelope.generation
            });
            if !gone {
                return Ok(Outcome::Ignored(Rule::CONNECTED_AGAIN));
            }
            let page = self.edges.entities.keys(key, None, after.as_deref(), ERASED_AT_ONCE).await?;
            let entities: Vec<_> = page.keys.into_iter().map(|(entity, _)| entity).collect();
            self.edges.entities.remove(&entities).await?;
            after = page.next;
            if after.is_none() {
                return Ok(Outcome::Ignored(Rule::ERASED));
            }
        }
        self.go_on(message, Content::Erase(Erasure { after }), 0).await
    }
}
