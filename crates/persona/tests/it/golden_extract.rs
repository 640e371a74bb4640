//! Extraction on the default checkpoint against the same averages of Hugging Face transformers'
//! hidden states (`tests/golden/extract.*`).

use crate::CPU_EXACT;
use safetensors::SafeTensors;
use serde::Deserialize;
use trimtab_engine::{Layer, TokenId};
use trimtab_persona::extract::{Example, Side, extract};
use trimtab_testing::files::{golden, golden_json};

#[derive(Deserialize)]
struct File {
    pairs: Vec<Pair>,
}

#[derive(Deserialize)]
struct Pair {
    side: i32,
    prompt_ids: Vec<u32>,
    full_ids: Vec<u32>,
}

#[test]
fn vectors_equal_the_reference_means() {
    let file: File = golden_json("extract.json");
    let examples: Vec<_> = file
        .pairs
        .iter()
        .map(|pair| {
            assert!(pair.full_ids.starts_with(&pair.prompt_ids));
            Example {
                side: match pair.side {
                    1 => Side::Positive,
                    -1 => Side::Negative,
                    other => panic!("golden side {other}"),
                },
                tokens: pair.full_ids.iter().copied().map(TokenId).collect(),
                prompt_length: pair.prompt_ids.len(),
            }
        })
        .collect();
    let mut engine = CPU_EXACT.take();
    let end_tokens = engine.config().end_tokens.iter().copied().map(TokenId);
    let end_tokens: Vec<_> = end_tokens.collect();
    let vectors =
        pollster::block_on(extract(&mut engine, &examples, &end_tokens, &mut |_, _| ())).unwrap();
    assert_eq!(vectors.counts, [3, 3]);

    let bytes = golden("extract.safetensors");
    let reference = SafeTensors::deserialize(&bytes).unwrap();
    for (name, ours) in vectors.named() {
        let tensor = reference.tensor(name).unwrap();
        assert_eq!(tensor.shape(), [ours.rows(), ours.width()]);
        let theirs: Vec<f32> = tensor
            .data()
            .as_chunks::<4>()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect();
        let mut worst = (0.0_f64, 0);
        for (layer, theirs) in theirs.chunks(ours.width()).enumerate() {
            let row = ours.row(Layer(layer as u32));
            let norm = |values: &mut dyn Iterator<Item = f32>| {
                values.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt()
            };
            let difference = norm(&mut row.iter().zip(theirs).map(|(a, b)| a - b));
            // All prompts end in the same token, so at layer 0 the prompt-last difference is nothing
            // but rounding, on both sides.
            if name == "prompt_last" && layer == 0 {
                assert!(difference < 1e-6, "{difference:e}");
                continue;
            }
            let relative = difference / norm(&mut theirs.iter().copied());
            if relative > worst.0 {
                worst = (relative, layer);
            }
        }
        println!(
            "{name}: ‖Δv‖/‖v‖ at most {:.2e} (layer {})",
            worst.0, worst.1
        );
        assert!(worst.0 <= 1e-3, "{name}: {worst:?}");
    }
}
