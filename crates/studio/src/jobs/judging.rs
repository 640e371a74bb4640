//! The work on a contrast set: the answers to be written and the readings that judge them, in their order.

use trimtab_engine::SequenceIndex;
use trimtab_persona::activations::Averages;
use trimtab_persona::contrast::MIN_RESPONSE_TOKENS;
use trimtab_persona::contrast_record::{ContrastRecord, WrittenAnswer};
use trimtab_persona::extract::Side;
use trimtab_persona::neutral::QUESTIONS;

/// Where an answer is read under the prompt that it was written to.
const READING: SequenceIndex = SequenceIndex(0);

/// An answer of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    Response(usize),
    Baseline(usize),
    Neutral(usize),
}

/// A reading of one answer.
#[derive(Clone, Copy, Debug)]
pub enum Task {
    /// A neutral answer whose likelihood is not known, because it came from a file.
    Likelihood(usize),
    /// An answer to `question` under one side of instruction pair `pair`.
    Evidence {
        question: usize,
        pair: usize,
        side: Side,
        place: Place,
    },
    /// A response under its own prompt, for its residual stream.
    Averages(usize),
}

/// Where `task` reads: each instruction in a sequence of its own, as far as there are so many, so that what all questions
/// under it begin with is read once.
pub fn sequence(task: Task, sequences: usize) -> SequenceIndex {
    match task {
        Task::Evidence { pair, side, .. } => {
            let instruction = 2 * pair + usize::from(side == Side::Positive);
            SequenceIndex((instruction % sequences) as u32)
        }
        Task::Likelihood(_) | Task::Averages(_) => READING,
    }
}

/// All answers of a finished record, in the order in which they are written.
pub fn places(record: &ContrastRecord) -> Vec<Place> {
    let responses = (0..record.responses.len()).map(Place::Response);
    let baselines = (0..record.baselines.len()).map(Place::Baseline);
    responses
        .chain(baselines)
        .chain((0..QUESTIONS.len()).map(Place::Neutral))
        .collect()
}

pub fn is_written(record: &ContrastRecord, place: Place) -> bool {
    match place {
        Place::Response(at) => record.responses[at].is_some(),
        Place::Baseline(question) => record.baselines[question].is_some(),
        Place::Neutral(at) => at < record.neutral.answers.len(),
    }
}

pub fn answer_at(record: &ContrastRecord, place: Place) -> Option<&WrittenAnswer> {
    match place {
        Place::Response(at) => record.responses[at].as_ref(),
        Place::Baseline(question) => record.baselines[question].as_ref(),
        Place::Neutral(_) => None,
    }
}

/// The readings that are still missing. Neutral answers come first, because evidence is told in their deviations; then one
/// prompt after another, all answers to it together, whose common beginning is then read once.
pub fn tasks(record: &ContrastRecord, averages: &[Option<Averages>]) -> Vec<Task> {
    let mut tasks = Vec::new();
    let neutral = record.neutral.answers.iter().enumerate();
    tasks.extend(
        neutral
            .filter(|(at, answer)| record.neutral_logprobs[*at].is_none() && !answer.ids.is_empty())
            .map(|(at, _)| Task::Likelihood(at)),
    );
    for question in 0..record.settings.questions {
        evidence_tasks(record, question, &[Place::Baseline(question)], &mut tasks);
    }
    let per_question = 2 * record.settings.pairs;
    for question in 0..record.settings.questions {
        let own = question * per_question..(question + 1) * per_question;
        let read = own.clone().filter(|at| {
            let enough = |answer: &WrittenAnswer| answer.ids.len() >= MIN_RESPONSE_TOKENS;
            averages[*at].is_none() && record.responses[*at].as_ref().is_some_and(enough)
        });
        tasks.extend(read.map(Task::Averages));
        let places: Vec<Place> = own.map(Place::Response).collect();
        evidence_tasks(record, question, &places, &mut tasks);
    }
    tasks
}

fn evidence_tasks(
    record: &ContrastRecord,
    question: usize,
    places: &[Place],
    tasks: &mut Vec<Task>,
) {
    for pair in 0..record.settings.pairs {
        let missing = |place: &&Place| {
            let made_it = match **place {
                Place::Response(at) => record.settings.place(at).pair == pair,
                _ => false,
            };
            let measured = |answer: &WrittenAnswer| {
                answer.ids.is_empty() || answer.by_pair.get(pair).is_some_and(Option::is_some)
            };
            !made_it && answer_at(record, **place).is_some_and(|answer| !measured(answer))
        };
        let asked: Vec<Place> = places.iter().filter(missing).copied().collect();
        for side in [Side::Positive, Side::Negative] {
            tasks.extend(asked.iter().map(|&place| Task::Evidence {
                question,
                pair,
                side,
                place,
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small set that is written and judged.
    fn judged() -> ContrastRecord {
        let bytes = include_bytes!("../../../../tests/golden/study.contrast");
        ContrastRecord::parse(bytes).unwrap()
    }

    #[test]
    fn a_judged_record_leaves_only_its_activations_to_be_read() {
        let record = judged();
        let left = tasks(&record, &vec![None; record.responses.len()]);
        let long_enough = |answer: &&WrittenAnswer| answer.ids.len() >= MIN_RESPONSE_TOKENS;
        let averaged = record.responses.iter().flatten().filter(long_enough);
        assert_eq!(left.len(), averaged.count());
        assert!(left.iter().all(|task| matches!(task, Task::Averages(_))));
        assert!(
            places(&record)
                .iter()
                .all(|place| is_written(&record, *place))
        );
    }

    #[test]
    fn what_is_missing_is_read_under_both_sides_of_the_other_pairs() {
        let mut record = judged();
        record.responses[2].as_mut().unwrap().by_pair.clear();
        record.neutral_logprobs[5] = None;
        let read = Averages::of(&[0.0; 3], 1, 2);
        let left = tasks(&record, &vec![Some(read); record.responses.len()]);
        // Response 2 was made by pair 1.
        assert!(matches!(left[0], Task::Likelihood(5)));
        assert!(matches!(
            left[1],
            Task::Evidence {
                question: 0,
                pair: 0,
                side: Side::Positive,
                place: Place::Response(2)
            }
        ));
        assert!(matches!(
            left[2],
            Task::Evidence {
                question: 0,
                pair: 0,
                side: Side::Negative,
                place: Place::Response(2)
            }
        ));
        assert_eq!(left.len(), 3);
    }
}
