//! The small pages that merchants see: no script, one style, nothing from elsewhere, and everything that somebody else wrote escaped.

use std::{collections::BTreeMap, fmt::Write, sync::LazyLock};

use base64::{Engine, engine::general_purpose::STANDARD};
use cloud::connections::Loaded;
use commerce::{
    connection::ConnectionStatus,
    health::Verdict,
    install::{MISSING_PERMISSIONS, sha256},
    timestamp::Timestamp,
};
use http::{HeaderValue, StatusCode, header};
use lambda_http::{Body, Response};
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
td small{display:block;color:var(--soft);font-size:.8125rem;margin-top:.25rem;max-width:34rem}\
time{white-space:nowrap}\
.badge{display:inline-block;border-radius:1rem;padding:.0625rem .625rem;font-size:.8125rem;font-weight:600;white-space:nowrap;\
color:var(--idle);background:var(--idle-ground)}.badge.good{color:var(--good);background:var(--good-ground)}\
.badge.care{color:var(--care);background:var(--care-ground)}\
@media(max-width:36rem){thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}\
table,tbody,tr,tbody th,td{display:block}tr{border-top:1px solid var(--line);padding:.625rem 0}tbody th,td{border:0;padding:.125rem 0}\
td:last-child{color:var(--soft);font-size:.8125rem}td:last-child::before{content:'Last event: '}}";

/// The style as the policy names it: no other one counts.
static STYLE_HASH: LazyLock<String> = LazyLock::new(|| STANDARD.encode(sha256(STYLE)));

/// What the page of a store shows.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// What the store is called here.
    pub store: &'a str,
    /// All that is known of it.
    pub loaded: &'a Loaded,
    /// What there should be webhooks for.
    pub wanted: &'a [String],
    /// When each scope was last delivered.
    pub seen: &'a BTreeMap<String, Timestamp>,
    /// The time.
    pub now: Timestamp,
}

/// How something is, by the colour that it has.
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

/// The page of a store: how it does, what comes from it, and what to do if something is wrong.
pub fn load_page(view: &View<'_>) -> String {
    let connection = view.loaded.connection.as_ref();
    let scopes = scopes(view);
    let care = scopes.iter().filter(|scope| needs_care(scope.1)).count();
    let being_made = scopes.iter().filter(|scope| scope.1.is_none()).count();
    let missing = connection.and_then(|connection| connection.settings.get(MISSING_PERMISSIONS));
    let missing: Vec<&str> =
        missing.and_then(|names| names.as_array()).into_iter().flatten().filter_map(|name| name.as_str()).collect();
    let trouble = view.loaded.check.as_ref().and_then(|check| Some((check.trouble.as_deref()?, check.since)));
    let stopped: Vec<_> = connection.map(|connection| stopped(view.loaded, connection)).unwrap_or_default();
    let is = |status| connection.is_some_and(|connection| connection.status == status);
    let (is_active, is_paused) = (is(ConnectionStatus::Active), is(ConnectionStatus::Paused));

    let (tone, lead, more): (_, String, &str) = match connection.map(|connection| connection.status) {
        None => (
            Tone::Idle,
            "This store is not connected yet.".into(),
            "Install the app from your store’s list of apps; it takes a moment, and there is nothing to enter.",
        ),
        Some(ConnectionStatus::Disconnecting) => (
            Tone::Idle,
            "This store is being disconnected.".into(),
            "Its subscriptions are being removed. To connect it again, install the app once more.",
        ),
        Some(ConnectionStatus::Disconnected) => (
            Tone::Idle,
            "This store is disconnected.".into(),
            "Nothing is received from it. To connect it again, install the app once more.",
        ),
        Some(ConnectionStatus::Paused) => (
            Tone::Idle,
            "This store is paused.".into(),
            "Whoever runs this app has switched it off for a while. What happens meanwhile is fetched afterwards.",
        ),
        Some(ConnectionStatus::Active)
            if care > 0 || trouble.is_some() || !missing.is_empty() || !stopped.is_empty() =>
        {
            let lead = match care {
                0 => "This store is connected, but something needs attention.".into(),
                1 => "This store is connected, but one subscription needs attention.".into(),
                care => {
                    format!("This store is connected, but {care} of {} subscriptions need attention.", scopes.len())
                }
            };
            (Tone::Care, lead, if care > 0 { "What it is, and what to do about it, stands beside each." } else { "" })
        }
        Some(ConnectionStatus::Active) if being_made > 0 => (
            Tone::Idle,
            "This store is connected and being set up.".into(),
            "Its subscriptions are being made, which takes a minute or two. There is nothing to do; open this page again to see \
             how far it is.",
        ),
        Some(ConnectionStatus::Active) => (Tone::Good, "All is well. There is nothing to do.".into(), ""),
    };

    let mut main = format!("<header><h1>Store {}</h1>", escape(view.store));
    match connection {
        Some(connection) if connection.site.trim_start_matches("https://") != view.store => {
            _ = write!(main, "<p class=\"soft\">{}</p>", escape(&connection.site));
        }
        _ => {}
    }
    _ = write!(main, "</header><section class=\"summary {}\"><p class=\"lead\">{}</p>", tone.class(), escape(&lead));
    if !more.is_empty() {
        _ = write!(main, "<p>{}</p>", escape(more));
    }
    if is_active {
        if let Some((trouble, since)) = trouble {
            let since = since.map(|since| format!(" ({})", time(since, view.now))).unwrap_or_default();
            _ = write!(
                main,
                "<p>The last look at the store failed{since}: {}. It is tried again by itself; if it stays like \
 this for a day, install the app again.</p>",
                escape(trouble)
            );
        }
        if !stopped.is_empty() {
            main.push_str("<p>Some of what is in the store cannot be fetched:</p><ul>");
            for (entity, why) in &stopped {
                let since = time(why.since, view.now);
                _ = write!(main, "<li>{entity} ({since}): {}</li>", escape(&why.why));
            }
            main.push_str("</ul><p>It is tried again by itself.</p>");
        }
        if !missing.is_empty() {
            main.push_str("<p>The store did not grant these permissions, so what they cover stays unknown:</p><ul>");
            for name in &missing {
                _ = write!(main, "<li><code>{}</code></li>", escape(name));
            }
            main.push_str("</ul><p>Install the app again and accept all permissions.</p>");
        }
    }
    if connection.is_some() {
        let last = view.seen.values().max();
        let last =
            last.map_or("No event has come yet.".to_owned(), |last| format!("Last event {}.", time(*last, view.now)));
        _ = write!(main, "<p class=\"soft\">{last}</p>");
    }
    main.push_str("</section>");
    if !scopes.is_empty() {
        // On narrow screens it is laid out as blocks, which would take its meaning as a table away but for the roles.
        main.push_str(
            "<section><h2 id=\"s\">Subscriptions</h2><table role=\"table\" aria-labelledby=\"s\"><thead role=\"rowgroup\"><tr role=\"row\"><th role=\"columnheader\" scope=\"col\">Event</th>\
             <th role=\"columnheader\" scope=\"col\">State</th><th role=\"columnheader\" scope=\"col\">Last event</th></tr></thead>\
             <tbody role=\"rowgroup\">",
        );
        for (scope, verdict, reason) in &scopes {
            let without = if is_paused { "paused" } else { "being made" };
            let (tone, word, what) = verdict.map_or((Tone::Idle, without, ""), words);
            _ = write!(
                main,
                "<tr role=\"row\"><th role=\"rowheader\" scope=\"row\"><code>{}</code></th><td role=\"cell\"><span class=\"badge {}\">{word}</span>",
                escape(scope),
                tone.class(),
            );
            if tone != Tone::Good && !what.is_empty() {
                _ = write!(main, "<small>{}</small>", escape(what));
            }
            if tone == Tone::Care && !reason.is_empty() {
                _ = write!(main, "<small>Reason: {}</small>", escape(reason));
            }
            let last = view.seen.get(*scope).map_or("none yet".to_owned(), |last| time(*last, view.now));
            _ = write!(main, "</td><td role=\"cell\">{last}</td></tr>");
        }
        main.push_str("</tbody></table></section>");
    }
    document(view.store, &main)
}

/// A page with a heading and a line of text.
pub fn message_page(title: &str, text: &str) -> String {
    document(title, &format!("<section class=\"summary\"><h1>{}</h1><p>{}</p></section>", escape(title), escape(text)))
}

/// A page that says where the way leads on. Whoever reads it was not invited by the vendor, and anybody may have given them the link.
pub fn leave_page(location: &Url) -> String {
    let host = escape(location.host_str().unwrap_or_default());
    let main = format!(
        "<section class=\"summary\"><h1>Connect {host}</h1><p>You are about to go on to {host}, which asks you whether this app may have \
         access to it. Go on only if that is your store.</p><p><a href=\"{}\" rel=\"noreferrer\">Go on to {host}</a></p></section>",
        escape(location.as_str()),
    );
    document("Connect a store", &main)
}

fn needs_care(verdict: Option<Verdict>) -> bool {
    verdict.is_some_and(|verdict| words(verdict).0 == Tone::Care)
}

/// What there is or should be a webhook for, with its verdict and the reason of it; none while it is being made, or is paused. Those
/// that need attention first.
fn scopes<'a>(view: &View<'a>) -> Vec<(&'a str, Option<Verdict>, &'a str)> {
    let status = view.loaded.connection.as_ref().map(|connection| connection.status);
    if !matches!(status, Some(ConnectionStatus::Active | ConnectionStatus::Paused)) {
        return Vec::new();
    }
    let records = &view.loaded.webhooks;
    let kept = records.values().map(|record| match status {
        Some(ConnectionStatus::Paused) => (record.scope.as_str(), None, ""),
        _ => (record.scope.as_str(), Some(record.health.verdict), record.health.reason.as_str()),
    });
    let wanted = view.wanted.iter().filter(|scope| !records.contains_key(*scope));
    let mut scopes: Vec<_> = kept.chain(wanted.map(|scope| (scope.as_str(), None, ""))).collect();
    scopes.sort_by_key(|(scope, verdict, _)| (!needs_care(*verdict), *scope));
    scopes
}

/// How a verdict looks, and what to do about it.
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

/// A time for people, with the exact one for who needs it.
fn time(at: Timestamp, now: Timestamp) -> String {
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
    format!("<time datetime=\"{}\" title=\"{}\">{words}</time>", escape(&exact), escape(&title))
}

fn document(title: &str, main: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width,\
         initial-scale=1\"><title>{}</title><style>{STYLE}</style></head><body><main>{main}</main></body></html>",
        escape(title),
    )
}

/// A text as HTML takes it, in an element or in a quoted attribute.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A response with a page, or with nothing.
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

/// What browsers are told about a response: nothing runs, nothing is loaded, nothing is kept, and only the platform's own pages may
/// hold it in a frame.
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
