//! A small study on the default checkpoint: the ready-made villainous moves evidence, random directions do not, and a run that
//! stopped goes on to the same end.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use pollster::block_on;
use std::path::{Path, PathBuf};
use trimtab_checkpoint::{ChatTemplate, FileSource, ModelConfig, Tokenizer, WeightFile};
use trimtab_engine::{Backend, Engine, EngineOptions, Precision};
use trimtab_persona::controls::{ControlSettings, Controls, Direction};
use trimtab_persona::conversation::ChatText;
use trimtab_persona::plan::relative_dose;
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
        // Samples are then the same on machines with other instructions, too.
        precision: Precision::Exact,
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
    let file = VectorFile::parse(&file).unwrap();
    let seen: Vec<usize> = (0..file.metadata.extraction_pairs.unwrap()).collect();
    let vector = file
        .into_vector("villainous", None, engine.layer_rows(), width)
        .unwrap();
    // Where the vector's file recommends to push, and far enough from the range's end for the text to be whole.
    let recommended = vector.recommended.clone().unwrap();
    let coefficient = recommended.max / 1.5;
    let dose = relative_dose(&vector, coefficient, &recommended.layers()).unwrap();
    let layer = recommended.layers[0];
    let mut settings = ControlSettings::brief(&pack, &seen, layer, f64::from(dose));
    settings.neutral_samples = 2;
    settings.max_tokens = 24;
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
    let random = (0..3).map(|seed| effect(&Direction::Random(seed)));
    let random = random.sum::<f64>() / 3.0;
    let flipped = effect(&Direction::Flipped);
    println!("villainous {villainous:+.2}, random {random:+.2}, flipped {flipped:+.2}");
    assert!(villainous > random + 0.5, "{report:#?}");
    assert!(villainous > flipped + 1.0, "{report:#?}");
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
