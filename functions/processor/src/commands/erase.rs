//! Removes all that is known of a disconnected connection.

use cloud::state::Entities;
use commerce::{
    connection::ConnectionStatus,
    envelope::{Content, Erasure},
    outcome::{Outcome, Rule},
};

use crate::{Parts, Processor, disposition::Ended, parse::CommandMessage};

/// How many items are erased by one call.
const ERASED_AT_ONCE: u32 = 100;
/// How many such pages one message erases; the rest is a message of its own.
const ERASED_PAGES: usize = 20;

impl<P: Parts> Processor<P> {
    /// Removes page after page, as long as the connection is disconnected and nobody has connected it again: that cancels it, and may
    /// happen between two pages. Other messages of it are ignored meanwhile, so nothing new comes.
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
