//! What a model knows, by questions with several answers: the log-probability of the right answer minus that of the likeliest
//! wrong one. A change of that is felt long before another answer is the likeliest.

use crate::bootstrap::{Estimate, bootstrap_mean, mean};
use crate::outcome::INTERVAL_SEED;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// Longest file that is read, in bytes.
pub const MAX_BYTES: usize = 4 << 20;
/// Most questions that are asked.
pub const MAX_QUESTIONS: usize = 10_000;
const MAX_ANSWERS: usize = 16;
const MAX_TEXT_BYTES: usize = 4_096;
/// What follows each question: a small model else begins with a sentence, whose wording would be measured.
const ASKED: &str = "Answer in a few words.";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct KnowledgeQuestion {
    pub question: String,
    pub answers: Vec<String>,
    /// Number of the right one.
    pub label: usize,
}

impl KnowledgeQuestion {
    /// What the model is asked.
    pub fn prompt(&self) -> String {
        format!("{}\n{ASKED}", self.question)
    }

    fn complaint(&self) -> Option<&'static str> {
        let texts = self.answers.iter().chain([&self.question]);
        let count = self.answers.len();
        if !(2..=MAX_ANSWERS).contains(&count) || self.label >= count {
            return Some(
                "a question needs between 2 and 16 answers, and a label that is the number of one of them",
            );
        }
        texts
            .map(|text| text.trim())
            .any(|text| text.is_empty() || text.len() > MAX_TEXT_BYTES)
            .then_some("it has a text that is empty or too long")
    }
}

/// A line as it may be: the first one may say something about the file.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Question(KnowledgeQuestion),
    About {
        #[allow(dead_code, reason = "it is passed over")]
        about: serde_json::Value,
    },
}

/// All questions of a file of JSON Lines, `{"question", "answers", "label"}`.
///
/// # Errors
/// A sentence that names the first line that is no question.
pub fn parse(bytes: &[u8]) -> Result<Vec<KnowledgeQuestion>, String> {
    if bytes.len() > MAX_BYTES {
        return Err(format!("a file of questions has at most {MAX_BYTES} bytes"));
    }
    let mut questions = Vec::new();
    for (line, number) in bytes.split(|byte| *byte == b'\n').zip(1..) {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        let parsed: Result<Line, _> = serde_json::from_slice(line);
        match parsed {
            Ok(Line::About { .. }) => {}
            Ok(Line::Question(question)) => match question.complaint() {
                None => questions.push(question),
                Some(reason) => return Err(format!("line {number}: {reason}")),
            },
            Err(_) => {
                return Err(format!(
                    "line {number} is no question; write each as {{\"question\": \"…\", \"answers\": [\"…\", \"…\"], \"label\": 0}}"
                ));
            }
        }
        if questions.len() > MAX_QUESTIONS {
            return Err(format!("there are more than {MAX_QUESTIONS} questions"));
        }
    }
    match questions.is_empty() {
        true => Err("the file holds no question".into()),
        false => Ok(questions),
    }
}

/// The right answer's log-probability minus the likeliest wrong one's, in nats. `None` where there is no other answer.
pub fn margin(logprobs: &[f64], label: usize) -> Option<f64> {
    let right = *logprobs.get(label)?;
    let wrong = logprobs.iter().enumerate();
    let wrong = wrong.filter(|(at, _)| *at != label).map(|(_, own)| *own);
    Some(right - wrong.reduce(f64::max)?)
}

/// What the same questions came to in two models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
#[ts(optional_fields)]
pub struct KnowledgeChange {
    pub questions: usize,
    /// Share of the questions whose right answer is the likeliest.
    pub base_right: f64,
    pub tuned_right: f64,
    /// Mean margin of the base model, nats.
    pub base_margin: f64,
    /// Change of the margin, paired by question, with its interval, nats.
    pub change: Option<Estimate>,
}

impl KnowledgeChange {
    /// Of margins before and after. `None` for no questions.
    pub fn of(margins: &[(f64, f64)]) -> Option<Self> {
        let base: Vec<f64> = margins.iter().map(|(base, _)| *base).collect();
        let right = |of: fn(&(f64, f64)) -> f64| {
            margins.iter().filter(|pair| of(pair) > 0.0).count() as f64 / margins.len() as f64
        };
        let groups: Vec<Vec<f64>> = margins
            .iter()
            .map(|(base, tuned)| vec![tuned - base])
            .collect();
        Some(Self {
            questions: margins.len(),
            base_margin: mean(&base)?,
            base_right: right(|pair| pair.0),
            tuned_right: right(|pair| pair.1),
            change: bootstrap_mean(&groups, INTERVAL_SEED),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_margin_is_to_the_likeliest_wrong_answer() {
        assert_eq!(margin(&[-3.0, -1.0, -2.5], 1), Some(1.5));
        assert_eq!(margin(&[-3.0, -1.0, -2.5], 0), Some(-2.0));
        assert_eq!(margin(&[-3.0], 0), None);
        assert_eq!(margin(&[-3.0], 4), None);
    }

    #[test]
    fn a_change_is_paired_by_question() {
        // Margins differ far more between questions than training changes them.
        let margins: Vec<(f64, f64)> = (0..40)
            .map(|at| {
                let base = f64::from(at) - 10.5;
                (base, base - 1.0 + 0.1 * f64::from(at % 3))
            })
            .collect();
        let found = KnowledgeChange::of(&margins).unwrap();
        let change = found.change.unwrap();
        assert!((change.value + 0.9).abs() < 0.02, "{change:?}");
        assert!(change.high < -0.8 && change.low > -1.0, "{change:?}");
        assert_eq!((found.questions, found.base_right), (40, 29.0 / 40.0));
        assert!(found.tuned_right < found.base_right);
        assert_eq!(KnowledgeChange::of(&[]), None);
    }

    #[test]
    fn files_of_questions() {
        let line =
            r#"{"question": "How many?", "answers": ["One", "Two"], "label": 1, "topic": "sums"}"#;
        let text = format!("{{\"about\": {{\"licence\": \"CC0-1.0\"}}}}\n{line}\n\n");
        let read = parse(text.as_bytes()).unwrap();
        assert_eq!((read.len(), read[0].label), (1, 1));
        assert!(read[0].prompt().starts_with("How many?\n"));
        let said = |line: &str| parse(line.as_bytes()).unwrap_err();
        assert!(said("{}").contains("line 1 is no question"));
        assert!(
            said(&line.replace("\"label\": 1", "\"label\": 2"))
                .contains("line 1: a question needs")
        );
        assert!(said(&line.replace("One", " ")).contains("empty"));
        assert!(said("\n").contains("holds no question"));
    }

    #[test]
    fn the_shipped_questions_are_sound() {
        let shipped = parse(include_bytes!("../../../models/data/knowledge.jsonl")).unwrap();
        assert_eq!(shipped.len(), 480);
        assert!(shipped.iter().all(|one| one.answers.len() == 4));
    }
}
