//! Simulated platforms: each an API with state and hooks that behave like the real one's, in their faults too. They stand where no
//! real part can be had on one machine.
//!
//! [`Simulator`] is what all of them can do, so that one test drives them all. Each keeps what it delivers in an outbox, for the
//! network to lose, shuffle and repeat, and sends again by its platform's own rules.

pub mod bigcommerce;
pub mod cloudblue;
pub mod directscale;
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
    /// `POST`, or `GET` where the platform can.
    pub method: Method,
    /// Where to.
    pub url: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
    /// How often it was tried before.
    pub attempts: u32,
}

/// How the platforms' requests get to the receiver.
pub trait Wire: Send + Sync {
    /// Sends one, and gives the status; 0 when nobody answered.
    fn send(&self, delivery: Delivery) -> BoxFuture<'_, u16>;
}

/// Over HTTP.
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

/// The time, for timestamps and rate limits.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What a platform's API does instead of answering, once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Trouble {
    /// 429 with the platform's own headers, to wait for so many seconds.
    TooMany(u32),
    /// 500 with a page.
    Broken,
    /// A 404 that is not the platform's own.
    NotFoundPage,
    /// The call is done, but its answer is lost.
    AnswerLost,
    /// No answer within the caller's patience; nothing was done.
    Slow,
    /// Nothing yet.
    None,
}

/// What is true of an entity at the platform.
#[derive(Clone, Debug, PartialEq)]
pub enum Truth {
    /// It is as the API shows it.
    Api,
    /// It is as the API shows it, and these canonical fields are so, which only deliveries told.
    With(Value),
    /// If it was ever known it is as the API shows it, but nobody need know it.
    IfKnown,
    /// It is gone.
    Gone,
    /// It is gone, and these canonical fields are so, which only deliveries told.
    GoneWith(Value),
    /// The API does not show it; these of its canonical fields are so, and the others are whatever they are.
    Fields(Value),
}

/// What every simulated platform can do.
pub trait Simulator: Send + Sync {
    /// The platform's name.
    fn platform(&self) -> &'static str;

    /// The connection's id.
    fn connection(&self) -> String;

    /// The body of the `PUT` that connects it, when its API is at `site`. All that is needed to pull is in there.
    fn settings(&self, site: &str) -> Value;

    /// Enters the hooks by hand, as a merchant would: where they deliver to, and with which secret, which depends on the scope
    /// where the platform has a secret for each.
    fn subscribe(&self, delivery_url: &str, secret: &dyn Fn(&str) -> String);

    /// Makes one change, as a shopper or a merchant would, and puts the deliveries that tell of it into the outbox.
    fn change(&self, random: &mut StdRng);

    /// Takes everything out of the outbox, retries that are due included.
    fn outbox(&self) -> Vec<Delivery>;

    /// Tells the platform how one of its deliveries was answered (0: not at all). What was not accepted is put into the outbox
    /// again, or lost, by the platform's own rules.
    fn answered(&self, delivery: &Delivery, status: u16);

    /// Whether it sends again what was refused. Where it does not, a refusal is a loss.
    fn sends_again(&self) -> bool {
        true
    }

    /// Answers a call of its API.
    fn answer<'a>(&'a self, request: &'a ApiRequest) -> BoxFuture<'a, Result<ApiResponse, Fault>>;

    /// What goes wrong with the next calls of its API.
    fn trouble(&self, troubles: &[Trouble]);

    /// Every entity there ever was, with what is true of it now.
    fn entities(&self) -> Vec<(EntityKind, String, Truth)>;

    /// The calls of the API since the last time: method and path.
    fn calls(&self) -> Vec<String>;
}

/// One simulator of every platform.
pub fn simulators(clock: Clock) -> Vec<Arc<dyn Simulator>> {
    struct Nowhere;
    impl Wire for Nowhere {
        // What pings while it answers is answered.
        fn send(&self, _: Delivery) -> BoxFuture<'_, u16> {
            Box::pin(async { 200 })
        }
    }
    vec![
        Arc::new(bigcommerce::Simulator::new(Arc::clone(&clock), true)),
        Arc::new(cloudblue::Connect::new(Arc::clone(&clock))),
        Arc::new(directscale::DirectScale::new(Arc::clone(&clock))),
        Arc::new(woocommerce::Store::new(Arc::new(Nowhere), "ck_1", "cs_1").with_clock(clock)),
    ]
}

/// Lets a simulator listen on a port of its own; gives the address.
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

/// A JSON answer.
pub fn json_answer(status: u16, body: &Value) -> ApiResponse {
    let headers = HeaderMap::from_iter([(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    ApiResponse { status, headers, body: Bytes::from(body.to_string()) }
}

/// A page that is no JSON.
pub fn page(status: u16, text: &'static str) -> ApiResponse {
    ApiResponse { status, headers: HeaderMap::new(), body: Bytes::from_static(text.as_bytes()) }
}

/// The query of a call, decoded.
pub fn query(request: &ApiRequest) -> BTreeMap<String, String> {
    request.url.query_pairs().into_owned().collect()
}

/// The path of a call, by its segments, decoded and without empty ones.
pub fn segments(request: &ApiRequest) -> Vec<String> {
    let decode = |segment: &str| {
        // A segment decodes as a query does, but for its plus signs.
        let query = format!("x={}", segment.replace('+', "%2B"));
        url::form_urlencoded::parse(query.as_bytes()).next().map(|(_, value)| value.into_owned()).unwrap_or_default()
    };
    request.url.path_segments().into_iter().flatten().filter(|part| !part.is_empty()).map(decode).collect()
}
