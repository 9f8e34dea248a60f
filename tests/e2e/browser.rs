//! A page in a real browser: headless Chromium, driven by ChromeDriver over the WebDriver protocol (W3C).

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use cloud::outbound::{Guarded, Outbound};
use commerce::http_call::{ApiRequest, Loopback};
use http::{HeaderMap, Method};
use serde_json::{Value, json};

/// A browser with one window.
pub struct Browser {
    http: Guarded,
    session: String,
    driver: Child,
}

impl Drop for Browser {
    fn drop(&mut self) {
        let group = format!("-{}", self.driver.id());
        let _ = Command::new("kill").args(["-TERM", "--", &group]).status();
        let _ = self.driver.wait();
    }
}

impl Browser {
    /// Starts a browser. Returns `None` if ChromeDriver is not installed, but panics then if `REQUIRE_BROWSER` is set.
    pub async fn start() -> Option<Self> {
        use std::os::unix::process::CommandExt;

        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={port}")).process_group(0);
        let driver = match command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
            Ok(driver) => driver,
            Err(error) if std::env::var_os("REQUIRE_BROWSER").is_none() => {
                println!("SKIPPED: no chromedriver ({error}); install Chromium with it to see the pages tested");
                return None;
            }
            Err(error) => panic!("chromedriver: {error}"),
        };
        let mut browser = Self {
            http: Guarded::new(Loopback::Allowed).unwrap(),
            session: format!("http://127.0.0.1:{port}"),
            driver,
        };
        let started = Instant::now();
        while browser
            .http
            .call(request(Method::GET, &format!("{}/status", browser.session), &Value::Null))
            .await
            .is_err()
        {
            assert!(started.elapsed() < Duration::from_secs(30), "chromedriver does not answer");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ];
        let wanted = json!({ "browserName": "chrome", "goog:chromeOptions": { "args": arguments }, "goog:loggingPrefs": { "browser": "ALL" } });
        let session =
            browser.ask(Method::POST, "/session", &json!({ "capabilities": { "alwaysMatch": wanted } })).await;
        browser.session = format!("{}/session/{}", browser.session, session["sessionId"].as_str().unwrap());
        Some(browser)
    }

    /// Asks the driver, and returns the value of its answer.
    async fn ask(&self, method: Method, path: &str, body: &Value) -> Value {
        let answer = self.http.call(request(method, &format!("{}{path}", self.session), body)).await.unwrap();
        let mut body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(answer.status, 200, "{path}: {body}");
        body["value"].take()
    }

    /// Sets the window's size in pixels.
    pub async fn size(&self, width: u32, height: u32) {
        self.ask(Method::POST, "/window/rect", &json!({ "width": width, "height": height })).await;
    }

    /// Opens an address, and waits until it is loaded.
    pub async fn open(&self, url: &str) {
        self.ask(Method::POST, "/url", &json!({ "url": url })).await;
    }

    /// Returns the value of an expression on the page.
    pub async fn value(&self, expression: &str) -> Value {
        let script = json!({ "script": format!("return {expression}"), "args": [] });
        self.ask(Method::POST, "/execute/sync", &script).await
    }

    /// Returns the complaints of the page and the browser since the last time.
    pub async fn complaints(&self) -> Vec<String> {
        let log = self.ask(Method::POST, "/se/log", &json!({ "type": "browser" })).await;
        log.as_array().unwrap().iter().map(|entry| entry["message"].as_str().unwrap().to_owned()).collect()
    }

    /// Saves a picture of the window.
    pub async fn picture(&self, file: &Path) {
        let picture = self.ask(Method::GET, "/screenshot", &Value::Null).await;
        std::fs::write(file, STANDARD.decode(picture.as_str().unwrap()).unwrap()).unwrap();
    }
}

fn request(method: Method, url: &str, body: &Value) -> ApiRequest {
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "application/json".parse().unwrap());
    ApiRequest { method, url: url.parse().unwrap(), headers, body: text.into() }
}
