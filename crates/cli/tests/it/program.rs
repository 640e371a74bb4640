//! The program as a person meets it: flags, JSON, exit codes, sentences.

use crate::{MODEL, command, printed, scratch, trimtab};
use safetensors::SafeTensors;
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Output, Stdio};
use trimtab_testing::chat_model;
use trimtab_testing::files::{bytes, golden};

/// The exit code and standard error of a run that fails.
fn refused(arguments: &[&str]) -> (Option<i32>, String) {
    let output = trimtab(arguments);
    assert!(!output.status.success(), "trimtab {arguments:?} succeeded");
    assert!(output.stdout.is_empty());
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// Writes `{"ids": […]}` and returns its path.
fn ids_file(name: &str, ids: &[u64]) -> String {
    let path = scratch(name);
    std::fs::write(&path, json!({"ids": ids}).to_string()).unwrap();
    path.display().to_string()
}

fn golden_sequence() -> (Vec<u64>, Vec<f64>, Vec<u64>) {
    let golden: Value = serde_json::from_slice(&golden("nll.json")).unwrap();
    let sequence = &golden["sequences"][3];
    let whole = |key: &str| numbers(&sequence[key]).iter().map(|&n| n as u64).collect();
    (whole("ids"), numbers(&sequence["nll"]), whole("top1"))
}

fn floats(bytes: &[u8]) -> Vec<f64> {
    let chunks = bytes.as_chunks::<4>().0.iter();
    chunks
        .map(|four| f64::from(f32::from_le_bytes(*four)))
        .collect()
}

fn length(row: &[f64]) -> f64 {
    row.iter().map(|x| x * x).sum::<f64>().sqrt()
}

fn numbers(value: &Value) -> Vec<f64> {
    let list = value.as_array().unwrap();
    list.iter().map(|number| number.as_f64().unwrap()).collect()
}

/// Tokens of the prompt and of the answer.
fn written(generated: &Value) -> (Vec<u64>, Vec<u64>) {
    let tokens = generated["tokens"].as_array().unwrap().iter();
    let mut ids: Vec<u64> = tokens.map(|token| token["id"].as_u64().unwrap()).collect();
    let answer = ids.split_off(generated["answerStart"].as_u64().unwrap() as usize);
    (ids, answer)
}

#[test]
fn score_prints_what_transformers_computed() {
    let (ids, nll, top1) = golden_sequence();
    let score = printed(&[
        "score",
        "--json",
        "--ids",
        &ids_file("score.json", &ids[..80]),
    ]);
    let found = numbers(&score["nll"]);
    assert_eq!((found.len(), numbers(&score["top1"]).len()), (79, 79));
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let expected = mean(&nll[..79]);
    assert!((mean(&found) - expected).abs() < 2e-4 * expected);
    assert!((score["meanNll"].as_f64().unwrap() - mean(&found)).abs() < 1e-5);
    let agree = numbers(&score["top1"])
        .iter()
        .zip(&top1)
        .filter(|(ours, theirs)| **ours as u64 == **theirs)
        .count();
    assert!(agree >= 78, "{agree} of 79");
}

/// Whoever reads the output may stop: nothing has gone wrong then.
#[test]
fn a_closed_pipe_ends_the_program_quietly() {
    for line in [&["compare"][..], &["compare", "--json"], &["--help"]] {
        let mut child = command(line)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{line:?}");
        assert!(output.stderr.is_empty());
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told() {
    let full = std::fs::File::create("/dev/full").unwrap();
    let output = command(&["compare"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("standard output cannot be written"), "{told}");
}

/// The readings that `generate` prints are the traced residual's projections, token by token.
#[test]
fn readings_are_projections_of_the_trace() {
    let (ids, ..) = golden_sequence();
    let prompt = ids_file("prompt.json", &ids[..24]);
    let steer = [
        "--steer",
        "models/vectors/cheerful.safetensors#prompt_avg=1.5@14-15:response",
    ];
    let generate = [
        "generate",
        "--json",
        "--ids",
        &prompt,
        "--max-tokens",
        "5",
        "--precision",
        "exact",
        "--read",
        "cheerful",
    ];
    let generated = printed(&[&generate[..], &steer].concat());
    let (given, new) = written(&generated);
    assert_eq!(given, ids[..24]);
    assert!((1..=5).contains(&new.len()));
    assert!(!generated["text"].as_str().unwrap().is_empty());
    let directions = generated["directions"].as_array().unwrap();
    let cheerful = directions.iter().position(|name| name == "cheerful");
    let readings = &generated["readings"];
    assert_eq!(readings["tokens"], 24 + new.len());
    assert_eq!(readings["traits"], directions.len());
    let reading = |token: usize, layer: usize| {
        let at = (token * directions.len() + cheerful.unwrap()) * 31 + layer;
        readings["values"][at].as_f64().unwrap()
    };

    let all = ids_file("all.json", &[&ids[..24], &new].concat());
    let out = scratch("trace.safetensors").display().to_string();
    let trace = [
        "trace",
        "--json",
        "--ids",
        &all,
        "--prompt-length",
        "24",
        "--out",
        &out,
    ];
    printed(&[&trace[..], &steer].concat());
    let traced = std::fs::read(&out).unwrap();
    let trace = SafeTensors::deserialize(&traced).unwrap();
    let residual = trace.tensor("residual").unwrap();
    let tokens = 24 + new.len();
    assert_eq!(residual.shape(), [31, tokens, 576]);
    assert_eq!(trace.tensor("ids").unwrap().shape(), [tokens]);
    let vector = bytes("models/vectors/cheerful.safetensors");
    let vector = SafeTensors::deserialize(&vector).unwrap();
    let vector = floats(vector.tensor("response_avg").unwrap().data());
    let residual = floats(residual.data());
    for token in 1..tokens {
        for layer in [1, 13, 14, 15, 30] {
            let v = &vector[layer * 576..][..576];
            let h = &residual[(layer * tokens + token) * 576..][..576];
            let dot: f64 = h.iter().zip(v).map(|(h, v)| h * v).sum();
            let difference = (dot / length(v) - reading(token, layer)).abs();
            assert!(
                difference < 1e-3 * length(h),
                "token {token}, layer {layer}: {difference}"
            );
        }
    }
}

#[test]
fn a_zero_coefficient_changes_nothing_and_a_push_does() {
    let vector = scratch("random.safetensors").display().to_string();
    let file = chat_model::vector_file(&chat_model::vector(7));
    std::fs::write(&vector, file).unwrap();
    let model = ["generate", "--json", "--model", &MODEL];
    let prompt = ["--prompt", "How was your day?", "--max-tokens", "12"];
    let ids = |more: &[&str]| written(&printed(&[&model[..], &prompt, more].concat())).1;
    let plain = ids(&[]);
    let pushed = |push: &str| ids(&["--steer", &format!("{vector}={push}")]);
    assert_eq!(pushed("0@1"), plain);
    assert_ne!(pushed("-3@1"), plain);
    let sampled = ["--temperature", "0.8", "--top-p", "0.9", "--seed", "4"];
    assert_eq!(ids(&sampled), ids(&sampled));
}

#[test]
fn a_chat_file_and_a_system_prompt_are_rendered_by_the_models_template() {
    let chat = scratch("chat.json");
    let messages =
        json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]);
    std::fs::write(&chat, messages.to_string()).unwrap();
    let short = ["--json", "--max-tokens", "1", "--model", &MODEL];
    let of = |more: &[&str]| written(&printed(&[&["generate"], more, &short].concat())).0;
    let from_file = of(&["--chat", &chat.display().to_string()]);
    assert_eq!(from_file, of(&["--system", "Be brief.", "--prompt", "Hi"]));
    assert_ne!(from_file, of(&["--prompt", "Hi"]));
}

#[test]
fn extraction_from_pairs_writes_three_tensors() {
    let out = scratch("extracted.safetensors").display().to_string();
    let report = printed(&[
        "extract",
        "--json",
        "--pairs",
        "tests/golden/extract.json",
        "--out",
        &out,
    ]);
    assert_eq!(report["counts"], json!({"positive": 3, "negative": 3}));
    let bytes = std::fs::read(&out).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let golden = golden("extract.safetensors");
    let golden = SafeTensors::deserialize(&golden).unwrap();
    let mut names = file.names();
    names.sort();
    assert_eq!(names, ["prompt_avg", "prompt_last", "response_avg"]);
    for name in names {
        let (ours, theirs) = (file.tensor(name).unwrap(), golden.tensor(name).unwrap());
        assert_eq!(ours.shape(), [31, 576]);
        let (ours, theirs) = (floats(ours.data()), floats(theirs.data()));
        let difference: Vec<f64> = ours.iter().zip(&theirs).map(|(a, b)| a - b).collect();
        assert!(length(&difference) < 1e-3 * length(&theirs), "{name}");
    }
}

/// The golden link of that name.
fn golden_link(name: &str) -> String {
    let golden: Value = serde_json::from_slice(&golden(&format!("links/{name}.json"))).unwrap();
    golden["link"].as_str().unwrap().to_owned()
}

/// The program with `input` on its standard input.
fn trimtab_reading(arguments: &[&str], input: &str) -> Output {
    let mut child = command(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that has seen enough may close its end first.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

#[test]
fn a_link_is_checked_as_an_argument_and_from_standard_input() {
    let code = golden_link("segments");
    let address = format!("https://example.org/trimtab/#r={code}\n");
    for output in [
        trimtab(&["link", "check", &code]),
        trimtab(&["link", "check", address.trim()]),
        trimtab_reading(&["link", "check"], &code),
        trimtab_reading(&["link", "check", "-"], &address),
    ] {
        assert_eq!(output.status.code(), Some(0));
        assert!(output.stderr.is_empty());
    }
    let long = "A".repeat(1 << 20);
    for bad in [&code[..40], "hello", "", "https://example.org/", &long] {
        let output = trimtab_reading(&["link", "check"], bad);
        assert_eq!(output.status.code(), Some(2));
        assert!(output.stdout.is_empty());
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(
            error.starts_with("trimtab: ") && error.contains("link"),
            "{error}"
        );
    }
}

#[test]
fn a_link_is_shown_without_a_model() {
    let shown = printed(&["link", "show", "--json", &golden_link("unicode")]);
    assert_eq!(shown["look"]["title"], "Ünïcödé 🌊");
    assert_eq!(shown["look"]["note"], "<script>alert(1)</script> is text.");
    let message = &shown["messages"][0];
    let tokens = message["tokens"].as_array().unwrap();
    let spelt: String = tokens
        .iter()
        .map(|token| token["text"].as_str().unwrap())
        .collect();
    assert_eq!(message["text"], spelt);
    assert!(tokens.iter().any(|token| token["reading"].is_number()));

    let output = trimtab(&["link", "show", &golden_link("segments")]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("One story, three moods"), "{text}");
    assert!(
        text.contains("cheerful=2@16; from token 8 on villainous=1.5@16"),
        "{text}"
    );
    assert!(text.contains("from token 16 on unsteered"), "{text}");
}

#[test]
fn a_link_that_was_made_here_replays_here() {
    let steer = [
        "--steer",
        "models/vectors/poetic.safetensors#prompt_avg=2@15-16:response",
    ];
    let make = [
        "link",
        "make",
        "--json",
        "--prompt",
        "Hello!",
        "--max-tokens",
        "6",
        "--seed",
        "3",
    ];
    let more = [
        "--temperature",
        "0.8",
        "--title",
        "A greeting",
        "--base",
        "https://example.org/t/",
    ];
    let made = printed(&[&make[..], &steer, &more].concat());
    let link = made["link"].as_str().unwrap();
    assert!(link.starts_with("https://example.org/t/#r="), "{link}");
    let replayed = printed(&["link", "replay", "--json", link]);
    assert_eq!(replayed["agreed"], replayed["tokens"]);
    assert_eq!(replayed["samePrompts"], true);
    let answer = &replayed["answers"][0];
    let (_, ids) = written(answer);
    assert_eq!(serde_json::json!(ids), made["messages"][1]["ids"]);
    let chosen = answer["chosen"].as_array().unwrap().iter();
    assert!(chosen.map(|one| &one["id"]).eq(&ids));
    // A vector in the link has readings at the layers that it carries, and nowhere else.
    assert_eq!(replayed["directions"], json!(["poetic"]));
    let start = answer["answerStart"].as_u64().unwrap() as usize;
    let reading = |layer: usize| &answer["reread"]["values"][start * 31 + layer];
    assert!(reading(16).is_number() && reading(15).is_number() && reading(14).is_null());
    assert_eq!(*reading(15), made["messages"][1]["readings"][0]);
    let sentence = replayed["sentence"].as_str().unwrap();
    assert!(sentence.contains("This machine agrees on"), "{sentence}");
}

#[test]
fn mistakes_get_a_sentence_and_a_code() {
    let prompt = ["generate", "--prompt", "Hi", "--max-tokens", "1"];
    let steer = |term: &str| refused(&[&prompt[..], &["--steer", term]].concat());
    let (code, error) = steer("cheerful=2@31");
    assert_eq!(code, Some(1));
    assert!(
        error.contains("layer 31") && error.contains("0 to 30"),
        "{error}"
    );
    assert!(steer("cheerful").1.contains("NAME=COEFFICIENT@LAYERS"));
    assert!(
        steer("grumpy=2@16").1.contains("cheerful"),
        "the ready-made traits are named"
    );
    assert!(
        steer("models/vectors/cheerful.safetensors#odd=2@16")
            .1
            .contains("\"odd\"")
    );
    let (code, error) = refused(&["score", "--ids", "nowhere.json"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("nowhere.json"), "{error}");
    assert!(
        refused(&["score", "--ids", &ids_file("one.json", &[5])])
            .1
            .contains("two tokens")
    );
    assert!(
        refused(&["score", "--ids", &ids_file("far.json", &[5, 99_999])])
            .1
            .contains("99999")
    );
    let model = scratch("").display().to_string();
    assert!(
        refused(&["generate", "--prompt", "Hi", "--model", &model])
            .1
            .contains("config.json")
    );
    let (code, error) = refused(&[&prompt[..], &["--temperature", "-1"]].concat());
    assert_eq!(code, Some(1));
    assert!(error.contains("temperature"), "{error}");
    let link = ["link", "make", "--prompt", "Hi", "--max-tokens", "65537"];
    assert!(refused(&link).1.contains("at most 65536"));
    assert_eq!(refused(&["generate"]).0, Some(2));
    assert_eq!(refused(&["sing"]).0, Some(2));
}
