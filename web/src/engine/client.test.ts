import { describe, expect, it } from "vitest";
import { createEngine, type WorkerPort } from "./client.ts";
import type { Failure, GenerateEvent } from "./protocol.ts";
import { fatalAlarm, type Call, type FromWorker } from "./rpc.ts";

class FakeWorker implements WorkerPort {
  readonly calls: Call[] = [];
  terminated = false;
  readonly #listeners = new Map<string, ((event: never) => void)[]>();

  postMessage(message: Call): void {
    this.calls.push(structuredClone(message));
  }

  terminate(): void {
    this.terminated = true;
  }

  addEventListener(type: string, listener: (event: never) => void): void {
    this.#listeners.set(type, [...(this.#listeners.get(type) ?? []), listener]);
  }

  say(message: FromWorker): void {
    this.emit("message", new MessageEvent("message", { data: message }));
  }

  emit(type: string, event: Event): void {
    for (const listener of this.#listeners.get(type) ?? []) listener(event as never);
  }
}

function setUp() {
  const workers: FakeWorker[] = [];
  const engine = createEngine(() => {
    const worker = new FakeWorker();
    workers.push(worker);
    return worker;
  });
  const worker = (index: number) => {
    const found = workers[index];
    if (!found) throw new Error(`worker ${String(index)} was not started`);
    return found;
  };
  return { engine, workers, worker };
}

describe("the client", () => {
  it("starts its worker with the first call and matches answers to calls", async () => {
    const { engine, workers, worker } = setUp();
    expect(workers).toHaveLength(0);
    const first = engine.tokenize([{ role: "user", content: "a" }], true);
    const second = engine.score(Uint32Array.of(1, 2));
    expect(workers).toHaveLength(1);
    const [tokenize, score] = worker(0).calls;
    expect(tokenize).toMatchObject({ verb: "tokenize", inputs: [[{ role: "user", content: "a" }], true], listens: false });
    const result = { nll: Float32Array.of(1), top1: Uint32Array.of(3), meanNll: 1 };
    worker(0).say({ call: score?.call ?? 0, result });
    worker(0).say({ call: tokenize?.call ?? 0, result: Uint32Array.of(5) });
    expect(await first).toEqual(Uint32Array.of(5));
    expect(await second).toEqual(result);
  });

  it("hands events to the listener of their call, which never crosses over", async () => {
    const { engine, worker } = setUp();
    const events: GenerateEvent[] = [];
    const request = { columns: [], sampler: { temperature: 0, topK: 0, topP: 1, repetitionPenalty: 1, seed: 0 }, maxTokens: 1 };
    const run = engine.generate(request, (event) => events.push(event));
    const call = worker(0).calls[0];
    expect(call).toMatchObject({ inputs: [request], listens: true });
    worker(0).say({ call: call?.call ?? 0, event: { kind: "prompt", done: 1, total: 2 } });
    worker(0).say({ call: call?.call ?? 0, result: [] });
    worker(0).say({ call: call?.call ?? 0, event: { kind: "prompt", done: 2, total: 2 } });
    expect(await run).toEqual([]);
    expect(events).toEqual([{ kind: "prompt", done: 1, total: 2 }]);
  });

  it("gives plans and stops to runs by their numbers, also to runs that wait", async () => {
    const { engine, worker } = setUp();
    const request = { columns: [], sampler: { temperature: 0, topK: 0, topP: 1, repetitionPenalty: 1, seed: 0 }, maxTokens: 1 };
    await engine.setPlan([]);
    await engine.stop();
    const first = engine.generate(request, () => undefined);
    const second = engine.generate(request, () => undefined);
    void engine.catalogue();
    const numbers = worker(0).calls.map(({ call }) => call);
    void engine.setPlan([]);
    void engine.stop();
    const asked = worker(0).calls.slice(3).map(({ verb, inputs }) => ({ verb, inputs }));
    expect(asked).toEqual([
      { verb: "setPlan", inputs: [numbers[1], []] },
      { verb: "stop", inputs: [numbers[0]] },
      { verb: "stop", inputs: [numbers[1]] },
    ]);
    for (const call of numbers.slice(0, 2)) worker(0).say({ call: call ?? 0, result: [] });
    expect(await Promise.all([first, second])).toEqual([[], []]);
    const before = worker(0).calls.length;
    await engine.stop();
    expect(worker(0).calls).toHaveLength(before);
  });

  it("hears of a thread that broke while its worker waits for it", async () => {
    const { engine, worker } = setUp();
    const failures: Failure[] = [];
    engine.onFailure((failure) => failures.push(failure));
    const run = engine.score(Uint32Array.of(1, 2));
    const { port1, port2 } = new MessageChannel();
    worker(0).say({ thread: port1 });
    port2.postMessage(fatalAlarm("index out of range"));
    await expect(run).rejects.toThrow(/stopped unexpectedly \(index out of range\)/);
    expect(failures).toHaveLength(1);
    expect(worker(0).terminated).toBe(true);
    port2.close();
  });

  it("rejects with the failure's kind and sentence", async () => {
    const { engine, worker } = setUp();
    const run = engine.removeCached("x");
    worker(0).say({ call: worker(0).calls[0]?.call ?? 0, failure: { kind: "usage", message: "There is no model x." } });
    await expect(run).rejects.toMatchObject({ kind: "usage", message: "There is no model x." });
  });

  it("fails every call when the worker dies, says so, and starts a fresh one for the next call", async () => {
    const { engine, workers, worker } = setUp();
    const told: Failure[] = [];
    engine.onFailure((failure) => told.push(failure));
    const calls = [engine.memory(), engine.score(Uint32Array.of(1, 2))];
    const alarm: Failure = { kind: "device-lost", message: "The graphics device was lost." };
    worker(0).say({ alarm, fatal: true });
    for (const call of calls) await expect(call).rejects.toMatchObject(alarm);
    expect(told).toEqual([alarm]);
    expect(worker(0).terminated).toBe(true);
    // What a dead worker still says is not listened to.
    worker(0).say({ alarm, fatal: true });
    expect(told).toHaveLength(1);
    void engine.memory();
    expect(workers).toHaveLength(2);
  });

  it("reports a script that cannot be started", async () => {
    const { engine, worker } = setUp();
    const told: Failure[] = [];
    engine.onFailure((failure) => told.push(failure));
    const call = engine.catalogue();
    worker(0).emit("error", new Event("error"));
    await expect(call).rejects.toMatchObject({ kind: "internal" });
    expect(told[0]?.message).toContain("could not be started");
  });
});
