//! A small study on the default checkpoint: the ready-made villainous moves evidence, random directions do not, and a run that
//! stopped goes on to the same end.

use crate::{CHAT, CPU_EXACT};
use pollster::block_on;
use trimtab_engine::Engine;
use trimtab_persona::controls::{ControlSettings, Controls, Direction};
use trimtab_persona::plan::relative_dose;
use trimtab_persona::trait_pack::TraitPack;
use trimtab_persona::trials::{TrialRecords, TrialSetup, Trials};
use trimtab_persona::vector_file::VectorFile;
use trimtab_testing::files::bytes;

/// Steps until `enough` or the end.
fn run(
    engine: &mut Engine,
    setup: &TrialSetup,
    kept: Option<TrialRecords>,
    enough: impl Fn(&Trials) -> bool,
) -> TrialRecords {
    let mut trials = Trials::new(setup.clone(), kept).unwrap();
    while !enough(&trials) && block_on(trials.next(engine, &CHAT)).unwrap().is_some() {}
    trials.records().clone()
}

#[test]
fn villainous_stands_out_from_random_directions() {
    let mut engine = CPU_EXACT.take();
    let pack = TraitPack::parse(&bytes("models/traits/villainous.json")).unwrap();
    let file = bytes("models/vectors/villainous.safetensors");
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

    let some = run(&mut engine, &setup, None, |trials| {
        trials.progress().written >= 13
    });
    assert!(some.iter().flatten().any(Option::is_none));
    let records = run(&mut engine, &setup, Some(some), |_| false);
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
    let whole = run(&mut engine, &setup, None, |trials| {
        trials.progress().written >= 20
    });
    for (whole, stopped) in whole.iter().flatten().zip(records.iter().flatten()) {
        if let (Some(whole), Some(stopped)) = (whole, stopped) {
            assert_eq!(whole.ids, stopped.ids);
        }
    }
}
