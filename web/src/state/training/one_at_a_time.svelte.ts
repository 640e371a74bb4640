/** Long work of the training lab: one piece at a time, each of which can be stopped, goes on later, and makes room for an answer in Play. */

import type { Engine } from "../../engine/protocol.ts";
import { EngineFailure } from "../../engine/failure.ts";
import { asFailure } from "../model/failure.ts";
import { aloneWith } from "../storage/one_tab.ts";

export type LabStep = "screen" | "train" | "measure";

export interface LabWork {
  step: LabStep;
  /** The run's; the dataset's hash for a screen. */
  id: string;
  phase: string;
  done: number;
  total: number;
  unit: string;
  secondsLeft: number | null;
}

export interface WorkControl {
  progress: (phase: string, unit: string, at: { done: number; total: number; secondsLeft?: number }) => void;
  /** Throws what a stop is answered with, where one was asked for before the engine had the work. */
  checkStop: () => void;
}

/** Does the work unless another tab is at the same. */
export const aloneInLab = (id: string, work: () => Promise<void>): Promise<void> => aloneWith(`trimtab-lab-${id}`, "Another tab of this page is at work on this. Go on there, or stop it there and press the button again.", work);

export class OneAtATime {
  working: LabWork | null = $state.raw(null);
  /** Why a step ended without a result. */
  trouble: { step: LabStep; id: string; message: string } | null = $state.raw(null);
  /** Whether work that an answer interrupted waits for its end. */
  #held = $state(false);
  #stopWanted = false;
  #active: Promise<void> = Promise.resolve();
  #again: (() => void) | null = null;

  constructor(
    private readonly engine: Engine,
    private readonly onFailure: (failure: ReturnType<typeof asFailure>) => void,
  ) {}

  /** Whether other work has to wait. */
  get busy(): boolean {
    return this.working !== null || this.#held;
  }

  /** Begins work where none is under way; `again` begins it anew from what it kept. */
  begin(step: LabStep, id: string, again: () => void, work: (control: WorkControl) => Promise<void>): Promise<void> {
    if (this.busy) return Promise.resolve();
    this.trouble = null;
    this.#stopWanted = false;
    this.#again = again;
    this.working = { step, id, phase: "getting ready", done: 0, total: 0, unit: "", secondsLeft: null };
    const control: WorkControl = {
      progress: (phase, unit, { done, total, secondsLeft }) => (this.working = { step, id, phase, unit, done, total, secondsLeft: secondsLeft ?? null }),
      checkStop: () => {
        if (this.#stopWanted) throw new EngineFailure("usage", "Stopped, as you asked. Go on whenever you like.");
      },
    };
    this.#active = (async () => {
      try {
        await aloneInLab(id, () => work(control));
      } catch (thrown) {
        this.trouble = { step, id, message: asFailure(thrown).message };
      } finally {
        this.working = null;
      }
    })();
    return this.#active;
  }

  async stop(): Promise<void> {
    if (this.working === null) return;
    this.#stopWanted = true;
    try {
      await this.engine.stop();
    } catch (thrown) {
      this.onFailure(asFailure(thrown));
    }
  }

  /** Stops what is under way, and waits until it is kept. That it stopped is no trouble. */
  async settle(): Promise<void> {
    if (this.working === null) return;
    await this.stop();
    await this.#active;
    this.trouble = null;
  }

  /** Makes room for an answer in Play; the result lets the work go on where it was. */
  async pause(): Promise<() => void> {
    if (this.working === null) return () => undefined;
    const again = this.#again;
    this.#held = true;
    await this.settle();
    return () => {
      this.#held = false;
      again?.();
    };
  }
}
