//! Opens mutated and random links for as long as asked, and says what it found: panics, recipes that do
//! not come back as they were, and what the worst input cost. `cargo xtask fuzz` runs it.
//!
//! Usage: `fuzz_links SECONDS SEED FOLDER-FOR-FINDINGS LINK-FILE…`; the files are golden links.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use miniz_oxide::deflate::compress_to_vec;
use serde_json::Value;
use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};
use trimtab_engine::sampling::pcg;
use trimtab_persona::recipe::link::{LinkContent, LinkError, decode, encode, json_of};

/// What one link may make the decoder hold at once.
const MOST_BYTES: usize = 64 << 20;
/// And how much time of a processor it may take.
const LONGEST: Duration = Duration::from_millis(500);
/// Of this many recipes that open, one is encoded again, which is slow.
const ENCODE_ONE_OF: usize = 256;

/// Counts what is allocated, and the most there was since the last reset.
struct Counting;

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

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Random(u32);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9);
        pcg(self.0)
    }

    fn below(&mut self, end: usize) -> usize {
        self.next() as usize % end.max(1)
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// A golden link at each of its layers.
struct Seed {
    code: String,
    deflated: Vec<u8>,
    json: Vec<u8>,
    value: Value,
}

#[derive(Default)]
struct Report {
    inputs: usize,
    opened: usize,
    newer: usize,
    encoded: usize,
    refused: BTreeMap<&'static str, usize>,
    findings: usize,
    most_bytes: usize,
    slowest: Duration,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let mut number = || arguments.next().and_then(|text| text.parse::<u32>().ok());
    let (Some(seconds), Some(seed)) = (number(), number()) else {
        eprintln!("usage: fuzz_links SECONDS SEED FOLDER LINK-FILE…");
        return ExitCode::FAILURE;
    };
    let folder = PathBuf::from(arguments.next().unwrap_or_default());
    let seeds: Vec<Seed> = arguments
        .filter_map(|path| read_seed(Path::new(&path)))
        .collect();
    if seeds.is_empty() {
        eprintln!("no golden link was found to start from");
        return ExitCode::FAILURE;
    }
    // A panic is a finding, told below; its trace would drown the rest.
    std::panic::set_hook(Box::new(|_| {}));
    let mut random = Random(seed);
    let mut report = Report::default();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(seconds.into()) {
        let link = mutate(&seeds, &mut random);
        open(&link, &folder, &mut report);
    }
    report.print(&seeds, start.elapsed(), &folder);
    ExitCode::from(u8::from(report.findings > 0))
}

/// The field `link` of a golden file.
fn read_seed(path: &Path) -> Option<Seed> {
    let file: Value = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    let code = file.get("link")?.as_str()?.to_owned();
    let json = json_of(&code).ok()?;
    Some(Seed {
        deflated: URL_SAFE_NO_PAD.decode(&code).ok()?,
        value: serde_json::from_slice(&json).ok()?,
        code,
        json,
    })
}

fn mutate(seeds: &[Seed], random: &mut Random) -> String {
    let seed = &seeds[random.below(seeds.len())];
    let other = &seeds[random.below(seeds.len())];
    let packed = |json: &[u8]| URL_SAFE_NO_PAD.encode(compress_to_vec(json, 1));
    match random.below(16) {
        0 => {
            let bytes: Vec<u8> = (0..random.below(300))
                .map(|_| random.next() as u8)
                .collect();
            match random.below(3) {
                0 => String::from_utf8_lossy(&bytes).into_owned(),
                1 => URL_SAFE_NO_PAD.encode(bytes),
                _ => packed(&bytes),
            }
        }
        1 => {
            let mut text = seed.code.clone().into_bytes();
            damage(&mut text, other.code.as_bytes(), random);
            String::from_utf8_lossy(&text).into_owned()
        }
        2 | 3 => {
            let mut bytes = seed.deflated.clone();
            damage(&mut bytes, &other.deflated, random);
            URL_SAFE_NO_PAD.encode(bytes)
        }
        4..=7 => {
            let mut bytes = seed.json.clone();
            damage(&mut bytes, &other.json, random);
            packed(&bytes)
        }
        _ => {
            let mut value = seed.value.clone();
            for _ in 0..=random.below(3) {
                change(&mut value, &other.value, random);
            }
            packed(&serde_json::to_vec(&value).unwrap_or_default())
        }
    }
}

/// Flips, drops, repeats or replaces some bytes, or goes on as the other link does.
fn damage(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
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
            3 => bytes.insert(at, random.next() as u8),
            4 => bytes
                .splice(at.., other.iter().skip(at).copied())
                .for_each(drop),
            5 if !bytes.is_empty() => bytes[at] = random.next() as u8,
            _ if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            _ => {}
        }
    }
}

/// Puts something else in one random place of a JSON value.
fn change(value: &mut Value, other: &Value, random: &mut Random) {
    let descend = random.below(8) > 0;
    match value {
        Value::Object(map) if descend && !map.is_empty() => {
            let key = map
                .keys()
                .nth(random.below(map.len()))
                .cloned()
                .unwrap_or_default();
            match random.below(12) {
                0 => drop(map.remove(&key)),
                1 => {
                    let names = [
                        "__proto__",
                        "constructor",
                        "version",
                        "run",
                        "ids",
                        "layers",
                        "",
                    ];
                    map.insert(random.one_of(&names).to_owned(), odd(random));
                }
                _ => {
                    let there = other.get(&key).unwrap_or(&Value::Null).clone();
                    match map.get_mut(&key) {
                        Some(place) if random.below(8) == 0 => *place = there,
                        Some(place) => change(place, &there, random),
                        None => {}
                    }
                }
            }
        }
        Value::Array(list) if descend && !list.is_empty() => {
            let at = random.below(list.len());
            match random.below(6) {
                0 => drop(list.remove(at)),
                1 => {
                    let copies = random.one_of(&[1, 2, 30, 300]);
                    let copy = list[at].clone();
                    list.extend(std::iter::repeat_n(copy, copies));
                }
                _ => change(&mut list[at], other.get(at).unwrap_or(&Value::Null), random),
            }
        }
        Value::String(text) if descend && !text.is_empty() => {
            let mut bytes = std::mem::take(text).into_bytes();
            damage(
                &mut bytes,
                other.as_str().unwrap_or_default().as_bytes(),
                random,
            );
            *text = String::from_utf8_lossy(&bytes).into_owned();
        }
        _ => *value = odd(random),
    }
}

fn odd(random: &mut Random) -> Value {
    let numbers = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        255.0,
        256.0,
        65_536.0,
        4_294_967_295.0,
        1e9,
        -1e9,
        1e38,
        1e300,
        5e-324,
    ];
    let texts = [
        "",
        "A",
        "_",
        "\u{0}",
        "\u{1f30a}",
        "user",
        "assistant",
        "__proto__",
        "9999",
        "____________",
    ];
    match random.below(8) {
        0 => Value::Null,
        1 => Value::Bool(random.below(2) == 0),
        2 => Value::from(random.next()),
        3 => Value::from(-i64::from(random.next())),
        4 => Value::from(random.one_of(&numbers)),
        5 => Value::from(random.one_of(&texts)),
        6 => Value::from("_".repeat(random.one_of(&[1, 100, 10_000]))),
        _ => Value::Array(vec![
            Value::from(random.next() % 300);
            random.one_of(&[0, 1, 2, 7, 3_000])
        ]),
    }
}

fn open(link: &str, folder: &Path, report: &mut Report) {
    report.inputs += 1;
    let before = HELD.load(Relaxed);
    MOST.store(before, Relaxed);
    let start = processor_time();
    let outcome = catch_unwind(AssertUnwindSafe(|| decode(link)));
    let (took, held) = (processor_time() - start, MOST.load(Relaxed) - before);
    report.slowest = report.slowest.max(took);
    report.most_bytes = report.most_bytes.max(held);
    let finding = match outcome {
        Err(_) => Some("panic"),
        _ if held > MOST_BYTES => Some("memory"),
        _ if took > LONGEST => Some("slow"),
        Ok(Err(error)) => {
            *report.refused.entry(kind(&error)).or_default() += 1;
            None
        }
        Ok(Ok(LinkContent::Newer(_))) => {
            report.newer += 1;
            None
        }
        Ok(Ok(LinkContent::Recipe(recipe))) => {
            report.opened += 1;
            if report.opened.is_multiple_of(ENCODE_ONE_OF) {
                report.encoded += 1;
                let again = catch_unwind(AssertUnwindSafe(|| decode(&encode(&recipe)?)));
                match again {
                    Ok(Ok(LinkContent::Recipe(again))) if again == recipe => None,
                    _ => Some("round-trip"),
                }
            } else {
                None
            }
        }
    };
    if let Some(finding) = finding {
        report.findings += 1;
        let path = folder.join(format!("{finding}-{}.txt", report.inputs));
        println!("{finding}: {}", path.display());
        // The finding is told either way.
        let _ = std::fs::write(path, link);
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

fn kind(error: &LinkError) -> &'static str {
    match error {
        LinkError::Nothing => "nothing there",
        LinkError::TooLong => "too long",
        LinkError::Alphabet { .. } => "not base64url",
        LinkError::Damaged => "cut short or damaged",
        LinkError::Bomb => "inflates too far",
        LinkError::Json(_) => "not the JSON of a recipe",
        LinkError::Version(_) => "no version",
        LinkError::Recipe(_) => "a recipe that is not sound",
        LinkError::TooLarge { .. } => "too large to share",
    }
}

impl Report {
    fn print(&self, seeds: &[Seed], took: Duration, folder: &Path) {
        println!(
            "{} links opened from {} golden ones in {:.0} s: {} were sound recipes ({} of them encoded again), {} of a newer version",
            self.inputs,
            seeds.len(),
            took.as_secs_f64(),
            self.opened,
            self.encoded,
            self.newer,
        );
        for (kind, count) in &self.refused {
            println!("  refused, {kind}: {count}");
        }
        println!(
            "the slowest took {:.1} ms, the largest {:.1} MB of memory",
            self.slowest.as_secs_f64() * 1e3,
            self.most_bytes as f64 / 1e6
        );
        match self.findings {
            0 => println!("nothing was found"),
            count => println!("{count} findings, in {}", folder.display()),
        }
    }
}
