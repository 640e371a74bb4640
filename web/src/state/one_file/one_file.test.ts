// @vitest-environment node
import { createHash } from "node:crypto";
import { gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { Collector } from "./collect.ts";
import { EmbeddedFiles } from "../../engine/one_file/embedded_files.ts";
import { EmbeddedStore } from "../../engine/one_file/embedded_page_files.ts";

const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString("base64");
const bytes = (text: string) => new TextEncoder().encode(text);
const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");
const hasher = () => {
  const hash = createHash("sha256");
  return Promise.resolve({ update: (piece: Uint8Array) => void hash.update(piece), finish: () => hash.digest("hex") });
};

function page(): { files: EmbeddedFiles; collector: Collector } {
  const files = new EmbeddedFiles();
  return { files, collector: new Collector(files) };
}

describe("the one-file page", () => {
  it("puts files together from pieces, compressed or not, in their order", async () => {
    const { files, collector } = page();
    collector.take("models/m.bin", base64(gzipSync(bytes("one "))), { last: false, gzip: true });
    collector.take("models/m.bin", base64(bytes("two ")), { last: false, gzip: false });
    collector.take("models/m.bin", base64(gzipSync(bytes("three"))), { last: true, gzip: true });
    collector.take("models/catalog.json", base64(bytes("{}")), { last: true, gzip: false });
    await collector.end();
    expect(await (await files.fetch("/models/m.bin")).text()).toBe("one two three");
    const json = await files.fetch("./models/catalog.json");
    expect([json.status, json.headers.get("Content-Type")]).toEqual([200, "application/json"]);
    expect((await files.fetch("/none")).status).toBe(404);
  });

  it("waits for a file that has not been read yet, and tells those who come later", async () => {
    const { files, collector } = page();
    const early = files.find("a");
    const missing = files.find("b");
    collector.take("a", base64(bytes("a")), { last: true, gzip: false });
    expect(await (await early)?.text()).toBe("a");
    const heard: unknown[] = [];
    files.follow(({ embedded }) => heard.push(typeof embedded === "string" ? embedded : embedded.path));
    await collector.end();
    expect(await missing).toBeUndefined();
    expect(heard).toEqual(["a", "complete"]);
  });

  it("says when it was cut short, or damaged", async () => {
    const { files } = page();
    const waiting = files.find("a");
    files.take({ embedded: "cut-short" });
    await expect(waiting).rejects.toThrow(/cut short/);
    await expect(files.find("b")).rejects.toThrow(/Get it once more/);

    for (const [text, gzip] of [[base64(bytes("no gzip")), true], ["no base64!", false]] as const) {
      const damaged = page();
      const lost = damaged.files.find("a");
      damaged.collector.take("a", text, { last: true, gzip });
      await damaged.collector.end();
      await expect(lost).rejects.toThrow(/not whole/);
    }
  });

  it("has its model in store, but only the one that was promised", async () => {
    const { files, collector } = page();
    for (const [path, text] of [["models/t/good", "good"], ["models/t/bad", "evil"]] as const) {
      collector.take(path, base64(bytes(text)), { last: true, gzip: false });
    }
    await collector.end();
    const paths = new Map([
      [sha256("good"), "models/t/good"],
      [sha256("fine"), "models/t/bad"],
    ]);
    const store = new EmbeddedStore(files, paths, hasher);
    expect(await (await store.find(sha256("good"), 4))?.text()).toBe("good");
    expect(await store.find(sha256("good"), 5)).toBeUndefined();
    expect(await store.find(sha256("fine"), 4)).toBeUndefined();
    expect(await store.find(sha256("other"), 4)).toBeUndefined();
  });
});
