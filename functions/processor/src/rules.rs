//! What is done with one message: rules in their order, of which the first that fits decides. Nothing here reads or writes.

use commerce::{
    connection::{Connection, ConnectionStatus, DeletePolicy},
    envelope::{Envelope, Provenance},
    outcome::{Outcome, Reason, Rule},
    platform::Platform,
};

/// Returns the connection if it takes a message.
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
    // What its own credentials were answered needs no other proof.
    if envelope.provenance != Provenance::Answer {
        platform.mapping.admits(connection, &envelope.claims)?;
    }
    Ok(connection)
}

/// What is known of a message about one entity, and of that entity.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    /// What a delete does at this connection.
    pub policy: DeletePolicy,
    /// Whether it says something, and that is deletes alone.
    pub deletes_only: bool,
    /// Whether it only names the entity.
    pub says_nothing: bool,
    /// Whether the entity is here already as the message's source showed it.
    pub is_as_known: bool,
    /// Whether it counts only if the entity is here.
    pub wants_known: bool,
    /// Whether the entity is here, alive or deleted.
    pub is_here: bool,
    /// Whether the platform has to be asked before it is believed.
    pub is_hint: bool,
    /// Whether it is so old that what it says may have been deleted and forgotten since.
    pub is_too_old: bool,
    /// Whether the entity was told to be gone when it was not here.
    pub is_told_gone: bool,
    /// Whether the platform can be asked.
    pub can_ask: bool,
    /// Whether it is a delete that proves only its caller, of what could be asked for if there were credentials.
    pub is_unproven_delete: bool,
    /// Whether what it says is kept beside what the platform shows.
    pub is_beside: bool,
}

/// What is done with a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    /// It ends.
    End(Outcome),
    /// It is put aside until there are credentials to ask with.
    WaitForCredentials,
    /// The platform is asked.
    Ask,
    /// What it says is merged.
    Merge,
}

type Fits = fn(&Facts) -> bool;

/// The rules. Of what fits none, what the message says is merged.
const RULES: &[(Fits, Action)] = &[
    (|of| of.deletes_only && of.policy == DeletePolicy::Ignore, Action::End(Outcome::Ignored(Rule::DELETES_IGNORED))),
    (|of| of.says_nothing && of.is_here && of.is_as_known, Action::End(Outcome::Unchanged)),
    (|of| of.wants_known && !of.is_here, Action::End(Outcome::Ignored(Rule::NOT_KNOWN))),
    (|of| of.can_ask && (of.is_hint || of.is_too_old || of.is_told_gone), Action::Ask),
    (|of| of.is_too_old, Action::End(Outcome::Quarantined(Reason::TooOld))),
    // What cannot be asked for: nothing was said, or it may be an old delete, or it says only what is kept beside.
    (|of| !of.can_ask && (of.says_nothing || of.is_unproven_delete || of.is_beside), Action::WaitForCredentials),
];

/// Returns what is done with a message.
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
    /// A delete that only its caller is proven of.
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
