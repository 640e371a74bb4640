//! The graphics device tried out with a stand-in, before the model's weights are there.

use serde::Serialize;
use trimtab_checkpoint::ModelConfig;
use trimtab_engine::device::self_check::SelfCheck;
use trimtab_engine::device::speed::Speeds;
use trimtab_engine::device::stand_in::Forms;
use trimtab_engine::gpu::variant::Variant;
use trimtab_engine::{Backend, Precision};
use trimtab_studio::failure::Failure;
use wasm_bindgen::prelude::wasm_bindgen;

#[wasm_bindgen]
extern "C" {
    /// Milliseconds, finer than `Date`'s.
    #[wasm_bindgen(js_namespace = performance)]
    fn now() -> f64;
}

/// As the engine counts them.
pub fn seconds() -> f64 {
    now() / 1000.0
}

/// A device's kernels and settings that were found to compute rightly.
#[derive(Clone, Debug, PartialEq)]
pub struct TriedDevice {
    pub config: ModelConfig,
    pub forms: Forms,
    pub precision: Precision,
    /// Which way it goes about its work; the likely one where none was chosen.
    pub variant: Option<Variant>,
}

/// `DeviceTrial` of `web/src/engine/protocol.ts`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// What compiling took, and the check itself, where there was one.
    compile_milliseconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    check_milliseconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens_per_second: Option<TokensPerSecond>,
    /// Which of the kernels' variants is used, by its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<String>,
}

#[derive(Debug, Serialize)]
struct TokensPerSecond {
    gpu: f64,
    cpu: f64,
}

impl TriedDevice {
    /// Chooses a variant and times both executors where that is wanted, and checks the kernels that such a model needs unless the device is
    /// then the slower one, which will not be used.
    pub async fn now(mut self, timed: bool) -> Result<(Option<Self>, Outcome), Failure> {
        let begun = now();
        let Self {
            config,
            forms,
            precision,
            variant,
        } = &self;
        let mut check = SelfCheck::prepare(config, forms, *precision, *variant).await?;
        let compiled = now();
        let mut outcome = Outcome {
            compile_milliseconds: compiled - begun,
            check_milliseconds: None,
            tokens_per_second: None,
            variant: None,
        };
        if timed {
            check.choose(self.precision, &seconds).await?;
            self.variant = check.variant();
            let SelfCheck { stand_in, gpu, .. } = &mut check;
            let speeds = Speeds::measure(stand_in, gpu, self.precision, &seconds).await?;
            let Speeds { gpu, cpu } = speeds;
            outcome.tokens_per_second = Some(TokensPerSecond { gpu, cpu });
            if speeds.faster() == Backend::Cpu {
                return Ok((None, outcome));
            }
        }
        outcome.variant = check.variant().map(|variant| variant.to_string());
        let begun = now();
        check.run().await?;
        outcome.check_milliseconds = Some(now() - begun);
        Ok((Some(self), outcome))
    }
}
