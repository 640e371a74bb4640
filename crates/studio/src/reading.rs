//! Reading texts that are given as tokens: how likely they are, what the residual stream holds, and mean differences of it.

use crate::failure::Failure;
use crate::generation::REREADING;
use crate::session::Session;
use crate::watch::Watch;
use serde::{Deserialize, Serialize};
use trimtab_checkpoint::Message;
use trimtab_engine::device::profile;
use trimtab_engine::engine::{ReadOutcome, ReadRequest, Scoring};
use trimtab_engine::gpu::Profile;
use trimtab_engine::reading::Reading;
use trimtab_engine::{SteeringPlan, TokenId};
use trimtab_persona::extract::{Example, Side, extract};
use trimtab_persona::plan::NamedTerm;
use trimtab_persona::vector_file::{VectorFile, VectorMetadata};
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
    /// What the device was measured to do at most.
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

/// A conversation on one side of a contrast, as token ids.
#[derive(Clone, Debug, Serialize, Deserialize, TS)]
pub struct ContrastPair {
    #[ts(type = "1 | -1")]
    pub side: i32,
    pub prompt_ids: Vec<u32>,
    pub full_ids: Vec<u32>,
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

    async fn read(
        &mut self,
        ids: &[u32],
        plan: &SteeringPlan,
        score: bool,
        watch: &mut dyn Watch,
    ) -> Result<ReadOutcome, Failure> {
        let tokens: Vec<TokenId> = ids.iter().copied().map(TokenId).collect();
        let request = ReadRequest {
            sequence: REREADING,
            tokens: &tokens,
            prompt_length: tokens.len(),
            plan,
            score: match score {
                true => Scoring::Everything,
                false => Scoring::Nothing,
            },
            capture: !score,
        };
        let mut reading = Reading::start(&mut self.engine, &request).await?;
        while reading.next(&mut self.engine).await? {
            if watch.pause().await.stop {
                return Err(Failure::usage("stopped, as you asked"));
            }
        }
        Ok(reading.finish(&self.engine))
    }

    /// How likely the model finds each token.
    pub async fn score(
        &mut self,
        ids: &[u32],
        watch: &mut dyn Watch,
    ) -> Result<ScoreResult, Failure> {
        if ids.len() < 2 {
            return Err(Failure::usage("scoring needs at least two tokens"));
        }
        let read = self
            .read(ids, &SteeringPlan::default(), true, watch)
            .await?;
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

    /// The residual stream at every layer for every token.
    pub async fn trace(
        &mut self,
        ids: Vec<u32>,
        plan: &[NamedTerm],
        watch: &mut dyn Watch,
    ) -> Result<TraceResult, Failure> {
        let plan = self.plan(plan)?;
        let read = self.read(&ids, &plan, false, watch).await?;
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
    pub async fn extract(&mut self, pairs: Vec<ContrastPair>) -> Result<Vec<u8>, Failure> {
        let examples = pairs
            .into_iter()
            .enumerate()
            .map(example)
            .collect::<Result<Vec<_>, _>>()?;
        let end_tokens = self.end_tokens();
        let found = extract(&mut self.engine, &examples, &end_tokens, &mut |_, _| {}).await?;
        let [positive, negative] = found.counts;
        let file = VectorFile {
            tensors: found
                .named()
                .map(|(name, table)| (name.to_owned(), table.clone()))
                .into_iter()
                .collect(),
            metadata: VectorMetadata {
                model_sha256: Some(self.sha256.clone()),
                made: Some(format!(
                    "mean differences of {positive} positive and {negative} negative conversations, in the page"
                )),
                ..VectorMetadata::default()
            },
        };
        Ok(file.to_bytes()?)
    }
}

fn example((index, pair): (usize, ContrastPair)) -> Result<Example, Failure> {
    let side = match pair.side {
        1 => Side::Positive,
        -1 => Side::Negative,
        other => {
            return Err(Failure::usage(format!(
                "pair {index} is on side {other}; the sides are 1 and -1"
            )));
        }
    };
    if !pair.full_ids.starts_with(&pair.prompt_ids) {
        return Err(Failure::usage(format!(
            "pair {index}: full_ids do not begin with prompt_ids"
        )));
    }
    Ok(Example {
        side,
        tokens: pair.full_ids.into_iter().map(TokenId).collect(),
        prompt_length: pair.prompt_ids.len(),
    })
}
