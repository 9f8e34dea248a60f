//! The material of a merge: the messages whose changes can be merged, what a platform answered, and how messages ended.

use commerce::{change::Change, outcome::Rule};

use crate::disposition::Ended;

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
