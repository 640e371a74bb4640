//! Opening damaged inputs for as long as asked: what counts as found, what the worst input cost, and what was refused.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};
use trimtab_engine::sampling::pcg;

/// An allocator for a fuzzer's program: counts what is allocated, and the most there was since the last input.
#[derive(Debug)]
pub struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: both methods pass on what they were given; only counters are added.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Relaxed) + layout.size();
        MOST.fetch_max(held, Relaxed);
        // SAFETY: the caller's promise about the layout is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the pointer came from `alloc` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// The same numbers for the same seed.
#[derive(Clone, Debug)]
pub struct Random(pub u32);

impl Random {
    pub fn number(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9);
        pcg(self.0)
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.number() as usize % end.max(1)
    }

    pub fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// Flips, drops, repeats or replaces some bytes, or goes on as the other input does.
pub fn damage(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        let length = random.below(20).min(bytes.len().saturating_sub(at));
        match random.below(7) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..at + length)),
            2 => {
                let piece = bytes[at..at + length].to_vec();
                bytes.splice(at..at, piece);
            }
            3 => bytes.insert(at, random.number() as u8),
            4 => bytes
                .splice(at.., other.iter().skip(at).copied())
                .for_each(drop),
            5 if !bytes.is_empty() => bytes[at] = random.number() as u8,
            _ if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            _ => {}
        }
    }
}

/// What came of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Opened,
    Refused(String),
    /// Something that must not be, in a word.
    Wrong(&'static str),
}

/// What one input may cost.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Memory that it may make the program hold at once.
    pub bytes: usize,
    /// Time of a processor.
    pub time: Duration,
}

/// The arguments that every fuzzer takes: `SECONDS SEED FOLDER-FOR-FINDINGS FILE…`.
#[derive(Debug)]
pub struct Arguments {
    pub seconds: u32,
    pub seed: u32,
    pub folder: PathBuf,
    pub files: Vec<PathBuf>,
}

impl Arguments {
    /// Of the program's command line; [`None`] where it makes no sense.
    pub fn read() -> Option<Self> {
        let mut arguments = std::env::args().skip(1);
        let mut number = || arguments.next()?.parse().ok();
        Some(Self {
            seconds: number()?,
            seed: number()?,
            folder: arguments.next()?.into(),
            files: arguments.map(Into::into).collect(),
        })
    }
}

#[derive(Debug)]
pub struct Fuzzing {
    folder: PathBuf,
    bounds: Bounds,
    start: Instant,
    inputs: usize,
    opened: usize,
    refused: BTreeMap<String, usize>,
    findings: usize,
    most_bytes: usize,
    slowest: Duration,
}

impl Fuzzing {
    /// What is found is written to `folder`. A panic is a finding, told at the end; its trace is not printed.
    pub fn start(folder: PathBuf, bounds: Bounds) -> Self {
        std::panic::set_hook(Box::new(|_| {}));
        Self {
            folder,
            bounds,
            start: Instant::now(),
            inputs: 0,
            opened: 0,
            refused: BTreeMap::new(),
            findings: 0,
            most_bytes: 0,
            slowest: Duration::ZERO,
        }
    }

    pub fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    /// Opens an input, watching what that costs.
    pub fn open(&mut self, input: &[u8], open: impl FnOnce() -> Outcome) {
        self.inputs += 1;
        let before = HELD.load(Relaxed);
        MOST.store(before, Relaxed);
        let start = processor_time();
        let outcome = catch_unwind(AssertUnwindSafe(open));
        let (took, held) = (processor_time() - start, MOST.load(Relaxed) - before);
        self.slowest = self.slowest.max(took);
        self.most_bytes = self.most_bytes.max(held);
        let finding = match outcome {
            Err(_) => "panic",
            _ if held > self.bounds.bytes => "memory",
            _ if took > self.bounds.time => "slow",
            Ok(Outcome::Wrong(word)) => word,
            Ok(Outcome::Opened) => {
                self.opened += 1;
                return;
            }
            Ok(Outcome::Refused(reason)) => {
                *self.refused.entry(reason).or_default() += 1;
                return;
            }
        };
        self.findings += 1;
        let path = self.folder.join(format!("{finding}-{}", self.inputs));
        println!("{finding}: {}", path.display());
        // The finding is told either way.
        let _ = std::fs::write(path, input);
    }

    /// Says what came of all inputs; a failure where something was found.
    pub fn finish(&self, inputs: &str, seeds: usize) -> ExitCode {
        println!(
            "{} {inputs} of {seeds} sound ones in {:.0} s: {} opened",
            self.inputs,
            self.seconds(),
            self.opened,
        );
        let mut refused: Vec<_> = self.refused.iter().collect();
        refused.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for (reason, count) in refused {
            println!("  refused, {reason}: {count}");
        }
        println!(
            "the slowest took {:.1} ms, the largest {:.1} MB of memory",
            self.slowest.as_secs_f64() * 1e3,
            self.most_bytes as f64 / 1e6
        );
        match self.findings {
            0 => println!("nothing was found"),
            count => println!("{count} findings, in {}", self.folder.display()),
        }
        ExitCode::from(u8::from(self.findings > 0))
    }
}

/// That this thread has had: on a busy machine the clock says little about an input. Where the system
/// does not tell, the clock.
fn processor_time() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = told.and_then(|text| text.split(' ').next()?.parse().ok());
    nanoseconds.map_or_else(|| START.elapsed(), Duration::from_nanos)
}
