//! The handling of requests to the admin interface: the token is checked, the route is found, its permission is
//! checked, and its handler runs.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use cloud::{
    EdgeError,
    connections::{Connections, parse_key},
    queue::Jobs,
    telemetry,
};
use commerce::{
    connection::{Connection, ConnectionStatus},
    cursor::Fetch,
    entity::EntityKind,
    job::{Job, SHARDS, Trigger, shard},
    json::{self, JsonError},
    key::{ConnectionKey, Generation},
    platform::{Platform, find, mapping::declared_scopes, settings::SettingsError},
    request::{WebhookPath, has_too_many_values},
    scheme::{Scheme, jwt::Claims},
    timestamp::{Timestamp, parse_utc},
    transfer::Direction,
};
use http::StatusCode;
use lambda_http::{Request, RequestExt};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::{
    Parts, Registrar,
    answers::{
        self, Answer, Begun, Changes, ConnectionList, FetchRun, ListedConnection, Moment, PlanSteps, Poll, PollList,
        Presets, Revealed, RevealedSecret, StoppedFetch, SubscriptionList,
    },
    disconnect::Removal,
    problem::Problem,
    routes::{self, ConnectionHandler, EndpointHandler, Handler, MAX_LIMIT},
    show::{Managed, at},
    webhooks::manages,
};

impl<P: Parts> Registrar<P> {
    /// Answers a request below `/admin`.
    pub(crate) async fn administer(&self, request: &Request, path: &str) -> Result<(StatusCode, Answer), Problem> {
        // An unknown caller must not learn what exists.
        let claims = self.authorize(request.headers()).await?;
        let (route, parameters) = routes::find(request.method(), path)?;
        if !claims.allow(route.permission) {
            return Err(Problem::Forbidden(route.permission));
        }
        let body = request.body().as_ref();
        let query = request.query_string_parameters();
        let answer = match route.handler {
            Handler::List => {
                let page = self.list_connections(query.first("platform"), query.first("limit"), query.first("cursor"));
                Answer::ConnectionList(page.await?)
            }
            Handler::Rotation => Answer::Rotation(self.rotation().await?.into()),
            Handler::Rotate => Answer::Rotation(self.rotate(retired(body)?.as_deref()).await?.into()),
            Handler::Description => Answer::Description(description()?),
            Handler::Endpoints => Answer::EndpointList(self.list_endpoints().await?),
            Handler::MakeEndpoint => Answer::NewEndpoint(self.make_endpoint(body, &claims).await?),
            Handler::TryDeclaration => Answer::TrialResult(self.try_declaration(body)?.into()),
            Handler::Endpoint(handler) => {
                let id = parameters.first().map_or("", |(_, id)| id.as_str());
                match handler {
                    EndpointHandler::Show => Answer::Endpoint(self.show_endpoint(id).await?),
                    EndpointHandler::Set => Answer::Endpoint(self.set_endpoint(id, body, &claims).await?),
                    EndpointHandler::Remove => Answer::Endpoint(self.remove_endpoint(id, &claims).await?),
                    EndpointHandler::RenewSecret => Answer::NewEndpoint(self.renew_secret(id, &claims).await?),
                }
            }
            Handler::Connection(handler) => {
                let named = |name| parameters.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value);
                let (platform, key) = self.named(named("platform"), named("connection"))?;
                let forced = query.first("force") == Some("true");
                let removal = if forced { Removal::Forced } else { Removal::Asked };
                self.administer_connection(handler, platform, &key, body, removal, &claims).await?
            }
        };
        Ok((StatusCode::from_u16(route.status).unwrap_or_default(), answer))
    }

    /// Answers a request about one connection.
    async fn administer_connection(
        &self,
        handler: ConnectionHandler,
        platform: &Platform,
        key: &ConnectionKey,
        body: &[u8],
        removal: Removal,
        claims: &Claims,
    ) -> Result<Answer, Problem> {
        let shown = |connection: answers::Connection| Answer::Connection(connection.into());
        Ok(match handler {
            ConnectionHandler::Show => shown(self.show(platform, key).await?),
            ConnectionHandler::Connect => shown(self.connected(platform, key, body).await?),
            ConnectionHandler::Disconnect => {
                self.disconnect(platform, key, removal).await?;
                shown(self.show(platform, key).await?)
            }
            ConnectionHandler::Confirm => shown(self.confirmed(platform, key).await?),
            ConnectionHandler::Pause => shown(self.pause(platform, key).await?),
            ConnectionHandler::Resume => shown(self.resume(platform, key).await?),
            ConnectionHandler::Revoke => shown(self.revoke_named(platform, key, body).await?),
            ConnectionHandler::Webhooks => Answer::SubscriptionList(self.show_webhooks(platform, key).await?),
            ConnectionHandler::Plan => Answer::Plan(self.show_plan(platform, key).await?),
            ConnectionHandler::Reconcile => Answer::Plan(self.reconcile_webhooks(platform, key).await?),
            ConnectionHandler::Poll => Answer::Begun(self.begin_polls(platform, key, body, Fetch::Incremental).await?),
            ConnectionHandler::Import => Answer::Begun(self.begin_polls(platform, key, body, Fetch::Backfill).await?),
            ConnectionHandler::Polls => Answer::PollList(self.show_polls(platform, key).await?),
            ConnectionHandler::Settings => Answer::Settings(settings_of(&self.known(key).await?.1)),
            ConnectionHandler::SetSettings => {
                Answer::Settings(settings_of(&self.set_settings(platform, key, object(body)?).await?))
            }
            ConnectionHandler::Presets => Answer::Presets(Presets { presets: self.known(key).await?.1.presets }),
            ConnectionHandler::SetPresets => Answer::Presets(self.set_presets(platform, key, body).await?),
            ConnectionHandler::Redact => Answer::Redaction(self.redact(key, body, claims).await?),
            ConnectionHandler::Verify => {
                Answer::Verification(self.begin_verification(platform, key, body).await?.into())
            }
            ConnectionHandler::Verification => Answer::Verification(self.show_verification(key).await?.into()),
            ConnectionHandler::Snapshot => Answer::Snapshot(self.begin_snapshot(platform, key, body).await?),
            ConnectionHandler::Reveal => Answer::Revealed(self.reveal(platform, key, body, claims).await?),
        })
    }

    /// Connects a store, and shows it with the changes made there.
    async fn connected(
        &self,
        platform: &Platform,
        key: &ConnectionKey,
        body: &[u8],
    ) -> Result<answers::Connection, Problem> {
        let plan = self.connect(platform, key, body).await?;
        let mut shown = self.show(platform, key).await?;
        shown.changes = plan.as_ref().map(Changes::from);
        Ok(shown)
    }

    /// Confirms a store that has connected itself, and shows it.
    async fn confirmed(&self, platform: &Platform, key: &ConnectionKey) -> Result<answers::Connection, Problem> {
        self.confirm(key).await?;
        self.show(platform, key).await
    }

    /// Stops taking deliveries of a connection for a while, and shows it.
    ///
    /// # Errors
    /// [`Problem`]; the next check does the rest.
    pub async fn pause(&self, platform: &Platform, key: &ConnectionKey) -> Result<answers::Connection, Problem> {
        self.set_paused(platform, key).await?;
        self.show(platform, key).await
    }

    /// Takes deliveries again, and shows the connection.
    ///
    /// # Errors
    /// [`Problem`]; the next check does the rest.
    pub async fn resume(&self, platform: &Platform, key: &ConnectionKey) -> Result<answers::Connection, Problem> {
        self.set_active(platform, key).await?;
        self.show(platform, key).await
    }

    /// Revokes all secrets of a connection, and shows it. If `named` is not the present generation, nothing is revoked,
    /// so that a repeated request has no further effect.
    ///
    /// # Errors
    /// [`Problem`]; the next check does the rest.
    pub async fn revoke(
        &self,
        platform: &Platform,
        key: &ConnectionKey,
        named: Option<Generation>,
    ) -> Result<answers::Connection, Problem> {
        self.raise_generation(platform, key, named).await?;
        self.show(platform, key).await
    }

    /// Returns the platform and the connection that a path names.
    fn named(&self, platform: &str, connection: &str) -> Result<(&'static Platform, ConnectionKey), Problem> {
        let platform = find(self.platforms, platform).ok_or_else(|| {
            let known: Vec<_> = self.platforms.iter().map(|platform| platform.name).collect();
            Problem::NotFound(format!("there is no platform {platform:?}; there are: {}", known.join(", ")))
        })?;
        let path = WebhookPath::parse(platform.name, connection, None)
            .ok_or_else(|| Problem::NotFound(commerce::key::NotAConnectionId.to_string()))?;
        Ok((platform, path.key))
    }

    /// Returns one page of the list of all connections, which is read shard after shard.
    async fn list_connections(
        &self,
        platform: Option<&str>,
        limit: Option<&str>,
        cursor: Option<&str>,
    ) -> Result<ConnectionList, Problem> {
        if let Some(name) = platform.filter(|name| find(self.platforms, name).is_none()) {
            return Err(Problem::Invalid(format!("platform: there is no {name:?}")));
        }
        let limit = match limit.map(str::parse) {
            None => MAX_LIMIT,
            Some(Ok(limit)) if (1..=MAX_LIMIT).contains(&limit) => limit,
            Some(_) => return Err(Problem::Invalid(format!("limit: must be a number from 1 to {MAX_LIMIT}"))),
        };
        let (mut part, mut after) = match cursor {
            None => (0, None),
            Some(cursor) => read_cursor(cursor, platform).ok_or_else(|| {
                Problem::Invalid("cursor: must be `next` of a page that was asked for with the same platform".into())
            })?,
        };
        let (mut shown, mut left) = (Vec::new(), limit);
        while left > 0 && part < SHARDS {
            let page = self.edges.connections.list(part, platform, after.as_deref(), left).await?;
            left = left.saturating_sub(u32::try_from(page.entries.len()).unwrap_or(left));
            shown.extend(page.entries.into_iter().map(|entry| ListedConnection {
                platform: entry.key.platform,
                connection: entry.key.connection,
                status: entry.status,
                site: entry.site,
                signed_with: entry.signed_with,
            }));
            after = page.next;
            part += u32::from(after.is_none());
        }
        let next = (part < SHARDS).then(|| write_cursor(part, after.as_deref()));
        Ok(ConnectionList { connections: shown, next })
    }

    /// Returns the webhooks with their health.
    async fn show_webhooks(&self, platform: &Platform, key: &ConnectionKey) -> Result<SubscriptionList, Problem> {
        let (loaded, connection) = self.known(key).await?;
        if connection.status == ConnectionStatus::Disconnected {
            return Ok(SubscriptionList::default());
        }
        self.webhooks(platform, key, &connection, &loaded).await
    }

    /// Returns the plan for the webhooks, without running it.
    async fn show_plan(&self, platform: &Platform, key: &ConnectionKey) -> Result<PlanSteps, Problem> {
        let (loaded, connection) = self.living(key).await?;
        let managed = self.managed(platform, key, &connection, &loaded).await?;
        let Some(Managed { webhooks, credentials, existing }) = managed else {
            return Ok(PlanSteps::by_hand());
        };
        let ring = self.edges.signing_keys.fresh((self.clock)()).await?;
        let at = at(platform, key, &connection, &credentials);
        let plan = self.plan(at, webhooks, &connection, &loaded.webhooks, &existing?, &ring).await?;
        Ok(PlanSteps::managed(&plan))
    }

    /// Runs the plan for the webhooks, and returns it.
    async fn reconcile_webhooks(&self, platform: &Platform, key: &ConnectionKey) -> Result<PlanSteps, Problem> {
        let (loaded, connection) = self.living(key).await?;
        let managed = self.managed(platform, key, &connection, &loaded).await?;
        let Some(Managed { webhooks, credentials, existing }) = managed else {
            return Ok(PlanSteps::by_hand());
        };
        let at = at(platform, key, &connection, &credentials);
        let plan = self.converge(at, webhooks, &connection, &loaded, &existing?, Trigger::Asked).await?;
        Ok(PlanSteps::managed(&plan))
    }

    /// Raises the generation, if it is still the one that the body names.
    async fn revoke_named(
        &self,
        platform: &Platform,
        key: &ConnectionKey,
        body: &[u8],
    ) -> Result<answers::Connection, Problem> {
        let mut members = members(body, &["generation"])?;
        let named = members.remove("generation").and_then(|generation| generation.as_u64()).ok_or_else(|| {
            Problem::Invalid("generation: must be the one that is revoked, as GET of the connection shows it".into())
        })?;
        let generation = self.living(key).await?.1.generation;
        let now = u64::from(generation.number());
        if named > now {
            return Err(Problem::Invalid(format!("generation: {key} has not come further than {now}")));
        }
        if named < now {
            return self.show(platform, key).await;
        }
        self.revoke(platform, key, Some(generation)).await
    }

    /// Begins to fetch one entity, or all that can be polled.
    async fn begin_polls(
        &self,
        platform: &Platform,
        key: &ConnectionKey,
        body: &[u8],
        fetch: Fetch,
    ) -> Result<Begun, Problem> {
        let known: &[_] = if fetch == Fetch::Incremental { &["entity", "since"] } else { &["entity"] };
        let mut members = members(body, known)?;
        let (_, connection) = self.known(key).await?;
        let mut entities = pollable(platform, &connection);
        if let Some(entity) = entity(&mut members, &entities)? {
            entities = vec![entity];
        }
        let since = members.remove("since").map(|since| {
            let since = since.as_str().and_then(parse_utc).map(Timestamp::from);
            since.filter(|since| *since <= (self.clock)()).ok_or_else(|| {
                Problem::Invalid("since: must be a date and time of the past, such as 2026-11-21T01:48:39Z".into())
            })
        });
        let since = since.transpose()?;
        let (_, connection) = self.living(key).await?;
        if connection.status == ConnectionStatus::Paused {
            return Err(Problem::Conflict(format!("{key} is paused; POST …/resume polls what was missed")));
        }
        if connection.credentials.is_none() {
            return Err(Problem::Conflict(format!("{key} has no credentials to ask its store with; PUT them")));
        }
        for entity in &entities {
            self.begin_poll(platform, key, *entity, fetch, since).await?;
        }
        Ok(Begun { fetch, begun: entities })
    }

    /// Returns the progress of fetching each entity.
    async fn show_polls(&self, platform: &Platform, key: &ConnectionKey) -> Result<PollList, Problem> {
        let (loaded, connection) = self.known(key).await?;
        let losses = self.losses(key).await?;
        let polls = pollable(platform, &connection).into_iter().map(|entity| {
            let cursor = loaded.cursors.get(&entity);
            let run = cursor.and_then(|cursor| cursor.run.as_ref());
            let stopped = cursor.and_then(|cursor| cursor.stopped.as_ref());
            Poll {
                entity,
                every_seconds: connection.polls.get(&entity).copied(),
                since: cursor.and_then(|cursor| cursor.since).map(Moment),
                swept: cursor.and_then(|cursor| cursor.swept).map(Moment),
                run: run.map(|run| FetchRun {
                    fetch: run.fetch,
                    begun: run.begun.into(),
                    pages: run.pages,
                    found: run.found,
                }),
                stopped: stopped.map(|stopped| StoppedFetch { why: stopped.why.clone(), since: stopped.since.into() }),
                losses: losses.get(&entity).cloned().unwrap_or_default().into(),
            }
        });
        Ok(PollList { polls: polls.collect() })
    }

    /// Sets everything but site and credentials, which stay.
    async fn set_settings(
        &self,
        platform: &Platform,
        key: &ConnectionKey,
        mut members: Map<String, Value>,
    ) -> Result<Connection, Problem> {
        if members.contains_key("site") {
            return Err(SettingsError::new("site", "stays as it is; leave it out").into());
        }
        let (loaded, mut connection) = self.living(key).await?;
        for name in platform.setup.found_out() {
            if let Some(known) = connection.settings.get(*name).filter(|_| !members.contains_key(*name)) {
                members.insert((*name).to_owned(), known.clone());
            }
        }
        let read = |site: Option<&str>| {
            let mut members = members.clone();
            if let Some(site) = site {
                members.insert("site".to_owned(), site.into());
            }
            let body = Zeroizing::new(Value::Object(members).to_string());
            commerce::platform::settings::settings(platform, key, body.as_bytes(), self.loopback)
        };
        // A site that follows from the connection's id must not be given.
        let settings = match read(Some(&connection.site)) {
            Err(error) if error.field == "site" => read(None)?,
            read => read?,
        };
        if settings.credentials.is_some() || !settings.brought.is_empty() {
            let why = "credentials are no settings; PUT them to the connection itself";
            return Err(SettingsError::new("body", why).into());
        }
        let before = connection.clone();
        let ids: Vec<_> = loaded.webhooks.values().map(|record| record.id.clone()).collect();
        connection.settings = match platform.setup.webhooks() {
            Some(webhooks) => webhooks.settings_with(settings.own, &ids),
            None => settings.own,
        };
        connection.set_deletes(settings.deletes);
        connection.ignores = settings.ignores;
        connection.presets = settings.presets;
        connection.polls = settings.polls;
        connection.retention = settings.retention;
        if connection != before {
            self.save(key, &mut connection).await?;
        }
        // The job is sent even if nothing differs, because an earlier request with the same settings may have failed
        // before this.
        self.edges.jobs.send_jobs(&[(Job::check(key, Trigger::Connected), 0)]).await?;
        Ok(connection)
    }

    async fn set_presets(&self, platform: &Platform, key: &ConnectionKey, body: &[u8]) -> Result<Presets, Problem> {
        let presets = members(body, &["presets"])?.remove("presets");
        let presets = presets.ok_or_else(|| Problem::Invalid("presets: is missing; [] is none".into()))?;
        let mut settings = settings_of(&self.living(key).await?.1);
        settings.insert("presets".to_owned(), presets);
        Ok(Presets { presets: self.set_settings(platform, key, settings).await?.presets })
    }

    /// Returns the address and the secrets that somebody has to enter by hand.
    async fn reveal(
        &self,
        platform: &Platform,
        key: &ConnectionKey,
        body: &[u8],
        claims: &Claims,
    ) -> Result<Revealed, Problem> {
        let asked = members(body, &["scope"])?.remove("scope");
        let (loaded, connection) = self.living(key).await?;
        let webhooks = platform.setup.webhooks().filter(|_| connection.credentials.is_some());
        if webhooks.is_some_and(|webhooks| manages(platform, webhooks, &connection, &loaded)) {
            return Err(Problem::Conflict(format!(
                "the registrar makes the webhooks of {key}, so nobody has to know their secrets"
            )));
        }
        if platform.delivery.scheme() == Scheme::Declared {
            return Err(Problem::Conflict(format!(
                "the keys of {key} are its sender's own; GET of the connection shows the delivery_url to enter there"
            )));
        }
        let mut scopes: Vec<_> = declared_scopes(platform).map(Some).collect();
        if !platform.delivery.secret_per_scope() {
            scopes = vec![None];
        }
        if let Some(asked) = asked {
            scopes.retain(|scope| scope.is_some_and(|scope| asked == scope));
            if scopes.is_empty() {
                return Err(Problem::Invalid(
                    "scope: no topic of the platform has this name and a secret of its own".into(),
                ));
            }
        }
        let ring = self.edges.signing_keys.fresh((self.clock)()).await?;
        let path = WebhookPath { key: key.clone(), generation: connection.generation };
        let secrets = scopes.into_iter().map(|scope| {
            telemetry::emit(&revealed(key, scope, claims));
            let secret = ring.signing().webhook_secret(&path, scope).reveal().to_string();
            RevealedSecret { scope: scope.map(str::to_owned), secret }
        });
        Ok(Revealed {
            secrets: secrets.collect(),
            delivery_url: format!("{}{path}", self.public_base_url),
            next: platform.setup.manual_instructions().to_owned(),
        })
    }
}

/// The description of the admin interface, as a test writes it: see `openapi.rs`.
const DESCRIPTION: &str = include_str!("../openapi.json");

fn description() -> Result<Value, Problem> {
    serde_json::from_str(DESCRIPTION)
        .map_err(|error| Problem::Ours(EdgeError::new("reading the description", error.to_string())))
}

const NO_OBJECT: &str = "body: must be a JSON object";

/// Returns the name of the holder of a token. A token without a name is identified by the time of its minting.
pub(crate) fn asker(claims: &Claims) -> String {
    claims.sub.clone().unwrap_or_else(|| {
        let minted = Timestamp::from_millis(claims.iat.saturating_mul(1000));
        format!("the holder of a token of {minted}")
    })
}

/// Returns the log line about whose token revealed a secret.
fn revealed(key: &ConnectionKey, scope: Option<&str>, claims: &Claims) -> Value {
    let by = asker(claims);
    json!({ "level": "INFO", "event": "secret-revealed", "connection": key.to_string(), "scope": scope, "by": by })
}

/// Reads a body that is a JSON object without repeated members.
pub(crate) fn object(body: &[u8]) -> Result<Map<String, Value>, Problem> {
    if has_too_many_values(body) {
        return Err(Problem::Invalid("body: holds more than any settings".into()));
    }
    json::object(body).map_err(|wrong| match wrong {
        JsonError::Twice(name) => Problem::Invalid(format!("body: {name} is there twice; leave one of them out")),
        JsonError::Form(_) | JsonError::TooDeep => Problem::Invalid(NO_OBJECT.into()),
    })
}

/// Reads the members of a body, which may be empty. Only the known members are accepted.
pub(crate) fn members(body: &[u8], known: &[&str]) -> Result<Map<String, Value>, Problem> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    let members = object(body)?;
    if members.keys().all(|name| known.contains(&name.as_str())) {
        return Ok(members);
    }
    Err(Problem::Invalid(format!("body: may have no other members than: {}", known.join(", "))))
}

/// Reads a member that is true, false or absent.
pub(crate) fn flag(members: &mut Map<String, Value>, name: &str) -> Result<bool, Problem> {
    match members.remove(name) {
        None => Ok(false),
        Some(Value::Bool(flag)) => Ok(flag),
        Some(_) => Err(Problem::Invalid(format!("{name}: must be true or false"))),
    }
}

/// Reads the member `entity`: one of the known kinds, or absent.
pub(crate) fn entity(members: &mut Map<String, Value>, known: &[EntityKind]) -> Result<Option<EntityKind>, Problem> {
    let Some(entity) = members.remove("entity") else { return Ok(None) };
    let named = known.iter().copied().find(|kind| entity == kind.as_str());
    let named = named.ok_or_else(|| {
        let known: Vec<_> = known.iter().map(|kind| kind.as_str()).collect();
        Problem::Invalid(format!("entity: must be one of: {}", known.join(", ")))
    });
    named.map(Some)
}

/// Reads the id of the key that a rotation is to remove, if one is named.
fn retired(body: &[u8]) -> Result<Option<String>, Problem> {
    let retire = members(body, &["retire"])?.remove("retire").map(|retire| match retire {
        Value::String(id) if !id.is_empty() => Ok(id),
        _ => Err(Problem::Invalid("retire: must be the id of a key, as GET of the rotation shows it".into())),
    });
    retire.transpose()
}

/// Returns the kinds of entity that can be polled.
fn pollable(platform: &Platform, connection: &Connection) -> Vec<EntityKind> {
    let listed = |entity| platform.lists.is_some_and(|lists| lists.polls(&connection.settings, entity));
    let processors = platform.mapping.processors().iter();
    let pollable = processors
        .filter(|one| one.polling.is_some() && one.direction != Direction::Export)
        .filter(|one| listed(one.entity));
    pollable.map(|processor| processor.entity).collect()
}

/// Returns a connection's settings, in the form in which they are set.
fn settings_of(connection: &Connection) -> Map<String, Value> {
    let mut settings = connection.settings.clone();
    let common = [
        ("deletes", json!(connection.deletes)),
        ("ignores", json!(connection.ignores)),
        ("presets", json!(connection.presets)),
        ("polls", json!(connection.polls)),
        ("retention", json!(connection.retention)),
    ];
    settings.extend(common.map(|(name, value)| (name.to_owned(), value)));
    settings
}

/// Writes the position in a list: a shard, and the connection there after which the list continues.
fn write_cursor(part: u32, after: Option<&str>) -> String {
    URL_SAFE_NO_PAD.encode(format!("{part}:{}", after.unwrap_or_default()))
}

/// Reads a cursor that [`write_cursor`] wrote for the same platform.
fn read_cursor(cursor: &str, platform: Option<&str>) -> Option<(u32, Option<String>)> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
    let (part, after) = text.split_once(':')?;
    let part = part.parse().ok().filter(|part| *part < SHARDS)?;
    if after.is_empty() {
        return Some((part, None));
    }
    let key = parse_key(after)?;
    let fits = shard(&key) == part && platform.is_none_or(|platform| key.platform == platform);
    (fits && key.to_string() == after).then(|| (part, Some(after.to_owned())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_revealed_secret_is_logged_with_whose_token_it_was() {
        let key = WebhookPath::parse("p", "shop.example.com", None).unwrap().key;
        let mut claims =
            Claims { aud: String::new(), iat: 1_795_225_781, exp: 0, nbf: None, scope: "reveal".into(), sub: None };
        let line = |claims: &Claims| revealed(&key, Some("order.deleted"), claims);
        let of = |by: &str| {
            json!({
                "level": "INFO", "event": "secret-revealed", "connection": "p#shop.example.com", "scope": "order.deleted",
                "by": by,
            })
        };
        assert_eq!(line(&claims), of("the holder of a token of 2026-11-21T01:49:41Z"));
        claims.sub = Some("ann".into());
        assert_eq!(line(&claims), of("ann"));
    }

    #[test]
    fn a_cursor_is_read_only_where_it_fits() {
        let key = WebhookPath::parse("p", "shop.example.com", None).unwrap().key;
        let (part, text) = (shard(&key), key.to_string());
        let cursor = write_cursor(part, Some(&text));
        assert_eq!(read_cursor(&cursor, None), Some((part, Some(text.clone()))));
        assert_eq!(read_cursor(&cursor, Some("p")), Some((part, Some(text.clone()))));
        assert_eq!(read_cursor(&write_cursor(3, None), Some("p")), Some((3, None)));
        assert_eq!(read_cursor(&cursor, Some("q")), None, "of another platform");
        assert_eq!(read_cursor(&write_cursor((part + 1) % SHARDS, Some(&text)), None), None, "in another part");
        for bad in
            ["", "?", "AAAA", &URL_SAFE_NO_PAD.encode("16:"), &URL_SAFE_NO_PAD.encode("x:"), &format!("{cursor}=")]
        {
            assert_eq!(read_cursor(bad, None), None, "{bad}");
        }
    }
}
