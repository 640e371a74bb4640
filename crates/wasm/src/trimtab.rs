//! The class that the worker holds.

use crate::convert::{from_js, tell, thrown, to_js, use_typed_arrays};
use crate::device_trial::{TriedDevice, seconds};
use crate::model_files::{ModelFiles, OpenOptions};
use js_sys::{Function, Map, Object, Promise, Reflect};
use serde::Serialize;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use trimtab_checkpoint::ModelConfig;
use trimtab_checkpoint::source::LocalFuture;
use trimtab_engine::device::stand_in::Forms;
use trimtab_engine::engine::LoadProgress;
use trimtab_engine::{Backend, Precision};
use trimtab_persona::plan::NamedTerm;
use trimtab_studio::failure::Failure;
use trimtab_studio::session::Session;
use trimtab_studio::verbs::{Event, Need, Request, perform};
use trimtab_studio::watch::{Asked, NewPlan, Watch};
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

/// One session at a time, used by one verb at a time. Runs have numbers, by which they are given plans and are stopped, also
/// before their turn has come.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Trimtab {
    session: RefCell<Option<Session>>,
    in_use: Cell<bool>,
    /// What runs were asked for, by their numbers.
    asked: RefCell<BTreeMap<u32, Asked>>,
    /// The graphics device's last trial in which it computed rightly.
    tried: RefCell<Option<TriedDevice>>,
    /// `() => Promise<void>` that lets waiting messages in.
    pause: Function,
}

/// The session, taken out while a verb uses it, so that no borrow is held across an await.
struct Use<'a> {
    owner: &'a Trimtab,
    session: Option<Session>,
}

impl Drop for Use<'_> {
    fn drop(&mut self) {
        self.owner.session.replace(self.session.take());
        self.owner.in_use.set(false);
    }
}

/// The page's side of one run.
struct Page<'a> {
    owner: &'a Trimtab,
    run: u32,
    listener: Option<Function>,
}

impl Watch for Page<'_> {
    fn tell(&mut self, event: Event) {
        if let Some(listener) = &self.listener {
            tell(listener, &event);
        }
    }

    fn pause(&mut self) -> LocalFuture<'_, Asked> {
        Box::pin(async move {
            if let Ok(promise) = self.owner.pause.call0(&JsValue::NULL)
                && let Ok(promise) = promise.dyn_into::<Promise>()
            {
                // A pause that fails is no pause.
                let _ = JsFuture::from(promise).await;
            }
            self.owner
                .asked
                .borrow_mut()
                .remove(&self.run)
                .unwrap_or_default()
        })
    }

    fn seconds(&self) -> f64 {
        seconds()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PrepareProgress {
    bytes_done: u64,
    bytes_total: u64,
}

impl Trimtab {
    fn take(&self) -> Result<Use<'_>, Failure> {
        if self.in_use.replace(true) {
            return Err(Failure::usage(
                "the model is still busy with what it was asked before",
            ));
        }
        Ok(Use {
            owner: self,
            session: self.session.take(),
        })
    }

    async fn perform(
        &self,
        run: u32,
        request: Request,
        listener: Option<Function>,
    ) -> Result<JsValue, JsValue> {
        let mut page = Page {
            owner: self,
            run,
            listener,
        };
        let response = match request.need() {
            Need::Nothing => perform(request, None, &mut page).await,
            Need::Maybe | Need::Session => {
                let mut taken = self.take().map_err(thrown)?;
                perform(request, taken.session.as_mut(), &mut page).await
            }
        };
        to_js(&response.map_err(thrown)?)
    }
}

#[wasm_bindgen]
impl Trimtab {
    /// `pause`: `() => Promise<void>`, resolved after waiting messages have been handled.
    #[wasm_bindgen(constructor)]
    pub fn new(pause: Function) -> Self {
        use_typed_arrays();
        Self {
            session: RefCell::default(),
            in_use: Cell::new(false),
            asked: RefCell::default(),
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
        let precision: Precision = from_js(precision)?;
        let trial = TriedDevice {
            config: ModelConfig::from_json(&config).map_err(thrown)?,
            forms: Forms::usual(),
            precision,
            // One that this version does not know was remembered by another.
            variant: variant.and_then(|name| name.parse().ok()),
        };
        let (tried, outcome) = trial.now(timed).await.map_err(thrown)?;
        self.tried.replace(tried);
        to_js(&outcome)
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
            let busy = Failure::usage("the model is still busy; stop it first");
            return Err(thrown(busy));
        }
        // Gone before the next one comes, so that memory need not hold both.
        drop(self.session.take());
        let options: OpenOptions = from_js(options)?;
        let mut report = |load: LoadProgress| {
            let progress_now = PrepareProgress {
                bytes_done: load.bytes_done,
                bytes_total: load.bytes_total,
            };
            tell(&progress, &progress_now);
        };
        let tried = self.tried.borrow().clone();
        let session = ModelFiles::open(files, options, tried.as_ref(), &mut report).await;
        self.session.replace(Some(session.map_err(thrown)?));
        Ok(())
    }

    /// The loaded model as the page's `LoadedModel`.
    pub fn card(&self) -> Result<JsValue, JsValue> {
        let session = self.session.borrow();
        let card = session.as_ref().map(Session::card);
        to_js(&card.ok_or_else(|| thrown(Failure::usage("no model is loaded")))?)
    }

    /// Run number `run` of the verb `verb` of the studio, with what it takes (several things as a list). `on_event` may be
    /// undefined.
    pub async fn call(
        &self,
        run: u32,
        verb: String,
        input: JsValue,
        on_event: Option<Function>,
    ) -> Result<JsValue, JsValue> {
        let request = Object::new();
        Reflect::set(&request, &"verb".into(), &verb.into())?;
        Reflect::set(&request, &"input".into(), &input)?;
        let request: Request = from_js(request.into())?;
        let outcome = self.perform(run, request, on_event).await;
        if let Some(Asked {
            plan: Some(late), ..
        }) = self.asked.borrow_mut().remove(&run)
        {
            // The run has ended: it makes no difference any more.
            (late.answer)(Ok(()));
        }
        outcome
    }

    /// Gives run `run` another plan for its steered column, from the next token on that is not yet queued. A plan that cannot
    /// be is refused, and the run goes on.
    #[wasm_bindgen(js_name = setPlan)]
    pub fn set_plan(&self, run: u32, plan: JsValue) -> Result<Promise, JsValue> {
        let terms_of: RefCell<Vec<NamedTerm>> = RefCell::new(from_js(plan)?);
        let mut executor = |resolve: Function, reject: Function| {
            let answer = Box::new(move |outcome: Result<(), Failure>| {
                let _ = match outcome {
                    Ok(()) => resolve.call0(&JsValue::NULL),
                    Err(failure) => reject.call1(&JsValue::NULL, &thrown(failure)),
                };
            });
            let plan = NewPlan {
                terms: std::mem::take(&mut *terms_of.borrow_mut()),
                answer,
            };
            let mut asked = self.asked.borrow_mut();
            if let Some(earlier) = asked.entry(run).or_default().plan.replace(plan) {
                (earlier.answer)(Ok(()));
            }
        };
        Ok(Promise::new(&mut executor))
    }

    /// Ends run `run`.
    pub fn stop(&self, run: u32) {
        self.asked.borrow_mut().entry(run).or_default().stop = true;
    }

    /// Bytes that the engine counts as allocated on the graphics device; 0 without a model, and on the processor, whose
    /// memory is this module's own.
    #[wasm_bindgen(js_name = deviceBytes)]
    pub fn device_bytes(&self) -> f64 {
        let session = self.session.borrow();
        session
            .as_ref()
            .map(|session| session.engine.info())
            .filter(|info| info.backend == Backend::Gpu)
            .map_or(0.0, |info| info.device_bytes as f64)
    }
}
