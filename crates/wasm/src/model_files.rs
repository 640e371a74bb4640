//! A model's files as the page has them, and what is loaded from them.

use crate::blob::BlobSource;
use crate::device_trial::{TriedDevice, seconds};
use js_sys::Map;
use serde::Deserialize;
use trimtab_checkpoint::manifest::{CHAT_TEMPLATE, CONFIG, TOKENIZER, TOKENIZER_CONFIG, WEIGHTS};
use trimtab_checkpoint::source::LocalFuture;
use trimtab_checkpoint::{ByteSource, ChatTemplate, ModelConfig, Tokenizer, WeightFile};
use trimtab_engine::device::stand_in::Forms;
use trimtab_engine::engine::LoadProgress;
use trimtab_engine::gpu::Assumptions;
use trimtab_engine::{Backend, Engine, EngineOptions, Precision};
use trimtab_persona::conversation::ChatText;
use trimtab_studio::failure::{Failure, FailureKind};
use trimtab_studio::jobs::responses::MAX_AT_ONCE;
use trimtab_studio::session::{Reload, Session};
use wasm_bindgen::{JsCast, JsValue};
use web_sys::Blob;

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenOptions {
    backend: Backend,
    precision: Precision,
    context: Option<usize>,
    name: String,
    licence: String,
    sha256: String,
}

/// Names of a model directory's files with their blobs; kept, because a lost device takes the weights with it.
#[derive(Debug)]
pub struct ModelFiles {
    files: Map,
    precision: Precision,
    context: Option<usize>,
}

impl ModelFiles {
    /// `tried` is what the graphics device was tried with; where the weights have other forms, it is checked with those
    /// before any of them is given to it.
    pub async fn open(
        files: Map,
        options: OpenOptions,
        tried: Option<&TriedDevice>,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Session, Failure> {
        let own = Self {
            files,
            precision: options.precision,
            context: options.context,
        };
        let mut config = ModelConfig::from_json(&own.whole(CONFIG).await?)?;
        let tokenizer = Tokenizer::from_json(&own.whole(TOKENIZER).await?)?;
        let template = own.optional(CHAT_TEMPLATE).await?;
        let tokenizer_config = own.optional(TOKENIZER_CONFIG).await?;
        let template =
            ChatTemplate::of_model(template.as_deref(), tokenizer_config.as_deref(), &tokenizer)?;
        config.end_answers_with(template.end_tokens(&tokenizer));
        let engine = own
            .engine(&config, options.backend, tried, progress)
            .await?;
        let chat = ChatText {
            tokenizer,
            template,
        };
        let mut session = Session::new(engine, chat, options.sha256).reloading(Box::new(own));
        session.name = options.name;
        session.licence = options.licence;
        Ok(session)
    }

    /// Loads the weights. A graphics device is given none of them before it has computed rightly with ones of their forms,
    /// unless `tried` says that it has.
    async fn engine(
        &self,
        config: &ModelConfig,
        backend: Backend,
        tried: Option<&TriedDevice>,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Engine, Failure> {
        let weights = WeightFile::open(self.source(WEIGHTS)?).await?;
        let options = EngineOptions {
            backend,
            precision: self.precision,
            context: self.context,
            // A cache takes memory only as it fills, but a graphics device keeps changes for every sequence.
            sequences: match backend {
                Backend::Cpu | Backend::Reference => MAX_AT_ONCE,
                Backend::Gpu => MAX_AT_ONCE / 2,
            },
        };
        let assumptions = Assumptions {
            variant: tried.and_then(|tried| tried.variant),
            ..Assumptions::default()
        };
        if backend == Backend::Gpu {
            let needed = TriedDevice {
                forms: Forms::of(&weights, config)?,
                config: config.clone(),
                precision: self.precision,
                variant: assumptions.variant,
            };
            if tried != Some(&needed) {
                needed.now(false).await?;
            }
        }
        let mut engine =
            Engine::load_assuming(config, &weights, options, assumptions, progress).await?;
        engine.set_clock(seconds);
        Ok(engine)
    }

    fn source(&self, name: &str) -> Result<BlobSource, Failure> {
        self.files
            .get(&JsValue::from_str(name))
            .dyn_into::<Blob>()
            .map(|blob| BlobSource::new(name, blob))
            .map_err(|_| {
                Failure::usage(format!(
                    "the model has no {name}; choose a folder that has one"
                ))
            })
    }

    async fn whole(&self, name: &str) -> Result<Vec<u8>, Failure> {
        /// More than any file that is read whole may have.
        const LIMIT: u64 = 64 << 20;
        let source = self.source(name)?;
        let length = source.length();
        if length > LIMIT {
            return Err(Failure::new(
                FailureKind::CorruptModel,
                format!(
                    "{name} is {length} bytes long, more than the {LIMIT} that are read; is it another file?"
                ),
            ));
        }
        Ok(source.read(0, length as usize).await?)
    }

    async fn optional(&self, name: &str) -> Result<Option<Vec<u8>>, Failure> {
        if self.files.has(&JsValue::from_str(name)) {
            self.whole(name).await.map(Some)
        } else {
            Ok(None)
        }
    }
}

impl Reload for ModelFiles {
    /// A graphics device is checked like the first one: after a reset the browser may hand out another adapter, or the same
    /// one in a worse state.
    fn load<'a>(
        &'a self,
        config: &'a ModelConfig,
        backend: Backend,
        progress: &'a mut dyn FnMut(LoadProgress),
    ) -> LocalFuture<'a, Result<Engine, Failure>> {
        Box::pin(self.engine(config, backend, None, progress))
    }
}
