//! Contrast sets: responses to the same questions under opposite instructions.

use crate::answers::{AnswerSettings, write_answers};
use crate::conversation::{ChatText, TokenisedConversation, message};
use crate::extract::{Example, Side};
use crate::trait_pack::TraitPack;
use serde::{Deserialize, Serialize};
use trimtab_checkpoint::{ChatError, Message};
use trimtab_engine::{Engine, EngineError, SteeringPlan, TokenId};

/// Most conversations in one set.
pub const MAX_PAIRS: usize = 20_000;
/// Longest conversation in a pairs file, in tokens.
pub const MAX_TOKENS: usize = 131_072;
/// Responses of fewer tokens are no evidence of anything and are left out.
pub const MIN_RESPONSE_TOKENS: usize = 4;

#[derive(Debug, thiserror::Error)]
pub enum ContrastError {
    #[error("the pairs file is not usable JSON: {0}")]
    Json(String),
    #[error("the pairs file's pairs[{index}] {reason}")]
    Pair { index: usize, reason: String },
    #[error("the pairs file holds {count} conversations, more than the {MAX_PAIRS} that are read")]
    TooMany { count: usize },
    #[error(
        "{pack} offers {available} different prompts a side, {asked} responses were asked for; ask for fewer, or add questions"
    )]
    TooFewPrompts {
        pack: String,
        available: usize,
        asked: usize,
    },
    #[error(
        "the responses kept from before were written for another model, trait pack or other settings; remove that file, or name another"
    )]
    OtherRun,
    #[error(transparent)]
    Chat(#[from] ChatError),
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// `{"pairs": […]}`, each with a `side` and either `prompt_ids` and `full_ids`, or `messages` (the last one the assistant's).
#[derive(Debug, Deserialize)]
struct PairsFile {
    pairs: Vec<Pair>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair {
    side: i8,
    prompt_ids: Option<Vec<u32>>,
    full_ids: Option<Vec<u32>>,
    messages: Option<Vec<Message>>,
    /// In place of a last message by the assistant.
    response: Option<String>,
}

/// Reads a pairs file. `chat` is needed for pairs given as messages only.
pub fn parse_pairs(bytes: &[u8], chat: Option<&ChatText>) -> Result<Vec<Example>, ContrastError> {
    let file: PairsFile =
        serde_json::from_slice(bytes).map_err(|error| ContrastError::Json(error.to_string()))?;
    if file.pairs.len() > MAX_PAIRS {
        return Err(ContrastError::TooMany {
            count: file.pairs.len(),
        });
    }
    file.pairs
        .into_iter()
        .enumerate()
        .map(|(index, pair)| pair.into_example(index, chat))
        .collect()
}

impl Pair {
    fn into_example(self, index: usize, chat: Option<&ChatText>) -> Result<Example, ContrastError> {
        let fail = |reason: &str| ContrastError::Pair {
            index,
            reason: reason.to_owned(),
        };
        let side = match self.side {
            1 => Side::Positive,
            -1 => Side::Negative,
            _ => return Err(fail("has a side other than 1 and -1")),
        };
        let (tokens, prompt_length) = match (self.prompt_ids, self.full_ids, self.messages) {
            (Some(prompt), Some(full), None) => {
                if !full.starts_with(&prompt) {
                    return Err(fail("has full_ids that do not begin with its prompt_ids"));
                }
                (full.into_iter().map(TokenId).collect(), prompt.len())
            }
            (None, None, Some(mut messages)) => {
                let response = match (self.response, messages.last()) {
                    (Some(response), _) => response,
                    (None, Some(last)) if last.role == "assistant" => {
                        messages.pop().map_or(String::new(), |last| last.content)
                    }
                    (None, _) => {
                        return Err(fail(
                            "has messages that do not end with the assistant's, and no response",
                        ));
                    }
                };
                let chat = chat.ok_or_else(|| {
                    fail("has messages, and this model directory has no chat template")
                })?;
                let prompt = chat.prompt(&messages)?;
                let length = prompt.tokens.len();
                (prompt.answered(&chat.encode(&response)?).tokens, length)
            }
            _ => return Err(fail("needs either prompt_ids and full_ids, or messages")),
        };
        if tokens.len() > MAX_TOKENS {
            return Err(fail(&format!("is longer than {MAX_TOKENS} tokens")));
        }
        Ok(Example {
            side,
            tokens,
            prompt_length,
        })
    }
}

/// One response to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    pub side: Side,
    /// Into the pack's instructions.
    pub instruction: usize,
    /// Into the pack's extraction questions.
    pub question: usize,
    /// The response's number, which decides its seed.
    pub number: usize,
}

/// A response of a contrast set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Response {
    /// 1 or −1.
    pub side: i8,
    pub instruction: usize,
    pub question: usize,
    pub number: usize,
    pub prompt_ids: Vec<u32>,
    /// The response's tokens, the end token left out.
    pub ids: Vec<u32>,
    pub text: String,
}

/// Responses written for a trait pack so far; kept in a file, so that a run can go on where it stopped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContrastSet {
    pub trait_name: String,
    pub trait_sha256: String,
    pub model_sha256: String,
    pub settings: AnswerSettings,
    pub responses_per_side: usize,
    pub responses: Vec<Response>,
}

impl ContrastSet {
    /// Every response that the finished set has, spread evenly over questions and instructions: the
    /// k-th response to question q uses instruction pair (q + k) mod pairs.
    pub fn jobs(&self, pack: &TraitPack) -> Result<Vec<Job>, ContrastError> {
        let (pairs, questions) = (pack.instructions.len(), pack.questions.extraction.len());
        let asked = self.responses_per_side;
        if asked > pairs * questions {
            return Err(ContrastError::TooFewPrompts {
                pack: pack.name.clone(),
                available: pairs * questions,
                asked,
            });
        }
        let jobs = (0..asked).flat_map(|i| {
            let (round, question) = (i / questions, i % questions);
            let job = |side, number| Job {
                side,
                instruction: (question + round) % pairs,
                question,
                number,
            };
            [job(Side::Positive, 2 * i), job(Side::Negative, 2 * i + 1)]
        });
        Ok(jobs.collect())
    }

    /// Checks that `kept` belongs to the same run as this (empty) set, and takes its responses over.
    pub fn resume(&mut self, kept: Self) -> Result<(), ContrastError> {
        let Self { responses, .. } = &kept;
        if kept.trait_sha256 != self.trait_sha256
            || kept.model_sha256 != self.model_sha256
            || kept.settings != self.settings
        {
            return Err(ContrastError::OtherRun);
        }
        self.responses.clone_from(responses);
        Ok(())
    }

    /// The jobs whose response is missing.
    pub fn missing(&self, pack: &TraitPack) -> Result<Vec<Job>, ContrastError> {
        let done: std::collections::BTreeSet<usize> = self
            .responses
            .iter()
            .map(|response| response.number)
            .collect();
        Ok(self
            .jobs(pack)?
            .into_iter()
            .filter(|job| !done.contains(&job.number))
            .collect())
    }

    /// Writes the responses to `jobs`, at most one for each of the engine's sequences, and adds them.
    pub async fn write(
        &mut self,
        engine: &mut Engine,
        chat: &ChatText,
        pack: &TraitPack,
        jobs: &[Job],
        progress: &mut dyn FnMut(usize),
    ) -> Result<(), ContrastError> {
        let prompts = jobs
            .iter()
            .map(|job| prompt_of(pack, job, chat))
            .collect::<Result<Vec<_>, _>>()?;
        let numbers: Vec<usize> = jobs.iter().map(|job| job.number).collect();
        let answers = write_answers(
            engine,
            &prompts,
            &numbers,
            &SteeringPlan::default(),
            &self.settings,
            progress,
        )
        .await?;
        for ((job, prompt), answer) in jobs.iter().zip(prompts).zip(answers) {
            self.responses.push(Response {
                side: if job.side == Side::Positive { 1 } else { -1 },
                instruction: job.instruction,
                question: job.question,
                number: job.number,
                prompt_ids: prompt.tokens.iter().map(|id| id.0).collect(),
                ids: answer.iter().map(|id| id.0).collect(),
                text: chat.decode(&answer),
            });
        }
        Ok(())
    }

    /// What extraction reads: all responses of at least [`MIN_RESPONSE_TOKENS`] that belong to the finished set.
    pub fn examples(&self) -> Vec<Example> {
        let belongs = |response: &&Response| {
            response.ids.len() >= MIN_RESPONSE_TOKENS
                && response.number < 2 * self.responses_per_side
        };
        let mut kept: Vec<&Response> = self.responses.iter().filter(belongs).collect();
        kept.sort_by_key(|response| response.number);
        kept.into_iter()
            .map(|response| Example {
                side: if response.side > 0 {
                    Side::Positive
                } else {
                    Side::Negative
                },
                tokens: response
                    .prompt_ids
                    .iter()
                    .chain(&response.ids)
                    .copied()
                    .map(TokenId)
                    .collect(),
                prompt_length: response.prompt_ids.len(),
            })
            .collect()
    }
}

fn prompt_of(
    pack: &TraitPack,
    job: &Job,
    chat: &ChatText,
) -> Result<TokenisedConversation, ChatError> {
    let pair = &pack.instructions[job.instruction];
    let instruction = if job.side == Side::Positive {
        &pair.positive
    } else {
        &pair.negative
    };
    let question = &pack.questions.extraction[job.question];
    chat.prompt(&[message("system", instruction), message("user", question)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trait_pack::tests::sample;

    fn set(responses_per_side: usize) -> ContrastSet {
        ContrastSet {
            trait_name: "warm".into(),
            trait_sha256: "t".into(),
            model_sha256: "m".into(),
            settings: AnswerSettings::default(),
            responses_per_side,
            responses: Vec::new(),
        }
    }

    fn response(number: usize, ids: Vec<u32>) -> Response {
        let side = if number.is_multiple_of(2) { 1 } else { -1 };
        Response {
            side,
            instruction: 0,
            question: 0,
            number,
            prompt_ids: vec![1, 2, 3],
            ids,
            text: String::new(),
        }
    }

    #[test]
    fn jobs_cover_every_question_and_instruction_once() {
        let jobs = set(6).jobs(&sample()).unwrap();
        assert_eq!(jobs.len(), 12);
        let mut positive: Vec<_> = jobs
            .iter()
            .filter(|job| job.side == Side::Positive)
            .map(|job| (job.question, job.instruction))
            .collect();
        positive.sort_unstable();
        assert_eq!(positive, [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]);
        let error = set(7).jobs(&sample()).unwrap_err().to_string();
        assert!(
            error.contains("6 different prompts") && error.contains("7 responses"),
            "{error}"
        );
    }

    #[test]
    fn a_run_goes_on_where_it_stopped_and_not_elsewhere() {
        let mut kept = set(6);
        kept.responses = vec![response(0, vec![1; 9]), response(3, vec![1; 9])];
        let mut fresh = set(6);
        fresh.resume(kept.clone()).unwrap();
        let missing: Vec<usize> = fresh
            .missing(&sample())
            .unwrap()
            .iter()
            .map(|job| job.number)
            .collect();
        assert_eq!(missing, [1, 2, 4, 5, 6, 7, 8, 9, 10, 11]);
        kept.settings.seed = 9;
        assert!(matches!(set(6).resume(kept), Err(ContrastError::OtherRun)));
    }

    #[test]
    fn short_responses_are_left_out() {
        let mut set = set(2);
        set.responses = vec![
            response(1, vec![1; 9]),
            response(0, vec![1; 9]),
            response(2, vec![1; 3]),
        ];
        let examples = set.examples();
        assert_eq!(
            examples
                .iter()
                .map(|example| example.side)
                .collect::<Vec<_>>(),
            [Side::Positive, Side::Negative]
        );
        assert_eq!(
            (examples[0].tokens.len(), examples[0].prompt_length),
            (12, 3)
        );
    }

    #[test]
    fn pairs_of_ids_are_read_and_bad_ones_named() {
        let good = br#"{"pairs":[{"side":1,"prompt_ids":[1,2],"full_ids":[1,2,3]},{"side":-1,"prompt_ids":[1],"full_ids":[1,4]}]}"#;
        let examples = parse_pairs(good, None).unwrap();
        assert_eq!(
            (examples[1].side, examples[1].prompt_length),
            (Side::Negative, 1)
        );
        let message = |json: &str| parse_pairs(json.as_bytes(), None).unwrap_err().to_string();
        assert!(
            message(r#"{"pairs":[{"side":0,"prompt_ids":[1],"full_ids":[1,2]}]}"#)
                .contains("pairs[0] has a side")
        );
        assert!(
            message(r#"{"pairs":[{"side":1,"prompt_ids":[2],"full_ids":[1,2]}]}"#)
                .contains("do not begin")
        );
        assert!(message(r#"{"pairs":[{"side":1,"prompt_ids":[2]}]}"#).contains("needs either"));
        assert!(
            message(r#"{"pairs":[{"side":1,"prompt_ids":[-2],"full_ids":[]}]}"#).contains("JSON")
        );
        assert!(
            message(r#"{"pairs":[{"side":1,"messages":[{"role":"user","content":"x"}]}]}"#)
                .contains("no response")
        );
    }

    proptest::proptest! {
        #[test]
        fn any_pairs_give_examples_or_an_error(
            side in proptest::num::i8::ANY,
            prompt in proptest::collection::vec(0_u32..9, 0..4),
            full in proptest::collection::vec(0_u32..9, 0..6),
        ) {
            let pairs = serde_json::json!({"pairs": [{"side": side, "prompt_ids": prompt, "full_ids": full}]});
            if let Ok(examples) = parse_pairs(pairs.to_string().as_bytes(), None) {
                let example = &examples[0];
                proptest::prop_assert!(example.prompt_length <= example.tokens.len());
            }
        }
    }
}
