//! The contrast set behind a vector, as controls need it: labels to shuffle, and texts for a witness to learn from.

use crate::failure::Failure;
use crate::studies::StandIn;
use trimtab_engine::{LayerTable, TokenId};
use trimtab_persona::activations::{Average, Averages};
use trimtab_persona::contrast_record::{ContrastRecord, ResponseStanding, Thresholds};
use trimtab_persona::control::{LabelledMean, random_like, rescaled, shuffled_like};
use trimtab_persona::controls::ControlError;
use trimtab_persona::conversation::ChatText;
use trimtab_persona::extract::{Example, Side};
use trimtab_persona::trait_vector::TraitVector;
use trimtab_persona::vector_making::sort;
use trimtab_persona::witness::ContrastText;

/// The responses that made a vector: their response-averaged residuals with their labels, and their texts.
#[derive(Debug, Default)]
pub struct Contrast<'a> {
    pub means: Vec<LabelledMean<'a>>,
    pub texts: Vec<ContrastText>,
}

impl<'a> Contrast<'a> {
    /// Of the responses that count under `thresholds`.
    pub fn of_record(
        record: &ContrastRecord,
        thresholds: &Thresholds,
        averages: &'a [Option<Averages>],
    ) -> Result<Self, Failure> {
        let mut found = Self::default();
        let kept = sort(record, thresholds)?;
        for (at, averages) in averages.iter().enumerate() {
            let (Some(averages), Some(response)) = (averages, &record.responses[at]) else {
                continue;
            };
            if kept[at] == ResponseStanding::Kept {
                let place = record.settings.place(at);
                found.add(place.side, place.question, averages, response.text.clone());
            }
        }
        Ok(found)
    }

    /// Examples with the same prompt answer the same question.
    pub fn of_examples(chat: &ChatText, examples: &[Example], averages: &'a [Averages]) -> Self {
        let mut found = Self::default();
        let mut prompts: Vec<&[TokenId]> = Vec::new();
        for (example, averages) in examples.iter().zip(averages) {
            let (prompt, response) = example.tokens.split_at(example.prompt_length);
            let known = prompts.iter().position(|other| *other == prompt);
            let question = known.unwrap_or_else(|| {
                prompts.push(prompt);
                prompts.len() - 1
            });
            found.add(example.side, question, averages, chat.decode(response));
        }
        found
    }

    fn add(&mut self, side: Side, question: usize, averages: &'a Averages, text: String) {
        self.means.push(LabelledMean {
            side,
            question,
            values: averages.table(Average::Response),
        });
        self.texts.push(ContrastText {
            text,
            positive: side == Side::Positive,
        });
    }
}

impl StandIn {
    /// `other` is the vector that [`Self::Other`] names.
    pub fn table(
        &self,
        like: &LayerTable,
        means: &[LabelledMean<'_>],
        other: Option<&TraitVector>,
    ) -> Result<LayerTable, Failure> {
        let found = match self {
            Self::Shuffled(seed) => shuffled_like(means, like, *seed),
            Self::Random(seed) => random_like(like, *seed).map(Some),
            Self::Other(name) => match other {
                Some(other) => rescaled(&other.table, like).map(Some),
                None => {
                    let unknown = format!("no vector {name:?} is among those to compare with");
                    return Err(Failure::usage(unknown));
                }
            },
        };
        found.map_err(ControlError::from)?.ok_or_else(|| {
            Failure::usage(
                "shuffled labels need the responses that made the vector, at least two a side",
            )
        })
    }
}
