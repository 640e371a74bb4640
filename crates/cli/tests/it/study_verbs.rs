//! `trimtab sweep`, `controls` and `predict`, as a person meets them. On a random model, but where the ready-made vectors matter.

use crate::{MODEL, emptied, fresh, printed, refused};
use serde_json::Value;
use std::sync::LazyLock;
use trimtab_checkpoint::source::LocalFuture;
use trimtab_engine::Precision;
use trimtab_persona::conversation::ChatText;
use trimtab_persona::vector_file::VectorFile;
use trimtab_studio::session::Session;
use trimtab_studio::studies::StudyEvent;
use trimtab_studio::verbs::{Event, Request, perform};
use trimtab_studio::watch::{Asked, Watch};
use trimtab_testing::files::bytes;
use trimtab_testing::{chat_model, default_model};

const PACK: &str = "models/traits/cheerful.json";
const READY_MADE: [&str; 4] = ["--trait", PACK, "--vector", "cheerful"];
/// Made before vector files told which instruction pairs extraction used; links name it, so it stays.
const EARLIER_CHEERFUL: &str =
    "models/vectors/4524b4a308df1a69c9b48fb316ee71b7ef817196058aa11de40bfc1dd2d135dc.safetensors";
/// As little as can be measured: 9 unsteered answers and 3 steered ones of 8 tokens.
const SMALL: [&str; 10] = [
    "--questions",
    "3",
    "--neutral-samples",
    "3",
    "--max-tokens",
    "8",
    "--pairs",
    "1",
    "--precision",
    "fast",
];

/// A vector that the random model has made of four of the five instruction pairs.
static VECTOR: LazyLock<String> = LazyLock::new(|| {
    let vector = emptied("study").join("cheerful.safetensors");
    let vector = vector.display().to_string();
    extract(&vector, &["--instruction-pairs", "4", "--questions", "4"]);
    vector
});

/// Runs `extract`, with the record and the neutral answers beside the vector at `out`.
fn extract(out: &str, more: &[&str]) -> Value {
    let usual = ["extract", "--trait", PACK, "--model", &MODEL, "--out", out];
    // Hardly a response of a random model counts by its evidence.
    let few = [
        "--max-tokens",
        "16",
        "--min-evidence",
        "-1000",
        "--band",
        "1000",
        "--json",
    ];
    printed(&[&usual[..], &few, more].concat())
}

/// What a study of that vector by the random model is given.
fn study_of(vector: &str) -> Vec<&str> {
    let given = ["--trait", PACK, "--vector", vector, "--model", &MODEL];
    [&given[..], &SMALL].concat()
}

#[test]
fn a_sweep_reports_every_setting_and_goes_on_from_what_it_kept() {
    let keep = fresh("sweep-kept.json");
    let keep = keep.to_str().unwrap();
    let study = study_of(&VECTOR);
    let given = |doses| {
        let plan = ["--layers", "1", "--all-layers", "--doses", doses];
        [&["sweep"], &study[..], &plan, &["--json", "--keep", keep]].concat()
    };
    let report = printed(&given("0.15"));
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0]["layers"], serde_json::json!([1]));
    assert_eq!(rows[1]["allLayers"], true);
    let detail = &report["detail"];
    assert_eq!(detail["unsteered"]["answers"], 9);
    for row in rows {
        assert!(row["kl"].as_f64().unwrap() > 0.0, "{row}");
        assert!(row["perplexity"].as_f64().unwrap() > 1.0);
        assert_eq!(row["texts"].as_array().unwrap().len(), 3);
        assert!(row["distinct2"].as_f64().unwrap() > 0.0);
    }
    // The vector's file says that four of the five pairs made it: the fifth measures.
    assert_eq!(detail["material"]["unseen"], true);
    assert_eq!(detail["material"]["pairs"], serde_json::json!([4]));
    assert_eq!(report["caveats"], serde_json::json!([]));
    assert!(detail["complete"].as_bool().unwrap());
    assert_eq!(printed(&given("0.15")), report);
    // The unsteered answers are known already, whatever doses are asked for; those to shorter ones are not.
    assert_eq!(
        printed(&given("0.2"))["detail"]["unsteered"],
        detail["unsteered"]
    );
    let shorter: Vec<&str> = given("0.15")
        .into_iter()
        .map(|word| if word == "8" { "7" } else { word })
        .collect();
    assert!(refused(&shorter).contains("another run"));
}

#[test]
fn a_prediction_has_a_point_for_every_system_prompt_and_question() {
    let given = ["--trait", PACK, "--vector", EARLIER_CHEERFUL];
    let report = printed(&[&["predict"], &given[..], &SMALL, &["--json"]].concat());
    let count = |points: &Value| points.as_array().unwrap().len();
    let detail = &report["detail"];
    assert_eq!(count(&report["points"]) + count(&detail["incoherent"]), 15);
    assert_eq!(count(&detail["byLayer"]), 31);
    // Its nearest neighbour is the vector that took its place.
    let cosines: Vec<(String, f64)> = serde_json::from_value(report["cosines"].clone()).unwrap();
    assert_eq!(cosines[0].0, "cheerful");
    assert!((0.5..0.99).contains(&cosines[0].1), "{cosines:?}");
    assert!(cosines.iter().any(|(name, _)| name == "poetic"));
    // Its file does not say which pairs made it.
    assert_eq!(detail["material"]["unseen"], false);
    assert!(report["caveats"][0].as_str().unwrap().contains("flatter"));
}

#[test]
fn what_cannot_be_studied_is_named() {
    let error = refused(&[&["sweep"], &READY_MADE[..], &["--doses", "0"]].concat());
    assert!(error.contains("dose is a number other than 0"), "{error}");
    let error = refused(
        &[
            &["sweep"],
            &READY_MADE[..],
            &["--layers", "31", "--doses", "0.1"],
        ]
        .concat(),
    );
    assert!(error.contains("layer 31 does not exist"), "{error}");
    let error = refused(&[
        "controls",
        "--trait",
        "models/traits/cheerful.json",
        "--vector",
        "nowhere",
    ]);
    assert!(error.contains("nowhere"), "{error}");
    let error = refused(&[&["controls"], &READY_MADE[..], &["--dose", "-1"]].concat());
    assert!(error.contains("above 0"), "{error}");
}

#[test]
fn four_verbs_fill_one_report_and_the_vector_file() {
    let folder = emptied("four-verbs");
    let path = |name: &str| folder.join(name).display().to_string();
    let vector = path("cheerful.safetensors");
    let (report, other) = (&*path("report.json"), &*path("other.safetensors"));
    let given = study_of(&vector);
    let own = [&given[..], &["--report", report, "--json"]].concat();
    std::fs::write(other, chat_model::vector_file(&chat_model::vector(9))).unwrap();
    let early = refused(&[&["predict"], &study_of(&VECTOR)[..], &["--report", report]].concat());
    assert!(early.contains("extract --trait"), "{early}");

    let few = [
        "--instruction-pairs",
        "2",
        "--questions",
        "8",
        "--report",
        report,
    ];
    let made = extract(&vector, &few);
    assert!(
        made["extraction"]["keptPositive"].as_u64().unwrap() > 8,
        "{made}"
    );
    // What other traits are calibrated on stays, unless the record has more.
    let neutral = path("neutral.json");
    let ours = std::fs::read_to_string(&neutral).unwrap();
    let mut shared: Value = serde_json::from_str(&ours).unwrap();
    let left = |shared: &Value| {
        std::fs::write(&neutral, shared.to_string()).unwrap();
        assert_eq!(extract(&vector, &few)["tensors"], made["tensors"]);
        std::fs::read_to_string(&neutral).unwrap()
    };
    shared["answers"][0]["logprob"] = serde_json::json!(-1.5);
    assert_eq!(left(&shared), shared.to_string());
    shared["answers"][0]["logprob"] = Value::Null;
    assert_eq!(left(&shared), ours);
    let place = ["--layers", "1", "--doses", "0.15"];
    let swept = printed(&[&["sweep", "--store"], &own[..], &place].concat());
    // Three of the five pairs were left unseen.
    assert_eq!(swept["detail"]["material"]["unseen"], true, "{swept}");
    let other = ["--layer", "1", "--dose", "0.15", "--other", other];
    let controlled = printed(&[&["controls", "--store"], &own[..], &other].concat());
    let rows = controlled["rows"].as_array().unwrap();
    let count = |kind| rows.iter().filter(|row| row["kind"] == kind).count();
    assert_eq!(
        ["vector", "flipped", "shuffled", "random", "other"].map(count),
        [1, 1, 19, 5, 1]
    );
    printed(&[&["predict", "--layer", "1"], &own[..]].concat());

    let report: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    assert_eq!(report["pack"]["name"], "cheerful");
    let count = |list: &Value| list.as_array().unwrap().len();
    assert_eq!(count(&report["responses"]), 32);
    assert_eq!(count(&report["extraction"]["auc"][0]["values"]), 3);
    assert_eq!(count(&report["sweep"]["rows"]), 1);
    assert_eq!(count(&report["controls"]["rows"]), 27);
    // What the program printed is what the file holds.
    assert_eq!(report["sweep"], swept);
    assert_eq!(report["controls"], controlled);
    assert_eq!(report["prediction"]["calibrated"], true);
    assert!(count(&report["prediction"]["points"]) > 0);
}

/// The page's side of a sweep that is closed in the middle.
struct Closing {
    answers: usize,
    records: Vec<u8>,
}

impl Watch for Closing {
    fn tell(&mut self, event: Event) {
        match event {
            Event::Study(StudyEvent::Progress { done, .. }) => self.answers = done,
            Event::Study(StudyEvent::Records { records }) => self.records = records,
            _ => {}
        }
    }

    fn pause(&mut self) -> LocalFuture<'_, Asked> {
        let stop = self.answers >= 6;
        Box::pin(std::future::ready(Asked { stop, plan: None }))
    }

    fn seconds(&self) -> f64 {
        0.0
    }
}

/// What a person asked the page for, as it posts it to its worker.
fn asked_by_the_page() -> Request {
    let vector = std::fs::read(&*VECTOR).unwrap();
    let pack: Value = serde_json::from_slice(&bytes(PACK)).unwrap();
    let settings = serde_json::json!({
        "layers": [1], "doses": [0.15], "allLayers": false,
        "questions": 3, "maxTokens": 8, "pairs": 1, "neutralSamples": 3,
    });
    let input = serde_json::json!({"pack": pack, "vector": vector, "settings": settings});
    serde_json::from_value(serde_json::json!({"verb": "sweepTrait", "input": input})).unwrap()
}

#[test]
fn what_the_page_has_begun_the_program_goes_on_with() {
    let chat = ChatText {
        tokenizer: default_model::tokenizer(),
        template: default_model::chat_template(),
    };
    let file = VectorFile::parse(&std::fs::read(&*VECTOR).unwrap()).unwrap();
    // The page's engine has room for other numbers of answers, and so writes them in another order.
    let engine = chat_model::engine(Precision::Fast, 4);
    let mut session = Session::new(engine, chat, file.metadata.model_sha256.unwrap());
    let mut page = Closing {
        answers: 0,
        records: Vec::new(),
    };
    let request = asked_by_the_page();
    let run = perform(request, Some(&mut session), &mut page);
    let stopped = pollster::block_on(run).unwrap_err();
    assert!(stopped.message.contains("stopped"), "{stopped}");
    let records = page.records;
    let begun: Value = serde_json::from_slice(&records).unwrap();
    let keep = fresh("begun-by-the-page.json");
    std::fs::write(&keep, &records).unwrap();
    let here = ["--layers", "1", "--doses", "0.15", "--json", "--keep"];
    let keep = keep.to_str().unwrap();
    let report = printed(&[&["sweep"], &study_of(&VECTOR)[..], &here, &[keep]].concat());
    assert!(report["detail"]["complete"].as_bool().unwrap());
    let ended: Value = serde_json::from_slice(&std::fs::read(keep).unwrap()).unwrap();
    let mut kept = Vec::new();
    let mut asked = 0;
    for (trial, begun) in begun["trials"].as_object().unwrap() {
        let ended = ended["trials"][trial].as_array().unwrap();
        let begun = begun.as_array().unwrap();
        asked += begun.len();
        kept.extend(
            begun
                .iter()
                .zip(ended)
                .filter(|(begun, _)| !begun.is_null()),
        );
    }
    assert!(
        (6..asked).contains(&kept.len()),
        "{} of {asked}",
        kept.len()
    );
    for (begun, ended) in kept {
        assert_eq!(begun["ids"], ended["ids"]);
        assert_eq!(begun["likelihoods"]["usual"], ended["likelihoods"]["usual"]);
    }
}
