//! The method on the default checkpoint, against golden data and its own files.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::LazyLock;
use trimtab_engine::{Backend, Precision};
use trimtab_persona::columns;
use trimtab_persona::conversation::ChatText;
use trimtab_testing::default_model::{self, SharedEngine};

mod golden_estimators;
mod golden_extract;
mod golden_links;
mod golden_study;
mod golden_vectors;
mod making;
mod stopping;
mod studies;
mod trait_packs;

static CPU_EXACT: SharedEngine = SharedEngine::new(Backend::Cpu, Precision::Exact, 256, 12);
static CPU_FAST: SharedEngine = SharedEngine::new(Backend::Cpu, Precision::Fast, 256, 8);
static GPU_EXACT: SharedEngine =
    SharedEngine::new(Backend::Gpu, Precision::Exact, 256, columns::SEQUENCES);
static GPU_FAST: SharedEngine =
    SharedEngine::new(Backend::Gpu, Precision::Fast, 256, columns::SEQUENCES);

/// The default model's tokenizer and template.
static CHAT: LazyLock<ChatText> = LazyLock::new(|| ChatText {
    tokenizer: default_model::tokenizer(),
    template: default_model::chat_template(),
});
