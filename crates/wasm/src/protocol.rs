//! The types of `web/src/engine/protocol.ts`, as they cross the boundary.

use crate::failure::Failure;
use js_sys::{Float32Array, Function, Uint32Array};
use serde::{Deserialize, Serialize};
use trimtab_checkpoint::Message;
use trimtab_engine::engine::EngineInfo;
use trimtab_engine::generate::EndReason;
use trimtab_engine::gpu::Profile;
use trimtab_engine::{Backend, EngineError, Layer, Operation, Precision, Sampler, Scope};
use trimtab_persona::calibration;
use trimtab_persona::coherence::{Coherence, CoherenceBand};
use trimtab_persona::columns::ColumnKind;
use trimtab_persona::conversation::Part;
use trimtab_persona::plan::NamedTerm;
use trimtab_persona::vector_file::{Recommended, TraitVector};
use wasm_bindgen::JsValue;

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenOptions {
    pub backend: BackendName,
    pub precision: PrecisionName,
    pub context: Option<usize>,
    pub name: String,
    pub licence: String,
    pub sha256: String,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendName {
    Gpu,
    Cpu,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrecisionName {
    Exact,
    Fast,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadedModel<'a> {
    pub name: &'a str,
    pub sha256: &'a str,
    pub licence: &'a str,
    pub layers: usize,
    pub hidden_size: usize,
    pub backend: BackendName,
    pub precision: PrecisionName,
    pub adapter: &'a str,
    pub software: bool,
    pub context: usize,
    pub device_bytes: f64,
    pub notices: Vec<String>,
    pub traits: Vec<TraitCard>,
    pub max_traits: usize,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TraitCard {
    pub name: String,
    opposite: String,
    description: String,
    hash: String,
    made: String,
    recommended: Recommended,
    #[serde(with = "serde_wasm_bindgen::preserve")]
    dose_per_unit: Float32Array,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum OperationName {
    Add { coefficient: f32 },
    Ablate,
    Clamp { low: f32, high: f32 },
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScopeName {
    All,
    Prompt,
    Response,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SteeringTerm {
    #[serde(rename = "trait")]
    trait_name: String,
    operation: OperationName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    layers: Option<Vec<u32>>,
    scope: ScopeName,
}

pub type Plan = Vec<SteeringTerm>;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SamplerSettings {
    temperature: f32,
    top_k: u32,
    top_p: f32,
    repetition_penalty: f32,
    seed: u32,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnName {
    Unsteered,
    Steered,
}

#[derive(Debug, Deserialize)]
pub struct ColumnInput {
    pub column: ColumnName,
    pub messages: Vec<Message>,
    pub plan: Plan,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GenerateInput {
    pub columns: Vec<ColumnInput>,
    pub sampler: SamplerSettings,
    pub max_tokens: usize,
}

#[derive(Debug, Serialize)]
pub struct Alternative {
    pub text: String,
    pub id: u32,
    pub logprob: f32,
}

#[derive(Debug, Serialize)]
pub struct Token {
    pub id: u32,
    pub text: String,
    pub part: PartName,
    pub logprob: f32,
    pub alternatives: Vec<Alternative>,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PartName {
    Template,
    Prompt,
    Response,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadingBlock {
    tokens: usize,
    traits: usize,
    layer_rows: usize,
    #[serde(with = "serde_wasm_bindgen::preserve")]
    values: Float32Array,
}

#[derive(Debug, Serialize)]
#[serde(
    tag = "kind",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase"
)]
pub enum GenerateEvent<'a> {
    Prompt {
        done: usize,
        total: usize,
        #[serde(skip_serializing_if = "Option::is_none")]
        seconds_left: Option<f64>,
    },
    Token {
        column: usize,
        token: Token,
    },
    Readings {
        column: usize,
        from: usize,
        block: ReadingBlock,
    },
    Segment {
        column: usize,
        from_token: usize,
        plan: &'a Plan,
    },
    End {
        column: usize,
        reason: ReasonName,
        tokens_per_second: f64,
    },
    RereadProgress {
        column: usize,
        done: usize,
        total: usize,
    },
    /// The device was lost; the weights are being loaded again.
    Recovering {
        bytes_done: f64,
        bytes_total: f64,
    },
    /// The run goes on, here.
    Recovered {
        model: LoadedModel<'a>,
    },
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReasonName {
    EndToken,
    MaxTokens,
    ContextFull,
    Stopped,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SegmentRecord {
    pub from_token: usize,
    pub plan: Plan,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ColumnResult {
    pub column: ColumnName,
    pub text: String,
    pub tokens: Vec<Token>,
    pub answer_start: usize,
    pub in_run: ReadingBlock,
    pub reread: ReadingBlock,
    #[serde(with = "serde_wasm_bindgen::preserve")]
    pub reread_logprob: Float32Array,
    pub segments: Vec<SegmentRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coherence: Option<AnswerCoherence>,
}

/// An answer held against the band that coherent ones lie in.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AnswerCoherence {
    pub verdict: Coherence,
    pub mean_logprob: f64,
    pub distinct2: f64,
    pub band: BandCard,
}

#[derive(Debug, Serialize)]
pub struct BandCard {
    low: f64,
    high: f64,
    mean: f64,
    deviation: f64,
    distinct2: f64,
    answers: usize,
}

impl From<CoherenceBand> for BandCard {
    fn from(band: CoherenceBand) -> Self {
        let CoherenceBand {
            low,
            high,
            mean,
            deviation,
            distinct_2,
            answers,
        } = band;
        Self {
            low,
            high,
            mean,
            deviation,
            distinct2: distinct_2,
            answers,
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ScoreResult {
    #[serde(with = "serde_wasm_bindgen::preserve")]
    pub nll: Float32Array,
    #[serde(with = "serde_wasm_bindgen::preserve")]
    pub top1: Uint32Array,
    pub mean_nll: f64,
}

#[derive(Debug, Serialize)]
pub struct TraceResult {
    #[serde(with = "serde_wasm_bindgen::preserve")]
    pub ids: Uint32Array,
    #[serde(with = "serde_wasm_bindgen::preserve")]
    pub residual: Float32Array,
    pub shape: [usize; 3],
}

/// Where a decoded token's time goes on a GPU; seconds, bytes and multiply-adds of one token.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProfileResult {
    pub tokens: usize,
    pub context: usize,
    pub seconds: f64,
    pub bytes_per_second: f64,
    pub products_per_second: f64,
    pub kernels: Vec<ProfiledKernel>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProfiledKernel {
    pub kernel: &'static str,
    pub dispatches: usize,
    pub seconds: f64,
    /// Of all kernels' time.
    pub share: f64,
    pub bytes: f64,
    pub products: f64,
    /// The least time at the device's measured peak over the time taken.
    pub roofline: f64,
}

impl From<Profile> for ProfileResult {
    fn from(profile: Profile) -> Self {
        let busy: f64 = profile.kernels.iter().map(|kernel| kernel.seconds).sum();
        let kernels = profile.kernels.into_iter().map(|kernel| ProfiledKernel {
            kernel: kernel.kernel,
            dispatches: kernel.dispatches,
            seconds: kernel.seconds,
            share: kernel.seconds / busy,
            bytes: kernel.work.bytes,
            products: kernel.work.products,
            roofline: kernel.roofline,
        });
        Self {
            tokens: profile.tokens,
            context: profile.context,
            seconds: profile.seconds,
            bytes_per_second: profile.bytes_per_second,
            products_per_second: profile.products_per_second,
            kernels: kernels.collect(),
        }
    }
}

#[derive(Debug, Deserialize)]
pub struct ContrastPair {
    pub side: i32,
    pub prompt_ids: Vec<u32>,
    pub full_ids: Vec<u32>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PrepareProgress {
    pub bytes_done: f64,
    pub bytes_total: f64,
}

/// As the page expects it: absent fields are absent, and maps are plain objects.
pub fn to_js(value: &impl Serialize) -> Result<JsValue, Failure> {
    let serializer = serde_wasm_bindgen::Serializer::new().serialize_maps_as_objects(true);
    Ok(value.serialize(&serializer)?)
}

/// Calls a listener; what it throws is its own concern.
pub fn tell(listener: &Function, value: &impl Serialize) {
    if let Ok(value) = to_js(value) {
        let _ = listener.call1(&JsValue::NULL, &value);
    }
}

impl From<BackendName> for Backend {
    fn from(name: BackendName) -> Self {
        match name {
            BackendName::Gpu => Self::Gpu,
            BackendName::Cpu => Self::Cpu,
        }
    }
}

impl From<PrecisionName> for Precision {
    fn from(name: PrecisionName) -> Self {
        match name {
            PrecisionName::Exact => Self::Exact,
            PrecisionName::Fast => Self::Fast,
        }
    }
}

/// The names of what an engine was made with.
pub fn names_of(info: &EngineInfo) -> (BackendName, PrecisionName) {
    let backend = match info.backend {
        Backend::Gpu => BackendName::Gpu,
        Backend::Cpu | Backend::Reference => BackendName::Cpu,
    };
    let precision = match info.precision {
        Precision::Exact => PrecisionName::Exact,
        Precision::Fast => PrecisionName::Fast,
    };
    (backend, precision)
}

impl From<ColumnName> for ColumnKind {
    fn from(name: ColumnName) -> Self {
        match name {
            ColumnName::Unsteered => Self::Unsteered,
            ColumnName::Steered => Self::Steered,
        }
    }
}

impl From<Part> for PartName {
    fn from(part: Part) -> Self {
        match part {
            Part::Template => Self::Template,
            Part::Prompt => Self::Prompt,
            Part::Response => Self::Response,
        }
    }
}

impl From<EndReason> for ReasonName {
    fn from(reason: EndReason) -> Self {
        match reason {
            EndReason::EndToken => Self::EndToken,
            EndReason::MaxTokens => Self::MaxTokens,
            EndReason::ContextFull => Self::ContextFull,
            EndReason::Stopped => Self::Stopped,
        }
    }
}

impl TryFrom<&SamplerSettings> for Sampler {
    type Error = EngineError;

    fn try_from(settings: &SamplerSettings) -> Result<Self, EngineError> {
        let sampler = Self {
            temperature: settings.temperature,
            top_k: settings.top_k,
            top_p: settings.top_p,
            repetition_penalty: settings.repetition_penalty,
            seed: settings.seed,
        };
        Ok(sampler.checked()?)
    }
}

impl From<&SteeringTerm> for NamedTerm {
    fn from(term: &SteeringTerm) -> Self {
        Self {
            vector: term.trait_name.clone(),
            operation: match term.operation {
                OperationName::Add { coefficient } => Operation::Add { coefficient },
                OperationName::Ablate => Operation::Ablate,
                OperationName::Clamp { low, high } => Operation::Clamp { low, high },
            },
            layers: term
                .layers
                .as_ref()
                .map(|layers| layers.iter().copied().map(Layer).collect()),
            scope: match term.scope {
                ScopeName::All => Scope::All,
                ScopeName::Prompt => Scope::Prompt,
                ScopeName::Response => Scope::Response,
            },
        }
    }
}

impl From<&calibration::ReadingBlock> for ReadingBlock {
    fn from(block: &calibration::ReadingBlock) -> Self {
        Self {
            tokens: block.tokens,
            traits: block.traits,
            layer_rows: block.layer_rows,
            values: Float32Array::from(block.values.as_slice()),
        }
    }
}

impl TraitCard {
    /// `recommended` is the vector's own, or what stands in for it.
    pub fn of(vector: &TraitVector, recommended: Recommended, made: String) -> Self {
        let doses = vector
            .dose_per_unit()
            .unwrap_or_else(|| vec![f32::NAN; vector.table.rows()]);
        Self {
            name: vector.name.clone(),
            opposite: vector.opposite.clone(),
            description: vector.description.clone(),
            hash: vector.hash.clone(),
            made,
            recommended,
            dose_per_unit: Float32Array::from(doses.as_slice()),
        }
    }
}
