//! The installation and uninstallation of apps at platforms: the requests below `/apps/{platform}/`.
//!
//! The sender of such a request is unknown. The platform's folder says what has to be found out and what follows from
//! it; here that is done. The log has the cause of a failure, without anything of the request but its platform and
//! action. The visitor sees what to do next.

use std::{borrow::Cow, collections::BTreeMap};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use cloud::{
    EdgeError,
    connections::Connections,
    coordination::{Coordination, Note, Terms, deployment, strangers, update_json},
    outbound::Outbound,
    queue::Jobs,
    secrets::REFRESH_SECONDS,
    telemetry,
};
use commerce::{
    connection::{Connection, ConnectionStatus, Retention},
    http_call::{ApiRequest, ApiResponse, Fault},
    install::{Evidence, Once, Rejection, Reply, Step, Vendor, Visit, sha256},
    job::{Job, Trigger},
    key::{ConnectionId, ConnectionKey},
    platform::{
        Platform, find,
        notice::{NOTICE, NOTICE_SECONDS, Notice, UNINSTALLED},
    },
    timestamp::Timestamp,
};
use http::{HeaderValue, StatusCode, header};
use lambda_http::{Body, Request, Response};
use serde_json::json;
use url::Url;

use crate::{Parts, Registrar, connect::Installed, page, problem::Problem};

/// The time that a visitor may take until the platform sends what the nonce is for, in seconds.
const NONCE_SECONDS: i64 = 1800;
const HOUR: i64 = 3600;
/// The most steps of a visit: more than any installation takes.
const MAX_STEPS: usize = 8;
/// The longest body of a visit, in bytes: more than any platform sends.
const MAX_BODY: usize = 16 * 1024;
/// The number of attempts at something that another request gets in the way of.
const TRIES: u32 = 3;

/// The reason to turn a visitor away.
enum VisitError {
    /// The platform's folder rejected the visit.
    Rejected(Rejection),
    /// The work that followed failed.
    Problem(Problem),
}

impl From<Rejection> for VisitError {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl From<Problem> for VisitError {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<EdgeError> for VisitError {
    fn from(error: EdgeError) -> Self {
        Self::Problem(error.into())
    }
}

fn not_proven(why: &str) -> VisitError {
    Rejection::NotProven(why.to_owned()).into()
}

impl<P: Parts> Registrar<P> {
    /// Answers a request below `/apps/{platform}/`. `own_address` is the address of the registrar's own that it came
    /// to, if it has one.
    pub(crate) async fn visit(
        &self,
        request: Request,
        platform: &str,
        action: &str,
        own_address: Option<String>,
    ) -> Response<Body> {
        let platform = find(self.platforms, platform);
        let base = own_address.unwrap_or_else(|| self.public_base_url.clone());
        let installation = platform.and_then(|platform| platform.installation);
        let framed_by = installation.map_or(&[][..], |installation| installation.framed_by());
        // The log names only actions that the platform's folder knows.
        let action = installation.and_then(|known| known.actions().iter().copied().find(|known| *known == action));
        let done = match (platform, action.map(|action| read(&request, action, (self.clock)()))) {
            (Some(platform), Some(Ok(visit))) => self.follow(platform, &visit, &base).await,
            (_, Some(Err(turned))) => Err(turned.into()),
            (_, _) => Err(Rejection::NoAction.into()),
        };
        let (mut response, why) = match done {
            Ok(response) => (response, None),
            Err(away) => {
                let (status, title, text, why) = rejection_page(&away);
                (page::response(status, page::message_page(title, &text)), Some(why))
            }
        };
        page::protect(&mut response, framed_by);
        let line = json!({
            "level": if why.is_some() { "WARN" } else { "INFO" }, "event": "visit", "why": why,
            "platform": platform.map(|platform| platform.name), "action": action,
            "status": response.status().as_u16(),
        });
        telemetry::emit(&line);
        response
    }

    /// Takes step after step, until there is an answer.
    async fn follow(&self, platform: &Platform, visit: &Visit, base: &str) -> Result<Response<Body>, VisitError> {
        let installation = platform.installation.ok_or(Rejection::NoAction)?;
        let apps_url = format!("{base}/apps/{}", platform.name);
        let nonce = cloud::nonce()?;
        let mut apps = self.edges.apps.current(visit.now).await?;
        let mut is_fresh = false;
        let mut known = Vec::new();
        for _ in 0..MAX_STEPS {
            let step = {
                let app = apps.get(platform.name);
                let vendor = Vendor { app, apps_url: &apps_url, nonce: &nonce, loopback: self.loopback };
                installation.visit(visit, &vendor, &known)
            };
            let step = match step {
                // The app's secret may have been replaced or entered since it was read.
                Err(turned @ (Rejection::NotProven(_) | Rejection::NoApp | Rejection::Closed))
                    if known.is_empty() && !is_fresh =>
                {
                    let fresh = self.edges.apps.after_failed_proof(visit.now).await;
                    (apps, is_fresh) = (fresh.ok_or(turned)?, true);
                    continue;
                }
                step => step?,
            };
            match step {
                // A code counts once, so it is not tried with an old secret. But anybody can make up a code, so a
                // recent one must do.
                Step::Ask(_) if !is_fresh => {
                    (apps, is_fresh) = (self.edges.apps.recent(visit.now, REFRESH_SECONDS).await?, true);
                }
                Step::Ask(request) => known.push(Evidence::Answer(self.ask(platform, request).await?)),
                Step::Spend(nonce) => known.push(Evidence::Intent(self.spend(platform, &nonce, visit.now).await?)),
                Step::Begin { intent, location, invited } => {
                    let (place, name) = nonce_note(platform, &nonce);
                    let note = Note { body: intent, revision: 1, expires: visit.now.seconds() + NONCE_SECONDS };
                    if !self.edges.notes.keep(&place, &name, &note).await? {
                        return Err(EdgeError::new("noting a nonce", "it is there already").into());
                    }
                    return sent_on(&location, invited);
                }
                Step::Install { connection, settings, proven, invited, reply } => {
                    let (key, installed) = (key(platform, connection), Installed { proven, invited });
                    let most = apps.get(platform.name).map_or(u32::MAX, |app| app.installs_per_hour);
                    self.admit(platform, &key, settings.as_bytes(), installed, most, visit.now).await?;
                    return self.reply(platform, &key, reply).await;
                }
                Step::Look(connection) => {
                    let loaded = self.edges.connections.load(&key(platform, connection)).await?;
                    let is_well = loaded.check.as_ref().is_none_or(|check| check.trouble.is_none());
                    let connected = loaded.connection.as_ref().is_some_and(Connection::is_connected);
                    known.push(Evidence::Connected(connected && is_well));
                }
                Step::Redact { connection, persons } => {
                    let key = key(platform, connection);
                    // Of a store that was never connected, nothing is kept.
                    if self.edges.connections.load(&key).await?.connection.is_some() {
                        self.redact_on_demand(&key, &persons).await?;
                    }
                    return Ok(told(Reply::Ok));
                }
                Step::Note { connection, kind, detail } => {
                    let notice = Notice { kind, detail, received: visit.now };
                    self.note_reported(&key(platform, connection), notice).await?;
                    return Ok(told(Reply::Ok));
                }
                Step::Erase(connection) => {
                    self.erase_on_demand(&key(platform, connection)).await?;
                    return Ok(told(Reply::Ok));
                }
                Step::Show(connection) => {
                    return self.reply(platform, &key(platform, connection), Reply::Store).await;
                }
                Step::Uninstall { connection, once } => {
                    self.unspent(platform, &once).await?;
                    self.uninstall(&key(platform, connection), &once).await?;
                    self.spend_once(platform, &once).await?;
                    return Ok(page::response(StatusCode::OK, String::new()));
                }
                Step::Nothing(once) => {
                    self.unspent(platform, &once).await?;
                    self.spend_once(platform, &once).await?;
                    return Ok(page::response(StatusCode::OK, String::new()));
                }
                Step::Respond(reply) => return Ok(told(reply)),
            }
        }
        Err(Rejection::Platform(Fault::Unreadable("an installation that takes more steps than any".into())).into())
    }

    /// Connects a proven store, unless too many have come within the hour.
    async fn admit(
        &self,
        platform: &Platform,
        key: &ConnectionKey,
        settings: &[u8],
        installed: Installed,
        most: u32,
        now: Timestamp,
    ) -> Result<(), VisitError> {
        let before = self.edges.connections.load(key).await?.connection;
        let is_new = !before.as_ref().is_some_and(Connection::is_connected);
        if is_new && self.installs(platform, now).await? >= most {
            telemetry::emit(&telemetry::count("InstallsRefused", platform.name, 1, now));
            return Err(Rejection::TooMany(most).into());
        }
        let mut tries = 1..TRIES;
        while let Err(problem) = self.install(platform, key, settings, installed).await {
            let again = matches!(problem, Problem::Conflict(_)) && tries.next().is_some();
            if !again {
                return Err(problem.into());
            }
        }
        telemetry::emit(&json!({ "level": "INFO", "event": "installed", "connection": key.to_string() }));
        if is_new {
            telemetry::emit(&telemetry::count("Installed", platform.name, 1, now));
            self.count_install(platform, now).await;
        }
        Ok(())
    }

    async fn reply(
        &self,
        platform: &Platform,
        key: &ConnectionKey,
        reply: Reply,
    ) -> Result<Response<Body>, VisitError> {
        if reply != Reply::Store {
            return Ok(told(reply));
        }
        let loaded = self.edges.connections.load(key).await?;
        let seen = match &loaded.connection {
            Some(connection) => self.activity(key, connection.generation).await?,
            None => BTreeMap::new(),
        };
        let seen = seen.into_iter().map(|(scope, sighting)| (scope, sighting.last));
        let webhooks = platform.setup.webhooks().zip(loaded.connection.as_ref());
        let wanted = webhooks.map(|(webhooks, connection)| webhooks.wanted(platform, &connection.settings));
        let drift = self.losses(key).await?;
        let view = page::View {
            platform,
            drift: &drift,
            store: key.connection.as_str(),
            loaded: &loaded,
            wanted: &wanted.unwrap_or_default(),
            seen: &seen.collect(),
            now: (self.clock)(),
        };
        Ok(page::response(StatusCode::OK, page::load_page(&view)))
    }

    /// Makes a call before there is a connection, at the platform's own hosts only.
    async fn ask(&self, platform: &Platform, request: ApiRequest) -> Result<ApiResponse, VisitError> {
        let allowed = platform.installation.map(|installation| installation.hosts());
        if !allowed.is_some_and(|hosts| hosts.allow(&request.url, self.loopback)) {
            return Err(Rejection::Platform(Fault::Connection("a call to another host was not made".into())).into());
        }
        self.edges.outbound.call(request).await.map_err(|fault| Rejection::Platform(fault).into())
    }

    /// Returns the number of stores that have connected themselves in this hour.
    async fn installs(&self, platform: &Platform, now: Timestamp) -> Result<u32, EdgeError> {
        let note = self.edges.notes.note(&deployment(), &installs_note(platform, now)).await?;
        Ok(note.and_then(|note| note.body.parse().ok()).unwrap_or(0))
    }

    /// Counts a store that has connected itself. A count that cannot be written is lost, because it is a limit, not a
    /// ledger.
    async fn count_install(&self, platform: &Platform, now: Timestamp) {
        let (all, name) = (deployment(), installs_note(platform, now));
        let terms = Terms::once(now, 2 * HOUR).tries(TRIES);
        let one_more = |count: Option<u32>| Some(count.unwrap_or(0).saturating_add(1));
        if let Err(error) = update_json(&self.edges.notes, &all, &name, terms, one_more).await {
            telemetry::warn("install-not-counted", &error.to_string());
        }
    }

    /// Spends a nonce, and returns its intent. Of two visitors with the same nonce, one gets it.
    async fn spend(&self, platform: &Platform, nonce: &str, now: Timestamp) -> Result<String, VisitError> {
        let (place, name) = nonce_note(platform, nonce);
        let note = self.edges.notes.note(&place, &name).await?;
        let note = note.ok_or_else(|| not_proven("the nonce is none of ours"))?;
        if note.body.is_empty() {
            return Err(not_proven("the nonce is spent"));
        }
        if !note.is_live(now) {
            return Err(not_proven("the nonce is too old"));
        }
        let spent = Note { body: String::new(), revision: note.revision + 1, expires: note.expires };
        if self.edges.notes.keep(&place, &name, &spent).await? {
            Ok(note.body)
        } else {
            Err(not_proven("the nonce is spent"))
        }
    }

    async fn unspent(&self, platform: &Platform, once: &Once) -> Result<(), VisitError> {
        let (place, name) = once_note(platform, once);
        match self.edges.notes.note(&place, &name).await? {
            Some(_) => Err(not_proven("the token was used before")),
            None => Ok(()),
        }
    }

    /// Notes that a token was used, once what follows from it is done. If that fails half-way, it is done again when
    /// the token comes again.
    async fn spend_once(&self, platform: &Platform, once: &Once) -> Result<(), VisitError> {
        let note = Note { body: "{}".into(), revision: 1, expires: once.until.seconds() + 1 };
        let (place, name) = once_note(platform, once);
        if self.edges.notes.keep(&place, &name, &note).await? {
            Ok(())
        } else {
            Err(not_proven("the token was used before"))
        }
    }

    /// Keeps the platform's report as if a webhook had delivered it. If the job is lost, the next check finds the
    /// report.
    async fn note_uninstalled(&self, key: &ConnectionKey) -> Result<(), VisitError> {
        let received = (self.clock)();
        let notice = Notice { kind: UNINSTALLED.into(), detail: String::new(), received };
        // If another request wrote it meanwhile, it says the same.
        self.keep_report(key, notice).await
    }

    /// Keeps a report about a store that is or was connected.
    async fn note_reported(&self, key: &ConnectionKey, notice: Notice) -> Result<(), VisitError> {
        match self.edges.connections.load(key).await?.connection {
            Some(_) => self.keep_report(key, notice).await,
            None => Ok(()),
        }
    }

    async fn keep_report(&self, key: &ConnectionKey, notice: Notice) -> Result<(), VisitError> {
        let (name, terms) = (format!("{NOTICE}{}", notice.kind), Terms::once((self.clock)(), NOTICE_SECONDS));
        update_json(&self.edges.notes, key, &name, terms, |_| Some(notice.clone())).await?;
        Ok(())
    }

    /// Orders the erasure of a disconnected connection's state. One that is still connected is checked first, and the
    /// platform's next attempt at its demand finds it disconnected.
    async fn erase_on_demand(&self, key: &ConnectionKey) -> Result<(), VisitError> {
        let Some(mut connection) = self.edges.connections.load(key).await?.connection else { return Ok(()) };
        let check = [(Job::check(key, Trigger::Told), 0)];
        if connection.status != ConnectionStatus::Disconnected {
            self.note_uninstalled(key).await?;
            self.edges.jobs.send_jobs(&check).await?;
            return Err(Problem::Conflict(format!("{key}: the store is to be erased and still connected")).into());
        }
        if connection.retention != Retention::EraseAfterDays(0) {
            connection.retention = Retention::EraseAfterDays(0);
            self.save(key, &mut connection).await?;
            let line = json!({ "level": "INFO", "event": "erasure-demanded", "connection": key.to_string() });
            telemetry::emit(&line);
        }
        Ok(self.edges.jobs.send_jobs(&check).await?)
    }

    /// Notes that a connection is said to be gone, and queues a check. The visit is only a hint, because anybody who
    /// could read the address of another page has a token of the same form. The store's answer decides.
    async fn uninstall(&self, key: &ConnectionKey, once: &Once) -> Result<(), VisitError> {
        let Some(connection) = self.edges.connections.load(key).await?.connection else { return Ok(()) };
        match connection.status {
            ConnectionStatus::Disconnected => return Ok(()),
            ConnectionStatus::Disconnecting => self.note_uninstalled(key).await?,
            ConnectionStatus::Active | ConnectionStatus::Paused => {
                // Tokens state their time in whole seconds.
                if connection.connected_at.is_some_and(|at| once.issued.seconds() < at.seconds()) {
                    return Err(not_proven("the token is from before the store was connected"));
                }
                self.note_uninstalled(key).await?;
                telemetry::emit(
                    &json!({ "level": "INFO", "event": "told-uninstalled", "connection": key.to_string() }),
                );
            }
        }
        let job = Job::check(key, Trigger::Told);
        Ok(self.edges.jobs.send_jobs(&[(job, 0)]).await?)
    }
}

/// Redirects an invited visitor, and first shows another one where the way leads.
fn sent_on(location: &Url, invited: bool) -> Result<Response<Body>, VisitError> {
    if !invited {
        return Ok(page::response(StatusCode::OK, page::leave_page(location)));
    }
    let location = HeaderValue::from_str(location.as_str())
        .map_err(|_| Rejection::Malformed("the address cannot be visited".into()))?;
    let mut response = page::response(StatusCode::FOUND, String::new());
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

fn key(platform: &Platform, connection: ConnectionId) -> ConnectionKey {
    ConnectionKey { platform: platform.name.to_owned(), connection }
}

/// Returns the partition and the name of a note. Both are bound to the platform, so that a text of one platform means
/// nothing at another.
fn noted(kind: &str, platform: &Platform, text: &str) -> (ConnectionKey, String) {
    let hash = sha256(&format!("{}#{text}", platform.name));
    (strangers(&hash), format!("{kind}#{}", URL_SAFE_NO_PAD.encode(hash)))
}

/// Returns the name of the note that counts the stores that have connected themselves in the hour of `now`.
fn installs_note(platform: &Platform, now: Timestamp) -> String {
    format!("installs#{}#{}", platform.name, now.seconds().div_euclid(HOUR))
}

fn nonce_note(platform: &Platform, nonce: &str) -> (ConnectionKey, String) {
    noted("nonce", platform, nonce)
}

fn once_note(platform: &Platform, once: &Once) -> (ConnectionKey, String) {
    noted("jti", platform, &once.id)
}

/// Reads a request in the form for platforms. A repeated parameter is refused, because it could be read in two ways.
fn read(request: &Request, action: &str, now: Timestamp) -> Result<Visit, Rejection> {
    let mut query = BTreeMap::new();
    for (name, value) in url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()) {
        if query.insert(name.into_owned(), value.into_owned()).is_some() {
            return Err(Rejection::Malformed("a parameter is there twice".into()));
        }
    }
    let body = request.body().as_ref();
    if body.len() > MAX_BODY {
        return Err(Rejection::Malformed("the body is too large".into()));
    }
    let (method, action, body) = (request.method().clone(), action.to_owned(), Bytes::copy_from_slice(body));
    Ok(Visit { method, action, query, headers: request.headers().clone(), body, now })
}

fn told(reply: Reply) -> Response<Body> {
    let text = match reply {
        Reply::Page { title, text } => page::message_page(&title, &text),
        Reply::Store | Reply::Ok => String::new(),
    };
    page::response(StatusCode::OK, text)
}

/// Returns the page of a visitor who is turned away, and the text for the log.
fn rejection_page(away: &VisitError) -> (StatusCode, &'static str, Cow<'static, str>, String) {
    let (status, title, text): (_, _, Cow<'static, str>) = match away {
        VisitError::Rejected(Rejection::TooMany(_)) => (
            StatusCode::TOO_MANY_REQUESTS,
            "Not right now",
            "Many stores are being connected at the moment, and nothing was changed at yours. Begin again in an hour.".into(),
        ),
        VisitError::Rejected(Rejection::NoAction | Rejection::Closed) => {
            (StatusCode::NOT_FOUND, "There is nothing here", "Open the app from your store’s list of apps.".into())
        }
        VisitError::Rejected(Rejection::NoApp) => (
            StatusCode::NOT_FOUND,
            "Not set up yet",
            "This app has not been set up for your platform yet. Ask whoever runs it to enter its credentials.".into(),
        ),
        VisitError::Rejected(Rejection::Method) => {
            (StatusCode::METHOD_NOT_ALLOWED, "That does not work here", "Open the app from your store’s list of apps.".into())
        }
        VisitError::Rejected(Rejection::Malformed(what)) => {
            (StatusCode::BAD_REQUEST, "Something is missing", format!("This cannot be done as it was asked: {what}.").into())
        }
        VisitError::Problem(Problem::Settings(_)) => {
            (StatusCode::BAD_REQUEST, "Something is wrong", "What the store sent cannot be used. Begin again.".into())
        }
        VisitError::Rejected(Rejection::NotProven(_)) | VisitError::Problem(Problem::Refused(_)) => (
            StatusCode::UNAUTHORIZED,
            "That did not work",
            "This link is not valid, or not any more, and nothing was changed. Open the app again from your store, or begin the \
             installation anew."
                .into(),
        ),
        VisitError::Rejected(Rejection::Platform(_)) | VisitError::Problem(Problem::Platform(_)) => (
            StatusCode::BAD_GATEWAY,
            "Your store could not be asked",
            "It did not answer as expected, and nothing was changed. Wait a few minutes and begin again.".into(),
        ),
        VisitError::Problem(Problem::Conflict(_)) => (
            StatusCode::CONFLICT,
            "Connected otherwise already",
            "Under this name another site is or was connected, or somebody is changing the connection right now. Nothing was \
             changed. Try again in a minute; if it stays like this, ask whoever runs this app to connect this site in its place."
                .into(),
        ),
        VisitError::Problem(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "Something here failed",
            "Nothing is lost. Wait a few minutes and try again.".into(),
        ),
    };
    let why = match away {
        VisitError::Rejected(turned) => turned.to_string(),
        // The public text of a fault of ours says nothing. The log gets the cause.
        VisitError::Problem(Problem::Ours(error)) => error.to_string(),
        VisitError::Problem(problem) => problem.to_string(),
    };
    (status, title, text, why)
}
