/** The worker: everything heavy, one call after another; `setPlan`, `stop` and `cancelLoad` get through at once. */
import type { InitOutput, Trimtab } from "../generated/simd/trimtab_wasm.js";
import { chooseBackend, type Choice } from "./adapter.ts";
import { CONFIG, readCatalogue, WEIGHTS, type ModelEntry } from "./catalogue.ts";
import type { FileEntry } from "./download.ts";
import { EarlyWishes } from "./early_wishes.ts";
import { EngineFailure, toFailure } from "./failure.ts";
import { recall, remember } from "./measured.ts";
import { Meter } from "./meter.ts";
import { dropUnreadable, isCached, obtainModel, removeModel, type ModelFiles, type Tools } from "./model_files.ts";
import { ownModel } from "./own_folder.ts";
import { pageFiles } from "./page_files.ts";
import type { Backend, DeviceTrial, Failure, GenerateEvent, LoadedModel, LoadOptions, LoadProgress, ModelSource, OpenedLink, ReplayEvent, ResponseEvent, StudyVerbs, Trait, TraitPack, TraitReport } from "./protocol.ts";
import { openProgram, type Program } from "./program.ts";
import { parseTraitReport } from "./trait_report.ts";
import { fatalAlarm, transferable, type Call, type FromWorker, type Verb, type Verbs } from "./rpc.ts";
import type { StoreChain } from "./store_chain.ts";

const files = pageFiles();
const MAX_VECTOR_BYTES = 64 << 20;

const post = (message: FromWorker, transfer: Transferable[] = []) => {
  (self as unknown as { postMessage(message: FromWorker, transfer: Transferable[]): void }).postMessage(message, transfer);
};

let fatal = false;
const die = (message: string) => {
  if (fatal) return;
  fatal = true;
  post(fatalAlarm(message));
};

self.addEventListener("error", (event) => {
  die(event.message);
});
self.addEventListener("unhandledrejection", (event) => {
  die(toFailure(event.reason).message);
});

/** Resolves after the messages that wait have been handled; timers would take 4 ms. */
const pause = (() => {
  const { port1, port2 } = new MessageChannel();
  const waiting: (() => void)[] = [];
  port1.onmessage = () => waiting.shift()?.();
  return () =>
    new Promise<void>((resolve) => {
      waiting.push(resolve);
      port2.postMessage(null);
    });
})();

interface Started {
  program: Program;
  wasm: InitOutput;
  trimtab: Trimtab;
}

let started: Promise<Started> | undefined;

/** Compiles the program once. */
function start(): Promise<Started> {
  started ??= openProgram(files.fetch, (thread) => {
    post({ thread }, [thread]);
  }).then(
    ({ program, wasm }) => {
      program.onPanic(die);
      return { program, wasm, trimtab: new program.Trimtab(pause) };
    },
    (error: unknown) => {
      started = undefined;
      if (error instanceof EngineFailure) throw error;
      const reason = error instanceof Error ? error.message : String(error);
      throw new EngineFailure("download", `The page's own program could not be loaded (${reason}). Check the connection and reload the page.`);
    },
  );
  return started;
}

let opened: Promise<StoreChain> | undefined;
let entries: Promise<ModelEntry[]> | undefined;
let loading: AbortController | undefined;

/** Where model files are kept. */
function store(): Promise<StoreChain> {
  opened ??= files.openStores(async () => new (await start()).program.Hasher());
  return opened;
}

async function readEntries(): Promise<ModelEntry[]> {
  entries ??= readCatalogue(files.fetch, files.models);
  try {
    return await entries;
  } catch (error) {
    entries = undefined;
    throw error;
  }
}

async function entryOf(id: string): Promise<ModelEntry> {
  const entry = (await readEntries()).find((one) => one.id === id);
  if (!entry) throw new EngineFailure("usage", `There is no model ${JSON.stringify(id)} in this page's catalogue.`);
  return entry;
}

async function tools(): Promise<Tools> {
  const { program } = await start();
  return { store: await store(), fetch: files.fetch, hasher: () => new program.Hasher() };
}

/** A file of the catalogue's folder of vectors, checked. */
async function vectorsFile(entry: FileEntry, signal?: AbortSignal): Promise<Uint8Array> {
  const { Hasher } = (await start()).program;
  if (entry.bytes > MAX_VECTOR_BYTES) throw new Error("it is larger than any that is read");
  // With its hash in the address, so that what is kept of it is never another version's.
  const url = `${files.models}vectors/${entry.name}?sha256=${entry.sha256}`;
  const response = await files.fetch(url, signal && { signal });
  if (!response.ok) throw new Error(`the server answered ${String(response.status)}`);
  const bytes = new Uint8Array(await response.arrayBuffer());
  const hasher = new Hasher();
  hasher.update(bytes);
  if (hasher.finish() !== entry.sha256) {
    await files.forget(url);
    throw new Error("its SHA-256 is not the promised one");
  }
  return bytes;
}

/** The catalogue's vector files of a model, checked; one that cannot be had is left out, with a sentence. */
async function readyVectors(vectors: readonly FileEntry[], signal: AbortSignal, notices: string[]): Promise<{ name: string; bytes: Uint8Array }[]> {
  const fetched = vectors.map(async (entry) => {
    try {
      return { name: entry.name.replace(/\.safetensors$/, ""), bytes: await vectorsFile(entry, signal) };
    } catch (error) {
      signal.throwIfAborted();
      const reason = error instanceof Error ? error.message : String(error);
      notices.push(`The ready-made trait ${entry.name} could not be loaded (${reason}), so it is missing here. Reload the page to try again.`);
      return undefined;
    }
  });
  return (await Promise.all(fetched)).filter((vector) => vector !== undefined);
}

interface Found extends ModelFiles {
  name: string;
  licence: string;
  /** What the catalogue offers beside the model. */
  ready: ReadyMade;
}

type ReadyMade = Pick<ModelEntry, "vectors" | "reports" | "replaced">;
const NOTHING: ReadyMade = { vectors: [], reports: [], replaced: [] };
/** Of the loaded model. */
let ready = NOTHING;

/** What is known about a ready-made trait; null where nothing is. */
async function traitReport(name: string): Promise<TraitReport | null> {
  const entry = ready.reports.find((report) => report.name === `${name}.report.json`);
  if (!entry) return null;
  try {
    return parseTraitReport(new TextDecoder().decode(await vectorsFile(entry)));
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new EngineFailure("download", `The report on ${name} could not be read (${reason}). Reload the page to try again.`);
  }
}

/** The vectors that a link names and that newer ones of their names took the place of. */
async function olderVectors(link: string): Promise<Uint8Array[]> {
  const opened = (await start()).program.openLink(link) as OpenedLink;
  if (opened.kind !== "recipe") return [];
  const named = new Set(opened.recipe.traits.map(({ hash }) => `${String(hash)}.safetensors`));
  return Promise.all(
    ready.replaced
      .filter(({ name }) => named.has(name))
      .map((entry) =>
        vectorsFile(entry).catch((error: unknown) => {
          const reason = error instanceof Error ? error.message : String(error);
          throw new EngineFailure("download", `A trait that the link was made with could not be loaded (${reason}). Try again where the page can be reached.`);
        }),
      ),
  );
}

async function findFiles(source: ModelSource, signal: AbortSignal, onConfig: (config: Blob) => void, onProgress: (progress: LoadProgress) => void): Promise<Found> {
  const own = await tools();
  if (source.kind === "catalogue") {
    const entry = await entryOf(source.id);
    const found = await obtainModel(entry, files.models, own, signal, onConfig, onProgress);
    return { ...found, name: entry.name, licence: entry.licence, ready: entry };
  }
  const config = source.files.find(({ name }) => name === CONFIG);
  if (config) onConfig(config);
  const found = await ownModel(source.files, own, signal, onProgress);
  // The same weights deserve the same traits, wherever they lay.
  const twin = await readEntries().then(
    (all) => all.find((entry) => entry.files.some((file) => file.sha256 === found.sha256)),
    () => undefined,
  );
  return { ...found, ready: twin ?? NOTHING };
}

/** Failures that another backend does not share. */
const ofTheDevice: ReadonlySet<Failure["kind"]> = new Set<Failure["kind"]>(["no-webgpu", "device-lost", "out-of-memory", "wrong-numbers", "internal"]);

/** Tries the graphics device while the weights are still on their way: of the model, its `config.json` is enough. */
async function choose(options: LoadOptions, config: Promise<Blob>): Promise<Choice> {
  const { precision } = options;
  const { trimtab } = await start();
  const measured = async (adapter: string) => ({ adapter, precision, model: await (await config).text() });
  return chooseBackend(options.backend, {
    run: async (timed, variant) => {
      const bytes = new Uint8Array(await (await config).arrayBuffer());
      return (await trimtab.tryDevice(bytes, precision, timed, variant)) as DeviceTrial;
    },
    recall: async (adapter) => recall(await measured(adapter)),
    remember: async (adapter, figures) => remember(await measured(adapter), figures),
  });
}

async function load(source: ModelSource, options: LoadOptions, onProgress: (progress: LoadProgress) => void): Promise<LoadedModel> {
  const abort = new AbortController();
  loading = abort;
  const { signal } = abort;
  try {
    const { trimtab } = await start();
    let onConfig: (config: Blob) => void = () => undefined;
    const config = new Promise<Blob>((resolve) => (onConfig = resolve));
    const choosing = choose(options, config);
    // Where the files cannot be had, that is what is told.
    choosing.catch(() => undefined);
    let found = await findFiles(source, signal, onConfig, onProgress);
    if (!found.files.has(CONFIG)) throw new EngineFailure("corrupt-model", `The model has no ${CONFIG}; choose another one.`);
    const choice = await choosing;
    const notices = [...choice.notices];
    const vectors = await readyVectors(found.ready.vectors, signal, notices);
    // Read now, to be kept: when they are asked for there may be no network.
    await Promise.allSettled([...found.ready.reports, ...found.ready.replaced].map((entry) => vectorsFile(entry, signal)));
    signal.throwIfAborted();
    const openFound = (backend: Backend) => {
      let meter: Meter | undefined;
      const prepared = ({ bytesDone, bytesTotal }: { bytesDone: number; bytesTotal: number }) => {
        meter ??= new Meter("prepare", bytesTotal, onProgress);
        meter.update(bytesDone, bytesDone, true);
      };
      const { name, licence, sha256 } = found;
      return trimtab.open(found.files, { backend, precision: options.precision, context: options.context, name, licence, sha256 }, prepared);
    };
    const open = async (backend: Backend) => {
      try {
        await openFound(backend);
      } catch (thrown) {
        // A file that storage listed may not be readable any more: that is no fault of the model.
        if (source.kind !== "catalogue" || !(await dropUnreadable(await entryOf(source.id), found.files, await store()))) throw thrown;
        found = await findFiles(source, signal, onConfig, onProgress);
        await openFound(backend);
      }
    };
    try {
      await open(choice.backend);
    } catch (thrown) {
      const { kind, message } = toFailure(thrown);
      const refused = kind === "wrong-numbers" || (options.backend === "auto" && ofTheDevice.has(kind));
      if (choice.backend === "cpu" || !refused) throw thrown;
      notices.push(`The graphics device could not be used (${message}), so the model runs on the processor, which is slower.`);
      await open("cpu");
    }
    for (const { name, bytes } of vectors) {
      try {
        trimtab.addVector(name, bytes);
      } catch (thrown) {
        notices.push(`The ready-made trait ${name} does not fit this model (${toFailure(thrown).message}).`);
      }
    }
    ({ ready } = found);
    const card = trimtab.card() as LoadedModel;
    const { trial, untried } = choice;
    return { ...card, adapter: card.adapter || choice.adapter || "graphics device", ...(trial && { trial }), ...(untried !== undefined && { untried }), notices: [...notices, ...found.notices, ...card.notices] };
  } catch (thrown) {
    if (signal.aborted) throw new EngineFailure("usage", "Loading was cancelled. What has arrived is kept, so the next try goes on from there.");
    throw thrown;
  } finally {
    loading = undefined;
  }
}

/** A visitor's file, not so large that copying it would use up the memory. */
function small(file: Uint8Array, kind: string): Uint8Array {
  if (file.byteLength > MAX_VECTOR_BYTES) {
    throw new EngineFailure("usage", `This file has ${String(file.byteLength)} bytes; ${kind} have at most ${String(MAX_VECTOR_BYTES)}. Is it a model? Those are opened as a folder.`);
  }
  return file;
}

/** A verb of the loaded model. */
async function model(): Promise<Trimtab> {
  return (await start()).trimtab;
}

const verbs: Verbs = {
  catalogue: async () => {
    const all = await readEntries();
    const kept = await store();
    return Promise.all(
      all.map(async (entry) => ({
        id: entry.id,
        name: entry.name,
        sha256: entry.files.find(({ name }) => name === WEIGHTS)?.sha256 ?? "",
        licence: entry.licence,
        source: entry.source,
        downloadBytes: entry.files.reduce((sum, file) => sum + file.bytes, 0),
        cached: await isCached(entry, kept),
      })),
    );
  },
  load,
  cancelLoad: () => {
    loading?.abort();
    return Promise.resolve();
  },
  generate: async (request, onEvent) => {
    const listener = (event: GenerateEvent) => {
      onEvent(event);
    };
    return (await (await model()).generate(request, listener)) as Awaited<ReturnType<Verbs["generate"]>>;
  },
  setPlan: async (plan) => {
    const trimtab = await model();
    await early.turn();
    trimtab.setPlan(plan);
  },
  stop: async () => {
    const trimtab = await model();
    trimtab.stop();
    if (!early.waiting) return;
    await early.turn();
    trimtab.stop();
  },
  tokenize: async (messages, addGenerationPrompt) => (await model()).tokenize(messages, addGenerationPrompt),
  score: async (ids) => (await (await model()).score(ids)) as Awaited<ReturnType<Verbs["score"]>>,
  trace: async (ids, plan) => (await (await model()).trace(ids, plan)) as Awaited<ReturnType<Verbs["trace"]>>,
  profile: async (context = 100, tokens = 4) => (await (await model()).profile(context, tokens)) as Awaited<ReturnType<Verbs["profile"]>>,
  extract: async (pairs) => (await model()).extract(pairs),
  addVector: async (name, file) => (await model()).addVector(name, small(file, "vector files")) as Trait,
  addRandomTrait: async (like, seed) => (await model()).addRandomTrait(like, seed) as Trait,
  removeTraits: async (names) => {
    (await model()).removeTraits(names);
  },
  openLink: async (link) => {
    const { program } = await start();
    return program.openLink(link) as OpenedLink;
  },
  makeLink: async (recipe) => (await model()).makeLink(recipe),
  replayLink: async (link, onEvent) => {
    const listener = (event: ReplayEvent) => {
      onEvent(event);
    };
    return (await (await model()).replayLink(link, await olderVectors(link), listener)) as Awaited<ReturnType<Verbs["replayLink"]>>;
  },
  draftTrait: async (name, description, opposite) => (await start()).program.draftTrait(name, description, opposite) as TraitPack,
  checkTrait: async (json) => (await start()).program.checkTrait(json) as TraitPack,
  openContrast: async (bytes) => (await start()).program.openContrast(small(bytes, "contrast sets")) as Awaited<ReturnType<Verbs["openContrast"]>>,
  exportControlVector: async (vector, tensor) => (await start()).program.exportControlVector(small(vector, "vector files"), tensor),
  importControlVector: async (gguf) => (await model()).importControlVector(small(gguf, "control vectors")),
  writeResponses: async (request, onEvent) => {
    const listener = (event: ResponseEvent) => {
      onEvent(event);
    };
    return (await (await model()).writeResponses(request, listener)) as Awaited<ReturnType<Verbs["writeResponses"]>>;
  },
  makeVector: async (request, onEvent) => (await (await model()).makeVector(request, onEvent)) as Awaited<ReturnType<Verbs["makeVector"]>>,
  sweepTrait: async (request, onEvent) => (await (await model()).sweepTrait(request, onEvent)) as Awaited<ReturnType<StudyVerbs["sweepTrait"]>>,
  controlTrait: async (request, onEvent) => (await (await model()).controlTrait(request, onEvent)) as Awaited<ReturnType<StudyVerbs["controlTrait"]>>,
  predictTrait: async (request, onEvent) => (await (await model()).predictTrait(request, onEvent)) as Awaited<ReturnType<StudyVerbs["predictTrait"]>>,
  traitReport,
  compareTraits: async (layer) => (await model()).compareTraits(layer) as Awaited<ReturnType<StudyVerbs["compareTraits"]>>,
  removeCached: async (id) => {
    await removeModel(await entryOf(id), await store());
  },
  storedFiles: async () => {
    const all = await readEntries();
    const kept = await (await store()).list();
    return kept.map(({ sha256, bytes }) => ({ sha256, bytes, model: all.find(({ files }) => files.some((file) => file.sha256 === sha256))?.id ?? null }));
  },
  removeStored: async (hashes) => {
    const kept = await store();
    for (const sha256 of hashes) await kept.remove(sha256);
  },
  memory: async () => {
    const { wasm, trimtab } = await start();
    return { wasmBytes: wasm.memory.buffer.byteLength, deviceBytes: trimtab.deviceBytes() };
  },
};

/** These do not wait for the call before them. */
const immediate: ReadonlySet<Verb> = new Set<Verb>(["catalogue", "storedFiles", "cancelLoad", "setPlan", "stop", "memory", "openLink", "draftTrait", "checkTrait", "openContrast", "exportControlVector", "traitReport"]);
/** These cannot do without a listener. */
const listening: ReadonlySet<Verb> = new Set<Verb>(["load", "generate", "replayLink", "writeResponses", "sweepTrait", "controlTrait", "predictTrait"]);
let queue: Promise<unknown> = Promise.resolve();
const early = new EarlyWishes(pause);

async function answer({ call, verb, inputs, listens }: Call): Promise<void> {
  const emit = (event: unknown) => {
    post({ call, event });
  };
  try {
    const perform = verbs[verb] as (...inputs: unknown[]) => Promise<unknown>;
    // From the console these may be called without a listener; the client then drops their events.
    const listener = listens || listening.has(verb) ? [emit] : [];
    const result = await perform(...inputs, ...listener);
    post({ call, result }, transferable(result));
  } catch (thrown) {
    const failure = toFailure(thrown);
    post({ call, failure });
    // Nothing computed on that device can be trusted or continued.
    if (failure.kind === "device-lost") post({ alarm: failure, fatal: true });
  }
}

self.addEventListener("message", ({ data }: MessageEvent<Call>) => {
  if (immediate.has(data.verb)) void answer(data);
  else if (!listening.has(data.verb) || data.verb === "load") queue = queue.then(() => answer(data));
  else {
    early.expect();
    queue = queue.then(() => early.start(() => answer(data)));
  }
});
