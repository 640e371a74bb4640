//! A small study on the default checkpoint: the ready-made villainous moves evidence, random directions do not, and a run that
//! stopped goes on to the same end.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use pollster::block_on;
use std::path::{Path, PathBuf};
use trimtab_checkpoint::{ChatTemplate, FileSource, ModelConfig, Tokenizer, WeightFile};
use trimtab_engine::{Backend, Engine, EngineOptions, Precision};
use trimtab_persona::controls::{ControlSettings, Controls, Direction};
use trimtab_persona::conversation::ChatText;
use trimtab_persona::trait_pack::TraitPack;
use trimtab_persona::trials::{TrialRecords, TrialSetup, Trials};
use trimtab_persona::vector_file::VectorFile;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn model() -> PathBuf {
    std::env::var_os("TRIMTAB_MODEL").map_or_else(
        || repository().join("models/smollm2-135m-instruct"),
        PathBuf::from,
    )
}

fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| {
        panic!(
            "{} is needed ({error}); the model comes with `cargo xtask model`",
            path.display()
        )
    })
}

fn engine() -> Engine {
    let config = ModelConfig::from_json(&bytes(&model().join("config.json"))).unwrap();
    let options = EngineOptions {
        backend: Backend::Cpu,
        precision: Precision::Fast,
        context: Some(256),
        sequences: 12,
    };
    block_on(async {
        let source = FileSource::open(&model().join("model.safetensors")).unwrap();
        let weights = WeightFile::open(source).await.unwrap();
        Engine::load(&config, &weights, options, &mut |_| ())
            .await
            .unwrap()
    })
}

/// Steps until `enough` or the end.
fn run(
    engine: &mut Engine,
    chat: &ChatText,
    setup: &TrialSetup,
    kept: Option<TrialRecords>,
    enough: impl Fn(&Trials) -> bool,
) -> TrialRecords {
    let mut trials = Trials::new(setup.clone(), kept).unwrap();
    while !enough(&trials) && block_on(trials.next(engine, chat)).unwrap().is_some() {}
    trials.records().clone()
}

#[test]
fn villainous_stands_out_from_random_directions() {
    let read = |name: &str| bytes(&model().join(name));
    let chat = ChatText {
        tokenizer: Tokenizer::from_json(&read("tokenizer.json")).unwrap(),
        template: ChatTemplate::from_files(
            Some(&read("chat_template.jinja")),
            Some(&read("tokenizer_config.json")),
        )
        .unwrap(),
    };
    let mut engine = engine();
    let pack = bytes(&repository().join("models/traits/villainous.json"));
    let pack = TraitPack::parse(&pack).unwrap();
    let file = bytes(&repository().join("models/vectors/villainous.safetensors"));
    let width = engine.config().hidden_size;
    let vector = VectorFile::parse(&file)
        .unwrap()
        .into_vector("villainous", None, engine.layer_rows(), width)
        .unwrap();
    let mut settings = ControlSettings::brief(&pack, &[], 16, 0.18);
    settings.material.questions.truncate(5);
    settings.material.pairs.truncate(1);
    settings.neutral_samples = 2;
    settings.max_tokens = 20;
    let (controls, setup) = Controls::new(&pack, &vector, &[], None, settings).unwrap();

    let some = run(&mut engine, &chat, &setup, None, |trials| {
        trials.progress().written >= 13
    });
    assert!(some.iter().flatten().any(Option::is_none));
    let records = run(&mut engine, &chat, &setup, Some(some), |_| false);
    let report = controls.report(&setup, &records).unwrap();
    let effect = |direction: &Direction| {
        let row = report.rows.iter().find(|row| row.direction == *direction);
        row.unwrap().outcome.deviations.unwrap().value
    };
    let villainous = effect(&Direction::Vector);
    for seed in 0..3 {
        assert!(
            villainous > effect(&Direction::Random(seed)) + 0.5,
            "{report:#?}"
        );
    }
    assert!(
        villainous > effect(&Direction::Flipped) + 1.0,
        "{report:#?}"
    );
    assert!(
        report
            .verdict
            .sentence
            .contains("deviations of neutral answers")
    );

    // The same from the beginning, without a stop.
    let whole = run(&mut engine, &chat, &setup, None, |trials| {
        trials.progress().written >= 20
    });
    for (whole, stopped) in whole.iter().flatten().zip(records.iter().flatten()) {
        if let (Some(whole), Some(stopped)) = (whole, stopped) {
            assert_eq!(whole.ids, stopped.ids);
        }
    }
}
