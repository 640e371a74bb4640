//! What is loaded: an engine, the model's text side, and the traits of this page.

use crate::blob::BlobSource;
use crate::device_trial::{Tried, seconds};
use crate::failure::Failure;
use crate::making::KnownAverages;
use crate::protocol::{
    Alternative, AnswerCoherence, BackendName, BandCard, LoadedModel, OpenOptions, Plan, Token,
    TraitCard, names_of,
};
use js_sys::Map;
use std::collections::BTreeMap;
use trimtab_checkpoint::manifest::{CHAT_TEMPLATE, CONFIG, TOKENIZER, TOKENIZER_CONFIG, WEIGHTS};
use trimtab_checkpoint::{ByteSource, ChatTemplate, ModelConfig, Tokenizer, WeightFile};
use trimtab_engine::device::stand_in::Forms;
use trimtab_engine::engine::LoadProgress;
use trimtab_engine::gpu::Assumptions;
use trimtab_engine::record::MAX_DIRECTIONS;
use trimtab_engine::steering::TokenRole;
use trimtab_engine::{
    Backend, Engine, EngineError, EngineOptions, LayerTable, SteeringPlan, TokenId,
};
use trimtab_persona::calibration::Calibration;
use trimtab_persona::coherence::{CoherenceBand, distinct_n};
use trimtab_persona::columns::{Expected, SEQUENCES};
use trimtab_persona::control::random_like;
use trimtab_persona::conversation::{ChatText, Part};
use trimtab_persona::making::MAX_AT_ONCE;
use trimtab_persona::neutral::NeutralSet;
use trimtab_persona::plan::{NamedTerm, resolve};
use trimtab_persona::recipe::MAX_LINE;
use trimtab_persona::trait_vector::tensor_hash;
use trimtab_persona::vector_file::{Recommended, TraitVector, VectorFile};
use wasm_bindgen::{JsCast, JsValue};
use web_sys::Blob;

/// Longest name of a trait that a page adds, in bytes.
const MAX_NAME_BYTES: usize = 128;

#[derive(Debug)]
pub struct Model {
    pub engine: Engine,
    pub text: ChatText,
    vectors: Vec<TraitVector>,
    /// How vectors were made, for people, by their hash; those that do not say are missing.
    made: BTreeMap<String, String>,
    /// Kept, because a lost device takes the weights with it.
    files: Map,
    options: OpenOptions,
    pub sha256: String,
    /// What coherent answers of this model are like, once a vector file has said so.
    coherence_band: Option<CoherenceBand>,
    /// On which all traits of the model are calibrated, once they are written.
    pub neutral: Option<NeutralSet>,
    pub averages: KnownAverages,
}

/// Makes the engine's plans of the page's, also while the engine is busy.
#[derive(Debug)]
pub struct Planner {
    vectors: Vec<TraitVector>,
    layer_rows: usize,
    width: usize,
}

impl Planner {
    /// Fails with a sentence for whatever the engine would refuse later.
    pub fn resolve(&self, plan: &Plan) -> Result<SteeringPlan, Failure> {
        let terms: Vec<NamedTerm> = plan.iter().map(NamedTerm::from).collect();
        let resolved = resolve(&terms, &self.vectors, self.layer_rows)?;
        for role in [TokenRole::Prompt, TokenRole::Response] {
            resolved.compose(role, self.layer_rows, self.width)?;
        }
        Ok(resolved)
    }
}

impl Model {
    /// `files` maps names of a model directory's files to blobs. `tried` is what the graphics device was tried with;
    /// where the weights have other forms, it is checked with those before any of them is given to it.
    pub async fn open(
        files: &Map,
        options: OpenOptions,
        tried: Option<&Tried>,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Self, Failure> {
        let mut config = ModelConfig::from_json(&whole(files, CONFIG).await?)?;
        let tokenizer = Tokenizer::from_json(&whole(files, TOKENIZER).await?)?;
        let template = optional(files, CHAT_TEMPLATE).await?;
        let tokenizer_config = optional(files, TOKENIZER_CONFIG).await?;
        let template = ChatTemplate::from_files(template.as_deref(), tokenizer_config.as_deref())?;
        config.end_answers_with(template.end_tokens(&tokenizer));
        let weights = WeightFile::open(source(files, WEIGHTS)?).await?;
        let engine_options = engine_options(&options, options.backend);
        let engine = load(&config, &weights, engine_options, tried, progress).await?;
        Ok(Self {
            engine,
            text: ChatText {
                tokenizer,
                template,
            },
            vectors: Vec::new(),
            made: BTreeMap::new(),
            files: files.clone(),
            sha256: options.sha256.clone(),
            options,
            coherence_band: None,
            neutral: None,
            averages: KnownAverages::default(),
        })
    }

    /// Loads the weights again into an engine that has seen nothing, on `backend`. A graphics device is checked like
    /// the first one: after a reset the browser may hand out another adapter, or the same one in a worse state.
    pub async fn reload(
        &mut self,
        backend: BackendName,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<(), Failure> {
        let weights = WeightFile::open(source(&self.files, WEIGHTS)?).await?;
        let config = self.engine.config().clone();
        let options = engine_options(&self.options, backend);
        let mut engine = load(&config, &weights, options, None, progress).await?;
        engine.set_directions(&self.tables())?;
        self.engine = engine;
        Ok(())
    }

    fn tables(&self) -> Vec<LayerTable> {
        let vectors = self.vectors.iter();
        vectors.map(|vector| vector.table.clone()).collect()
    }

    /// The page's own directions, after others were read.
    pub fn restore_directions(&mut self) -> Result<(), Failure> {
        let tables = self.tables();
        Ok(self.engine.set_directions(&tables)?)
    }

    pub fn card(&self) -> LoadedModel<'_> {
        let info = self.engine.info();
        let (backend, precision) = names_of(info);
        LoadedModel {
            name: &self.options.name,
            sha256: &self.sha256,
            licence: &self.options.licence,
            layers: self.engine.config().layers,
            hidden_size: self.engine.config().hidden_size,
            backend,
            precision,
            adapter: &info.adapter,
            software: info.software,
            context: info.context,
            device_bytes: info.device_bytes as f64,
            notices: Vec::new(),
            max_traits: MAX_DIRECTIONS,
            traits: self
                .vectors
                .iter()
                .map(|vector| self.trait_card(vector))
                .collect(),
        }
    }

    /// Adds a vector file under `name`, in place of one that was so called.
    pub fn add_vector(&mut self, name: &str, bytes: &[u8]) -> Result<TraitCard, Failure> {
        if name.is_empty() || name.len() > MAX_NAME_BYTES {
            return Err(Failure::usage(format!(
                "a trait needs a name of at most {MAX_NAME_BYTES} letters"
            )));
        }
        let (rows, width) = (self.engine.layer_rows(), self.engine.config().hidden_size);
        let file = VectorFile::parse(bytes)?;
        let made = file.metadata.made.clone().unwrap_or_default();
        let band = file.metadata.coherence_band;
        if file.metadata.model_sha256.as_ref() == Some(&self.sha256) {
            self.coherence_band = band.or(self.coherence_band);
        }
        let vector = file.into_vector(name, None, rows, width)?;
        self.put_vector(vector, &made)
    }

    /// Adds a direction drawn by chance, at each layer as long as the trait `like`: what a push of that
    /// strength does when it means nothing. It has no calibration, so tokens have no readings of it.
    pub fn add_random_trait(&mut self, like: &str, seed: u32) -> Result<TraitCard, Failure> {
        let Some(like) = self.vectors.iter().find(|known| known.name == like) else {
            return Err(Failure::usage(format!(
                "there is no trait {like:?} here whose length a random direction could take"
            )));
        };
        let table = random_like(&like.table, seed)?;
        let vector = TraitVector {
            name: format!("random {seed} ({})", like.name),
            opposite: "flipped".to_owned(),
            description: format!(
                "A control: a direction drawn by chance (seed {seed}), at each layer as long as {}. It stands for nothing.",
                like.name
            ),
            hash: tensor_hash(&table),
            table,
            recommended: like.recommended.clone(),
            calibration: None,
            neutral_norm: like.neutral_norm.clone(),
            model_sha256: like.model_sha256.clone(),
        };
        let made = format!("a random direction, seed {seed}, as long as {}", like.name);
        self.put_vector(vector, &made)
    }

    /// How much sense an answer makes, from its tokens' log-probabilities under the unsteered model; `None` where the model's
    /// neutral answers or these are not known.
    pub fn coherence(&self, answer: &[TokenId], logprobs: &[f32]) -> Option<AnswerCoherence> {
        let band = self.coherence_band?;
        let mean_logprob =
            logprobs.iter().copied().map(f64::from).sum::<f64>() / logprobs.len() as f64;
        mean_logprob.is_finite().then(|| AnswerCoherence {
            verdict: band.judge(mean_logprob, answer),
            mean_logprob,
            distinct2: distinct_n(answer, 2),
            band: BandCard::from(band),
        })
    }

    fn trait_card(&self, vector: &TraitVector) -> TraitCard {
        let made = self.made.get(&vector.hash).cloned().unwrap_or_default();
        TraitCard::of(vector, self.recommended(vector), made)
    }

    /// Adds a vector, in place of one that was called the same. `made` says how it was made; empty: nobody knows.
    pub fn put_vector(
        &mut self,
        mut vector: TraitVector,
        made: &str,
    ) -> Result<TraitCard, Failure> {
        vector.recommended = Some(self.recommended(&vector));
        if !made.is_empty() {
            let end = made.floor_char_boundary(MAX_LINE);
            self.made
                .insert(vector.hash.clone(), made[..end].to_owned());
        }
        let card = self.trait_card(&vector);
        let before = self.vectors.clone();
        match self
            .vectors
            .iter_mut()
            .find(|known| known.name == vector.name)
        {
            Some(known) => *known = vector,
            None => self.vectors.push(vector),
        }
        if let Err(error) = self.engine.set_directions(&self.tables()) {
            self.vectors = before;
            return Err(match error {
                EngineError::TooManyDirections { max, .. } => Failure::usage(too_many(max)),
                other => other.into(),
            });
        }
        Ok(card)
    }

    /// Lets go of the traits of these names; others keep their order. Names that are not here are passed over.
    pub fn remove_vectors(&mut self, names: &[String]) -> Result<(), Failure> {
        let known = self.vectors.len();
        self.vectors.retain(|vector| !names.contains(&vector.name));
        if self.vectors.len() == known {
            return Ok(());
        }
        self.restore_directions()
    }

    pub fn vectors(&self) -> &[TraitVector] {
        &self.vectors
    }

    /// A sentence where the vector was made on other weights.
    pub fn vector_warning(&self, name: &str) -> Option<String> {
        self.vectors
            .iter()
            .find(|vector| vector.name == name)?
            .model_warning(&self.sha256)
    }

    /// The vector's own recommendation. A file without one gets the layer a little past the middle
    /// and the coefficients of the ready-made traits, which is a place to start and no promise.
    fn recommended(&self, vector: &TraitVector) -> Recommended {
        let middle = (self.engine.config().layers as u32 * 16).div_ceil(30);
        vector.recommended.clone().unwrap_or(Recommended {
            layers: vec![middle],
            min: -2.0,
            max: 2.0,
        })
    }

    pub fn calibrations(&self) -> Vec<Option<Calibration>> {
        self.vectors
            .iter()
            .map(|vector| vector.calibration.clone())
            .collect()
    }

    pub fn planner(&self) -> Planner {
        Planner {
            vectors: self.vectors.clone(),
            layer_rows: self.engine.layer_rows(),
            width: self.engine.config().hidden_size,
        }
    }

    pub fn end_tokens(&self) -> Vec<TokenId> {
        let ids = &self.engine.config().end_tokens;
        ids.iter().copied().map(TokenId).collect()
    }

    /// One token as the page draws it. `text` is what it adds to the text.
    pub fn token(
        &self,
        id: TokenId,
        text: String,
        part: Part,
        expected: Option<&Expected>,
    ) -> Token {
        let alternatives = expected.map_or(&[][..], |expected| &expected.alternatives);
        Token {
            id: id.0,
            text,
            part: part.into(),
            logprob: expected.map_or(f32::NAN, |expected| expected.logprob),
            alternatives: alternatives
                .iter()
                .map(|&(id, logprob)| Alternative {
                    text: self.text_alone(id),
                    id: id.0,
                    logprob,
                })
                .collect(),
        }
    }

    /// A token's text without its neighbours; part of a character is shown as U+FFFD.
    pub fn text_alone(&self, id: TokenId) -> String {
        if self.text.tokenizer.is_special(id.0) {
            self.text.pieces(&[id]).concat()
        } else {
            self.text.decode(&[id])
        }
    }
}

/// What to do where the engine reads as many directions as it can.
fn too_many(max: usize) -> String {
    format!(
        "the model reads at most {max} traits at a time, and has as many; open Model at the top of the page and \
         remove a slider under \"Sliders that were added\" (random directions, traits that came with links, or your own), \
         then try again"
    )
}

/// Loads the weights. A graphics device is given none of them before it has computed rightly with ones of their forms,
/// unless `tried` says that it has.
async fn load(
    config: &ModelConfig,
    weights: &WeightFile<BlobSource>,
    options: EngineOptions,
    tried: Option<&Tried>,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<Engine, Failure> {
    let assumptions = Assumptions {
        variant: tried.and_then(|tried| tried.variant),
        ..Assumptions::default()
    };
    if options.backend == Backend::Gpu {
        let needed = Tried {
            forms: Forms::of(weights, config)?,
            config: config.clone(),
            precision: options.precision,
            variant: assumptions.variant,
        };
        if tried != Some(&needed) {
            needed.now(false).await?;
        }
    }
    let mut engine = Engine::load_assuming(config, weights, options, assumptions, progress).await?;
    engine.set_clock(seconds);
    Ok(engine)
}

fn engine_options(options: &OpenOptions, backend: BackendName) -> EngineOptions {
    EngineOptions {
        backend: backend.into(),
        precision: options.precision.into(),
        context: options.context,
        sequences: match backend {
            // Caches on the processor take memory only as they fill.
            BackendName::Cpu => MAX_AT_ONCE,
            BackendName::Gpu => SEQUENCES,
        },
    }
}

fn source(files: &Map, name: &str) -> Result<BlobSource, Failure> {
    files
        .get(&JsValue::from_str(name))
        .dyn_into::<Blob>()
        .map(|blob| BlobSource::new(name, blob))
        .map_err(|_| {
            Failure::usage(format!(
                "the model has no {name}; choose a folder that has one"
            ))
        })
}

async fn whole(files: &Map, name: &str) -> Result<Vec<u8>, Failure> {
    /// More than any file that is read whole may have.
    const LIMIT: u64 = 64 << 20;
    let source = source(files, name)?;
    let length = source.length();
    if length > LIMIT {
        return Err(Failure::new(
            crate::failure::Kind::CorruptModel,
            format!(
                "{name} is {length} bytes long, more than the {LIMIT} that are read; is it another file?"
            ),
        ));
    }
    Ok(source.read(0, length as usize).await?)
}

async fn optional(files: &Map, name: &str) -> Result<Option<Vec<u8>>, Failure> {
    if files.has(&JsValue::from_str(name)) {
        whole(files, name).await.map(Some)
    } else {
        Ok(None)
    }
}
