/**
 * A stop or a moved slider can arrive while its run still waits for the call before it. It is then told when the run has
 * begun: told at once, it would be the earlier call's, and forgotten with that.
 */
export class EarlyWishes {
  #waiting = 0;
  #told: (() => void)[] = [];

  /** `begun` resolves after a run that was started has taken the model. */
  constructor(private readonly begun: () => Promise<void>) {}

  /** A run was asked for. */
  expect(): void {
    this.#waiting += 1;
  }

  /** Call with every run that was expected, when its turn has come. */
  start<T>(run: () => Promise<T>): Promise<T> {
    this.#waiting -= 1;
    const result = run();
    if (this.#waiting === 0) {
      const told = this.#told;
      this.#told = [];
      if (told.length > 0) void this.begun().then(() => told.forEach((tell) => tell()));
    }
    return result;
  }

  get waiting(): boolean {
    return this.#waiting > 0;
  }

  /** Resolves when no run waits: in the order of the calls. */
  turn(): Promise<void> {
    return this.waiting ? new Promise((resolve) => this.#told.push(resolve)) : Promise.resolve();
  }
}
