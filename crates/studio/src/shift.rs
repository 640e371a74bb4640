//! What an adapter (or a push) changes about the model: states, answers, likelihood and knowledge, held against the base model.

use crate::studies::StudySettings;
use crate::verbs::Bytes;
use serde::{Deserialize, Serialize};
use trimtab_persona::knowledge::KnowledgeQuestion;
use trimtab_persona::plan::NamedTerm;
use trimtab_persona::trait_pack::TraitPack;
use ts_rs::TS;

/// Base-model answers that shifts are read over, unless more or fewer are asked for.
pub const CONVERSATIONS: usize = 12;

#[derive(Clone, Debug, Default, Serialize, Deserialize, TS)]
#[serde(default, rename_all = "camelCase")]
#[ts(optional_fields)]
pub struct ShiftRequest {
    /// What is held against the base model: adapters, pushes, or both.
    pub plan: Vec<NamedTerm>,
    /// Answers of the base model over which the shift along every trait of the session is read (12).
    pub conversations: Option<usize>,
    /// Traits for which evidence is measured in answers; each takes a minute or more.
    pub packs: Vec<TraitPack>,
    /// How; of [`StudySettings`], `questions`, `maxTokens` and `extractionPairs` count.
    pub study: Option<StudySettings>,
    /// Questions that are asked of both models; none: knowledge is not measured.
    pub knowledge: Vec<KnowledgeQuestion>,
    /// From an earlier event with records, also of another adapter: what the base model answered is not written again.
    pub records: Option<Bytes>,
}
