//! The lists of requests and assets, for triggers and for polling.

use http::{Method, header};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::form_urlencoded;

use super::wire;
use crate::{
    entity::EntityKind,
    http_call::{ApiRequest, ApiResponse, Fault},
    platform::{
        act::Act,
        lenient::read_list,
        lists::{Listed, Lists},
        pull::Access,
    },
    platforms::cloudblue::{CloudBlue, api::call},
    timestamp::{Timestamp, parse_utc},
    transfer::{Listing, Transfer},
};

/// The lists, in the order of reading. Requests wait for tier configurations, so these come first. Pending requests
/// come before changed ones, which somebody else may have answered and which are then no longer pending.
pub(super) const LISTS: [List; 4] = [
    List { name: "tier-config-requests/pending", of: Of::Tiers, pending: true },
    List { name: "tier-config-requests/changed", of: Of::Tiers, pending: false },
    List { name: "requests/pending", of: Of::Requests, pending: true },
    List { name: "requests/changed", of: Of::Requests, pending: false },
];

/// The lists of requests for polling: changed ones, which without a time are all.
pub(super) const POLLED: &str = "tier-config-requests/changed+requests/changed";

/// The list of assets. No trigger reports them; a request that is answered takes its own along.
pub(super) const ASSETS: List = List { name: "assets/changed", of: Of::Assets, pending: false };

/// One of the platform's lists. [`Listing::what`] names the one that is being read and those that follow, separated by
/// plus signs.
#[derive(Clone, Copy)]
pub(super) struct List {
    pub(super) name: &'static str,
    pub(super) of: Of,
    /// `true` for pending entries, otherwise changed ones.
    pending: bool,
}

/// The kind of a list's entries.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// Tier configuration requests.
    Tiers,
    /// Requests of fulfilment.
    Requests,
    /// Assets.
    Assets,
}

/// The number of entries on a page.
pub(super) const PAGE_SIZE: usize = 100;

/// The time that a trigger looks back for changes, in seconds.
pub(super) const LOOKBACK_SECONDS: i64 = 24 * 60 * 60;

/// The most entries of one time that a page repeats, because some may leave while the list is read.
pub(super) const PAGE_OVERLAP: usize = 10;

/// The longest time that a trigger looks back, in seconds, because the body's report of earlier failures is only a
/// hint.
pub(super) const MAX_LOOKBACK_SECONDS: i64 = 30 * LOOKBACK_SECONDS;

/// The overlap with the last success, in seconds: changes while that was under way.
pub(super) const OVERLAP_SECONDS: i64 = 60 * 60;

/// The overlap with the beginning of the last list, in seconds: clocks differ, and lists may lag.
pub(super) const FOUND_OVERLAP_SECONDS: i64 = 10 * 60;

/// The position in a list. Entries leave the lists and move within them during the reading, so pages are not counted:
/// the next page begins with the last time of the one before. Entries are counted only within one time.
#[derive(Serialize, Deserialize, Default)]
pub(super) struct Cursor {
    /// The time from which changes count; absent means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) since: Option<String>,
    /// The time to continue at, as the platform writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) after: Option<String>,
    /// The number of entries read with that time.
    #[serde(default)]
    pub(super) offset: usize,
}

impl Lists for CloudBlue {
    fn list(&self, access: &Access<'_>, listing: &Listing) -> Result<ApiRequest, Fault> {
        let (list, _) = list(listing)?;
        let cursor = cursor(listing)?;
        let (path, product): (&[&str], _) = match list.of {
            Of::Tiers => (&["tier", "config-requests"], "configuration.product.id"),
            Of::Requests => (&["requests"], "asset.product.id"),
            Of::Assets => (&["assets"], "product.id"),
        };
        let mut terms = Vec::new();
        let key = match list {
            List { pending: true, .. } => "created",
            _ => "updated",
        };
        if list.pending {
            terms.push("in(status,(pending))".to_owned());
        }
        let products = access.settings.get("products").and_then(Value::as_object);
        let products: Vec<String> = products.into_iter().flatten().map(|(id, _)| encoded(id)).collect();
        if !products.is_empty() {
            terms.push(format!("in({product},({}))", products.join(",")));
        }
        let since = cursor.since.filter(|_| !list.pending);
        if let Some(from) = cursor.after.or(since) {
            terms.push(match list.of {
                // Assets have no `ge` [`specs.yml`, `GET /assets`], so the list continues from a moment before.
                Of::Assets => format!("gt({key},{})", encoded(&moment_before(&from))),
                _ => format!("ge({key},{})", encoded(&from)),
            });
        }
        terms.push(format!("ordering({key})&limit={PAGE_SIZE}&offset={}", cursor.offset));
        let mut request = call(access, Method::GET, path)?;
        request.url.set_query(Some(&terms.join("&")));
        Ok(request)
    }

    fn poll(&self, entity: EntityKind, since: Option<Timestamp>) -> Option<Listing> {
        let what = match entity {
            EntityKind::Request => POLLED,
            EntityKind::Subscription => ASSETS.name,
            _ => return None,
        };
        let since = since.map(|since| Timestamp::from_micros(since.seconds().saturating_mul(1_000_000)).to_string());
        Some(Listing::new(what, written(&Cursor { since, after: None, offset: 0 })))
    }

    fn since(&self, listing: &Listing) -> Option<Timestamp> {
        cursor(listing).ok()?.since.as_deref().and_then(parse_utc).map(Timestamp::from)
    }

    fn rest_of(&self, listing: Listing, found_until: Timestamp) -> Listing {
        let Ok(cursor) = cursor(&listing) else { return listing };
        let until = found_until.plus_seconds(-FOUND_OVERLAP_SECONDS);
        let since = cursor.since.as_deref().and_then(parse_utc).map(Timestamp::from).map(|since| since.max(until));
        let since = since.map(|since| Timestamp::from_micros(since.seconds().saturating_mul(1_000_000)).to_string());
        Listing { cursor: written(&Cursor { since, ..cursor }), ..listing }
    }

    fn read_page(
        &self,
        access: &Access<'_>,
        listing: &Listing,
        response: &ApiResponse,
        at: Timestamp,
    ) -> Result<Listed, Fault> {
        let (list, rest) = list(listing)?;
        let Cursor { since, after, offset } = cursor(listing)?;
        if !response.is_success() {
            return Err(response.fault(at));
        }
        let entries: Vec<wire::Entry> = read_list(&response.body)?;
        let keys: Vec<Option<String>> = entries.iter().map(|entry| key(list, entry)).collect();
        // Pending requests, which may have to be answered, are pulled in any case.
        let waits = list.pending && self.acts_on(EntityKind::Request, access.settings);
        let entity = if list.of == Of::Assets { EntityKind::Subscription } else { EntityKind::Request };
        let transfer = |entry: wire::Entry| {
            let updated = entry.updated.as_ref().or(entry.events.updated.at.as_ref());
            let changed = updated.and_then(|text| parse_utc(text)).map(Timestamp::from).filter(|_| !waits);
            Transfer { changed, ..Transfer::new(entity, entry.id, format!("listed in {}", list.name)) }
        };
        let found: Vec<Transfer> = entries.into_iter().map(transfer).collect();
        let on = found.len() - PAGE_OVERLAP.min(found.len() / 2);
        let next = if is_last(response, found.len()) {
            let cursor = written(&Cursor { since, ..Cursor::default() });
            rest.map(|what| Listing::new(what, cursor))
        } else {
            let first = keys.first().cloned().flatten();
            let cursor = match keys.last().cloned().flatten() {
                // The whole page has one time.
                Some(last) if first.as_ref() == Some(&last) && after.as_ref() != Some(&last) => {
                    Cursor { since, after: Some(last), offset: on }
                }
                Some(last) if after.as_ref() != Some(&last) => Cursor { since, after: Some(last), offset: 0 },
                _ => Cursor { since, after, offset: offset.saturating_add(on) },
            };
            Some(Listing::new(listing.what.clone(), written(&cursor)))
        };
        Ok(Listed { found, next })
    }

    fn page_size(&self, _listing: &Listing) -> usize {
        PAGE_SIZE
    }
}

/// Returns the list that is being read, and those that follow it.
pub(super) fn list(listing: &Listing) -> Result<(List, Option<&str>), Fault> {
    let (name, rest) = match listing.what.split_once('+') {
        Some((name, rest)) => (name, Some(rest)),
        None => (listing.what.as_str(), None),
    };
    let found = LISTS.iter().chain([&ASSETS]).find(|list| list.name == name);
    found.map(|list| (*list, rest)).ok_or_else(|| Fault::Unreadable(format!("there is no list {:?}", listing.what)))
}

pub(super) fn cursor(listing: &Listing) -> Result<Cursor, Fault> {
    let Some(text) = &listing.cursor else { return Ok(Cursor::default()) };
    serde_json::from_str(text).map_err(|_| Fault::Unreadable("the cursor of a list".into()))
}

pub(super) fn written(cursor: &Cursor) -> Option<String> {
    serde_json::to_string(cursor).ok()
}

/// Encodes a value within RQL, whose own signs are left as they are.
pub(super) fn encoded(value: &str) -> String {
    form_urlencoded::byte_serialize(value.as_bytes()).collect::<String>().replace('+', "%20")
}

/// Returns the time before a time, by the platform's smallest step, so that entries of the time itself come after it.
pub(super) fn moment_before(time: &str) -> String {
    let at = parse_utc(time).map(Timestamp::from);
    at.map_or_else(|| time.to_owned(), |at| Timestamp::from_micros(at.micros().saturating_sub(1)).to_string())
}

/// Returns the sort key of an entry. Only a time is sent back to the platform.
pub(super) fn key(list: List, entry: &wire::Entry) -> Option<String> {
    let (own, event) = match list.pending {
        true => (&entry.created, &entry.events.created.at),
        false => (&entry.updated, &entry.events.updated.at),
    };
    own.as_ref().or(event.as_ref()).filter(|text| parse_utc(text).is_some()).cloned()
}

/// Returns whether a page is its list's last, by `Content-Range: items 0-99/250`, whose unit can be any word; without
/// it, by being short.
pub(super) fn is_last(response: &ApiResponse, entries: usize) -> bool {
    let range = response.headers.get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let parsed = range.and_then(|text| {
        let (range, count) = text.trim().rsplit(' ').next()?.split_once('/')?;
        let count: u64 = count.parse().ok()?;
        let last: Option<u64> = range.split_once('-').and_then(|(_, last)| last.parse().ok());
        Some(last.map_or(count == 0, |last| last.saturating_add(1) >= count))
    });
    entries == 0 || parsed.unwrap_or(entries < PAGE_SIZE)
}
