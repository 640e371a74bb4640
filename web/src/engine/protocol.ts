/**
 * What the page and its worker say to each other. Plain objects and typed arrays only; every
 * number shown on the page was computed in Rust or WGSL and arrives here ready to draw.
 */

import type { Backend, Failure, LoadedModel as StudioModel, Precision, ReplayEvent, Replayed, SteeringTerm, StudioVerbs, SweepSettings as StudioSweep, TraitReport } from "./studio.ts";

export type * from "./studio.ts";

export type Plan = SteeringTerm[];
/** What the page asks a sweep for: it leaves neither questions nor lengths to what is usual. */
export type SweepSettings = StudioSweep & { questions: number; maxTokens: number };
/** A term as links have it: its layers are named. */
export type SharedTerm = SteeringTerm;

export type Role = "system" | "user" | "assistant";

export interface Message {
  role: Role;
  content: string;
}

/** How the numbers of a Hugging Face folder are stored here: in blocks of 4 or of 8 bits. */
export type Quantisation = "q4" | "q8";

/** Where a model comes from: the catalogue (downloaded, checked, cached), files of the visitor's own, or what was made of such files before. */
export type ModelSource =
  | { kind: "catalogue"; id: string }
  | { kind: "directory"; files: File[]; quantisation?: Quantisation }
  | { kind: "own"; id: string };

/** A model that somebody opened, before its weights are read. */
export interface ModelDescription {
  name: string;
  /** Null where the files do not say. */
  licence: string | null;
  /** Name of the file or folder. */
  source: string;
  /** Remarks on what a conversion changes or cannot keep. */
  notes: string[];
  modelType: string;
  /** Numbers that were trained. */
  parameters: number;
  layers: number;
  hiddenSize: number;
  /** Longest conversation that the model was made for, in tokens. */
  context: number;
  /** Bytes of the model as it would be kept: as it is, and quantised where it can be. */
  bytes: ByForm<number>;
  /** Whether this machine has room for it. */
  room: ByForm<Room>;
}

/** Of a model as it is, and quantised where it can be. */
export interface ByForm<T> {
  kept: T;
  q8: T | null;
  q4: T | null;
}

/** What a model needs where it would run, and whether there is so much. */
export interface Room {
  fits: boolean;
  weightBytes: number;
  /** What a token of conversation takes in the cache. */
  cacheBytesPerToken: number;
  /** Tokens that a conversation may have here. */
  context: number;
  /** What to know, and what to do where it does not fit. */
  sentences: string[];
}

/** What a model would be loaded with, and what there is for it as far as the browser says. */
export interface RoomWanted {
  /** Absent: the graphics device where there is a real one. */
  backend?: Backend;
  precision: Precision;
  context?: number;
  /** Most bytes of a buffer that the graphics device binds; absent without one that would be used. */
  largestBuffer?: number;
  /** Of the machine, in bytes. */
  memory?: number;
}

/** A file of a model on the Hugging Face hub. */
export interface HubFile {
  path: string;
  address: string;
  bytes: number;
  /** Null for small files, of which the hub lists none. */
  sha256: string | null;
  /** Why the model in this form has no room here, where its length alone tells. */
  tooLarge?: string;
}

/** A model on the Hugging Face hub. */
export interface HubModel {
  /** `owner/name` */
  name: string;
  /** Its page. */
  page: string;
  /** As its owner states it; null where nobody does. */
  licence: string | null;
  /** Files that make the model together, or of which each is the model in another form. */
  files: { model: HubFile[] } | { oneOf: HubFile[] };
  /** The version that the files are of. */
  commit: string;
}

export interface LoadOptions {
  backend: Backend | "auto";
  precision: Precision;
  /** Tokens a conversation may hold; absent: as many as the model and the device allow. */
  context?: number;
}

/**
 * `download` has bytes from the network (or the cache), `prepare` bytes given to the device; of a model that is converted, `check` has
 * bytes of the visitor's files that were hashed, `convert` bytes of the weights that are kept.
 */
export interface LoadProgress {
  phase: "download" | "check" | "convert" | "prepare";
  bytesDone: number;
  bytesTotal: number;
  /** Absent until it can be told. */
  secondsLeft?: number;
  fromCache: boolean;
}

export interface ModelCard {
  id: string;
  /** Whether it was converted here from files of the visitor's own. */
  own: boolean;
  name: string;
  /** Of the weights. */
  sha256: string;
  licence: string;
  source: string;
  downloadBytes: number;
  cached: boolean;
  /** Names of the ready-made traits that a report tells of. */
  reports: string[];
}

/** The loaded model, and what the page knows of its device. */
export interface LoadedModel extends StudioModel {
  /** How the graphics device did when it was tried; absent where it was not. */
  trial?: DeviceTrial;
  /** Name of a graphics device that was not tried, because it is a program on the processor and nobody asked for it. */
  untried?: string;
}

/** The graphics device, tried out with a small stand-in for the model before it was loaded. */
export interface DeviceTrial {
  /** What compiling took; absent where the device was slower at an earlier visit, so that it was left alone. */
  compileMilliseconds?: number;
  /** What the check of every kernel against the processor took; absent where the device was the slower one, which is not used. */
  checkMilliseconds?: number;
  /** Of one answer, as far as the stand-in can tell; absent where it was not timed. */
  tokensPerSecond?: TokensPerSecond;
  /** Which of the kernels' variants the device is given: the fastest by a short timing, or the likely one where compiling them takes long. */
  variant?: string;
}

/** What is kept of a device. */
export type DeviceFigures = TokensPerSecond & Pick<DeviceTrial, "variant">;

export interface TokensPerSecond {
  gpu: number;
  cpu: number;
}

/** A file of a model in the browser's storage. */
export interface StoredFile {
  sha256: string;
  bytes: number;
  /** The catalogue's id of its model; null where no model of the catalogue has it. */
  model: string | null;
}

/** Bytes in use. WebAssembly memory never shrinks, so `wasmBytes` is also its peak. */
export interface Memory {
  wasmBytes: number;
  /** What the engine counts as allocated on the graphics device (weights, caches, buffers); 0 without a model, and on the processor, whose memory is `wasmBytes`. */
  deviceBytes: number;
}

/** The client's methods. Implemented by `client.ts` over the worker; also what `globalThis.trimtab` offers. */
export interface Engine extends Omit<StudioVerbs, "replayLink" | "openReport"> {
  /** What could be loaded, and what is already cached. */
  catalogue(): Promise<ModelCard[]>;
  /**
   * What the files of a model are, what the model needs, and whether there is so much for it where `options` would have it run; of the
   * weights, the headers alone are read. Null for files that need no conversion and say what they are.
   */
  describeModel(files: File[], options?: LoadOptions): Promise<ModelDescription | null>;
  /** What the Hugging Face hub has under a name (`owner/name[@revision][:file]`), and what of it has no room where `options` would have it run. Asks the hub, and needs the network. */
  lookUpModel(name: string, options?: LoadOptions): Promise<HubModel>;
  /** Fetches such files, and gives them as if they had been chosen. {@link cancelLoad} ends it; what has arrived is kept. */
  fetchModel(name: string, files: HubFile[], onProgress: (progress: LoadProgress) => void): Promise<File[]>;
  load(source: ModelSource, options: LoadOptions, onProgress: (progress: LoadProgress) => void): Promise<LoadedModel>;
  cancelLoad(): Promise<void>;
  /** Gives the last answer that was asked for and is not there yet another plan for its steered column, from the next token not yet queued. */
  setPlan(plan: Plan): Promise<void>;
  /** Ends everything of the model's that was asked for and is not there yet. */
  stop(): Promise<void>;
  /** Forces a link's tokens through the loaded model, which must be the link's. */
  replayLink(link: string, onEvent: (event: ReplayEvent) => void): Promise<Replayed>;
  removeCached(id: string): Promise<void>;
  /** Model files in the browser's storage, also of models that the catalogue no longer has and of downloads that broke off. */
  storedFiles(): Promise<StoredFile[]>;
  /** Removes such files by their SHA-256. */
  removeStored(sha256: string[]): Promise<void>;
  memory(): Promise<Memory>;
  /** Called when the device is lost or the worker dies. */
  onFailure(listener: (failure: Failure) => void): void;
  /** Everything known about a ready-made trait: null where no report was made yet. */
  traitReport(name: string): Promise<TraitReport | null>;
}
