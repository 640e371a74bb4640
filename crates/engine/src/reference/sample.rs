//! From logits to a prediction.

use crate::executor::{Head, Row};
use crate::index::TokenId;
use crate::record::{ALTERNATIVES, Prediction};
use crate::sampling::{Sampler, gumbel};

/// Predicts the token after `row` from its `logits` (`[vocab]`); `seen` (`[vocab]`) marks the tokens
/// that the repetition penalty counts.
pub fn predict(logits: &[f32], row: &Row, seen: &[bool]) -> Prediction {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits
        .iter()
        .map(|logit| f64::from(logit - largest).exp())
        .sum();
    let log_total = f64::from(largest) + sum.ln();
    let logprob = |token: TokenId| (f64::from(logits[token.0 as usize]) - log_total) as f32;
    let alternatives = best(logits).map(|token| (token, logprob(token)));
    let (chosen, target) = match row.want.head {
        Head::Sample(sampler) => (choose(logits, &sampler, row.position.0 + 1, seen), None),
        Head::Score(target) | Head::Compare(target) => (alternatives[0].0, Some(target)),
        Head::Skip => (alternatives[0].0, None),
    };
    Prediction {
        chosen,
        chosen_logprob: logprob(chosen),
        target_logprob: target.map_or(f32::NAN, logprob),
        divergence: None,
        alternatives,
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

/// Chooses the token at `position`; see [`Sampler`] for the order of the steps.
fn choose(logits: &[f32], sampler: &Sampler, position: u32, seen: &[bool]) -> TokenId {
    let penalised = |token: usize| {
        let logit = logits[token];
        match seen[token] {
            true if logit > 0.0 => logit / sampler.repetition_penalty,
            true => logit * sampler.repetition_penalty,
            false => logit,
        }
    };
    let divisor = sampler.divisor();
    if divisor <= 0.0 {
        return largest((0..logits.len()).map(|token| (token, penalised(token))));
    }
    let scaled: Vec<f32> = (0..logits.len())
        .map(|token| penalised(token) / divisor)
        .collect();
    let threshold = threshold(&scaled, sampler);
    largest(
        scaled
            .iter()
            .enumerate()
            .filter(|(_, value)| **value >= threshold)
            .map(|(token, value)| (token, value + gumbel(sampler.seed, position, token as u32))),
    )
}

/// The smallest value that top-k and top-p keep.
fn threshold(scaled: &[f32], sampler: &Sampler) -> f32 {
    let top_k = sampler.top_k as usize;
    if (top_k == 0 || top_k >= scaled.len()) && sampler.top_p >= 1.0 {
        return f32::NEG_INFINITY;
    }
    let mut sorted = scaled.to_vec();
    sorted.sort_unstable_by(|a, b| b.total_cmp(a));
    if top_k > 0 && top_k < sorted.len() {
        let kth = sorted[top_k - 1];
        sorted.truncate(sorted.partition_point(|value| *value >= kth));
    }
    if sampler.top_p < 1.0 {
        let weight = |value: f32| f64::from(value - sorted[0]).exp();
        let total: f64 = sorted.iter().map(|value| weight(*value)).sum();
        let wanted = f64::from(sampler.top_p) * total;
        let mut mass = 0.0;
        for value in &sorted {
            mass += weight(*value);
            if mass >= wanted {
                return *value;
            }
        }
    }
    sorted.last().copied().unwrap_or(f32::NEG_INFINITY)
}

/// The token with the largest value, the first on a tie.
fn largest(values: impl Iterator<Item = (usize, f32)>) -> TokenId {
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

    fn sampler() -> Sampler {
        Sampler {
            temperature: 1.0,
            ..Sampler::GREEDY
        }
    }

    #[test]
    fn top_k_and_top_p_keep_what_they_say() {
        let scaled = [1.0, 3.0, 2.0, 0.0];
        assert_eq!(
            threshold(
                &scaled,
                &Sampler {
                    top_k: 2,
                    ..sampler()
                }
            ),
            2.0
        );
        // Probabilities 0.644, 0.237, 0.087, 0.032.
        assert_eq!(
            threshold(
                &scaled,
                &Sampler {
                    top_p: 0.6,
                    ..sampler()
                }
            ),
            3.0
        );
        assert_eq!(
            threshold(
                &scaled,
                &Sampler {
                    top_p: 0.7,
                    ..sampler()
                }
            ),
            2.0
        );
        assert_eq!(
            threshold(
                &scaled,
                &Sampler {
                    top_p: 0.7,
                    top_k: 1,
                    ..sampler()
                }
            ),
            3.0
        );
    }

    #[test]
    fn samples_follow_the_distribution() {
        let logits = [0.0, 1.0_f32.ln(), 2.0_f32.ln()];
        let count = 20_000;
        let last = (0..count)
            .filter(|&position| choose(&logits, &sampler(), position, &[false; 3]) == TokenId(2))
            .count();
        // Probability one half; the standard error is 0.0035.
        assert!(
            (last as f64 / f64::from(count) - 0.5).abs() < 0.014,
            "{last}"
        );
    }

    #[test]
    fn the_repetition_penalty_shrinks_either_sign() {
        let penalised = Sampler {
            repetition_penalty: 2.0,
            ..Sampler::GREEDY
        };
        assert_eq!(
            choose(&[3.0, 2.0], &penalised, 0, &[true, false]),
            TokenId(1)
        );
        assert_eq!(
            choose(&[-1.0, -1.5], &penalised, 0, &[true, false]),
            TokenId(1)
        );
    }

    #[test]
    fn alternatives_come_best_first() {
        let logits: Vec<f32> = (0..20).map(|i| ((i * 7) % 20) as f32).collect();
        let best = best(&logits);
        assert_eq!(logits[best[0].0 as usize], 19.0);
        assert!(
            best.windows(2)
                .all(|pair| logits[pair[0].0 as usize] > logits[pair[1].0 as usize])
        );
    }
}
