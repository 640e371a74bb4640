/**
 * The worker: everything heavy, one call after another; what needs no model gets through at once, and so do plans and stops,
 * which name the call that they are for.
 */
import { chooseBackend, type Choice } from "./adapter.ts";
import { CONFIG, WEIGHTS } from "./catalogue.ts";
import { EngineFailure, toFailure } from "./failure.ts";
import { describeFiles, entryOf, fetchModel, findFiles, lookUpModel, MAX_VECTOR_BYTES, NOTHING, olderVectors, readEntries, readyVectors, type ReadyMade, reportFile, store, vectorsFile } from "./files.ts";
import { recall, remember } from "./measured.ts";
import { listOwnModels, removeOwnModel } from "./own_models.ts";
import { Meter } from "./meter.ts";
import { dropUnreadable, isCached, removeModel } from "./model_files.ts";
import type { Backend, DeviceTrial, Failure, HubFile, LoadedModel, LoadOptions, LoadProgress, ModelSource, OpenedLink, Plan, Replayed, TraitReport } from "./protocol.ts";
import { PAGE_VERBS, transferable, type Call, type PageVerbs } from "./rpc.ts";
import { post, start } from "./started.ts";
import { STUDIO_VERBS, type StudioVerbs } from "./studio.ts";

let loading: AbortController | undefined;
/** What the catalogue offers beside the loaded model; null before one is loaded. */
let ready: ReadyMade | null = null;
/** Calls that are not answered yet. */
const pending = new Set<number>();

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

/** Does what {@link PageVerbs.cancelLoad} ends. */
async function cancellable<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const abort = new AbortController();
  loading = abort;
  try {
    return await work(abort.signal);
  } catch (thrown) {
    if (abort.signal.aborted) throw new EngineFailure("usage", "Loading was cancelled. What has arrived is kept, so the next try goes on from there.");
    throw thrown;
  } finally {
    loading = undefined;
  }
}

async function load(source: ModelSource, options: LoadOptions, signal: AbortSignal, onProgress: (progress: LoadProgress) => void): Promise<LoadedModel> {
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
  await Promise.allSettled([...found.ready.reports, ...found.ready.replaced, ...found.ready.neutral].map((entry) => vectorsFile(entry, signal)));
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
      await trimtab.call(0, "addVector", [name, bytes]);
    } catch (thrown) {
      notices.push(`The ready-made trait ${name} does not fit this model (${toFailure(thrown).message}).`);
    }
  }
  try {
    for (const entry of found.ready.neutral) await trimtab.call(0, "takeNeutralAnswers", await vectorsFile(entry, signal));
  } catch {
    // They are only a saving of time: what makes a trait writes them where they are missing.
  }
  ({ ready } = found);
  const card = trimtab.card() as LoadedModel;
  const { trial, untried } = choice;
  return { ...card, adapter: card.adapter || choice.adapter || "graphics device", ...(trial && { trial }), ...(untried !== undefined && { untried }), notices: [...notices, ...found.notices, ...card.notices] };
}

type Listener = (event: unknown) => void;

/** For scripts that do not say how they would load a model. */
const USUAL: LoadOptions = { backend: "auto", precision: "fast" };

/** What the page adds to the studio's verbs; each is given its call's number first, and its listener last. */
const pageVerbs: { [V in keyof PageVerbs]: (call: number, ...inputs: never[]) => Promise<unknown> } = {
  catalogue: async () => {
    const all = await readEntries();
    const kept = await store();
    const offered = all.map(async (entry) => ({
      id: entry.id,
      own: false,
      name: entry.name,
      sha256: entry.files.find(({ name }) => name === WEIGHTS)?.sha256 ?? "",
      licence: entry.licence,
      source: entry.source,
      downloadBytes: entry.files.reduce((sum, file) => sum + file.bytes, 0),
      cached: await isCached(entry, kept),
      reports: entry.reports.map(({ name }) => name.replace(/\.report\.json$/, "")),
    }));
    const own = (await listOwnModels(kept)).map((model) => ({
      id: model.id,
      own: true,
      name: model.name,
      sha256: model.weights.sha256,
      licence: model.licence,
      source: model.source,
      downloadBytes: model.weights.bytes,
      cached: true,
      reports: [],
    }));
    return [...(await Promise.all(offered)), ...own];
  },
  describeModel: (_call, files: File[], options?: LoadOptions) => describeFiles(files, options ?? USUAL),
  lookUpModel: (_call, name: string, options?: LoadOptions) => lookUpModel(name, options ?? USUAL),
  fetchModel: (_call, name: string, files: HubFile[], onProgress: (progress: LoadProgress) => void) => cancellable((signal) => fetchModel(name, files, signal, onProgress)),
  load: (_call, source: ModelSource, options: LoadOptions, onProgress: (progress: LoadProgress) => void) => cancellable((signal) => load(source, options, signal, onProgress)),
  cancelLoad: () => {
    loading?.abort();
    return Promise.resolve();
  },
  setPlan: async (_call, run: number, plan: Plan) => {
    const { trimtab } = await start();
    // A run that has ended is given no plan any more.
    if (pending.has(run)) await trimtab.setPlan(run, plan);
  },
  stop: async (_call, run: number) => {
    const { trimtab } = await start();
    if (pending.has(run)) trimtab.stop(run);
  },
  replayLink: async (call, link: string, onEvent: Listener) => {
    const { trimtab } = await start();
    const older = await olderVectors(ready ?? NOTHING, (await trimtab.call(call, "openLink", link)) as OpenedLink);
    return (await trimtab.call(call, "replayLink", { link, older }, onEvent)) as Replayed;
  },
  traitReport: async (call, name: string) => {
    // Reports can be read without a model: those of the first one, which is offered first.
    const file = await reportFile(ready ?? (await readEntries())[0] ?? NOTHING, name);
    return file && ((await (await start()).trimtab.call(call, "openReport", file)) as TraitReport);
  },
  removeCached: async (_call, id: string) => {
    const kept = await store();
    if ((await listOwnModels(kept)).some((model) => model.id === id)) await removeOwnModel(id, kept);
    else await removeModel(await entryOf(id), kept);
  },
  storedFiles: async () => {
    const all = await readEntries();
    const chain = await store();
    const own = new Set((await listOwnModels(chain)).map(({ id }) => id));
    const kept = (await chain.list()).filter(({ sha256 }) => !own.has(sha256));
    return kept.map(({ sha256, bytes }) => ({ sha256, bytes, model: all.find(({ files }) => files.some((file) => file.sha256 === sha256))?.id ?? null }));
  },
  removeStored: async (_call, hashes: string[]) => {
    const kept = await store();
    for (const sha256 of hashes) await kept.remove(sha256);
  },
  memory: async () => {
    const { wasm, trimtab } = await start();
    return { wasmBytes: wasm.memory.buffer.byteLength, deviceBytes: trimtab.deviceBytes() };
  },
};

/** Verbs that are given a visitor's file, which must not use up the memory. */
const OF_FILES: Partial<Record<keyof StudioVerbs, string>> = { addVector: "vector files", openContrast: "contrast sets", exportControlVector: "vector files", importControlVector: "control vectors" };

function checkSize(verb: keyof StudioVerbs, inputs: readonly unknown[]): void {
  const kind = OF_FILES[verb];
  const large = inputs.find((input) => input instanceof Uint8Array && input.byteLength > MAX_VECTOR_BYTES) as Uint8Array | undefined;
  if (kind === undefined || large === undefined) return;
  throw new EngineFailure("usage", `This file has ${String(large.byteLength)} bytes; ${kind} have at most ${String(MAX_VECTOR_BYTES)}. Is it a model? Those are opened as a folder.`);
}

function isPageVerb(verb: Call["verb"]): verb is keyof PageVerbs {
  return verb in PAGE_VERBS;
}

async function perform({ call, verb, inputs }: Call, listener: Listener | undefined): Promise<unknown> {
  if (isPageVerb(verb)) {
    const own = pageVerbs[verb] as (call: number, ...inputs: unknown[]) => Promise<unknown>;
    return own(call, ...inputs, ...(listener ? [listener] : []));
  }
  checkSize(verb, inputs);
  const { trimtab } = await start();
  const count = STUDIO_VERBS[verb].inputs;
  // Several things are a list, in which what was left out has a place, too.
  const input = count === 1 ? inputs[0] : Array.from({ length: count }, (_, index) => inputs[index]);
  return trimtab.call(call, verb, input, listener);
}

async function answer(message: Call): Promise<void> {
  const { call, verb, listens } = message;
  const listener = (event: unknown) => {
    post({ call, event });
  };
  // From the console these may be called without a listener; the client then drops their events.
  const tells = listens || (isPageVerb(verb) && PAGE_VERBS[verb].listens);
  try {
    const result = await perform(message, tells ? listener : undefined);
    post({ call, result }, transferable(result));
  } catch (thrown) {
    const failure = toFailure(thrown);
    post({ call, failure });
    // Nothing computed on that device can be trusted or continued.
    if (failure.kind === "device-lost") post({ alarm: failure, fatal: true });
  } finally {
    pending.delete(call);
  }
}

let queue: Promise<unknown> = Promise.resolve();

self.addEventListener("message", ({ data }: MessageEvent<Call>) => {
  pending.add(data.call);
  const { immediate } = isPageVerb(data.verb) ? PAGE_VERBS[data.verb] : STUDIO_VERBS[data.verb];
  if (immediate) void answer(data);
  else queue = queue.then(() => answer(data));
});
