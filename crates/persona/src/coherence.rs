//! Whether an answer still makes sense: without a loop, and as likely as text is that was written in one of the contexts
//! that could have written it.

use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use trimtab_engine::TokenId;
use ts_rs::TS;

/// How far from ordinary an answer may be. Visible and adjustable wherever answers are judged.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct CoherenceCriteria {
    /// Width of the band to each side, in standard deviations of neutral answers' mean
    /// log-likelihood.
    pub deviations: f64,
    /// Fewest different pairs of neighbours, as a share of all (distinct-2).
    pub distinct_2: f64,
}

impl Default for CoherenceCriteria {
    /// Neutral answers of the default model (40 tokens, temperature 0.8) have a distinct-2 of
    /// 0.87 to 1.
    fn default() -> Self {
        Self {
            deviations: 3.0,
            distinct_2: 0.7,
        }
    }
}

/// The unsteered log-likelihoods that answers have which make sense, from those of neutral answers.
/// It is meant for answers sampled as the neutral ones were: greedy ones are likelier.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CoherenceBand {
    /// Lowest and highest mean log-likelihood, nats a token.
    pub low: f64,
    pub high: f64,
    /// Mean and standard deviation of the neutral answers' mean log-likelihoods.
    pub mean: f64,
    pub deviation: f64,
    /// Lowest distinct-2.
    pub distinct_2: f64,
    /// Neutral answers that it comes from.
    pub answers: usize,
}

/// Mean log-likelihood of one answer under the unsteered model in each context that could have written it, nats a token;
/// `None` where it was not measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, TS)]
#[serde(default, deny_unknown_fields)]
pub struct ContextLikelihoods {
    /// After its question, under the template's own system prompt.
    pub usual: Option<f64>,
    /// With nothing before it.
    pub alone: Option<f64>,
    /// After its question, mean over the positive instructions of the pairs that evidence is measured with.
    pub positive: Option<f64>,
    pub negative: Option<f64>,
}

impl ContextLikelihoods {
    fn all(&self) -> [Option<f64>; 4] {
        [self.usual, self.alone, self.positive, self.negative]
    }
}

/// A band for each context, of answers written there. A style that the usual prompt finds strange is no damage where
/// an instruction explains it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields)]
#[ts(optional_fields)]
pub struct ContextBands {
    pub usual: CoherenceBand,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alone: Option<CoherenceBand>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub positive: Option<CoherenceBand>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negative: Option<CoherenceBand>,
}

impl ContextBands {
    /// `neutral` are answers under the template's own system prompt; `positive` and `negative` those that were written
    /// under such instructions. A context with fewer than [`MIN_NEUTRAL_ANSWERS`] has no band; the usual one must.
    pub fn of(
        neutral: &[ContextLikelihoods],
        positive: &[ContextLikelihoods],
        negative: &[ContextLikelihoods],
        criteria: CoherenceCriteria,
    ) -> Result<Self, TooFewNeutralAnswers> {
        type Context = fn(&ContextLikelihoods) -> Option<f64>;
        let band = |answers: &[ContextLikelihoods], context: Context| {
            let known: Vec<f64> = answers.iter().filter_map(context).collect();
            CoherenceBand::of(&known, criteria)
        };
        Ok(Self {
            usual: band(neutral, |answer| answer.usual)?,
            alone: band(neutral, |answer| answer.alone).ok(),
            positive: band(positive, |answer| answer.positive).ok(),
            negative: band(negative, |answer| answer.negative).ok(),
        })
    }

    /// Judges an answer: it is too unlikely where every context that is known finds it so. Never too likely: what is
    /// sure of itself is no damage, and a loop shows in its repetition.
    pub fn judge(&self, likelihoods: &ContextLikelihoods, answer: &[TokenId]) -> Coherence {
        let bands = [Some(self.usual), self.alone, self.positive, self.negative];
        let mut known = likelihoods
            .all()
            .into_iter()
            .zip(bands)
            .filter_map(|(likelihood, band)| Some((likelihood.filter(|x| x.is_finite())?, band?)))
            .peekable();
        if answer.is_empty() || known.peek().is_none() {
            Coherence::Empty
        } else if distinct_n(answer, 2) < self.usual.distinct_2 {
            Coherence::Repetitive
        } else if known.all(|(likelihood, band)| likelihood < band.low) {
            Coherence::TooUnlikely
        } else {
            Coherence::Coherent
        }
    }
}

/// The fault of an answer, if it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "kebab-case")]
pub enum Coherence {
    Coherent,
    /// Below the band: the unsteered model would hardly write this.
    TooUnlikely,
    /// Above the band, as a loop is, whose next word is no surprise to anybody.
    TooLikely,
    /// The same pairs of tokens again and again.
    Repetitive,
    /// No token, or a likelihood that is no number.
    Empty,
}

impl Coherence {
    pub fn is_coherent(self) -> bool {
        self == Self::Coherent
    }
}

#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error(
    "{usable} neutral answers have a likelihood; a coherence band needs at least {MIN_NEUTRAL_ANSWERS}. Write the model's neutral answers first"
)]
pub struct TooFewNeutralAnswers {
    pub usable: usize,
}

/// Fewest neutral answers that a band is made of.
pub const MIN_NEUTRAL_ANSWERS: usize = 8;

impl CoherenceBand {
    /// `neutral` holds the mean log-likelihood a token (nats) of each neutral answer.
    pub fn of(neutral: &[f64], criteria: CoherenceCriteria) -> Result<Self, TooFewNeutralAnswers> {
        let usable: Vec<f64> = neutral.iter().copied().filter(|x| x.is_finite()).collect();
        if usable.len() < MIN_NEUTRAL_ANSWERS {
            return Err(TooFewNeutralAnswers {
                usable: usable.len(),
            });
        }
        let count = usable.len() as f64;
        let mean = usable.iter().sum::<f64>() / count;
        let squares: f64 = usable.iter().map(|x| (x - mean).powi(2)).sum();
        let deviation = (squares / (count - 1.0)).sqrt();
        Ok(Self {
            low: mean - criteria.deviations * deviation,
            high: mean + criteria.deviations * deviation,
            mean,
            deviation,
            distinct_2: criteria.distinct_2,
            answers: usable.len(),
        })
    }

    /// Whether these can be the numbers of a band; they may come from a file.
    pub fn is_sound(&self) -> bool {
        let numbers = [
            self.low,
            self.high,
            self.mean,
            self.deviation,
            self.distinct_2,
        ];
        numbers.iter().all(|number| number.is_finite()) && self.low < self.high
    }

    /// Judges an answer by its unsteered mean log-likelihood (nats a token) and its tokens.
    /// Repetition is named first: it is the more telling of two faults.
    pub fn judge(&self, mean_logprob: f64, answer: &[TokenId]) -> Coherence {
        if answer.is_empty() || !mean_logprob.is_finite() {
            Coherence::Empty
        } else if distinct_n(answer, 2) < self.distinct_2 {
            Coherence::Repetitive
        } else if mean_logprob < self.low {
            Coherence::TooUnlikely
        } else if mean_logprob > self.high {
            Coherence::TooLikely
        } else {
            Coherence::Coherent
        }
    }
}

/// Share of different runs of `n` tokens among all of them (distinct-n, Li et al. 2016): a loop is
/// near 0. 1 for texts too short to repeat.
pub fn distinct_n(tokens: &[TokenId], n: usize) -> f64 {
    let runs = tokens.windows(n.max(1));
    if runs.len() == 0 {
        return 1.0;
    }
    let count = runs.len();
    runs.collect::<HashSet<_>>().len() as f64 / count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(numbers: impl IntoIterator<Item = u32>) -> Vec<TokenId> {
        numbers.into_iter().map(TokenId).collect()
    }

    fn band() -> CoherenceBand {
        let neutral = [-1.2, -0.8, -1.0, -1.1, -0.9, -1.0, -1.2, -0.8, f64::NAN];
        CoherenceBand::of(&neutral, CoherenceCriteria::default()).unwrap()
    }

    #[test]
    fn both_ends_of_the_band_and_loops_are_incoherent() {
        let band = band();
        assert_eq!(band.answers, 8);
        assert!((band.mean + 1.0).abs() < 1e-12);
        // The squared deviations sum to 0.18 over 7 degrees of freedom.
        assert!((band.low - (-1.0 - 3.0 * (0.18_f64 / 7.0).sqrt())).abs() < 1e-9);
        let text = ids(0..32);
        assert_eq!(band.judge(-1.0, &text), Coherence::Coherent);
        assert_eq!(band.judge(-1.6, &text), Coherence::TooUnlikely);
        assert_eq!(band.judge(-0.4, &text), Coherence::TooLikely);
        assert_eq!(
            band.judge(-1.0, &ids((0..32).map(|i| i % 6))),
            Coherence::Repetitive
        );
        assert_eq!(band.judge(f64::NAN, &text), Coherence::Empty);
        assert_eq!(band.judge(-1.0, &[]), Coherence::Empty);
    }

    #[test]
    fn a_band_of_few_answers_is_refused() {
        let error = CoherenceBand::of(&[-1.0; 5], CoherenceCriteria::default()).unwrap_err();
        assert!(error.to_string().starts_with("5 neutral"), "{error}");
    }

    #[test]
    fn loops_have_few_different_runs() {
        assert_eq!(distinct_n(&ids([1, 2, 3, 4]), 2), 1.0);
        assert_eq!(distinct_n(&ids([1, 2, 1, 2, 1]), 2), 0.5);
        assert_eq!(distinct_n(&ids([1, 2, 1, 2, 1]), 1), 0.4);
        assert_eq!(distinct_n(&ids([7]), 2), 1.0);
    }
}
