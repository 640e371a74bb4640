//! The verbs: against golden data on the default checkpoint, against each other on a small random model.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use trimtab_checkpoint::source::LocalFuture;
use trimtab_engine::{Backend, Precision};
use trimtab_persona::conversation::ChatText;
use trimtab_persona::neutral::NeutralSet;
use trimtab_studio::generation::SEQUENCES;
use trimtab_studio::session::Session;
use trimtab_studio::verbs::Event;
use trimtab_studio::watch::{Asked, Watch};
use trimtab_testing::chat_model;
use trimtab_testing::default_model::{self, SharedEngine};
use trimtab_testing::files::bytes;

mod coherence;
mod golden_links;
mod golden_study;
mod lessons;
mod making;
mod reading;
mod stopping;
mod studies;
mod typescript;

static CPU_EXACT: SharedEngine = SharedEngine::new(Backend::Cpu, Precision::Exact, 256, 12);
static CPU_FAST: SharedEngine = SharedEngine::new(Backend::Cpu, Precision::Fast, 256, 8);
static GPU_EXACT: SharedEngine = SharedEngine::new(Backend::Gpu, Precision::Exact, 256, SEQUENCES);
static GPU_FAST: SharedEngine = SharedEngine::new(Backend::Gpu, Precision::Fast, 256, SEQUENCES);

/// The default model's tokenizer and template.
fn chat() -> ChatText {
    ChatText {
        tokenizer: default_model::tokenizer(),
        template: default_model::chat_template(),
    }
}

/// The neutral answers that the ready-made traits are calibrated on.
fn neutral() -> NeutralSet {
    serde_json::from_slice(&bytes("models/vectors/neutral.json")).unwrap()
}

/// A session with the default model on that engine.
fn with_session<T>(engine: &SharedEngine, use_it: impl FnOnce(&mut Session) -> T) -> T {
    engine.lend(|engine| {
        let mut session = Session::new(engine, chat(), neutral().model_sha256);
        let result = use_it(&mut session);
        (session.engine, result)
    })
}

/// A session with the random model, which passes for the one that the neutral answers are of.
fn small_session() -> Session {
    let engine = chat_model::engine(Precision::Exact, 8);
    Session::new(engine, chat(), neutral().model_sha256)
}

/// Hears every event, and stops the run after those for which `stops_after` says so.
struct Hearing<F> {
    stops_after: F,
    stop: bool,
}

impl<F: FnMut(&Event) -> bool> Hearing<F> {
    fn new(stops_after: F) -> Self {
        Self {
            stops_after,
            stop: false,
        }
    }
}

impl<F: FnMut(&Event) -> bool> Watch for Hearing<F> {
    fn tell(&mut self, event: Event) {
        self.stop |= (self.stops_after)(&event);
    }

    fn pause(&mut self) -> LocalFuture<'_, Asked> {
        let stop = std::mem::take(&mut self.stop);
        Box::pin(std::future::ready(Asked { stop, plan: None }))
    }

    fn seconds(&self) -> f64 {
        0.0
    }
}
