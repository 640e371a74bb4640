//! Everything that making a trait has come to so far: the pack, the responses with their scores, and the neutral answers
//! that they are held against. Goes into a file or a browser's storage at any time, and on from there.

use crate::answers::AnswerSettings;
use crate::bootstrap::{deviation, mean};
use crate::coherence::{Coherence, CoherenceBand, CoherenceCriteria, TooFewNeutralAnswers};
use crate::contrast::MIN_RESPONSE_TOKENS;
use crate::conversation::{ChatText, TokenisedConversation, message, token_ids};
use crate::extract::Side;
use crate::neutral::{NeutralSet, QUESTIONS};
use crate::trait_pack::{MIN_PAIRS, TraitPack, TraitPackError};
use crate::witness::Testimony;
use miniz_oxide::deflate::compress_to_vec_zlib;
use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;
use serde::{Deserialize, Serialize};
use trimtab_checkpoint::ChatError;
use trimtab_engine::TokenId;
use ts_rs::TS;

/// Largest contrast set read, in bytes, as it lies in a file and unpacked.
pub const MAX_RECORD_BYTES: usize = 16 << 20;
pub const MAX_UNPACKED_BYTES: usize = 64 << 20;
/// Longest response.
pub const MAX_RESPONSE_TOKENS: usize = 512;
/// Fewest extraction questions: separation is judged on questions that were held out.
pub const MIN_QUESTIONS: usize = 4;
const FORMAT: &str = "trimtab-contrast-1";
const COMPRESSION: u8 = 8;

#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error(
        "the contrast set is {bytes} bytes long, more than the {MAX_RECORD_BYTES} that are read; is it another file?"
    )]
    TooLarge { bytes: usize },
    #[error("this is not a contrast set: it does not unpack ({reason})")]
    NotPacked { reason: String },
    #[error("this is not a usable contrast set: {0}")]
    Json(String),
    #[error("the contrast set's {field} {reason}")]
    Field { field: String, reason: String },
    #[error(transparent)]
    Pack(#[from] TraitPackError),
    #[error("{0}")]
    Settings(String),
    #[error(
        "these responses were written by other weights (sha256 {theirs}…) than the loaded model's ({ours}…); load that model, or begin again"
    )]
    OtherModel { theirs: String, ours: String },
    #[error(
        "these responses were written for another trait pack or with other settings; put those back, or begin again"
    )]
    OtherRun,
}

/// How many responses are written, and how.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ResponseSettings {
    /// Instruction pairs and extraction questions of the pack that are used, from the first on.
    pub pairs: usize,
    pub questions: usize,
    pub max_tokens: usize,
    pub temperature: f32,
    #[serde(default = "usual_top_p")]
    #[ts(optional, as = "Option<f32>")]
    pub top_p: f32,
    pub seed: u32,
}

fn usual_top_p() -> f32 {
    AnswerSettings::default().top_p
}

impl ResponseSettings {
    /// Checks the numbers, and that `pack` has so many pairs and questions.
    pub fn check(&self, pack: &TraitPack) -> Result<(), RecordError> {
        let within = |what: &str, value: usize, least: usize, most: usize| {
            if (least..=most).contains(&value) {
                Ok(())
            } else if most < least {
                Err(format!(
                    "a trait needs at least {least} {what}; this pack has {most}. Add some"
                ))
            } else {
                Err(format!(
                    "{value} {what} were asked for; choose {least} to {most}"
                ))
            }
        };
        let (pairs, questions) = (pack.instructions.len(), pack.questions.extraction.len());
        within("instruction pairs", self.pairs, MIN_PAIRS, pairs)
            .and_then(|()| {
                within(
                    "extraction questions",
                    self.questions,
                    MIN_QUESTIONS,
                    questions,
                )
            })
            .and_then(|()| {
                let most = MAX_RESPONSE_TOKENS;
                within(
                    "tokens a response",
                    self.max_tokens,
                    MIN_RESPONSE_TOKENS,
                    most,
                )
            })
            .and_then(|()| match self.temperature {
                t if (0.0..=5.0).contains(&t) => Ok(()),
                t => Err(format!("a temperature of {t} was asked for; choose 0 to 5")),
            })
            .and_then(|()| match self.top_p {
                p if p > 0.0 && p <= 1.0 => Ok(()),
                p => Err(format!(
                    "a top-p of {p} was asked for; choose more than 0, at most 1"
                )),
            })
            .map_err(RecordError::Settings)
    }

    pub fn answers(&self) -> AnswerSettings {
        AnswerSettings {
            max_tokens: self.max_tokens,
            temperature: self.temperature,
            top_p: self.top_p,
            seed: self.seed,
        }
    }

    /// Responses on both sides.
    pub fn responses(&self) -> usize {
        2 * self.pairs * self.questions
    }

    /// The place of the response with number `at`.
    pub fn place(&self, at: usize) -> ResponsePlace {
        ResponsePlace {
            side: if at.is_multiple_of(2) {
                Side::Positive
            } else {
                Side::Negative
            },
            pair: at / 2 % self.pairs,
            question: at / 2 / self.pairs,
        }
    }
}

/// The question and the instruction that a response was written under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponsePlace {
    pub side: Side,
    pub pair: usize,
    pub question: usize,
}

/// An answer and what was measured of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenAnswer {
    /// The end token left out.
    pub ids: Vec<u32>,
    pub text: String,
    /// Mean log-likelihood a token under the prompt that it was written to, nats; `None` for no token.
    pub logprob: Option<f64>,
    /// For each instruction pair `log p(answer | positive) − log p(answer | negative)`, nats a token. `None` where
    /// it was not measured, and for the pair that made the answer.
    #[serde(default)]
    pub by_pair: Vec<Option<f64>>,
}

impl WrittenAnswer {
    pub fn tokens(&self) -> Vec<TokenId> {
        token_ids(&self.ids)
    }
}

/// Which responses count. Changing them writes nothing anew.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Thresholds {
    /// A positive response needs at least this evidence, a negative one at most its negation; in standard
    /// deviations of neutral answers' evidence.
    pub evidence: f64,
    /// As [`CoherenceCriteria`] has them.
    pub deviations: f64,
    #[serde(rename = "distinct2")]
    pub distinct_2: f64,
}

impl Default for Thresholds {
    fn default() -> Self {
        let CoherenceCriteria {
            deviations,
            distinct_2,
        } = CoherenceCriteria::default();
        Self {
            evidence: 0.0,
            deviations,
            distinct_2,
        }
    }
}

impl Thresholds {
    pub fn criteria(&self) -> CoherenceCriteria {
        CoherenceCriteria {
            deviations: self.deviations,
            distinct_2: self.distinct_2,
        }
    }
}

/// Whether a response counts, or why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "kebab-case")]
#[ts(rename = "Kept")]
pub enum ResponseStanding {
    Kept,
    WeakEvidence,
    TooUnlikely,
    TooLikely,
    Repetitive,
    /// Fewer than [`MIN_RESPONSE_TOKENS`] tokens.
    Empty,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContrastRecord {
    format: String,
    pub pack: TraitPack,
    pub model_sha256: String,
    pub settings: ResponseSettings,
    /// By number, see [`ResponseSettings::place`].
    pub responses: Vec<Option<WrittenAnswer>>,
    /// A neutral answer to each extraction question: the template's own system prompt, no instruction.
    pub baselines: Vec<Option<WrittenAnswer>>,
    /// The model's neutral answers, which all its traits share.
    pub neutral: NeutralSet,
    /// Their mean log-likelihoods, nats a token.
    pub neutral_logprobs: Vec<Option<f64>>,
}

impl ContrastRecord {
    /// Nothing is written yet; `neutral` may hold what the model's other traits were calibrated on.
    pub fn new(
        pack: TraitPack,
        model_sha256: String,
        settings: ResponseSettings,
        neutral: Option<NeutralSet>,
    ) -> Result<Self, RecordError> {
        pack.check()?;
        settings.check(&pack)?;
        let mut neutral = neutral
            .filter(|set| set.is_of(&model_sha256) && set.answers.len() <= QUESTIONS.len())
            .unwrap_or_else(|| NeutralSet {
                model_sha256: model_sha256.clone(),
                settings: AnswerSettings::default(),
                answers: Vec::new(),
            });
        neutral.answers.truncate(QUESTIONS.len());
        let known = neutral.answers.iter().map(|answer| answer.logprob);
        let neutral_logprobs = known
            .chain(std::iter::repeat(None))
            .take(QUESTIONS.len())
            .collect();
        Ok(Self {
            format: FORMAT.to_owned(),
            responses: vec![None; settings.responses()],
            baselines: vec![None; settings.questions],
            neutral_logprobs,
            pack,
            model_sha256,
            settings,
            neutral,
        })
    }

    /// Reads what [`Self::to_bytes`] wrote; everything in it is checked.
    pub fn parse(bytes: &[u8]) -> Result<Self, RecordError> {
        if bytes.len() > MAX_RECORD_BYTES {
            return Err(RecordError::TooLarge { bytes: bytes.len() });
        }
        let json =
            decompress_to_vec_zlib_with_limit(bytes, MAX_UNPACKED_BYTES).map_err(|error| {
                RecordError::NotPacked {
                    reason: error.to_string(),
                }
            })?;
        let record: Self =
            serde_json::from_slice(&json).map_err(|error| RecordError::Json(error.to_string()))?;
        record.check()?;
        Ok(record)
    }

    pub fn to_bytes(&self) -> Result<Vec<u8>, RecordError> {
        let json =
            serde_json::to_vec(self).map_err(|error| RecordError::Json(error.to_string()))?;
        Ok(compress_to_vec_zlib(&json, COMPRESSION))
    }

    fn check(&self) -> Result<(), RecordError> {
        let refuse = |field: &str, reason: String| {
            Err(RecordError::Field {
                field: field.to_owned(),
                reason,
            })
        };
        if self.format != FORMAT {
            return refuse(
                "format",
                format!("is not {FORMAT}; a newer program may read it"),
            );
        }
        self.pack.check()?;
        self.settings.check(&self.pack)?;
        if !self.neutral.is_of(&self.model_sha256) {
            return refuse("neutral answers", "are another model's".to_owned());
        }
        for (field, length, want) in [
            ("responses", self.responses.len(), self.settings.responses()),
            ("baselines", self.baselines.len(), self.settings.questions),
            (
                "neutral_logprobs",
                self.neutral_logprobs.len(),
                QUESTIONS.len(),
            ),
        ] {
            if length != want {
                return refuse(field, format!("are {length}, its settings ask for {want}"));
            }
        }
        if self.neutral.answers.len() > QUESTIONS.len() {
            return refuse(
                "neutral answers",
                format!("are more than {}", QUESTIONS.len()),
            );
        }
        let answers = self.responses.iter().chain(&self.baselines).flatten();
        for answer in answers {
            if answer.ids.len() > MAX_RESPONSE_TOKENS {
                return refuse(
                    "responses",
                    format!("have one of {} tokens", answer.ids.len()),
                );
            }
            let pairs = answer.by_pair.len();
            if pairs != 0 && pairs != self.settings.pairs {
                return refuse(
                    "responses",
                    format!("have one with evidence by {pairs} pairs"),
                );
            }
        }
        if self
            .neutral
            .answers
            .iter()
            .any(|answer| answer.ids.len() > MAX_RESPONSE_TOKENS)
        {
            return refuse("neutral answers", "have one that is too long".to_owned());
        }
        Ok(())
    }

    /// The record to go on with on that model, for that pack and those settings. Evaluation questions may be other ones: no
    /// response answers them, and the record takes the pack's.
    pub fn continued(
        mut self,
        pack: &TraitPack,
        settings: &ResponseSettings,
        model_sha256: &str,
    ) -> Result<Self, RecordError> {
        self.is_of(model_sha256)?;
        let evaluation = &mut self.pack.questions.evaluation;
        evaluation.clone_from(&pack.questions.evaluation);
        if self.pack != *pack || self.settings != *settings {
            return Err(RecordError::OtherRun);
        }
        Ok(self)
    }

    pub fn is_of(&self, model_sha256: &str) -> Result<(), RecordError> {
        if self.model_sha256 == model_sha256 {
            return Ok(());
        }
        let short = |sha256: &str| sha256.chars().take(8).collect();
        Err(RecordError::OtherModel {
            theirs: short(&self.model_sha256),
            ours: short(model_sha256),
        })
    }

    /// Every response and neutral answer is written and measured.
    pub fn is_complete(&self) -> bool {
        let neutral = (0..QUESTIONS.len()).all(|at| {
            let answer = self.neutral.answers.get(at);
            answer
                .is_some_and(|answer| answer.ids.is_empty() || self.neutral_logprobs[at].is_some())
        });
        let judged = |at: usize| match &self.responses[at] {
            None => false,
            Some(response) => response.ids.is_empty() || self.evidence(at).is_some(),
        };
        neutral && (0..self.responses.len()).all(judged)
    }

    /// Standard deviation of neutral answers' evidence, each the mean over all pairs, nats a token. `None` until all
    /// are measured, and where they do not vary.
    pub fn unit(&self) -> Option<f64> {
        let mut evidence = Vec::with_capacity(self.baselines.len());
        for answer in &self.baselines {
            let answer = answer.as_ref()?;
            if answer.ids.is_empty() {
                continue;
            }
            let pairs = (0..self.settings.pairs).map(|pair| answer.by_pair.get(pair).copied()?);
            evidence.push(mean(&pairs.collect::<Option<Vec<f64>>>()?)?);
        }
        deviation(&evidence).filter(|unit| *unit > 0.0 && unit.is_finite())
    }

    /// Evidence of the neutral answer to a question by one pair; where that answer is empty, the mean of the others'.
    fn baseline(&self, question: usize, pair: usize) -> Option<f64> {
        let by_pair = |answer: &WrittenAnswer| answer.by_pair.get(pair).copied().flatten();
        let own = self.baselines.get(question)?.as_ref()?;
        if own.ids.is_empty() {
            let others: Vec<f64> = self
                .baselines
                .iter()
                .flatten()
                .filter_map(by_pair)
                .collect();
            return mean(&others);
        }
        by_pair(own)
    }

    /// Trait evidence of a response, cross-fitted: the mean over the pairs that did not make it, minus the same for the
    /// neutral answer to its question, in [`Self::unit`]s.
    pub fn evidence(&self, at: usize) -> Option<f64> {
        let response = self.responses.get(at)?.as_ref()?;
        let place = self.settings.place(at);
        let mut differences = Vec::with_capacity(self.settings.pairs);
        for pair in (0..self.settings.pairs).filter(|pair| *pair != place.pair) {
            let own = response.by_pair.get(pair).copied()??;
            differences.push(own - self.baseline(place.question, pair)?);
        }
        let evidence = mean(&differences)? / self.unit()?;
        evidence.is_finite().then_some(evidence)
    }

    /// What coherent answers of this model are like.
    pub fn band(&self, criteria: CoherenceCriteria) -> Result<CoherenceBand, TooFewNeutralAnswers> {
        let neutral: Vec<f64> = self.neutral_logprobs.iter().copied().flatten().collect();
        CoherenceBand::of(&neutral, criteria)
    }

    /// Whether a response counts under `thresholds`; `None` until it is judged.
    pub fn kept(
        &self,
        at: usize,
        thresholds: &Thresholds,
        band: &CoherenceBand,
    ) -> Option<ResponseStanding> {
        let response = self.responses.get(at)?.as_ref()?;
        if response.ids.len() < MIN_RESPONSE_TOKENS {
            return Some(ResponseStanding::Empty);
        }
        let coherence = band.judge(response.logprob.unwrap_or(f64::NAN), &response.tokens());
        Some(match coherence {
            Coherence::Empty => ResponseStanding::Empty,
            Coherence::Repetitive => ResponseStanding::Repetitive,
            Coherence::TooUnlikely => ResponseStanding::TooUnlikely,
            Coherence::TooLikely => ResponseStanding::TooLikely,
            Coherence::Coherent => {
                let evidence = self.evidence(at)?;
                let shown = match self.settings.place(at).side {
                    Side::Positive => evidence,
                    Side::Negative => -evidence,
                };
                if shown >= thresholds.evidence {
                    ResponseStanding::Kept
                } else {
                    ResponseStanding::WeakEvidence
                }
            }
        })
    }

    /// All written responses for the second witness, with their numbers.
    pub fn testimonies(&self) -> (Vec<usize>, Vec<Testimony<'_>>) {
        let written = self.responses.iter().enumerate();
        written
            .filter_map(|(at, response)| {
                let response = response.as_ref()?;
                let place = self.settings.place(at);
                let testimony = Testimony {
                    text: &response.text,
                    positive: place.side == Side::Positive,
                    question: place.question,
                };
                Some((at, testimony))
            })
            .unzip()
    }

    /// Response `at` under the prompt that it was written to.
    pub fn conversation(
        &self,
        chat: &ChatText,
        at: usize,
    ) -> Result<TokenisedConversation, ChatError> {
        let own = self.settings.place(at);
        let prompt = self.prompt(chat, Some((own.pair, own.side)), own.question)?;
        let answer = self.responses[at].as_ref();
        Ok(prompt.answered(&answer.map_or_else(Vec::new, WrittenAnswer::tokens)))
    }

    /// The prompt that asks extraction question `question` under an instruction, or under none.
    pub fn prompt(
        &self,
        chat: &ChatText,
        instruction: Option<(usize, Side)>,
        question: usize,
    ) -> Result<TokenisedConversation, ChatError> {
        let question = message("user", &self.pack.questions.extraction[question]);
        match instruction {
            None => chat.question(&[question]),
            Some((pair, side)) => {
                let pair = &self.pack.instructions[pair];
                let instruction = match side {
                    Side::Positive => &pair.positive,
                    Side::Negative => &pair.negative,
                };
                chat.question(&[message("system", instruction), question])
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::neutral::NeutralAnswer;
    use crate::trait_pack::tests::sample;

    pub(crate) fn pack() -> TraitPack {
        let mut pack = sample();
        pack.questions.extraction = (0..MIN_QUESTIONS)
            .map(|i| format!("Question {i}?"))
            .collect();
        pack
    }

    pub(crate) fn settings() -> ResponseSettings {
        ResponseSettings {
            pairs: 2,
            questions: MIN_QUESTIONS,
            max_tokens: 8,
            temperature: 0.8,
            top_p: 0.95,
            seed: 1,
        }
    }

    /// Positive responses have evidence 0.5, negative ones −0.5, neutral answers 0.1 times their number.
    pub(crate) fn judged() -> ContrastRecord {
        let mut record = ContrastRecord::new(pack(), "model".into(), settings(), None).unwrap();
        let answer = |logprob: f64, by_pair: Vec<Option<f64>>| WrittenAnswer {
            ids: (0..8).collect(),
            text: "words".into(),
            logprob: Some(logprob),
            by_pair,
        };
        for at in 0..record.responses.len() {
            let place = record.settings.place(at);
            let sign = if place.side == Side::Positive {
                0.5
            } else {
                -0.5
            };
            let mut by_pair = vec![Some(sign); 2];
            by_pair[place.pair] = None;
            record.responses[at] = Some(answer(-1.0, by_pair));
        }
        for (at, baseline) in record.baselines.iter_mut().enumerate() {
            *baseline = Some(answer(-1.0, vec![Some(0.1 * at as f64); 2]));
        }
        for (at, logprob) in record.neutral_logprobs.iter_mut().enumerate() {
            *logprob = Some(-1.0 - 0.01 * at as f64);
            record.neutral.answers.push(NeutralAnswer {
                question: "q".into(),
                ids: vec![1; 8],
                text: "t".into(),
                logprob: *logprob,
            });
        }
        record
    }

    #[test]
    fn a_record_comes_back_from_its_bytes_and_hostile_ones_get_a_sentence() {
        let record = judged();
        let bytes = record.to_bytes().unwrap();
        assert_eq!(ContrastRecord::parse(&bytes).unwrap(), record);
        let message = |bytes: &[u8]| ContrastRecord::parse(bytes).unwrap_err().to_string();
        assert!(message(b"").contains("does not unpack"));
        assert!(message(&bytes[..bytes.len() / 2]).contains("does not unpack"));
        assert!(message(&vec![0; MAX_RECORD_BYTES + 1]).contains("bytes long"));
        let bomb = compress_to_vec_zlib(&vec![b' '; MAX_UNPACKED_BYTES + 1], 1);
        assert!(message(&bomb).contains("does not unpack"));
        let with = |change: fn(&mut ContrastRecord)| {
            let mut record = judged();
            change(&mut record);
            message(&record.to_bytes().unwrap())
        };
        assert!(with(|r| r.format = "trimtab-contrast-9".into()).contains("newer program"));
        assert!(with(|r| r.responses.truncate(3)).contains("responses are 3"));
        assert!(
            with(|r| r.baselines[0].as_mut().unwrap().by_pair = vec![None; 9]).contains("9 pairs")
        );
        assert!(with(|r| r.settings.questions = 0).contains("0 extraction questions"));
        assert!(
            with(|r| r.pack.questions.extraction[0] = "x".repeat(10 << 20))
                .contains("questions.extraction[0]: is 10485760 characters")
        );
    }

    #[test]
    fn evidence_is_cross_fitted_against_the_neutral_answer_in_its_deviations() {
        let record = judged();
        // 0, 0.1, 0.2, 0.3: squared deviations sum to 0.05 over three degrees of freedom.
        let unit = (0.05_f64 / 3.0).sqrt();
        assert!((record.unit().unwrap() - unit).abs() < 1e-12);
        // Question 3, pair 0, positive.
        let at = 2 * 2 * 3;
        assert!((record.evidence(at).unwrap() - (0.5 - 0.3) / unit).abs() < 1e-9);
        assert!(record.is_complete());
        let mut unfinished = judged();
        unfinished.responses[at].as_mut().unwrap().by_pair[1] = None;
        assert_eq!(unfinished.evidence(at), None);
        assert!(!unfinished.is_complete());
    }

    #[test]
    fn thresholds_decide_what_counts_and_say_why() {
        let mut record = judged();
        record.responses[0].as_mut().unwrap().ids = vec![1, 2, 1, 2, 1, 2, 1, 2];
        record.responses[1].as_mut().unwrap().logprob = Some(-9.0);
        record.responses[2].as_mut().unwrap().logprob = Some(-0.01);
        record.responses[3].as_mut().unwrap().ids.truncate(2);
        let why = |evidence: f64, at: usize| {
            let thresholds = Thresholds {
                evidence,
                ..Thresholds::default()
            };
            let band = record.band(thresholds.criteria()).unwrap();
            record.kept(at, &thresholds, &band).unwrap()
        };
        assert_eq!(why(0.0, 0), ResponseStanding::Repetitive);
        assert_eq!(why(0.0, 1), ResponseStanding::TooUnlikely);
        assert_eq!(why(0.0, 2), ResponseStanding::TooLikely);
        assert_eq!(why(0.0, 3), ResponseStanding::Empty);
        assert_eq!(why(0.0, 4), ResponseStanding::Kept);
        assert_eq!(why(99.0, 4), ResponseStanding::WeakEvidence);
    }

    #[test]
    fn too_small_packs_and_other_runs_are_refused() {
        let mut few = pack();
        few.questions.extraction.truncate(2);
        let error = ContrastRecord::new(few, "m".into(), settings(), None)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("at least 4 extraction questions") && error.contains("has 2"),
            "{error}"
        );
        let record = judged();
        let mut asked = pack();
        asked.questions.evaluation.push("Another question?".into());
        let continued = record.clone().continued(&asked, &settings(), "model");
        assert_eq!(continued.unwrap().pack, asked);
        assert!(matches!(
            record.clone().continued(&pack(), &settings(), "other"),
            Err(RecordError::OtherModel { .. })
        ));
        let other = ResponseSettings {
            seed: 2,
            ..settings()
        };
        asked.questions.extraction.push("And another?".into());
        for (pack, settings) in [(pack(), other), (asked, settings())] {
            let refused = record.clone().continued(&pack, &settings, "model");
            assert!(matches!(refused, Err(RecordError::OtherRun)));
        }
    }
}
