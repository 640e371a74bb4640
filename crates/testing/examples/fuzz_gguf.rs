//! Converts damaged GGUF files for as long as asked, as the page and the program do with a stranger's file, and reads what came of
//! it: configuration, tokenizer, chat template, weights. `cargo xtask fuzz gguf` runs it.
//!
//! Usage: `fuzz_gguf SECONDS SEED FOLDER-FOR-FINDINGS GGUF-FILE…`.

use pollster::block_on;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;
use trimtab_checkpoint::convert::{Conversion, ConvertError, Folder, Sink};
use trimtab_checkpoint::source::LocalFuture;
use trimtab_checkpoint::{
    ByteSource, ChatTemplate, Message, ModelConfig, SourceError, Tokenizer, WeightFile, manifest,
};
use trimtab_testing::fuzzing::{Arguments, Bounds, Counting, Fuzzing, Outcome, Random, damage};

/// The files have half a megabyte, and a chat template may run for a second.
const BOUNDS: Bounds = Bounds {
    bytes: 128 << 20,
    time: Duration::from_secs(4),
};
const NAME: &str = "model.gguf";

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Templates that want too much of a program.
const GREEDY: [&str; 5] = [
    "{% for a in range(100000) %}{% for b in range(100000) %}{{ b }}{% endfor %}{% endfor %}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{{ 'x' * 1000000000 }}",
    "{% set ns = namespace(t='xx') %}{% for a in range(60) %}{% set ns.t = ns.t ~ ns.t %}{% endfor %}{{ ns.t }}",
    "{% include 'chat_template' %}",
];

fn main() -> ExitCode {
    let Some(arguments) = Arguments::read() else {
        eprintln!("usage: fuzz_gguf SECONDS SEED FOLDER GGUF-FILE…");
        return ExitCode::FAILURE;
    };
    let files = arguments.files.iter();
    let seeds: Vec<Vec<u8>> = files.filter_map(|path| std::fs::read(path).ok()).collect();
    for seed in &seeds {
        if let Outcome::Refused(reason) = open(seed.clone()) {
            eprintln!("a sound file is refused: {reason}");
            return ExitCode::FAILURE;
        }
    }
    if seeds.is_empty() {
        eprintln!("no GGUF file was found to start from");
        return ExitCode::FAILURE;
    }
    let mut random = Random(arguments.seed);
    let mut fuzzing = Fuzzing::start(arguments.folder, BOUNDS);
    while fuzzing.seconds() < f64::from(arguments.seconds) {
        let file = mutate(&seeds, &mut random);
        fuzzing.open(&file, || open(file.clone()));
    }
    fuzzing.finish("GGUF files", seeds.len())
}

/// Damage anywhere, most often in the header, and numbers there that mean to be lengths, counts, kinds and places.
fn mutate(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    const NUMBERS: [u64; 12] = [
        0,
        1,
        2,
        3,
        7,
        31,
        255,
        1 << 16,
        1 << 31,
        (1 << 32) - 1,
        1 << 63,
        u64::MAX,
    ];
    let mut file = seeds[random.below(seeds.len())].clone();
    let other = &seeds[random.below(seeds.len())];
    // Behind the header lie the weights, about which little can be wrong.
    let reach = random.one_of(&[64, 2_000, 20_000, file.len(), file.len()]);
    let reach = reach.min(file.len());
    match random.below(10) {
        0 => damage(&mut file, other, random),
        1 => file.truncate(random.below(reach)),
        2 | 3 => {
            let mut head = file[..reach].to_vec();
            damage(&mut head, other, random);
            file.splice(..reach, head);
        }
        4 => {
            let text = random.one_of(&GREEDY);
            replace_text(&mut file, "tokenizer.chat_template", text);
        }
        _ => {
            for _ in 0..=random.below(3) {
                let number = random.one_of(&NUMBERS);
                let width = random.one_of(&[1, 4, 8]);
                let at = random.below(reach.saturating_sub(8));
                file[at..at + width].copy_from_slice(&number.to_le_bytes()[..width]);
            }
        }
    }
    file
}

/// Puts another text under that key.
fn replace_text(file: &mut Vec<u8>, key: &str, text: &str) {
    let found = file
        .windows(key.len())
        .position(|bytes| bytes == key.as_bytes());
    // Behind the key come a kind of four bytes and a length of eight.
    let Some(at) = found.map(|at| at + key.len() + 4) else {
        return;
    };
    let Some(length) = file.get(at..at + 8) else {
        return;
    };
    let length = u64::from_le_bytes(length.try_into().unwrap_or_default()) as usize;
    let end = (at + 8).saturating_add(length).min(file.len());
    let mut new = (text.len() as u64).to_le_bytes().to_vec();
    new.extend(text.bytes());
    file.splice(at..end, new);
}

/// A folder with one file in it.
struct OneFile(Rc<dyn ByteSource>);

impl Folder for OneFile {
    fn names(&self) -> Vec<String> {
        vec![NAME.into()]
    }

    fn open(&self, _: &str) -> Result<Rc<dyn ByteSource>, SourceError> {
        Ok(self.0.clone())
    }

    fn path(&self) -> PathBuf {
        PathBuf::new()
    }
}

struct Kept(Vec<u8>);

impl Sink for Kept {
    fn write<'a>(&'a mut self, bytes: &'a [u8]) -> LocalFuture<'a, Result<(), ConvertError>> {
        self.0.extend(bytes);
        Box::pin(std::future::ready(Ok(())))
    }
}

fn open(file: Vec<u8>) -> Outcome {
    let conversion = match block_on(Conversion::prepare(
        &OneFile(Rc::new(file)),
        Some(NAME),
        None,
    )) {
        Ok(conversion) => conversion,
        Err(error) => return Outcome::Refused(kind(&error.to_string())),
    };
    let mut kept = Kept(Vec::new());
    if let Err(error) = block_on(conversion.write_weights(0, &mut kept)) {
        return Outcome::Refused(kind(&error.to_string()));
    }
    // What the conversion wrote, the program has to be able to read.
    let made = |name: &str| {
        let files = conversion.files.iter();
        let mut found = files.filter(|(own, _)| *own == name);
        found.next().map(|(_, bytes)| &bytes[..])
    };
    let config = made(manifest::CONFIG).map(ModelConfig::from_json);
    let tokenizer = made(manifest::TOKENIZER).map(Tokenizer::from_json);
    let (Some(Ok(_)), Some(Ok(tokenizer))) = (config, tokenizer) else {
        return Outcome::Wrong("unreadable");
    };
    if block_on(WeightFile::open(kept.0)).is_err() {
        return Outcome::Wrong("weights");
    }
    let (template, settings) = (
        made(manifest::CHAT_TEMPLATE),
        made(manifest::TOKENIZER_CONFIG),
    );
    let template = match ChatTemplate::of_model(template, settings, &tokenizer) {
        Ok(template) => template,
        Err(error) => return Outcome::Refused(kind(&error.to_string())),
    };
    let message = |role: &str, content: &str| Message {
        role: role.into(),
        content: content.into(),
    };
    let messages = [
        message("system", "Be kind."),
        message("user", "Hello <|end|>!"),
    ];
    match template.encode(&tokenizer, &messages, true) {
        Ok(encoded) => {
            tokenizer.decode(&encoded.ids);
            Outcome::Opened
        }
        Err(error) => Outcome::Refused(kind(&error.to_string())),
    }
}

/// A sentence without what is of one file only: names of tensors, numbers, its end.
fn kind(sentence: &str) -> String {
    let reason = match sentence.strip_prefix("tensor ") {
        Some(rest) => rest.split_once(": ").map_or(rest, |(_, reason)| reason),
        None => sentence,
    };
    let plain = reason
        .chars()
        .filter(|letter| letter.is_ascii_lowercase() || *letter == ' ');
    plain.take(40).collect()
}
