//! The routes of the admin interface, as data. The router goes by this table, and the served description is made from
//! it.

use commerce::{platform::Platform, request::decoded};
use http::Method;
use serde_json::{Value, json};

use crate::problem::Problem;

/// The permissions that a token may have, of which each route needs one.
pub const PERMISSIONS: [&str; 4] = [READ, WRITE, REVEAL, ROTATE];
const READ: &str = "read";
const WRITE: &str = "write";
const REVEAL: &str = "reveal";
const ROTATE: &str = "rotate";

/// The handler of a route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Handler {
    List,
    Rotation,
    Rotate,
    Description,
    Endpoints,
    MakeEndpoint,
    TryDeclaration,
    /// The handler of a route about one endpoint.
    Endpoint(EndpointHandler),
    /// The handler of a route about one connection.
    Connection(ConnectionHandler),
}

/// The handler of a route about one endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum EndpointHandler {
    Show,
    Set,
    Remove,
    RenewSecret,
}

/// The handler of a route about one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ConnectionHandler {
    Show,
    Connect,
    Disconnect,
    Confirm,
    Pause,
    Resume,
    Revoke,
    Webhooks,
    Plan,
    Reconcile,
    Poll,
    Import,
    Polls,
    Settings,
    SetSettings,
    Presets,
    SetPresets,
    Redact,
    Reveal,
    Snapshot,
    Verification,
    Verify,
}

/// The place of a parameter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    Path,
    Query,
}

/// A parameter. Those in the path are required, those in the query are not.
#[cfg_attr(not(feature = "schema"), allow(dead_code, reason = "the description shows them"))]
pub(crate) struct Parameter {
    pub name: &'static str,
    pub place: Place,
    pub description: &'static str,
    pub schema: fn(&[Platform]) -> Value,
}

/// The body of a request: the name of its schema, and `true` when it is required.
#[cfg_attr(not(feature = "schema"), allow(dead_code, reason = "the description shows them"))]
pub(crate) struct Body {
    pub schema: &'static str,
    pub required: bool,
}

/// One method of one path.
#[cfg_attr(not(feature = "schema"), allow(dead_code, reason = "the description shows them"))]
pub(crate) struct Route {
    pub method: &'static str,
    /// The path, in which segments in braces are parameters.
    pub path: &'static str,
    /// The operation's name.
    pub id: &'static str,
    /// The permission that the token must have.
    pub permission: &'static str,
    pub summary: &'static str,
    pub description: &'static str,
    pub parameters: &'static [Parameter],
    pub body: Option<Body>,
    /// The status of success.
    pub status: u16,
    /// The name of the answer's schema.
    pub answer: &'static str,
    /// The statuses of this route's problems, beside those of all routes.
    pub problems: &'static [u16],
    pub handler: Handler,
}

const PLATFORM: Parameter = Parameter {
    name: "platform",
    place: Place::Path,
    description: "The platform's name.",
    schema: |platforms| json!({ "type": "string", "enum": names(platforms) }),
};
const CONNECTION: Parameter = Parameter {
    name: "connection",
    place: Place::Path,
    description: "The connection's id at its platform.",
    schema: |_| json!({ "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$" }),
};
const ENDPOINT: Parameter = Parameter {
    name: "endpoint",
    place: Place::Path,
    description: "The endpoint's id.",
    schema: |_| json!({ "type": "string", "pattern": "^ep-[0-9a-f]{16}$" }),
};
const FORCE: Parameter = Parameter {
    name: "force",
    place: Place::Query,
    description: "`true`: the store is not asked, and its webhooks stay behind.",
    schema: |_| json!({ "type": "boolean", "default": false }),
};
/// The most connections on a page of the list.
pub(crate) const MAX_LIMIT: u32 = 100;

const ONE: &[Parameter] = &[PLATFORM, CONNECTION];
const LISTING: &[Parameter] = &[
    Parameter { place: Place::Query, description: "Only connections of this platform.", ..PLATFORM },
    Parameter {
        name: "limit",
        place: Place::Query,
        description: "How many connections the page holds at most.",
        schema: |_| json!({ "type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": MAX_LIMIT }),
    },
    Parameter {
        name: "cursor",
        place: Place::Query,
        description: "`next` of the page before, asked for with the same `platform`.",
        schema: |_| json!({ "type": "string" }),
    },
];

fn names(platforms: &[Platform]) -> Vec<&'static str> {
    platforms.iter().map(|platform| platform.name).collect()
}

/// The common part of the routes that show a connection.
const LOOK: Route = Route {
    method: "GET",
    path: "",
    id: "",
    permission: READ,
    summary: "",
    description: "",
    parameters: ONE,
    body: None,
    status: 200,
    answer: "Connection",
    problems: &[404],
    handler: Handler::Connection(ConnectionHandler::Show),
};

/// The common part of the routes that change a connection and call nobody outside.
const CHANGE: Route = Route { method: "POST", permission: WRITE, problems: &[404, 409], ..LOOK };

/// All routes.
pub(crate) static ROUTES: &[Route] = &[
    Route {
        path: "/admin/connections",
        id: "listConnections",
        summary: "Lists connections",
        description: "The order means nothing. A page may hold fewer connections than its limit, or none, and the list still goes on: it ends where `next` is null.",
        parameters: LISTING,
        answer: "ConnectionList",
        problems: &[422],
        handler: Handler::List,
        ..LOOK
    },
    Route {
        path: "/admin/connections/{platform}/{connection}",
        id: "showConnection",
        summary: "Shows a connection",
        description: "The answer has its webhooks as they are at the store.",
        ..LOOK
    },
    Route {
        method: "PUT",
        path: "/admin/connections/{platform}/{connection}",
        id: "connect",
        summary: "Connects a store",
        description: "Proves the credentials by a call to the store, keeps them encrypted, and makes the webhooks. The same request again changes nothing. A setting that is left out becomes its default.",
        body: Some(Body { schema: "NewConnection", required: true }),
        problems: &[404, 409, 422, 502],
        handler: Handler::Connection(ConnectionHandler::Connect),
        ..CHANGE
    },
    Route {
        method: "DELETE",
        path: "/admin/connections/{platform}/{connection}",
        id: "disconnect",
        summary: "Disconnects a store",
        description: "Removes its webhooks, then its credentials. Deliveries that arrive later are ignored.",
        parameters: &[PLATFORM, CONNECTION, FORCE],
        problems: &[404, 409, 422, 502],
        handler: Handler::Connection(ConnectionHandler::Disconnect),
        ..CHANGE
    },
    Route {
        path: "/admin/connections/{platform}/{connection}/confirm",
        id: "confirm",
        summary: "Confirms a store that has connected itself",
        description: "Where anybody may install the app, the API of a store that nobody has confirmed is called less often, and no more than the first thousand of each entity are fetched. The same request again changes nothing.",
        handler: Handler::Connection(ConnectionHandler::Confirm),
        ..CHANGE
    },
    Route {
        path: "/admin/connections/{platform}/{connection}/pause",
        id: "pause",
        summary: "Pauses a connection",
        description: "Its webhooks are switched off, nothing is polled, and deliveries that still arrive are ignored.",
        handler: Handler::Connection(ConnectionHandler::Pause),
        ..CHANGE
    },
    Route {
        path: "/admin/connections/{platform}/{connection}/resume",
        id: "resume",
        summary: "Resumes a connection that is paused",
        description: "Its webhooks are switched on again, and what was missed is fetched.",
        handler: Handler::Connection(ConnectionHandler::Resume),
        ..CHANGE
    },
    Route {
        path: "/admin/connections/{platform}/{connection}/revoke",
        id: "revoke",
        summary: "Revokes a connection's webhook secrets",
        description: "Raises its generation: its webhooks get another address and other secrets, and what the former ones sign no longer counts. The request names the generation that is revoked, so that the same request again changes nothing.",
        body: Some(Body { schema: "Revocation", required: true }),
        problems: &[404, 409, 422],
        handler: Handler::Connection(ConnectionHandler::Revoke),
        ..CHANGE
    },
    Route {
        path: "/admin/connections/{platform}/{connection}/subscriptions",
        id: "listSubscriptions",
        summary: "Lists a connection's webhooks with their health",
        description: "The answer has the webhooks as they are at the store, beside what is remembered of them.",
        answer: "SubscriptionList",
        handler: Handler::Connection(ConnectionHandler::Webhooks),
        ..LOOK
    },
    Route {
        path: "/admin/connections/{platform}/{connection}/plan",
        id: "plan",
        summary: "Shows what reconciling would do",
        description: "Asks the store for its webhooks, and changes nothing. A webhook that was switched off again a short while ago may be left off when the plan is run.",
        answer: "Plan",
        problems: &[404, 409, 422, 502],
        handler: Handler::Connection(ConnectionHandler::Plan),
        ..LOOK
    },
    Route {
        path: "/admin/connections/{platform}/{connection}/reconcile",
        id: "reconcile",
        summary: "Reconciles a connection's webhooks",
        description: "Makes, changes and removes webhooks until they are as they should be, and answers with what was done. The schedule does the same.",
        answer: "Plan",
        problems: &[404, 409, 422, 502],
        handler: Handler::Connection(ConnectionHandler::Reconcile),
        ..CHANGE
    },
    Route {
        path: "/admin/connections/{platform}/{connection}/poll",
        id: "poll",
        summary: "Fetches what has changed",
        description: "Begins a fetch of one kind of entity, or of all that can be polled. A fetch that is under way is not begun twice.",
        body: Some(Body { schema: "Poll", required: false }),
        status: 202,
        answer: "Begun",
        problems: &[404, 409, 422],
        handler: Handler::Connection(ConnectionHandler::Poll),
        ..CHANGE
    },
    Route {
        path: "/admin/connections/{platform}/{connection}/import",
        id: "import",
        summary: "Fetches everything",
        description: "Begins a fetch of one kind of entity, or of all that can be polled. A fetch that is under way is not begun twice.",
        body: Some(Body { schema: "Import", required: false }),
        status: 202,
        answer: "Begun",
        problems: &[404, 409, 422],
        handler: Handler::Connection(ConnectionHandler::Import),
        ..CHANGE
    },
    Route {
        path: "/admin/connections/{platform}/{connection}/polls",
        id: "listPolls",
        summary: "Shows the progress of fetching",
        description: "The answer has the fetches that are under way, and the drift that they found.",
        answer: "PollList",
        handler: Handler::Connection(ConnectionHandler::Polls),
        ..LOOK
    },
    Route {
        path: "/admin/connections/{platform}/{connection}/settings",
        id: "showSettings",
        summary: "Shows a connection's settings",
        description: "The answer has everything but the site and the credentials.",
        answer: "Settings",
        handler: Handler::Connection(ConnectionHandler::Settings),
        ..LOOK
    },
    Route {
        method: "PUT",
        path: "/admin/connections/{platform}/{connection}/settings",
        id: "setSettings",
        summary: "Sets a connection's settings",
        description: "The request has all of them: a setting that is left out becomes its default, but for what connecting found out. Site and credentials stay as they are.",
        body: Some(Body { schema: "Settings", required: true }),
        answer: "Settings",
        problems: &[404, 409, 422],
        handler: Handler::Connection(ConnectionHandler::SetSettings),
        ..CHANGE
    },
    Route {
        path: "/admin/connections/{platform}/{connection}/presets",
        id: "showPresets",
        summary: "Shows a connection's presets",
        description: "A preset says how to read a topic that only this connection's conventions explain.",
        answer: "Presets",
        handler: Handler::Connection(ConnectionHandler::Presets),
        ..LOOK
    },
    Route {
        method: "PUT",
        path: "/admin/connections/{platform}/{connection}/presets",
        id: "setPresets",
        summary: "Sets a connection's presets",
        description: "The request has all of them. The other settings stay as they are.",
        body: Some(Body { schema: "Presets", required: true }),
        answer: "Presets",
        problems: &[404, 409, 422],
        handler: Handler::Connection(ConnectionHandler::SetPresets),
        ..CHANGE
    },
    Route {
        path: "/admin/connections/{platform}/{connection}/redact",
        id: "redact",
        summary: "Redacts a person",
        description: "Drops the fields of one person, named by the customer's id, an e-mail address or both, from customers, orders, carts, subscriptions, requests and records, and removes the dead letters that name him. Ids, amounts and dates stay. What was made before the request is redacted whenever it comes again. The same request again shows the receipt, and begins anew only with `again`.",
        body: Some(Body { schema: "Person", required: true }),
        status: 202,
        answer: "RedactionReceipt",
        problems: &[404, 409, 422],
        handler: Handler::Connection(ConnectionHandler::Redact),
        ..CHANGE
    },
    Route {
        path: "/admin/connections/{platform}/{connection}/snapshot",
        id: "snapshot",
        summary: "Tells readers of every entity",
        description: "Puts an event of the kind `snapshot` on the bus of change events for each entity, or each of one kind, 50 a second at most, so that a new reader need not read the table. Needs `ChangeEvents`.",
        body: Some(Body { schema: "SnapshotRequest", required: false }),
        status: 202,
        answer: "SnapshotBegun",
        problems: &[404, 409, 422],
        handler: Handler::Connection(ConnectionHandler::Snapshot),
        ..CHANGE
    },
    Route {
        path: "/admin/connections/{platform}/{connection}/verify",
        id: "verify",
        summary: "Compares what is here with the store",
        description: "Begins to compare entities with the store's own API, field by field, within the connection's budget of calls: a sample, or with `full` all of them. With `repair`, what differs is fetched. While a verification is under way, the same request shows its report.",
        body: Some(Body { schema: "VerificationRequest", required: false }),
        status: 202,
        answer: "VerificationReport",
        problems: &[404, 409, 422],
        handler: Handler::Connection(ConnectionHandler::Verify),
        ..CHANGE
    },
    Route {
        path: "/admin/connections/{platform}/{connection}/verification",
        id: "showVerification",
        summary: "Shows the last verification",
        description: "The report says what was compared, what differs, and what could not be compared. It has no values, because they can be personal; `tools verify` prints them.",
        answer: "VerificationReport",
        handler: Handler::Connection(ConnectionHandler::Verification),
        ..LOOK
    },
    Route {
        path: "/admin/connections/{platform}/{connection}/reveal",
        id: "reveal",
        permission: REVEAL,
        summary: "Reveals secrets that are entered by hand",
        description: "Answers with the delivery URL and the secrets, only for connections whose webhooks the registrar does not make. The log names each secret that is revealed, and whose token asked for it.",
        body: Some(Body { schema: "RevealRequest", required: false }),
        answer: "Revealed",
        problems: &[404, 409, 422],
        handler: Handler::Connection(ConnectionHandler::Reveal),
        ..CHANGE
    },
    Route {
        path: "/admin/rotation",
        id: "showRotation",
        summary: "Shows the rotation of the signing keys",
        description: "The answer says which stage it has reached, and what it waits for.",
        parameters: &[],
        answer: "Rotation",
        handler: Handler::Rotation,
        ..LOOK
    },
    Route {
        path: "/admin/rotation",
        id: "rotate",
        permission: ROTATE,
        summary: "Rotates the signing keys",
        description: "Begins a rotation, or takes the one that is under way as far as it can go now; the schedule does the rest. No delivery is refused meanwhile. With `retire`, a former key is removed at once, whatever is still signed with it: for a key that has leaked.",
        parameters: &[],
        body: Some(Body { schema: "Retirement", required: false }),
        answer: "Rotation",
        problems: &[409, 422],
        handler: Handler::Rotate,
        ..CHANGE
    },
    Route {
        path: "/admin/endpoints",
        id: "listEndpoints",
        summary: "Lists the endpoints that changes are sent to",
        description: "The answer has no secrets.",
        parameters: &[],
        answer: "EndpointList",
        problems: &[],
        handler: Handler::Endpoints,
        ..LOOK
    },
    Route {
        path: "/admin/endpoints",
        id: "makeEndpoint",
        permission: REVEAL,
        summary: "Makes an endpoint that changes are sent to",
        description: "The answer has the secret that deliveries are signed with, which no other answer has. Each request makes another endpoint. Needs `WebhooksOut`.",
        parameters: &[],
        body: Some(Body { schema: "EndpointRequest", required: true }),
        status: 201,
        answer: "NewEndpoint",
        problems: &[409, 422],
        handler: Handler::MakeEndpoint,
        ..CHANGE
    },
    Route {
        path: "/admin/endpoints/{endpoint}",
        id: "showEndpoint",
        summary: "Shows an endpoint",
        description: "The answer has no secret.",
        parameters: &[ENDPOINT],
        answer: "Endpoint",
        handler: Handler::Endpoint(EndpointHandler::Show),
        ..LOOK
    },
    Route {
        method: "PUT",
        path: "/admin/endpoints/{endpoint}",
        id: "setEndpoint",
        permission: REVEAL,
        summary: "Sets an endpoint's address and filter",
        description: "The request has all of them: what is left out becomes its default. What comes while an endpoint is paused waits for three days.",
        parameters: &[ENDPOINT],
        body: Some(Body { schema: "EndpointRequest", required: true }),
        answer: "Endpoint",
        problems: &[404, 409, 422],
        handler: Handler::Endpoint(EndpointHandler::Set),
        ..CHANGE
    },
    Route {
        method: "DELETE",
        path: "/admin/endpoints/{endpoint}",
        id: "removeEndpoint",
        summary: "Removes an endpoint",
        description: "What is on its way to it is dropped.",
        parameters: &[ENDPOINT],
        answer: "Endpoint",
        problems: &[404],
        handler: Handler::Endpoint(EndpointHandler::Remove),
        ..CHANGE
    },
    Route {
        path: "/admin/endpoints/{endpoint}/secret",
        id: "renewSecret",
        permission: REVEAL,
        summary: "Makes a new secret for an endpoint",
        description: "For a day, deliveries are signed with the former one as well. The secret is in this answer, and in no other.",
        parameters: &[ENDPOINT],
        answer: "NewEndpoint",
        handler: Handler::Endpoint(EndpointHandler::RenewSecret),
        ..CHANGE
    },
    Route {
        path: "/admin/try",
        id: "tryDeclaration",
        permission: READ,
        summary: "Tries a declaration on a recorded request",
        description: "The answer has each step of the proof, what was found, and the entities that come of it. Nothing is stored, no key is shown, and nobody is called.",
        parameters: &[],
        body: Some(Body { schema: "Trial", required: true }),
        answer: "TrialResult",
        problems: &[422],
        handler: Handler::TryDeclaration,
        ..CHANGE
    },
    Route {
        path: "/admin/openapi.json",
        id: "describe",
        summary: "Shows this description",
        description: "The answer is the OpenAPI document that this interface is described by.",
        parameters: &[],
        answer: "Description",
        problems: &[],
        handler: Handler::Description,
        ..LOOK
    },
];

/// The decoded values of a path's parameters, by their names.
pub(crate) type Parameters = Vec<(&'static str, String)>;

/// Finds the route of a request, and reads the parameters in its path.
pub(crate) fn find(method: &Method, path: &str) -> Result<(&'static Route, Parameters), Problem> {
    let here = || ROUTES.iter().filter_map(|route| Some((route, matched(route.path, path)?)));
    here().find(|(route, _)| route.method == method.as_str()).ok_or_else(|| {
        let allowed: Vec<_> = here().map(|(route, _)| route.method).collect();
        if allowed.is_empty() {
            Problem::NotFound("there is no such route; GET /admin/openapi.json describes those that there are".into())
        } else {
            Problem::Method(allowed)
        }
    })
}

fn matched(template: &'static str, path: &str) -> Option<Parameters> {
    let (mut wanted, mut given) = (template.split('/'), path.split('/'));
    let mut parameters = Vec::new();
    loop {
        let (wanted, given) = match (wanted.next(), given.next()) {
            (None, None) => return Some(parameters),
            (wanted, given) => (wanted?, decoded(given?)?),
        };
        match wanted.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
            Some(name) => parameters.push((name, given)),
            None if wanted == given => {}
            None => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_path_is_matched_segment_by_segment() {
        let template = "/admin/connections/{platform}/{connection}";
        let found = |path: &str| matched(template, path).map(|parts| parts.into_iter().map(|part| part.1).collect());
        let two = |one: &str, other: &str| Some(vec![one.to_owned(), other.to_owned()]);
        assert_eq!(found("/admin/connections/p/shop.example.com"), two("p", "shop.example.com"));
        assert_eq!(found("/admin/connections/p/a%2Db%C3%A9"), two("p", "a-bé"));
        // An encoded slash separates nothing.
        assert_eq!(found("/admin/connections/p/a%2Fpause"), two("p", "a/pause"));
        for other in ["", "/", "/admin/connections/p", "/admin/connections/p/c/", "/admin/connections/p/c/pause"] {
            assert_eq!(found(other), None::<Vec<_>>, "{other}");
        }
        assert_eq!(found("/admin/connections/p/%zz"), None::<Vec<_>>);
    }

    #[test]
    fn every_route_declares_what_is_in_its_path() {
        for route in ROUTES {
            let in_path = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
            let declared = route.parameters.iter().filter(|parameter| parameter.place == Place::Path);
            assert!(in_path.eq(declared.map(|parameter| parameter.name)), "{} {}", route.method, route.path);
            assert!(PERMISSIONS.contains(&route.permission), "{}", route.id);
        }
    }

    #[test]
    fn another_method_is_told_which_there_are() {
        let method = |method: &str| Method::from_bytes(method.as_bytes()).unwrap();
        assert!(matches!(find(&method("GET"), "/admin/rotation"), Ok((route, _)) if route.id == "showRotation"));
        let allowed = |path: &str| match find(&method("PATCH"), path) {
            Err(Problem::Method(allowed)) => allowed,
            _ => Vec::new(),
        };
        assert_eq!(allowed("/admin/rotation"), ["GET", "POST"]);
        assert_eq!(allowed("/admin/connections/p/c"), ["GET", "PUT", "DELETE"]);
        assert!(matches!(find(&method("GET"), "/admin"), Err(Problem::NotFound(_))));
    }
}
