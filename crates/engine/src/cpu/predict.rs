//! From logits to a prediction.

use super::kernels::Kernels;
use crate::executor::{Head, Row};
use crate::index::TokenId;
use crate::record::{ALTERNATIVES, Prediction};
use crate::sampling::{Sampler, gumbel};
use std::sync::{Mutex, OnceLock, PoisonError};

/// How far below the largest scaled logit top-p looks first: most distributions have what it wants there, in few tokens.
const FIRST_REACH: f32 = 4.0;

/// Predicts after several rows at once; what a thread needs for it is there for the next one, too.
#[derive(Debug, Default)]
pub struct Predictors {
    idle: Mutex<Vec<Predictor>>,
    predictions: Vec<OnceLock<Prediction>>,
}

impl Predictors {
    /// Makes room for the predictions after `rows` rows.
    pub fn expect(&mut self, rows: usize) {
        self.predictions.clear();
        self.predictions.resize_with(rows, OnceLock::new);
    }

    /// Predicts after the row at `at`; see [`Predictor::predict`].
    pub fn predict(&self, at: usize, kernels: &Kernels, logits: &[f32], row: &Row, seen: &[bool]) {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let free = idle().pop();
        let mut predictor = free.unwrap_or_else(|| Predictor::new(logits.len()));
        self.predictions[at].get_or_init(|| predictor.predict(kernels, logits, row, seen));
        idle().push(predictor);
    }

    pub fn take(&mut self, at: usize) -> Option<Prediction> {
        self.predictions[at].take()
    }
}

/// Predicts tokens in buffers that are allocated once.
#[derive(Debug)]
pub struct Predictor {
    /// `[vocab]`
    scaled: Vec<f32>,
    candidates: Vec<f32>,
}

impl Predictor {
    pub fn new(vocab: usize) -> Self {
        Self {
            scaled: Vec::with_capacity(vocab),
            candidates: Vec::with_capacity(vocab),
        }
    }

    /// Predicts the token after `row` from its `logits` (`[vocab]`); `seen` (`[vocab]`) marks the tokens
    /// that the repetition penalty counts.
    pub fn predict(
        &mut self,
        kernels: &Kernels,
        logits: &[f32],
        row: &Row,
        seen: &[bool],
    ) -> Prediction {
        let alternatives = best(logits);
        let largest = logits[alternatives[0].0 as usize];
        let log_total = f64::from(largest) + kernels.sum_of_exponentials(logits, largest).ln();
        let logprob = |token: TokenId| (f64::from(logits[token.0 as usize]) - log_total) as f32;
        let (chosen, target) = match row.want.head {
            Head::Sample(sampler) if sampler.divisor() <= 0.0 => {
                let penalised = |token| penalised(logits, seen, &sampler, token);
                (
                    largest_of((0..logits.len()).map(|token| (token, penalised(token)))),
                    None,
                )
            }
            Head::Sample(sampler) => {
                let position = row.position.0 + 1;
                (self.sample(kernels, logits, &sampler, position, seen), None)
            }
            Head::Score(target) | Head::Compare(target) => (alternatives[0], Some(target)),
            Head::Skip => (alternatives[0], None),
        };
        Prediction {
            chosen,
            chosen_logprob: logprob(chosen),
            target_logprob: target.map_or(f32::NAN, logprob),
            divergence: None,
            alternatives: alternatives.map(|token| (token, logprob(token))),
        }
    }

    /// Samples the token at `position`; see [`Sampler`] for the order of the steps.
    fn sample(
        &mut self,
        kernels: &Kernels,
        logits: &[f32],
        sampler: &Sampler,
        position: u32,
        seen: &[bool],
    ) -> TokenId {
        self.scaled.clear();
        let divisor = sampler.divisor();
        if sampler.repetition_penalty == 1.0 {
            let scaled = logits.iter().map(|logit| logit / divisor);
            self.scaled.extend(scaled);
        } else {
            let scaled =
                (0..logits.len()).map(|token| penalised(logits, seen, sampler, token) / divisor);
            self.scaled.extend(scaled);
        }
        let threshold = self.threshold(kernels, sampler);
        let kept = self
            .scaled
            .iter()
            .enumerate()
            .filter(|(_, value)| **value >= threshold);
        largest_of(
            kept.map(|(token, value)| {
                (token, value + gumbel(sampler.seed, position, token as u32))
            }),
        )
    }

    /// The smallest of the scaled logits that top-k and top-p keep.
    fn threshold(&mut self, kernels: &Kernels, sampler: &Sampler) -> f32 {
        let top_k = sampler.top_k as usize;
        let (scaled, candidates) = (&self.scaled, &mut self.candidates);
        if (top_k == 0 || top_k >= scaled.len()) && sampler.top_p >= 1.0 {
            return f32::NEG_INFINITY;
        }
        candidates.clear();
        candidates.extend_from_slice(scaled);
        if top_k > 0 && top_k < candidates.len() {
            let (_, kth, _) = candidates.select_nth_unstable_by(top_k - 1, |a, b| b.total_cmp(a));
            let kth = *kth;
            candidates.retain(|value| *value >= kth);
        }
        if sampler.top_p >= 1.0 {
            return candidates.iter().copied().fold(f32::INFINITY, f32::min);
        }
        let largest = candidates.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let wanted = f64::from(sampler.top_p) * kernels.sum_of_exponentials(candidates, largest);
        // The best few are sorted; only if they do not suffice are more.
        let mut sorted = 0;
        let mut mass = 0.0;
        let mut reach = FIRST_REACH;
        while sorted < candidates.len() {
            let rest = &mut candidates[sorted..];
            let mut count = 0;
            for i in 0..rest.len() {
                if rest[i] >= largest - reach {
                    rest.swap(i, count);
                    count += 1;
                }
            }
            // Logits below every bound, or no numbers, come last.
            if reach.is_infinite() {
                count = rest.len();
            }
            reach *= 2.0;
            let part = &mut rest[..count];
            part.sort_unstable_by(|a, b| b.total_cmp(a));
            for value in part.iter() {
                mass += f64::from(value - largest).exp();
                if mass >= wanted {
                    return *value;
                }
            }
            sorted += count;
        }
        candidates.last().copied().unwrap_or(f32::NEG_INFINITY)
    }
}

/// The logit of `token` after the repetition penalty.
fn penalised(logits: &[f32], seen: &[bool], sampler: &Sampler, token: usize) -> f32 {
    let logit = logits[token];
    match seen[token] {
        true if logit > 0.0 => logit / sampler.repetition_penalty,
        true => logit * sampler.repetition_penalty,
        false => logit,
    }
}

/// The tokens with the largest logits, best first, the lower id first on a tie.
fn best(logits: &[f32]) -> [TokenId; ALTERNATIVES] {
    let mut best = [(f32::NEG_INFINITY, u32::MAX); ALTERNATIVES];
    for (token, &logit) in logits.iter().enumerate() {
        if logit > best[ALTERNATIVES - 1].0 {
            let place = best.partition_point(|(other, _)| *other >= logit);
            best[place..].rotate_right(1);
            best[place] = (logit, token as u32);
        }
    }
    best.map(|(_, token)| TokenId(token.min(logits.len() as u32 - 1)))
}

/// The token with the largest value, the first on a tie.
fn largest_of(values: impl Iterator<Item = (usize, f32)>) -> TokenId {
    let mut best = (0, f32::NEG_INFINITY);
    for (token, value) in values {
        if value > best.1 {
            best = (token, value);
        }
    }
    TokenId(best.0 as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::TokenSource;
    use crate::index::{Position, SequenceIndex};
    use crate::reference::predict as reference;
    use proptest::prelude::*;

    fn row(head: Head) -> Row {
        Row {
            sequence: SequenceIndex(0),
            position: Position(7),
            token: TokenSource::Sampled,
            change: None,
            want: head.into(),
        }
    }

    proptest! {
        #[test]
        fn predictions_are_the_references(
            logits in prop::collection::vec(-12.0_f32..12.0, 20..900),
            temperature in prop::sample::select(vec![0.0_f32, 1e-45, 1e-38, 1e-10, 0.5, 1.3, 3e38]),
            top_k in prop::sample::select(vec![0_u32, 1, 12, 300]),
            top_p in prop::sample::select(vec![0.1_f32, 0.7, 0.99, 1.0]),
            repetition_penalty in prop::sample::select(vec![1.0_f32, 1.4]),
            seed: u32,
        ) {
            let sampler = Sampler { temperature, top_k, top_p, repetition_penalty, seed };
            let seen: Vec<bool> = (0..logits.len()).map(|token| token % 3 == 0).collect();
            let mut predictor = Predictor::new(logits.len());
            for head in [Head::Sample(sampler), Head::Score(TokenId(3)), Head::Skip] {
                for kernels in Kernels::available() {
                    let got = predictor.predict(&kernels, &logits, &row(head), &seen);
                    let want = reference(&logits, &row(head), &seen);
                    prop_assert_eq!(got.chosen, want.chosen);
                    prop_assert!((got.chosen_logprob - want.chosen_logprob).abs() < 1e-5);
                    prop_assert_eq!(got.target_logprob.is_nan(), want.target_logprob.is_nan());
                    if let Head::Score(_) = head {
                        prop_assert!((got.target_logprob - want.target_logprob).abs() < 1e-5);
                    }
                    for (got, want) in got.alternatives.iter().zip(&want.alternatives) {
                        prop_assert_eq!(got.0, want.0);
                        prop_assert!((got.1 - want.1).abs() < 1e-5);
                    }
                }
            }
        }
    }
}
