//! One conversation answered side by side, unsteered and steered, and what the unsteered model then makes of each answer.

use crate::failure::Failure;
use crate::jobs::columns;
use crate::session::{AnswerCoherence, LoadedModel, Session};
use crate::tokens::Token;
use crate::verbs::Ids;
use crate::watch::Watch;
use serde::{Deserialize, Serialize};
use trimtab_checkpoint::Message;
use trimtab_engine::generate::EndReason;
use trimtab_engine::{Sampler, SequenceIndex};
use trimtab_persona::plan::NamedTerm;
use trimtab_persona::reading_block::ReadingBlock;
use trimtab_persona::recipe::PlanChange;
use ts_rs::TS;

/// Sequences that an engine needs for columns.
pub const SEQUENCES: usize = 3;
/// Where the unsteered model reads steered answers; the columns' own caches stay as they are.
pub const REREADING: SequenceIndex = SequenceIndex(2);

/// Each kind keeps a cache of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "lowercase")]
pub enum ColumnKind {
    Unsteered,
    Steered,
}

impl ColumnKind {
    pub const fn sequence(self) -> SequenceIndex {
        match self {
            Self::Unsteered => SequenceIndex(0),
            Self::Steered => SequenceIndex(1),
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize, TS)]
#[ts(optional_fields)]
pub struct ColumnRequest {
    pub column: ColumnKind,
    /// The whole conversation so far, ending with the user's message.
    #[ts(type = "{ role: \"system\" | \"user\" | \"assistant\"; content: string }[]")]
    pub messages: Vec<Message>,
    /// Tokens to begin with in place of messages.
    #[serde(default)]
    pub ids: Option<Ids>,
    /// Not looked at in an unsteered column.
    pub plan: Vec<NamedTerm>,
    /// The beginning of an answer that goes on.
    #[serde(default)]
    pub begun: Option<BegunAnswer>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, TS)]
pub struct BegunAnswer {
    /// Its tokens, which count towards the request's `maxTokens`.
    pub ids: Vec<u32>,
    /// Plans that took the place of the column's `plan` meanwhile.
    pub changes: Vec<PlanChange>,
}

#[derive(Clone, Debug, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
#[ts(optional_fields)]
pub struct GenerateRequest {
    pub columns: Vec<ColumnRequest>,
    pub sampler: Sampler,
    pub max_tokens: usize,
    /// Whether the unsteered model reads the answers (it does); else the results' `reread` is empty.
    #[serde(default)]
    pub reread: Option<bool>,
    /// Whether the results have readings that are not calibrated, too (they do not).
    #[serde(default)]
    pub readings: Option<bool>,
}

/// What happened; `column` is the index into the request's columns.
#[derive(Clone, Debug, Serialize, TS)]
#[serde(
    tag = "kind",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase"
)]
pub enum GenerateEvent {
    Prompt {
        done: usize,
        total: usize,
        #[serde(skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        seconds_left: Option<f64>,
    },
    /// A token of the answer, as soon as it is chosen.
    Token { column: usize, token: Token },
    /// Readings of answer tokens `from..from + tokens` inside the run (includes the push).
    Readings {
        column: usize,
        from: usize,
        block: ReadingBlock,
    },
    /// Answer tokens from `fromToken` (0 = the answer's first) on run under another plan.
    Segment {
        column: usize,
        from_token: usize,
        plan: Vec<NamedTerm>,
    },
    End {
        column: usize,
        reason: EndReason,
        /// NaN for an answer that is too short to tell.
        tokens_per_second: f64,
    },
    /// The unsteered model is reading the steered answer.
    RereadProgress {
        column: usize,
        done: usize,
        total: usize,
    },
    /// The graphics device was lost: the weights are being loaded again, and the answers then go on with their next tokens.
    Recovering {
        #[ts(type = "number")]
        bytes_done: u64,
        #[ts(type = "number")]
        bytes_total: u64,
    },
    /// They go on, here.
    Recovered { model: LoadedModel },
}

/// Part of a run made under one plan. `fromToken` is an index into the conversation's tokens.
#[derive(Clone, Debug, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct PlanSegment {
    pub from_token: usize,
    pub plan: Vec<NamedTerm>,
}

/// One column's finished run: every token of the conversation and what was read.
#[derive(Clone, Debug, Serialize, TS)]
#[serde(rename_all = "camelCase")]
#[ts(optional_fields)]
pub struct ColumnResult {
    pub column: ColumnKind,
    pub text: String,
    /// All tokens of the conversation, template and prompt included.
    pub tokens: Vec<Token>,
    /// Index into `tokens` of the answer's first token.
    pub answer_start: usize,
    pub reason: EndReason,
    /// Inside the run (includes the push), for all `tokens`.
    pub in_run: ReadingBlock,
    /// The same as `h_l · v̂_l`, where that was asked for; NaN for tokens that were not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readings: Option<ReadingBlock>,
    /// By the unsteered model, for all `tokens`; what heatmaps show by default. Equal to `inRun` for an unsteered run.
    pub reread: ReadingBlock,
    /// Log-probability of each token under the unsteered model; NaN for the first, and for those that it did not read.
    #[serde(with = "trimtab_persona::json::floats")]
    #[ts(type = "Float32Array")]
    pub reread_logprob: Vec<f32>,
    /// The first segment begins at 0.
    pub segments: Vec<PlanSegment>,
    /// Coherence of the answer; absent where there are no neutral answers to hold it against.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coherence: Option<AnswerCoherence>,
}

impl Session {
    /// Runs the columns together, token by token. Another plan acts on steered columns from the next token on that is not
    /// yet queued. A stop ends the answers, which are still re-read; another one ends that, too.
    pub async fn generate(
        &mut self,
        request: GenerateRequest,
        watch: &mut dyn Watch,
    ) -> Result<Vec<ColumnResult>, Failure> {
        request.sampler.checked()?;
        columns::run(self, request, watch).await
    }
}
