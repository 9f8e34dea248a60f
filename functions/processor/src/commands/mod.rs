//! The commands, which are messages that do not name one entity: a file for each.

mod count;
mod erase;
mod list;
mod notice;
mod pull_known;
mod pull_unlisted;
mod recover;
mod redact;
mod reproject;
mod snapshot;
mod split;
mod verify;

use cloud::queue::{Inbox, Jobs};
use commerce::{
    connection::Connection,
    envelope::{Content, Sealed},
    job::Job,
    outcome::{Outcome, Rule},
};

use crate::{
    Parts, Processor,
    disposition::Ended,
    parse::{Command, CommandMessage},
    places::Place,
    rules::gate,
};

/// The number of keys of known entities that are read at once.
const KEY_PAGE: u32 = 500;
/// The number of pages of keys that one message reads. The rest becomes a message of its own.
const MAX_KEY_PAGES: usize = 5;

impl<P: Parts> Processor<P> {
    /// Carries out the command of a message.
    pub(crate) async fn run_command(
        &self,
        message: &CommandMessage,
        connection: Option<&Connection>,
        place: &Place<'_>,
    ) -> Ended {
        let gated = || gate(connection, &message.platform, &message.envelope).map_err(Ended::from);
        let done = async {
            match &message.command {
                Command::Erase(erasure) => self.erase(message, erasure).await,
                Command::Reproject(reprojection) => self.reproject(message, reprojection).await,
                Command::DemandRedaction(persons) => {
                    gated()?;
                    // Only the registrar may mark the connection as one with redacted persons.
                    let job = Job::Redact { key: message.envelope.key.clone(), persons: persons.clone() };
                    self.edges.jobs.send_jobs(&[(job, 0)]).await?;
                    Ok(Outcome::Ignored(Rule::DEMANDED))
                }
                Command::Redact(redaction) => self.redact(message, redaction, connection).await,
                Command::Verify(verification) => self.verify_on(message, verification, gated()?, place).await,
                Command::Snapshot(snapshot) => self.snapshot(message, snapshot).await,
                Command::Split(transfers) => {
                    gated()?;
                    self.split(message, transfers).await
                }
                Command::Parts(parts) => {
                    gated()?;
                    self.split_parts(message, parts).await
                }
                Command::List(listing) => self.list(message, listing, gated()?, place).await,
                Command::Recover(recovery) => self.recover(message, recovery, gated()?, place).await,
                Command::PullUnlisted(swept) => {
                    gated()?;
                    self.pull_unlisted(message, swept).await
                }
                Command::Count(counted) => {
                    gated()?;
                    self.count(message, counted).await
                }
                Command::PullKnown(known) => {
                    gated()?;
                    self.pull_known(message, known).await
                }
                Command::Notice(notice) => {
                    gated()?;
                    self.keep_notice(&message.envelope.key, notice).await
                }
            }
        };
        done.await.map_or_else(|ended| ended, Ended::from)
    }

    /// Queues the rest of a command as a message of its own, after `parts` others.
    async fn go_on(&self, message: &CommandMessage, rest: Content, parts: usize) -> Result<Outcome, Ended> {
        self.edges.queues.send_all(&[Sealed::part(&message.envelope, rest)]).await?;
        Ok(Outcome::Split(parts + 1))
    }

    /// Queues the messages that a command produces, and returns their number.
    async fn queue(
        &self,
        message: &CommandMessage,
        contents: impl IntoIterator<Item = Content>,
    ) -> Result<usize, Ended> {
        let sealed: Vec<_> = contents.into_iter().map(|content| Sealed::part(&message.envelope, content)).collect();
        self.edges.queues.send_all(&sealed).await?;
        Ok(sealed.len())
    }
}
