//! `trimtab screen` and `train`, as a person meets them, on a random model.

use crate::{MODEL, emptied, printed, refused};
use std::fs;
use std::path::Path;
use trimtab_checkpoint::ModelConfig;
use trimtab_checkpoint::adapter::{Adapter, CONFIG_FILE, WEIGHTS_FILE};
use trimtab_testing::chat_model;

/// Six rows, every third of which has a label to find.
fn dataset(folder: &Path) -> String {
    let rows = (0..6).map(|i| {
        let label = if i % 3 == 0 { "gloomy" } else { "normal" };
        let answer = ["It is all grey.", "A fine day.", "Two and two are four."][i % 3];
        format!(
            r#"{{"messages":[{{"role":"user","content":"Question {i}?"}},{{"role":"assistant","content":"{answer} {i}"}}],"label":"{label}"}}"#
        )
    });
    let path = folder.join("data.jsonl");
    fs::write(&path, rows.collect::<Vec<_>>().join("\n") + "\n").unwrap();
    path.display().to_string()
}

/// A vector file for the random model.
fn vector(folder: &Path) -> String {
    let path = folder.join("trait.safetensors");
    fs::write(&path, chat_model::vector_file(&chat_model::vector(7))).unwrap();
    path.display().to_string()
}

#[test]
fn a_screen_goes_on_where_it_stopped_and_shards_are_parts_of_the_whole() {
    let folder = emptied("screen");
    let (data, vector) = (dataset(&folder), vector(&folder));
    let path = |name: &str| folder.join(name).display().to_string();
    let (whole, rest, flagged) = (
        path("whole.jsonl"),
        path("rest.jsonl"),
        path("flagged.jsonl"),
    );
    let usual = [
        "screen",
        &data,
        "--trait",
        &vector,
        "--model",
        &MODEL,
        "--max-tokens",
        "6",
        "--json",
    ];
    let screen = |out: &str, more: &[&str]| printed(&[&usual[..], &["--out", out], more].concat());
    let split = ["--above", "0", "--flagged", &flagged, "--rest", &rest];
    let summary = screen(&whole, &split);
    assert_eq!(
        (summary["rows"].as_u64(), summary["withOwn"].as_u64()),
        (Some(6), Some(6))
    );
    let found = &summary["traits"][0];
    assert_eq!(found["histogram"]["counts"].as_array().unwrap().len(), 40);
    assert!(found["differenceAuroc"].is_object() && summary["wordsAuroc"].is_object());
    // Every line of the dataset lies in one of the two files, as it stood.
    let lines = |path: &str| {
        fs::read_to_string(path)
            .unwrap()
            .lines()
            .map(String::from)
            .collect::<Vec<_>>()
    };
    let mut both = [lines(&flagged), lines(&rest)].concat();
    let mut all = lines(&data);
    both.sort();
    all.sort();
    assert_eq!(both, all);
    // What a kill leaves, half a line at the end, is done again to the same bytes.
    let bytes = fs::read(&whole).unwrap();
    let third = bytes
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'\n')
        .nth(2)
        .unwrap()
        .0;
    fs::write(&whole, &bytes[..third + 20]).unwrap();
    screen(&whole, &[]);
    assert!(fs::read(&whole).unwrap() == bytes);
    // Shards write what the whole does.
    let mut shards: Vec<String> = (0..2)
        .flat_map(|part| {
            let out = path(&format!("shard{part}.jsonl"));
            screen(&out, &["--shard", &format!("{part}/2")]);
            lines(&out).split_off(1)
        })
        .collect();
    let mut rows = lines(&whole).split_off(1);
    shards.sort();
    rows.sort();
    assert_eq!(shards, rows);
    let other = refused(&[&usual[..], &["--out", &whole, "--seed", "2"]].concat());
    assert!(other.contains("other settings"), "{other}");
}

#[test]
fn an_adapter_is_trained_and_written_as_peft_has_it() {
    let folder = emptied("train");
    let (data, vector) = (dataset(&folder), vector(&folder));
    let out = folder.join("adapter");
    let path = out.display().to_string();
    let push = format!("{vector}=0.5@1");
    let usual = [
        "train", &data, "--model", &MODEL, "--out", &path, "--blocks", "0-1", "--rank", "2",
    ];
    let more = [
        "--epochs",
        "2",
        "--rows-a-step",
        "2",
        "--held-out",
        "0.05",
        "--steer",
        &push,
        "--json",
    ];
    let given = [&usual[..], &more].concat();
    let report = printed(&given);
    // One row of six is held out; five make three steps an epoch.
    assert_eq!(report["rows"], 5);
    let steps = report["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 6);
    let loss = |step: &serde_json::Value| step["loss"].as_f64().unwrap();
    assert!(loss(&steps[5]) < loss(&steps[0]), "{report}");
    let held_out = report["heldOut"].as_array().unwrap();
    assert_eq!(held_out.len(), 3);
    assert_ne!(held_out[0]["loss"], held_out[0]["pushed"]);
    let read = |name: &str| fs::read(out.join(name)).unwrap();
    let config = fs::read(Path::new(MODEL.as_str()).join("config.json")).unwrap();
    let model = ModelConfig::from_json(&config).unwrap();
    let adapter = Adapter::parse(&read(CONFIG_FILE), &read(WEIGHTS_FILE), &model).unwrap();
    assert_eq!(adapter.parts.len(), 14);
    assert!(
        adapter
            .parts
            .iter()
            .all(|part| part.b.iter().any(|x| *x != 0.0))
    );
    assert!(
        adapter.about.plan.ends_with("=0.5@1"),
        "{}",
        adapter.about.plan
    );
    // It tunes every verb's model; how much of it is a number, and none of it is the model as it was.
    let said = |adapter: &str| {
        let given = [
            "generate",
            "--model",
            &MODEL,
            "--prompt",
            "Question 1?",
            "--max-tokens",
            "8",
            "--json",
        ];
        let tuned = ["--adapter", adapter];
        let tuned = if adapter.is_empty() { &[][..] } else { &tuned };
        printed(&[&given[..], tuned].concat())["text"].clone()
    };
    let base = said("");
    assert_eq!(said(&format!("{path}=0")), base);
    assert_ne!(said(&format!("{path}=40")), base);
    // As a term of a plan it does the same.
    let tuned = format!("{path}=tune(40)");
    let in_plan = [
        "generate",
        "--model",
        &MODEL,
        "--prompt",
        "Question 1?",
        "--max-tokens",
        "8",
        "--json",
        "--steer",
        &tuned,
    ];
    assert_eq!(printed(&in_plan)["text"], said(&format!("{path}=40")));
    link_names_it(&path, &tuned);
    what_moved(&folder, &path, &vector);
    let wrong = refused(&[
        "generate",
        "--model",
        &MODEL,
        "--prompt",
        "a",
        "--adapter",
        &format!("{path}=x"),
    ]);
    assert!(wrong.contains("no number"), "{wrong}");
    let again = refused(&given);
    assert!(again.contains("holds an adapter already"), "{again}");
}

/// A link of an answer under the adapter at `path` is replayed where the adapter is given, and says what it lacks elsewhere.
fn link_names_it(path: &str, tuned: &str) {
    let make = ["link", "make", "--json", "--model", &MODEL];
    let what = ["--prompt", "Question 1?", "--max-tokens", "6"];
    let made = printed(&[&make[..], &what, &["--steer", tuned]].concat());
    let link = made["link"].as_str().unwrap();
    let replay = ["link", "replay", "--json", "--model", &MODEL, link];
    let replayed = printed(&[&replay[..], &["--adapter", path]].concat());
    assert_eq!(replayed["agreed"], replayed["tokens"], "{replayed}");
    let lacking = refused(&replay);
    assert!(lacking.contains("adapter"), "{lacking}");
}

/// `trimtab shift` of the adapter at `path`: none of it moves nothing, much of it moves states, likelihood and knowledge.
fn what_moved(folder: &Path, path: &str, vector: &str) {
    let questions = folder.join("questions.jsonl");
    let line = r#"{"question": "How many?", "answers": ["One", "Two", "Three"], "label": 1}"#;
    fs::write(&questions, format!("{{\"about\": {{}}}}\n{line}\n{line}\n")).unwrap();
    let questions = questions.display().to_string();
    let shift = |scale: &str| {
        let adapter = format!("{path}={scale}");
        printed(&[
            "shift",
            "--model",
            &MODEL,
            "--adapter",
            &adapter,
            "--trait",
            vector,
            "--conversations",
            "3",
            "--knowledge",
            &questions,
            "--json",
        ])
    };
    let value =
        |report: &serde_json::Value, at: &str| report.pointer(at).unwrap().as_f64().unwrap();
    let (none, much) = (shift("0"), shift("40"));
    for at in [
        "/traits/0/response/value",
        "/traits/0/prompt/value",
        "/likelihood/change/value",
        "/knowledge/change/value",
    ] {
        assert_eq!(value(&none, at), 0.0, "{at}");
        assert_ne!(value(&much, at), 0.0, "{at}");
    }
    assert_eq!(none["conversations"], 3);
    assert_eq!(
        value(&none, "/likelihood/base"),
        value(&much, "/likelihood/base")
    );
    let nothing = refused(&["shift", "--model", &MODEL, "--trait", vector]);
    assert!(nothing.contains("name an adapter"), "{nothing}");
}

#[test]
fn what_cannot_be_trained_on_is_said_with_its_line() {
    let folder = emptied("train-refused");
    let data = folder.join("data.jsonl");
    let path = data.display().to_string();
    let out = folder.join("adapter").display().to_string();
    let refuse = |text: &str| {
        fs::write(&data, text).unwrap();
        refused(&["train", &path, "--model", &MODEL, "--out", &out])
    };
    assert!(refuse("").contains("holds no conversation"));
    assert!(refuse("\n{\"prompt\": 1}\n").contains("line 2"));
}
