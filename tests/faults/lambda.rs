//! Lambda's part: an environment runs a function's release binary, hands it events over the Runtime API, ends it at its
//! deadline, and starts another one when it is gone. What the binary prints is read line by line.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::Value;

use crate::net::{Answer, Fate, Request, Server};

/// The time that a function has for its start, as on AWS.
const START: Duration = Duration::from_secs(10);
/// How often a function that answers nothing is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// The end of an invocation.
#[derive(Debug)]
pub enum Ended {
    /// The function answered.
    Answered(Value),
    /// The function said that it failed.
    Failed,
    /// The function died, or was ended at its deadline.
    Gone,
    /// The function could not be started.
    NotStarted,
}

/// A function that is run.
pub struct Function {
    /// Its binary.
    pub binary: PathBuf,
    /// Its environment.
    pub variables: BTreeMap<String, String>,
    /// The seconds that Lambda says that it has.
    pub seconds: f64,
    /// Hears each line that it prints.
    pub hear: Arc<dyn Fn(&str) + Send + Sync>,
}

#[derive(Default)]
struct Turn {
    asked: bool,
    event: Option<(u64, String, u64)>,
    answer: Option<Ended>,
    over: bool,
}

#[derive(Default)]
struct Runtime {
    turn: Mutex<Turn>,
    changed: Condvar,
}

/// The process of an environment, which a fault may end.
pub type Process = Arc<Mutex<Option<Child>>>;

struct Started {
    runtime: Arc<Runtime>,
    server: Arc<Server>,
    readers: Vec<JoinHandle<()>>,
}

/// An environment, which has one process at a time.
pub struct Environment {
    function: Function,
    /// The process of the moment.
    pub process: Process,
    /// Set when the process has to end after its present invocation.
    pub doomed: Arc<AtomicBool>,
    started: Option<Started>,
    /// The number of starts.
    pub starts: AtomicU64,
    invocations: u64,
}

impl Environment {
    /// Makes an environment that has not started yet.
    pub fn new(function: Function) -> Self {
        Self {
            function,
            process: Arc::default(),
            doomed: Arc::default(),
            started: None,
            starts: AtomicU64::new(0),
            invocations: 0,
        }
    }

    /// Runs the function with an event.
    pub fn invoke(&mut self, event: &str) -> Ended {
        if self.started.is_none() && !self.start() {
            return Ended::NotStarted;
        }
        let Some(started) = &self.started else { return Ended::NotStarted };
        self.invocations += 1;
        let given = Instant::now();
        let time = Duration::from_secs_f64(self.function.seconds);
        let deadline = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + time;
        let mut turn = started.runtime.turn.lock().unwrap();
        turn.event = Some((self.invocations, event.to_owned(), u64::try_from(deadline.as_millis()).unwrap()));
        turn.answer = None;
        started.runtime.changed.notify_all();
        let ended = loop {
            if let Some(ended) = turn.answer.take() {
                break ended;
            }
            if given.elapsed() > time || is_over(&self.process) {
                break Ended::Gone;
            }
            turn = started.runtime.changed.wait_timeout(turn, LOOK).unwrap().0;
        };
        drop(turn);
        if matches!(ended, Ended::Gone | Ended::Failed) || self.doomed.swap(false, Ordering::SeqCst) {
            self.end();
        }
        ended
    }

    fn start(&mut self) -> bool {
        self.starts.fetch_add(1, Ordering::SeqCst);
        let runtime = Arc::new(Runtime::default());
        let handler = Arc::clone(&runtime);
        let server = Server::start(move |request| answer(&handler, &request));
        let mut command = Command::new(&self.function.binary);
        command
            .env_clear()
            .envs(&self.function.variables)
            .env("AWS_LAMBDA_RUNTIME_API", format!("127.0.0.1:{}", server.port))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => panic!("{}: {error}; it has to be built first", self.function.binary.display()),
        };
        let out: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        let readers = out.into_iter().map(|out| {
            let hear = Arc::clone(&self.function.hear);
            thread::spawn(move || {
                let mut lines = BufReader::new(out);
                let mut line = Vec::new();
                while lines.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                    hear(String::from_utf8_lossy(&line).trim_end());
                    line.clear();
                }
            })
        });
        let started = Started { runtime, server, readers: readers.collect() };
        *self.process.lock().unwrap() = Some(child);
        let began = Instant::now();
        let mut turn = started.runtime.turn.lock().unwrap();
        while !turn.asked && began.elapsed() < START && !is_over(&self.process) {
            turn = started.runtime.changed.wait_timeout(turn, LOOK).unwrap().0;
        }
        let asked = turn.asked;
        drop(turn);
        self.started = Some(started);
        if !asked {
            self.end();
        }
        asked
    }

    /// Ends the process, and waits until all that it printed is read.
    pub fn end(&mut self) {
        if let Some(mut child) = self.process.lock().unwrap().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Some(started) = self.started.take() {
            started.runtime.turn.lock().unwrap().over = true;
            started.runtime.changed.notify_all();
            started.server.leave();
            started.readers.into_iter().for_each(|reader| reader.join().unwrap());
        }
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        self.end();
    }
}

fn is_over(process: &Process) -> bool {
    process.lock().unwrap().as_mut().is_none_or(|child| child.try_wait().is_ok_and(|status| status.is_some()))
}

fn answer(runtime: &Runtime, request: &Request) -> Fate {
    let mut turn = runtime.turn.lock().unwrap();
    if request.target.ends_with("/invocation/next") {
        turn.asked = true;
        runtime.changed.notify_all();
        loop {
            if turn.over {
                return Fate::Drop;
            }
            if let Some((id, event, deadline)) = turn.event.take() {
                let headers = vec![
                    ("lambda-runtime-aws-request-id", format!("00000000-0000-4000-8000-{id:012}")),
                    ("lambda-runtime-deadline-ms", deadline.to_string()),
                    (
                        "lambda-runtime-invoked-function-arn",
                        "arn:aws:lambda:us-east-1:000000000000:function:commerce-hooks".to_owned(),
                    ),
                    ("lambda-runtime-trace-id", tools::runtime::TRACE.to_owned()),
                    ("content-type", "application/json".to_owned()),
                ];
                return Fate::Answer(Answer { status: 200, headers, body: event.into_bytes() });
            }
            turn = runtime.changed.wait(turn).unwrap();
        }
    }
    if request.target.ends_with("/response") {
        turn.answer = Some(Ended::Answered(serde_json::from_slice(&request.body).unwrap_or_default()));
    } else if request.target.ends_with("/error") {
        turn.answer = Some(Ended::Failed);
    }
    runtime.changed.notify_all();
    Fate::Answer(Answer::json(202, "{}".to_owned()))
}
