//! The method on the default checkpoint, against golden data and its own files.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::LazyLock;
use trimtab_engine::{Backend, Precision};
use trimtab_persona::conversation::ChatText;
use trimtab_testing::default_model::{self, SharedEngine};

mod golden_estimators;
mod golden_extract;
mod golden_vectors;
mod trait_packs;

static CPU_EXACT: SharedEngine = SharedEngine::new(Backend::Cpu, Precision::Exact, 256, 12);

/// The default model's tokenizer and template.
static CHAT: LazyLock<ChatText> = LazyLock::new(|| ChatText {
    tokenizer: default_model::tokenizer(),
    template: default_model::chat_template(),
});
