//! What every verb works with: an engine, the model's text side, and the traits of this session.

use crate::adapters::{AdapterCard, SessionAdapter};
use crate::failure::Failure;
use crate::jobs::averages::KnownAverages;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use trimtab_checkpoint::ModelConfig;
use trimtab_checkpoint::source::LocalFuture;
use trimtab_engine::engine::LoadProgress;
use trimtab_engine::record::MAX_DIRECTIONS;
use trimtab_engine::steering::TokenRole;
use trimtab_engine::{Backend, Engine, EngineError, LayerTable, Precision, SteeringPlan, TokenId};
use trimtab_persona::calibration::Calibration;
use trimtab_persona::coherence::{Coherence, CoherenceBand, distinct_n};
use trimtab_persona::control::random_like;
use trimtab_persona::conversation::{ChatText, token_ids};
use trimtab_persona::neutral::NeutralSet;
use trimtab_persona::plan::{NamedTerm, resolve};
use trimtab_persona::recipe::MAX_LINE;
use trimtab_persona::trait_vector::tensor_hash;
use trimtab_persona::vector_file::{Recommended, TraitVector, VectorFile};
use ts_rs::TS;

/// Longest name of a trait that is added, in bytes.
const MAX_NAME_BYTES: usize = 128;

/// Loads the model's weights again, after the device that held them was lost.
pub trait Reload {
    /// An engine that has seen nothing, on `backend`.
    fn load<'a>(
        &'a self,
        config: &'a ModelConfig,
        backend: Backend,
        progress: &'a mut dyn FnMut(LoadProgress),
    ) -> LocalFuture<'a, Result<Engine, Failure>>;
}

/// See the module. One verb at a time uses it.
pub struct Session {
    pub engine: Engine,
    /// Shared with whatever puts tokens together to text while the engine works.
    pub chat: Rc<ChatText>,
    pub name: String,
    pub licence: String,
    /// SHA-256 by which new vectors and links name the model: of the weights, or of the file that they were made of.
    pub sha256: String,
    /// The other of the two, where it is known: vectors and links that name it are of this model, too.
    other_sha256: Option<String>,
    vectors: Vec<TraitVector>,
    pub(crate) adapters: Vec<SessionAdapter>,
    /// How vectors were made, for people, by their hash; those that do not say are missing.
    made: BTreeMap<String, String>,
    /// Hashes of vectors whose layers and range are only a place to begin.
    untested: BTreeSet<String>,
    /// What coherent answers of this model are like, once a vector file has said so.
    coherence_band: Option<CoherenceBand>,
    /// What all traits of the model are calibrated on, once it is written.
    pub neutral: Option<NeutralSet>,
    pub averages: KnownAverages,
    reload: Option<Box<dyn Reload>>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("Session")
            .field("engine", &self.engine)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// The loaded model as a person sees it.
#[derive(Clone, Debug, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct LoadedModel {
    pub name: String,
    /// SHA-256 of the weights.
    pub sha256: String,
    pub licence: String,
    pub layers: usize,
    pub hidden_size: usize,
    /// Numbers that were trained.
    #[ts(type = "number")]
    pub parameters: u64,
    pub backend: Backend,
    pub precision: Precision,
    pub adapter: String,
    /// Whether the adapter is a program on the CPU.
    pub software: bool,
    pub context: usize,
    #[ts(type = "number")]
    pub device_bytes: u64,
    /// Sentences that a person should see.
    pub notices: Vec<String>,
    pub traits: Vec<TraitCard>,
    /// Adapters that plans may name.
    pub adapters: Vec<AdapterCard>,
    /// How many traits it reads at a time.
    pub max_traits: usize,
}

/// A trait of the session.
#[derive(Clone, Debug, Serialize, TS)]
#[serde(rename_all = "camelCase")]
#[ts(rename = "Trait")]
pub struct TraitCard {
    /// `cheerful`
    pub name: String,
    /// `gloomy`
    pub opposite: String,
    pub description: String,
    /// Hash of the vector's tensor.
    pub hash: String,
    /// How the vector was made, in words; empty where nobody knows.
    pub made: String,
    pub recommended: Recommended,
    /// Whether the vector's file recommends that: else it is a usual place to begin, which nobody tried.
    pub tested: bool,
    /// By layer, the relative dose of coefficient 1: `‖v_l‖ / median neutral ‖h_l‖`; NaN where it is not known.
    #[serde(with = "trimtab_persona::json::floats")]
    #[ts(type = "Float32Array")]
    pub dose_per_unit: Vec<f32>,
}

/// An answer held against the band that coherent ones lie in.
#[derive(Clone, Debug, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct AnswerCoherence {
    pub verdict: Coherence,
    /// Mean log-probability of its tokens under the unsteered model.
    pub mean_logprob: f64,
    pub distinct2: f64,
    pub band: CoherenceBand,
}

/// The hashes by which vectors and links may name a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelNames {
    /// By which new ones name it.
    pub sha256: String,
    pub other: Option<String>,
}

impl From<String> for ModelNames {
    fn from(sha256: String) -> Self {
        Self {
            sha256,
            other: None,
        }
    }
}

impl Session {
    pub fn new(engine: Engine, chat: ChatText, names: impl Into<ModelNames>) -> Self {
        let ModelNames { sha256, other } = names.into();
        Self {
            engine,
            chat: Rc::new(chat),
            name: String::new(),
            licence: String::new(),
            sha256,
            other_sha256: other,
            vectors: Vec::new(),
            adapters: Vec::new(),
            made: BTreeMap::new(),
            untested: BTreeSet::new(),
            coherence_band: None,
            neutral: None,
            averages: KnownAverages::default(),
            reload: None,
        }
    }

    /// The same, able to go on after its device was lost.
    pub fn reloading(self, reload: Box<dyn Reload>) -> Self {
        Self {
            reload: Some(reload),
            ..self
        }
    }

    /// From now on the model is known by `sha256`, of its own and its adapters'; what names the base model is still of it.
    pub fn is_tuned_to(&mut self, sha256: String) {
        self.other_sha256 = Some(std::mem::replace(&mut self.sha256, sha256));
    }

    /// Whether a vector or a link that names this hash is of the loaded model.
    pub fn is_model(&self, sha256: &str) -> bool {
        self.sha256 == sha256 || self.other_sha256.as_deref() == Some(sha256)
    }

    /// A sentence where the vector was made on other weights than the loaded ones (the shape fits).
    pub fn model_warning(&self, vector: &TraitVector) -> Option<String> {
        let made_on = vector.model_sha256.as_deref()?;
        (!self.is_model(made_on)).then(|| vector.model_warning(&self.sha256))?
    }

    /// Loads the weights again, on `backend`.
    pub async fn reload(
        &mut self,
        backend: Backend,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<(), Failure> {
        let Some(reload) = &self.reload else {
            return Err(EngineError::DeviceLost {
                reason: "and nothing here loads the model again".into(),
            }
            .into());
        };
        let config = self.engine.config().clone();
        let mut engine = reload.load(&config, backend, progress).await?;
        engine.set_directions(&self.tables())?;
        self.engine = engine;
        Ok(())
    }

    fn tables(&self) -> Vec<LayerTable> {
        let vectors = self.vectors.iter();
        vectors.map(|vector| vector.table.clone()).collect()
    }

    /// The session's own directions, after others were read.
    pub fn restore_directions(&mut self) -> Result<(), Failure> {
        let tables = self.tables();
        Ok(self.engine.set_directions(&tables)?)
    }

    pub fn card(&self) -> LoadedModel {
        let info = self.engine.info();
        LoadedModel {
            name: self.name.clone(),
            sha256: self.sha256.clone(),
            licence: self.licence.clone(),
            layers: self.engine.config().layers,
            hidden_size: self.engine.config().hidden_size,
            parameters: self.engine.parameters(),
            backend: info.backend,
            precision: info.precision,
            adapter: info.adapter.clone(),
            software: info.software,
            context: info.context,
            device_bytes: info.device_bytes,
            notices: self
                .chat
                .template
                .notice()
                .map(Into::into)
                .into_iter()
                .collect(),
            max_traits: MAX_DIRECTIONS,
            adapters: self.adapters.iter().map(|one| one.card.clone()).collect(),
            traits: self
                .vectors
                .iter()
                .map(|vector| self.trait_card(vector))
                .collect(),
        }
    }

    /// A file's tensor, or its default one, as a vector for the loaded model.
    pub fn vector_of(
        &self,
        name: &str,
        file: &VectorFile,
        tensor: Option<&str>,
    ) -> Result<TraitVector, Failure> {
        let (rows, width) = (self.engine.layer_rows(), self.engine.config().hidden_size);
        Ok(file.clone().into_vector(name, tensor, rows, width)?)
    }

    /// Takes neutral answers that this model wrote, unless more of them are here already.
    pub fn take_neutral_answers(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let set =
            NeutralSet::parse(bytes, self.engine.config().vocab_size).map_err(Failure::usage)?;
        if !set.is_of(&self.sha256) {
            return Err(Failure::usage(
                "the neutral answers were written by another model",
            ));
        }
        if self
            .neutral
            .as_ref()
            .is_none_or(|known| set.has_more_than(known))
        {
            self.neutral = Some(set);
        }
        Ok(())
    }

    /// Adds a vector file under `name`, in place of one that was so called.
    pub fn add_vector(&mut self, name: &str, bytes: &[u8]) -> Result<TraitCard, Failure> {
        if name.is_empty() || name.len() > MAX_NAME_BYTES {
            return Err(Failure::usage(format!(
                "a trait needs a name of at most {MAX_NAME_BYTES} letters"
            )));
        }
        let file = VectorFile::parse(bytes)?;
        let made = file.metadata.made.clone().unwrap_or_default();
        let band = file.metadata.coherence_band;
        let made_on = file.metadata.model_sha256.as_deref();
        if made_on.is_some_and(|sha256| self.is_model(sha256)) {
            self.coherence_band = band.or(self.coherence_band);
        }
        let vector = self.vector_of(name, &file, None)?;
        self.untested.remove(&vector.hash);
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
        // It pushes where the other does, but nobody tried it there.
        self.untested.insert(vector.hash.clone());
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
            band,
        })
    }

    fn trait_card(&self, vector: &TraitVector) -> TraitCard {
        let unknown = || vec![f32::NAN; vector.table.rows()];
        TraitCard {
            name: vector.name.clone(),
            opposite: vector.opposite.clone(),
            description: vector.description.clone(),
            hash: vector.hash.clone(),
            made: self.made.get(&vector.hash).cloned().unwrap_or_default(),
            recommended: self.recommended(vector),
            tested: vector.recommended.is_some() && !self.untested.contains(&vector.hash),
            dose_per_unit: vector.dose_per_unit().unwrap_or_else(unknown),
        }
    }

    /// Adds a vector, in place of one that was called the same. `made` says how it was made; empty: nobody knows.
    pub fn put_vector(
        &mut self,
        mut vector: TraitVector,
        made: &str,
    ) -> Result<TraitCard, Failure> {
        if vector.recommended.is_none() {
            self.untested.insert(vector.hash.clone());
        }
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

    /// Makes these the session's traits, in place of those that were there.
    pub fn set_vectors(&mut self, vectors: Vec<TraitVector>) -> Result<(), Failure> {
        self.vectors = vectors;
        self.restore_directions()
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

    /// The layer a little past the middle, where ready-made traits push.
    pub fn usual_layer(&self) -> u32 {
        (self.engine.config().layers as u32 * 16).div_ceil(30)
    }

    /// The vector's own recommendation. A file without one gets the usual layer and the coefficients of the ready-made
    /// traits, which is a place to start and no promise.
    fn recommended(&self, vector: &TraitVector) -> Recommended {
        vector.recommended.clone().unwrap_or(Recommended {
            layers: vec![self.usual_layer()],
            min: -2.0,
            max: 2.0,
            usual: None,
        })
    }

    pub fn calibrations(&self) -> Vec<Option<Calibration>> {
        self.vectors
            .iter()
            .map(|vector| vector.calibration.clone())
            .collect()
    }

    /// The engine's plan of terms by name; fails with a sentence for whatever the engine would refuse later.
    pub fn plan(&self, terms: &[NamedTerm]) -> Result<SteeringPlan, Failure> {
        let (rows, width) = (self.engine.layer_rows(), self.engine.config().hidden_size);
        let plan = resolve(terms, &self.vectors, &self.adapters(), rows)?;
        for role in [TokenRole::Prompt, TokenRole::Response] {
            plan.compose(role, rows, width)?;
        }
        Ok(plan)
    }

    pub fn end_tokens(&self) -> Vec<TokenId> {
        token_ids(&self.engine.config().end_tokens)
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
