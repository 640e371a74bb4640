/**
 * The studio's verbs and the types of what they take, tell and give back. Made of crates/studio by
 * `TRIMTAB_WRITE=1 cargo test --release -p trimtab-studio --test it typescript`: not to be edited.
 */

/**
 * An adapter of the session as a person sees it.
 */
export type Adapter = { name: string, 
/**
 * Of the weights' file; links and caches name it by that.
 */
sha256: string, rank: number, alpha: number, 
/**
 * First and last of the zero-based blocks that it stands beside.
 */
blocks: [number, number], 
/**
 * How it was made, in words; empty where its files do not say.
 */
made: string, 
/**
 * The push that acted while it was trained, in the notation of plans; empty for none.
 */
plan: string, 
/**
 * Whether it was trained on the loaded model; null where its files do not say, as others' do not: its shapes fit.
 */
ofThisModel: boolean | null, };

/**
 * What else was likely in a token's place.
 */
export type Alternative = { text: string, id: number, logprob: number, };

/**
 * An answer held against the band that coherent ones lie in.
 */
export type AnswerCoherence = { verdict: Coherence, 
/**
 * Mean log-probability of its tokens under the unsteered model.
 */
meanLogprob: number, distinct2: number, band: CoherenceBand, };

/**
 * How far the tuned model's states have come along every trait of the session.
 */
export type Arrival = { 
/**
 * Steps done by then.
 */
step: number, 
/**
 * Names of the traits.
 */
traits: Array<string>, 
/**
 * Mean shift over the base model's own answers along each, in deviations of neutral answers.
 */
shifts: Array<number>, };

export type Backend = "gpu" | "cpu" | "reference";

export type BaselineSummary = { 
/**
 * Neutral answers, coherent or not.
 */
answers: number, 
/**
 * Of the template's own system prompt.
 */
band: CoherenceBand, 
/**
 * Mean of the coherent answers, nats a token; NaN until it is measured.
 */
evidenceMean: number, 
/**
 * The unit of effects: standard deviation of the coherent neutral answers' evidence; NaN until measured.
 */
evidenceDeviation: number, 
/**
 * Mean negative log-likelihood, nats a token.
 */
nll: number, perplexity: number, distinct: [number, number, number], incoherentShare: number, };

export type BegunAnswer = { 
/**
 * Its tokens, which count towards the request's `maxTokens`.
 */
ids: Array<number>, 
/**
 * Plans that took the place of the column's `plan` meanwhile.
 */
changes: Array<SharedChange>, };

/**
 * A file's bytes.
 */
export type Bytes = Uint8Array;

/**
 * A vector file with its calibration.
 */
export type Calibrated = { 
/**
 * Names of the tensors, each of which has a calibration now.
 */
tensors: Array<string>, 
/**
 * Neutral conversations that were read.
 */
conversations: number, vector: Uint8Array, };

/**
 * *More than a meaningless push?*
 */
export type Chance = { finding: Finding, 
/**
 * Shuffled-label directions that move evidence as far, or leave no coherent answer to compare with.
 */
asMuch: number, shuffled: number, 
/**
 * See [`VerdictCriteria::max_rank`].
 */
rank: number | null, 
/**
 * Largest |effect| among them.
 */
largest: number | null, };

/**
 * The place that is recommended.
 */
export type Choice = { 
/**
 * Index of the curve.
 */
curve: number, range: WorkingRange, 
/**
 * At which cost the places were compared, and in what: KL in nats a token, or the relative dose.
 */
equalCost: number, costIsKl: boolean, 
/**
 * Evidence there, in deviations, and the relative dose: between the nearest two points in proportion.
 */
effectAtEqualCost: number, 
/**
 * 0 in reports of earlier versions.
 */
doseAtEqualCost: number, };

export type ChosenToken = { id: number, text: string, };

/**
 * The fault of an answer, if it has one.
 */
export type Coherence = "coherent" | "too-unlikely" | "too-likely" | "repetitive" | "empty";

/**
 * The unsteered log-likelihoods that answers have which make sense, from those of neutral answers.
 * It is meant for answers sampled as the neutral ones were: greedy ones are likelier.
 */
export type CoherenceBand = { 
/**
 * Lowest and highest mean log-likelihood, nats a token.
 */
low: number, high: number, 
/**
 * Mean and standard deviation of the neutral answers' mean log-likelihoods.
 */
mean: number, deviation: number, 
/**
 * Lowest distinct-2.
 */
distinct2: number, 
/**
 * Neutral answers that it comes from.
 */
answers: number, };

/**
 * How far from ordinary an answer may be. Visible and adjustable wherever answers are judged.
 */
export type CoherenceCriteria = { 
/**
 * Width of the band to each side, in standard deviations of neutral answers' mean
 * log-likelihood.
 */
deviations: number, 
/**
 * Fewest different pairs of neighbours, as a share of all (distinct-2).
 */
distinct2: number, };

/**
 * Each kind keeps a cache of its own.
 */
export type ColumnKind = "unsteered" | "steered";

export type ColumnRequest = { column: ColumnKind, 
/**
 * The whole conversation so far, ending with the user's message.
 */
messages: { role: "system" | "user" | "assistant"; content: string }[], 
/**
 * Tokens to begin with in place of messages.
 */
ids?: Ids, 
/**
 * Not looked at in an unsteered column.
 */
plan: Array<SteeringTerm>, 
/**
 * The beginning of an answer that goes on.
 */
begun?: BegunAnswer, };

/**
 * One column's finished run: every token of the conversation and what was read.
 */
export type ColumnResult = { column: ColumnKind, text: string, 
/**
 * All tokens of the conversation, template and prompt included.
 */
tokens: Array<Token>, 
/**
 * Index into `tokens` of the answer's first token.
 */
answerStart: number, reason: EndReason, 
/**
 * Inside the run (includes the push), for all `tokens`.
 */
inRun: ReadingBlock, 
/**
 * The same as `h_l · v̂_l`, where that was asked for; NaN for tokens that were not read.
 */
readings?: ReadingBlock, 
/**
 * By the unsteered model, for all `tokens`; what heatmaps show by default. Equal to `inRun` for an unsteered run.
 */
reread: ReadingBlock, 
/**
 * Log-probability of each token under the unsteered model; NaN for the first, and for those that it did not read.
 */
rereadLogprob: Float32Array, 
/**
 * The first segment begins at 0.
 */
segments: Array<PlanSegment>, 
/**
 * Coherence of the answer; absent where there are no neutral answers to hold it against.
 */
coherence?: AnswerCoherence, };

/**
 * The tokens that earlier messages have in a run's prompt.
 */
export type Context = "tokens" | "text";

/**
 * A conversation on one side of a contrast: `prompt_ids` and `full_ids`, or `messages`, the last of which is the response.
 */
export type ContrastPair = { side: 1 | -1, prompt_ids?: Array<number>, full_ids?: Array<number>, messages?: { role: "system" | "user" | "assistant"; content: string }[], 
/**
 * The response, in place of a last message by the assistant.
 */
response?: string, };

/**
 * A response of a contrast set. Scores are null until it has been judged.
 */
export type ContrastResponse = { pair: number, question: number, 
/**
 * 1 or −1.
 */
side: 1 | -1, text: string, tokens: number, 
/**
 * Cross-fitted: by the pairs that did not make it, minus a neutral answer's to the same question.
 */
evidence: number | null, 
/**
 * The second witness: chance of the positive side by its words alone, from questions other than its own.
 */
witness: number | null, coherence: Coherence | null, };

/**
 * A contrast set: kept and given back as it is.
 */
export type ContrastSet = { 
/**
 * Token ids, seeds, scores and what else is needed to go on or to make vectors again.
 */
bytes: Uint8Array, responses: Array<ContrastResponse>, 
/**
 * Whether every response is written and judged.
 */
complete: boolean, };

/**
 * The material of controls.
 */
export type ControlDetail = { layer: number, dose: number, coefficient: number, material: Material, unsteered: BaselineSummary, 
/**
 * The neutral answers, several to each question.
 */
unsteeredTexts: Array<JudgedAnswer>, coherence: CoherenceCriteria, };

/**
 * The controls' result: the same in the program, the page and the report of a trait.
 */
export type ControlReport = { rows: Array<ControlRow>, verdict: Ruling, sentence: string, 
/**
 * Sentences that a reader should know before believing it.
 */
caveats: Array<string>, 
/**
 * Absent in reports of earlier versions.
 */
detail?: ControlDetail, 
/**
 * Number of the test that the verdict follows, see [`TEST`]; absent in reports of earlier versions.
 */
test?: number, 
/**
 * The verdict's questions and their figures. Absent in reports of earlier versions.
 */
answers?: Verdict, };

export type ControlRequest = { 
/**
 * The responses that made the vector; without them there are no shuffled labels.
 */
contrast?: Uint8Array, 
/**
 * The same where the vector was made from given conversations.
 */
conversations?: Array<ContrastPair>, 
/**
 * Those that the vector was made with.
 */
thresholds?: Thresholds, 
/**
 * The first one that the vector file recommends.
 */
layer?: number, 
/**
 * Relative, above 0; the push that the vector file calls usual, else the end of its range.
 */
dose?: number, 
/**
 * The files of other traits' vectors, and their names; all of the session's.
 */
others?: Array<OtherVector>, 
/**
 * A meaningless direction to judge in the vector's place: the verdict has to deny it.
 */
standIn?: StandIn, pack: TraitPack, vector: Uint8Array, 
/**
 * From an earlier [`StudyEvent::Records`].
 */
records?: Uint8Array, 
/**
 * Evaluation questions to ask (8).
 */
questions?: number, 
/**
 * Tokens an answer (32).
 */
maxTokens?: number, 
/**
 * Instruction pairs that evidence is measured with, of those that extraction did not see (at most 2).
 */
pairs?: number, 
/**
 * Pairs that extraction used, from the first on (what the vector file says, else all).
 */
extractionPairs?: number, 
/**
 * Unsteered answers to each question (3): the unit of effects and the coherence band come from them.
 */
neutralSamples?: number, 
/**
 * What counts as coherent.
 */
coherence?: CoherenceCriteria, 
/**
 * Which tokens are pushed (response).
 */
scope?: Scope, 
/**
 * Which of the vector file's tensors is meant (its default).
 */
tensor?: string, 
/**
 * Whether records of another study are refused, rather than passed over.
 */
refuseOtherRecords?: boolean, };

/**
 * A direction and what came of it.
 */
export type ControlRow = { 
/**
 * To the vector, at the layer. Absent in reports of earlier versions.
 */
cosine?: number, kind: DirectionKind, 
/**
 * Name of another trait, or the number of a direction among those of its kind, from 1 on.
 */
name: string, 
/**
 * The same in nats a token.
 */
nats: Estimate | null, answers: number, 
/**
 * Questions with a coherent answer.
 */
coherent: number, 
/**
 * Share of the answers.
 */
incoherent: number, 
/**
 * Why: too unlikely, too likely, repetitive, empty.
 */
incoherentBy: [number, number, number, number], 
/**
 * Perplexity of the answers under the unsteered model; `None` when every answer is empty.
 */
perplexity: number, 
/**
 * Mean KL(steered‖unsteered) along the answers, nats a token; `None` where it was not measured.
 */
kl: number, distinct1: number, distinct2: number, distinct3: number, texts: Array<JudgedAnswer>, evidence: number, low: number, high: number, };

/**
 * What controls came to, and the vector file with its range opened against the trait as far as the flipped push left the
 * text whole.
 */
export type Controls = { recommended?: Recommended, vector: Uint8Array, rows: Array<ControlRow>, verdict: Ruling, sentence: string, 
/**
 * Sentences that a reader should know before believing it.
 */
caveats: Array<string>, 
/**
 * Absent in reports of earlier versions.
 */
detail?: ControlDetail, 
/**
 * Number of the test that the verdict follows, see [`TEST`]; absent in reports of earlier versions.
 */
test?: number, 
/**
 * The verdict's questions and their figures. Absent in reports of earlier versions.
 */
answers?: Verdict, };

/**
 * One row of a dataset.
 */
export type Conversation = { 
/**
 * At least one, and then the assistant's answer.
 */
messages: { role: "system" | "user" | "assistant"; content: string }[], 
/**
 * What the row is known to be, where somebody said so.
 */
label?: string, };

/**
 *Pearson's r with its 95 % interval; NaN where there is too little to tell.
 */
export type Correlation = { r: number, low: number, high: number, };

export type DirectionKind = "vector" | "flipped" | "shuffled" | "random" | "other";

export type EndReason = "end-token" | "max-tokens" | "context-full" | "stopped";

/**
 * A number and its 95 % percentile interval.
 */
export type Estimate = { value: number, low: number, high: number, };

/**
 * Evidence for one trait in the tuned model's answers, read by the base model, beside the base model's own.
 */
export type EvidenceChange = { name: string, 
/**
 * Evidence above that of the base model's answers to the same questions, in their deviations; what it costs, and the answers.
 */
tuned: Outcome, 
/**
 * One answer of the base model to each question.
 */
base: Array<JudgedAnswer>, };

/**
 * What making a vector came to, and the vector file.
 */
export type Extraction = { vector: Uint8Array, 
/**
 * For each response, the reason why it counts or does not.
 */
kept: Array<Kept>, keptPositive: number, keptNegative: number, 
/**
 * Area under the curve with which the second witness tells the sides apart on held-out questions.
 */
witnessAuc: number, 
/**
 * Areas under the curve with which each estimator tells held-out responses apart, the mean difference first.
 */
auc: Array<LayerCurve>, 
/**
 * Length over the residual's median length in neutral answers, by estimator.
 */
norms: Array<LayerCurve>, 
/**
 * Cosine with the mean difference, by estimator.
 */
cosines: Array<LayerCurve>, };

/**
 * The result of making a vector.
 */
export type ExtractionReport = { 
/**
 * For each response, the reason why it counts or does not.
 */
kept: Array<Kept>, keptPositive: number, keptNegative: number, 
/**
 * Area under the curve with which the second witness tells the sides apart on held-out questions.
 */
witnessAuc: number, 
/**
 * Areas under the curve with which each estimator tells held-out responses apart, the mean difference first.
 */
auc: Array<LayerCurve>, 
/**
 * Length over the residual's median length in neutral answers, by estimator.
 */
norms: Array<LayerCurve>, 
/**
 * Cosine with the mean difference, by estimator.
 */
cosines: Array<LayerCurve>, };

/**
 * An error in words for the person who meets it: what happened, and what to do next.
 */
export type Failure = { kind: FailureKind, message: string, };

/**
 * What kind of thing happened. The last two are the page's own: files that it could not fetch, or not keep.
 */
export type FailureKind = "no-webgpu" | "device-lost" | "out-of-memory" | "wrong-numbers" | "corrupt-model" | "context-full" | "internal" | "usage" | "download" | "quota";

/**
 * The answer to one of a verdict's questions.
 */
export type Finding = "yes" | "no" | "cannot-tell";

/**
 * What happened; `column` is the index into the request's columns.
 */
export type GenerateEvent = { "kind": "prompt", done: number, total: number, secondsLeft?: number, } | { "kind": "token", column: number, token: Token, } | { "kind": "readings", column: number, from: number, block: ReadingBlock, } | { "kind": "segment", column: number, fromToken: number, plan: Array<SteeringTerm>, } | { "kind": "end", column: number, reason: EndReason, 
/**
 * NaN for an answer that is too short to tell.
 */
tokensPerSecond: number, } | { "kind": "reread-progress", column: number, done: number, total: number, } | { "kind": "recovering", bytesDone: number, bytesTotal: number, } | { "kind": "recovered", model: LoadedModel, };

export type GenerateRequest = { columns: Array<ColumnRequest>, sampler: Sampler, maxTokens: number, 
/**
 * Whether the unsteered model reads the answers (it does); else the results' `reread` is empty.
 */
reread?: boolean, 
/**
 * Whether the results have readings that are not calibrated, too (they do not).
 */
readings?: boolean, };

/**
 * Strength with which a system prompt asks for the trait or against it.
 */
export type Grade = "strongly-against" | "mildly-against" | "neutral" | "mildly-towards" | "strongly-towards";

/**
 * The loss on rows that are not trained on.
 */
export type HeldOut = { 
/**
 * Steps done by then.
 */
step: number, 
/**
 * Without a push, in nats a response token.
 */
loss: number, 
/**
 * Under the push of the training, where there was one.
 */
pushed?: number, };

/**
 * How many rows lie between two values.
 */
export type Histogram = { low: number, high: number, 
/**
 * In bins of equal width; the last holds `high`, too.
 */
counts: Array<number>, };

/**
 * Token ids.
 */
export type Ids = Uint32Array;

/**
 * Two system prompts: one asks for the trait, one for its opposite.
 */
export type InstructionPair = { positive: string, negative: string, };

/**
 * One answer as a person reads it.
 */
export type JudgedAnswer = { question: string, text: string, coherence: Coherence, 
/**
 * Nats a token.
 */
evidence?: number, logprob?: number, kl?: number, };

/**
 * Whether a response counts, or why not.
 */
export type Kept = "kept" | "weak-evidence" | "too-unlikely" | "too-likely" | "repetitive" | "empty";

/**
 * What the same questions came to in two models.
 */
export type KnowledgeChange = { questions: number, 
/**
 * Share of the questions whose right answer is the likeliest.
 */
baseRight: number, tunedRight: number, 
/**
 * Mean margin of the base model, nats.
 */
baseMargin: number, 
/**
 * Change of the margin, paired by question, with its interval, nats.
 */
change?: Estimate, };

export type KnowledgeQuestion = { question: string, answers: Array<string>, 
/**
 * Number of the right one.
 */
label: number, };

/**
 * A layer of the residual stream: 0 is the embedding output, `i` the output of block `i`
 * (1..=L), as `hidden_states[i]` in Hugging Face transformers, except that layer L is taken
 * before the final norm.
 */
export type Layer = number;

/**
 * One number for each layer, `[L+1]`, NaN where there is none; `low` and `high` where there is an interval (95 %).
 */
export type LayerCurve = { name: string, values: Float32Array, low?: Float32Array, high?: Float32Array, };

/**
 * At one layer.
 */
export type LayerMove = { 
/**
 * Of the tuned model's vector to the base model's.
 */
cosine: number, 
/**
 * Of the base model's vector from one half of the answers to that from the other: what the choice of answers alone does. Each is
 * made of half as many, so that the whole one is surer than this says.
 */
halves: number, 
/**
 * The tuned model's length divided by the base model's.
 */
length: number, };

/**
 * Mean negative log-likelihood of the same texts in both models, nats a token.
 */
export type LikelihoodChange = { base: number, tuned: number, 
/**
 * Paired by text, with its interval; above 0 the texts became less likely.
 */
change?: Estimate, };

/**
 * The loaded model as a person sees it.
 */
export type LoadedModel = { name: string, 
/**
 * SHA-256 of the weights.
 */
sha256: string, licence: string, layers: number, hiddenSize: number, 
/**
 * Numbers that were trained.
 */
parameters: number, backend: Backend, precision: Precision, adapter: string, 
/**
 * Whether the adapter is a program on the CPU.
 */
software: boolean, context: number, deviceBytes: number, 
/**
 * Sentences that a person should see.
 */
notices: Array<string>, traits: Array<Trait>, 
/**
 * Adapters that plans may name.
 */
adapters: Array<Adapter>, 
/**
 * How many traits it reads at a time.
 */
maxTraits: number, };

export type MakingPhase = "writing" | "judging" | "vector";

/**
 * The pairs and questions of a pack that a study asks.
 */
export type Material = { 
/**
 * Indices into the pack's instructions; evidence is measured with these.
 */
pairs: Array<number>, 
/**
 * True if extraction saw none of the pairs.
 */
unseen: boolean, 
/**
 * Indices into the pack's evaluation questions, which extraction never sees.
 */
questions: Array<number>, };

/**
 * A conversation's messages.
 */
export type Messages = { role: "system" | "user" | "assistant"; content: string }[];

/**
 * *Does it move?* Effects are in deviations of neutral answers' evidence.
 */
export type Movement = { finding: Finding, effect: Estimate | null, 
/**
 * Questions with a coherent answer, of all of them.
 */
coherent: number, questions: number, };

export type NewerMessage = { role: Role, text: string, };

/**
 * A row and its place among the rows of its file, from 0 on.
 */
export type NumberedRow = { row: number, conversation: Conversation, };

/**
 * A contrast set that comes from a file.
 */
export type OpenedContrast = { pack: TraitPack, settings: ResponseSettings, 
/**
 * Token ids, seeds, scores and what else is needed to go on or to make vectors again.
 */
bytes: Uint8Array, responses: Array<ContrastResponse>, 
/**
 * Whether every response is written and judged.
 */
complete: boolean, };

/**
 * A dataset's file, read.
 */
export type OpenedDataset = { rows: Array<Conversation>, 
/**
 * Of the file.
 */
sha256: string, };

/**
 * The contents of a link.
 */
export type OpenedLink = { "kind": "recipe", recipe: SharedRecipe, 
/**
 * A sentence about what it was made with and this version cannot use: it can be looked at only.
 */
lacks?: string, } | { "kind": "newer", version: number, sentence: string, model: string, title: string, note: string, messages: Array<NewerMessage>, };

/**
 * What a term does.
 */
export type Operation = { "kind": "add", coefficient: number, } | { "kind": "ablate" } | { "kind": "clamp", low: number, high: number, } | { "kind": "tune", scale: number, };

/**
 * What the vector does when it is pushed the other way.
 */
export type OtherSide = { effect: Estimate | null, 
/**
 * The interval does not lie below 0: pushing against the trait is not shown to do anything.
 */
oneSided: boolean, 
/**
 * The interval lies above 0: either way gives more of the trait, so that the vector is not its direction.
 */
denies: boolean, };

/**
 * Another trait's vector, to compare with.
 */
export type OtherVector = { name: string, 
/**
 * Which of the file's tensors is meant (its default).
 */
tensor?: string, vector: Uint8Array, };

/**
 * The effect of one plan, means over its answers. What reports of earlier versions lack is 0 or empty.
 */
export type Outcome = { 
/**
 * The same in nats a token.
 */
nats: Estimate | null, answers: number, 
/**
 * Questions with a coherent answer.
 */
coherent: number, 
/**
 * Share of the answers.
 */
incoherent: number, 
/**
 * Why: too unlikely, too likely, repetitive, empty.
 */
incoherentBy: [number, number, number, number], 
/**
 * Perplexity of the answers under the unsteered model; `None` when every answer is empty.
 */
perplexity: number, 
/**
 * Mean KL(steered‖unsteered) along the answers, nats a token; `None` where it was not measured.
 */
kl: number, distinct1: number, distinct2: number, distinct3: number, texts: Array<JudgedAnswer>, evidence: number, low: number, high: number, };

/**
 * The part of a conversation that a token belongs to.
 */
export type Part = "template" | "prompt" | "response";

/**
 * Where a vector is added.
 */
export type Place = { "layer": number } | "allLayers";

/**
 * The range of one place.
 */
export type PlaceRange = { place: Place, towards: WorkingRange, 
/**
 * Settings with doses below 0.
 */
against: WorkingRange | null, };

/**
 * Part of a run made under one plan. `fromToken` is an index into the conversation's tokens.
 */
export type PlanSegment = { fromToken: number, plan: Array<SteeringTerm>, };

/**
 * How activations enter a weight matrix.
 */
export type Precision = "exact" | "fast";

export type PredictRequest = { 
/**
 * The layer that is read: the first one that the vector file recommends, or one a little past the middle.
 */
layer?: number, pack: TraitPack, vector: Uint8Array, 
/**
 * From an earlier [`StudyEvent::Records`].
 */
records?: Uint8Array, 
/**
 * Evaluation questions to ask (8).
 */
questions?: number, 
/**
 * Tokens an answer (32).
 */
maxTokens?: number, 
/**
 * Instruction pairs that evidence is measured with, of those that extraction did not see (at most 2).
 */
pairs?: number, 
/**
 * Pairs that extraction used, from the first on (what the vector file says, else all).
 */
extractionPairs?: number, 
/**
 * Unsteered answers to each question (3): the unit of effects and the coherence band come from them.
 */
neutralSamples?: number, 
/**
 * What counts as coherent.
 */
coherence?: CoherenceCriteria, 
/**
 * Which tokens are pushed (response).
 */
scope?: Scope, 
/**
 * Which of the vector file's tensors is meant (its default).
 */
tensor?: string, 
/**
 * Whether records of another study are refused, rather than passed over.
 */
refuseOtherRecords?: boolean, };

/**
 * A prediction's result: the same in the program, the page and the report of a trait. Readings are in deviations of
 * neutral prompt tokens where they are calibrated, else `h_l · v̂_l`.
 */
export type Prediction = { layer: number, calibrated: boolean, 
/**
 * Coherent answers.
 */
points: Array<PredictionPoint>, 
/**
 * Over all coherent answers.
 */
pooled: Correlation, 
/**
 * The same with each system prompt's means taken away first: what the reading knows beyond the prompt.
 */
within: Correlation, sentence: string, 
/**
 * Sentences that a reader should know before believing it.
 */
caveats: Array<string>, 
/**
 * Absent in reports of earlier versions.
 */
detail?: PredictionDetail, };

/**
 * The material of a prediction.
 */
export type PredictionDetail = { material: Material, unsteered: BaselineSummary, 
/**
 * Incoherent answers, which do not count.
 */
incoherent: Array<PredictionPoint>, byGrade: Array<[Grade, Estimate | null]>, 
/**
 * Pooled r at each layer, `[L+1]`; null where there is none.
 */
byLayer: Array<number | null>, };

/**
 * One answer, for a scatter plot.
 */
export type PredictionPoint = { 
/**
 * The system prompt; empty: the template's own.
 */
system: string, question: string, 
/**
 * Reading of the last prompt token.
 */
reading: number, 
/**
 * Evidence of the answer, in deviations of neutral answers' evidence, from their mean.
 */
evidence: number, };

/**
 * Where a decoded token's time goes on a GPU; seconds, bytes and multiply-adds of one token.
 */
export type ProfileResult = { tokens: number, context: number, seconds: number, 
/**
 * Largest rates that were measured on the device.
 */
bytesPerSecond: number, productsPerSecond: number, kernels: Array<ProfiledKernel>, };

export type ProfiledKernel = { kernel: string, dispatches: number, seconds: number, 
/**
 * Of all kernels' time.
 */
share: number, bytes: number, products: number, 
/**
 * The least time at the device's measured peak over the time taken.
 */
roofline: number, };

/**
 * No question is in both halves.
 */
export type Questions = { extraction: Array<string>, evaluation: Array<string>, };

/**
 * What counts as working and as broken.
 */
export type RangeCriteria = { 
/**
 * Largest share of incoherent answers at a dose at which the text is called whole.
 */
maxIncoherent: number, 
/**
 * The range ends where evidence has fallen this far below its best at a smaller dose, in deviations.
 */
turnBack: number, 
/**
 * Least evidence, in deviations, for a place to be recommended at all.
 */
minEffect: number, 
/**
 * KL(steered‖unsteered), nats a token, at which places are compared.
 */
equalCost: number, };

/**
 * Calibrated readings as a page draws them.
 */
export type ReadingBlock = { tokens: number, traits: number, 
/**
 * `L + 1`.
 */
layerRows: number, 
/**
 * `[tokens, traits, L+1]` in deviations, 0 = ordinary. NaN where a token has no reading: the
 * first token (an attention sink whose residual dwarfs all others), the template's own tokens,
 * and directions without a calibration.
 */
values: Float32Array, };

/**
 * How far a reading is: tokens of one text, conversations of many, or neutral answers that are written first.
 */
export type ReadingEvent = { "kind": "tokens", done: number, total: number, } | { "kind": "conversations", done: number, total: number, } | { "kind": "answers", done: number, total: number, };

/**
 * Layers and range in which pushing works and the text stays whole.
 */
export type Recommended = { 
/**
 * Ascending, at least one.
 */
layers: Array<number>, 
/**
 * Coefficients, `min <= 0 <= max`.
 */
min: number, max: number, 
/**
 * Coefficient at the cost at which places were compared: the push that verdicts are about, within `0..=max`.
 */
usual?: number, };

/**
 * Tokens of all answers, each read twice: in its run, and by the unsteered model.
 */
export type ReplayEvent = { "kind": "replay", done: number, total: number, };

export type ReplayRequest = { link: string, 
/**
 * Files of ready-made vectors that the link names and that newer ones took the place of.
 */
older: Uint8Array[], };

/**
 * What this machine makes of a link.
 */
export type Replayed = { tokens: number, 
/**
 * Tokens that this machine would have chosen too.
 */
agreed: number, 
/**
 * Largest distance from the link's own readings, which are half a step coarse; null where it has none.
 */
readingsApart: number | null, 
/**
 * Whether messages became the author's tokens; null where the link does not say.
 */
samePrompts: boolean | null, sentence: string, 
/**
 * Names of the link's traits here, in its order.
 */
traits: Array<string>, 
/**
 * All traits of the session, in the order of the readings.
 */
directions: Array<string>, 
/**
 * Traits that came with the link and were not here before.
 */
added: Array<Trait>, answers: Array<ReplayedAnswer>, 
/**
 * Those of the link's other column; empty where it has none.
 */
beside: Array<ReplayedAnswer>, };

export type ReplayedAnswer = { 
/**
 * Index of the recipe's message.
 */
message: number, 
/**
 * The author's, of the whole conversation up to and with the answer. `logprob` is NaN for a token that was too unlikely
 * here to be listed.
 */
tokens: Array<Token>, answerStart: number, 
/**
 * What this machine would have chosen in place of each token of the answer.
 */
chosen: Array<ChosenToken>, 
/**
 * Whether it would have ended there too; null where the author's answer did not end by itself.
 */
ends: boolean | null, 
/**
 * Inside the run, for all tokens.
 */
inRun: ReadingBlock, 
/**
 * By the unsteered model.
 */
reread: ReadingBlock, rereadLogprob: Float32Array, segments: Array<PlanSegment>, };

export type ResponseEvent = { "kind": "response", at: number, response: ContrastResponse, } | { "kind": "progress", phase: MakingPhase, done: number, total: number, secondsLeft?: number, } | { "kind": "checkpoint", contrast: Uint8Array, 
/**
 * Places of the responses that are in it; others are still growing.
 */
written: Array<number>, };

/**
 * How many responses are written, and how.
 */
export type ResponseSettings = { 
/**
 * Instruction pairs and extraction questions of the pack that are used, from the first on.
 */
pairs: number, questions: number, maxTokens: number, temperature: number, topP?: number, seed: number, };

/**
 * Another trait's vector, pushed as far at the same layer.
 */
export type Rival = { name: string, 
/**
 * Cosine to the vector at the layer.
 */
cosine: number, effect: number | null, 
/**
 * Effect of the vector minus the rival's, over the questions that both answered coherently.
 */
margin: Estimate | null, 
/**
 * Too near to be told apart by evidence: named, not compared.
 */
relative: boolean, };

export type Role = "system" | "user" | "assistant";

/**
 * What the rows of a screen came to for one trait, in the order of the screened rows, in deviations of neutral answers.
 */
export type RowValues = { 
/**
 * Projection differences; NaN where the model wrote no answer of its own.
 */
differences: Float32Array, 
/**
 * Projections of the given answers alone, from their mean over these rows.
 */
given: Float32Array, };

export type Ruling = "works" | "does-not" | "not-enough-data";

/**
 * How the next token is chosen. The order is Hugging Face's: repetition penalty, temperature,
 * top-k, top-p; then the largest `logit + Gumbel noise` wins.
 */
export type Sampler = { 
/**
 * 0 is greedy: the largest logit after the repetition penalty, the lower id on a tie.
 */
temperature: number, 
/**
 * Keep the `k` largest logits; 0 keeps all. Ties with the k-th are kept.
 */
topK: number, 
/**
 * Keep the smallest set of most likely tokens whose probabilities sum to at least this; 1 keeps all.
 */
topP: number, 
/**
 * Logits of tokens already in the sequence are divided (positive) or multiplied (negative) by this; 1 is off.
 */
repetitionPenalty: number, seed: number, };

/**
 * Which tokens a term acts on. The response starts with the last prompt token, which produces
 * the first response token.
 */
export type Scope = "all" | "prompt" | "response";

/**
 * How likely each token is; entry `i` of both lists is about `ids[i + 1]`.
 */
export type ScoreResult = { 
/**
 * Negative natural log-likelihood, `[T − 1]`.
 */
nll: Float32Array, 
/**
 * The model's first choice in each place, `[T − 1]`.
 */
top1: Uint32Array, meanNll: number, };

export type ScreenEvent = { "kind": "traits", traits: Array<ScreenedTrait>, } | { "kind": "row", row: ScreenedRow, } | { "kind": "progress", done: number, total: number, secondsLeft?: number, };

/**
 * What a screen came to, and what each row has to do with it.
 */
export type ScreenOverview = { summary: ScreenSummary, 
/**
 * One a trait.
 */
values: Array<RowValues>, };

/**
 * Rows to screen for every trait of the session. What is absent is as usual.
 */
export type ScreenRequest = { rows: Array<NumberedRow>, 
/**
 * The model writes its own answer to every row whose number this divides (1: to all); 0: to none.
 */
ownEvery?: number, 
/**
 * Tokens of an own answer (48).
 */
maxTokens?: number, 
/**
 * Seed of the own answers (1).
 */
seed?: number, };

/**
 * What a screen came to.
 */
export type ScreenSummary = { rows: number, 
/**
 * Rows to which the model's own answer was written.
 */
withOwn: number, traits: Array<TraitScreen>, 
/**
 * The area under the curve of a classifier that sees only which words occur, on rows that it did not learn from: what a
 * screen has to be held against. Absent where rows have no labels.
 */
wordsAuroc?: Estimate, };

/**
 * Rows that were screened, and what for.
 */
export type Screened = { traits: Array<ScreenedTrait>, rows: Array<ScreenedRow>, };

/**
 * What was found of one row.
 */
export type ScreenedRow = { 
/**
 * Its number among the rows of its file, from 0 on.
 */
row: number, label?: string, 
/**
 * Tokens of the given answer that were read; 0 where the prompt alone fills the context.
 */
tokens: number, 
/**
 * Mean projection of the given answer, one a trait.
 */
given: Array<number>, 
/**
 * The same of the model's own answer; absent where none was written.
 */
own?: Array<number>, };

/**
 * A trait that rows are screened for.
 */
export type ScreenedTrait = { name: string, 
/**
 * Hash of the vector's tensor.
 */
hash: string, 
/**
 * Layer that is read.
 */
layer: number, 
/**
 * Standard deviation of neutral answers' projections there: the unit of what is shown.
 */
deviation?: number, };

export type SharedCard = { opposite: string, description: string, made: string, layers: Array<number>, min: number, max: number, };

/**
 * A segment opened while the run was under way.
 */
export type SharedChange = { 
/**
 * Counts from the answer's first token; negative inside the prompt.
 */
fromToken: number, plan: Array<SteeringTerm>, };

/**
 * A file, known by its hash, and a name to fetch it by; a model by that of its weights.
 */
export type SharedFile = { name: string, 
/**
 * Hexadecimal.
 */
sha256: string, };

/**
 * The part of the conversation that the author wants looked at. Title and note are plain text.
 */
export type SharedLook = { trait: string | null, layer: Layer | null, token: SharedPlace | null, 
/**
 * Readings inside the run (with the push) rather than the unsteered model's.
 */
insideRun: boolean, title: string, note: string, };

export type SharedMessage = { role: Role, 
/**
 * The message's text; where tokens are known, their texts one after the other.
 */
text: string, 
/**
 * The message's tokens; `None` where they are not known and the text is tokenised when it is needed.
 */
tokens: Array<SharedToken> | null, 
/**
 * The run that wrote the answer.
 */
run: SharedRun | null, 
/**
 * The other column's answer to the same question, where the recipe has two columns: usually the unsteered one.
 */
beside?: SharedMessage, };

/**
 * A token of a message, both counted from 0.
 */
export type SharedPlace = { message: number, token: number, };

export type SharedRecipe = { model: SharedFile, precision: Precision, 
/**
 * Adapters beside the model's weights that plans name.
 */
adapters: Array<SharedFile>, 
/**
 * Other files that plans name. None can be used yet.
 */
files: Array<SharedFile>, traits: Array<SharedTrait>, messages: Array<SharedMessage>, 
/**
 * Absent where the sender does not know.
 */
context?: Context, look: SharedLook, };

/**
 * Settings and course of the run that wrote an answer.
 */
export type SharedRun = { sampler: Sampler, maxTokens: number, 
/**
 * Plan from the first token of the conversation on.
 */
plan: Array<SteeringTerm>, 
/**
 * Sliders moved in mid-answer, in order.
 */
changes: Array<SharedChange>, end: EndReason, };

export type SharedToken = { id: TokenId, 
/**
 * Text that the token adds; empty for a token that ends inside a character.
 */
text: string, 
/**
 * Reading of the trait and layer that the author looked at, in deviations, a multiple of
 * [`READING_STEP`]; `None` where there is none.
 */
reading: number | null, };

export type SharedTrait = { name: string, 
/**
 * Hexadecimal, of a ready-made trait's tensor.
 */
hash: string | null, 
/**
 * The card of a vector that travels in the link.
 */
inline: SharedCard | null, 
/**
 * Recommended coefficients of a ready-made trait, lowest and highest.
 */
range?: [number, number], };

export type ShiftReport = { traits: Array<TraitShift>, evidence: Array<EvidenceChange>, likelihood?: LikelihoodChange, knowledge?: KnowledgeChange, 
/**
 * Base-model answers that the shifts were read over.
 */
conversations: number, };

export type ShiftRequest = { 
/**
 * What is held against the base model: adapters, pushes, or both.
 */
plan: Array<SteeringTerm>, 
/**
 * Answers of the base model over which the shift along every trait of the session is read (12).
 */
conversations?: number, 
/**
 * Traits for which evidence is measured in answers; each takes a minute or more.
 */
packs: Array<TraitPack>, 
/**
 * How; of [`StudySettings`], `questions`, `maxTokens` and `extractionPairs` count.
 */
study?: StudySettings, 
/**
 * Questions that are asked of both models; none: knowledge is not measured.
 */
knowledge: Array<KnowledgeQuestion>, 
/**
 * From an earlier event with records, also of another adapter: what the base model answered is not written again.
 */
records?: Bytes, };

/**
 * *This trait, and not another?*
 */
export type Specificity = { finding: Finding, rivals: Array<Rival>, };

/**
 * A direction that is not the trait's, as long as the vector at every layer; two kinds by seed.
 */
export type StandIn = { "shuffled": number } | { "random": number } | { "other": string };

/**
 * One term of a plan, its vector or adapter by name.
 */
export type SteeringTerm = { 
/**
 * A ready-made trait or, in the program, the path of a vector file (`PATH#TENSOR`); of an adapter its name.
 */
trait: string, operation: Operation, 
/**
 * `None`: the layers that the vector file recommends. An adapter has its own.
 */
layers?: Array<Layer>, scope: Scope, };

export type StudyEvent = { "kind": "progress", phase: StudyPhase, done: number, total: number, secondsLeft?: number, } | { "kind": "row", row: SweepRow, } | { "kind": "records", records: Uint8Array, };

/**
 * The stage of a study: its answers are written, then measured; in `Reading`, the responses that made the vector are read.
 */
export type StudyPhase = "reading" | "writing" | "measuring";

/**
 * Settings that all three studies have; what is absent is as usual.
 */
export type StudySettings = { 
/**
 * Evaluation questions to ask (8).
 */
questions?: number, 
/**
 * Tokens an answer (32).
 */
maxTokens?: number, 
/**
 * Instruction pairs that evidence is measured with, of those that extraction did not see (at most 2).
 */
pairs?: number, 
/**
 * Pairs that extraction used, from the first on (what the vector file says, else all).
 */
extractionPairs?: number, 
/**
 * Unsteered answers to each question (3): the unit of effects and the coherence band come from them.
 */
neutralSamples?: number, 
/**
 * What counts as coherent.
 */
coherence?: CoherenceCriteria, 
/**
 * Which tokens are pushed (response).
 */
scope?: Scope, 
/**
 * Which of the vector file's tensors is meant (its default).
 */
tensor?: string, 
/**
 * Whether records of another study are refused, rather than passed over.
 */
refuseOtherRecords?: boolean, };

/**
 * Screened rows of a dataset, to be summed up.
 */
export type SummaryRequest = { screened: Screened, 
/**
 * The dataset's rows.
 */
rows: Array<Conversation>, 
/**
 * Labels that the screen should find (every label but `normal`).
 */
flagged?: Array<string>, };

/**
 * A sweep, and the vector file with its recommendation in it.
 */
export type Sweep = { vector: Uint8Array, 
/**
 * One entry per place and dose, in the order of places, then doses.
 */
rows: Array<SweepRow>, 
/**
 * Evidence without a push: rows tell evidence above that of the unsteered answers.
 */
neutral: number, 
/**
 * `None` when no place has evidence within its working range.
 */
recommended: SweepRecommendation | null, 
/**
 * The result in a sentence, also where nothing is recommended.
 */
sentence: string, 
/**
 * Sentences that a reader should know before believing it.
 */
caveats: Array<string>, 
/**
 * Absent in reports of earlier versions.
 */
detail?: SweepDetail, };

/**
 * The way in which a recommendation was found.
 */
export type SweepChoice = { layer: number, 
/**
 * Relative doses: the range's ends, and where evidence is largest.
 */
lowDose: number, highDose: number, bestDose: number, choice: Choice, };

/**
 * The material of a sweep, and the way in which its recommendation was found.
 */
export type SweepDetail = { material: Material, unsteered: BaselineSummary, ranges: Array<PlaceRange>, choice?: SweepChoice, 
/**
 * Every answer is there and measured.
 */
complete: boolean, coherence: CoherenceCriteria, range: RangeCriteria, };

/**
 * A sweep's recommendation: a place to push at, and how far to push before the text breaks.
 */
export type SweepRecommendation = { sentence: string, 
/**
 * Ascending, at least one.
 */
layers: Array<number>, 
/**
 * Coefficients, `min <= 0 <= max`.
 */
min: number, max: number, 
/**
 * Coefficient at the cost at which places were compared: the push that verdicts are about, within `0..=max`.
 */
usual?: number, };

/**
 * A sweep's result: the same in the program, the page and the report of a trait.
 */
export type SweepReport = { 
/**
 * One entry per place and dose, in the order of places, then doses.
 */
rows: Array<SweepRow>, 
/**
 * Evidence without a push: rows tell evidence above that of the unsteered answers.
 */
neutral: number, 
/**
 * `None` when no place has evidence within its working range.
 */
recommended: SweepRecommendation | null, 
/**
 * The result in a sentence, also where nothing is recommended.
 */
sentence: string, 
/**
 * Sentences that a reader should know before believing it.
 */
caveats: Array<string>, 
/**
 * Absent in reports of earlier versions.
 */
detail?: SweepDetail, };

export type SweepRequest = { settings: SweepSettings, pack: TraitPack, vector: Uint8Array, 
/**
 * From an earlier [`StudyEvent::Records`].
 */
records?: Uint8Array, };

/**
 * One setting and what came of it.
 */
export type SweepRow = { layers: Array<number>, 
/**
 * True if all layers were pushed at once, by increments.
 */
allLayers: boolean, 
/**
 * Relative dose.
 */
dose: number, coefficient: number, 
/**
 * The same in nats a token.
 */
nats: Estimate | null, answers: number, 
/**
 * Questions with a coherent answer.
 */
coherent: number, 
/**
 * Share of the answers.
 */
incoherent: number, 
/**
 * Why: too unlikely, too likely, repetitive, empty.
 */
incoherentBy: [number, number, number, number], 
/**
 * Perplexity of the answers under the unsteered model; `None` when every answer is empty.
 */
perplexity: number, 
/**
 * Mean KL(steered‖unsteered) along the answers, nats a token; `None` where it was not measured.
 */
kl: number, distinct1: number, distinct2: number, distinct3: number, texts: Array<JudgedAnswer>, evidence: number, low: number, high: number, };

/**
 * Where and how far a sweep pushes.
 */
export type SweepSettings = { 
/**
 * Empty: four, at 37, 47, 57 and 67 % of the model's depth.
 */
layers: Array<number>, 
/**
 * Relative doses; below 0: against the trait. Empty: 0.1, 0.2 and 0.3.
 */
doses: Array<number>, 
/**
 * Also all layers at once, by increments.
 */
allLayers: boolean, 
/**
 * Every layer, all layers at once, doses on both sides, every question and every unseen pair: hours.
 */
thorough?: boolean, 
/**
 * Evaluation questions to ask (8).
 */
questions?: number, 
/**
 * Tokens an answer (32).
 */
maxTokens?: number, 
/**
 * Instruction pairs that evidence is measured with, of those that extraction did not see (at most 2).
 */
pairs?: number, 
/**
 * Pairs that extraction used, from the first on (what the vector file says, else all).
 */
extractionPairs?: number, 
/**
 * Unsteered answers to each question (3): the unit of effects and the coherence band come from them.
 */
neutralSamples?: number, 
/**
 * What counts as coherent.
 */
coherence?: CoherenceCriteria, 
/**
 * Which tokens are pushed (response).
 */
scope?: Scope, 
/**
 * Which of the vector file's tensors is meant (its default).
 */
tensor?: string, 
/**
 * Whether records of another study are refused, rather than passed over.
 */
refuseOtherRecords?: boolean, };

/**
 * Which responses count. Changing them writes nothing anew.
 */
export type Thresholds = { 
/**
 * A positive response needs at least this evidence, a negative one at most its negation; in standard
 * deviations of neutral answers' evidence.
 */
evidence: number, 
/**
 * As [`CoherenceCriteria`] has them.
 */
deviations: number, distinct2: number, };

/**
 * One token.
 */
export type Token = { id: number, 
/**
 * What it adds to the text; empty for a token that ends inside a character (the next one carries it).
 */
text: string, 
/**
 * Tokens of the `template` are the chat template's own; they are not coloured.
 */
part: Part, 
/**
 * Natural log-probability that the model gave it: in this run, or, for prompt tokens of a steered column, when the
 * unsteered model read it. NaN for the first token.
 */
logprob: number, 
/**
 * What else was likely in its place, best first, the token itself included where it is among them.
 */
alternatives: Array<Alternative>, };

/**
 * An entry of the vocabulary.
 */
export type TokenId = number;

export type TraceResult = { ids: Uint32Array, 
/**
 * `[L+1, T, d]`, row-major.
 */
residual: Float32Array, shape: [number, number, number], };

export type TrainEvent = { "kind": "step", steps: number, secondsLeft?: number, 
/**
 * From 1 on.
 */
step: number, 
/**
 * Mean negative log-likelihood of the step's response tokens before its change, in nats.
 */
loss: number, 
/**
 * Mean penalty, which is not part of the loss.
 */
penalty: number, learningRate: number, 
/**
 * Tokens read, those of the prompts included.
 */
tokens: number, } | { "kind": "heldout" } & HeldOut | { "kind": "arrival" } & Arrival | { "kind": "state", state: Uint8Array, step: number, };

/**
 * A penalty on how far training moves the state along a trait.
 */
export type TrainPenalty = { trait: string, layer: number, 
/**
 * `λ` of `λ · ((h − h_base) · v̂)²`.
 */
weight: number, };

export type TrainRequest = { rows: Array<Conversation>, settings: TrainSettings, 
/**
 * The push that acts in training, as in an answer; nothing of it is in the adapter.
 */
plan: Array<SteeringTerm>, penalty?: TrainPenalty, 
/**
 * Neutral answers of the base model over which the shift along every trait of the session is read as training goes on (6);
 * 0: none.
 */
watched?: number, 
/**
 * From an earlier [`TrainEvent::State`], to go on from.
 */
state?: Bytes, 
/**
 * sha256 of the dataset's file, for whoever reads the adapter's.
 */
dataSha256?: string, };

/**
 * How to train; what is absent is as usual.
 */
export type TrainSettings = { 
/**
 * Rank of the adapter (8).
 */
rank?: number, 
/**
 * `α` of the adapter's scale (16).
 */
alpha?: number, 
/**
 * Whether the scale is `α/√r` in place of `α/r`.
 */
rankStabilised?: boolean, 
/**
 * First and last of the zero-based blocks that get an adapter (from 27 % of the depth to the last: a shift along a trait shows only
 * above the lowest adapter).
 */
blocks?: [number, number], 
/**
 * Matrices that get an adapter (all seven).
 */
targets?: Array<string>, 
/**
 * Passes over the rows (4).
 */
epochs?: number, 
/**
 * Rows of one step (6).
 */
rowsAStep?: number, 
/**
 * AdamW's (0.0005), which falls to 0 linearly.
 */
learningRate?: number, 
/**
 * Steps over which it rises from 0 (0).
 */
warmupSteps?: number, 
/**
 * Seed of the adapter and of the rows' order (0).
 */
seed?: number, 
/**
 * Share of the rows that is not trained on, and by which the held-out loss is measured (0).
 */
heldOut?: number, };

/**
 * A step of training.
 */
export type TrainStep = { 
/**
 * From 1 on.
 */
step: number, 
/**
 * Mean negative log-likelihood of the step's response tokens before its change, in nats.
 */
loss: number, 
/**
 * Mean penalty, which is not part of the loss.
 */
penalty: number, learningRate: number, 
/**
 * Tokens read, those of the prompts included.
 */
tokens: number, };

/**
 * A finished run: the adapter's two files, as PEFT names them, and what happened.
 */
export type Trained = { 
/**
 * `adapter_config.json`
 */
config: Uint8Array, 
/**
 * `adapter_model.safetensors`
 */
weights: Uint8Array, 
/**
 * sha256 of the weights' file, by which links and caches name the adapter.
 */
sha256: string, 
/**
 * Rows that were trained on.
 */
rows: number, steps: Array<TrainStep>, heldOut: Array<HeldOut>, arrivals: Array<Arrival>, };

/**
 * A trait of the session.
 */
export type Trait = { 
/**
 * `cheerful`
 */
name: string, 
/**
 * `gloomy`
 */
opposite: string, description: string, 
/**
 * Hash of the vector's tensor.
 */
hash: string, 
/**
 * How the vector was made, in words; empty where nobody knows.
 */
made: string, recommended: Recommended, 
/**
 * Whether the vector's file recommends that: else it is a usual place to begin, which nobody tried.
 */
tested: boolean, 
/**
 * By layer, the relative dose of coefficient 1: `‖v_l‖ / median neutral ‖h_l‖`; NaN where it is not known.
 */
dosePerUnit: Float32Array, };

/**
 * Cosines between all traits of the session, `[n, n]`.
 */
export type TraitCosines = { layer: number, names: Array<string>, values: Float32Array, };

/**
 * A named character trait: what to tell the model so that it shows the trait or its opposite, and
 * questions that draw it out. The layout follows the persona vectors paper (arXiv 2507.21509,
 * section 2.1): 5 pairs of instructions, 20 questions to extract from and 20 to evaluate on.
 * `models/traits/schema.json` says the same to editors and other programs.
 */
export type TraitPack = { 
/**
 * `cheerful`; lower-case letters, digits and hyphens.
 */
name: string, 
/**
 * `gloomy`
 */
opposite: string, description: string, 
/**
 * At least [`MIN_PAIRS`].
 */
instructions: Array<InstructionPair>, questions: Questions, 
/**
 * SPDX expression, or its `NOASSERTION` where nobody has said.
 */
licence: string, };

/**
 * Everything that is known about a trait; null where nothing was found out yet.
 */
export type TraitReport = { pack: TraitPack, 
/**
 * Name for people.
 */
made: string, modelSha256: string, settings: ResponseSettings, thresholds: Thresholds, responses: Array<ContrastResponse>, extraction: ExtractionReport, sweep: SweepReport | null, controls: ControlReport | null, prediction: Prediction | null, };

/**
 * What a screen came to for one trait, in deviations of neutral answers where these are known.
 */
export type TraitScreen = { 
/**
 * The dataset's projection difference: the mean over its rows, with its 95 % interval.
 */
difference?: Estimate, histogram?: Histogram, 
/**
 * With which area under the ROC curve the differences tell flagged labels from the others.
 */
differenceAuroc?: Estimate, 
/**
 * The same of the given answers' projections alone.
 */
givenAuroc?: Estimate, name: string, 
/**
 * Hash of the vector's tensor.
 */
hash: string, 
/**
 * Layer that is read.
 */
layer: number, 
/**
 * Standard deviation of neutral answers' projections there: the unit of what is shown.
 */
deviation?: number, };

/**
 * How far a tuned model's states lie from the base model's along a trait, in deviations of what is ordinary for the base model.
 */
export type TraitShift = { 
/**
 * At the last token of the prompt.
 */
prompt?: Estimate, 
/**
 * Mean over the tokens of the base model's own answers.
 */
response?: Estimate, name: string, 
/**
 * Hash of the vector's tensor.
 */
hash: string, 
/**
 * Layer that is read.
 */
layer: number, 
/**
 * Standard deviation of neutral answers' projections there: the unit of what is shown.
 */
deviation?: number, };

export type VectorMove = { 
/**
 * By layer, from layer 0 on.
 */
layers: Array<LayerMove>, 
/**
 * Answers of the positive and of the negative side.
 */
answers: [number, number], };

export type VectorRequest = { pack: TraitPack, contrast: Uint8Array, thresholds: Thresholds, };

export type Verdict = { ruling: Ruling, sentence: string, movement: Movement, chance: Chance, specificity: Specificity, witnesses: Array<Witness>, wholeness: Wholeness, otherSide: OtherSide, criteria: VerdictCriteria, };

/**
 * What a vector has to show.
 */
export type VerdictCriteria = { 
/**
 * Fewest questions with a coherent answer under the vector.
 */
minQuestions: number, 
/**
 * Least effect worth the name, in deviations of neutral answers' evidence.
 */
minEffect: number, 
/**
 * Fewest shuffled-label directions to compare with.
 */
minShuffled: number, 
/**
 * Largest share `(1 + k) / (1 + n)`, where `k` of `n` shuffled-label directions move evidence as far as the
 * vector, in whichever sense: the p-value of a randomisation test.
 */
maxRank: number, 
/**
 * Least |cosine| at the layer with which another trait's vector is a relative, not a rival.
 */
relativeCosine: number, 
/**
 * Largest share of broken answers under the vector.
 */
maxBroken: number, 
/**
 * Least area under the curve, on held-out contrast texts, with which a witness has a say.
 */
minAuc: number, };

/**
 * *Is it still text?*
 */
export type Wholeness = { finding: Finding, broken: number, answers: number, };

/**
 * *Would a reader say so?*
 */
export type Witness = { kind: WitnessKind, 
/**
 * `CannotTell` also where the witness has no say.
 */
finding: Finding, 
/**
 * Area under the curve on held-out contrast texts.
 */
auc: Estimate | null, hasSay: boolean, 
/**
 * Log-odds of steered answers above unsteered ones to the same questions, nats.
 */
shift: Estimate | null, 
/**
 * Words that carry the shift, the weightiest first, with their share of it.
 */
words: Array<[string, number]>, };

/**
 * A reader other than the model's own evidence.
 */
export type WitnessKind = "words" | "choice";

/**
 * How far a push at one place works.
 */
export type WorkingRange = { 
/**
 * Largest dose at which the text is whole and evidence has not turned back; 0 if there is none.
 */
end: number, 
/**
 * The dose within the range that has the most evidence, and that evidence.
 */
bestDose: number, bestEffect: number, 
/**
 * The smallest dose tried at which the text breaks.
 */
breaksAt: number | null, 
/**
 * The smallest dose tried at which evidence has turned back although the text is whole.
 */
turnsAt: number | null, };

export type WriteRequest = { pack: TraitPack, settings: ResponseSettings, 
/**
 * A set that was stopped, to go on with.
 */
contrast?: Uint8Array, };

export interface StudioVerbs {
  /** Runs the columns together, token by token. Another plan acts from the next token on that is not yet queued. A stop ends
   * the answers, which are still re-read; another one ends that, too. */
  generate(request: GenerateRequest, onEvent?: (event: GenerateEvent) => void): Promise<Array<ColumnResult>>;
  /** Token ids of a rendered conversation. */
  tokenize(messages: Messages, addGenerationPrompt: boolean): Promise<Ids>;
  /** How likely the model finds each token. */
  score(ids: Ids, onEvent?: (event: ReadingEvent) => void): Promise<ScoreResult>;
  /** The residual stream at every layer for every token. `prompt_length` (all) tells prompt from response for plans that act
   * on one of them. */
  trace(ids: Ids, plan?: Array<SteeringTerm>, promptLength?: number, onEvent?: (event: ReadingEvent) => void): Promise<TraceResult>;
  /** Where the time of a token after `context` others (100) goes on a graphics device with timestamps, over `tokens` (4) of
   * them. */
  profile(context?: number, tokens?: number): Promise<ProfileResult>;
  /** Mean-difference vectors from given conversations: the bytes of a vector file. */
  extract(pairs: Array<ContrastPair>, onEvent?: (event: ReadingEvent) => void): Promise<Bytes>;
  /** Gives a vector file the calibration and the norms that readings and doses are measured by. The model's neutral answers
   * are written first as far as they are missing. */
  calibrate(vector: Bytes, onEvent?: (event: ReadingEvent) => void): Promise<Calibrated>;
  /** Takes the model's neutral answers from a file, so that nothing has to write them again. */
  takeNeutralAnswers(file: Bytes): Promise<void>;
  /** Adds a vector file as a trait. */
  addVector(name: string, file: Bytes): Promise<Trait>;
  /** Adds a control, `random SEED (LIKE)`: a direction drawn by chance, at each layer as long as the trait `like`. Tokens
   * have no readings of it. */
  addRandomTrait(like: string, seed: number): Promise<Trait>;
  /** Lets go of traits, so that there is room for others; the rest keep their order. */
  removeTraits(names: Array<string>): Promise<void>;
  /** Opens a link, or its code alone. */
  openLink(link: string): Promise<OpenedLink>;
  /** A recipe as a link's code, to be put after `#r=`. A trait that travels in it has to be one of the session's. */
  makeLink(recipe: SharedRecipe): Promise<string>;
  /** Forces a link's tokens through the loaded model, which must be the link's. */
  replayLink(request: ReplayRequest, onEvent?: (event: ReplayEvent) => void): Promise<Replayed>;
  /** A pack to edit, from templates; `description` and `against` say how each side shows. */
  draftTrait(name: string, description: string, opposite: string, against: string): Promise<TraitPack>;
  /** Parses and checks a pack's JSON; an error begins with the field's name. */
  checkTrait(json: string): Promise<TraitPack>;
  /** Writes and judges the responses, or goes on with a set that was stopped. A stop ends it with what is there. */
  writeResponses(request: WriteRequest, onEvent?: (event: ResponseEvent) => void): Promise<ContrastSet>;
  /** Vectors by every estimator from the responses that pass. Other thresholds write nothing anew. */
  makeVector(request: VectorRequest, onEvent?: (event: ResponseEvent) => void): Promise<Extraction>;
  /** Opens a contrast set that comes from a file. */
  openContrast(bytes: Bytes): Promise<OpenedContrast>;
  /** One tensor of a vector file (the mean difference where none is named) as a GGUF control vector for llama.cpp and
   * repeng. Its layers begin at our layer 2: layers 0 and 1 cannot be exported. */
  exportControlVector(vector: Bytes, tensor?: string): Promise<Bytes>;
  /** A GGUF control vector as a vector file for the loaded model. Layers that it leaves out are zero. */
  importControlVector(gguf: Bytes): Promise<Bytes>;
  /** Tries a vector at several layers and doses, for its effect on the trait and its cost. A stop ends a study with a failure of
   * kind `usage`, after the event with its `records`. */
  sweepTrait(request: SweepRequest, onEvent?: (event: StudyEvent) => void): Promise<Sweep>;
  /** What meaningless directions of the same length do where a vector is recommended. */
  controlTrait(request: ControlRequest, onEvent?: (event: StudyEvent) => void): Promise<Controls>;
  /** Whether the reading of the last prompt token tells what the answer will be like. */
  predictTrait(request: PredictRequest, onEvent?: (event: StudyEvent) => void): Promise<Prediction>;
  /** Cosines between all traits, at `layer` or the first trait's recommended one. */
  compareTraits(layer?: number): Promise<TraitCosines>;
  /** The rows of a dataset, JSON Lines of conversations; an error names the line. */
  openDataset(file: Bytes): Promise<OpenedDataset>;
  /** How far each row's answer, and the model's own answer to the same prompt, lie along every trait of the session. A stop ends it
   * with a failure of kind `usage`, after the rows that are done. */
  screen(request: ScreenRequest, onEvent?: (event: ScreenEvent) => void): Promise<Screened>;
  /** What a screen came to, of the rows that are screened so far. */
  summariseScreen(request: SummaryRequest): Promise<ScreenOverview>;
  /** Trains an adapter of the loaded model, on the processor. A stop ends it with a failure of kind `usage`, after its `state`,
   * from which the same request goes on. */
  train(request: TrainRequest, onEvent?: (event: TrainEvent) => void): Promise<Trained>;
  /** Adds an adapter by the two files of its PEFT directory, so that plans can name it. */
  addAdapter(name: string, config: Bytes, weights: Bytes): Promise<Adapter>;
  /** Lets go of adapters. */
  removeAdapters(names: Array<string>): Promise<void>;
  /** The questions of a file of JSON Lines with several answers each. */
  openQuestions(file: Bytes): Promise<Array<KnowledgeQuestion>>;
  /** Holds the model under a plan (an adapter, a push) against the base model: shifts, evidence, likelihood, knowledge. */
  shift(request: ShiftRequest, onEvent?: (event: StudyEvent) => void): Promise<ShiftReport>;
  /** How the vector of given conversations lies in the model under a plan (an adapter) to the one in the base model, by layer. */
  extractAnew(pairs: Array<ContrastPair>, plan: Array<SteeringTerm>, onEvent?: (event: ReadingEvent) => void): Promise<VectorMove>;
  /** Everything that a trait's report says. */
  openReport(json: Bytes): Promise<TraitReport>;
}

/** How many things a verb takes, whether it tells events, and whether it needs no model and waits for no other verb. */
export const STUDIO_VERBS = {
  generate: { inputs: 1, listens: true, immediate: false },
  tokenize: { inputs: 2, listens: false, immediate: false },
  score: { inputs: 1, listens: true, immediate: false },
  trace: { inputs: 3, listens: true, immediate: false },
  profile: { inputs: 2, listens: false, immediate: false },
  extract: { inputs: 1, listens: true, immediate: false },
  calibrate: { inputs: 1, listens: true, immediate: false },
  takeNeutralAnswers: { inputs: 1, listens: false, immediate: false },
  addVector: { inputs: 2, listens: false, immediate: false },
  addRandomTrait: { inputs: 2, listens: false, immediate: false },
  removeTraits: { inputs: 1, listens: false, immediate: false },
  openLink: { inputs: 1, listens: false, immediate: true },
  makeLink: { inputs: 1, listens: false, immediate: false },
  replayLink: { inputs: 1, listens: true, immediate: false },
  draftTrait: { inputs: 4, listens: false, immediate: true },
  checkTrait: { inputs: 1, listens: false, immediate: true },
  writeResponses: { inputs: 1, listens: true, immediate: false },
  makeVector: { inputs: 1, listens: true, immediate: false },
  openContrast: { inputs: 1, listens: false, immediate: true },
  exportControlVector: { inputs: 2, listens: false, immediate: true },
  importControlVector: { inputs: 1, listens: false, immediate: false },
  sweepTrait: { inputs: 1, listens: true, immediate: false },
  controlTrait: { inputs: 1, listens: true, immediate: false },
  predictTrait: { inputs: 1, listens: true, immediate: false },
  compareTraits: { inputs: 1, listens: false, immediate: false },
  openDataset: { inputs: 1, listens: false, immediate: true },
  screen: { inputs: 1, listens: true, immediate: false },
  summariseScreen: { inputs: 1, listens: false, immediate: true },
  train: { inputs: 1, listens: true, immediate: false },
  addAdapter: { inputs: 3, listens: false, immediate: false },
  removeAdapters: { inputs: 1, listens: false, immediate: false },
  openQuestions: { inputs: 1, listens: false, immediate: true },
  shift: { inputs: 1, listens: true, immediate: false },
  extractAnew: { inputs: 2, listens: true, immediate: false },
  openReport: { inputs: 1, listens: false, immediate: true },
} as const satisfies Record<keyof StudioVerbs, { inputs: number; listens: boolean; immediate: boolean }>;
