//! The command to read a list at the platform.

use cloud::{
    coordination::{Coordination, Terms, update},
    queue::Inbox,
};
use commerce::{
    connection::Connection,
    entity,
    envelope::{Content, Sealed},
    http_call::Fault,
    key::ConnectionKey,
    outcome::{Outcome, Reason, Rule},
    platform::{Platform, lists::read_page, pull::Access},
    request::is_too_large_a_page,
    timestamp::Timestamp,
    transfer::{Listing, Transfer},
};

use crate::{Parts, Processor, disposition::Ended, parse::CommandMessage, places::Place};

/// The number of pages that one message reads of a list. The rest becomes a message of its own.
const MAX_PAGES: usize = 5;
/// The most pages of a list: more than any has.
const MAX_LIST_PAGES: u32 = 1_000;
/// The prefix of the names of notes that hold the time from which and up to which a topic's lists were read; the topic
/// (`scope`) follows.
const FOUND: &str = "found#";
/// The time for which a note of a list that was read counts, in seconds.
const FOUND_SECONDS: i64 = 30 * 24 * 60 * 60;

impl<P: Parts> Processor<P> {
    /// Reads a list, page after page. Each entry becomes a message, and so does the rest of the list.
    pub(super) async fn list(
        &self,
        message: &CommandMessage,
        listing: &Listing,
        connection: &Connection,
        place: &Place<'_>,
    ) -> Result<Outcome, Ended> {
        if connection.credentials.is_none() {
            return Err(Ended::without_credentials());
        }
        if listing.pages >= MAX_LIST_PAGES {
            let why = format!("a list of more than {MAX_LIST_PAGES} pages: the platform may not count them");
            return Err(Ended::quarantined(Reason::PlatformError, why));
        }
        let begun = listing.begun.unwrap_or((self.clock)());
        let first = match listing.begun {
            Some(_) => listing.clone(),
            None => self.unfound(message, listing, connection).await?,
        };
        let is_shorter = first != *listing;
        let (mut parts, mut pages, mut next) = (0, listing.pages, Some(first));
        for _ in 0..MAX_PAGES {
            let Some(listing) = next.take() else { break };
            let (platform, key) = (&message.platform, &message.envelope.key);
            let (found, rest) = match self.list_page(platform, key, &listing, connection, place).await {
                Ok(page) => page,
                // The entries found before are on the queue. The list goes on later, from the page that failed.
                Err(fault) if parts > 0 => {
                    cloud::telemetry::warn("list-goes-on-later", &format!("{}: {fault}", message.envelope.key));
                    next = Some(listing);
                    break;
                }
                Err(fault) => return Err(fault.into()),
            };
            parts += self.queue(message, found.into_iter().map(Content::Transfer)).await?;
            pages += 1;
            next = rest;
        }
        match next {
            Some(rest) => {
                let rest = Content::Listing(Listing { begun: Some(begun), pages, ..rest });
                self.edges.queues.send_all(&[Sealed::part(&message.envelope, rest)]).await?;
                parts += 1;
            }
            None => self.note_found(message, connection, listing, is_shorter, begun).await,
        }
        // Entries beyond the shortened list were found when the list was read before.
        match parts == 0 && is_shorter {
            true => Ok(Outcome::Ignored(Rule::FOUND)),
            false => Ok(Outcome::Split(parts)),
        }
    }

    /// Returns the part of a list that no earlier delivery of the same topic has read.
    async fn unfound(
        &self,
        message: &CommandMessage,
        listing: &Listing,
        connection: &Connection,
    ) -> Result<Listing, Ended> {
        let name = format!("{FOUND}{}", message.envelope.scope);
        let note = self.edges.notes.note(&message.envelope.key, &name).await?;
        let live = note.filter(|note| note.is_live((self.clock)()));
        let lists = message.platform.lists()?;
        match live.and_then(|note| found_in(&note.body, &settings_hash(connection))) {
            // What changed before the lists that were read is not in them.
            Some(found) if lists.since(listing) >= Some(found.since) => Ok(lists.rest_of(listing.clone(), found.until)),
            Some(_) | None => Ok(listing.clone()),
        }
    }

    /// Notes that a list was read to its end. Without the note, the next reading goes further back than it must.
    async fn note_found(
        &self,
        message: &CommandMessage,
        connection: &Connection,
        listing: &Listing,
        is_shorter: bool,
        begun: Timestamp,
    ) {
        let since = message.platform.lists().ok().and_then(|lists| lists.since(listing));
        let since = since.unwrap_or(Timestamp::from_micros(0));
        let (name, settings) = (format!("{FOUND}{}", message.envelope.scope), settings_hash(connection));
        let expires = begun.seconds() + FOUND_SECONDS;
        let terms = Terms { now: (self.clock)(), expires, tries: 1 };
        let _ = update(&self.edges.notes, &message.envelope.key, &name, terms, |before| {
            let found = before.and_then(|says| found_in(&says, &settings));
            // A list that begins within what was found before goes on from there.
            let from = match found {
                Some(found) if is_shorter || since <= found.until => found.since.min(since),
                _ => since,
            };
            let says = || format!("{} {settings} {}", begun.micros(), from.micros());
            found.is_none_or(|found| found.until < begun).then(says)
        })
        .await;
    }

    /// Reads a page of a list: its entries, and the rest of the list.
    pub(crate) async fn list_page(
        &self,
        platform: &Platform,
        key: &ConnectionKey,
        listing: &Listing,
        connection: &Connection,
        place: &Place<'_>,
    ) -> Result<(Vec<Transfer>, Option<Listing>), Fault> {
        let credentials = self.credentials(key, connection).await?;
        let access = Access { site: &connection.site, credentials: &credentials, settings: &connection.settings };
        let (at, lists) = ((self.clock)(), platform.lists()?);
        let request = lists.list(&access, listing)?;
        let response = self.call(place, platform, key, connection, request).await?;
        if is_too_large_a_page(&response.body) {
            return Err(Fault::TooLarge("a page of more values than any list has".into()));
        }
        let listed = read_page(lists, &access, listing, &response, at);
        let listed = self.heed(key, connection.generation, Some(&response), listed).await?;
        self.rest(platform, key, connection.generation, Some(&response)).await;
        Ok((listed.found, listed.next))
    }
}

/// The time in which every change of a topic was found by its lists.
#[derive(Clone, Copy)]
struct Found {
    since: Timestamp,
    until: Timestamp,
}

/// Reads the time in which all was found. It holds only under the same settings, which decide on the lists. An earlier
/// release did not note since when, so nothing before its end counts.
fn found_in(says: &str, settings: &str) -> Option<Found> {
    let mut parts = says.split(' ');
    let (until, under, since) = (parts.next()?, parts.next()?, parts.next());
    let read = |text: &str| text.parse().ok().map(Timestamp::from_micros);
    let until = read(until).filter(|_| under == settings)?;
    Some(Found { since: since.map_or(Some(until), read)?, until })
}

fn settings_hash(connection: &Connection) -> String {
    entity::Content { fields: connection.settings.clone(), ..entity::Content::default() }.hash()
}
