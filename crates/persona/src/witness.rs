//! The second witness, which is not the model: a classifier of the responses' words. It tells the sides apart on
//! questions that it has not learned from, or it does not.

use crate::bootstrap::Estimate;
use crate::probe::{LOGISTIC_L2, logistic};
use crate::separation::{FOLDS, Scored, auc, fold_of};
use nalgebra::{DMatrix, DVector};
use std::collections::{BTreeMap, BTreeSet};

/// A word that fewer responses use says nothing about the others.
const MIN_RESPONSES: usize = 2;

/// A response's words, its side and the question that it answers.
#[derive(Clone, Copy, Debug)]
pub struct Testimony<'a> {
    pub text: &'a str,
    pub positive: bool,
    pub question: usize,
}

/// Chance of the positive side for each response, by the words alone, from responses to the questions of the other
/// folds: logistic regression ([`LOGISTIC_L2`]) on which words occur. `None` where those lack a side.
/// The same solver serves the probes, so that a learning crate would bring nothing but a second one.
pub fn chances(responses: &[Testimony<'_>]) -> Vec<Option<f64>> {
    let words: Vec<BTreeSet<String>> = responses.iter().map(|one| words_of(one.text)).collect();
    let mut found = vec![None; responses.len()];
    for fold in 0..FOLDS {
        let held_out = |index: &usize| fold_of(responses[*index].question) == fold;
        let (asked, learned): (Vec<usize>, Vec<usize>) =
            (0..responses.len()).partition(|index| held_out(index));
        let positive: Vec<bool> = learned.iter().map(|&i| responses[i].positive).collect();
        if asked.is_empty() || !positive.contains(&true) || !positive.contains(&false) {
            continue;
        }
        let columns = vocabulary(learned.iter().map(|&index| &words[index]));
        let features = |index: usize| {
            let mut row = DVector::zeros(columns.len());
            for column in words[index]
                .iter()
                .filter_map(|word| columns.get(word.as_str()))
            {
                row[*column] = 1.0;
            }
            row
        };
        let rows: Vec<_> = learned.iter().map(|&i| features(i).transpose()).collect();
        if columns.is_empty() {
            continue;
        }
        let Some(classifier) = logistic(&DMatrix::from_rows(&rows), &positive, LOGISTIC_L2) else {
            continue;
        };
        for index in asked {
            found[index] = Some(classifier.chance(&features(index)));
        }
    }
    found
}

/// Area under the curve with which those chances tell the sides apart.
pub fn witness_auc(responses: &[Testimony<'_>], chances: &[Option<f64>]) -> Option<Estimate> {
    let scored: Vec<Scored> = responses
        .iter()
        .zip(chances)
        .filter_map(|(one, chance)| {
            Some(Scored {
                question: one.question,
                positive: one.positive,
                score: (*chance)?,
            })
        })
        .collect();
    auc(&scored)
}

fn vocabulary<'a>(texts: impl Iterator<Item = &'a BTreeSet<String>>) -> BTreeMap<&'a str, usize> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for word in texts.flatten() {
        *counts.entry(word).or_default() += 1;
    }
    counts
        .into_iter()
        .filter(|(_, count)| *count >= MIN_RESPONSES)
        .enumerate()
        .map(|(column, (word, _))| (word, column))
        .collect()
}

fn words_of(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_alphanumeric() && c != '\'')
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn responses(glad: &'static str, sad: &'static str) -> Vec<Testimony<'static>> {
        (0..20)
            .map(|at| Testimony {
                text: if at % 2 == 0 { glad } else { sad },
                positive: at % 2 == 0,
                question: at / 2,
            })
            .collect()
    }

    #[test]
    fn words_that_differ_are_told_apart_on_other_questions() {
        let responses = responses("What a WONDERFUL day!", "a dreary day");
        let found = chances(&responses);
        assert!(found.iter().step_by(2).all(|chance| chance.unwrap() > 0.6));
        assert!(
            found
                .iter()
                .skip(1)
                .step_by(2)
                .all(|chance| chance.unwrap() < 0.4)
        );
        assert_eq!(witness_auc(&responses, &found).unwrap().value, 1.0);
    }

    #[test]
    fn the_same_words_are_no_testimony() {
        let responses = responses("one and the same", "one and the same");
        assert_eq!(
            witness_auc(&responses, &chances(&responses)).unwrap().value,
            0.5
        );
    }

    #[test]
    fn one_side_or_no_words_give_nothing() {
        let mut one_sided = responses("yes", "no");
        one_sided.retain(|one| one.positive);
        assert!(chances(&one_sided).iter().all(Option::is_none));
        assert!(chances(&responses("", " ")).iter().all(Option::is_none));
    }
}
