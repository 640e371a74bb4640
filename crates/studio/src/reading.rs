//! Reading what is given: how likely tokens are, what the residual stream holds, mean differences of it, and calibrations.

use crate::failure::Failure;
use crate::generation::REREADING;
use crate::jobs::reading::{calibration, differences, read};
use crate::session::Session;
use crate::verbs::Event;
use crate::watch::{Halt, Watch};
use serde::Serialize;
use trimtab_checkpoint::Message;
use trimtab_engine::device::profile;
use trimtab_engine::engine::{ReadRequest, Scoring};
use trimtab_engine::gpu::Profile;
use trimtab_engine::{LayerTable, SteeringPlan};
use trimtab_persona::coherence::{CoherenceBand, CoherenceCriteria};
use trimtab_persona::contrast::{ContrastPair, examples};
use trimtab_persona::conversation::token_ids;
use trimtab_persona::plan::NamedTerm;
use trimtab_persona::vector_file::{VectorFile, VectorMetadata, check_shape};
use ts_rs::TS;

/// How likely each token is; entry `i` of both lists is about `ids[i + 1]`.
#[derive(Clone, Debug, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ScoreResult {
    /// Negative natural log-likelihood, `[T − 1]`.
    #[serde(with = "trimtab_persona::json::floats")]
    #[ts(type = "Float32Array")]
    pub nll: Vec<f32>,
    /// The model's first choice in each place, `[T − 1]`.
    #[serde(serialize_with = "trimtab_persona::json::ids::serialize")]
    #[ts(type = "Uint32Array")]
    pub top1: Vec<u32>,
    pub mean_nll: f64,
}

#[derive(Clone, Debug, Serialize, TS)]
pub struct TraceResult {
    #[serde(serialize_with = "trimtab_persona::json::ids::serialize")]
    #[ts(type = "Uint32Array")]
    pub ids: Vec<u32>,
    /// `[L+1, T, d]`, row-major.
    #[serde(with = "trimtab_persona::json::floats")]
    #[ts(type = "Float32Array")]
    pub residual: Vec<f32>,
    pub shape: [usize; 3],
}

/// Where a decoded token's time goes on a GPU; seconds, bytes and multiply-adds of one token.
#[derive(Clone, Debug, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ProfileResult {
    pub tokens: usize,
    pub context: usize,
    pub seconds: f64,
    /// Largest rates that were measured on the device.
    pub bytes_per_second: f64,
    pub products_per_second: f64,
    pub kernels: Vec<ProfiledKernel>,
}

#[derive(Clone, Debug, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ProfiledKernel {
    pub kernel: String,
    pub dispatches: usize,
    pub seconds: f64,
    /// Of all kernels' time.
    pub share: f64,
    pub bytes: f64,
    pub products: f64,
    /// The least time at the device's measured peak over the time taken.
    pub roofline: f64,
}

/// How far a reading is: tokens of one text, conversations of many, or neutral answers that are written first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, TS)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ReadingEvent {
    Tokens { done: usize, total: usize },
    Conversations { done: usize, total: usize },
    Answers { done: usize, total: usize },
}

impl ReadingEvent {
    fn tokens(total: usize) -> impl Fn(usize) -> Event {
        move |done| Event::Reading(Self::Tokens { done, total })
    }

    pub(crate) fn conversations(done: usize, total: usize) -> Event {
        Event::Reading(Self::Conversations { done, total })
    }
}

/// A vector file with its calibration.
#[derive(Clone, Debug, Serialize, TS)]
pub struct Calibrated {
    /// Names of the tensors, each of which has a calibration now.
    pub tensors: Vec<String>,
    /// Neutral conversations that were read.
    pub conversations: u32,
    #[serde(with = "serde_bytes")]
    #[ts(type = "Uint8Array")]
    pub vector: Vec<u8>,
}

impl Session {
    /// Token ids of a rendered conversation.
    pub fn tokenize(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<Vec<u32>, Failure> {
        let chat = &self.chat;
        let rendered = chat
            .template
            .encode(&chat.tokenizer, messages, add_generation_prompt)?;
        Ok(rendered.ids)
    }

    /// How likely the model finds each token.
    pub async fn score(
        &mut self,
        ids: &[u32],
        watch: &mut dyn Watch,
    ) -> Result<ScoreResult, Failure> {
        if ids.len() < 2 {
            return Err(Failure::usage(
                "scoring needs at least two tokens: the first is predicted by none",
            ));
        }
        let tokens = token_ids(ids);
        let request = ReadRequest {
            sequence: REREADING,
            tokens: &tokens,
            prompt_length: tokens.len(),
            plan: &SteeringPlan::default(),
            score: Scoring::Everything,
            capture: false,
        };
        let event = ReadingEvent::tokens(tokens.len());
        let read = read(&mut self.engine, &request, &event, watch).await;
        let read = read.map_err(|halt| halt.failure(""))?;
        let predictions = || {
            let scored = &read.records[..ids.len() - 1];
            scored
                .iter()
                .filter_map(|record| record.prediction.as_ref())
        };
        let nll: Vec<f32> = predictions().map(|next| -next.target_logprob).collect();
        Ok(ScoreResult {
            top1: predictions().map(|next| next.chosen.0).collect(),
            mean_nll: nll.iter().copied().map(f64::from).sum::<f64>() / nll.len() as f64,
            nll,
        })
    }

    /// The residual stream at every layer for every token. `prompt_length` (all) tells prompt from response for plans that
    /// act on one of them.
    pub async fn trace(
        &mut self,
        ids: Vec<u32>,
        plan: &[NamedTerm],
        prompt_length: Option<usize>,
        watch: &mut dyn Watch,
    ) -> Result<TraceResult, Failure> {
        let tokens = token_ids(&ids);
        let request = ReadRequest {
            sequence: REREADING,
            tokens: &tokens,
            prompt_length: prompt_length.unwrap_or(tokens.len()),
            plan: &self.plan(plan)?,
            score: Scoring::Nothing,
            capture: true,
        };
        let event = ReadingEvent::tokens(tokens.len());
        let read = read(&mut self.engine, &request, &event, watch).await;
        let read = read.map_err(|halt| halt.failure(""))?;
        let (rows, width) = (self.engine.layer_rows(), self.engine.config().hidden_size);
        // From [T, L+1, d] to [L+1, T, d].
        let mut residual = vec![0.0; read.residual.len()];
        for (index, row) in read.residual.chunks(width).enumerate() {
            let at = (index % rows * ids.len() + index / rows) * width;
            residual[at..at + width].copy_from_slice(row);
        }
        Ok(TraceResult {
            shape: [rows, ids.len(), width],
            ids,
            residual,
        })
    }

    /// Where the time of a token after `context` others goes on a GPU with timestamps, over `tokens` of them.
    pub async fn profile(
        &mut self,
        context: usize,
        tokens: usize,
    ) -> Result<ProfileResult, Failure> {
        let profile: Profile = profile(&mut self.engine, context, tokens).await?;
        let busy: f64 = profile.kernels.iter().map(|kernel| kernel.seconds).sum();
        let kernels = profile.kernels.into_iter().map(|kernel| ProfiledKernel {
            kernel: kernel.kernel.to_owned(),
            dispatches: kernel.dispatches,
            seconds: kernel.seconds,
            share: kernel.seconds / busy,
            bytes: kernel.work.bytes,
            products: kernel.work.products,
            roofline: kernel.roofline,
        });
        Ok(ProfileResult {
            tokens: profile.tokens,
            context: profile.context,
            seconds: profile.seconds,
            bytes_per_second: profile.bytes_per_second,
            products_per_second: profile.products_per_second,
            kernels: kernels.collect(),
        })
    }

    /// Mean-difference vectors from given conversations: the bytes of a vector file.
    pub async fn extract(
        &mut self,
        pairs: Vec<ContrastPair>,
        watch: &mut dyn Watch,
    ) -> Result<Vec<u8>, Failure> {
        let examples = examples(pairs, &self.chat)?;
        let total = examples.len();
        let end_tokens = self.end_tokens();
        let event = |done| ReadingEvent::conversations(done, total);
        let found = differences(&mut self.engine, &examples, &end_tokens, &event, watch).await;
        let found = found.map_err(|halt| halt.failure(""))?;
        let [positive, negative] = found.counts;
        let tensors = found
            .named()
            .map(|(name, table)| (name.to_owned(), table.clone()));
        let file = VectorFile {
            tensors: tensors.into(),
            metadata: VectorMetadata {
                model_sha256: Some(self.sha256.clone()),
                made: Some(format!(
                    "mean differences of {positive} positive and {negative} negative given conversations"
                )),
                ..VectorMetadata::default()
            },
        };
        Ok(file.to_bytes()?)
    }

    /// Gives a vector file the calibration and the norms that readings and doses are measured by, and the band of coherent
    /// answers. The model's neutral answers are written first as far as they are missing, and stay with the session.
    pub async fn calibrate(
        &mut self,
        vector: &[u8],
        watch: &mut dyn Watch,
    ) -> Result<Calibrated, Failure> {
        let mut file = VectorFile::parse(vector)?;
        let (rows, width) = (self.engine.layer_rows(), self.engine.config().hidden_size);
        for table in file.tensors.values() {
            check_shape(&[table.rows(), table.width()], rows, width)?;
        }
        let tables: Vec<LayerTable> = file.tensors.values().cloned().collect();
        let statistics = async {
            let conversations = self.neutral_conversations(usize::MAX, watch).await?;
            let event = Some(ReadingEvent::conversations as fn(usize, usize) -> Event);
            calibration(&mut self.engine, &conversations, &tables, event, watch).await
        };
        let statistics: Result<_, Halt> = statistics.await;
        let answers = self.neutral.iter().flat_map(|set| &set.answers);
        let logprobs = answers.filter_map(|answer| answer.logprob);
        let band = CoherenceBand::of(&logprobs.collect::<Vec<_>>(), CoherenceCriteria::default());
        let statistics =
            statistics.map_err(|halt| halt.failure("; the neutral answers so far are kept"))?;
        let conversations = statistics.calibrations.first();
        let conversations = conversations.map_or(0, |one| one.conversations);
        let tensors: Vec<String> = file.tensors.keys().cloned().collect();
        let metadata = &mut file.metadata;
        metadata.neutral_norm = Some(statistics.neutral_norm);
        metadata.coherence_band = band.ok().or(metadata.coherence_band);
        let calibrations = tensors.iter().cloned().zip(statistics.calibrations);
        metadata.calibration = calibrations.collect();
        // A model that the file names stays: the vector was made on that one, whatever it is read with here.
        metadata
            .model_sha256
            .get_or_insert_with(|| self.sha256.clone());
        Ok(Calibrated {
            tensors,
            conversations,
            vector: file.to_bytes()?,
        })
    }
}
