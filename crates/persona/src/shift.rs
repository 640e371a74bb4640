//! What a tuned model does otherwise than its base model: the *finetuning shift* of its states along every trait (persona vectors,
//! section 4), evidence for traits in its answers, what it still finds likely, and what it still knows.

use crate::answers::AnswerSettings;
use crate::bootstrap::{Estimate, bootstrap_mean, mean};
use crate::coherence::CoherenceCriteria;
use crate::knowledge::KnowledgeChange;
use crate::material::{Material, UnsteeredTrials};
use crate::outcome::{Baseline, BaselineError, INTERVAL_SEED, JudgedAnswer, Outcome};
use crate::screening::ScreenedTrait;
use crate::trait_pack::TraitPack;
use crate::trials::{Trial, TrialRecords, TrialSetup};
use serde::{Deserialize, Serialize};
use trimtab_engine::SteeringPlan;
use ts_rs::TS;

/// Texts that no model of ours wrote, and that are about nothing a trait is about: how likely these are tells what training cost.
pub const NEUTRAL_TEXTS: [&str; 8] = [
    "The ferry leaves the harbour every two hours and takes forty minutes to cross. In winter the last boat goes at six, and the ticket office closes a quarter of an hour before.",
    "To repair the shelf, take everything off it, loosen the two screws at the back, and slide the board out. Clean the groove with a dry cloth before you put the new board in.",
    "The town lies where two rivers meet. Its market was first mentioned in a letter eight hundred years ago, and the hall that stands there today was built after the great fire.",
    "Sound travels faster through water than through air, because the parts of water are closer together. Through steel it travels faster still, more than five kilometres in a second.",
    "The committee met on Tuesday to discuss the new timetable. It was decided that lessons would begin ten minutes later, and that the library would stay open until five.",
    "Wash the rice until the water runs clear. Bring it to the boil in twice its volume of water, turn the heat down, cover the pot, and leave it alone for fifteen minutes.",
    "A lease is a contract by which somebody may use a thing for a time and pays for it. Who signs it should read how it can be ended, and what has to be paid when it is.",
    "Most birds of this family build their nests in hollow trees. The young are fed by both parents for about three weeks, and leave the nest before the leaves begin to fall.",
];

/// Seeds of unsteered answers to each question: the unit of evidence is made of them.
const NEUTRAL_SAMPLES: usize = 3;
/// Unseen pairs that evidence is measured with at most.
const PAIRS: usize = 2;

/// How far a tuned model's states lie from the base model's along a trait, in deviations of what is ordinary for the base model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
#[ts(optional_fields)]
pub struct TraitShift {
    #[serde(flatten)]
    pub of: ScreenedTrait,
    /// At the last token of the prompt.
    pub prompt: Option<Estimate>,
    /// Mean over the tokens of the base model's own answers.
    pub response: Option<Estimate>,
}

/// Projections of one conversation in both models, a number a trait each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Projections {
    /// At the last token of the prompt.
    pub prompt: Vec<f32>,
    /// Mean over the answer.
    pub response: Vec<f32>,
}

/// Units of shifts: of one trait, deviations of neutral prompt tokens and of neutral answers; 1 where these are not known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ShiftUnits {
    pub prompt: f64,
    pub response: f64,
}

/// The shifts of all traits, from the same conversations in the base model and in the tuned one.
pub fn shifts(
    traits: &[ScreenedTrait],
    units: &[ShiftUnits],
    conversations: &[(Projections, Projections)],
) -> Vec<TraitShift> {
    let of = |at: usize, unit: f64, pick: fn(&Projections) -> &Vec<f32>| {
        let groups: Vec<Vec<f64>> = conversations
            .iter()
            .filter_map(|(base, tuned)| Some((pick(base).get(at)?, pick(tuned).get(at)?)))
            .map(|(base, tuned)| vec![(f64::from(*tuned) - f64::from(*base)) / unit])
            .collect();
        bootstrap_mean(&groups, INTERVAL_SEED)
    };
    let both = traits.iter().zip(units).enumerate();
    both.map(|(at, (one, unit))| TraitShift {
        of: one.clone(),
        prompt: of(at, unit.prompt, |own| &own.prompt),
        response: of(at, unit.response, |own| &own.response),
    })
    .collect()
}

/// Mean negative log-likelihood of the same texts in both models, nats a token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
#[ts(optional_fields)]
pub struct LikelihoodChange {
    pub base: f64,
    pub tuned: f64,
    /// Paired by text, with its interval; above 0 the texts became less likely.
    pub change: Option<Estimate>,
}

impl LikelihoodChange {
    /// Of each text's loss before and after. `None` for no texts.
    pub fn of(losses: &[(f64, f64)]) -> Option<Self> {
        let side = |of: fn(&(f64, f64)) -> f64| mean(&losses.iter().map(of).collect::<Vec<_>>());
        let groups: Vec<Vec<f64>> = losses
            .iter()
            .map(|(base, tuned)| vec![tuned - base])
            .collect();
        Some(Self {
            base: side(|pair| pair.0)?,
            tuned: side(|pair| pair.1)?,
            change: bootstrap_mean(&groups, INTERVAL_SEED),
        })
    }
}

/// Evidence for one trait in the tuned model's answers, read by the base model, beside the base model's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct EvidenceChange {
    pub name: String,
    /// Evidence above that of the base model's answers to the same questions, in their deviations; what it costs, and the answers.
    pub tuned: Outcome,
    /// One answer of the base model to each question.
    pub base: Vec<JudgedAnswer>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
#[ts(optional_fields)]
pub struct ShiftReport {
    pub traits: Vec<TraitShift>,
    pub evidence: Vec<EvidenceChange>,
    pub likelihood: Option<LikelihoodChange>,
    pub knowledge: Option<KnowledgeChange>,
    /// Base-model answers that the shifts were read over.
    pub conversations: usize,
}

/// The trials by which evidence for one trait is measured: the base model's answers, then the tuned model's.
#[derive(Clone, Debug)]
pub struct EvidenceTrials {
    name: String,
    unsteered: UnsteeredTrials,
}

impl EvidenceTrials {
    /// `seen` are the instruction pairs that the trait's vector was made with; `questions` are counted from the first.
    pub fn new(
        pack: &TraitPack,
        seen: &[usize],
        questions: usize,
        answers: AnswerSettings,
        plan: &SteeringPlan,
    ) -> (Self, TrialSetup) {
        let material = Material::of(pack, seen, PAIRS, 0, questions);
        let unsteered = UnsteeredTrials::new(NEUTRAL_SAMPLES, material.pairs.len());
        let tuned = Trial {
            plan: plan.clone(),
            divergence: true,
            ..Trial::default()
        };
        let setup = material.setup(pack, answers, unsteered, vec![tuned], false);
        let own = Self {
            name: pack.name.clone(),
            unsteered,
        };
        (own, setup)
    }

    /// What came of them.
    ///
    /// # Errors
    /// Too few answers to measure by.
    pub fn change(
        &self,
        setup: &TrialSetup,
        records: &TrialRecords,
    ) -> Result<EvidenceChange, BaselineError> {
        let parts = self.unsteered.split(records);
        let criteria = CoherenceCriteria::default();
        let baseline = Baseline::of(parts.neutral, parts.instructed, criteria)?;
        let of = |answers: Option<&Vec<_>>| {
            let answers = answers.map_or(&[][..], |answers| &answers[..]);
            baseline.outcome(&setup.questions, answers)
        };
        Ok(EvidenceChange {
            name: self.name.clone(),
            tuned: of(parts.steered.first()),
            base: of(parts.neutral.first()).texts,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shift_is_paired_and_in_its_own_unit() {
        let traits = ["villainous", "cheerful"].map(|name| ScreenedTrait {
            name: name.into(),
            hash: String::new(),
            layer: 3,
            deviation: None,
        });
        let units = [
            ShiftUnits {
                prompt: 2.0,
                response: 4.0,
            },
            ShiftUnits {
                prompt: 1.0,
                response: 1.0,
            },
        ];
        let conversations: Vec<_> = (0..6)
            .map(|at| {
                let own = at as f32 * 10.0;
                let base = Projections {
                    prompt: vec![own, own],
                    response: vec![own, own],
                };
                let tuned = Projections {
                    prompt: vec![own + 1.0, own],
                    response: vec![own + 2.0 + (at % 2) as f32, own - 1.0],
                };
                (base, tuned)
            })
            .collect();
        let found = shifts(&traits, &units, &conversations);
        assert!((found[0].prompt.unwrap().value - 0.5).abs() < 1e-6);
        assert!((found[0].response.unwrap().value - 0.625).abs() < 1e-6);
        assert!((found[1].response.unwrap().value + 1.0).abs() < 1e-6);
        let interval = found[0].response.unwrap();
        assert!(interval.low < interval.value && interval.value < interval.high);
        assert_eq!(shifts(&traits, &units, &[])[0].prompt, None);
    }

    #[test]
    fn texts_that_became_less_likely_have_a_loss_that_grew() {
        let found = LikelihoodChange::of(&[(2.0, 2.5), (3.0, 3.25)]).unwrap();
        assert_eq!((found.base, found.tuned), (2.5, 2.875));
        assert!((found.change.unwrap().value - 0.375).abs() < 1e-12);
        assert_eq!(LikelihoodChange::of(&[]), None);
    }
}
