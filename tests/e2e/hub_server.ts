/** A server with the Hugging Face hub's layout of addresses: listings, files behind redirects, ranges, refusals. */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { IncomingMessage, ServerResponse } from "node:http";

const COMMIT = "0123456789abcdef0123456789abcdef01234567";
const LARGE = 100_000;

export interface HubServer {
  /** Flags with which Chromium takes this server for the hub and its hosts of large files. */
  flags: string[];
  /** `HOST PATH RANGE` of every request. */
  requests: string[];
  /** Bytes after which the connection of a large file breaks; null: never. */
  breakAfter: number | null;
  close(): Promise<void>;
}

const cors = { "access-control-allow-origin": "*", "access-control-expose-headers": "X-Error-Code,Retry-After,Content-Range" };

/** Serves repositories, `owner/name` to a file's name and contents. */
export async function hubServer(repositories: Record<string, Record<string, Buffer>>): Promise<HubServer> {
  const folder = mkdtempSync(join(tmpdir(), "trimtab-hub-"));
  const [key, cert] = [join(folder, "key.pem"), join(folder, "cert.pem")];
  execFileSync("openssl", ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=huggingface.co"], { stdio: "ignore" });

  const listing = (files: Record<string, Buffer>) => ({
    sha: COMMIT,
    gated: false,
    tags: ["license:apache-2.0"],
    siblings: Object.entries(files).map(([rfilename, bytes]) => ({
      rfilename,
      size: bytes.length,
      ...(bytes.length > LARGE && { lfs: { sha256: createHash("sha256").update(bytes).digest("hex"), size: bytes.length, pointerSize: 130 } }),
    })),
  });

  const answer = (request: IncomingMessage, response: ServerResponse) => {
    const { host = "", range } = request.headers;
    const url = new URL(request.url ?? "/", `https://${host}`);
    server.requests.push([url.hostname, url.pathname, range ?? ""].join(" ").trim());
    const refuse = (status: number, headers: Record<string, string> = {}) => response.writeHead(status, { ...cors, ...headers }).end("{}");
    const listed = /^\/api\/models\/([^/]+\/[^/]+)\/revision\/([^/]+)$/.exec(url.pathname);
    if (listed) {
      const [, name = "", revision = ""] = listed;
      if (name === "owner/busy") return refuse(429, { "Retry-After": "90" });
      if (name === "owner/gated") return refuse(401, { "X-Error-Code": "GatedRepo" });
      const files = repositories[name];
      if (!files) return refuse(401, { "X-Error-Code": "RepoNotFound" });
      if (revision !== "main") return refuse(404, { "X-Error-Code": "RevisionNotFound" });
      return response.writeHead(200, { ...cors, "content-type": "application/json" }).end(JSON.stringify(listing(files)));
    }
    const resolved = /^\/([^/]+\/[^/]+)\/(?:resolve\/[0-9a-f]{40}|large)\/(.+)$/.exec(url.pathname);
    const bytes = repositories[resolved?.[1] ?? ""]?.[resolved?.[2] ?? ""];
    if (!resolved || !bytes) return refuse(404, { "X-Error-Code": "EntryNotFound" });
    // Large files come from another host, as the hub's do.
    if (bytes.length > LARGE && url.hostname === "huggingface.co") {
      return refuse(302, { location: `https://cas-bridge.xethub.hf.co/${resolved[1] ?? ""}/large/${resolved[2] ?? ""}` });
    }
    const from = Number(/^bytes=(\d+)-$/.exec(range ?? "")?.[1] ?? 0);
    const rest = bytes.subarray(from);
    response.writeHead(range ? 206 : 200, { ...cors, "content-length": rest.length, ...(range && { "content-range": `bytes ${String(from)}-${String(bytes.length - 1)}/${String(bytes.length)}` }) });
    if (bytes.length > LARGE && server.breakAfter !== null) {
      response.write(rest.subarray(0, server.breakAfter), () => setTimeout(() => response.destroy(), 50));
      return response;
    }
    return response.end(rest);
  };

  const listening: Server = createServer({ key: readFileSync(key), cert: readFileSync(cert) }, answer);
  await new Promise<void>((resolve) => listening.listen(0, "127.0.0.1", resolve));
  const { port } = listening.address() as AddressInfo;
  const hosts = ["huggingface.co", "*.hf.co", "*.huggingface.co"].map((host) => `MAP ${host} 127.0.0.1:${String(port)}`);
  const server: HubServer = {
    flags: [`--host-resolver-rules=${hosts.join(",")}`, "--ignore-certificate-errors"],
    requests: [],
    breakAfter: null,
    close: async () => {
      listening.closeAllConnections();
      await new Promise((resolve) => listening.close(resolve));
      rmSync(folder, { recursive: true, force: true });
    },
  };
  return server;
}
