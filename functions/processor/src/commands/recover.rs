//! Finds an entity in place of which the platform delivered an error.

use commerce::{connection::Connection, outcome::Outcome};

use crate::{
    Parts, Processor,
    disposition::Ended,
    parse::{CommandMessage, Recovery},
    places::Place,
};

impl<P: Parts> Processor<P> {
    /// Tells the registrar of the error, and goes through the list in which the entity has to be.
    ///
    /// # Errors
    /// How the message ends if it is not found there.
    pub(super) async fn recover(
        &self,
        message: &CommandMessage,
        recovery: &Recovery,
        connection: &Connection,
        place: &Place<'_>,
    ) -> Result<Outcome, Ended> {
        let otherwise = || Err(recovery.otherwise.clone());
        if connection.credentials.is_none() {
            return otherwise();
        }
        if let Some(notice) = &recovery.complaint {
            self.complain(&message.envelope.key, notice).await;
        }
        let Some(listing) = &recovery.listing else { return otherwise() };
        match self.list(message, listing, connection, place).await? {
            // It has to be in there, and is not.
            Outcome::Split(0) => otherwise(),
            outcome => Ok(outcome),
        }
    }
}
