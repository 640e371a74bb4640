/** Models by their name on the Hugging Face hub: looked up, and fetched where a visitor asked for it. What answers mean, the program knows. */
import type { FileEntry } from "./download.ts";
import { obtain } from "./download.ts";
import { EngineFailure } from "./failure.ts";
import { Meter } from "./meter.ts";
import { exclusively, type Tools } from "./model_files.ts";
import type { HubFile, HubModel, LoadProgress } from "./protocol.ts";

/** The program's half. */
export interface HubProgram {
  hubListing(name: string): string;
  hubModel(name: string, listing: Uint8Array): unknown;
  hubRefusal(name: string, status: number, code?: string, retryAfter?: number): unknown;
}

type Fetch = Tools["fetch"];

/** Longest small file that is fetched whole. */
const MOST_SMALL_BYTES = 64 << 20;
const OFFLINE = "The hub could not be reached. Models by name need the network: check the connection, or open a file from this machine.";

async function ask(fetch: Fetch, address: string, name: string, program: HubProgram, signal: AbortSignal): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(address, { signal, credentials: "omit", referrerPolicy: "no-referrer" });
  } catch {
    signal.throwIfAborted();
    throw new EngineFailure("download", OFFLINE);
  }
  if (response.ok) return response;
  const after = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
  throw program.hubRefusal(name, response.status, response.headers.get("X-Error-Code") ?? undefined, Number.isFinite(after) && after >= 0 ? after : undefined);
}

/** What the hub has under a name. One request, to the hub itself. */
export async function lookUp(name: string, program: HubProgram, fetch: Fetch, signal: AbortSignal): Promise<HubModel> {
  const response = await ask(fetch, program.hubListing(name), name, program, signal);
  return program.hubModel(name, new Uint8Array(await response.arrayBuffer())) as HubModel;
}

/**
 * A model's files. Large ones have a hash: they go into the store, from where they are taken up after a break; small ones are fetched
 * whole.
 */
export async function fetchFiles(
  name: string,
  files: readonly HubFile[],
  program: HubProgram,
  tools: Tools,
  signal: AbortSignal,
  onProgress: (progress: LoadProgress) => void,
): Promise<File[]> {
  const meter = new Meter("download", files.reduce((sum, { bytes }) => sum + bytes, 0), onProgress);
  const fetched: File[] = [];
  let [before, received] = [0, 0];
  for (const { path, address, bytes, sha256 } of files.toSorted((one, other) => one.bytes - other.bytes)) {
    const own = path.slice(path.lastIndexOf("/") + 1);
    let blob: Blob;
    if (sha256 === null) {
      if (bytes > MOST_SMALL_BYTES) throw new EngineFailure("download", `The hub lists no hash for ${path}, so that it cannot be checked. Download it yourself and open it from disk.`);
      blob = await (await ask(tools.fetch, address, name, program, signal)).blob();
      received += blob.size;
    } else {
      const entry: FileEntry = { name: own, bytes, sha256 };
      let at = 0;
      const onBytes = (done: number, fromNetwork: boolean) => {
        if (fromNetwork) received += Math.max(0, done - at);
        at = done;
        meter.update(before + done, received, false);
      };
      ({ blob } = await exclusively(sha256, signal, () => obtain(address, entry, { ...tools, signal, onBytes })));
    }
    before += bytes;
    meter.update(before, received, false);
    fetched.push(new File([blob], own));
  }
  return fetched;
}
