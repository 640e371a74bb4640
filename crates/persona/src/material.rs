//! The material of a study: which instructions and questions of a trait pack it asks, and the unsteered answers that it begins
//! with.

use crate::answers::AnswerSettings;
use crate::trait_pack::{InstructionPair, TraitPack};
use crate::trials::{Trial, TrialAnswer, TrialSetup};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// The pairs and questions of a pack that a study asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Material {
    /// Indices into the pack's instructions; evidence is measured with these.
    pub pairs: Vec<usize>,
    /// True if extraction saw none of the pairs.
    pub unseen: bool,
    /// Indices into the pack's evaluation questions, which extraction never sees.
    pub questions: Vec<usize>,
}

impl Material {
    /// At most `pairs` pairs that extraction did not see (`seen`), and `questions` evaluation questions from
    /// number `first` on, from the beginning again where there are no more. Where extraction saw every pair,
    /// the last ones are taken, and [`Self::unseen`] is false.
    pub fn of(
        pack: &TraitPack,
        seen: &[usize],
        pairs: usize,
        first: usize,
        questions: usize,
    ) -> Self {
        let all = pack.instructions.len();
        let unseen: Vec<usize> = (0..all).filter(|pair| !seen.contains(pair)).collect();
        let known = unseen.is_empty();
        let from = if known { (0..all).collect() } else { unseen };
        let there = pack.questions.evaluation.len();
        Self {
            pairs: from[from.len().saturating_sub(pairs.max(1))..].to_vec(),
            unseen: !known,
            questions: (first..first + questions.min(there))
                .map(|question| question % there.max(1))
                .collect(),
        }
    }

    fn questions_of(&self, pack: &TraitPack) -> Vec<String> {
        let all = &pack.questions.evaluation;
        let own = self
            .questions
            .iter()
            .filter_map(|&question| all.get(question));
        own.cloned().collect()
    }

    /// The trials of a study that asks this: the unsteered ones, then `others`. Evidence is measured with all pairs; `choice`
    /// asks the third witness about the unsteered answers, too.
    pub fn setup(
        &self,
        pack: &TraitPack,
        answers: AnswerSettings,
        unsteered: UnsteeredTrials,
        others: Vec<Trial>,
        choice: bool,
    ) -> TrialSetup {
        let pairs = self.pairs_of(pack);
        let all: Vec<usize> = (0..pairs.len()).collect();
        let first = unsteered.trials(&pairs, choice).into_iter();
        let trials = first.chain(others).map(|trial| Trial {
            pairs: all.clone(),
            ..trial
        });
        TrialSetup {
            trials: trials.collect(),
            questions: self.questions_of(pack),
            pairs,
            answers,
            choice: None,
            direction: None,
        }
    }

    fn pairs_of(&self, pack: &TraitPack) -> Vec<InstructionPair> {
        let all = &pack.instructions;
        let own = self.pairs.iter().filter_map(|&pair| all.get(pair));
        own.cloned().collect()
    }

    /// Sentences that a reader should know about the material.
    pub fn caveats(&self) -> Vec<String> {
        let mut caveats = Vec::new();
        if !self.unseen {
            caveats.push("Evidence was measured with instructions that extraction may have used as well, so it may flatter the vector.".to_owned());
        }
        caveats
    }
}

/// The unsteered trials that a study begins with, in this order: neutral ones, then one for each pair's positive instruction,
/// then one for each negative one. They give effects their unit, every context its coherence band, and witnesses held-out
/// texts to be tried on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsteeredTrials {
    pub neutral: usize,
    pub pairs: usize,
}

/// Answers of some trials, `[trial][question]`.
pub type TrialSlice<'a> = &'a [Vec<Option<TrialAnswer>>];

/// A study's records, taken apart.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    pub neutral: TrialSlice<'a>,
    /// Under positive instructions, and under negative ones.
    pub instructed: [TrialSlice<'a>; 2],
    pub steered: TrialSlice<'a>,
}

impl UnsteeredTrials {
    /// `neutral` answers to each question under the template's own system prompt, at least one; `pairs` 0: none under
    /// instructions.
    pub fn new(neutral: usize, pairs: usize) -> Self {
        Self {
            neutral: neutral.max(1),
            pairs,
        }
    }

    pub fn count(self) -> usize {
        self.neutral + 2 * self.pairs
    }

    /// `pairs` are those that evidence is measured with; `choice` asks the third witness, too.
    pub fn trials(self, pairs: &[InstructionPair], choice: bool) -> Vec<Trial> {
        let trial = |sample, system: Option<&String>| Trial {
            sample,
            system: system.cloned(),
            choice,
            ..Trial::default()
        };
        let neutral = (0..self.neutral).map(|sample| trial(sample, None));
        let pairs = &pairs[..self.pairs.min(pairs.len())];
        let positive = pairs.iter().map(|pair| trial(0, Some(&pair.positive)));
        let negative = pairs.iter().map(|pair| trial(0, Some(&pair.negative)));
        neutral.chain(positive).chain(negative).collect()
    }

    pub fn split(self, all: TrialSlice<'_>) -> Parts<'_> {
        let (neutral, rest) = all.split_at(self.neutral);
        let (positive, rest) = rest.split_at(self.pairs);
        let (negative, steered) = rest.split_at(self.pairs);
        Parts {
            neutral,
            instructed: [positive, negative],
            steered,
        }
    }
}
