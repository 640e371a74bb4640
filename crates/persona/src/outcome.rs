//! Outcomes of trials, against unsteered answers to the same questions.

use crate::bootstrap::{Estimate, bootstrap_mean, deviation, mean};
use crate::coherence::{
    Coherence, CoherenceBand, CoherenceCriteria, ContextBands, ContextLikelihoods,
    TooFewNeutralAnswers,
};
use crate::json::Effect;
use crate::material::TrialSlice;
use crate::trials::TrialAnswer;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// Seed of every interval, so that the same answers have the same interval.
pub(crate) const INTERVAL_SEED: u32 = 1;

/// The unsteered ("neutral") answers to the questions of a study, several to each, under the template's own
/// system prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Baseline {
    bands: ContextBands,
    /// Evidence of the coherent answers, `[question][answer]`, nats a token.
    evidence: Vec<Vec<f64>>,
    pub summary: BaselineSummary,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct BaselineSummary {
    /// Neutral answers, coherent or not.
    pub answers: usize,
    /// Of the template's own system prompt.
    pub band: CoherenceBand,
    /// Mean of the coherent answers, nats a token; NaN until it is measured.
    pub evidence_mean: f64,
    /// The unit of effects: standard deviation of the coherent neutral answers' evidence; NaN until measured.
    pub evidence_deviation: f64,
    /// Mean negative log-likelihood, nats a token.
    pub nll: f64,
    pub perplexity: f64,
    pub distinct: [f64; 3],
    pub incoherent_share: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum BaselineError {
    #[error(transparent)]
    TooFew(#[from] TooFewNeutralAnswers),
    #[error(
        "the unsteered answers all have the same evidence, so there is no unit to measure in; are the two instructions of each pair different?"
    )]
    NoSpread,
}

/// One answer as a person reads it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
#[ts(optional_fields)]
pub struct JudgedAnswer {
    pub question: String,
    pub text: String,
    pub coherence: Coherence,
    /// Nats a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprob: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kl: Option<f64>,
}

/// The effect of one plan, means over its answers. What reports of earlier versions lack is 0 or empty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// Evidence of the coherent answers above the neutral answers to the same questions, in standard deviations of
    /// neutral answers' evidence, with a 95 % interval over questions. `None` without a coherent answer.
    #[serde(flatten)]
    pub effect: Effect,
    /// The same in nats a token.
    #[serde(default)]
    pub nats: Option<Estimate>,
    #[serde(default)]
    pub answers: usize,
    /// Questions with a coherent answer.
    #[serde(default)]
    pub coherent: usize,
    /// Share of the answers.
    #[serde(rename = "incoherent")]
    pub incoherent_share: f64,
    /// Why: too unlikely, too likely, repetitive, empty.
    #[serde(default, rename = "incoherentBy")]
    pub incoherent: [usize; 4],
    /// Perplexity of the answers under the unsteered model; `None` when every answer is empty.
    #[serde(default, with = "crate::json::number")]
    #[ts(type = "number")]
    pub perplexity: Option<f64>,
    /// Mean KL(steered‖unsteered) along the answers, nats a token; `None` where it was not measured.
    #[serde(default, with = "crate::json::number")]
    #[ts(type = "number")]
    pub kl: Option<f64>,
    #[serde(default)]
    pub distinct1: f64,
    #[serde(default)]
    pub distinct2: f64,
    #[serde(default)]
    pub distinct3: f64,
    #[serde(default)]
    pub texts: Vec<JudgedAnswer>,
}

impl Outcome {
    /// Evidence in deviations, with its interval.
    pub fn deviations(&self) -> Option<Estimate> {
        self.effect.estimate()
    }
}

impl Baseline {
    /// `trials` are the neutral ones, `[trial][question]`, `instructed` those under positive and under negative
    /// instructions; answers not yet written or measured are left out.
    pub fn of(
        trials: TrialSlice<'_>,
        instructed: [TrialSlice<'_>; 2],
        criteria: CoherenceCriteria,
    ) -> Result<Self, BaselineError> {
        let answers: Vec<&TrialAnswer> = trials.iter().flatten().flatten().collect();
        let likelihoods = |trials: TrialSlice<'_>| -> Vec<ContextLikelihoods> {
            let answers = trials.iter().flatten().flatten();
            answers.map(|answer| answer.likelihoods).collect()
        };
        let [positive, negative] = instructed.map(likelihoods);
        let bands = ContextBands::of(&likelihoods(trials), &positive, &negative, criteria)?;
        let band = bands.usual;
        let questions = trials.first().map_or(0, Vec::len);
        let evidence: Vec<Vec<f64>> = (0..questions)
            .map(|question| {
                let own = trials.iter().filter_map(|trial| trial[question].as_ref());
                own.filter(|answer| judged(&bands, answer).is_coherent())
                    .filter_map(TrialAnswer::evidence)
                    .collect()
            })
            .collect();
        let all = evidence.concat();
        let spread = deviation(&all).filter(|spread| *spread > 1e-9);
        let (evidence_mean, evidence_deviation) = match (mean(&all), spread) {
            (Some(mean), Some(spread)) => (mean, spread),
            (Some(_), None) if all.len() > 1 => return Err(BaselineError::NoSpread),
            _ => (f64::NAN, f64::NAN),
        };
        let incoherent = answers
            .iter()
            .filter(|answer| !judged(&bands, answer).is_coherent());
        let summary = BaselineSummary {
            answers: answers.len(),
            band,
            evidence_mean,
            evidence_deviation,
            nll: -band.mean,
            perplexity: (-band.mean).exp(),
            distinct: mean_distinct(&answers),
            incoherent_share: incoherent.count() as f64 / answers.len() as f64,
        };
        Ok(Self {
            bands,
            evidence,
            summary,
        })
    }

    /// The unit of effects, nats a token.
    pub fn unit(&self) -> f64 {
        self.summary.evidence_deviation
    }

    pub fn judge(&self, answer: &TrialAnswer) -> Coherence {
        judged(&self.bands, answer)
    }

    /// Evidence of each coherent answer above the neutral answers to the same question, in deviations; `None` where there is
    /// none. `[question]`
    pub fn shifts(&self, answers: &[Option<TrialAnswer>]) -> Vec<Option<f64>> {
        let shift = |(answer, neutral): (&Option<TrialAnswer>, &Vec<f64>)| {
            let answer = answer.as_ref()?;
            let coherent = self.judge(answer).is_coherent();
            let own = answer.evidence().filter(|_| coherent)?;
            Some((own - self.neutral_of(neutral)) / self.unit())
        };
        answers.iter().zip(&self.evidence).map(shift).collect()
    }

    /// Mean evidence of a question's coherent neutral answers. A question without any is measured from them all.
    fn neutral_of(&self, neutral: &[f64]) -> f64 {
        mean(neutral).unwrap_or(self.summary.evidence_mean)
    }

    /// The outcome of the answers to `questions`, those that are there.
    pub fn outcome(&self, questions: &[String], answers: &[Option<TrialAnswer>]) -> Outcome {
        let there: Vec<&TrialAnswer> = answers.iter().flatten().collect();
        let mut shifts: Vec<Vec<f64>> = Vec::new();
        let mut incoherent = [0; 4];
        let mut texts = Vec::with_capacity(there.len());
        for ((question, answer), neutral) in questions.iter().zip(answers).zip(&self.evidence) {
            let Some(answer) = answer else { continue };
            let coherence = self.judge(answer);
            match coherence {
                Coherence::Coherent => {
                    let from = self.neutral_of(neutral);
                    shifts.push(answer.evidence().iter().map(|own| own - from).collect());
                }
                Coherence::TooUnlikely => incoherent[0] += 1,
                Coherence::TooLikely => incoherent[1] += 1,
                Coherence::Repetitive => incoherent[2] += 1,
                Coherence::Empty => incoherent[3] += 1,
            }
            texts.push(JudgedAnswer {
                question: question.clone(),
                text: answer.text.clone(),
                coherence,
                evidence: answer.evidence(),
                logprob: answer.likelihoods.usual,
                kl: answer.divergence,
            });
        }
        let logprobs: Vec<f64> = there
            .iter()
            .filter_map(|answer| answer.likelihoods.usual)
            .collect();
        let divergences: Vec<f64> = there
            .iter()
            .filter_map(|answer| answer.divergence)
            .collect();
        let evidence = bootstrap_mean(&shifts, INTERVAL_SEED);
        let nll = mean(&logprobs).map(|logprob| -logprob);
        let [distinct1, distinct2, distinct3] = mean_distinct(&there);
        Outcome {
            nats: evidence,
            effect: evidence
                .filter(|_| self.unit().is_finite())
                .map(|evidence| evidence.in_units_of(self.unit()))
                .into(),
            answers: there.len(),
            coherent: shifts.iter().filter(|shift| !shift.is_empty()).count(),
            incoherent_share: match there.len() {
                0 => 0.0,
                count => incoherent.iter().sum::<usize>() as f64 / count as f64,
            },
            incoherent,
            perplexity: nll.map(f64::exp),
            kl: mean(&divergences),
            distinct1,
            distinct2,
            distinct3,
            texts,
        }
    }
}

fn judged(bands: &ContextBands, answer: &TrialAnswer) -> Coherence {
    bands.judge(&answer.likelihoods, &answer.tokens())
}

fn mean_distinct(answers: &[&TrialAnswer]) -> [f64; 3] {
    let count = answers.len().max(1) as f64;
    let mut sums = [0.0; 3];
    for answer in answers {
        for (sum, value) in sums.iter_mut().zip(answer.distinct()) {
            *sum += value / count;
        }
    }
    sums
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn answer(logprob: f64, evidence: f64) -> Option<TrialAnswer> {
        Some(TrialAnswer {
            ids: (0..32).collect(),
            text: "so it is".into(),
            likelihoods: ContextLikelihoods {
                usual: Some(logprob),
                alone: None,
                positive: Some(evidence - 9.0),
                negative: Some(-9.0),
            },
            divergence: Some(0.5),
            choice: None,
            prompt_reading: Vec::new(),
        })
    }

    pub(crate) fn baseline() -> Baseline {
        // Two answers to each of five questions, whose own evidence differs from question to question.
        let trial = |shift: f64| -> Vec<Option<TrialAnswer>> {
            (0..5)
                .map(|q| answer(-1.0 + shift * 0.1, f64::from(q) * 0.1 + shift * 0.05))
                .collect()
        };
        Baseline::of(
            &[trial(-1.0), trial(1.0)],
            [&[], &[]],
            CoherenceCriteria::default(),
        )
        .unwrap()
    }

    #[test]
    fn effects_are_measured_from_the_same_question_and_by_coherent_answers_only() {
        let baseline = baseline();
        let questions: Vec<String> = (0..5).map(|q| format!("q{q}")).collect();
        let mut answers: Vec<_> = (0..5)
            .map(|q| answer(-1.1, f64::from(q) * 0.1 + 0.3))
            .collect();
        // A broken answer with enormous evidence, and a loop.
        answers[3] = answer(-5.0, 9.0);
        answers[4].as_mut().unwrap().ids = (0..32).map(|i| i % 4).collect();
        let outcome = baseline.outcome(&questions, &answers);
        let evidence = outcome.nats.unwrap();
        assert!((evidence.value - 0.3).abs() < 1e-9, "{evidence:?}");
        assert!((outcome.deviations().unwrap().value - 0.3 / baseline.unit()).abs() < 1e-9);
        assert_eq!((outcome.coherent, outcome.incoherent), (3, [1, 0, 1, 0]));
        assert_eq!(outcome.incoherent_share, 0.4);
        assert_eq!(outcome.kl, Some(0.5));
        assert_eq!(outcome.texts[3].coherence, Coherence::TooUnlikely);
    }

    #[test]
    fn nothing_written_is_no_effect_and_no_failure() {
        let outcome = baseline().outcome(&vec!["q".into(); 5], &vec![None; 5]);
        assert_eq!(
            (outcome.nats, outcome.answers, outcome.perplexity),
            (None, 0, None)
        );
    }

    #[test]
    fn neutral_answers_without_spread_give_no_unit() {
        let trial: Vec<_> = (0..9)
            .map(|i| answer(-1.0 - 0.01 * f64::from(i), 0.2))
            .collect();
        let found = Baseline::of(&[trial], [&[], &[]], CoherenceCriteria::default());
        assert_eq!(found.unwrap_err(), BaselineError::NoSpread);
    }
}
