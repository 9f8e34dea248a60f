//! The rules for one message, in their order, of which the first that fits decides. Nothing here reads or writes.

use commerce::{
    connection::{Connection, ConnectionStatus, DeletePolicy},
    envelope::{Envelope, Provenance},
    outcome::{Outcome, Reason, Rule},
    platform::Platform,
};

/// Returns the connection if it accepts a message.
///
/// # Errors
/// The rule by which the message is ignored.
pub(crate) fn gate<'c>(
    connection: Option<&'c Connection>,
    platform: &Platform,
    envelope: &Envelope,
) -> Result<&'c Connection, Rule> {
    let Some(connection) = connection else { return Err(Rule::UNKNOWN_CONNECTION) };
    if connection.status == ConnectionStatus::Disconnected {
        return Err(Rule::DISCONNECTED);
    }
    if connection.status == ConnectionStatus::Paused {
        return Err(Rule::PAUSED);
    }
    if connection.generation != envelope.generation {
        return Err(Rule::RETIRED_GENERATION);
    }
    if connection.is_unwanted(&envelope.scope) {
        return Err(Rule::UNWANTED_SCOPE);
    }
    // Answers to the connection's own credentials, and the registrar's commands, need no other proof.
    if !matches!(envelope.provenance, Provenance::Answer | Provenance::Registrar) {
        platform.mapping.admits(connection, &envelope.claims)?;
    }
    Ok(connection)
}

/// The facts about a message that concerns one entity, and about that entity.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    /// The effect of a delete at this connection.
    pub policy: DeletePolicy,
    /// `true` when the message has changes, and all of them are deletes.
    pub deletes_only: bool,
    /// `true` when the message only names the entity.
    pub says_nothing: bool,
    /// `true` when the item is as the message's source showed the entity.
    pub is_as_known: bool,
    /// `true` when the message counts only if the entity is here.
    pub wants_known: bool,
    /// `true` when the entity is here, alive or deleted.
    pub is_here: bool,
    /// `true` when the platform has to be asked before the message is believed.
    pub is_hint: bool,
    /// `true` when the message is so old that its entity may have been deleted and forgotten since.
    pub is_too_old: bool,
    /// `true` when a delete of the entity was noted while it was not here.
    pub is_told_gone: bool,
    /// `true` when the platform can be asked.
    pub can_ask: bool,
    /// `true` when the message is a delete that proves only its caller, of an entity that can be pulled with
    /// credentials.
    pub is_unproven_delete: bool,
    /// `true` when the message's content is kept beside the platform's.
    pub is_beside: bool,
}

/// The treatment of a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    /// The message ends.
    End(Outcome),
    /// The message is quarantined until there are credentials to ask with.
    WaitForCredentials,
    /// The platform is asked.
    Ask,
    /// The message's content is merged.
    Merge,
}

type Fits = fn(&Facts) -> bool;

/// The rules. A message that fits none is merged.
const RULES: &[(Fits, Action)] = &[
    (|of| of.deletes_only && of.policy == DeletePolicy::Ignore, Action::End(Outcome::Ignored(Rule::DELETES_IGNORED))),
    (|of| of.says_nothing && of.is_here && of.is_as_known, Action::End(Outcome::Unchanged)),
    (|of| of.wants_known && !of.is_here, Action::End(Outcome::Ignored(Rule::NOT_KNOWN))),
    (|of| of.can_ask && (of.is_hint || of.is_too_old || of.is_told_gone), Action::Ask),
    (|of| of.is_too_old, Action::End(Outcome::Quarantined(Reason::TooOld))),
    // The platform cannot be asked, and the message says nothing, may be an old delete, or has only content to keep
    // beside.
    (|of| !of.can_ask && (of.says_nothing || of.is_unproven_delete || of.is_beside), Action::WaitForCredentials),
];

/// Returns the treatment of a message.
pub(crate) fn decide(facts: &Facts) -> Action {
    RULES.iter().find(|(fits, _)| fits(facts)).map_or(Action::Merge, |(_, action)| action.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A proven update of an entity that is here, at a platform that can be asked.
    const UPDATE: Facts = Facts {
        policy: DeletePolicy::Mark,
        deletes_only: false,
        says_nothing: false,
        is_as_known: false,
        wants_known: false,
        is_here: true,
        is_hint: false,
        is_too_old: false,
        is_told_gone: false,
        can_ask: true,
        is_unproven_delete: false,
        is_beside: false,
    };
    /// A message that only names an entity.
    const HINT: Facts = Facts { says_nothing: true, is_hint: true, ..UPDATE };
    /// A delete whose proof covers only its caller.
    const DELETE: Facts = Facts { deletes_only: true, is_hint: true, is_unproven_delete: true, ..UPDATE };

    #[test]
    fn the_first_rule_that_fits_decides() {
        let ignored = |rule| Action::End(Outcome::Ignored(rule));
        let too_old = Action::End(Outcome::Quarantined(Reason::TooOld));
        for (name, facts, action) in [
            ("a proven update is merged", UPDATE, Action::Merge),
            ("so is one that cannot be asked about", Facts { can_ask: false, ..UPDATE }, Action::Merge),
            ("and one of what is new", Facts { is_here: false, ..UPDATE }, Action::Merge),
            ("unless it was told to be gone", Facts { is_here: false, is_told_gone: true, ..UPDATE }, Action::Ask),
            ("a hint is asked for", HINT, Action::Ask),
            ("and waits where it cannot be", Facts { can_ask: false, ..HINT }, Action::WaitForCredentials),
            ("unless it is here as shown", Facts { is_as_known: true, ..HINT }, Action::End(Outcome::Unchanged)),
            ("what is not here is not as shown", Facts { is_as_known: true, is_here: false, ..HINT }, Action::Ask),
            (
                "what only matters if known",
                Facts { wants_known: true, is_here: false, ..HINT },
                ignored(Rule::NOT_KNOWN),
            ),
            ("and is known", Facts { wants_known: true, ..HINT }, Action::Ask),
            ("a delete is confirmed", DELETE, Action::Ask),
            ("and waits where it cannot be", Facts { can_ask: false, ..DELETE }, Action::WaitForCredentials),
            (
                "a proven one needs nobody",
                Facts { can_ask: false, is_unproven_delete: false, is_hint: false, ..DELETE },
                Action::Merge,
            ),
            ("none is wanted here", Facts { policy: DeletePolicy::Ignore, ..DELETE }, ignored(Rule::DELETES_IGNORED)),
            ("that policy is about deletes alone", Facts { policy: DeletePolicy::Ignore, ..UPDATE }, Action::Merge),
            ("what is too old is asked about", Facts { is_too_old: true, is_here: false, ..UPDATE }, Action::Ask),
            ("or put aside", Facts { is_too_old: true, is_here: false, can_ask: false, ..UPDATE }, too_old),
            ("what is kept beside is asked for", Facts { is_beside: true, is_hint: true, ..UPDATE }, Action::Ask),
            (
                "and is nothing by itself",
                Facts { is_beside: true, is_hint: true, can_ask: false, ..UPDATE },
                Action::WaitForCredentials,
            ),
        ] {
            assert_eq!(decide(&facts), action, "{name}");
        }
    }
}
