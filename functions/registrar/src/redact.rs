//! The redaction of persons: the registrar notes who they are and orders the processor to redact them, and shows the
//! receipt.

use std::collections::BTreeSet;

use cloud::{
    coordination::{Coordination, Terms, Update, update_json},
    queue::Inbox,
    telemetry,
};
use commerce::{
    entity::ExternalId,
    envelope::Sealed,
    key::ConnectionKey,
    redaction::{MAX_EMAIL_BYTES, NOTED_SECONDS, Pseudonym, RECEIPT, Receipt, Redaction, redaction_id},
    scheme::jwt::Claims,
    timestamp::Timestamp,
};
use serde_json::json;

use crate::{
    Parts, Registrar,
    admin::{asker, flag, members},
    answers::RedactionReceipt,
    problem::Problem,
};

/// The time without progress after which a redaction is ordered once more on request, in seconds.
const LOST_SECONDS: i64 = 30 * 60;
/// The time within which a demand that is sent again begins nothing, in seconds.
const DEMANDED_SECONDS: i64 = 60 * 60;
/// The number of attempts to write a note that others write, too.
const TRIES: u32 = 5;

impl<P: Parts> Registrar<P> {
    /// Redacts the person whom a request names, and returns the receipt. The same request again shows how far it has
    /// come, and begins another redaction only with `"again": true`.
    pub(crate) async fn redact(
        &self,
        key: &ConnectionKey,
        body: &[u8],
        claims: &Claims,
    ) -> Result<RedactionReceipt, Problem> {
        let Wanted { persons, again } = wanted(key, body)?;
        let id = redaction_id(&persons);
        let now = (self.clock)();
        let known = self.receipt(key, &id).await?;
        if let Some(receipt) = known.filter(|receipt| is_settled(receipt, again, now)) {
            return Ok(RedactionReceipt::new(id, &receipt));
        }
        self.order_redaction(key, persons, now).await?;
        let by = asker(claims);
        telemetry::emit(&json!({
            "level": "INFO", "event": "redaction-begun", "connection": key.to_string(), "redaction": id, "by": by,
        }));
        let receipt = self.receipt(key, &id).await?.unwrap_or_else(|| Receipt::new(now));
        Ok(RedactionReceipt::new(id, &receipt))
    }

    /// Returns the receipt of a redaction, if there is one.
    async fn receipt(&self, key: &ConnectionKey, id: &str) -> Result<Option<Receipt>, Problem> {
        let note = self.edges.notes.note(key, &format!("{RECEIPT}{id}")).await?;
        let note = note.filter(|note| note.is_live((self.clock)()));
        Ok(note.and_then(|note| serde_json::from_str(&note.body).ok()))
    }

    /// Redacts persons because their platform demands it, unless that is under way, or was done within the last hour.
    pub(crate) async fn redact_on_demand(
        &self,
        key: &ConnectionKey,
        persons: &BTreeSet<Pseudonym>,
    ) -> Result<(), Problem> {
        let (id, now) = (redaction_id(persons), (self.clock)());
        let known = self.receipt(key, &id).await?;
        let is_past = |receipt: &Receipt| receipt.at.plus_seconds(DEMANDED_SECONDS) < now;
        if known.is_some_and(|receipt| is_settled(&receipt, is_past(&receipt), now)) {
            return Ok(());
        }
        self.order_redaction(key, persons.clone(), now).await?;
        telemetry::emit(&json!({
            "level": "INFO", "event": "redaction-begun", "connection": key.to_string(), "redaction": id,
            "by": "the platform",
        }));
        Ok(())
    }

    /// Orders the redaction of persons. From now on the processor writes nothing that names them.
    async fn order_redaction(
        &self,
        key: &ConnectionKey,
        persons: BTreeSet<Pseudonym>,
        now: Timestamp,
    ) -> Result<(), Problem> {
        let (_, mut connection) = self.known(key).await?;
        let contended = || Problem::Conflict(format!("{key}: a note was written by others each time; try again"));
        let terms = Terms::once(now, NOTED_SECONDS).tries(TRIES);
        let id = redaction_id(&persons);
        let (known, name) = (self.receipt(key, &id).await?, format!("{RECEIPT}{id}"));
        let redaction = Redaction::new(persons, &known.map(|receipt| receipt.pseudonyms).unwrap_or_default(), now);
        for person in &redaction.pseudonyms {
            let later = |before: Option<i64>| Some(before.unwrap_or(0).max(now.micros()));
            if update_json(&self.edges.notes, key, &person.note(), terms, later).await? == Update::Contended {
                return Err(contended());
            }
        }
        if !connection.redacts {
            connection.redacts = true;
            self.save(key, &mut connection).await?;
        }
        let begun = |before: Option<Receipt>| {
            let before = before.unwrap_or_else(|| Receipt::new(now));
            Some(Receipt { at: now, done: None, looked_again: None, ..before })
        };
        if update_json(&self.edges.notes, key, &name, terms, begun).await? == Update::Contended {
            return Err(contended());
        }
        let order = Sealed::redaction(key, &connection, redaction, now);
        self.edges.inbox.send(&order, 0).await?;
        Ok(())
    }
}

/// Returns whether a receipt is the answer to a request, so that nothing has to begin.
fn is_settled(receipt: &Receipt, again: bool, now: Timestamp) -> bool {
    match receipt.done {
        Some(_) => !again,
        None => now < receipt.moved.max(receipt.at).plus_seconds(LOST_SECONDS),
    }
}

/// The request of a redaction.
struct Wanted {
    persons: BTreeSet<Pseudonym>,
    again: bool,
}

fn wanted(key: &ConnectionKey, body: &[u8]) -> Result<Wanted, Problem> {
    let mut members = members(body, &["customer", "email", "again"])?;
    let mut persons = BTreeSet::new();
    if let Some(customer) = members.remove("customer") {
        let id: ExternalId = serde_json::from_value(customer)
            .map_err(|_| Problem::Invalid("customer: must be the id of a customer at the platform".into()))?;
        persons.insert(Pseudonym::of_customer(key, id.as_str()));
    }
    if let Some(email) = members.remove("email") {
        let email = email.as_str().map(str::trim).filter(|email| {
            let ends = email.split_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty());
            ends && email.len() <= MAX_EMAIL_BYTES
        });
        let email = email.ok_or_else(|| Problem::Invalid("email: must be an e-mail address".into()))?;
        persons.insert(Pseudonym::of_email(key, email));
    }
    if persons.is_empty() {
        return Err(Problem::Invalid("body: must name the person by `customer`, `email` or both".into()));
    }
    Ok(Wanted { persons, again: flag(&mut members, "again")? })
}
