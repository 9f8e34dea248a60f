//! Simulated platforms. Each has an API with state and webhooks that behave like the real ones, faults included. They
//! stand in for the only parts that cannot run on one machine.
//!
//! [`Simulator`] is what all of them can do, so one test drives them all. Each keeps its deliveries in an outbox, which
//! the network may lose, shuffle and repeat, and sends again by its platform's own rules.

pub mod bigcommerce;
pub mod cloudblue;
pub mod directscale;
pub mod shopify;
pub mod woocommerce;

use std::{collections::BTreeMap, sync::Arc};

use axum::{Router, body::to_bytes, extract::State, response::IntoResponse};
use bytes::Bytes;
use cloud::outbound::{Guarded, Outbound};
use commerce::{
    entity::EntityKind,
    http_call::{ApiRequest, ApiResponse, Fault},
    timestamp::Timestamp,
};
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use rand::rngs::StdRng;
use serde_json::Value;

/// One HTTP request of a platform.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// `POST`, or `GET` if the platform can.
    pub method: Method,
    /// The destination.
    pub url: String,
    /// The headers, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
    /// The number of earlier attempts.
    pub attempts: u32,
}

/// The way that the platforms' requests take to the receiver.
pub trait Wire: Send + Sync {
    /// Sends a delivery and returns the status, or 0 if nobody answered.
    fn send(&self, delivery: Delivery) -> BoxFuture<'_, u16>;
}

/// The way over HTTP.
pub struct Http(pub Guarded);

impl Wire for Http {
    fn send(&self, delivery: Delivery) -> BoxFuture<'_, u16> {
        Box::pin(async move {
            let Delivery { method, url, headers, body, .. } = delivery;
            let mut request = ApiRequest { method, url: url.parse().unwrap(), headers: HeaderMap::new(), body };
            for (name, value) in headers {
                let name: http::HeaderName = name.parse().unwrap();
                request.headers.insert(name, value.parse().unwrap());
            }
            self.0.call(request).await.map_or(0, |answer| answer.status)
        })
    }
}

/// The source of the time, for timestamps and rate limits.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// A fault that a platform's API shows once, in place of an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Trouble {
    /// 429 with the platform's own headers, which ask the caller to wait for so many seconds.
    TooMany(u32),
    /// 500 with an HTML page.
    Broken,
    /// A 404 that is not the platform's own.
    NotFoundPage,
    /// The API does the call, but its answer is lost.
    AnswerLost,
    /// No answer in time; the API did nothing.
    Slow,
    /// No fault.
    None,
}

/// The truth about an entity at the platform.
#[derive(Clone, Debug, PartialEq)]
pub enum Truth {
    /// The entity as the API shows it.
    Api,
    /// The entity as the API shows it, with these canonical fields, which only deliveries told.
    With(Value),
    /// The entity as the API shows it, which need not be known here.
    IfKnown,
    /// A deleted entity.
    Gone,
    /// A deleted entity with these canonical fields, which only deliveries told.
    GoneWith(Value),
    /// An entity that the API does not show, with these canonical fields. Its other fields may be anything.
    Fields(Value),
}

/// The abilities of every simulated platform.
pub trait Simulator: Send + Sync {
    /// Returns the platform's name.
    fn platform(&self) -> &'static str;

    /// Returns the connection's id.
    fn connection(&self) -> String;

    /// Returns the body of the `PUT` that connects the store if its API is at `site`. The body has all that a pull
    /// needs.
    fn settings(&self, site: &str) -> Value;

    /// Enters the webhooks by hand, as a merchant would, with their destination and secret. The secret depends on the
    /// topic if the platform has one for each.
    fn subscribe(&self, delivery_url: &str, secret: &dyn Fn(&str) -> String);

    /// Makes one change, as a shopper or a merchant would, and puts the deliveries about it into the outbox.
    fn change(&self, random: &mut StdRng);

    /// Takes everything out of the outbox, and the retries that are due.
    fn outbox(&self) -> Vec<Delivery>;

    /// Tells the platform the answer to one of its deliveries (0 for none). By its own rules, the platform puts a
    /// delivery that was not accepted into the outbox again, or loses it.
    fn answered(&self, delivery: &Delivery, status: u16);

    /// Returns whether the platform sends refused deliveries again. If it does not, a refusal is a loss.
    fn sends_again(&self) -> bool {
        true
    }

    /// Answers a call of the platform's API.
    fn answer<'a>(&'a self, request: &'a ApiRequest) -> BoxFuture<'a, Result<ApiResponse, Fault>>;

    /// Makes the next calls of the API fail, each in one of these ways.
    fn trouble(&self, troubles: &[Trouble]);

    /// Returns every entity that has ever existed, with the truth about it now.
    fn entities(&self) -> Vec<(EntityKind, String, Truth)>;

    /// Returns the method and path of each call of the API since the last time, or the operation of a call in GraphQL:
    /// `query Products`.
    fn calls(&self) -> Vec<String>;
}

/// A simulator around another one. It answers the calls of the API itself, and leaves everything else to the inner one.
pub trait Wrapper: Send + Sync {
    /// Returns the simulator inside.
    fn inner(&self) -> &dyn Simulator;

    /// Answers a call of the API.
    fn respond<'a>(&'a self, request: &'a ApiRequest) -> BoxFuture<'a, Result<ApiResponse, Fault>>;
}

impl<W: Wrapper> Simulator for W {
    fn platform(&self) -> &'static str {
        self.inner().platform()
    }

    fn connection(&self) -> String {
        self.inner().connection()
    }

    fn settings(&self, site: &str) -> Value {
        self.inner().settings(site)
    }

    fn subscribe(&self, delivery_url: &str, secret: &dyn Fn(&str) -> String) {
        self.inner().subscribe(delivery_url, secret);
    }

    fn change(&self, random: &mut StdRng) {
        self.inner().change(random);
    }

    fn outbox(&self) -> Vec<Delivery> {
        self.inner().outbox()
    }

    fn answered(&self, delivery: &Delivery, status: u16) {
        self.inner().answered(delivery, status);
    }

    fn sends_again(&self) -> bool {
        self.inner().sends_again()
    }

    fn answer<'a>(&'a self, request: &'a ApiRequest) -> BoxFuture<'a, Result<ApiResponse, Fault>> {
        self.respond(request)
    }

    fn trouble(&self, troubles: &[Trouble]) {
        self.inner().trouble(troubles);
    }

    fn entities(&self) -> Vec<(EntityKind, String, Truth)> {
        self.inner().entities()
    }

    fn calls(&self) -> Vec<String> {
        self.inner().calls()
    }
}

/// Returns one simulator of every platform.
pub fn simulators(clock: Clock) -> Vec<Arc<dyn Simulator>> {
    struct Nowhere;
    impl Wire for Nowhere {
        // A platform that pings while it answers gets 200.
        fn send(&self, _: Delivery) -> BoxFuture<'_, u16> {
            Box::pin(async { 200 })
        }
    }
    vec![
        Arc::new(bigcommerce::Simulator::new(Arc::clone(&clock), true)),
        Arc::new(cloudblue::Connect::new(Arc::clone(&clock))),
        Arc::new(directscale::DirectScale::new(Arc::clone(&clock))),
        Arc::new(shopify::Shop::new(Arc::clone(&clock))),
        Arc::new(woocommerce::Store::new(Arc::new(Nowhere), "ck_1", "cs_1").with_clock(clock)),
    ]
}

/// Lets a simulator listen on a port of its own, and returns its address.
pub async fn listen(simulator: Arc<dyn Simulator>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(over_http).with_state(simulator);
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

async fn over_http(State(simulator): State<Arc<dyn Simulator>>, request: axum::extract::Request) -> impl IntoResponse {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let url = format!("http://platform{}", parts.uri).parse().unwrap();
    let request = ApiRequest { method: parts.method, url, headers: parts.headers, body };
    match simulator.answer(&request).await {
        Ok(answer) => (StatusCode::from_u16(answer.status).unwrap(), answer.headers, answer.body),
        Err(_) => (StatusCode::GATEWAY_TIMEOUT, HeaderMap::new(), Bytes::new()),
    }
}

/// Returns a JSON answer.
pub fn json_answer(status: u16, body: &Value) -> ApiResponse {
    let headers = HeaderMap::from_iter([(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    ApiResponse { status, headers, body: Bytes::from(body.to_string()) }
}

/// Returns a page that is not JSON.
pub fn page(status: u16, text: &'static str) -> ApiResponse {
    ApiResponse { status, headers: HeaderMap::new(), body: Bytes::from_static(text.as_bytes()) }
}

/// Returns the decoded query of a call.
pub fn query(request: &ApiRequest) -> BTreeMap<String, String> {
    request.url.query_pairs().into_owned().collect()
}

/// Returns the operation of a call in GraphQL, with its name: `query Products`.
pub fn operation(request: &ApiRequest) -> Option<String> {
    let call: Value = serde_json::from_slice(&request.body).ok()?;
    let text = call["query"].as_str()?;
    let operation = text.split(['(', '{']).next()?.trim();
    Some(operation.to_owned())
}

/// Returns whether a call changes nothing: a `GET`, or a query in GraphQL.
pub fn reads(request: &ApiRequest) -> bool {
    request.method == Method::GET || operation(request).is_some_and(|operation| operation.starts_with("query "))
}

/// Returns the calls, of those that a simulator returns, that may change something.
pub fn changing(calls: &[String]) -> Vec<&String> {
    calls.iter().filter(|call| !call.starts_with("GET ") && !call.starts_with("query ")).collect()
}

/// Returns the decoded segments of a call's path, without empty ones.
pub fn segments(request: &ApiRequest) -> Vec<String> {
    let decode = |segment: &str| {
        // A segment decodes like a query, except for plus signs.
        let query = format!("x={}", segment.replace('+', "%2B"));
        url::form_urlencoded::parse(query.as_bytes()).next().map(|(_, value)| value.into_owned()).unwrap_or_default()
    };
    request.url.path_segments().into_iter().flatten().filter(|part| !part.is_empty()).map(decode).collect()
}
