import { EngineFailure, toError } from "./failure.ts";
import { directFiles } from "./folder_paths.ts";
import type { Engine, Failure } from "./protocol.ts";
import type { Alarm, Call, FromWorker, Verb, Verbs } from "./rpc.ts";

/** The part of `Worker` that the client uses. */
export interface WorkerPort {
  postMessage(message: Call): void;
  terminate(): void;
  addEventListener(type: "message", listener: (event: MessageEvent<FromWorker>) => void): void;
  addEventListener(type: "error" | "messageerror", listener: (event: Event) => void): void;
}

interface Pending {
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

  const post = (verb: Verb, inputs: unknown[], listener?: (event: never) => void) =>
    new Promise<unknown>((resolve, reject) => {
      const call = ++calls;
      pending.set(call, { resolve, reject, listener: listener as Pending["listener"] });
      try {
        running().postMessage({ call, verb, inputs, listens: listener !== undefined });
      } catch (thrown) {
        pending.delete(call);
        const reason = thrown instanceof Error ? thrown.message : String(thrown);
        reject(new EngineFailure("usage", `What was asked of the model cannot be sent to it (${reason}).`));
      }
    });

  const verb =
    <V extends Verb>(name: V) =>
    (...inputs: Parameters<Verbs[V]>): ReturnType<Verbs[V]> => {
      const last: unknown = inputs.at(-1);
      const listens = typeof last === "function";
      const sent = listens || last === undefined ? inputs.slice(0, -1) : inputs;
      return post(name, sent, listens ? (last as (event: never) => void) : undefined) as ReturnType<Verbs[V]>;
    };

  const load = verb("load");
  return {
    catalogue: verb("catalogue"),
    load: (source, options, onProgress) =>
      // Here, because paths inside the folder may be lost on the way to the worker.
      load(source.kind === "directory" ? { ...source, files: directFiles(source.files) } : source, options, onProgress),
    cancelLoad: verb("cancelLoad"),
    generate: verb("generate"),
    setPlan: verb("setPlan"),
    stop: verb("stop"),
    tokenize: verb("tokenize"),
    score: verb("score"),
    trace: verb("trace"),
    profile: verb("profile"),
    extract: verb("extract"),
    addVector: verb("addVector"),
    addRandomTrait: verb("addRandomTrait"),
    removeTraits: verb("removeTraits"),
    openLink: verb("openLink"),
    makeLink: verb("makeLink"),
    replayLink: verb("replayLink"),
    removeCached: verb("removeCached"),
    storedFiles: verb("storedFiles"),
    removeStored: verb("removeStored"),
    draftTrait: verb("draftTrait"),
    checkTrait: verb("checkTrait"),
    writeResponses: verb("writeResponses"),
    makeVector: verb("makeVector"),
    openContrast: verb("openContrast"),
    exportControlVector: verb("exportControlVector"),
    importControlVector: verb("importControlVector"),
    sweepTrait: verb("sweepTrait"),
    controlTrait: verb("controlTrait"),
    predictTrait: verb("predictTrait"),
    compareTraits: verb("compareTraits"),
    traitReport: verb("traitReport"),
    memory: verb("memory"),
    onFailure: (listener) => {
      listeners.push(listener);
    },
  };
}
