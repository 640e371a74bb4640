//! Witnesses beside the model's own evidence. The second is not the model: a classifier of the responses' words, which tells the
//! sides apart on questions that it has not learned from, or does not. The third asks the model another question: which of two
//! words describes a text.

use crate::bootstrap::{Estimate, bootstrap_mean, mean};
use crate::material::Parts;
use crate::outcome::INTERVAL_SEED;
use crate::probe::{LOGISTIC_L2, Linear, logistic};
use crate::separation::{FOLDS, Scored, auc, fold_of};
use crate::trials::TrialAnswer;
use crate::verdict::{Finding, Witness, WitnessKind};
use nalgebra::{DMatrix, DVector};
use std::collections::{BTreeMap, BTreeSet};

/// A word that fewer responses use says nothing about the others.
const MIN_RESPONSES: usize = 2;
/// Words that are named as carrying a shift.
const CARRYING_WORDS: usize = 8;

/// A response's words, its side and the question that it answers.
#[derive(Clone, Copy, Debug)]
pub struct Testimony<'a> {
    pub text: &'a str,
    pub positive: bool,
    pub question: usize,
}

/// A text of a contrast set, for the second witness to learn from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContrastText {
    pub text: String,
    pub positive: bool,
}

/// Logistic regression ([`LOGISTIC_L2`]) on which words occur. The same solver serves the probes, so that a learning crate
/// would bring nothing but a second one.
#[derive(Clone, Debug)]
struct WordClassifier {
    columns: BTreeMap<String, usize>,
    linear: Linear,
}

impl WordClassifier {
    /// `None` where a side is missing, or no word occurs in two texts.
    fn learn(texts: &[(&BTreeSet<String>, bool)]) -> Option<Self> {
        let positive: Vec<bool> = texts.iter().map(|(_, positive)| *positive).collect();
        let columns = vocabulary(texts.iter().map(|(words, _)| *words));
        if !positive.contains(&true) || !positive.contains(&false) || columns.is_empty() {
            return None;
        }
        let rows: Vec<_> = texts
            .iter()
            .map(|(words, _)| features(&columns, words).transpose())
            .collect();
        let linear = logistic(&DMatrix::from_rows(&rows), &positive, LOGISTIC_L2)?;
        Some(Self { columns, linear })
    }

    fn features(&self, words: &BTreeSet<String>) -> DVector<f64> {
        features(&self.columns, words)
    }

    /// Log-odds of the positive side, nats.
    fn log_odds(&self, text: &str) -> f64 {
        self.linear.log_odds(&self.features(&words_of(text)))
    }

    /// Words that carry the shift from `before` to `after`, with their shares of it, the weightiest first.
    fn carrying(
        &self,
        before: &[BTreeSet<String>],
        after: &[BTreeSet<String>],
    ) -> Vec<(String, f64)> {
        let frequencies = |texts: &[BTreeSet<String>]| {
            let sum = texts
                .iter()
                .map(|words| self.features(words))
                .fold(DVector::zeros(self.columns.len()), |sum, row| sum + row);
            sum / texts.len().max(1) as f64
        };
        let change = (frequencies(after) - frequencies(before)).component_mul(&self.linear.weights);
        let shift = change.sum();
        if shift.abs() < 1e-12 {
            return Vec::new();
        }
        let mut words: Vec<(String, f64)> = self
            .columns
            .iter()
            .map(|(word, &column)| (word.clone(), change[column] / shift))
            .filter(|(_, share)| *share > 0.0)
            .collect();
        words.sort_by(|a, b| b.1.total_cmp(&a.1));
        words.truncate(CARRYING_WORDS);
        words
    }
}

fn features(columns: &BTreeMap<String, usize>, words: &BTreeSet<String>) -> DVector<f64> {
    let mut row = DVector::zeros(columns.len());
    for column in words.iter().filter_map(|word| columns.get(word)) {
        row[*column] = 1.0;
    }
    row
}

/// Witnesses on `steered`, the answers under the vector. Each is tried on the unsteered answers of `parts` that were written
/// under instructions, whose side is known; `coherent` says which answers count.
pub fn testify(
    contrast: &[ContrastText],
    parts: Parts<'_>,
    steered: &[Option<TrialAnswer>],
    coherent: impl Fn(&TrialAnswer) -> bool,
    min_auc: f64,
) -> Vec<Witness> {
    let words: Vec<(BTreeSet<String>, bool)> = contrast
        .iter()
        .map(|one| (words_of(&one.text), one.positive))
        .collect();
    let learned: Vec<_> = words.iter().map(|(words, side)| (words, *side)).collect();
    let mut found = Vec::new();
    if let Some(classifier) = WordClassifier::learn(&learned) {
        let score = |answer: &TrialAnswer| Some(classifier.log_odds(&answer.text));
        let mut witness = witness(
            WitnessKind::Words,
            parts,
            steered,
            &coherent,
            &score,
            min_auc,
        );
        let there = |answer: &Option<TrialAnswer>| {
            let answer = answer.as_ref().filter(|answer| coherent(answer))?;
            Some(words_of(&answer.text))
        };
        let before: Vec<_> = parts.neutral.iter().flatten().filter_map(there).collect();
        let after: Vec<_> = steered.iter().filter_map(there).collect();
        witness.words = classifier.carrying(&before, &after);
        found.push(witness);
    }
    let choice = |answer: &TrialAnswer| answer.choice;
    found.push(witness(
        WitnessKind::Choice,
        parts,
        steered,
        &coherent,
        &choice,
        min_auc,
    ));
    found
}

fn witness(
    kind: WitnessKind,
    parts: Parts<'_>,
    steered: &[Option<TrialAnswer>],
    coherent: &dyn Fn(&TrialAnswer) -> bool,
    score: &dyn Fn(&TrialAnswer) -> Option<f64>,
    min_auc: f64,
) -> Witness {
    let of = |answer: &Option<TrialAnswer>| {
        let answer = answer.as_ref().filter(|answer| coherent(answer))?;
        score(answer)
    };
    let mut tried = Vec::new();
    for (trials, positive) in parts.instructed.into_iter().zip([true, false]) {
        for (question, answer) in trials.iter().flat_map(|trial| trial.iter().enumerate()) {
            tried.extend(of(answer).map(|score| Scored {
                question,
                positive,
                score,
            }));
        }
    }
    let shifts: Vec<Vec<f64>> = steered
        .iter()
        .enumerate()
        .map(|(question, answer)| {
            let usual: Vec<f64> = parts
                .neutral
                .iter()
                .filter_map(|trial| of(trial.get(question)?))
                .collect();
            let shift = || Some(of(answer)? - mean(&usual)?);
            shift().into_iter().collect()
        })
        .collect();
    let auc = auc(&tried);
    let has_say = auc.is_some_and(|auc| auc.value >= min_auc);
    let shift = bootstrap_mean(&shifts, INTERVAL_SEED);
    Witness {
        kind,
        finding: match shift {
            Some(shift) if has_say && shift.low > 0.0 => Finding::Yes,
            Some(shift) if has_say && shift.high < 0.0 => Finding::No,
            _ => Finding::CannotTell,
        },
        auc,
        has_say,
        shift,
        words: Vec::new(),
    }
}

/// Chance of the positive side for each response, by the words alone, from responses to the questions of the other
/// folds. `None` where those lack a side.
pub fn chances(responses: &[Testimony<'_>]) -> Vec<Option<f64>> {
    let words: Vec<BTreeSet<String>> = responses.iter().map(|one| words_of(one.text)).collect();
    let mut found = vec![None; responses.len()];
    for fold in 0..FOLDS {
        let held_out = |index: &usize| fold_of(responses[*index].question) == fold;
        let (asked, learned): (Vec<usize>, Vec<usize>) =
            (0..responses.len()).partition(|index| held_out(index));
        let learned: Vec<_> = learned
            .into_iter()
            .map(|index| (&words[index], responses[index].positive))
            .collect();
        let Some(classifier) = WordClassifier::learn(&learned) else {
            continue;
        };
        for index in asked {
            let features = classifier.features(&words[index]);
            found[index] = Some(classifier.linear.chance(&features));
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

fn vocabulary<'a>(texts: impl Iterator<Item = &'a BTreeSet<String>>) -> BTreeMap<String, usize> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for word in texts.flatten() {
        *counts.entry(word).or_default() += 1;
    }
    counts
        .into_iter()
        .filter(|(_, count)| *count >= MIN_RESPONSES)
        .enumerate()
        .map(|(column, (word, _))| (word.to_owned(), column))
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
    fn a_witness_has_a_say_only_where_it_knows_the_sides() {
        let answer = |text: &str| {
            Some(TrialAnswer {
                ids: vec![1],
                text: text.into(),
                choice: Some(0.5),
                ..TrialAnswer::default()
            })
        };
        let trial = |text: &str| vec![answer(text); 10];
        let neutral = [trial("It is a day.")];
        let (glad, sad) = ([trial("What a wonderful day!")], [trial("A dreary day.")]);
        let contrast: Vec<ContrastText> = (0..20)
            .map(|at| ContrastText {
                text: if at % 2 == 0 {
                    "so wonderful"
                } else {
                    "so dreary"
                }
                .into(),
                positive: at % 2 == 0,
            })
            .collect();
        let found = |steered: &str, positive: &[Vec<Option<TrialAnswer>>]| {
            let parts = Parts {
                neutral: &neutral,
                instructed: [positive, &sad],
                steered: &[],
            };
            testify(&contrast, parts, &trial(steered), |_| true, 0.7)
        };
        let agrees = found("a wonderful day", &glad);
        assert_eq!(agrees[0].finding, Finding::Yes);
        assert_eq!(agrees[0].words[0].0, "wonderful");
        assert_eq!(found("a dreary day", &glad)[0].finding, Finding::No);
        // The other one answers everything alike, and one whose held-out texts do not differ knows nothing.
        assert!(!agrees[1].has_say);
        assert_eq!(agrees[1].finding, Finding::CannotTell);
        assert!(!found("a wonderful day", &sad)[0].has_say);
    }

    #[test]
    fn one_side_or_no_words_give_nothing() {
        let mut one_sided = responses("yes", "no");
        one_sided.retain(|one| one.positive);
        assert!(chances(&one_sided).iter().all(Option::is_none));
        assert!(chances(&responses("", " ")).iter().all(Option::is_none));
    }
}
