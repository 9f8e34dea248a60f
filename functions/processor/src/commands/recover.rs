//! The command to find an entity in whose place the platform delivered an error.

use commerce::{connection::Connection, outcome::Outcome};

use crate::{
    Parts, Processor,
    disposition::Ended,
    parse::{CommandMessage, Recovery},
    places::Place,
};

impl<P: Parts> Processor<P> {
    /// Reports the error to the registrar, and reads the list in which the entity has to be.
    ///
    /// # Errors
    /// The end of the message, if the entity is not found there.
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
            // The entity has to be in the list, and is not.
            Outcome::Split(0) => otherwise(),
            outcome => Ok(outcome),
        }
    }
}
