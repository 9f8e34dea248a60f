//! The small pages that merchants see: no script, one style, nothing from elsewhere, and every text of others escaped.

use std::{collections::BTreeMap, sync::LazyLock};

use base64::{Engine, engine::general_purpose::STANDARD};
use cloud::connections::Loaded;
use commerce::{
    connection::ConnectionStatus,
    cursor::{Cursor, Stopped},
    drift::Drift,
    entity::EntityKind,
    health::Verdict,
    install::sha256,
    platform::{
        Platform,
        mapping::{Resolved, resolve},
        settings::MISSING_PERMISSIONS,
    },
    timestamp::Timestamp,
};
use http::{HeaderValue, StatusCode, header};
use lambda_http::{Body, Response};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use url::Url;

use crate::show::stopped;

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1d2733;--soft:#566474;--line:#dde3ea;--ground:#f4f6f9;--card:#fff;--good:#0b6b3a;--good-ground:#e3f4ea;\
--care:#8a4b00;--care-ground:#fdf0dc;--idle:#47566a;--idle-ground:#e9eef4}\
@media(prefers-color-scheme:dark){:root{--ink:#e6ebf1;--soft:#a3b0be;--line:#2e3945;--ground:#12181f;--card:#1a222b;--good:#7fd8a4;\
--good-ground:#143524;--care:#f3be74;--care-ground:#3d2b10;--idle:#b4c1cf;--idle-ground:#28333f}}\
*{box-sizing:border-box}\
body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}\
main{max-width:60rem;margin:0 auto;padding:1.5rem 1rem 3rem}\
h1{font-size:1.375rem;line-height:1.25;margin:0;overflow-wrap:anywhere}\
h2{font-size:1.0625rem;margin:0 0 .75rem}\
p{margin:0}code{font:.875em/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}\
.soft{color:var(--soft)}header .soft{font-size:.875rem;overflow-wrap:anywhere}\
section{background:var(--card);border:1px solid var(--line);border-radius:.75rem;padding:1.125rem 1.25rem;margin-top:1rem}\
.summary{border-left:.375rem solid var(--idle)}.summary.good{border-left-color:var(--good)}.summary.care{border-left-color:var(--care)}\
.summary>*+*{margin:.5rem 0 0}.summary ul{padding-left:1.25rem}.lead{font-size:1.0625rem;font-weight:600}\
table{width:100%;border-collapse:collapse;font-size:.9375rem}\
th{text-align:left;font-weight:600}thead th{color:var(--soft);font-size:.8125rem;padding:0 .75rem .5rem 0}\
tbody th{font-weight:400}tbody th code{overflow-wrap:break-word}tbody th,td{border-top:1px solid var(--line);padding:.625rem .75rem .625rem 0;vertical-align:top}\
summary{cursor:pointer}summary h2{display:inline-block;margin:0}details[open] summary{margin-bottom:.75rem}\
td small{display:block;color:var(--soft);font-size:.8125rem;margin-top:.25rem;max-width:34rem}\
time{white-space:nowrap}\
.badge{display:inline-block;border-radius:1rem;padding:.0625rem .625rem;font-size:.8125rem;font-weight:600;white-space:nowrap;\
color:var(--idle);background:var(--idle-ground)}.badge.good{color:var(--good);background:var(--good-ground)}\
.badge.care{color:var(--care);background:var(--care-ground)}\
@media(max-width:36rem){thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}\
table,tbody,tr,tbody th,td{display:block}tr{border-top:1px solid var(--line);padding:.625rem 0}tbody th,td{border:0;padding:.125rem 0}\
td[data-label]{color:var(--soft);font-size:.8125rem}td[data-label]::before{content:attr(data-label)}}";

/// The hash of the style, as the content security policy names it. Browsers apply no other style.
static STYLE_HASH: LazyLock<String> = LazyLock::new(|| STANDARD.encode(sha256(STYLE)));

/// The content of a store's page.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The store's platform.
    pub platform: &'a Platform,
    /// The store's name here, which is the connection's id.
    pub store: &'a str,
    /// The connection's records.
    pub loaded: &'a Loaded,
    /// The topics (`scope`) to have webhooks for.
    pub wanted: &'a [String],
    /// The time at which each topic was last delivered.
    pub seen: &'a BTreeMap<String, Timestamp>,
    /// The drift that fetching found, by kind of entity.
    pub drift: &'a BTreeMap<EntityKind, Drift>,
    /// The present time.
    pub now: Timestamp,
}

/// The tone of a statement, which decides on its colour.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tone {
    Good,
    Care,
    Idle,
}

impl Tone {
    fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Care => "care",
            Self::Idle => "idle",
        }
    }
}

/// An event that has or should have a webhook.
struct Event<'a> {
    scope: &'a str,
    /// The verdict; `None` while the webhook is being made, or is paused.
    verdict: Option<Verdict>,
    reason: &'a str,
    last: Option<Timestamp>,
}

/// Makes the page of a store: its state, what comes from it, and what to do if something is wrong.
pub fn load_page(view: &View<'_>) -> String {
    let connection = view.loaded.connection.as_ref();
    let events = events(view);
    let site = connection.map(|connection| connection.site.as_str());
    let main = html! {
        header {
            h1 { "Store " (view.store) }
            @if let Some(site) = site.filter(|site| site.trim_start_matches("https://") != view.store) {
                p class="soft" { (site) }
            }
        }
        (summary(view, &events))
        @if !events.is_empty() {
            (by_entity(view, &events))
            (by_event(view, &events))
        }
    };
    document(view.store, &main)
}

/// The trouble of a store.
struct Trouble<'a> {
    check: Option<(&'a str, Option<Timestamp>)>,
    stopped: Vec<(EntityKind, &'a Stopped)>,
    missing_permissions: Vec<&'a str>,
}

impl<'a> Trouble<'a> {
    fn of(view: &View<'a>) -> Self {
        let connection = view.loaded.connection.as_ref();
        let missing = connection.and_then(|connection| connection.settings.get(MISSING_PERMISSIONS));
        let missing = missing.and_then(|names| names.as_array()).into_iter().flatten();
        Self {
            check: view.loaded.check.as_ref().and_then(|check| Some((check.trouble.as_deref()?, check.since))),
            stopped: connection.map(|connection| stopped(view.loaded, connection)).unwrap_or_default(),
            missing_permissions: missing.filter_map(|name| name.as_str()).collect(),
        }
    }

    fn is_some(&self) -> bool {
        self.check.is_some() || !self.stopped.is_empty() || !self.missing_permissions.is_empty()
    }
}

/// Returns the tone of a store's state, the state in a sentence, and what more there is to say.
fn lead(view: &View<'_>, events: &[Event<'_>], trouble: &Trouble<'_>) -> (Tone, String, &'static str) {
    let care = events.iter().filter(|event| needs_care(event.verdict)).count();
    let being_made = events.iter().any(|event| event.verdict.is_none());
    let idle = |lead: &str, more| (Tone::Idle, lead.to_owned(), more);
    match view.loaded.connection.as_ref().map(|connection| connection.status) {
        None => idle(
            "This store is not connected yet.",
            "Install the app from your store’s list of apps; it takes a moment, and there is nothing to enter.",
        ),
        Some(ConnectionStatus::Disconnecting) => idle(
            "This store is being disconnected.",
            "Its webhooks are being removed. To connect it again, install the app once more.",
        ),
        Some(ConnectionStatus::Disconnected) => idle(
            "This store is disconnected.",
            "Nothing is received from it. To connect it again, install the app once more.",
        ),
        Some(ConnectionStatus::Paused) => idle(
            "This store is paused.",
            "Whoever runs this app has switched it off for a while. What happens meanwhile is fetched afterwards.",
        ),
        Some(ConnectionStatus::Active) if care > 0 || trouble.is_some() => {
            let lead = match care {
                0 => "This store is connected, but something needs attention.".into(),
                1 => "This store is connected, but one webhook needs attention.".into(),
                care => format!("This store is connected, but {care} of {} webhooks need attention.", events.len()),
            };
            (Tone::Care, lead, if care > 0 { "What it is, and what to do about it, stands beside each." } else { "" })
        }
        Some(ConnectionStatus::Active) if being_made => idle(
            "This store is connected and being set up.",
            "Its webhooks are being made, which takes a minute or two. There is nothing to do; open this page again to see how far it \
             is.",
        ),
        Some(ConnectionStatus::Active) => (Tone::Good, "All is well. There is nothing to do.".into(), ""),
    }
}

fn summary(view: &View<'_>, events: &[Event<'_>]) -> Markup {
    let trouble = Trouble::of(view);
    let (tone, lead, more) = lead(view, events, &trouble);
    let connection = view.loaded.connection.as_ref();
    html! {
        section class={ "summary " (tone.class()) } {
            p class="lead" { (lead) }
            @if !more.is_empty() { p { (more) } }
            @if connection.is_some_and(|connection| connection.status == ConnectionStatus::Active) {
                (troubles(view, &trouble))
            }
            @if connection.is_some() {
                p class="soft" {
                    @match view.seen.values().max() {
                        Some(last) => { "Last event " (time(*last, view.now)) "." }
                        None => { "No event has come yet." }
                    }
                }
            }
        }
    }
}

fn troubles(view: &View<'_>, trouble: &Trouble<'_>) -> Markup {
    html! {
        @if let Some((what, since)) = trouble.check {
            p {
                "The last check of the store failed"
                @if let Some(since) = since { " (" (time(since, view.now)) ")" }
                ": " (what) ". It is tried again by itself; if it stays like this for a day, install the app again."
            }
        }
        @if !trouble.stopped.is_empty() {
            p { "Some of what is in the store cannot be fetched:" }
            ul {
                @for (entity, why) in &trouble.stopped {
                    li { (entity.as_str()) " (" (time(why.since, view.now)) "): " (why.why) }
                }
            }
            p { "It is tried again by itself." }
        }
        @if !trouble.missing_permissions.is_empty() {
            p { "The store did not grant these permissions, so what they cover stays unknown:" }
            ul { @for name in &trouble.missing_permissions { li { code { (name) } } } }
            p { "Install the app again and accept all permissions." }
        }
    }
}

/// Shows each kind of entity: what was received, fetched and missed.
fn by_entity(view: &View<'_>, events: &[Event<'_>]) -> Markup {
    let mut groups: BTreeMap<Option<EntityKind>, Vec<&Event<'_>>> = BTreeMap::new();
    for event in events {
        groups.entry(entity_of(view.platform, event.scope)).or_default().push(event);
    }
    let status = view.loaded.connection.as_ref().map(|connection| connection.status);
    let row = |entity: Option<EntityKind>, events: &[&Event<'_>]| {
        let care = events.iter().filter(|event| needs_care(event.verdict)).count();
        let (tone, word) = match care {
            0 if status == Some(ConnectionStatus::Paused) => (Tone::Idle, "paused".to_owned()),
            0 if events.iter().any(|event| event.verdict.is_none()) => (Tone::Idle, "being made".to_owned()),
            0 => (Tone::Good, "well".to_owned()),
            care => (Tone::Care, format!("{care} of {} need attention", events.len())),
        };
        let cursor = entity.and_then(|entity| view.loaded.cursors.get(&entity));
        let missed = entity.and_then(|entity| view.drift.get(&entity));
        let is_listed = entity.and_then(|entity| view.platform.lists?.poll(entity, None)).is_some();
        html! {
            tr role="row" {
                th role="rowheader" scope="row" { (entity.map_or("the app itself", EntityKind::as_str)) }
                td role="cell" { (badge(tone, &word)) }
                td role="cell" data-label="Received: " { (last(events.iter().filter_map(|event| event.last).max(), view.now)) }
                td role="cell" data-label="Fetched: " {
                    @if is_listed { (fetched(cursor, view.now)) } @else { "by webhooks only" }
                }
                td role="cell" data-label="Missed: " {
                    @match missed {
                        Some(drift) if drift.missed + drift.stale > 0 => {
                            (drift.missed + drift.stale)
                            small { "Found by fetching, without a webhook that told of it." }
                        }
                        _ => { "nothing" }
                    }
                }
            }
        }
    };
    html! {
        section {
            h2 id="e" { "What comes from the store" }
            // Narrow screens show the table as blocks. The roles keep its meaning as a table.
            table role="table" aria-labelledby="e" {
                thead role="rowgroup" {
                    tr role="row" { @for name in ["What", "Webhooks", "Received", "Fetched", "Missed"] { (column(name)) } }
                }
                tbody role="rowgroup" { @for (entity, events) in &groups { (row(*entity, events)) } }
            }
        }
    }
}

/// Shows each webhook: those that need attention at once, the others on demand.
fn by_event(view: &View<'_>, events: &[Event<'_>]) -> Markup {
    let (care, rest): (Vec<_>, Vec<_>) = events.iter().partition(|event| needs_care(event.verdict));
    html! {
        @if !care.is_empty() {
            section {
                h2 id="c" { "What needs attention" }
                (event_table(view, "c", &care))
            }
        }
        @if !rest.is_empty() {
            section {
                details {
                    summary {
                        h2 id="s" {
                            @if care.is_empty() { "All " } @else { "The other " }
                            (rest.len()) " webhooks"
                        }
                    }
                    (event_table(view, "s", &rest))
                }
            }
        }
    }
}

fn event_table(view: &View<'_>, heading: &str, events: &[&Event<'_>]) -> Markup {
    let paused = view.loaded.connection.as_ref().is_some_and(|one| one.status == ConnectionStatus::Paused);
    let without = if paused { "paused" } else { "being made" };
    html! {
        table role="table" aria-labelledby=(heading) {
            thead role="rowgroup" {
                tr role="row" { @for name in ["Event", "State", "Last event"] { (column(name)) } }
            }
            tbody role="rowgroup" {
                @for event in events {
                    @let (tone, word, what) = event.verdict.map_or((Tone::Idle, without, ""), words);
                    tr role="row" {
                        th role="rowheader" scope="row" { code { (event.scope) } }
                        td role="cell" {
                            (badge(tone, word))
                            @if tone != Tone::Good && !what.is_empty() { small { (what) } }
                            @if tone == Tone::Care && !event.reason.is_empty() { small { "Reason: " (event.reason) } }
                        }
                        td role="cell" data-label="Last event: " { (last(event.last, view.now)) }
                    }
                }
            }
        }
    }
}

fn column(name: &str) -> Markup {
    html! { th role="columnheader" scope="col" { (name) } }
}

fn badge(tone: Tone, word: &str) -> Markup {
    html! { span class={ "badge " (tone.class()) } { (word) } }
}

fn last(at: Option<Timestamp>, now: Timestamp) -> Markup {
    html! { @match at { Some(at) => { (time(at, now)) } None => { "none yet" } } }
}

fn fetched(cursor: Option<&Cursor>, now: Timestamp) -> Markup {
    html! {
        @match cursor {
            Some(cursor) if cursor.run.is_some() => { "being fetched" }
            Some(Cursor { since: Some(since), .. }) => { (time(*since, now)) }
            _ => { "not yet" }
        }
    }
}

/// Makes a page with a heading and a line of text.
pub fn message_page(title: &str, text: &str) -> String {
    document(title, &html! { section class="summary" { h1 { (title) } p { (text) } } })
}

/// Makes a page that says where the visitor goes next. The vendor has not invited the visitor, and anybody may have
/// given out the link.
pub fn leave_page(location: &Url) -> String {
    let host = location.host_str().unwrap_or_default();
    let main = html! {
        section class="summary" {
            h1 { "Connect " (host) }
            p {
                "You are about to go on to " (host) ", which asks you whether this app may have access to it. Go on only if that is \
                 your store."
            }
            p { a href=(location.as_str()) rel="noreferrer" { "Go on to " (host) } }
        }
    };
    document("Connect a store", &main)
}

/// Returns the kind of entity that a topic reports, or `None` when it reports the app itself.
fn entity_of(platform: &Platform, scope: &str) -> Option<EntityKind> {
    let delivered = platform.setup.webhooks().map_or(scope, |webhooks| webhooks.delivers(scope));
    match resolve(platform, delivered) {
        Resolved::Entity(entity, _) => Some(entity),
        Resolved::Notice | Resolved::Ignored(_) => None,
    }
}

fn needs_care(verdict: Option<Verdict>) -> bool {
    verdict.is_some_and(|verdict| words(verdict).0 == Tone::Care)
}

/// Returns the events that have or should have a webhook. Those that need attention come first.
fn events<'a>(view: &View<'a>) -> Vec<Event<'a>> {
    let status = view.loaded.connection.as_ref().map(|connection| connection.status);
    if !matches!(status, Some(ConnectionStatus::Active | ConnectionStatus::Paused)) {
        return Vec::new();
    }
    let seen = |scope: &str| {
        let delivered = view.platform.setup.webhooks().map_or(scope, |webhooks| webhooks.delivers(scope));
        view.seen.get(delivered).copied()
    };
    let records = &view.loaded.webhooks;
    let kept = records.values().map(|record| {
        let scope = record.scope.as_str();
        let judged = (status == Some(ConnectionStatus::Active)).then_some(&record.health);
        let reason = judged.map_or("", |health| health.reason.as_str());
        Event { scope, verdict: judged.map(|health| health.verdict), reason, last: seen(scope) }
    });
    let wanted = view.wanted.iter().filter(|scope| !records.contains_key(*scope));
    let wanted = wanted.map(|scope| Event { scope, verdict: None, reason: "", last: seen(scope) });
    let mut events: Vec<_> = kept.chain(wanted).collect();
    events.sort_by_key(|event| (!needs_care(event.verdict), event.scope));
    events
}

/// Returns the tone of a verdict, its word, and what to do about it.
fn words(verdict: Verdict) -> (Tone, &'static str, &'static str) {
    match verdict {
        Verdict::Healthy => (Tone::Good, "on", ""),
        Verdict::Silent => (
            Tone::Care,
            "silent",
            "Nothing has come for much longer than usual. If your store was not that quiet, look there for something that blocks \
             outgoing webhooks.",
        ),
        Verdict::SwitchedOff => (
            Tone::Care,
            "switched off",
            "It was switched off at the store. It is switched on again by itself as soon as deliveries would get through, and what was \
             missed is fetched; leave it on there.",
        ),
        Verdict::Missing => (
            Tone::Care,
            "missing",
            "It is not at the store any more. It is made again by itself; do not remove it there.",
        ),
        Verdict::Manual => {
            (Tone::Idle, "by hand", "It was entered by hand at the store; whether it is on can only be seen there.")
        }
    }
}

/// Shows a time in words, and the exact one as its title.
fn time(at: Timestamp, now: Timestamp) -> Markup {
    let exact = Timestamp::from_millis(at.seconds().saturating_mul(1000)).to_string();
    let passed = now.seconds().saturating_sub(at.seconds()).max(0);
    let some = |count: i64, unit: &str| match count {
        1 => format!("1 {unit} ago"),
        count => format!("{count} {unit}s ago"),
    };
    let words = match passed {
        ..60 => "just now".to_owned(),
        60..3600 => some(passed / 60, "minute"),
        3600..86_400 => some(passed / 3600, "hour"),
        _ => some(passed / 86_400, "day"),
    };
    let title = format!("{} UTC", exact.trim_end_matches('Z').replace('T', " "));
    html! { time datetime=(exact) title=(title) { (words) } }
}

fn document(title: &str, main: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width,initial-scale=1";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body { main { (main) } }
        }
    };
    page.into_string()
}

/// Makes a response with a page, or with nothing.
pub(crate) fn response(status: StatusCode, page: String) -> Response<Body> {
    let is_page = !page.is_empty();
    let mut response = Response::new(Body::Text(page));
    *response.status_mut() = status;
    if is_page {
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, html);
    }
    response
}

/// Sets the headers by which browsers run nothing, load nothing, keep nothing, and show the response in a frame of the
/// platform's own pages only.
pub(crate) fn protect(response: &mut Response<Body>, framed_by: &[&str]) {
    let frames = if framed_by.is_empty() { "'none'".to_owned() } else { framed_by.join(" ") };
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'; frame-ancestors {frames}",
        *STYLE_HASH
    );
    let headers = response.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
}
