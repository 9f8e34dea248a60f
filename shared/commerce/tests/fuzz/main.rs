//! Fuzzes what reads bytes of strangers, on stable Rust: each target's own samples, inputs that are large in one way,
//! and mutations of both, for `FUZZ_SECONDS` a target. No input may make a target panic, nor take more memory or time
//! than its length allows; time is measured as a multiple of reading plain JSON on the same machine.
//!
//! `FUZZ_TARGET` names one target, and `FUZZ_SEED` another beginning of the mutations. An input that fails is kept in
//! `FUZZ_KEEP`; `FUZZ_INPUT` runs the one target with it alone. `FUZZ_CORPUS` names a folder to write the samples to,
//! for cargo-fuzz.

#![allow(clippy::unwrap_used, clippy::panic)]

mod corpus;
mod mutate;
mod targets;

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    hash::{DefaultHasher, Hash, Hasher},
    panic,
    path::PathBuf,
    time::{Duration, Instant},
};

use peak_alloc::PeakAlloc;
use rand::{Rng, SeedableRng, rngs::StdRng};
use rustix::time::{ClockId, clock_gettime};

use targets::{Target, targets};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// The longest mutated input, in bytes.
const MOST: usize = 64 * 1024;
/// The length of inputs that are large in one way, in bytes.
const LARGE: usize = 96 * 1024;

/// Returns the processor time of this process, whoever else uses the machine.
fn spent() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec.try_into().unwrap())
}

/// What one run of a target took.
#[derive(Clone, Copy)]
struct Took {
    memory: usize,
    time: Duration,
}

fn run(target: &Target, input: &[u8]) -> Result<Took, String> {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let begun = spent();
    let ended = panic::catch_unwind(|| target.run(input));
    let took = Took { memory: MEMORY.peak_usage().saturating_sub(before), time: spent() - begun };
    match ended {
        Ok(()) => Ok(took),
        Err(panicked) => {
            let text = panicked.downcast_ref::<String>().map(String::as_str);
            Err(text.or(panicked.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned())
        }
    }
}

/// Returns the time in which a byte of plain JSON is read into a tree, here and now.
fn unit() -> Duration {
    let object = r#"{"id":4711,"name":"A name of some letters","total":"12.50","lines":[{"sku":"a-1","quantity":2}]}"#;
    let json = format!("[{}]", vec![object; 1_000].join(","));
    let once = || {
        let begun = spent();
        assert!(commerce::json::value(json.as_bytes()).is_ok());
        spent() - begun
    };
    (0..5).map(|_| once()).min().unwrap_or_default() / u32::try_from(json.len() / 1_024).unwrap()
}

impl Target {
    /// Runs the target, and holds what it took against the length of the input. `kb` is the time to read 1 KB of JSON.
    fn holds(&self, input: &[u8], kb: Duration) -> Result<(), String> {
        let took = run(self, input)?;
        let memory = self.memory * input.len() + self.memory_of_none * 1_024;
        if took.memory > memory {
            return Err(format!("{} bytes of memory for {} bytes, over {memory}", took.memory, input.len()));
        }
        let bytes = self.time as usize * input.len() + self.time_of_none;
        let time = kb * u32::try_from(bytes.div_ceil(1_024)).unwrap();
        if took.time > time {
            // Another process may have slowed this one down: only what is slow each time is slow.
            let again = (0..3).map(|_| run(self, input).map_or(Duration::ZERO, |took| took.time)).min();
            let least = again.unwrap_or_default();
            if least > time {
                return Err(format!("{least:?} for {} bytes, over {time:?}", input.len()));
            }
        }
        Ok(())
    }

    /// Returns the beginnings of the samples, which say what is done with the rest: the first line, and all headers.
    fn begins(&self, seeds: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let begin = |seed: &Vec<u8>| {
            let end = match self.http {
                true => seed.windows(2).position(|pair| pair == b"\n\n").map_or(0, |at| at + 2),
                false => seed.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1),
            };
            seed[..end].to_vec()
        };
        let begins: BTreeSet<Vec<u8>> = seeds.iter().map(begin).collect();
        begins.into_iter().collect()
    }

    /// Fuzzes the target. Returns the number of inputs, or the failure.
    fn fuzz(&self, seeds: &[Vec<u8>], seconds: f64, seed: u64, kb: Duration) -> Result<u64, String> {
        let most_begins = if seconds < 10.0 { 2 } else { usize::MAX };
        let failed = |input: &[u8], what: &str, why: String| {
            let mut hasher = DefaultHasher::new();
            input.hash(&mut hasher);
            let folder =
                PathBuf::from(env::var("FUZZ_KEEP").unwrap_or_else(|_| env!("CARGO_TARGET_TMPDIR").to_owned()));
            let file = folder.join(format!("{}-{:016x}", self.name, hasher.finish()));
            let kept = fs::create_dir_all(&folder).and_then(|()| fs::write(&file, input));
            let kept = kept.map_or_else(|error| error.to_string(), |()| file.display().to_string());
            Err(format!("{}, {what}: {why}\n  FUZZ_TARGET={} FUZZ_INPUT={kept} runs it again", self.name, self.name))
        };
        let mut count = 0;
        for input in seeds {
            count += 1;
            if let Err(why) = self.holds(input, kb) {
                return failed(input, "a sample", why);
            }
        }
        let begins = self.begins(seeds);
        let step = begins.len().div_ceil(most_begins).max(1);
        for begin in begins.iter().step_by(step).chain([&Vec::new()]) {
            for (what, input) in corpus::large(LARGE) {
                count += 1;
                let input = [begin, &input[..]].concat();
                if let Err(why) = self.holds(&input, kb) {
                    return failed(&input, what, why);
                }
            }
        }
        let mut rng = StdRng::seed_from_u64(seed);
        let mut pool = seeds.to_vec();
        let begun = Instant::now();
        while begun.elapsed().as_secs_f64() < seconds {
            let from = if pool.is_empty() { &[][..] } else { &pool[rng.random_range(0..pool.len())] };
            let input = mutate::mutate(from, &pool, &mut rng, MOST);
            count += 1;
            if let Err(why) = self.holds(&input, kb) {
                return failed(&input, &format!("seed {seed}"), why);
            }
            // Some of what was made is changed further.
            if pool.len() < 4 * seeds.len() && rng.random_range(0..20) == 0 {
                pool.push(input);
            }
        }
        Ok(count)
    }
}

#[test]
fn no_input_breaks_a_reader_or_takes_more_than_its_share() {
    let seeds = corpus::seeds();
    let number = |name: &str| env::var(name).ok().and_then(|value| value.parse::<f64>().ok());
    if let Ok(folder) = env::var("FUZZ_CORPUS") {
        for (name, inputs) in &seeds {
            let folder = PathBuf::from(&folder).join(name);
            fs::create_dir_all(&folder).unwrap();
            for (at, input) in inputs.iter().enumerate() {
                fs::write(folder.join(format!("{at:04}")), input).unwrap();
            }
        }
        return;
    }
    let wanted = env::var("FUZZ_TARGET").ok();
    let (seconds, seed) = (number("FUZZ_SECONDS").unwrap_or(0.2), number("FUZZ_SEED").unwrap_or(1.0) as u64);
    // What is read once, such as the presets, counts for no input.
    targets()
        .iter()
        .for_each(|target| seeds.get(target.name).into_iter().flatten().take(1).for_each(|seed| target.run(seed)));
    let kb = unit();
    let mut wrong = Vec::new();
    let mut told = BTreeMap::new();
    // A panic is told once, with its input.
    panic::set_hook(Box::new(|_| {}));
    for target in targets().iter().filter(|target| wanted.as_ref().is_none_or(|wanted| wanted == target.name)) {
        let own = seeds.get(target.name).map(Vec::as_slice).unwrap_or_default();
        let ended = match env::var("FUZZ_INPUT") {
            Ok(file) => target.holds(&fs::read(file).unwrap(), kb).map(|()| 1),
            Err(_) => target.fuzz(own, seconds, seed, kb),
        };
        match ended {
            Ok(count) => _ = told.insert(target.name, count),
            Err(why) => wrong.push(why),
        }
    }
    let _ = panic::take_hook();
    println!("seed {seed}, {seconds} s each, 1 KB of JSON in {kb:?}; inputs: {told:?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(!told.is_empty(), "there is no target {wanted:?}");
}

#[test]
fn each_target_has_samples() {
    let seeds = corpus::seeds();
    let without: Vec<&str> =
        targets().iter().map(|target| target.name).filter(|name| !seeds.contains_key(name)).collect();
    assert_eq!(without, Vec::<&str>::new());
}
