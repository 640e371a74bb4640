//! What is loaded: an engine, the model's text side, and the traits of this page.

use crate::blob::BlobSource;
use crate::failure::Failure;
use crate::protocol::{Alternative, LoadedModel, OpenOptions, Plan, Token, TraitCard, names_of};
use js_sys::Map;
use trimtab_checkpoint::manifest::{CHAT_TEMPLATE, CONFIG, TOKENIZER, TOKENIZER_CONFIG, WEIGHTS};
use trimtab_checkpoint::{ByteSource, ChatTemplate, ModelConfig, Tokenizer, WeightFile};
use trimtab_engine::engine::LoadProgress;
use trimtab_engine::steering::TokenRole;
use trimtab_engine::{Engine, EngineOptions, LayerTable, SteeringPlan, TokenId};
use trimtab_persona::calibration::Calibration;
use trimtab_persona::columns::{Expected, SEQUENCES};
use trimtab_persona::conversation::{ChatText, Part};
use trimtab_persona::plan::{NamedTerm, resolve};
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
    name: String,
    licence: String,
    pub sha256: String,
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
    /// `files` maps names of a model directory's files to blobs.
    pub async fn open(
        files: &Map,
        options: OpenOptions,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Self, Failure> {
        let config = ModelConfig::from_json(&whole(files, CONFIG).await?)?;
        let tokenizer = Tokenizer::from_json(&whole(files, TOKENIZER).await?)?;
        let template = optional(files, CHAT_TEMPLATE).await?;
        let tokenizer_config = optional(files, TOKENIZER_CONFIG).await?;
        let template = ChatTemplate::from_files(template.as_deref(), tokenizer_config.as_deref())?;
        let weights = WeightFile::open(source(files, WEIGHTS)?).await?;
        let engine_options = EngineOptions {
            backend: options.backend.into(),
            precision: options.precision.into(),
            context: options.context,
            sequences: SEQUENCES,
        };
        let engine = Engine::load(&config, &weights, engine_options, progress).await?;
        Ok(Self {
            engine,
            text: ChatText {
                tokenizer,
                template,
            },
            vectors: Vec::new(),
            name: options.name,
            licence: options.licence,
            sha256: options.sha256,
        })
    }

    pub fn card(&self) -> LoadedModel<'_> {
        let info = self.engine.info();
        let (backend, precision) = names_of(info);
        LoadedModel {
            name: &self.name,
            sha256: &self.sha256,
            licence: &self.licence,
            layers: self.engine.config().layers,
            hidden_size: self.engine.config().hidden_size,
            backend,
            precision,
            adapter: &info.adapter,
            software: info.software,
            context: info.context,
            device_bytes: info.device_bytes as f64,
            notices: Vec::new(),
            traits: self
                .vectors
                .iter()
                .map(|vector| TraitCard::of(vector, self.recommended(vector)))
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
        let mut vector = VectorFile::parse(bytes)?.into_vector(name, None, rows, width)?;
        vector.recommended = Some(self.recommended(&vector));
        let card = TraitCard::of(&vector, self.recommended(&vector));
        let before = self.vectors.clone();
        match self.vectors.iter_mut().find(|known| known.name == name) {
            Some(known) => *known = vector,
            None => self.vectors.push(vector),
        }
        let tables: Vec<LayerTable> = self
            .vectors
            .iter()
            .map(|vector| vector.table.clone())
            .collect();
        if let Err(error) = self.engine.set_directions(&tables) {
            self.vectors = before;
            return Err(error.into());
        }
        Ok(card)
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
    fn text_alone(&self, id: TokenId) -> String {
        if self.text.tokenizer.is_special(id.0) {
            self.text.pieces(&[id]).concat()
        } else {
            self.text.decode(&[id])
        }
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
