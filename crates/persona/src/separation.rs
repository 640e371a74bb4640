//! Areas under the curve with which directions tell the sides apart on questions that they were not made from.

use crate::bootstrap::{Estimate, bootstrap};

/// Number of parts that questions are divided into: each part is judged by a direction made from the others.
pub const FOLDS: usize = 5;
const SEED: u32 = 1;

/// The part that holds a question out, for `questions` of them; a question's part does not depend on the others.
pub fn fold_of(question: usize) -> usize {
    question % FOLDS
}

/// One held-out response's score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    pub question: usize,
    pub positive: bool,
    pub score: f64,
}

/// Area under the ROC curve: the chance that a positive response scores above a negative one (a tie counts
/// half), over all pairs of one fold, since scores of two folds come from two directions. The interval
/// resamples questions. `None` where no fold has both sides, or a score is not finite.
pub fn auc(scored: &[Scored]) -> Option<Estimate> {
    if scored.iter().any(|one| !one.score.is_finite()) {
        return None;
    }
    let mut questions: Vec<usize> = scored.iter().map(|one| one.question).collect();
    questions.sort_unstable();
    questions.dedup();
    let count = questions.len();
    let at = |question: usize| questions.binary_search(&question).unwrap_or(0);
    // Comparisons won, and comparisons, between the positives of one question and the negatives of another.
    let mut won = vec![0.0; count * count];
    let mut all = vec![0.0; count * count];
    for up in scored.iter().filter(|one| one.positive) {
        for down in scored.iter().filter(|one| !one.positive) {
            if fold_of(up.question) != fold_of(down.question) {
                continue;
            }
            let cell = at(up.question) * count + at(down.question);
            all[cell] += 1.0;
            won[cell] += match up.score.total_cmp(&down.score) {
                std::cmp::Ordering::Greater => 1.0,
                std::cmp::Ordering::Equal => 0.5,
                std::cmp::Ordering::Less => 0.0,
            };
        }
    }
    bootstrap(count, SEED, |drawn| {
        let mut times = vec![0.0; count];
        drawn.iter().for_each(|&question| times[question] += 1.0);
        let (mut wins, mut comparisons) = (0.0, 0.0);
        for up in 0..count {
            for down in 0..count {
                let weight = times[up] * times[down];
                wins += weight * won[up * count + down];
                comparisons += weight * all[up * count + down];
            }
        }
        (comparisons > 0.0).then(|| wins / comparisons)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(question: usize, positive: bool, score: f64) -> Scored {
        Scored {
            question,
            positive,
            score,
        }
    }

    #[test]
    fn the_area_is_the_share_of_comparisons_won_within_folds() {
        // Questions 0 and 5 share a fold; 1 is alone in another, where the scores mean something else.
        let found = auc(&[
            scored(0, true, 2.0),
            scored(0, false, 1.0),
            scored(5, true, 0.5),
            scored(5, false, 2.0),
            scored(1, true, 101.0),
            scored(1, false, 100.0),
        ])
        .unwrap();
        // 2 > 1, 2 = 2, 0.5 < 1, 0.5 < 2, 101 > 100.
        assert!((found.value - 2.5 / 5.0).abs() < 1e-12, "{found:?}");
        assert!(found.low <= found.value && found.value <= found.high);
    }

    #[test]
    fn sides_that_never_meet_have_no_area() {
        assert_eq!(auc(&[scored(0, true, 1.0), scored(1, false, 0.0)]), None);
        assert_eq!(auc(&[]), None);
        assert_eq!(
            auc(&[scored(0, true, f64::NAN), scored(0, false, 0.0)]),
            None
        );
    }
}
