//! The class that the worker holds.

use crate::device_trial::Tried;
use crate::failure::Failure;
use crate::making::with_nulls;
use crate::model::{Model, Planner};
use crate::protocol::{
    ColumnResult, ContrastPair, GenerateInput, OpenOptions, Plan, PrecisionName, PrepareProgress,
    ProfileResult, ScoreResult, TraceResult, tell, to_js,
};
use crate::{link, making, run, study};
use js_sys::{Array, Float32Array, Function, Map, Promise, Uint32Array};
use std::cell::{Cell, RefCell};
use std::ops::{Deref, DerefMut};
use trimtab_checkpoint::{Message, ModelConfig};
use trimtab_engine::device::stand_in::Forms;
use trimtab_engine::engine::{ReadOutcome, ReadRequest, Scoring};
use trimtab_engine::reading::Reading;
use trimtab_engine::{Backend, SteeringPlan, TokenId};
use trimtab_persona::columns::REREADING;
use trimtab_persona::extract::{Example, Side, extract};
use trimtab_persona::vector_file::{VectorFile, VectorMetadata};
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

thread_local! {
    static PANIC_LISTENER: RefCell<Option<Function>> = const { RefCell::new(None) };
}

/// Calls `listener` with a sentence when Rust panics. The module must not be used after that.
#[wasm_bindgen(js_name = onPanic)]
pub fn on_panic(listener: Function) {
    PANIC_LISTENER.set(Some(listener));
    std::panic::set_hook(Box::new(|panic| {
        let message = JsValue::from_str(&panic.to_string());
        PANIC_LISTENER.with_borrow(|listener| {
            if let Some(listener) = listener {
                // The listener only reports; nothing is left to be done about its own errors.
                let _ = listener.call1(&JsValue::NULL, &message);
            }
        });
    }));
}

/// What may change while a run is under way.
#[derive(Debug, Default)]
pub struct Wishes {
    /// As the page named it, and as the engine runs it.
    pub plan: Option<(Plan, SteeringPlan)>,
    pub stop: bool,
}

/// One model at a time. One verb at a time uses it; `setPlan` and `stop` get through to a run.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Trimtab {
    model: RefCell<Option<Model>>,
    in_use: Cell<bool>,
    wishes: RefCell<Wishes>,
    /// What makes plans of terms by name, while a run has the model.
    planner: RefCell<Option<Planner>>,
    /// What the graphics device computed rightly when it was last tried.
    tried: RefCell<Option<Tried>>,
    /// `() => Promise<void>` that lets waiting messages in.
    pause: Function,
}

/// The model, taken out while a verb uses it, so that no borrow is held across an await.
pub(crate) struct Use<'a> {
    owner: &'a Trimtab,
    model: Option<Model>,
}

impl Drop for Use<'_> {
    fn drop(&mut self) {
        self.owner.model.replace(self.model.take());
        self.owner.planner.take();
        self.owner.in_use.set(false);
    }
}

impl Trimtab {
    pub(crate) fn take(&self) -> Result<Use<'_>, Failure> {
        if self.in_use.get() {
            return Err(Failure::usage(
                "the model is still busy with what it was asked before",
            ));
        }
        match self.model.take() {
            None => Err(Failure::usage("no model is loaded; load one first")),
            model => {
                self.in_use.set(true);
                self.wishes.replace(Wishes::default());
                Ok(Use { owner: self, model })
            }
        }
    }

    /// Lets messages in, and says what they wished.
    pub(crate) async fn pause(&self) -> Wishes {
        if let Ok(promise) = self.pause.call0(&JsValue::NULL)
            && let Ok(promise) = promise.dyn_into::<Promise>()
        {
            // A pause that fails is no pause.
            let _ = JsFuture::from(promise).await;
        }
        self.wishes.take()
    }

    async fn read(
        &self,
        model: &mut Model,
        ids: &[u32],
        plan: &SteeringPlan,
        score: bool,
    ) -> Result<ReadOutcome, Failure> {
        let tokens: Vec<TokenId> = ids.iter().copied().map(TokenId).collect();
        let request = ReadRequest {
            sequence: REREADING,
            tokens: &tokens,
            prompt_length: tokens.len(),
            plan,
            score: match score {
                true => Scoring::Everything,
                false => Scoring::Nothing,
            },
            capture: !score,
        };
        let mut reading = Reading::start(&mut model.engine, &request).await?;
        while reading.next(&mut model.engine).await? {
            if self.pause().await.stop {
                return Err(Failure::usage("stopped, as you asked"));
            }
        }
        Ok(reading.finish(&model.engine))
    }

    async fn score_ids(&self, ids: &[u32]) -> Result<JsValue, Failure> {
        if ids.len() < 2 {
            return Err(Failure::usage("scoring needs at least two tokens"));
        }
        let mut model = self.take()?;
        let read = self
            .read(&mut model, ids, &SteeringPlan::default(), true)
            .await?;
        let predictions = || {
            let scored = &read.records[..ids.len() - 1];
            scored
                .iter()
                .filter_map(|record| record.prediction.as_ref())
        };
        let nll: Vec<f32> = predictions().map(|next| -next.target_logprob).collect();
        let top1: Vec<u32> = predictions().map(|next| next.chosen.0).collect();
        to_js(&ScoreResult {
            mean_nll: nll.iter().copied().map(f64::from).sum::<f64>() / nll.len() as f64,
            nll: Float32Array::from(nll.as_slice()),
            top1: Uint32Array::from(top1.as_slice()),
        })
    }

    async fn trace_ids(&self, ids: &[u32], plan: JsValue) -> Result<JsValue, Failure> {
        let mut model = self.take()?;
        let plan: Option<Plan> = serde_wasm_bindgen::from_value(plan)?;
        let plan = model.planner().resolve(&plan.unwrap_or_default())?;
        let read = self.read(&mut model, ids, &plan, false).await?;
        let (rows, width) = (model.engine.layer_rows(), model.engine.config().hidden_size);
        // From [T, L+1, d] to [L+1, T, d].
        let residual = Float32Array::new_with_length(read.residual.len() as u32);
        for (index, row) in read.residual.chunks(width).enumerate() {
            let at = (index % rows * ids.len() + index / rows) * width;
            residual
                .subarray(at as u32, (at + width) as u32)
                .copy_from(row);
        }
        to_js(&TraceResult {
            ids: Uint32Array::from(ids),
            residual,
            shape: [rows, ids.len(), width],
        })
    }

    async fn profile_tokens(&self, context: usize, tokens: usize) -> Result<JsValue, Failure> {
        let mut model = self.take()?;
        let profile = trimtab_engine::device::profile(&mut model.engine, context, tokens).await?;
        to_js(&ProfileResult::from(profile))
    }

    async fn extract_pairs(&self, pairs: JsValue) -> Result<Vec<u8>, Failure> {
        let pairs: Vec<ContrastPair> = serde_wasm_bindgen::from_value(pairs)?;
        let mut model = self.take()?;
        let examples = pairs
            .into_iter()
            .enumerate()
            .map(example)
            .collect::<Result<Vec<_>, _>>()?;
        let end_tokens = model.end_tokens();
        let found = extract(&mut model.engine, &examples, &end_tokens, &mut |_, _| {}).await?;
        let [positive, negative] = found.counts;
        let file = VectorFile {
            tensors: found
                .named()
                .map(|(name, table)| (name.to_owned(), table.clone()))
                .into_iter()
                .collect(),
            metadata: VectorMetadata {
                model_sha256: Some(model.sha256.clone()),
                made: Some(format!(
                    "mean differences of {positive} positive and {negative} negative conversations, in the page"
                )),
                ..VectorMetadata::default()
            },
        };
        Ok(file.to_bytes()?)
    }

    async fn generate_columns(
        &self,
        request: JsValue,
        on_event: &Function,
    ) -> Result<JsValue, Failure> {
        let request: GenerateInput = serde_wasm_bindgen::from_value(request)?;
        let mut model = self.take()?;
        self.planner.replace(Some(model.planner()));
        let results: Vec<ColumnResult> = run::columns(self, &mut model, request, on_event).await?;
        to_js(&results)
    }
}

fn example((index, pair): (usize, ContrastPair)) -> Result<Example, Failure> {
    let side = match pair.side {
        1 => Side::Positive,
        -1 => Side::Negative,
        other => {
            return Err(Failure::usage(format!(
                "pair {index} is on side {other}; the sides are 1 and -1"
            )));
        }
    };
    if !pair.full_ids.starts_with(&pair.prompt_ids) {
        return Err(Failure::usage(format!(
            "pair {index}: full_ids do not begin with prompt_ids"
        )));
    }
    Ok(Example {
        side,
        tokens: pair.full_ids.into_iter().map(TokenId).collect(),
        prompt_length: pair.prompt_ids.len(),
    })
}

impl Deref for Use<'_> {
    type Target = Model;

    fn deref(&self) -> &Model {
        match &self.model {
            Some(model) => model,
            None => unreachable!("a model in use is there until its use ends"),
        }
    }
}

impl DerefMut for Use<'_> {
    fn deref_mut(&mut self) -> &mut Model {
        match &mut self.model {
            Some(model) => model,
            None => unreachable!("a model in use is there until its use ends"),
        }
    }
}

#[wasm_bindgen]
impl Trimtab {
    /// `pause`: `() => Promise<void>`, resolved after waiting messages have been handled.
    #[wasm_bindgen(constructor)]
    pub fn new(pause: Function) -> Self {
        Self {
            model: RefCell::default(),
            in_use: Cell::new(false),
            wishes: RefCell::default(),
            planner: RefCell::default(),
            tried: RefCell::default(),
            pause,
        }
    }

    /// Checks the graphics device with a stand-in for the model that `config` (a `config.json`) describes and, where
    /// `timed`, chooses among the kernels' variants and measures it beside the processor; else `variant` is what was chosen
    /// before. Gives a `DeviceTrial`. A device that computes wrongly is a failure.
    #[wasm_bindgen(js_name = tryDevice)]
    pub async fn try_device(
        &self,
        config: Vec<u8>,
        precision: JsValue,
        timed: bool,
        variant: Option<String>,
    ) -> Result<JsValue, JsValue> {
        self.tried.take();
        let precision: PrecisionName =
            serde_wasm_bindgen::from_value(precision).map_err(Failure::from)?;
        let trial = Tried {
            config: ModelConfig::from_json(&config).map_err(Failure::from)?,
            forms: Forms::usual(),
            precision: precision.into(),
            // One that this version does not know was remembered by another.
            variant: variant.and_then(|name| name.parse().ok()),
        };
        let (tried, outcome) = trial.now(timed).await?;
        self.tried.replace(tried);
        Ok(to_js(&outcome)?)
    }

    /// Lets go of the model that was loaded and loads another. `files`: `Map<string, Blob>`;
    /// `progress` gets `{bytesDone, bytesTotal}`.
    pub async fn open(
        &self,
        files: Map,
        options: JsValue,
        progress: Function,
    ) -> Result<(), JsValue> {
        if self.in_use.get() {
            return Err(Failure::usage("the model is still busy; stop it first").into());
        }
        // Gone before the next one comes, so that memory need not hold both.
        drop(self.model.take());
        let options: OpenOptions =
            serde_wasm_bindgen::from_value(options).map_err(Failure::from)?;
        let mut report = |load: trimtab_engine::engine::LoadProgress| {
            let progress_now = PrepareProgress {
                bytes_done: load.bytes_done as f64,
                bytes_total: load.bytes_total as f64,
            };
            tell(&progress, &progress_now);
        };
        let tried = self.tried.borrow().clone();
        let model = Model::open(&files, options, tried.as_ref(), &mut report).await?;
        self.model.replace(Some(model));
        Ok(())
    }

    /// The loaded model as the page's `LoadedModel`, without notices.
    pub fn card(&self) -> Result<JsValue, JsValue> {
        Ok(to_js(&self.take()?.card())?)
    }

    /// Adds a vector file as a trait; returns its `Trait`.
    #[wasm_bindgen(js_name = addVector)]
    pub fn add_vector(&self, name: &str, file: &[u8]) -> Result<JsValue, JsValue> {
        Ok(to_js(&self.take()?.add_vector(name, file)?)?)
    }

    /// Adds a control: a random direction as long as the trait `like` at each layer; returns its `Trait`.
    #[wasm_bindgen(js_name = addRandomTrait)]
    pub fn add_random_trait(&self, like: &str, seed: u32) -> Result<JsValue, JsValue> {
        Ok(to_js(&self.take()?.add_random_trait(like, seed)?)?)
    }

    /// Lets go of traits by name, so that there is room for others.
    #[wasm_bindgen(js_name = removeTraits)]
    pub fn remove_traits(&self, names: Vec<String>) -> Result<(), JsValue> {
        Ok(self.take()?.remove_vectors(&names)?)
    }

    /// A sentence where a trait's vector was made on other weights than the loaded ones.
    #[wasm_bindgen(js_name = vectorWarning)]
    pub fn vector_warning(&self, name: &str) -> Result<Option<String>, JsValue> {
        Ok(self.take()?.vector_warning(name))
    }

    /// Token ids of a rendered conversation.
    pub fn tokenize(
        &self,
        messages: JsValue,
        add_generation_prompt: bool,
    ) -> Result<Vec<u32>, JsValue> {
        let messages: Vec<Message> =
            serde_wasm_bindgen::from_value(messages).map_err(Failure::from)?;
        let model = self.take()?;
        let text = &model.text;
        let rendered = text
            .template
            .encode(&text.tokenizer, &messages, add_generation_prompt)
            .map_err(Failure::from)?;
        Ok(rendered.ids)
    }

    /// A `GenerateRequest` in, `GenerateEvent`s to `on_event`, `ColumnResult[]` out.
    pub async fn generate(&self, request: JsValue, on_event: Function) -> Result<JsValue, JsValue> {
        Ok(self.generate_columns(request, &on_event).await?)
    }

    /// Changes the steered column's plan from the next token that is not yet queued. A plan that cannot
    /// be is refused here, and the run goes on. Without a run nothing happens: for one that waits its turn, the
    /// worker holds this back until it has begun.
    #[wasm_bindgen(js_name = setPlan)]
    pub fn set_plan(&self, plan: JsValue) -> Result<(), JsValue> {
        let plan: Plan = serde_wasm_bindgen::from_value(plan).map_err(Failure::from)?;
        if let Some(planner) = self.planner.borrow().as_ref() {
            let resolved = planner.resolve(&plan)?;
            self.wishes.borrow_mut().plan = Some((plan, resolved));
        }
        Ok(())
    }

    /// Ends what is running. What begins later knows nothing of it.
    pub fn stop(&self) {
        self.wishes.borrow_mut().stop = true;
    }

    pub async fn score(&self, ids: Vec<u32>) -> Result<JsValue, JsValue> {
        Ok(self.score_ids(&ids).await?)
    }

    /// `plan` may be undefined.
    pub async fn trace(&self, ids: Vec<u32>, plan: JsValue) -> Result<JsValue, JsValue> {
        Ok(self.trace_ids(&ids, plan).await?)
    }

    /// Where the time of a token after `context` others goes on a GPU, over `tokens` of them.
    pub async fn profile(&self, context: usize, tokens: usize) -> Result<JsValue, JsValue> {
        Ok(self.profile_tokens(context, tokens).await?)
    }

    /// The bytes of a vector file.
    pub async fn extract(&self, pairs: JsValue) -> Result<Vec<u8>, JsValue> {
        Ok(self.extract_pairs(pairs).await?)
    }

    /// `writeResponses` of the page's protocol; `on_event` gets `ResponseEvent`s.
    #[wasm_bindgen(js_name = writeResponses)]
    pub async fn write_responses(
        &self,
        request: JsValue,
        on_event: Function,
    ) -> Result<JsValue, JsValue> {
        let request = serde_wasm_bindgen::from_value(request).map_err(Failure::from)?;
        let mut model = self.take()?;
        Ok(making::write_responses(self, &mut model, request, &on_event).await?)
    }

    /// `makeVector` of the page's protocol; `on_event` may be undefined, and gets progress.
    #[wasm_bindgen(js_name = makeVector)]
    pub async fn make_vector(
        &self,
        request: JsValue,
        on_event: Option<Function>,
    ) -> Result<JsValue, JsValue> {
        let request = serde_wasm_bindgen::from_value(request).map_err(Failure::from)?;
        let mut model = self.take()?;
        Ok(making::make_vector(self, &mut model, request, on_event.as_ref()).await?)
    }

    /// `sweepTrait` of the page's protocol; `on_event` gets `StudyEvent`s, and so with the next two.
    #[wasm_bindgen(js_name = sweepTrait)]
    pub async fn sweep_trait(
        &self,
        request: JsValue,
        on_event: Function,
    ) -> Result<JsValue, JsValue> {
        let request = serde_wasm_bindgen::from_value(request).map_err(Failure::from)?;
        let mut model = self.take()?;
        Ok(study::sweep(self, &mut model, request, &on_event).await?)
    }

    /// `controlTrait` of the page's protocol.
    #[wasm_bindgen(js_name = controlTrait)]
    pub async fn control_trait(
        &self,
        request: JsValue,
        on_event: Function,
    ) -> Result<JsValue, JsValue> {
        let request = serde_wasm_bindgen::from_value(request).map_err(Failure::from)?;
        let mut model = self.take()?;
        Ok(study::controls(self, &mut model, request, &on_event).await?)
    }

    /// `predictTrait` of the page's protocol.
    #[wasm_bindgen(js_name = predictTrait)]
    pub async fn predict_trait(
        &self,
        request: JsValue,
        on_event: Function,
    ) -> Result<JsValue, JsValue> {
        let request = serde_wasm_bindgen::from_value(request).map_err(Failure::from)?;
        let mut model = self.take()?;
        Ok(study::predict(self, &mut model, request, &on_event).await?)
    }

    /// `compareTraits` of the page's protocol.
    #[wasm_bindgen(js_name = compareTraits)]
    pub fn compare_traits(&self, layer: Option<u32>) -> Result<JsValue, JsValue> {
        Ok(study::compare(&*self.take()?, layer)?)
    }

    /// A GGUF control vector as a vector file for the loaded model.
    #[wasm_bindgen(js_name = importControlVector)]
    pub fn import_control_vector(&self, gguf: &[u8]) -> Result<Vec<u8>, JsValue> {
        Ok(making::import_control_vector(&*self.take()?, gguf)?)
    }

    /// A `SharedRecipe` as a link's code. The model is needed where an inline trait's vector is.
    #[wasm_bindgen(js_name = makeLink)]
    pub fn make_link(&self, recipe: JsValue) -> Result<String, JsValue> {
        let view = serde_wasm_bindgen::from_value(recipe).map_err(Failure::from)?;
        if self.model.borrow().is_none() && !self.in_use.get() {
            return Ok(link::make(view, None)?);
        }
        Ok(link::make(view, Some(&*self.take()?))?)
    }

    /// Forces a link's tokens through the model; `on_event` gets `{kind: "replay", done, total}`. `older`: the files
    /// (`Uint8Array`s) of the ready-made vectors that the link names and that newer ones took the place of. Gives a
    /// `Replayed`.
    #[wasm_bindgen(js_name = replayLink)]
    pub async fn replay_link(
        &self,
        link: String,
        older: Array,
        on_event: Function,
    ) -> Result<JsValue, JsValue> {
        let mut model = self.take()?;
        let replayed = link::replay(self, &mut model, &link, &older, &on_event).await?;
        Ok(with_nulls(&replayed)?)
    }

    /// Bytes that the engine counts as allocated on the graphics device; 0 without a model, and on the processor, whose
    /// memory is this module's own.
    #[wasm_bindgen(js_name = deviceBytes)]
    pub fn device_bytes(&self) -> f64 {
        let model = self.model.borrow();
        model
            .as_ref()
            .map(|model| model.engine.info())
            .filter(|info| info.backend == Backend::Gpu)
            .map_or(0.0, |info| info.device_bytes as f64)
    }
}
