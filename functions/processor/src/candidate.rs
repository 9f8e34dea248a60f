//! The material of a merge: the messages whose changes can be merged, what a platform answered, and how messages ended.

use commerce::{change::Change, item::Item, outcome::Rule, timestamp::Timestamp};

use crate::{disposition::Ended, parse::EntityUpdate};

/// The note on a message whose source time was too far ahead to be believed.
pub(crate) const CLAMPED: &str = "the source's clock is more than a day ahead";

/// The ends of messages, by their places in the batch.
pub(crate) type Ends = Vec<(usize, Ended)>;

/// A message whose changes can be merged.
pub(crate) struct Candidate {
    pub index: usize,
    pub changes: Vec<Change>,
    /// The platform's reason for refusing an action. The message is quarantined once the state is written.
    pub refused: Option<String>,
    /// The rule by which the message is ignored unless the entity is known.
    pub only_if_known: Option<Rule>,
    /// Set when the platform was already asked about facts that are kept beside its answer.
    pub asked: bool,
    /// Set when an answer of the platform is among the changes.
    pub answered: bool,
    /// The noted delete of the entity, read before the platform was asked.
    pub noted: Option<Timestamp>,
}

/// The result of asking the platform about an entity.
pub(crate) struct Answer {
    /// The entity as it is, or its absence; or the rule by which it is not kept.
    pub change: Result<Change, Rule>,
    /// The rule by which the change is ignored unless the entity is known.
    pub only_if_known: Option<Rule>,
    /// The reason for a refusal, if the platform refused an action.
    pub refused: Option<String>,
}

/// An entity as it is known here before the platform is asked about it.
#[derive(Clone, Copy)]
pub(crate) struct Before<'a> {
    pub item: Option<&'a Item>,
    /// `false` when the calls may end as soon as they show that the entity is not kept.
    pub known: bool,
    /// The time that the answer is later than.
    pub after: Timestamp,
}

impl<'a> Before<'a> {
    /// Returns what an item and these messages say of an entity. The platform is asked after they were received, whatever
    /// the clocks say that received them.
    pub fn new(item: Option<&'a Item>, updates: &[EntityUpdate], known: bool) -> Self {
        let latest = item.and_then(|item| item.state().latest());
        let received = updates.iter().map(|update| update.envelope.received);
        let after = latest.into_iter().chain(received).max().unwrap_or(Timestamp::from_micros(0));
        Self { item, known, after }
    }
}
