//! Owns the bodies of the fuzz targets: what is done with bytes of strangers, and what must hold whatever they are.
//! `main.rs` runs them on stable Rust with its own mutations, and `fuzz/` with cargo-fuzz.

use std::{collections::BTreeMap, sync::LazyLock};

use bytes::Bytes;
use commerce::{
    apps::Apps,
    change::{Change, State},
    connection::DeletePolicy,
    declaration::{Arrived, Declaration, Examined, Key, filter::Filter},
    entity::{EntityKey, EntityKind},
    envelope::{Content, Envelope, Sealed},
    http_call::{ApiResponse, Loopback},
    item::{Item, Projection, Writer},
    job::Job,
    json,
    key::ConnectionKey,
    keys::{BroughtKey, KeyRing},
    origin::Origin,
    platform::{
        Platform,
        delivery::Delivery,
        find,
        lists::read_page,
        mapping::{Incoming, Mapped, Meant, Resolved, Settled, deleted_fields, map_delivery, resolve},
        pull::{Access, Wanted},
        settings::settings,
    },
    platforms::PLATFORMS,
    request::{RawRequest, WebhookPath, decoded},
    scheme::jwt::{Algorithm, Hs256, Keys, PublicKeys, Rules},
    timestamp::Timestamp,
    transfer::Listing,
    verify::{Material, verify},
};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

/// A target.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Its body. It panics when what must hold does not.
    body: fn(&'static str, &[u8]),
    /// The input is a request in HTTP.
    pub http: bool,
    /// The most memory for each byte of an input, in bytes.
    pub memory: usize,
    /// The memory that any input may take, in KB.
    pub memory_of_none: usize,
    /// The most time for each byte of an input, as a multiple of the time in which a byte of plain JSON is read.
    pub time: u32,
    /// The bytes of plain JSON for whose time any input may take.
    pub time_of_none: usize,
}

impl Target {
    /// Runs the body with an input.
    pub fn run(&self, input: &[u8]) {
        (self.body)(self.name, input);
    }
}

const fn target(name: &'static str, body: fn(&'static str, &[u8])) -> Target {
    // The smallest objects of a tree take some 80 times their text.
    Target { name, body, http: false, memory: 120, memory_of_none: 1_024, time: 40, time_of_none: 64 * 1024 }
}

/// Returns all targets: those below, and one for the wire types of each platform in code.
pub fn targets() -> Vec<Target> {
    let in_code = PLATFORMS.iter().filter(|platform| TARGETS.iter().all(|target| target.name != platform.name));
    TARGETS.iter().copied().chain(in_code.map(|platform| target(platform.name, wire))).collect()
}

const TARGETS: &[Target] = &[
    Target { http: true, ..target("request", |_, input| request(input)) },
    Target { http: true, ..target("proofs", |_, input| proofs(input)) },
    target("tokens", |_, input| tokens(input)),
    Target { http: true, ..target("declared", |_, input| declared(input)) },
    // A message may unpack to 8 MiB, whatever its length.
    Target {
        time_of_none: 4 * 1024 * 1024,
        memory_of_none: 3 * 8 * 1024,
        ..target("envelope", |_, input| envelope(input))
    },
    target("job", |_, input| job(input)),
    // An expression has a budget of steps, whatever the length of its input.
    Target { time_of_none: 64 * 1024 * 1024, memory_of_none: 96 * 1024, ..target("custom", |_, input| custom(input)) },
    // The expressions of a declaration are compiled, each on a stack of its own.
    Target {
        time_of_none: 8 * 1024 * 1024,
        memory_of_none: 8 * 1024,
        ..target("declaration", |_, input| declaration(input))
    },
    Target { time_of_none: 64 * 1024 * 1024, memory_of_none: 96 * 1024, ..target("filter", |_, input| filter(input)) },
    Target {
        time_of_none: 8 * 1024 * 1024,
        memory_of_none: 8 * 1024,
        ..target("settings", |_, input| own_settings(input))
    },
    target("keys", |_, input| keys(input)),
    target("item", |_, input| item(input)),
];

/// The key ring that signed the samples in `events/`.
const RING: &str = "commerce-hooks-sample-key--public--never-deploy-it";
/// The time of everything: soon after the samples.
const NOW: Timestamp = Timestamp::from_micros(1_795_225_730_000_000);

fn ring() -> KeyRing {
    KeyRing::parse(RING).unwrap()
}

/// Splits a text at its first line break.
fn line(input: &[u8]) -> (&[u8], &[u8]) {
    let mut parts = input.splitn(2, |byte| *byte == b'\n');
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// Reads a request as it is written in HTTP: a line with method and target, lines of headers, an empty line, the body.
fn http(input: &[u8]) -> RawRequest {
    let (first, mut rest) = line(input);
    let (method, target) = text(first).split_once(' ').unwrap_or(("POST", "/"));
    let mut headers = HeaderMap::new();
    loop {
        let (header, behind) = line(rest);
        rest = behind;
        if header.is_empty() {
            break;
        }
        let mut parts = header.splitn(2, |byte| *byte == b':');
        let (name, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        // Lambda hands over the headers that HTTP allows, in no more than 10 KB.
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value.trim_ascii()))
            && headers.len() < 100
        {
            headers.append(name, value);
        }
    }
    RawRequest {
        method: method.parse().unwrap_or_default(),
        target: target.to_owned(),
        headers,
        body: Bytes::copy_from_slice(rest),
        received: NOW,
    }
}

/// Returns the path of a request, and its platform.
fn addressed(request: &RawRequest) -> Option<(WebhookPath, &'static Platform)> {
    let path = request.target.split('?').next().unwrap_or_default();
    let parts: Option<Vec<String>> = path.strip_prefix("/hooks/")?.split('/').map(decoded).collect();
    let path = match &parts?[..] {
        [platform, connection] => WebhookPath::parse(platform, connection, None),
        [platform, connection, generation] => WebhookPath::parse(platform, connection, Some(generation)),
        _ => None,
    }?;
    let platform = find(PLATFORMS, &path.key.platform)?;
    Some((path, platform))
}

/// A request that nothing has proven yet, and what a platform says of it.
fn request(input: &[u8]) {
    let request = http(input);
    if let Some((path, _)) = addressed(&request) {
        let again = path.to_string();
        let parts: Vec<&str> = again.split('/').skip(2).collect();
        let same = WebhookPath::parse(parts[0], parts[1], parts.get(2).copied());
        assert_eq!(same, Some(path), "a path is what it is written as");
    }
    for platform in PLATFORMS {
        let delivery: &dyn Delivery = platform.delivery;
        delivery.is_handshake(&request);
        let scope = delivery.scope(&request);
        assert!(scope.is_none_or(|scope| scope.len() <= 256), "a topic has a bound");
        let id = delivery.delivery_id(&request);
        assert!(id.is_none_or(|id| id.len() <= 512), "an id has a bound");
        let user = delivery.user(&request);
        assert!(user.is_none_or(|user| !user.chars().any(char::is_control)), "a user is one line");
    }
    let shown = format!("{request:?}");
    assert!(shown.len() < 200, "what is shown of a request does not grow with it");
}

/// The proofs of the platforms in code: with other keys nothing is proven, and what is proven is sealed as it came.
fn proofs(input: &[u8]) {
    let request = http(input);
    let Some((path, platform)) = addressed(&request) else { return };
    let apps = r#"{"bigcommerce":{"client_id":"i","client_secret":"the secret of an app that signs nothing here"}}"#;
    let apps = Apps::parse(apps, |_| true).unwrap();
    let app = apps.get(&path.key.platform);
    let other = KeyRing::parse("a key ring that signed nothing, 0123456789abcdef".replace([' ', ','], "-").as_str());
    let (other, brought) = (other.unwrap(), [BroughtKey::of("a key that nobody sends")]);
    let strange = Material { ring: &other, app, brought: Some(&brought), now: NOW };
    assert!(verify(platform.delivery, &path, &request, &strange).is_err(), "proven by keys that signed nothing");
    let own = ring();
    let keys = Material { ring: &own, app, brought: None, now: NOW };
    if let Ok(verified) = verify(platform.delivery, &path, &request, &keys) {
        assert_eq!(verified.body(), &request.body);
        let sealed = Sealed::from_verified(&verified, None);
        let envelope = Envelope::parse(sealed.text()).unwrap();
        assert_eq!(envelope.path(), path);
        if let Content::Delivery(body) = &envelope.content
            && let Ok(body) = body.unpack()
        {
            assert_eq!(body, request.body, "the queue has the bytes as they came");
        }
    }
}

/// A token of a stranger: no rules take it.
fn tokens(input: &[u8]) {
    static PUBLIC: LazyLock<PublicKeys> = LazyLock::new(|| {
        let jwk = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
        PublicKeys::from_jwks(&serde_json::from_str(jwk).unwrap()).unwrap()
    });
    let token = text(input);
    let secret = b"a secret that signed nothing, of enough bytes for all of the hashes";
    for algorithm in [Algorithm::HS256, Algorithm::HS512, Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA] {
        let rules = Rules {
            algorithm,
            issuer: Some("them"),
            audience: Some("us"),
            required: &["sub"],
            by_kid: true,
            max_lifetime_seconds: Some(600),
            max_age_seconds: Some(600),
        };
        assert!(rules.verify(token, &Keys::Secrets(vec![("k", secret)]), NOW).is_err());
        assert!(rules.verify(token, &Keys::Public(&PUBLIC), NOW).is_err());
    }
    let admin = Hs256 { audience: "commerce-hooks/admin", max_lifetime_seconds: 3600 };
    assert!(admin.verify(token, &KeyRing::parse("a-ring-that-signed-nothing-0123456789").unwrap(), NOW).is_err());
    let _ = commerce::scheme::jwt::unproven_claims(token);
    if let Ok(jwks) = json::value(input) {
        let _ = PublicKeys::from_jwks(&jwks);
    }
}

/// All presets, by their names.
static PRESETS: LazyLock<BTreeMap<String, Declaration>> = LazyLock::new(|| {
    let all: BTreeMap<String, Value> = serde_json::from_str(include_str!("../../presets.json")).unwrap();
    all.into_iter().map(|(name, preset)| (name, Declaration::read(preset).unwrap())).collect()
});

/// A declared sender's name, and a request in HTTP behind it: no preset takes what its keys did not sign.
fn declared(input: &[u8]) {
    let (name, rest) = line(input);
    let Some(declaration) = PRESETS.get(text(name)) else { return };
    let request = http(rest);
    let constants = ["verify_token", "token", "account", "api_key", "site", "webhook_id"];
    let constants = constants.map(|name| (name.to_owned(), "a constant".to_owned())).into();
    let arrived = Arrived {
        method: request.method.as_str(),
        target: &request.target,
        url: "https://hooks.example.com/hooks/custom/a",
        headers: &request.headers,
        body: &request.body,
        constants: &constants,
    };
    let keys = [Key { id: "k".to_owned(), text: "a secret that signed nothing at all, never".to_owned().into() }];
    let examined = declaration.examine(&arrived, &keys, NOW, None);
    assert!(!matches!(examined, Examined::Delivery(..)), "{} took what nobody signed", text(name));
    let mut steps = Vec::new();
    assert_eq!(declaration.examine(&arrived, &keys, NOW, Some(&mut steps)), examined);
    assert!(!steps.concat().contains("signed nothing at all"), "a step shows a key");
    let noted = declaration.noted(&arrived);
    let _ = declaration.extracted(&request.body, &noted);
}

/// A message of the queue: read, written and read again, it is the same.
fn envelope(input: &[u8]) {
    let Ok(envelope) = Envelope::parse(text(input)) else { return };
    let again = serde_json::to_string(&envelope).unwrap();
    assert_eq!(Envelope::parse(&again).as_ref(), Ok(&envelope));
    envelope.origin();
    if let Content::Delivery(body) = &envelope.content
        && let Ok(bytes) = body.unpack()
    {
        assert_eq!(commerce::envelope::Body::pack(&bytes).unpack().as_ref(), Ok(&bytes));
    }
}

fn job(input: &[u8]) {
    if let Some(job) = Job::parse(text(input)) {
        assert_eq!(Job::parse(&job.text()), Some(job));
    }
}

fn kinds() -> impl Iterator<Item = (String, EntityKind)> {
    let names = "customer product order coupon category price cart subscription request record";
    names.split(' ').filter_map(|name| Some((name.to_owned(), serde_json::from_value(name.into()).ok()?)))
}

/// Merges a change in all orders with itself and nothing, and makes an item of it.
fn merged(key: &ConnectionKey, kind: EntityKind, mapped: &Mapped) {
    let (Mapped::Change(id, change) | Mapped::IfKnown(id, change, _) | Mapped::PullWith(id, change)) = mapped else {
        return;
    };
    let once = State::default().merge(change).state;
    assert_eq!(once.merge(change).state, once, "a change counts once");
    if let Change::Upsert(upsert) = change {
        assert_eq!(upsert.content.hash(), upsert.content.clone().hash());
    }
    let key = EntityKey { connection: key.clone(), kind, id: id.clone() };
    written(&key, &once);
}

/// Writes an item for each policy, and reads it again.
fn written(key: &EntityKey, state: &State) {
    let fields = deleted_fields();
    for policy in [DeletePolicy::Mark, DeletePolicy::Remove, DeletePolicy::Update] {
        let writer = Writer { by: "m 1", origin: Origin::Webhook, received: Some(NOW), trace: None, now: NOW };
        let Ok(item) = Projection::new(policy, &fields).item(key, state, None, writer) else { continue };
        let read: Item = serde_json::from_str(&serde_json::to_string(&item).unwrap()).unwrap();
        assert_eq!(read, item, "an item is read as it was written");
        let removed = policy == DeletePolicy::Remove && state.is_deleted();
        if !item.truncated && !removed {
            assert_eq!(read.state(), *state, "the state is in its item");
        }
    }
}

/// What a platform sends: `map`, a topic and a body, or `pull`, a kind and answers, or `list`, a list and an answer.
fn wire(name: &'static str, input: &[u8]) {
    let Some(platform) = find(PLATFORMS, name) else { return };
    let Some(path) = WebhookPath::parse(name, "shop.example.com", None) else { return };
    let (first, rest) = line(input);
    let (what, of) = text(first).split_once(' ').unwrap_or_default();
    let answers = || -> Vec<ApiResponse> {
        let answer = |body: &[u8]| {
            let (status, body) = line(body);
            let status = text(status).parse().unwrap_or(200);
            ApiResponse { status, headers: HeaderMap::new(), body: Bytes::copy_from_slice(body) }
        };
        let separator = b"\n--\n";
        let mut found = Vec::new();
        let mut rest = rest;
        while let (Some(at), true) = (rest.windows(4).position(|window| window == separator), found.len() < 8) {
            found.push(answer(&rest[..at]));
            rest = &rest[at + 4..];
        }
        found.push(answer(rest));
        found
    };
    let none = Map::new();
    let access = Access { site: "https://shop.example.com", credentials: "{}", settings: &none };
    match what {
        "map" => {
            let Resolved::Entity(entity, action) = resolve(platform, of) else { return };
            let incoming = Incoming {
                connection: &path.key,
                scope: of,
                delivery_id: None,
                entity,
                action,
                body: rest,
                received: NOW,
            };
            if let Ok(mapped) = map_delivery(platform.mapping, &incoming) {
                merged(&path.key, entity, &mapped);
            }
            platform.mapping.recover(&incoming);
        }
        "pull" => {
            let (kind, id) = of.split_once(' ').unwrap_or((of, "1"));
            let (Some((_, entity)), Ok(id)) = (kinds().find(|(name, _)| name == kind), id.parse()) else { return };
            let Some(pull) = platform.pull else { return };
            let wanted = Wanted { access, entity, id: &id, at: NOW };
            let answers = answers();
            for count in 1..=answers.len() {
                pull.only_if_known(&wanted, &answers[..count]);
                if let Ok(commerce::platform::pull::Next::Done(mapped)) = pull.pull(&wanted, &answers[..count]) {
                    merged(&path.key, entity, &mapped);
                }
            }
        }
        "list" => {
            let Some(lists) = platform.lists else { return };
            let polled = kinds().filter_map(|(_, kind)| lists.poll(kind, None));
            let named = Listing { what: of.to_owned(), cursor: None, begun: None, pages: 0 };
            for listing in polled.chain([named]) {
                for answer in answers() {
                    let _ = read_page(lists, &access, &listing, &answer, NOW);
                    let _ = lists.read_count(&answer);
                }
            }
        }
        _ => {}
    }
}

/// A preset's name and a topic, and a body behind them.
fn custom(input: &[u8]) {
    let (first, rest) = line(input);
    let (name, scope) = text(first).split_once(' ').unwrap_or((text(first), "unnamed"));
    let Some(path) = WebhookPath::parse("custom", "a", None) else { return };
    let (Some(declaration), claims) = (PRESETS.get(name), BTreeMap::new()) else { return };
    let delivery =
        Settled { settings: &Map::new(), scope, delivery_id: None, claims: &claims, body: rest, received: NOW };
    let meant = commerce::platforms::custom::map_by(declaration, None, &delivery);
    if let Ok(Meant::Entity(kind, mapped)) = meant {
        merged(&path.key, kind, &mapped);
    }
}

/// A declaration that a client brings, and a request to it.
fn declaration(input: &[u8]) {
    let Ok(value) = json::value(input) else { return };
    let Ok(declaration) = Declaration::read(value) else { return };
    declaration.key_set();
    for key in ["a secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "-----BEGIN PUBLIC KEY-----", "{}", ""] {
        declaration.takes_key(key);
    }
    let request = http(b"POST /hooks/custom/a?x=1\nx-signature: 00\nauthorization: Bearer x\n\n{\"id\":1,\"a\":[{}]}");
    let constants = BTreeMap::new();
    let arrived = Arrived {
        method: "POST",
        target: &request.target,
        url: "https://hooks.example.com/hooks/custom/a",
        headers: &request.headers,
        body: &request.body,
        constants: &constants,
    };
    assert!(!matches!(declaration.examine(&arrived, &[], NOW, None), Examined::Delivery(..)), "proven without a key");
}

/// An expression, and an input behind it.
fn filter(input: &[u8]) {
    let (expression, rest) = line(input);
    let Ok(filter) = Filter::try_from(text(expression).to_owned()) else { return };
    if let Ok(value) = json::value(rest) {
        let _ = filter.run(value.clone(), Value::Null, 100);
        let _ = filter.one(value, Value::Null);
    }
}

/// The settings of a connection, as a client sends them: a platform, and a body behind it.
fn own_settings(input: &[u8]) {
    let (name, body) = line(input);
    for platform in PLATFORMS.iter().filter(|platform| platform.name == text(name)) {
        let Some(path) = WebhookPath::parse(platform.name, "acme", None) else { return };
        let _ = settings(platform, &path.key, body, Loopback::Refused);
    }
}

/// The two secrets that operators write.
fn keys(input: &[u8]) {
    if let Ok(ring) = KeyRing::parse(text(input)) {
        assert!(ring.iter().all(|key| key.secret().len() >= 32));
        let shown = format!("{ring:?}");
        assert!(ring.iter().all(|key| !shown.contains(text(key.secret()))), "a key is printed");
    }
    let _ = Apps::parse(text(input), |_| true);
}

/// An item of the table, of any release.
fn item(input: &[u8]) {
    let Ok(item) = serde_json::from_slice::<Item>(input) else { return };
    let state = item.state();
    item.size();
    let Some(key) = WebhookPath::parse("woocommerce", "shop.example.com", None) else { return };
    let id = "1".parse();
    if let Ok(id) = id {
        written(&EntityKey { connection: key.key, kind: EntityKind::Order, id }, &state);
    }
    assert_eq!(state.clone().join(state.clone()), state, "a state joined with itself is itself");
}
