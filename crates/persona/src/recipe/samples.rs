//! Recipes for tests.

use crate::calibration::tests::sample;
use crate::recipe::inline_vector::InlineVector;
use crate::recipe::tokens::{RecipeToken, coarse};
use crate::recipe::*;
use crate::trait_vector::TraitVector;
use crate::vector_metadata::Recommended;
use trimtab_engine::sampling::pcg;
use trimtab_engine::{LayerTable, TokenId};

/// A vector with bell-shaped numbers, calibrated.
pub fn vector(rows: usize, width: usize) -> TraitVector {
    let uniform = |index: usize| f64::from(pcg(index as u32)) / f64::from(u32::MAX) - 0.5;
    let normal = |index: usize| (0..12).map(|i| uniform(index * 12 + i)).sum::<f64>() as f32;
    let values = (0..rows * width).map(normal).collect();
    TraitVector {
        name: "curious".into(),
        opposite: "bored".into(),
        description: "Asks questions and follows them up".into(),
        table: LayerTable::new(values, width).unwrap(),
        hash: String::new(),
        recommended: Some(Recommended {
            layers: vec![1],
            min: -3.0,
            max: 3.5,
            usual: None,
        }),
        calibration: Some(sample(rows)),
        neutral_norm: Some(vec![165.25; rows]),
        model_sha256: None,
    }
}

pub fn tokens(pieces: &[&str]) -> Vec<RecipeToken> {
    let token = |(index, piece): (usize, &&str)| RecipeToken {
        // The same piece has the same id, as in a real vocabulary.
        id: TokenId(
            pcg(piece.len() as u32 * 31 + u32::from(*piece.as_bytes().first().unwrap_or(&0)))
                % 49_152,
        ),
        text: (*piece).to_owned(),
        reading: coarse((pcg(index as u32) % 80) as f32 / 10.0 - 4.0),
    };
    pieces.iter().enumerate().map(token).collect()
}

pub fn message(role: Role, pieces: &[&str], run: Option<RecipeRun>) -> RecipeMessage {
    RecipeMessage {
        role,
        text: pieces.concat(),
        tokens: Some(tokens(pieces)),
        run,
        beside: None,
    }
}

pub fn term(name: &str, operation: TermOperation, layer: u32) -> NamedTerm {
    NamedTerm {
        vector: name.into(),
        operation,
        layers: Some(vec![Layer(layer)]),
        scope: Scope::Response,
    }
}

pub fn run(plan: Vec<NamedTerm>) -> RecipeRun {
    RecipeRun {
        sampler: Sampler {
            temperature: 0.7,
            top_k: 40,
            top_p: 0.95,
            repetition_penalty: 1.1,
            seed: 20_261_124,
        },
        max_tokens: 256,
        plan,
        changes: Vec::new(),
        end: EndReason::EndToken,
    }
}

/// Two exchanges, a ready-made and an inline trait, every operation, a slider movement.
pub fn recipe() -> Recipe {
    let add = |coefficient| TermOperation::Add { coefficient };
    let mut steered = run(vec![
        term("cheerful", add(2.5), 16),
        term(
            "curious",
            TermOperation::Clamp {
                low: -1.5,
                high: 0.25,
            },
            1,
        ),
    ]);
    steered.changes = vec![
        PlanChange {
            from: 2,
            plan: vec![term("curious", TermOperation::Ablate, 1)],
        },
        PlanChange {
            from: 4,
            plan: Vec::new(),
        },
    ];
    let mut second = run(Vec::new());
    second.end = EndReason::MaxTokens;
    Recipe {
        model: NamedHash {
            name: "SmolLM2-135M-Instruct".into(),
            sha256: [0xab; 32],
        },
        precision: Precision::Fast,
        adapters: Vec::new(),
        files: Vec::new(),
        traits: vec![
            RecipeTrait {
                name: "cheerful".into(),
                range: None,
                vector: VectorReference::ReadyMade([7; 32]),
            },
            RecipeTrait {
                name: "curious".into(),
                range: None,
                vector: VectorReference::Inline(Box::new(
                    InlineVector::of(&vector(3, 64), &[Layer(1), Layer(2)], "16 answers a side")
                        .unwrap(),
                )),
            },
        ],
        messages: vec![
            message(Role::System, &["Be", " brief", "."], None),
            message(Role::User, &["How", " was", " your", " day", "?"], None),
            message(
                Role::Assistant,
                &["It", "'s", " a", " won", "derful", " day", "", "🌊", "."],
                Some(steered),
            ),
            message(Role::User, &["And", " yours", "?"], None),
            message(Role::Assistant, &[" A", " day", "."], Some(second)),
        ],
        context: Context::Tokens,
        prompts: Some("Ab-_09".into()),
        look: Look {
            trait_name: Some("cheerful".into()),
            layer: Some(Layer(16)),
            token: Some(TokenPlace {
                message: 2,
                token: 4,
            }),
            inside_run: true,
            title: "A day by the sea".into(),
            note: "Watch <b>the wave</b> & what follows.".into(),
        },
    }
}

/// The same with the unsteered answers beside it, an adapter and a file.
pub fn two_columns() -> Recipe {
    let mut recipe = recipe();
    let beside = |pieces: &[&str]| {
        let answer = message(Role::Assistant, pieces, Some(run(Vec::new())));
        Some(Box::new(answer))
    };
    recipe.messages[2].beside = beside(&["It", "'s", " a", " day", "."]);
    recipe.messages[4].beside = beside(&[" A", " won", "derful", " one", "."]);
    let named = |name: &str, byte| NamedHash {
        name: name.into(),
        sha256: [byte; 32],
    };
    recipe.traits[0].range = Some([-2.0, 3.5]);
    recipe.adapters = vec![named("sea-stories", 1)];
    recipe.files = vec![named("truth.safetensors", 2)];
    recipe
}
