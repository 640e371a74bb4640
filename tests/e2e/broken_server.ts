/** The page's server with a connection that breaks: passes everything on, and cuts the weights short while told to. It can have a newer version of the page. */
import { createServer, request, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { address } from "./browser.ts";

const WEIGHTS = /\/model\.safetensors$/;

export class BrokenServer {
  readonly #server: Server;
  /** Bytes of the weights that get through, then no connection at all; `undefined`: all of them. */
  allowance: number | undefined;
  /** The `Range` of each request for the weights; an empty string where there was none. */
  readonly ranges: string[] = [];

  /** What it serves counts as another version of the page. */
  newer = false;

  private constructor(allowance: number) {
    this.allowance = allowance;
    this.#server = createServer((incoming, outgoing) => {
      this.#pass(incoming, outgoing);
    });
  }

  static async start(allowance: number): Promise<BrokenServer> {
    const broken = new BrokenServer(allowance);
    await new Promise<void>((resolve) => broken.#server.listen(0, "127.0.0.1", resolve));
    return broken;
  }

  get address(): string {
    return `http://127.0.0.1:${String((this.#server.address() as AddressInfo).port)}`;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    if (this.#server.listening) await new Promise((resolve) => this.#server.close(resolve));
  }

  #pass(incoming: IncomingMessage, outgoing: ServerResponse): void {
    const weights = WEIGHTS.test(incoming.url ?? "");
    if (weights) this.ranges.push(incoming.headers.range ?? "");
    const changed = this.newer && (incoming.url ?? "").endsWith("/sw.js");
    const { host } = new URL(address);
    // Of what is changed here, no "unchanged since" is wanted, and text cannot be added to what is compressed.
    const headers = changed ? { host } : { ...incoming.headers, host };
    const upstream = request(new URL(incoming.url ?? "/", address), { headers }, (answer) => {
      const suffix = changed ? "\n// newer\n" : "";
      const length = Number(answer.headers["content-length"]) + suffix.length;
      outgoing.writeHead(answer.statusCode ?? 502, { ...answer.headers, ...(suffix === "" || Number.isNaN(length) ? {} : { "content-length": length }) });
      answer.on("data", (piece: Buffer) => {
        if (weights && this.allowance !== undefined) {
          if (this.allowance < piece.length) {
            answer.destroy();
            outgoing.destroy();
            return;
          }
          this.allowance -= piece.length;
        }
        if (!outgoing.write(piece)) {
          answer.pause();
          outgoing.once("drain", () => answer.resume());
        }
      });
      answer.on("end", () => outgoing.end(suffix));
    });
    upstream.on("error", () => outgoing.destroy());
    outgoing.on("close", () => upstream.destroy());
    upstream.end();
  }
}
