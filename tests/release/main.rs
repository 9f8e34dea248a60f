//! The processor's release binary, as Lambda runs it: the memory that it takes for the worst that it can legally meet, for a function that takes
//! more than it has is killed with all messages of its batch. `make test` builds the binary and says where it is.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::PathBuf;

use tools::{runtime::TRACE, worst};

/// The most that any batch may take, in MB: the processor has 256 by default.
const MOST_MB: f64 = 160.0;
/// The messages of each batch.
const MESSAGES: u64 = 10;

fn processor() -> PathBuf {
    PathBuf::from(std::env::var("PROCESSOR").expect("PROCESSOR says where the processor's binary is"))
}

#[tokio::test]
async fn the_worst_batches_leave_room() {
    let mut wrong = Vec::new();
    for case in worst::cases().unwrap() {
        let measured = match worst::run(&processor(), &case).await {
            Ok(measured) => measured,
            Err(error) => {
                wrong.push(format!("{}: {error}", case.name));
                continue;
            }
        };
        eprintln!("{}: {measured:?}", case.name);
        let (written, put_aside) = if case.put_aside { (0, MESSAGES) } else { (MESSAGES, 0) };
        let is_done = measured.written == written && measured.put_aside == put_aside && measured.come_back == 0;
        if measured.peak_mb > MOST_MB || !is_done {
            wrong.push(format!("{}: {measured:?}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Without it, Lambda could not count, and what `tests/path/chains.rs` shows would not happen.
#[tokio::test]
async fn what_is_sent_says_what_it_comes_from() {
    let cases = worst::cases().unwrap();
    let lines = cases.iter().find(|case| case.name == worst::MANY_LINES).unwrap();
    let measured = worst::run(&processor(), lines).await.unwrap();
    assert_eq!(measured.trace.as_deref(), Some(TRACE));
}
