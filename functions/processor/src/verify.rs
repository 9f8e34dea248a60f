//! The verification of a connection, step by step: the entities that are here are compared with the platform's own API,
//! within the connection's budget of calls.
//!
//! For each kind of entity, the processor reads the platform's list first. It compares an entry that shows the whole entity
//! as it is, and pulls the entity of any other entry. Then it pulls the entities that are here and that no page listed.
//! Where the platform has no list, it pulls all entities that are here.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use cloud::{
    EdgeError,
    coordination::{Coordination, Note, Terms, update_json},
    queue::Inbox,
    state::{Entities, KeyPage},
};
use commerce::{
    change::{Change, State, Upsert},
    connection::Connection,
    drift::{SweptPage, all_swept, swept_notes},
    entity::{Content, EntityKey, EntityKind, ExternalId},
    envelope::Sealed,
    http_call::Fault,
    item::{Item, Projection},
    key::ConnectionKey,
    platform::{
        Platform, find,
        mapping::{Mapped, deleted_fields},
    },
    redaction::redact,
    transfer::{Listing, Shown, Transfer},
    verification::{Difference, Extent, MAX_WAITS, Place as Position, Report, Unchecked, Verification, differences},
};

use crate::{
    Parts, Processor,
    candidate::Before,
    places::{Place, Places},
};

/// The most entities that one step pulls.
const PULLS: usize = 20;
/// The number of keys of known entities that one step reads.
const KEYS: u32 = 100;
/// The most pages of a list.
const MAX_PAGES: u32 = 100_000;
/// The time for which a sample takes the platform's latest changes, in seconds.
const RECENT_SECONDS: i64 = 24 * 60 * 60;
/// The time for which the pages of a list are remembered, in seconds.
const LISTED_SECONDS: i64 = 7 * 24 * 60 * 60;
/// The reason of a pull that repairs a difference.
const REPAIR: &str = "it differs from the platform";

/// A step of a verification.
#[derive(Debug)]
pub struct Step {
    /// The report of this step alone: the entities that it compared, and their differences.
    pub found: Report,
    /// The order for the next step; `None` when everything is verified.
    pub next: Option<Verification>,
    /// The time to wait before that, in seconds, for the sake of the budget of calls.
    pub wait_seconds: i64,
}

/// An entity after its check.
enum Checked {
    /// It has these differences, or none.
    Differs(Vec<Difference>),
    /// The platform shows nothing of it that is kept.
    Unshown,
    Failed(String),
    Throttled(i64),
}

/// A connection with its platform, while a step is taken.
struct Verifying<'a, 'p> {
    platform: &'static Platform,
    key: &'a ConnectionKey,
    connection: &'a Connection,
    place: &'a Place<'p>,
    kind: EntityKind,
    pulls: usize,
    found: Report,
    repairs: Vec<Transfer>,
}

impl Verifying<'_, '_> {
    fn entity(&self, transfer: &Transfer) -> EntityKey {
        EntityKey { connection: self.key.clone(), kind: transfer.entity, id: transfer.id.clone() }
    }

    /// Adds a checked entity. Returns the time to wait, in seconds, if the budget is used up.
    fn add(&mut self, entity: &EntityKey, checked: Checked, repair: bool) -> Option<i64> {
        match checked {
            Checked::Differs(differences) => {
                if repair && !differences.is_empty() {
                    self.repairs.push(Transfer::new(entity.kind, entity.id.clone(), REPAIR));
                }
                self.found.add(entity.kind, differences);
            }
            Checked::Failed(why) => {
                self.found.add_unchecked(Unchecked { entity: entity.kind, id: Some(entity.id.clone()), why });
            }
            Checked::Unshown => _ = self.found.unfetchable.insert(entity.kind),
            Checked::Throttled(seconds) => return Some(seconds.max(1)),
        }
        None
    }

    fn fail(&mut self, why: String) {
        self.found.add_unchecked(Unchecked { entity: self.kind, id: None, why });
    }
}

impl<P: Parts> Processor<P> {
    /// Takes the next step of a verification.
    ///
    /// # Errors
    /// [`EdgeError`] when a table or a queue cannot be reached; the same step can be taken again.
    pub async fn verify(
        &self,
        key: &ConnectionKey,
        connection: &Connection,
        verification: &Verification,
    ) -> Result<Step, EdgeError> {
        let places = Places::new(std::slice::from_ref(key));
        self.verify_at(key, connection, verification, &places.of(key)).await
    }

    pub(crate) async fn verify_at(
        &self,
        key: &ConnectionKey,
        connection: &Connection,
        verification: &Verification,
        place: &Place<'_>,
    ) -> Result<Step, EdgeError> {
        let found = Report::new(verification);
        let (Some(kind), Some(platform)) = (verification.kinds.first(), find(self.platforms, &key.platform)) else {
            return Ok(Step { found, next: None, wait_seconds: 0 });
        };
        let mut verifying =
            Verifying { platform, key, connection, place, kind: *kind, pulls: 0, found, repairs: Vec::new() };
        let (mut position, wait) = match &verification.place {
            Position::Start => (self.start(&mut verifying, verification), 0),
            Position::Listed { listing, page, done } => {
                self.step_in_list(&mut verifying, verification, (listing, *page, done)).await?
            }
            Position::Known { after, left, until } => {
                self.step_in_known(&mut verifying, verification, (after.as_deref(), *left, until.as_deref())).await?
            }
        };
        let waits = if wait > 0 && position.as_ref() == Some(&verification.place) { verification.waits + 1 } else { 0 };
        if waits >= MAX_WAITS {
            verifying.fail("the platform asks to wait, again and again".into());
            position = None;
        }
        let now = (self.clock)();
        let repairs: Vec<_> =
            verifying.repairs.into_iter().map(|transfer| Sealed::repair(key, connection, transfer, now)).collect();
        self.edges.queues.send_all(&repairs).await?;
        verifying.found.queued = repairs.len() as u64;
        let mut next = Verification { steps: verification.steps + 1, waits, ..verification.clone() };
        match position {
            Some(position) => next.place = position,
            None => {
                next.kinds.remove(0);
                (next.place, next.waits) = (Position::Start, 0);
            }
        }
        let next = Some(next).filter(|next| !next.kinds.is_empty());
        Ok(Step { found: verifying.found, next, wait_seconds: wait })
    }

    /// Returns where to begin with a kind of entity; `None` if it cannot be verified.
    fn start(&self, verifying: &mut Verifying<'_, '_>, verification: &Verification) -> Option<Position> {
        let kind = verifying.kind;
        if !verifying.platform.mapping.pulls(&verifying.connection.settings, kind) {
            verifying.found.unfetchable.insert(kind);
            return None;
        }
        if verifying.connection.credentials.is_none() {
            verifying.fail("the connection has no credentials to ask its store with".into());
            return None;
        }
        let since = match verification.extent {
            Extent::Full => None,
            Extent::Sample(_) => Some((self.clock)().plus_seconds(-RECENT_SECONDS)),
        };
        match verifying.platform.lists.and_then(|lists| lists.poll(kind, since)) {
            Some(listing) => Some(Position::Listed { listing, page: 0, done: BTreeSet::new() }),
            None => {
                verifying.found.unlisted.insert(kind);
                Some(known(verification, kind))
            }
        }
    }

    /// Checks some entries of a page of the platform's list.
    async fn step_in_list(
        &self,
        verifying: &mut Verifying<'_, '_>,
        verification: &Verification,
        (listing, page, done): (&Listing, u32, &BTreeSet<ExternalId>),
    ) -> Result<(Option<Position>, i64), EdgeError> {
        let kind = verifying.kind;
        let mut done = done.clone();
        let here = |done| Some(Position::Listed { listing: listing.clone(), page, done });
        let read = self
            .list_page(verifying.platform, verifying.key, listing, verifying.connection, &verifying.place.another())
            .await;
        let (mut entries, rest) = match read {
            Ok(read) => read,
            Err(Fault::Throttled { seconds }) => return Ok((here(done), seconds.max(1))),
            Err(fault) => {
                verifying.fail(format!("its list cannot be read: {fault}"));
                return Ok((Some(known(verification, kind)), 0));
            }
        };
        if let Extent::Sample(most) = verification.extent {
            entries.truncate(usize::try_from(most).unwrap_or(usize::MAX));
        }
        for transfer in &entries {
            if done.contains(&transfer.id) {
                continue;
            }
            if verifying.pulls == PULLS {
                return Ok((here(done), 0));
            }
            let entity = verifying.entity(transfer);
            let checked = self.check_entity(verifying, &entity, transfer.shown.as_ref()).await?;
            if let Some(wait) = verifying.add(&entity, checked, verification.repair) {
                return Ok((here(done), wait));
            }
            done.insert(transfer.id.clone());
        }
        // Only what was checked counts as listed.
        if verification.extent == Extent::Full {
            let ids = done.into_iter().collect();
            let checked = SweptPage { ids, last: rest.is_none() };
            self.note_listed(verifying.key, verification, kind, page, checked).await?;
        }
        let next = rest.filter(|_| verification.extent == Extent::Full && page < MAX_PAGES);
        Ok((
            Some(match next {
                Some(listing) => Position::Listed { listing, page: page + 1, done: BTreeSet::new() },
                None => known(verification, kind),
            }),
            0,
        ))
    }

    /// Checks some of the entities that are here.
    async fn step_in_known(
        &self,
        verifying: &mut Verifying<'_, '_>,
        verification: &Verification,
        (after, left, until): (Option<&str>, Option<u32>, Option<&str>),
    ) -> Result<(Option<Position>, i64), EdgeError> {
        let kind = verifying.kind;
        let listed = match verification.extent {
            Extent::Full => self.listed(verifying.key, verification, kind).await?,
            Extent::Sample(_) => None,
        };
        let KeyPage { keys, next } = self.edges.entities.keys(verifying.key, Some(kind), after, KEYS).await?;
        let (mut last, mut left) = (after.map(str::to_owned), left);
        let at = |after: Option<String>, left, until: Option<&str>| {
            Some(Position::Known { after, left, until: until.map(str::to_owned) })
        };
        for (entity, alive) in keys {
            let sort = entity.sort();
            if left == Some(0) || until.is_some_and(|until| sort.as_str() > until) {
                return Ok((None, 0));
            }
            // What was listed was checked; what is deleted here and was not listed is deleted there, too.
            let is_done = listed.as_ref().is_some_and(|listed| listed.contains(&entity.id) || !alive);
            if !is_done {
                if verifying.pulls == PULLS {
                    return Ok((at(last, left, until), 0));
                }
                let checked = self.check_entity(verifying, &entity, None).await?;
                if let Some(wait) = verifying.add(&entity, checked, verification.repair) {
                    return Ok((at(last, left, until), wait));
                }
                left = left.map(|left| left - 1);
            }
            last = Some(sort);
        }
        Ok(match next {
            Some(next) => (at(Some(next), left, until), 0),
            // A sample goes on at the beginning.
            None if left.is_some_and(|left| left > 0) && until.is_none() => {
                (at(None, left, Some(&verification.start_of_sample(kind))), 0)
            }
            None => (None, 0),
        })
    }

    /// Compares one entity with the platform. A list may have shown a hash of all of it. If the item changes while the
    /// platform is asked, it is asked once more.
    async fn check_entity(
        &self,
        verifying: &mut Verifying<'_, '_>,
        entity: &EntityKey,
        shown: Option<&Shown>,
    ) -> Result<Checked, EdgeError> {
        let (checked, is_settled) = self.check_once(verifying, entity, shown).await?;
        if is_settled { Ok(checked) } else { Ok(self.check_once(verifying, entity, None).await?.0) }
    }

    /// Returns `true` beside the result unless the item changed while the platform was asked.
    async fn check_once(
        &self,
        verifying: &mut Verifying<'_, '_>,
        entity: &EntityKey,
        shown: Option<&Shown>,
    ) -> Result<(Checked, bool), EdgeError> {
        let item = self.edges.entities.latest(entity).await?;
        let equal = || Ok((Checked::Differs(Vec::new()), true));
        let whole = shown.filter(|shown| shown.members.is_empty());
        if let (Some(shown), Some(item)) = (whole, &item)
            && !item.state().is_deleted()
            && !item.deleted
            && item.was.is_empty()
            && item.state().content().is_some_and(|content| shown.is(&content))
        {
            return equal();
        }
        verifying.pulls += 1;
        let place = verifying.place.another();
        let before = Before::new(item.as_ref(), &[], item.is_some());
        let pulled = self.pull(&place, verifying.platform, entity, verifying.connection, before).await;
        let there = match pulled.map(|pulled| pulled.mapped) {
            Ok(Mapped::Change(_, change)) => change,
            Ok(Mapped::IfKnown(_, change, _)) if item.is_some() => change,
            // It is not kept.
            Ok(Mapped::IfKnown(..)) => return equal(),
            Ok(Mapped::Ignored(_)) if item.as_ref().is_none_or(|item| item.deleted) => {
                return equal();
            }
            Ok(Mapped::Ignored(_)) => return Ok((Checked::Unshown, true)),
            Ok(_) => return Ok((Checked::Failed("the platform's answer is not the entity".into()), true)),
            Err(Fault::Throttled { seconds }) => return Ok((Checked::Throttled(seconds), true)),
            Err(fault) => return Ok((Checked::Failed(fault.to_string()), true)),
        };
        let there = self.as_redacted(verifying, entity, there).await?;
        let found = self.compare(verifying, entity, item.as_ref(), &there);
        if found.as_ref().is_ok_and(Vec::is_empty) {
            return equal();
        }
        // A delivery may have been merged meanwhile.
        let latest = self.edges.entities.latest(entity).await?;
        let is_settled = latest.as_ref().map(|item| &item.rev) == item.as_ref().map(|item| &item.rev);
        let found = self.compare(verifying, entity, latest.as_ref(), &there);
        let is_equal = found.as_ref().is_ok_and(Vec::is_empty);
        Ok((found.map_or_else(Checked::Failed, Checked::Differs), is_settled || is_equal))
    }

    /// Returns what the platform shows, without what a redaction keeps out.
    async fn as_redacted(
        &self,
        verifying: &Verifying<'_, '_>,
        entity: &EntityKey,
        there: Change,
    ) -> Result<Change, EdgeError> {
        let Change::Upsert(upsert) = &there else { return Ok(there) };
        if !verifying.connection.redacts {
            return Ok(there);
        }
        let persons = self.redacted_persons(entity, &State::of(&there)).await?;
        if persons.is_empty() {
            return Ok(there);
        }
        let redacted = |content: &Arc<Content>| Arc::new(redact(verifying.key, entity.kind, content, &persons));
        let facets = upsert.facets.iter().map(|(name, facet)| (name.clone(), redacted(facet))).collect();
        Ok(Change::Upsert(Upsert { content: redacted(&upsert.content), facets, ..upsert.clone() }))
    }

    fn compare(
        &self,
        verifying: &Verifying<'_, '_>,
        entity: &EntityKey,
        item: Option<&Item>,
        there: &Change,
    ) -> Result<Vec<Difference>, String> {
        let deleted_fields = deleted_fields();
        let projection = Projection::new(verifying.connection.delete_policy(entity.kind), &deleted_fields);
        differences(entity, item, there, projection, (self.clock)()).map_err(|error| error.to_string())
    }

    /// Notes the ids on a page of a list.
    async fn note_listed(
        &self,
        key: &ConnectionKey,
        verification: &Verification,
        kind: EntityKind,
        page: u32,
        ids: SweptPage,
    ) -> Result<(), EdgeError> {
        let name = format!("{}{page}", swept_notes(kind, verification.begun));
        let terms = Terms::once((self.clock)(), LISTED_SECONDS).tries(3);
        update_json(&self.edges.notes, key, &name, terms, |_: Option<SweptPage>| Some(ids.clone())).await.map(|_| ())
    }

    /// Returns the ids that the list had; `None` if it was not read to its end.
    async fn listed(
        &self,
        key: &ConnectionKey,
        verification: &Verification,
        kind: EntityKind,
    ) -> Result<Option<BTreeSet<ExternalId>>, EdgeError> {
        let prefix = swept_notes(kind, verification.begun);
        let read = |(name, note): (String, Note)| {
            Some((name.strip_prefix(&prefix)?.parse().ok()?, serde_json::from_str(&note.body).ok()?))
        };
        let notes = self.edges.notes.notes(key, &prefix).await?;
        let pages: BTreeMap<u32, SweptPage> = notes.into_iter().filter_map(read).collect();
        Ok(all_swept(pages))
    }
}

/// Returns where to begin with the entities that are here.
fn known(verification: &Verification, kind: EntityKind) -> Position {
    match verification.extent {
        Extent::Full => Position::Known { after: None, left: None, until: None },
        Extent::Sample(left) => {
            Position::Known { after: Some(verification.start_of_sample(kind)), left: Some(left), until: None }
        }
    }
}
