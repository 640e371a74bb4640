/** Other tabs of this page hear what was written here, and the other way round. Browsers without a channel hear nothing; storage itself still refuses what would overwrite. */
export class OtherTabs {
  onTold: (id: string, from: string | null) => void = () => undefined;
  readonly #channel: BroadcastChannel | null;

  constructor(name: string) {
    this.#channel = typeof BroadcastChannel === "undefined" ? null : new BroadcastChannel(name);
    this.#channel?.addEventListener("message", ({ data }: MessageEvent<{ id: string; from: string | null }>) => this.onTold(data.id, data.from));
  }

  /** `from` is what `id` was copied from. */
  tell(id: string, from: string | null): void {
    this.#channel?.postMessage({ id, from });
  }
}
