//! Every verb, once: its name, what it takes, what it tells on the way, what it gives back, and what it does. The types of
//! the page are made of this list.

use crate::adapters::AdapterCard;
use crate::failure::Failure;
use crate::generation::{ColumnResult, GenerateEvent, GenerateRequest};
use crate::links::{LinkEvent, OpenedLink, ReplayRequest, Replayed, make_link, open_link};
use crate::making::{
    ContrastSet, Extraction, MakingEvent, OpenedContrast, VectorRequest, WriteRequest, check_trait,
    draft_trait, export_control_vector, open_contrast,
};
use crate::reading::{Calibrated, ProfileResult, ReadingEvent, ScoreResult, TraceResult};
use crate::screening::{
    OpenedDataset, ScreenEvent, ScreenOverview, ScreenRequest, Screened, SummaryRequest,
    open_dataset, summarise_screen,
};
use crate::session::{Session, TraitCard};
use crate::shift::ShiftRequest;
use crate::studies::{
    ControlRequest, Controlled, PredictRequest, StudyEvent, SweepRequest, Swept, TraitCosines,
};
use crate::training::{TrainEvent, TrainRequest, Trained};
use crate::watch::Watch;
use serde::{Deserialize, Serialize};
use trimtab_checkpoint::Message;
use trimtab_persona::contrast::ContrastPair;
use trimtab_persona::knowledge::{self, KnowledgeQuestion};
use trimtab_persona::plan::NamedTerm;
use trimtab_persona::prediction::PredictionReport;
use trimtab_persona::recipe::view::RecipeView;
use trimtab_persona::shift::ShiftReport;
use trimtab_persona::trait_pack::TraitPack;
use trimtab_persona::trait_report::TraitReport;
use trimtab_persona::vector_move::VectorMove;
use ts_rs::TS;

/// A message of a run that is under way.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Event {
    Generate(GenerateEvent),
    Link(LinkEvent),
    Making(MakingEvent),
    Reading(ReadingEvent),
    Screen(ScreenEvent),
    Study(StudyEvent),
    Train(TrainEvent),
}

/// A file's bytes.
#[derive(Clone, Debug, Serialize, Deserialize, TS)]
#[serde(transparent)]
#[ts(type = "Uint8Array")]
pub struct Bytes(#[serde(with = "serde_bytes")] pub Vec<u8>);

/// Token ids.
#[derive(Clone, Debug, Serialize, Deserialize, TS)]
#[serde(transparent)]
#[ts(type = "Uint32Array")]
pub struct Ids(#[serde(serialize_with = "trimtab_persona::json::ids::serialize")] pub Vec<u32>);

/// A conversation's messages.
#[derive(Clone, Debug, Serialize, Deserialize, TS)]
#[serde(transparent)]
#[ts(type = "{ role: \"system\" | \"user\" | \"assistant\"; content: string }[]")]
pub struct Messages(pub Vec<Message>);

/// A verb as the page's types have it.
#[derive(Debug)]
pub struct Signature {
    pub name: &'static str,
    pub docs: &'static [&'static str],
    /// Names and types of what it takes.
    pub inputs: Vec<(&'static str, String)>,
    pub response: String,
    pub event: Option<String>,
    /// Whether it needs no session, and so waits for no verb that has it.
    pub immediate: bool,
}

fn input<T: TS>(name: &'static str, config: &ts_rs::Config) -> (&'static str, String) {
    (name, T::name(config))
}

macro_rules! verbs {
    ($(
        $(#[doc = $doc:literal])+
        $variant:ident $name:literal ($($input:ident: $type:ty),*) $([$event:ty])? -> $response:ty
            { $need:ident |$session:ident, $watch:ident| $body:expr }
    )+) => {
        /// A verb's name, and what it takes (several things as a list).
        #[derive(Clone, Debug, Deserialize)]
        #[serde(tag = "verb", content = "input")]
        pub enum Request {
            $($(#[doc = $doc])+ #[serde(rename = $name)] $variant($($type),*),)+
        }

        impl Request {
            pub fn need(&self) -> Need {
                match self {
                    $(Self::$variant(..) => need!($need),)+
                }
            }
        }

        /// A verb's answer.
        #[derive(Clone, Debug, Serialize)]
        #[serde(untagged)]
        #[allow(clippy::large_enum_variant, reason = "one at a time, on its way to be converted")]
        pub enum Response {
            $($variant($response),)+
        }

        /// Does what is asked.
        pub async fn perform(
            request: Request,
            session: Option<&mut Session>,
            watch: &mut dyn Watch,
        ) -> Result<Response, Failure> {
            match request {
                $(Request::$variant($($input),*) => {
                    let $session = need!($need session);
                    let $watch = watch;
                    Ok(Response::$variant($body?))
                })+
            }
        }

        /// All verbs, for the page's types.
        pub fn signatures(config: &ts_rs::Config) -> Vec<Signature> {
            vec![$(Signature {
                name: $name,
                docs: &[$($doc),+],
                inputs: vec![$(input::<$type>(stringify!($input), config)),*],
                response: <$response as TS>::name(config),
                event: None$(.or(Some(<$event as TS>::name(config))))?,
                immediate: need!($need) == Need::Nothing,
            }),+]
        }

        /// Calls `visit` with every type that a verb takes, tells or gives back.
        pub fn visit_types(visit: &mut impl ts_rs::TypeVisitor) {
            $(
                $(visit.visit::<$type>(); <$type as TS>::visit_dependencies(visit);
                  <$type as TS>::visit_generics(visit);)*
                visit.visit::<$response>();
                <$response as TS>::visit_dependencies(visit);
                <$response as TS>::visit_generics(visit);
                $(visit.visit::<$event>(); <$event as TS>::visit_dependencies(visit);)?
            )+
        }
    };
}

/// Whether a verb needs a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    Nothing,
    /// It uses one that is there.
    Maybe,
    Session,
}

macro_rules! need {
    (nothing) => {
        Need::Nothing
    };
    (maybe) => {
        Need::Maybe
    };
    (session) => {
        Need::Session
    };
    (nothing $session:ident) => {{
        let _ = $session;
    }};
    (maybe $session:ident) => {
        $session
    };
    (session $session:ident) => {
        $session.ok_or_else(|| Failure::usage("no model is loaded; load one first"))?
    };
}

verbs! {
    /// Runs the columns together, token by token. Another plan acts from the next token on that is not yet queued. A stop ends
    /// the answers, which are still re-read; another one ends that, too.
    Generate "generate" (request: GenerateRequest) [GenerateEvent] -> Vec<ColumnResult>
        { session |session, watch| session.generate(request, watch).await }
    /// Token ids of a rendered conversation.
    Tokenize "tokenize" (messages: Messages, add_generation_prompt: bool) -> Ids
        { session |session, _watch| session.tokenize(&messages.0, add_generation_prompt).map(Ids) }
    /// How likely the model finds each token.
    Score "score" (ids: Ids) [ReadingEvent] -> ScoreResult
        { session |session, watch| session.score(&ids.0, watch).await }
    /// The residual stream at every layer for every token. `prompt_length` (all) tells prompt from response for plans that act
    /// on one of them.
    Trace "trace" (ids: Ids, plan: Option<Vec<NamedTerm>>, prompt_length: Option<usize>) [ReadingEvent] -> TraceResult
        { session |session, watch| session.trace(ids.0, &plan.unwrap_or_default(), prompt_length, watch).await }
    /// Where the time of a token after `context` others (100) goes on a graphics device with timestamps, over `tokens` (4) of
    /// them.
    Profile "profile" (context: Option<usize>, tokens: Option<usize>) -> ProfileResult
        { session |session, _watch| session.profile(context.unwrap_or(100), tokens.unwrap_or(4)).await }
    /// Mean-difference vectors from given conversations: the bytes of a vector file.
    Extract "extract" (pairs: Vec<ContrastPair>) [ReadingEvent] -> Bytes
        { session |session, watch| session.extract(pairs, watch).await.map(Bytes) }
    /// Gives a vector file the calibration and the norms that readings and doses are measured by. The model's neutral answers
    /// are written first as far as they are missing.
    Calibrate "calibrate" (vector: Bytes) [ReadingEvent] -> Calibrated
        { session |session, watch| session.calibrate(&vector.0, watch).await }
    /// Takes the model's neutral answers from a file, so that nothing has to write them again.
    TakeNeutralAnswers "takeNeutralAnswers" (file: Bytes) -> ()
        { session |session, _watch| session.take_neutral_answers(&file.0) }
    /// Adds a vector file as a trait.
    AddVector "addVector" (name: String, file: Bytes) -> TraitCard
        { session |session, _watch| session.add_vector(&name, &file.0) }
    /// Adds a control, `random SEED (LIKE)`: a direction drawn by chance, at each layer as long as the trait `like`. Tokens
    /// have no readings of it.
    AddRandomTrait "addRandomTrait" (like: String, seed: u32) -> TraitCard
        { session |session, _watch| session.add_random_trait(&like, seed) }
    /// Lets go of traits, so that there is room for others; the rest keep their order.
    RemoveTraits "removeTraits" (names: Vec<String>) -> ()
        { session |session, _watch| session.remove_vectors(&names) }
    /// Opens a link, or its code alone.
    OpenLink "openLink" (link: String) -> OpenedLink
        { nothing |_session, _watch| open_link(&link) }
    /// A recipe as a link's code, to be put after `#r=`. A trait that travels in it has to be one of the session's.
    MakeLink "makeLink" (recipe: RecipeView) -> String
        { maybe |session, _watch| make_link(recipe, session.as_deref()) }
    /// Forces a link's tokens through the loaded model, which must be the link's.
    ReplayLink "replayLink" (request: ReplayRequest) [LinkEvent] -> Replayed
        { session |session, watch| session.replay_link(request, watch).await }
    /// A pack to edit, from templates; `description` and `against` say how each side shows.
    DraftTrait "draftTrait" (name: String, description: String, opposite: String, against: String) -> TraitPack
        { nothing |_session, _watch| draft_trait(&name, &description, &opposite, &against) }
    /// Parses and checks a pack's JSON; an error begins with the field's name.
    CheckTrait "checkTrait" (json: String) -> TraitPack
        { nothing |_session, _watch| check_trait(&json) }
    /// Writes and judges the responses, or goes on with a set that was stopped. A stop ends it with what is there.
    WriteResponses "writeResponses" (request: WriteRequest) [MakingEvent] -> ContrastSet
        { session |session, watch| session.write_responses(request, watch).await }
    /// Vectors by every estimator from the responses that pass. Other thresholds write nothing anew.
    MakeVector "makeVector" (request: VectorRequest) [MakingEvent] -> Extraction
        { session |session, watch| session.make_vector(request, watch).await }
    /// Opens a contrast set that comes from a file.
    OpenContrast "openContrast" (bytes: Bytes) -> OpenedContrast
        { nothing |_session, _watch| open_contrast(&bytes.0) }
    /// One tensor of a vector file (the mean difference where none is named) as a GGUF control vector for llama.cpp and
    /// repeng. Its layers begin at our layer 2: layers 0 and 1 cannot be exported.
    ExportControlVector "exportControlVector" (vector: Bytes, tensor: Option<String>) -> Bytes
        { nothing |_session, _watch| export_control_vector(&vector.0, tensor.as_deref()).map(Bytes) }
    /// A GGUF control vector as a vector file for the loaded model. Layers that it leaves out are zero.
    ImportControlVector "importControlVector" (gguf: Bytes) -> Bytes
        { session |session, _watch| session.import_control_vector(&gguf.0).map(Bytes) }
    /// Tries a vector at several layers and doses, for its effect on the trait and its cost. A stop ends a study with a failure of
    /// kind `usage`, after the event with its `records`.
    SweepTrait "sweepTrait" (request: SweepRequest) [StudyEvent] -> Swept
        { session |session, watch| session.sweep(request, watch).await }
    /// What meaningless directions of the same length do where a vector is recommended.
    ControlTrait "controlTrait" (request: ControlRequest) [StudyEvent] -> Controlled
        { session |session, watch| session.controls(request, watch).await }
    /// Whether the reading of the last prompt token tells what the answer will be like.
    PredictTrait "predictTrait" (request: PredictRequest) [StudyEvent] -> PredictionReport
        { session |session, watch| session.predict(request, watch).await }
    /// Cosines between all traits, at `layer` or the first trait's recommended one.
    CompareTraits "compareTraits" (layer: Option<u32>) -> TraitCosines
        { session |session, _watch| session.compare(layer) }
    /// The rows of a dataset, JSON Lines of conversations; an error names the line.
    OpenDataset "openDataset" (file: Bytes) -> OpenedDataset
        { nothing |_session, _watch| open_dataset(&file.0) }
    /// How far each row's answer, and the model's own answer to the same prompt, lie along every trait of the session. A stop ends it
    /// with a failure of kind `usage`, after the rows that are done.
    Screen "screen" (request: ScreenRequest) [ScreenEvent] -> Screened
        { session |session, watch| session.screen(request, watch).await }
    /// What a screen came to, of the rows that are screened so far.
    SummariseScreen "summariseScreen" (request: SummaryRequest) -> ScreenOverview
        { nothing |_session, _watch| Ok::<_, Failure>(summarise_screen(&request)) }
    /// Trains an adapter of the loaded model, on the processor. A stop ends it with a failure of kind `usage`, after its `state`,
    /// from which the same request goes on.
    Train "train" (request: TrainRequest) [TrainEvent] -> Trained
        { session |session, watch| session.train(request, watch).await }
    /// Adds an adapter by the two files of its PEFT directory, so that plans can name it.
    AddAdapter "addAdapter" (name: String, config: Bytes, weights: Bytes) -> AdapterCard
        { session |session, _watch| session.add_adapter(&name, &config.0, &weights.0) }
    /// Lets go of adapters.
    RemoveAdapters "removeAdapters" (names: Vec<String>) -> ()
        { session |session, _watch| { session.remove_adapters(&names); Ok::<_, Failure>(()) } }
    /// The questions of a file of JSON Lines with several answers each.
    OpenQuestions "openQuestions" (file: Bytes) -> Vec<KnowledgeQuestion>
        { nothing |_session, _watch| knowledge::parse(&file.0).map_err(Failure::usage) }
    /// Holds the model under a plan (an adapter, a push) against the base model: shifts, evidence, likelihood, knowledge.
    Shift "shift" (request: ShiftRequest) [StudyEvent] -> ShiftReport
        { session |session, watch| session.shift(request, watch).await }
    /// How the vector of given conversations lies in the model under a plan (an adapter) to the one in the base model, by layer.
    ExtractAnew "extractAnew" (pairs: Vec<ContrastPair>, plan: Vec<NamedTerm>) [ReadingEvent] -> VectorMove
        { session |session, watch| session.extract_anew(pairs, &plan, watch).await }
    /// Everything that a trait's report says.
    OpenReport "openReport" (json: Bytes) -> TraitReport
        { nothing |_session, _watch| open_report(&json.0) }
}

fn open_report(json: &[u8]) -> Result<TraitReport, Failure> {
    serde_json::from_slice(json)
        .map_err(|error| Failure::usage(format!("the report cannot be read: {error}")))
}
