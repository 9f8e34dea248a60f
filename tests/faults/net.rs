//! HTTP/1.1 on plain sockets, with a thread for each connection: a server that may also drop a connection, cut an answer
//! short, keep silent, or be away for a while. Libraries for servers do not let their users do that.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// The longest silence. Whoever asks gives up long before.
const SILENCE: Duration = Duration::from_secs(45);

/// A request.
pub struct Request {
    /// The method.
    pub method: String,
    /// The path with its query.
    pub target: String,
    /// The headers, with names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

/// An answer.
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers besides the length.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// Makes an answer of JSON.
    pub fn json(status: u16, body: String) -> Self {
        Self { status, headers: vec![("content-type", "application/json".to_owned())], body: body.into_bytes() }
    }
}

/// What becomes of a request.
pub enum Fate {
    /// It is answered.
    Answer(Answer),
    /// Its answer breaks off in the middle, and with it the connection.
    Cut(Answer),
    /// The connection is dropped without an answer.
    Drop,
    /// Nobody answers, and the connection stays.
    Silence,
}

type Handler = dyn Fn(Request) -> Fate + Send + Sync;

/// A server on a port of this machine.
pub struct Server {
    /// Its port.
    pub port: u16,
    handler: Arc<Handler>,
    away: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Server {
    /// Starts a server on a free port.
    pub fn start(handler: impl Fn(Request) -> Fate + Send + Sync + 'static) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Arc::new(Self { port, handler: Arc::new(handler), away: Arc::default(), open: Arc::default() });
        server.listen(listener);
        server
    }

    fn listen(&self, listener: TcpListener) {
        let (away, open, handler) = (Arc::clone(&self.away), Arc::clone(&self.open), Arc::clone(&self.handler));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if away.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let _ = stream.set_nodelay(true);
                let Ok(copy) = stream.try_clone() else { continue };
                let mut all = open.lock().unwrap();
                all.retain(|one| one.peer_addr().is_ok());
                all.push(copy);
                drop(all);
                let handler = Arc::clone(&handler);
                thread::spawn(move || talk(stream, &*handler));
            }
        });
    }

    /// Goes away: connections break, and new ones are refused.
    pub fn leave(&self) {
        if self.away.swap(true, Ordering::SeqCst) {
            return;
        }
        // The listener waits for one more connection before it looks.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Comes back on the same port.
    pub fn come_back(&self) {
        let listener = loop {
            match TcpListener::bind(("127.0.0.1", self.port)) {
                Ok(listener) => break listener,
                Err(_) => thread::yield_now(),
            }
        };
        self.away.store(false, Ordering::SeqCst);
        self.listen(listener);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.leave();
    }
}

fn talk(stream: TcpStream, handler: &Handler) {
    let Ok(mut out) = stream.try_clone() else { return };
    let mut reader = BufReader::new(stream);
    while let Some(request) = read(&mut reader) {
        match handler(request) {
            Fate::Answer(answer) => {
                if write(&mut out, &answer, answer.body.len()).is_err() {
                    break;
                }
            }
            Fate::Cut(answer) => {
                let _ = write(&mut out, &answer, answer.body.len() / 2);
                break;
            }
            Fate::Drop => break,
            Fate::Silence => {
                // Ends when the other side gives up.
                let _ = out.set_read_timeout(Some(SILENCE));
                let _ = reader.read(&mut [0; 1]);
                break;
            }
        }
    }
    let _ = out.shutdown(Shutdown::Both);
}

fn line(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    (reader.read_line(&mut line).ok()? > 0).then(|| line.trim_end().to_owned())
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let first = line(reader)?;
    let mut words = first.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let line = line(reader)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        headers.insert(name.trim().to_ascii_lowercase(), value.trim().to_owned());
    }
    let mut body = Vec::new();
    if headers.get("transfer-encoding").is_some_and(|coding| coding.contains("chunked")) {
        loop {
            let size = usize::from_str_radix(line(reader)?.split(';').next()?.trim(), 16).ok()?;
            let mut chunk = vec![0; size];
            reader.read_exact(&mut chunk).ok()?;
            body.extend(chunk);
            line(reader)?;
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = headers.get("content-length").and_then(|length| length.parse().ok()) {
        body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
    }
    Some(Request { method, target, headers, body })
}

fn write(out: &mut TcpStream, answer: &Answer, bytes: usize) -> std::io::Result<()> {
    let mut text = format!("HTTP/1.1 {} Status\r\ncontent-length: {}\r\n", answer.status, answer.body.len());
    for (name, value) in &answer.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    let mut bytes_out = text.into_bytes();
    bytes_out.extend(&answer.body[..bytes]);
    out.write_all(&bytes_out)
}
