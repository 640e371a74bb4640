import { EngineFailure, toError } from "./failure.ts";
import { directFiles } from "./folder_paths.ts";
import type { Engine, Failure } from "./protocol.ts";
import { PAGE_VERBS, type Alarm, type Call, type FromWorker, type Verb } from "./rpc.ts";
import { STUDIO_VERBS } from "./studio.ts";

/** The part of `Worker` that the client uses. */
export interface WorkerPort {
  postMessage(message: Call): void;
  terminate(): void;
  addEventListener(type: "message", listener: (event: MessageEvent<FromWorker>) => void): void;
  addEventListener(type: "error" | "messageerror", listener: (event: Event) => void): void;
}

interface Pending {
  verb: Verb;
  resolve(result: unknown): void;
  reject(failure: EngineFailure): void;
  listener: ((event: unknown) => void) | undefined;
}

function startWorker(): WorkerPort {
  return new Worker(new URL("./worker.ts", import.meta.url), { type: "module", name: "trimtab" });
}

/**
 * The engine, in a worker of its own. A worker that dies fails its calls and says so to
 * {@link Engine.onFailure}'s listeners; the next call starts a fresh one, which has to load again.
 */
export function createEngine(start: () => WorkerPort = startWorker): Engine {
  const listeners: ((failure: Failure) => void)[] = [];
  const pending = new Map<number, Pending>();
  let worker: WorkerPort | undefined;
  let calls = 0;

  const tell = (failure: Failure) => {
    for (const listener of listeners) listener(failure);
  };

  const died = (port: WorkerPort, failure: Failure) => {
    if (port !== worker) return;
    worker = undefined;
    port.terminate();
    for (const call of pending.values()) call.reject(toError(failure));
    pending.clear();
    tell(failure);
  };

  const receive = (port: WorkerPort, message: FromWorker) => {
    if (port !== worker) return;
    if ("alarm" in message) {
      const { alarm, fatal }: Alarm = message;
      if (fatal) died(port, alarm);
      else tell(alarm);
      return;
    }
    if ("thread" in message) {
      message.thread.onmessage = (event: MessageEvent<Alarm>) => {
        receive(port, event.data);
      };
      return;
    }
    const call = pending.get(message.call);
    if (!call) return;
    if ("event" in message) {
      call.listener?.(message.event);
      return;
    }
    pending.delete(message.call);
    if ("result" in message) call.resolve(message.result);
    else call.reject(toError(message.failure));
  };

  const running = (): WorkerPort => {
    if (worker) return worker;
    const port = start();
    worker = port;
    port.addEventListener("message", (event) => {
      receive(port, event.data);
    });
    port.addEventListener("error", (event) => {
      const reason = event instanceof ErrorEvent && event.message ? event.message : "it could not be started";
      died(port, {
        kind: "internal",
        message: `The part of the page that runs the model stopped (${reason}). Load the model again; your conversation is kept.`,
      });
    });
    port.addEventListener("messageerror", () => {
      died(port, { kind: "internal", message: "A message from the model could not be read. Load the model again; your conversation is kept." });
    });
    return port;
  };

  /** Posts a call; gives its number with what comes of it. */
  const post = (verb: Verb, inputs: unknown[], listener?: (event: unknown) => void): { call: number; result: Promise<unknown> } => {
    const call = ++calls;
    const result = new Promise<unknown>((resolve, reject) => {
      pending.set(call, { verb, resolve, reject, listener });
      try {
        running().postMessage({ call, verb, inputs, listens: listener !== undefined });
      } catch (thrown) {
        pending.delete(call);
        const reason = thrown instanceof Error ? thrown.message : String(thrown);
        reject(new EngineFailure("usage", `What was asked of the model cannot be sent to it (${reason}).`));
      }
    });
    return { call, result };
  };

  const verb =
    (name: Verb) =>
    (...inputs: unknown[]): Promise<unknown> => {
      const last = inputs.at(-1);
      const listens = typeof last === "function";
      const sent = listens || last === undefined ? inputs.slice(0, -1) : inputs;
      return post(name, sent, listens ? (last as (event: unknown) => void) : undefined).result;
    };

  /** Numbers of this page's calls of such verbs that are not answered yet, in their order. */
  const unanswered = (wanted: (verb: Verb) => boolean) => [...pending].filter(([, call]) => wanted(call.verb)).map(([number]) => number);

  const names = [...Object.keys(STUDIO_VERBS), ...Object.keys(PAGE_VERBS)] as Verb[];
  const engine = Object.fromEntries(names.map((name) => [name, verb(name)])) as unknown as Engine;
  const { describeModel, load } = engine;
  return {
    ...engine,
    // Deeper folders are left out here, because paths inside the folder may be lost on the way to the worker.
    describeModel: (files, options) => describeModel(directFiles(files), options),
    load: (source, options, onProgress) =>
      load(source.kind === "directory" ? { ...source, files: directFiles(source.files) } : source, options, onProgress),
    setPlan: async (plan) => {
      const run = unanswered((name) => name === "generate").at(-1);
      if (run !== undefined) await post("setPlan", [run, plan]).result;
    },
    stop: async () => {
      const runs = unanswered((name) => name === "replayLink" || (name in STUDIO_VERBS && !(name in PAGE_VERBS)));
      await Promise.all(runs.map((run) => post("stop", [run]).result));
    },
    onFailure: (listener) => {
      listeners.push(listener);
    },
  };
}
