//! What the processor has to know of CloudBlue Connect: which lists a trigger stands for, how requests and assets become canonical
//! entities, and how requests are answered by the policies of their products.

use std::collections::BTreeMap;

use http::{Method, header};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use url::{Url, form_urlencoded};

use super::{delivery::TRIGGER, wire};
use crate::{
    change::{Change, Delete, Facets, Upsert},
    connection::Connection,
    entity::{
        Actor, Content, CustomerId, EntityKind, Event, ExternalId, ProductId, Request, Subscription, SubscriptionId,
        SubscriptionItem,
    },
    http_call::{ApiRequest, ApiResponse, Fault},
    outcome::Rule,
    platform::{
        act::{Act, Acted, Decision},
        lenient::{self, read, read_list},
        lists::{Listed, Lists},
        mapping::{Incoming, MapError, Mapped, Mapping},
        pull::{Access, Budget, Next, Pull, Wanted},
    },
    platforms::cloudblue::webhooks::{Inquire, PolicyRule, When},
    timestamp::{Timestamp, parse_utc},
    transfer::{Action, Direction, EntityProcessor, Listing, Payload, Polling, Transfer, own},
};

/// The processor's view.
pub struct CloudBlue;

/// Rises when the mapping's output changes.
const MAPPING: u32 = 2;

/// The scope of requests of fulfilment.
pub(super) const FULFILLMENT: &str = "fulfillment_request";
/// The scope of tier configuration requests.
pub(super) const TIER_CONFIG: &str = "tier_config_request";

static PROCESSORS: &[EntityProcessor] = &[
    EntityProcessor {
        entity: EntityKind::Request,
        direction: Direction::Bidirectional,
        payload: Payload::Thin,
        pull: true,
        polling: Some(Polling::Changed),
        scopes: &[own(FULFILLMENT, Action::Updated), own(TIER_CONFIG, Action::Updated), own(TRIGGER, Action::Updated)],
        requires: &[],
        // An approval changes the asset, and nothing else tells of that.
        followed_by: &[EntityKind::Subscription],
    },
    EntityProcessor {
        entity: EntityKind::Subscription,
        direction: Direction::Import,
        payload: Payload::Thin,
        pull: true,
        polling: Some(Polling::Changed),
        scopes: &[],
        requires: &[],
        followed_by: &[],
    },
];

/// Webhooks can be for other classes of objects, which are no entities here.
const OBJECT_CLASS: Rule = Rule("cloudblue-object-class");
const OTHER_CLASSES: [&str; 4] = ["tier_account_request", "listing_request", "billing_request", "usage_file"];
/// The token is one of a webhook that the connection does not name.
const FOREIGN_WEBHOOK: Rule = Rule("cloudblue-foreign-webhook");

/// The lists, in the order in which they are gone through. Requests wait for tier configurations, so these come first; what waits
/// for an answer comes before what has changed, which may have been answered by somebody else and is then pending no more.
const LISTS: [List; 4] = [
    List { name: "tier-config-requests/pending", of: Of::Tiers, pending: true },
    List { name: "tier-config-requests/changed", of: Of::Tiers, pending: false },
    List { name: "requests/pending", of: Of::Requests, pending: true },
    List { name: "requests/changed", of: Of::Requests, pending: false },
];
/// The lists of requests for polling: of what has changed, which without a time are all.
const POLLED: &str = "tier-config-requests/changed+requests/changed";
/// No trigger tells of assets; a request that is answered takes its own along.
const ASSETS: List = List { name: "assets/changed", of: Of::Assets, pending: false };

/// One of the platform's lists. [`Listing::what`] names the one that is gone through and those that follow, with a plus between.
#[derive(Clone, Copy)]
struct List {
    name: &'static str,
    of: Of,
    /// What is pending; else what has changed.
    pending: bool,
}

/// What a list has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    /// Tier configuration requests.
    Tiers,
    /// Requests of fulfilment.
    Requests,
    /// Assets.
    Assets,
}

/// How many entries a page has.
pub(super) const PAGE_SIZE: usize = 100;
/// How far back a trigger looks for what has changed.
const LOOKBACK_SECONDS: i64 = 24 * 60 * 60;
/// How many entries of one time may go, while a page is under way, without one being passed over.
const PAGE_OVERLAP: usize = 10;
/// The same, at most: what the body says of earlier failures is only a hint.
const MAX_LOOKBACK_SECONDS: i64 = 30 * LOOKBACK_SECONDS;
/// How far before the last success it looks: what has changed while that was under way.
const OVERLAP_SECONDS: i64 = 60 * 60;

/// How far before the beginning of the last list the next one looks: clocks differ, and lists may lag.
const FOUND_OVERLAP_SECONDS: i64 = 10 * 60;

/// Where a list goes on. Entries leave the lists and move within them while they are gone through, so pages are not counted:
/// the next page begins with the last time of the one before. Only within one time, entries are counted.
#[derive(Serialize, Deserialize, Default)]
struct Cursor {
    /// From when on changes count; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    /// The time to go on with, as the platform writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after: Option<String>,
    /// How many entries with that time are done.
    #[serde(default)]
    offset: usize,
}

/// Left out of `extra` at any depth: parameters, which may be passwords, and texts that are made of them; addresses; what changes as
/// time goes by; pictures.
const HIDDEN: &[&str] = &["params", "activation", "representation", "contact_info", "tax_id", "sli", "icon"];
/// Left out of a request's `extra`, beside what is canonical: of its asset, what is the subscription's.
const OF_REQUEST: &[&str] = &["id", "type", "status", "note", "notes", "reason", "created", "updated", "events"];
const OF_ASSET: &[&str] = &["status", "product", "events", "created", "updated"];
/// Left out of a subscription's `extra`, beside what is canonical.
const OF_SUBSCRIPTION: &[&str] = &["id", "external_id", "status", "product", "events", "created", "updated"];
/// Left out of what an item has beyond the canonical fields.
const OF_ITEM: &[&str] = &["id", "mpn", "display_name", "quantity", "old_quantity"];

/// The platform names no limit: this is to be polite.
pub(super) const BUDGET: Budget = Budget { calls: 300, seconds: 30 };

impl Mapping for CloudBlue {
    fn processors(&self) -> &'static [EntityProcessor] {
        PROCESSORS
    }

    fn ignores(&self, scope: &str) -> Option<Rule> {
        OTHER_CLASSES.contains(&scope).then_some(OBJECT_CLASS)
    }

    fn admits(&self, connection: &Connection, claims: &BTreeMap<String, String>) -> Result<(), Rule> {
        let own = connection.settings.get("webhooks").and_then(Value::as_array);
        let claimed = claims.get("webhook_id");
        let known = own
            .into_iter()
            .flatten()
            .any(|id| id.as_str().is_some_and(|id| claimed.is_some_and(|claimed| id == claimed)));
        if known { Ok(()) } else { Err(FOREIGN_WEBHOOK) }
    }

    /// Nothing of the body is believed. Its last success can only make the search reach further back.
    fn map(&self, incoming: &Incoming<'_>) -> Result<Mapped, MapError> {
        let received = incoming.received;
        let day = received.plus_seconds(-LOOKBACK_SECONDS);
        let hint =
            wire::Trigger::read(incoming.body).last_success_at.and_then(|text| parse_utc(&text)).map(Timestamp::from);
        let since = hint
            .map_or(day, |hint| hint.plus_seconds(-OVERLAP_SECONDS).min(day))
            .max(received.plus_seconds(-MAX_LOOKBACK_SECONDS));
        let lists = LISTS.iter().filter(|list| list.of == Of::Tiers || incoming.scope != TIER_CONFIG);
        let what = lists.map(|list| list.name).collect::<Vec<_>>().join("+");
        let since = Some(Timestamp::from_micros(since.seconds().saturating_mul(1_000_000)).to_string());
        Ok(Mapped::List(Listing::new(what, written(&Cursor { since, after: None, offset: 0 }))))
    }
}

impl Pull for CloudBlue {
    fn pull(&self, wanted: &Wanted<'_>, answers: &[ApiResponse]) -> Result<Next, Fault> {
        match answers.first() {
            None => ask(wanted).map(Next::Ask),
            Some(answer) => mapped(wanted, answer).map(Next::Done),
        }
    }
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
                // Assets have no `ge` [`specs.yml`, `GET /assets`], so it goes on a moment before.
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
        // What waits, and may have to be answered, is read again in any case.
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

impl Act for CloudBlue {
    fn acts_on(&self, entity: EntityKind, settings: &Map<String, Value>) -> bool {
        let policies = settings.get("products").and_then(Value::as_object);
        let acts = policies.is_some_and(|policies| policies.values().any(|policy| policy.as_array().is_some()));
        entity == EntityKind::Request && acts
    }

    fn decide(&self, wanted: &Wanted<'_>, answers: &[ApiResponse]) -> Option<Decision> {
        let answer = answers.first().filter(|answer| answer.is_success() && wanted.entity == EntityKind::Request)?;
        let request: wire::Request = read(&answer.body).ok()?;
        decide(wanted.access.settings, &request).filter(|_| request.id == *wanted.id)
    }

    fn act(&self, wanted: &Wanted<'_>, decision: &Decision, answers: &[ApiResponse]) -> Result<Acted, Fault> {
        let Some((fresh, answers)) = answers.split_first() else { return ask(wanted).map(Acted::Ask) };
        let shown = mapped(wanted, fresh)?;
        let Change::Upsert(_) = shown_change(&shown)? else { return Ok(Acted::Void(shown)) };
        let request: wire::Request = read(&fresh.body).map_err(unreadable)?;
        // Somebody may have answered it, or filled in what was asked for.
        if decide(wanted.access.settings, &request).as_ref() != Some(decision) {
            return Ok(Acted::Void(shown));
        }
        let steps = match steps(wanted, decision, &request)? {
            Ok(steps) => steps,
            Err(refused) => return Ok(Acted::Refused(refused)),
        };
        for (place, step) in steps.iter().enumerate() {
            let Some(answer) = answers.get(place) else { return Ok(Acted::Ask(step.clone())) };
            if answer.is_success() {
                continue;
            }
            let Some(why) = refusal(answer) else { return Err(answer.fault(wanted.at)) };
            // It may be refused because somebody was faster.
            let Some(again) = answers.get(place + 1) else { return ask(wanted).map(Acted::Ask) };
            let now = mapped(wanted, again)?;
            let status = match shown_change(&now)? {
                Change::Upsert(now) => now.content.fields.get("status").and_then(Value::as_str),
                _ => None,
            };
            let pending = status == Some("pending");
            return Ok(if pending { Acted::Refused(why) } else { Acted::Void(now) });
        }
        // Actions on tier configuration requests do not answer with the request.
        let whole = |answer: &&ApiResponse| {
            let shown: Result<wire::Request, _> = read(&answer.body);
            shown.is_ok_and(|shown| shown.updated.is_some() && shown.asset.is_some() == request.asset.is_some())
        };
        if let Some(Ok(done)) = answers.get(steps.len() - 1).filter(whole).map(|answer| mapped(wanted, answer)) {
            return Ok(Acted::Done(done));
        }
        match answers.get(steps.len()) {
            None => ask(wanted).map(Acted::Ask),
            Some(again) => mapped(wanted, again).map(Acted::Done),
        }
    }
}

pub(super) fn unreadable(error: MapError) -> Fault {
    Fault::Unreadable(error.to_string())
}

/// The call for a path below the API's address.
pub(super) fn call(access: &Access<'_>, method: Method, path: &[&str]) -> Result<ApiRequest, Fault> {
    let broken = || Fault::Connection("the connection's site cannot be read; connect it again".into());
    let mut url = Url::parse(access.site).map_err(|_| broken())?;
    url.path_segments_mut().map_err(|()| broken())?.pop_if_empty().extend(path);
    ApiRequest::with_secret(method, url, header::AUTHORIZATION.as_str(), access.credentials)
}

/// Where one entity is.
fn path<'a>(wanted: &Wanted<'a>) -> Result<Vec<&'a str>, Fault> {
    let id = wanted.id.as_str();
    match wanted.entity {
        EntityKind::Request if id.starts_with("TCR-") => Ok(vec!["tier", "config-requests", id]),
        EntityKind::Request => Ok(vec!["requests", id]),
        EntityKind::Subscription => Ok(vec!["assets", id]),
        other => Err(Fault::Unreadable(format!("CloudBlue Connect has no {other}"))),
    }
}

fn ask(wanted: &Wanted<'_>) -> Result<ApiRequest, Fault> {
    call(&wanted.access, Method::GET, &path(wanted)?)
}

/// The list that is gone through, and those that follow it.
fn list(listing: &Listing) -> Result<(List, Option<&str>), Fault> {
    let (name, rest) = match listing.what.split_once('+') {
        Some((name, rest)) => (name, Some(rest)),
        None => (listing.what.as_str(), None),
    };
    let found = LISTS.iter().chain([&ASSETS]).find(|list| list.name == name);
    found.map(|list| (*list, rest)).ok_or_else(|| Fault::Unreadable(format!("there is no list {:?}", listing.what)))
}

fn cursor(listing: &Listing) -> Result<Cursor, Fault> {
    let Some(text) = &listing.cursor else { return Ok(Cursor::default()) };
    serde_json::from_str(text).map_err(|_| Fault::Unreadable("the cursor of a list".into()))
}

fn written(cursor: &Cursor) -> Option<String> {
    serde_json::to_string(cursor).ok()
}

/// A value within RQL, whose own signs are left as they are.
fn encoded(value: &str) -> String {
    form_urlencoded::byte_serialize(value.as_bytes()).collect::<String>().replace('+', "%20")
}

/// The time before a time, by the smallest step that the platform knows: what has the time itself comes after it.
fn moment_before(time: &str) -> String {
    let at = parse_utc(time).map(Timestamp::from);
    at.map_or_else(|| time.to_owned(), |at| Timestamp::from_micros(at.micros().saturating_sub(1)).to_string())
}

/// What an entry is sorted by. Only a time is given back to the platform.
fn key(list: List, entry: &wire::Entry) -> Option<String> {
    let (own, event) = match list.pending {
        true => (&entry.created, &entry.events.created.at),
        false => (&entry.updated, &entry.events.updated.at),
    };
    own.as_ref().or(event.as_ref()).filter(|text| parse_utc(text).is_some()).cloned()
}

/// Whether a page is its list's last: by `Content-Range: items 0-99/250`, whose unit can be any word; without it, by being short.
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

/// An error of the platform's own, by its code; the texts may repeat what was sent.
pub(super) fn refusal(answer: &ApiResponse) -> Option<String> {
    let error: wire::Error = read(&answer.body).ok().filter(|_| matches!(answer.status, 400 | 409))?;
    let code = &error.error_code;
    let word =
        (1..=50).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let code = if word { code.as_str() } else { "an error" };
    Some(format!("{code}, {} errors", error.errors.as_array().map_or(0, Vec::len)))
}

/// What an answer to [`ask`], or of an action that gives the entity, says.
fn mapped(wanted: &Wanted<'_>, answer: &ApiResponse) -> Result<Mapped, Fault> {
    let Wanted { entity, id, at, .. } = *wanted;
    if answer.status == 404 && read::<wire::Error>(&answer.body).is_ok() {
        return Ok(Mapped::Change(id.clone(), Change::Delete(Delete { source: None, received: at })));
    }
    if !answer.is_success() {
        return Err(answer.fault(at));
    }
    let (shown, source, content) = match entity {
        EntityKind::Request => request(&answer.body),
        EntityKind::Subscription => subscription(&answer.body),
        other => return Err(Fault::Unreadable(format!("CloudBlue Connect has no {other}"))),
    }
    .map_err(unreadable)?;
    if shown != *id {
        return Err(Fault::Unreadable("another id than was asked for".into()));
    }
    let source = source.map(Timestamp::from);
    let upsert = Upsert {
        source,
        received: at,
        observed: true,
        mapping: MAPPING,
        content: content.into(),
        facets: Facets::new(),
    };
    Ok(Mapped::Change(shown, Change::Upsert(upsert)))
}

fn shown_change(mapped: &Mapped) -> Result<&Change, Fault> {
    match mapped {
        Mapped::Change(_, change) => Ok(change),
        _ => Err(Fault::Unreadable("no entity".into())),
    }
}

type Dated = (ExternalId, Option<jiff::Timestamp>, Content);

fn request(body: &[u8]) -> Result<Dated, MapError> {
    let (wire, dropped): (wire::Request, _) = lenient::entity(body)?;
    let (mut extra, deep): (Map<String, Value>, _) = lenient::entity(body)?;
    extra.retain(|name, _| !OF_REQUEST.contains(&name.as_str()));
    if let Some(Value::Object(asset)) = extra.get_mut("asset") {
        asset.retain(|name, _| !OF_ASSET.contains(&name.as_str()));
        keep_rest_of_items(asset);
    }
    hide(&mut extra);
    let updated = dated(wire.updated.or(wire.events.at("updated")), &dropped)?;
    let created = wire.created.or(wire.events.at("created"));
    let account = wire.configuration.as_ref().and_then(|configuration| configuration.account.clone());
    let customer = wire.asset.as_ref().and_then(|asset| customer(&asset.tiers)).or(account);
    let product = product(&wire).cloned();
    let id = wire.id.clone();
    let (subscription, items, params) = match wire.asset {
        Some(asset) => (Some(SubscriptionId(asset.id)), asset.items, asset.params),
        None => (None, Vec::new(), wire.params),
    };
    let (items, parameters, unreadable) = parts(items, &params, if subscription.is_some() { "asset." } else { "" });
    let entity = Request {
        id: wire.id,
        kind: wire.kind,
        status: wire.status,
        subscription,
        product: product.map(ProductId),
        customer: customer.map(CustomerId),
        items,
        parameters,
        reason: wire.reason,
        note: wire.note.or(wire.notes),
        events: events(wire.events),
        created_at: created,
        updated_at: updated,
    };
    Ok((id, updated, content(&entity, extra, [dropped, deep, unreadable])?))
}

fn subscription(body: &[u8]) -> Result<Dated, MapError> {
    let (wire, dropped): (wire::Asset, _) = lenient::entity(body)?;
    let (mut extra, deep): (Map<String, Value>, _) = lenient::entity(body)?;
    extra.retain(|name, _| !OF_SUBSCRIPTION.contains(&name.as_str()));
    keep_rest_of_items(&mut extra);
    hide(&mut extra);
    let updated = dated(wire.events.at("updated").or(wire.updated), &dropped)?;
    let created = wire.events.at("created").or(wire.created);
    let (items, parameters, unreadable) = parts(wire.items, &wire.params, "");
    let entity = Subscription {
        id: SubscriptionId(wire.id.clone()),
        external_id: wire.external_id,
        status: wire.status,
        name: None,
        product: wire.product.map(ProductId),
        customer: customer(&wire.tiers).map(CustomerId),
        items,
        parameters,
        expires_at: wire.renewal_expiration_date,
        billed_at: wire.billing.next_date,
        events: events(wire.events),
        created_at: created,
        updated_at: updated,
    };
    Ok((wire.id, updated, content(&entity, extra, [dropped, deep, unreadable])?))
}

fn content(
    entity: &impl Serialize,
    extra: Map<String, Value>,
    unreadable: [Vec<String>; 3],
) -> Result<Content, MapError> {
    let content = Content::new(entity, extra).map_err(|_| MapError::Malformed("the whole".into()))?;
    Ok(content.with_unreadable(unreadable.into_iter().flatten()))
}

/// The time that dates an entity. One that is there but cannot be read is not none.
fn dated(at: Option<jiff::Timestamp>, dropped: &[String]) -> Result<Option<jiff::Timestamp>, MapError> {
    let lost = |place: &&String| matches!(place.as_str(), "events" | "events.updated" | "events.updated.at");
    match dropped.iter().find(lost) {
        Some(place) if at.is_none() => Err(MapError::Malformed(place.clone())),
        _ => Ok(at),
    }
}

fn customer(tiers: &wire::Tiers) -> Option<ExternalId> {
    tiers.customer.as_ref()?.id.as_ref()?.parse().ok()
}

fn product(request: &wire::Request) -> Option<&ExternalId> {
    let asset = request.asset.as_ref().and_then(|asset| asset.product.as_ref());
    asset.or_else(|| request.configuration.as_ref()?.product.as_ref())
}

/// Items and parameters, and the places of those that have no name.
fn parts(
    items: Vec<wire::Item>,
    params: &wire::Params,
    below: &str,
) -> (Vec<SubscriptionItem>, BTreeMap<String, String>, Vec<String>) {
    let mut unreadable: Vec<String> = params.unreadable.iter().map(|place| format!("{below}{place}")).collect();
    let mut named = Vec::new();
    for (place, wire) in items.into_iter().enumerate() {
        let Some(id) = wire.id.or(wire.global_id) else {
            unreadable.push(format!("{below}items[{place}]"));
            continue;
        };
        let wire::Item { mpn, display_name, name, quantity, old_quantity, .. } = wire;
        named.push(SubscriptionItem { id, sku: mpn, name: display_name.or(name), quantity, old_quantity });
    }
    let open = params.list.iter().filter(|param| param.is_open());
    let parameters = open.filter_map(|param| Some((param.id.clone(), param.text()?))).collect();
    (named, parameters, unreadable)
}

fn events(wire: wire::Events) -> BTreeMap<String, Event> {
    let told = |event: &wire::Event| event.at.is_some() || event.by.id.is_some();
    let event = |wire::Event { at, by: wire::Actor { id, name } }| Event { at, by: Some(Actor { id, name }) };
    wire.0.into_iter().filter(|(_, event)| told(event)).map(|(name, wire)| (name, event(wire))).collect()
}

/// Puts what items have beyond the canonical fields in the list's place, by the item's id.
fn keep_rest_of_items(of: &mut Map<String, Value>) {
    let Some(Value::Array(items)) = of.remove("items") else { return };
    let mut by_id = Map::new();
    for item in items {
        let Ok(wire::Item { id: Some(id), .. } | wire::Item { global_id: Some(id), .. }) =
            wire::Item::deserialize(&item)
        else {
            continue;
        };
        let Value::Object(mut members) = item else { continue };
        members.retain(|name, _| !OF_ITEM.contains(&name.as_str()));
        by_id.insert(id.into(), Value::Object(members));
    }
    of.insert("items".to_owned(), Value::Object(by_id));
}

/// Removes [`HIDDEN`] members at any depth.
fn hide(members: &mut Map<String, Value>) {
    fn within(value: &mut Value) {
        match value {
            Value::Object(members) => hide(members),
            Value::Array(elements) => elements.iter_mut().for_each(within),
            _ => {}
        }
    }
    members.retain(|name, _| !HIDDEN.contains(&name.as_str()));
    members.values_mut().for_each(within);
}

/// What the policy of its product says about a request.
fn decide(settings: &Map<String, Value>, request: &wire::Request) -> Option<Decision> {
    if request.status != "pending" {
        return None;
    }
    let rules = settings.get("products")?.get(product(request)?.as_str())?.as_array()?;
    for rule in rules {
        let rule = PolicyRule::deserialize(rule).ok()?;
        // Whoever asks for the country of a customer that has none gets no answer: that is left to people.
        if !fits(&rule.when, request)? {
            continue;
        }
        let decision = |action: &str, with, last| Some(Decision { action: action.to_owned(), with, last });
        let asked = rule.when.empty_parameter.as_ref();
        let absent = asked.is_some_and(|id| !params(request).list.iter().any(|param| param.id == *id));
        return match rule {
            // What is not there at all may have been meant otherwise, and these are for good.
            PolicyRule { approve: Some(_), .. } | PolicyRule { fail: Some(_), .. } if absent => None,
            PolicyRule { approve: Some(approve), .. } => {
                decision("approve", json!({ "template": approve.template }), true)
            }
            PolicyRule { fail: Some(fail), .. } => decision("fail", json!({ "reason": fail.reason }), true),
            PolicyRule { inquire: Some(Inquire { template, errors }), .. } => {
                decision("inquire", json!({ "template": template, "errors": errors }), false)
            }
            _ => None,
        };
    }
    None
}

/// The parameters of a request.
fn params(request: &wire::Request) -> &wire::Params {
    request.asset.as_ref().map_or(&request.params, |asset| &asset.params)
}

/// Whether all conditions hold; nothing when that cannot be told. One that does not hold is enough.
fn fits(when: &When, request: &wire::Request) -> Option<bool> {
    let among = |list: &Option<Vec<String>>, value: Option<&str>| {
        let Some(list) = list else { return Some(true) };
        value.map(|value| list.iter().any(|element| element.eq_ignore_ascii_case(value)))
    };
    let configuration = request.configuration.as_ref();
    let of_asset = request.asset.as_ref().and_then(|asset| asset.connection.kind.as_deref());
    let of_configuration = configuration.and_then(|configuration| configuration.connection.kind.as_deref());
    let connection = of_asset.or(of_configuration).or(request.environment.as_deref());
    // A tier configuration is that of an account between vendor and customer.
    let account = match (&request.asset, configuration.and_then(|configuration| configuration.tier_level.as_deref())) {
        (Some(asset), _) => &asset.tiers.customer,
        (None, Some("2")) => &request.tiers.tier2,
        (None, _) => &request.tiers.tier1,
    };
    let country = account.as_ref().and_then(wire::Account::country);
    let empty = when.empty_parameter.as_ref().map_or(Some(true), |id| {
        let params = params(request);
        let mut own = params.list.iter().filter(|param| param.id == *id).peekable();
        match own.peek() {
            // It may be one of those that could not be read.
            None if !params.unreadable.is_empty() => None,
            // Nobody can have filled in what is not there. Tier configurations have parameters of their own, so this is none of theirs.
            None => Some(request.asset.is_some()),
            Some(_) => own.try_fold(false, |any, param| Some(any || param.is_empty()?)),
        }
    });
    let conditions = [
        among(&when.kind, request.kind.as_deref()),
        among(&when.connection_type, connection),
        empty,
        among(&when.country_in, country),
        when.country_not_in.as_ref().map_or(Some(true), |_| among(&when.country_not_in, country).map(|among| !among)),
    ];
    if conditions.contains(&Some(false)) {
        return Some(false);
    }
    (!conditions.contains(&None)).then_some(true)
}

/// The calls that do what was decided; or why it cannot be done.
fn steps(
    wanted: &Wanted<'_>,
    decision: &Decision,
    request: &wire::Request,
) -> Result<Result<Vec<ApiRequest>, String>, Fault> {
    let tiers = request.asset.is_none();
    let mut base = path(wanted)?;
    let with = |name: &str| decision.with.get(name).cloned().unwrap_or_default();
    let template = match (tiers, decision.action.as_str()) {
        (true, "approve") => json!({ "template": { "id": with("template") } }),
        _ => json!({ "template_id": with("template") }),
    };
    let mut steps = Vec::new();
    let body = match decision.action.as_str() {
        "approve" => template,
        "fail" => json!({ "reason": with("reason") }),
        "inquire" => {
            let params = &params(request).list;
            let mut marked = Vec::new();
            for (id, message) in with("errors").as_object().into_iter().flatten() {
                let Some(param) = params.iter().find(|param| param.id == *id) else {
                    return Ok(Err(format!("the request has no parameter {id}")));
                };
                marked.push(marked_param(param, message));
            }
            if !marked.is_empty() {
                let body = if tiers { json!({ "params": marked }) } else { json!({ "asset": { "params": marked } }) };
                steps.push(call(&wanted.access, Method::PUT, &base)?.json(&body));
            }
            template
        }
        other => return Err(Fault::Unreadable(format!("there is no action {other:?}"))),
    };
    base.push(&decision.action);
    steps.push(call(&wanted.access, Method::POST, &base)?.json(&body));
    Ok(Ok(steps))
}

/// A parameter as it is, with what is wrong with it. A password is not shown as it is, so it is not sent back.
fn marked_param(param: &wire::Param, message: &Value) -> Value {
    let mut marked = json!({ "id": param.id, "value_error": message });
    if param.is_open() {
        marked["value"] = if param.value.is_null() { json!("") } else { param.value.clone() };
        if !param.structured_value.is_null() {
            marked["structured_value"] = param.structured_value.clone();
        }
    }
    marked
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue};

    use super::*;
    use crate::key::ConnectionKey;

    const AT: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);
    const SITE: &str = "https://api.connect.cloudblue.com/public/v1";
    const PR: &str = "PR-1234-5678-9012-001";

    fn settings(products: Value) -> Map<String, Value> {
        Map::from_iter([("webhooks".into(), json!(["WH-1"])), ("products".into(), products)])
    }

    fn access(settings: &Map<String, Value>) -> Access<'_> {
        Access { site: SITE, credentials: "ApiKey SU-1:x", settings }
    }

    fn answer(status: u16, body: &Value) -> ApiResponse {
        ApiResponse { status, headers: HeaderMap::new(), body: Bytes::from(body.to_string()) }
    }

    fn ranged(body: &Value, range: &str) -> ApiResponse {
        let mut answer = answer(200, body);
        answer.headers.insert("content-range", HeaderValue::from_str(range).unwrap());
        answer
    }

    fn asset() -> Value {
        json!({
            "id": "AS-1234-5678-9012", "status": "processing", "external_id": "ext-1",
            "product": {"id": "PRD-1", "name": "Prod", "icon": "/media/x"},
            "connection": {"id": "CT-1", "type": "production", "hub": {"id": "HB-1", "name": "None"}},
            "events": {"created": {"at": "2024-02-03T04:05:06+00:00"}, "updated": {"at": "2024-02-03T04:05:30+00:00"}},
            "items": [
                {"id": "I1", "global_id": "G1", "mpn": "SKU-A", "old_quantity": "0", "quantity": "3", "display_name": "Seat", "period": "Monthly"},
                {"id": "I2", "quantity": 1.5},
                {"id": "I3", "quantity": "unlimited"},
            ],
            "params": [
                {"id": "domain", "type": "text", "value": ""},
                {"id": "email", "type": "email", "value": "a@b.test"},
                {"id": "secret", "type": "password", "value": "s3cr3t"},
                {"id": "unknown", "value": "s3cr3t"},
                [{"id": "address", "type": "address", "value": "", "structured_value": {"city": "X"}}],
            ],
            "configuration": {"params": [{"id": "secret", "type": "password", "value": "s3cr3t"}]},
            "tiers": {
                "customer": {"id": "TA-1", "name": "Acme", "tax_id": "T", "contact_info": {"country": "DE", "city": "Bonn"}},
                "tier1": {"id": "TA-2", "name": "None"}, "tier2": {},
            },
        })
    }

    fn pr(status: &str) -> Value {
        json!({
            "id": PR, "type": "purchase", "status": status, "note": "", "reason": "", "assignee": "", "answered": false,
            "created": "2024-02-03T04:05:06+00:00", "updated": "2024-02-03T04:05:20+00:00", "effective_date": null,
            "activation_key": "your password is s3cr3t", "template": {"id": "TL-9", "representation": "s3cr3t"},
            "marketplace": {"id": "MP-1", "name": "EU", "icon": "x"}, "asset": asset(), "sli": {"days": 1},
        })
    }

    fn tcr(status: &str) -> Value {
        json!({
            "id": "TCR-1-2-3", "type": "setup", "status": status, "notes": "n", "environment": "production",
            "configuration": {
                "id": "TC-1", "product": {"id": "PRD-1"}, "account": {"id": "TA-2"}, "tier_level": 1,
                "params": [{"id": "secret", "type": "password", "value": "s3cr3t"}],
            },
            "params": [{"id": "key", "type": "text", "value": "v"}],
            "tiers": {"tier1": {"id": "TA-2", "contact_info": {"country": "FR"}}},
            "events": {"created": {"at": "2024-02-03T04:05:06+00:00"}, "updated": {"at": "2024-02-03T04:05:07+00:00"}, "pended": null},
        })
    }

    fn pulled(entity: EntityKind, id: &str, answer: ApiResponse) -> Result<Change, Fault> {
        let none = Map::new();
        let id = id.parse().unwrap();
        let wanted = Wanted { access: access(&none), entity, id: &id, at: AT };
        match CloudBlue.pull(&wanted, &[answer])? {
            Next::Done(Mapped::Change(_, change)) => Ok(change),
            other => unreachable!("{other:?}"),
        }
    }

    fn upsert(change: Change) -> Upsert {
        let Change::Upsert(upsert) = change else { unreachable!("{change:?}") };
        upsert
    }

    #[test]
    fn a_request_becomes_canonical_and_no_password_stays() {
        let first = upsert(pulled(EntityKind::Request, PR, answer(200, &pr("pending"))).unwrap());
        assert_eq!(first.source.map(|at| at.to_string()).as_deref(), Some("2024-02-03T04:05:20Z"));
        assert!(first.observed && first.received == AT);
        assert_eq!(
            Value::Object(first.content.fields.clone()),
            json!({
                "id": PR, "kind": "purchase", "status": "pending", "subscription": "AS-1234-5678-9012", "product": "PRD-1",
                "customer": "TA-1",
                "items": [
                    {"id": "I1", "sku": "SKU-A", "name": "Seat", "quantity": "3", "old_quantity": "0"},
                    {"id": "I2", "quantity": "1.5"},
                    {"id": "I3", "quantity": "unlimited"},
                ],
                "parameters": {"email": "a@b.test", "address": "{\"city\":\"X\"}"},
                "created_at": "2024-02-03T04:05:06Z", "updated_at": "2024-02-03T04:05:20Z",
            })
        );
        let extra = &first.content.extra;
        assert_eq!(extra["marketplace"], json!({"id": "MP-1", "name": "EU"}));
        assert_eq!(extra["asset"]["connection"]["hub"]["name"], "None");
        assert_eq!(extra["asset"]["items"]["I1"], json!({"global_id": "G1", "period": "Monthly"}));
        let tiers = json!({"customer": {"id": "TA-1", "name": "Acme"}, "tier1": {"id": "TA-2", "name": "None"}});
        assert_eq!(extra["asset"]["tiers"], tiers);
        assert!(!format!("{first:?}").contains("s3cr3t"), "{first:?}");
        // Time alone changes nothing.
        let mut later = pr("pending");
        later["sli"] = json!({"days": 2});
        let later = upsert(pulled(EntityKind::Request, PR, answer(200, &later)).unwrap());
        assert_eq!(later.content.hash(), first.content.hash());
    }

    #[test]
    fn assets_and_tier_configuration_requests() {
        let asset = upsert(pulled(EntityKind::Subscription, "AS-1234-5678-9012", answer(200, &asset())).unwrap());
        assert_eq!(asset.content.fields["status"], "processing");
        assert_eq!(asset.content.fields["external_id"], "ext-1");
        assert_eq!(asset.source.map(|at| at.to_string()).as_deref(), Some("2024-02-03T04:05:30Z"));
        assert!(!format!("{asset:?}").contains("s3cr3t"), "{asset:?}");
        let tcr = upsert(pulled(EntityKind::Request, "TCR-1-2-3", answer(200, &tcr("pending"))).unwrap());
        let fields = &tcr.content.fields;
        assert_eq!(
            (&fields["product"], &fields["customer"], &fields["note"]),
            (&json!("PRD-1"), &json!("TA-2"), &json!("n"))
        );
        assert_eq!(fields["parameters"], json!({"key": "v"}));
        assert_eq!(tcr.source.map(|at| at.to_string()).as_deref(), Some("2024-02-03T04:05:07Z"));
        assert!(!format!("{tcr:?}").contains("s3cr3t"), "{tcr:?}");
    }

    #[test]
    fn only_the_platform_s_own_404_is_a_delete() {
        let get = |status, body: &str| {
            let body = Bytes::copy_from_slice(body.as_bytes());
            pulled(EntityKind::Request, PR, ApiResponse { status, headers: HeaderMap::new(), body })
        };
        let gone = get(404, r#"{"error_code":"NFND_000","errors":["not here"]}"#);
        assert_eq!(gone, Ok(Change::Delete(Delete { source: None, received: AT })));
        for body in ["", "<html>", "[]", r#"{"detail":"Not found."}"#] {
            assert!(matches!(get(404, body), Err(Fault::Connection(_))), "{body}");
        }
        assert!(matches!(get(401, "{}"), Err(Fault::Connection(_))));
        assert!(matches!(get(200, "[]"), Err(Fault::Unreadable(_))));
        let another = pulled(EntityKind::Request, "PR-2", answer(200, &pr("pending")));
        assert_eq!(another, Err(Fault::Unreadable("another id than was asked for".into())));
    }

    #[test]
    fn each_entity_is_asked_for_where_it_is() {
        let none = Map::new();
        let shown = |entity, id: &str| {
            let id = id.parse().unwrap();
            match CloudBlue.pull(&Wanted { access: access(&none), entity, id: &id, at: AT }, &[]) {
                Ok(Next::Ask(request)) => format!("{request:?}"),
                other => unreachable!("{other:?}"),
            }
        };
        assert_eq!(shown(EntityKind::Request, PR), format!("GET {SITE}/requests/{PR}"));
        assert_eq!(shown(EntityKind::Request, "TCR-1"), format!("GET {SITE}/tier/config-requests/TCR-1"));
        assert_eq!(shown(EntityKind::Subscription, "AS-1/../x"), format!("GET {SITE}/assets/AS-1%2F..%2Fx"));
    }

    /// The smallest request that there is, with a parameter, and changed.
    fn small(change: impl FnOnce(&mut Value)) -> Value {
        let mut shown = json!({
            "id": PR, "type": "purchase", "status": "pending", "created": "2024-02-03T04:05:06+00:00",
            "updated": "2024-02-03T04:05:20.123456+00:00", "reason": "", "note": "", "assignee": "", "activation_key": "",
            "asset": {
                "id": "AS-1", "status": "processing", "external_id": "e-1", "product": {"id": "PRD-1"},
                "connection": {"id": "CT-1", "type": "production"}, "items": [], "params": [],
                "tiers": {"customer": {"id": "TA-1", "contact_info": {"country": "de"}}, "tier1": {}, "tier2": {}},
            },
        });
        change(&mut shown);
        shown
    }

    fn kept(entity: EntityKind, shown: &Value) -> Content {
        std::sync::Arc::unwrap_or_clone(
            upsert(pulled(entity, shown["id"].as_str().unwrap(), answer(200, shown)).unwrap()).content,
        )
    }

    #[test]
    fn what_was_filled_in_is_told_from_what_was_not() {
        let phone = |country: &str, number: &str| json!({"country_code": country, "area_code": "", "phone_number": number, "extension": ""});
        let address = |line: &str, country: &str| json!({"address_line1": line, "address_line2": "", "city": "", "state": "", "postal_code": "", "country": country});
        let empty = [
            json!({"type": "phone", "value": "", "structured_value": phone("", "")}),
            json!({"type": "phone", "value": null, "structured_value": phone("+49", "")}),
            json!({"type": "phone", "value": "+", "structured_value": {}}),
            json!({"type": "phone", "value": phone("", "").to_string()}),
            json!({"type": "address", "value": "", "structured_value": address("", "")}),
            json!({"type": "address", "value": ", ,", "structured_value": address(" ", "US")}),
            json!({"type": "object", "structured_value": {"a": {"b": "", "c": [{"d": null}]}}}),
            json!({"type": "checkbox", "value": "", "structured_value": {"a": false, "b": false}}),
            json!({"type": "checkbox", "structured_value": [{"label": "A", "value": "a", "checked": false}]}),
            json!({"type": "checkbox", "value": "false"}),
            json!({"type": "checkbox", "value": "{\"a\":false}"}),
            json!({"type": "choice", "value": "", "structured_value": []}),
            json!({"type": "dropdown", "value": null, "structured_value": ""}),
            json!({"type": "text", "value": "  "}),
            json!({"type": "text"}),
            json!({"value": [], "structured_value": [""]}),
        ];
        let filled = [
            json!({"type": "phone", "value": "", "structured_value": phone("", "1234")}),
            json!({"type": "phone", "value": "+49 1234", "structured_value": phone("", "")}),
            json!({"type": "address", "value": "", "structured_value": address("1 Main Street", "")}),
            json!({"type": "checkbox", "value": "", "structured_value": {"a": false, "b": true}}),
            json!({"type": "checkbox", "structured_value": [{"label": "A", "value": "a", "checked": true}]}),
            json!({"type": "choice", "value": "a", "structured_value": []}),
            json!({"type": "checkbox", "structured_value": ["a"]}),
            json!({"type": "object", "structured_value": {"a": {"b": "", "c": 0}}}),
            json!({"type": "text", "value": "false"}),
            json!({"type": "text", "value": "{}"}),
            json!({"type": "text", "value": 0}),
        ];
        let policy = json!([
            {"when": {"empty_parameter": "p"}, "inquire": {"template": "TL-1", "errors": {"p": "Please fill in."}}},
            {"approve": {"template": "TL-2"}},
        ]);
        let with = |param: Option<&Value>| {
            let mut param = param.cloned();
            let shown = small(|shown| {
                if let Some(param) = &mut param {
                    param["id"] = json!("p");
                    shown["asset"]["params"] = json!([[{"id": "q", "type": "text", "value": "x"}], param]);
                }
            });
            decided(policy.clone(), &shown).map(|(action, ..)| action)
        };
        for param in &empty {
            assert_eq!(with(Some(param)).as_deref(), Some("inquire"), "{param}");
        }
        for param in &filled {
            assert_eq!(with(Some(param)).as_deref(), Some("approve"), "{param}");
        }
        // What cannot be told is left to people.
        let unclear = json!({"type": "choice", "value": "", "structured_value": [{"label": "A", "value": "a"}]});
        assert_eq!(with(Some(&unclear)), None);
        assert_eq!(with(None).as_deref(), Some("inquire"), "nobody can have filled in what is not there");
        for odd in [json!([{"type": "text", "value": "x"}]), json!("x"), json!([7]), json!([{"id": {}, "value": "x"}])]
        {
            let shown = small(|shown| shown["asset"]["params"] = odd.clone());
            assert_eq!(decided(policy.clone(), &shown), None, "it may be this one: {odd}");
        }
        let listed = small(|shown| shown["asset"]["params"] = json!({"0": {"id": "p", "type": "text", "value": "x"}}));
        assert_eq!(decided(policy.clone(), &listed).map(|(action, ..)| action).as_deref(), Some("approve"));
        let tiers = decided(policy.clone(), &tcr("pending")).map(|(action, ..)| action);
        assert_eq!(tiers.as_deref(), Some("approve"), "a tier configuration has parameters of its own");
        let of = |shown: &Value, rule: Value| decided(json!([rule]), shown).map(|(action, ..)| action);
        for last in [json!({"approve": {"template": "TL-2"}}), json!({"fail": {"reason": "no"}})] {
            let mut rule = last.clone();
            rule["when"] = json!({"empty_parameter": "p"});
            assert_eq!(of(&small(|_| ()), rule.clone()), None, "not for good: {last}");
            let there = small(|shown| shown["asset"]["params"] = json!([{"id": "p", "type": "text", "value": ""}]));
            assert!(of(&there, rule).is_some(), "{last}");
        }
        // Nor is anything approved because a rule before could not be judged.
        for (without, when) in [
            ("type", json!({"type": ["cancel"]})),
            ("asset", json!({"connection_type": ["test"]})),
            ("asset", json!({"country_in": ["FR"]})),
        ] {
            let rules = json!([{"when": when, "observe": true}, {"approve": {"template": "TL-2"}}]);
            let shown = small(|shown| match without {
                "type" => shown["type"] = json!(null),
                _ => {
                    shown["asset"]["connection"] = json!("");
                    shown["asset"]["tiers"]["customer"]["contact_info"] = json!("");
                }
            });
            assert_eq!(decided(rules, &shown), None, "{when}");
        }
    }

    #[test]
    fn a_link_with_a_code_is_not_kept() {
        let link = "https://customer.example.com/?code=AbCdEfGhIjKlMnOp&request_id=PR-1";
        let shown = small(|shown| {
            shown["params_form_url"] = json!(link);
            shown["activation_key"] = json!("s3cr3t");
            shown["assignee"] = json!({"id": "UR-1", "password": "s3cr3t"});
            shown["asset"]["params"] = json!([
                {"id": "form", "type": "url", "value": link},
                {"id": "admin_password", "type": "text", "value": "s3cr3t"},
                {"id": "site", "type": "url", "value": "https://acme.example/?page=1"},
            ]);
        });
        let content = kept(EntityKind::Request, &shown);
        assert_eq!(content.fields["parameters"], json!({"site": "https://acme.example/?page=1"}));
        assert_eq!(content.extra["assignee"], json!({"id": "UR-1"}));
        assert!(!content.extra.contains_key("params_form_url"), "{:?}", content.extra);
        let text = format!("{content:?}");
        assert!(!text.contains("AbCdEf") && !text.contains("s3cr3t"), "{text}");
    }

    #[test]
    fn old_assets_have_items_without_an_id() {
        let old = json!({
            "id": "AS-1-2-3", "status": "suspended", "external_id": null, "product": {"id": "PRD-1"}, "connection": {"id": "CT-1"},
            "events": {"created": {"at": "2024-02-03T04:05:06+00:00", "by": {"id": "UR-1", "name": "A"}}, "updated": {"at": "2024-02-03T04:05:07.5+00:00"}},
            "items": [
                {"display_name": "Made up", "name": "SKU_X", "period": "Monthly", "global_id": "PRD-100-200-300-0001", "limit": 9},
                {"id": "", "global_id": "G-2", "name": "SKU_Y", "quantity": 3},
                {"display_name": "Nobody"},
            ],
            "params": [[{"id": "a", "type": "text", "value": "v"}], [], {"id": "", "type": "text", "value": "x"}, [[{"type": "text"}]]],
            "tiers": {}, "renewal_expiration_date": "2025-02-03T00:00:00+00:00",
            "billing": {"period": {"delta": 1, "uom": "monthly"}, "next_date": "2024-03-03T04:05:06+00:00"},
            "template": {"id": "TL-1"}, "pending_request": {"id": "PR-1", "status": "pending"},
        });
        let content = kept(EntityKind::Subscription, &old);
        let expected = json!({
            "id": "AS-1-2-3", "status": "suspended", "product": "PRD-1", "parameters": {"a": "v"},
            "items": [{"id": "PRD-100-200-300-0001", "name": "Made up"}, {"id": "G-2", "name": "SKU_Y", "quantity": "3"}],
            "expires_at": "2025-02-03T00:00:00Z", "billed_at": "2024-03-03T04:05:06Z",
            "events": {"created": {"at": "2024-02-03T04:05:06Z", "by": {"id": "UR-1", "name": "A"}}, "updated": {"at": "2024-02-03T04:05:07.5Z"}},
            "created_at": "2024-02-03T04:05:06Z", "updated_at": "2024-02-03T04:05:07.5Z",
        });
        assert_eq!(Value::Object(content.fields), expected);
        assert_eq!(content.unreadable, ["items[2]", "params[2]", "params[3][0][0]"]);
        assert_eq!(content.extra["items"]["PRD-100-200-300-0001"]["limit"], 9);
    }

    #[test]
    fn nothing_is_written_in_many_ways() {
        let places: [fn(&mut Value) -> &mut Value; 8] = [
            |shown| &mut shown["asset"]["tiers"]["customer"]["contact_info"],
            |shown| &mut shown["asset"]["tiers"]["tier1"],
            |shown| &mut shown["asset"]["connection"],
            |shown| &mut shown["asset"]["events"],
            |shown| &mut shown["asset"]["billing"],
            |shown| &mut shown["asset"]["params"],
            |shown| &mut shown["configuration"],
            |shown| &mut shown["events"],
        ];
        for place in places {
            for nothing in [json!(null), json!(""), json!([]), json!({})] {
                let shown = small(|shown| *place(shown) = nothing.clone());
                let content = kept(EntityKind::Request, &shown);
                assert_eq!(content.fields["customer"], "TA-1", "{nothing}: {shown}");
                assert!(content.unreadable.is_empty(), "{nothing}: {shown}");
            }
        }
        let quantities = small(|shown| {
            shown["asset"]["items"] = json!([
                {"id": "I1", "quantity": "unlimited"}, {"id": "I2", "quantity": "1.5"}, {"id": "I3", "quantity": 2.25}, {"id": "I5", "quantity": null},
            ]);
        });
        let expected = json!([
            {"id": "I1", "quantity": "unlimited"}, {"id": "I2", "quantity": "1.5"}, {"id": "I3", "quantity": "2.25"}, {"id": "I5"},
        ]);
        assert_eq!(kept(EntityKind::Request, &quantities).fields["items"], expected);
    }

    #[test]
    fn one_odd_member_does_not_lose_the_entity() {
        let odd = |place: fn(&mut Value) -> &mut Value, value: Value| {
            let shown = small(|shown| *place(shown) = value);
            pulled(EntityKind::Request, PR, answer(200, &shown)).map(|change| upsert(change).content.unreadable.clone())
        };
        let named = |name: &str| Ok(vec![name.to_owned()]);
        assert_eq!(odd(|s| &mut s["reason"], json!({"a": 1})), named("reason"));
        assert_eq!(
            odd(|s| &mut s["asset"]["tiers"]["customer"]["contact_info"], json!("x")),
            named("asset.tiers.customer.contact_info")
        );
        assert_eq!(odd(|s| &mut s["asset"]["items"], json!([7])), named("asset.items[0]"));
        assert_eq!(
            odd(|s| &mut s["asset"]["items"], json!([{"id": {}}])),
            Ok(vec!["asset.items[0]".into(), "asset.items[0].id".into()])
        );
        assert_eq!(
            odd(|s| &mut s["asset"]["renewal_expiration_date"], json!("soon")),
            named("asset.renewal_expiration_date")
        );
        assert_eq!(odd(|s| &mut s["events"], json!({"inquired": {"at": "soon"}})), named("events.inquired.at"));
        assert!(
            matches!(odd(|s| &mut s["updated"], json!("soon")), Err(Fault::Unreadable(place)) if place.contains("updated"))
        );
        assert!(matches!(odd(|s| &mut s["asset"]["id"], json!(null)), Err(Fault::Unreadable(_))));
        let mut tiers = tcr("pending");
        tiers["events"]["updated"]["at"] = json!("soon");
        let undated = pulled(EntityKind::Request, "TCR-1-2-3", answer(200, &tiers));
        assert!(matches!(undated, Err(Fault::Unreadable(place)) if place.contains("events.updated.at")));
    }

    #[test]
    fn who_did_what_when_is_kept() {
        let mut shown = tcr("pending");
        shown["type"] = json!("adjustment");
        shown["reason"] = json!("r");
        shown["template"] = json!({"id": "TL-1", "representation": "secret text"});
        shown["events"] = json!({
            "created": {"at": "2024-02-03T04:05:06+00:00"}, "updated": {"at": "2024-02-03T04:05:07+00:00", "by": {"id": "SU-1", "name": "key"}},
            "inquired": {"at": null, "by": null}, "pended": {"at": "2024-02-03T04:05:08+00:00", "by": {"id": "UR-1"}}, "validated": "", "uninquired": {"by": {"id": "UR-2"}},
            "": {"at": "2024-02-03T04:05:08+00:00"}, "a name": {"at": "2024-02-03T04:05:08+00:00"},
        });
        let content = kept(EntityKind::Request, &shown);
        let expected = json!({
            "created": {"at": "2024-02-03T04:05:06Z"}, "updated": {"at": "2024-02-03T04:05:07Z", "by": {"id": "SU-1", "name": "key"}},
            "pended": {"at": "2024-02-03T04:05:08Z", "by": {"id": "UR-1"}}, "uninquired": {"by": {"id": "UR-2"}},
        });
        assert_eq!(content.fields["events"], expected);
        assert_eq!((&content.fields["kind"], &content.fields["reason"]), (&json!("adjustment"), &json!("r")));
        assert!(!format!("{content:?}").contains("secret text"));
    }

    fn trigger(scope: &str, body: &str) -> Listing {
        let connection = ConnectionKey { platform: "cloudblue".into(), connection: "va-1".parse().unwrap() };
        let mapped = CloudBlue.map(&Incoming {
            connection: &connection,
            scope,
            delivery_id: None,
            entity: EntityKind::Request,
            action: Action::Updated,
            body: body.as_bytes(),
            received: AT,
        });
        let Ok(Mapped::List(listing)) = mapped else { unreachable!("{mapped:?}") };
        listing
    }

    #[test]
    fn a_trigger_stands_for_lists_whatever_it_says() {
        let tiers = "tier-config-requests/pending+tier-config-requests/changed";
        for scope in [FULFILLMENT, TRIGGER] {
            assert_eq!(trigger(scope, "").what, format!("{tiers}+requests/pending+requests/changed"));
        }
        assert_eq!(trigger(TIER_CONFIG, "{}").what, tiers);
        let since = |body: &str| cursor(&trigger(FULFILLMENT, body)).unwrap().since.unwrap();
        let day = "2027-01-14T08:00:00Z";
        for body in ["", "no JSON", "[]", r#"{"last_success_at":null}"#, r#"{"last_success_at":"yesterday"}"#] {
            assert_eq!(since(body), day, "{body}");
        }
        // It only ever reaches further back.
        assert_eq!(since(r#"{"last_success_at":"2027-01-15T07:00:00+00:00"}"#), day);
        assert_eq!(since(r#"{"last_success_at":"2027-01-10T07:00:00+00:00"}"#), "2027-01-10T06:00:00Z");
        assert_eq!(since(r#"{"last_success_at":"1999-01-10T07:00:00+00:00"}"#), "2026-12-16T08:00:00Z");
    }

    #[test]
    fn lists_are_asked_for_in_rql() {
        let two = settings(json!({"PRD-1": "observe", "PRD-2": []}));
        let none = Map::new();
        let asked = |settings, what: &str, cursor: Option<&str>| {
            let listing = Listing::new(what, cursor.map(str::to_owned));
            CloudBlue.list(&access(settings), &listing).map(|request| format!("{request:?}"))
        };
        let since = Some(r#"{"since":"2027-01-14T08:00:00Z"}"#);
        assert_eq!(
            asked(&two, "requests/pending", since).unwrap(),
            format!(
                "GET {SITE}/requests?in(status,(pending))&in(asset.product.id,(PRD-1,PRD-2))&ordering(created)&limit=100&offset=0"
            )
        );
        assert_eq!(
            asked(&two, "tier-config-requests/changed", since).unwrap(),
            format!(
                "GET {SITE}/tier/config-requests?in(configuration.product.id,(PRD-1,PRD-2))\
                 &ge(updated,2027-01-14T08%3A00%3A00Z)&ordering(updated)&limit=100&offset=0"
            )
        );
        let after = Some(r#"{"after":"2024-02-03T04:05:06+00:00","offset":100}"#);
        assert_eq!(
            asked(&none, "requests/pending+requests/changed", after).unwrap(),
            format!(
                "GET {SITE}/requests?in(status,(pending))&ge(created,2024-02-03T04%3A05%3A06%2B00%3A00)\
                 &ordering(created)&limit=100&offset=100"
            )
        );
        // Assets know no `ge`.
        let one = settings(json!({"PRD-100-200-300": "observe"}));
        let since = Some(r#"{"since":"2027-01-10T00:30:00Z","offset":0}"#);
        assert_eq!(
            asked(&one, "assets/changed", since).unwrap(),
            format!(
                "GET {SITE}/assets?in(product.id,(PRD-100-200-300))&gt(updated,2027-01-10T00%3A29%3A59.999999Z)\
                 &ordering(updated)&limit=100&offset=0"
            )
        );
        let after = Some(r#"{"since":"2027-01-10T00:30:00Z","after":"2027-01-10T00:31:00.5+00:00","offset":90}"#);
        assert_eq!(
            asked(&none, "assets/changed", after).unwrap(),
            format!(
                "GET {SITE}/assets?gt(updated,2027-01-10T00%3A31%3A00.499999Z)&ordering(updated)&limit=100&offset=90"
            )
        );
        assert_eq!(
            asked(&none, "assets/changed", None).unwrap(),
            format!("GET {SITE}/assets?ordering(updated)&limit=100&offset=0")
        );
        assert!(asked(&none, "assets", None).is_err() && asked(&none, "requests/pending", Some("x")).is_err());
    }

    fn page(times: &[&str]) -> Value {
        let entry = |(place, at): (usize, &&str)| json!({"id": format!("PR-{place}"), "created": at, "updated": at});
        times.iter().enumerate().map(entry).collect()
    }

    #[test]
    fn pages_go_on_by_time_and_end_where_the_platform_says() {
        const A: &str = "2024-02-03T04:05:06+00:00";
        const B: &str = "2024-02-03T04:05:07+00:00";
        let none = Map::new();
        let what = "requests/pending+requests/changed";
        let listed = |cursor: &str, answer: &ApiResponse| {
            let listing = Listing::new(what, Some(cursor.into()));
            CloudBlue.read_page(&access(&none), &listing, answer, AT)
        };
        let next = |cursor: &str, answer: &ApiResponse| {
            listed(cursor, answer).unwrap().next.map(|next| (next.what, next.cursor.unwrap()))
        };
        let start = r#"{"since":"s","offset":0}"#;
        let on = |after: &str, offset: usize| {
            Some((what.to_owned(), format!(r#"{{"since":"s","after":"{after}","offset":{offset}}}"#)))
        };
        let end = Some(("requests/changed".to_owned(), start.to_owned()));

        let two = ranged(&page(&[A, B]), "items 0-1/9");
        let at_a = on(A, 0).unwrap().1;
        assert_eq!(next(start, &two), on(B, 0));
        assert_eq!(next(&at_a, &two), on(B, 0));
        // One time fills the page.
        let same = ranged(&page(&[A, A]), "requests 0-1/9");
        assert_eq!(next(start, &same), on(A, 1));
        assert_eq!(next(&at_a, &same), on(A, 1));
        assert_eq!(next(&on(A, 2).unwrap().1, &same), on(A, 3));
        // Without times, entries are counted.
        let timeless = ranged(&json!([{"id": "PR-1"}, {"id": "PR-2", "created": "soon"}]), "items 0-1/9");
        assert_eq!(next(start, &timeless), Some((what.to_owned(), r#"{"since":"s","offset":1}"#.to_owned())));

        for (answer, why) in [
            (ranged(&page(&[A, B]), "items 7-8/9"), "the range's end"),
            (ranged(&json!([]), "items */0"), "nothing"),
            (ranged(&json!([]), "items 0-0/9"), "an empty page"),
            (answer(200, &page(&[A, B])), "a short page"),
            (ranged(&page(&[A, B]), "whatever"), "a short page with a header that is none"),
        ] {
            assert_eq!(next(start, &answer), end, "{why}");
        }
        let full: Vec<&str> = (0..100).map(|place| if place < 99 { A } else { B }).collect();
        assert_eq!(next(start, &answer(200, &page(&full))), on(B, 0), "a full page");

        let found = listed(start, &two).unwrap().found;
        assert_eq!(found.iter().map(|transfer| transfer.id.as_str()).collect::<Vec<_>>(), ["PR-0", "PR-1"]);
        let last = Listing::new("requests/changed", None);
        assert_eq!(CloudBlue.read_page(&access(&none), &last, &answer(200, &json!([])), AT).unwrap().next, None);
        let events = json!([{"id": "TCR-1", "events": {"created": {"at": A}, "updated": null}}]);
        let tiers = Listing::new("tier-config-requests/pending", None);
        let next =
            CloudBlue.read_page(&access(&none), &tiers, &ranged(&events, "items 0-0/2"), AT).unwrap().next.unwrap();
        assert_eq!(next.cursor.unwrap(), r#"{"after":"2024-02-03T04:05:06+00:00","offset":1}"#);
        assert!(matches!(listed(start, &answer(200, &json!({}))), Err(Fault::Unreadable(_))));
        let mut wait = answer(429, &json!({}));
        wait.headers.insert("retry-after", HeaderValue::from_static("7"));
        assert_eq!(listed(start, &wait), Err(Fault::Throttled { seconds: 7 }));
    }

    #[test]
    fn only_the_connection_s_webhooks_are_admitted() {
        let connection = Connection { settings: settings(json!({})), ..Connection::new(SITE) };
        let claims = |id: &str| BTreeMap::from([("webhook_id".to_owned(), id.to_owned())]);
        assert_eq!(CloudBlue.admits(&connection, &claims("WH-1")), Ok(()));
        assert_eq!(CloudBlue.admits(&connection, &claims("WH-2")), Err(FOREIGN_WEBHOOK));
        assert_eq!(CloudBlue.admits(&connection, &BTreeMap::new()), Err(FOREIGN_WEBHOOK));
        let none = Connection { settings: Map::new(), ..connection };
        assert_eq!(CloudBlue.admits(&none, &claims("WH-1")), Err(FOREIGN_WEBHOOK));
        assert_eq!(CloudBlue.ignores("usage_file"), Some(OBJECT_CLASS));
        assert_eq!(CloudBlue.ignores("usage"), None);
    }

    fn decided(policy: Value, shown: &Value) -> Option<(String, Value, bool)> {
        let settings = settings(json!({ "PRD-1": policy }));
        let id = shown["id"].as_str().unwrap().parse().unwrap();
        let wanted = Wanted { access: access(&settings), entity: EntityKind::Request, id: &id, at: AT };
        CloudBlue.decide(&wanted, &[answer(200, shown)]).map(|Decision { action, with, last }| (action, with, last))
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let policy = json!([
            {"when": {"type": ["cancel"]}, "observe": true},
            {"when": {"country_not_in": ["DE", "AT"]}, "fail": {"reason": "no"}},
            {
                "when": {"empty_parameter": "domain", "type": ["purchase", "change"]},
                "inquire": {"template": "TL-2", "errors": {"domain": "Which?"}},
            },
            {"when": {"connection_type": ["production"], "country_in": ["DE"]}, "approve": {"template": "TL-1"}},
        ]);
        let with = |change: &dyn Fn(&mut Value)| {
            let mut shown = pr("pending");
            change(&mut shown);
            decided(policy.clone(), &shown)
        };
        let inquire = ("inquire".to_owned(), json!({"template": "TL-2", "errors": {"domain": "Which?"}}), false);
        assert_eq!(with(&|_| ()), Some(inquire));
        let approve = ("approve".to_owned(), json!({"template": "TL-1"}), true);
        assert_eq!(with(&|pr| pr["asset"]["params"][0]["value"] = json!("a.test")), Some(approve.clone()));
        assert_eq!(with(&|pr| pr["type"] = json!("resume")), Some(approve));
        assert_eq!(with(&|pr| pr["type"] = json!("cancel")), None);
        let country = |pr: &mut Value, country| pr["asset"]["tiers"]["customer"]["contact_info"]["country"] = country;
        assert_eq!(with(&|pr| country(pr, json!("FR"))), Some(("fail".to_owned(), json!({"reason": "no"}), true)));
        assert_eq!(with(&|pr| country(pr, json!(""))), None, "no country, no decision");
        assert_eq!(with(&|pr| pr["status"] = json!("inquiring")), None);
        assert_eq!(with(&|pr| pr["asset"]["product"]["id"] = json!("PRD-2")), None);
        let test = |pr: &mut Value| {
            pr["type"] = json!("resume");
            pr["asset"]["connection"]["type"] = json!("test");
        };
        assert_eq!(with(&test), None, "no rule fits");
        assert_eq!(decided(json!("observe"), &pr("pending")), None);
        let nowhere = json!([{"when": {"empty_parameter": "nowhere"}, "fail": {"reason": "x"}}]);
        assert_eq!(decided(nowhere, &pr("pending")), None);
        let when = json!({"type": ["setup"], "country_in": ["FR"], "connection_type": ["production"]});
        let tiers = json!([{"when": when, "approve": {"template": "TL-3"}}]);
        assert_eq!(decided(tiers, &tcr("pending")), Some(("approve".into(), json!({"template": "TL-3"}), true)));
    }

    /// Runs an action against answers that are given one by one; what was asked, and how it ended.
    fn act(policy: Value, first: &Value, answers: Vec<ApiResponse>) -> (Vec<String>, Result<Acted, Fault>) {
        let settings = settings(json!({ "PRD-1": policy }));
        let id = first["id"].as_str().unwrap().parse().unwrap();
        let wanted = Wanted { access: access(&settings), entity: EntityKind::Request, id: &id, at: AT };
        let decision = CloudBlue.decide(&wanted, &[answer(200, first)]).unwrap();
        let mut asked = Vec::new();
        for so_far in 0..=answers.len() {
            match CloudBlue.act(&wanted, &decision, &answers[..so_far]) {
                Ok(Acted::Ask(request)) => {
                    let path = request.url.path().strip_prefix("/public/v1").unwrap();
                    let call = format!("{} {path} {}", request.method, String::from_utf8_lossy(&request.body));
                    asked.push(call.trim().to_owned());
                }
                end => {
                    assert_eq!(so_far, answers.len(), "{end:?}");
                    return (asked, end);
                }
            }
        }
        unreachable!("it asks for more: {asked:?}")
    }

    fn end_of(acted: Result<Acted, Fault>) -> String {
        match acted.unwrap() {
            Acted::Done(Mapped::Change(_, change)) => format!("done {}", upsert(change).content.fields["status"]),
            Acted::Void(Mapped::Change(_, Change::Delete(_))) => "void, gone".into(),
            Acted::Void(Mapped::Change(_, change)) => format!("void {}", upsert(change).content.fields["status"]),
            Acted::Refused(why) => why,
            other => unreachable!("{other:?}"),
        }
    }

    fn ok(shown: &Value) -> ApiResponse {
        answer(200, shown)
    }

    #[test]
    fn a_request_is_answered_only_while_it_is_pending() {
        let approve = || json!([{"approve": {"template": "TL-1"}}]);
        let pending = pr("pending");
        let (asked, end) = act(approve(), &pending, vec![ok(&pending), ok(&pr("approved"))]);
        let post = format!(r#"POST /requests/{PR}/approve {{"template_id":"TL-1"}}"#);
        assert_eq!(asked, [format!("GET /requests/{PR}"), post]);
        assert_eq!(end_of(end), r#"done "approved""#);
        // An earlier attempt, whose answer was lost, had come through; or somebody was faster.
        let (asked, end) = act(approve(), &pending, vec![ok(&pr("approved"))]);
        assert_eq!((asked.len(), end_of(end)), (1, r#"void "approved""#.into()));
        let gone = answer(404, &json!({"error_code": "NFND"}));
        assert_eq!(end_of(act(approve(), &pending, vec![gone]).1), "void, gone");

        let refused = answer(400, &json!({"error_code": "REQ_003", "errors": ["a@b.test is wrong", "x"]}));
        let (asked, end) = act(approve(), &pending, vec![ok(&pending), refused.clone(), ok(&pr("failed"))]);
        assert_eq!((asked.len(), end_of(end)), (3, r#"void "failed""#.into()));
        let (_, end) = act(approve(), &pending, vec![ok(&pending), refused, ok(&pending)]);
        assert_eq!(end_of(end), "REQ_003, 2 errors");
        let page = ApiResponse { status: 400, headers: HeaderMap::new(), body: Bytes::from_static(b"<html>") };
        assert!(matches!(act(approve(), &pending, vec![ok(&pending), page]).1, Err(Fault::Connection(_))));
        let broken = answer(500, &json!({}));
        assert!(matches!(act(approve(), &pending, vec![ok(&pending), broken]).1, Err(Fault::Unavailable(_))));

        let (asked, _) = act(json!([{"fail": {"reason": "no"}}]), &pending, vec![ok(&pending), ok(&pr("failed"))]);
        assert_eq!(asked[1], format!(r#"POST /requests/{PR}/fail {{"reason":"no"}}"#));
    }

    #[test]
    fn a_question_marks_parameters_and_keeps_what_is_in_them() {
        let pending = pr("pending");
        let answers = || vec![ok(&pending), ok(&pending), ok(&pr("inquiring"))];
        let policy = |id: &str| json!([{"inquire": {"template": "TL-2", "errors": {id: "Which?"}}}]);
        let (asked, end) = act(policy("email"), &pending, answers());
        let (method, body) = asked[1].split_at(format!("PUT /requests/{PR} ").len());
        assert_eq!(method, format!("PUT /requests/{PR} "));
        let param = json!({"id": "email", "value": "a@b.test", "value_error": "Which?"});
        assert_eq!(serde_json::from_str::<Value>(body).unwrap(), json!({"asset": {"params": [param]}}));
        assert_eq!(asked[2], format!(r#"POST /requests/{PR}/inquire {{"template_id":"TL-2"}}"#));
        assert_eq!(end_of(end), r#"done "inquiring""#);
        let (asked, _) = act(policy("secret"), &pending, answers());
        assert!(!asked.concat().contains("s3cr3t"), "{asked:?}");
        let (asked, end) = act(policy("nowhere"), &pending, vec![ok(&pending)]);
        assert_eq!((asked.len(), end_of(end)), (1, "the request has no parameter nowhere".into()));
        // The customer filled in what was asked for while the decision was under way.
        let empty = json!([{"when": {"empty_parameter": "domain"}, "inquire": {"template": "TL-2"}}]);
        let mut filled = pending.clone();
        filled["asset"]["params"][0]["value"] = json!("a.test");
        assert_eq!(end_of(act(empty, &pending, vec![ok(&filled)]).1), r#"void "pending""#);
    }

    #[test]
    fn actions_on_tier_configurations_are_read_again() {
        let pending = tcr("pending");
        let approved = vec![ok(&pending), ok(&json!({"template": {"id": "TL-1"}})), ok(&tcr("approved"))];
        let (asked, end) = act(json!([{"approve": {"template": "TL-1"}}]), &pending, approved);
        let base = "/tier/config-requests/TCR-1-2-3";
        let post = format!(r#"POST {base}/approve {{"template":{{"id":"TL-1"}}}}"#);
        assert_eq!(asked, [format!("GET {base}"), post, format!("GET {base}")]);
        assert_eq!(end_of(end), r#"done "approved""#);
        let nothing = ApiResponse { status: 204, headers: HeaderMap::new(), body: Bytes::new() };
        let (_, end) =
            act(json!([{"fail": {"reason": "no"}}]), &pending, vec![ok(&pending), nothing, ok(&tcr("failed"))]);
        assert_eq!(end_of(end), r#"done "failed""#);
    }
}
