/**
 * Model files in the origin private file system: one real file each, appended to while it arrives,
 * so that a download goes on where it broke off and the finished file is a `Blob` that nobody holds in memory.
 * https://fs.spec.whatwg.org (the Cache API keeps whole responses only).
 */
import type { FileStore, PartialFile } from "./store.ts";

const FOLDER = "model-files";
/** A second, empty file: its hash was checked. */
const checked = (sha256: string) => `${sha256}.checked`;

/** Missing from TypeScript's library for pages, because only workers have it. */
interface SyncAccessHandle {
  read(buffer: Uint8Array, options: { at: number }): number;
  write(buffer: Uint8Array, options: { at: number }): number;
  truncate(size: number): void;
  getSize(): number;
  flush(): void;
  close(): void;
}

interface WorkerFileHandle extends FileSystemFileHandle {
  createSyncAccessHandle(): Promise<SyncAccessHandle>;
}

class OpfsFile implements PartialFile {
  length: number;

  constructor(private readonly handle: SyncAccessHandle) {
    this.length = handle.getSize();
  }

  read(from: number, count: number): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(count);
    return bytes.subarray(0, this.handle.read(bytes, { at: from }));
  }

  append(bytes: Uint8Array<ArrayBuffer>): void {
    let written = 0;
    while (written < bytes.length) {
      const count = this.handle.write(bytes.subarray(written), { at: this.length });
      // Some browsers write less, instead of throwing, when there is no room.
      if (count === 0) throw new DOMException("no room was left", "QuotaExceededError");
      written += count;
      this.length += count;
    }
  }

  clear(): void {
    this.handle.truncate(0);
    this.length = 0;
  }

  flush(): void {
    this.handle.flush();
  }

  close(): void {
    try {
      this.handle.close();
    } catch {
      // It was flushed before; a handle that cannot even be closed ends with the worker.
    }
  }
}

async function existing(folder: FileSystemDirectoryHandle, name: string): Promise<File | undefined> {
  try {
    const handle = await folder.getFileHandle(name);
    return await handle.getFile();
  } catch (error) {
    if (error instanceof DOMException && error.name === "NotFoundError") return undefined;
    throw error;
  }
}

async function discard(folder: FileSystemDirectoryHandle, name: string): Promise<void> {
  try {
    await folder.removeEntry(name);
  } catch (error) {
    if (!(error instanceof DOMException && error.name === "NotFoundError")) throw error;
  }
}

export class OpfsStore implements FileStore {
  readonly durable = true;

  constructor(private readonly folder: FileSystemDirectoryHandle) {}

  /** Fails where the browser keeps nothing: insecure pages, some private windows. */
  static async mount(): Promise<OpfsStore> {
    const root = await navigator.storage.getDirectory();
    return new OpfsStore(await root.getDirectoryHandle(FOLDER, { create: true }));
  }

  async find(sha256: string, bytes: number): Promise<Blob | undefined> {
    if (!(await existing(this.folder, checked(sha256)))) return undefined;
    const file = await existing(this.folder, sha256);
    return file?.size === bytes ? file : undefined;
  }

  async arrived(sha256: string): Promise<number> {
    return (await existing(this.folder, sha256))?.size ?? 0;
  }

  async open(sha256: string): Promise<PartialFile> {
    await discard(this.folder, checked(sha256));
    const handle = (await this.folder.getFileHandle(sha256, { create: true })) as WorkerFileHandle;
    return new OpfsFile(await handle.createSyncAccessHandle());
  }

  async seal(sha256: string): Promise<Blob> {
    const handle = await this.folder.getFileHandle(sha256);
    await this.folder.getFileHandle(checked(sha256), { create: true });
    return handle.getFile();
  }

  async list(): Promise<{ sha256: string; bytes: number }[]> {
    const found: { sha256: string; bytes: number }[] = [];
    for await (const [name, handle] of this.folder.entries()) {
      if (handle.kind === "file" && !name.includes(".")) found.push({ sha256: name, bytes: (await (handle as FileSystemFileHandle).getFile()).size });
    }
    return found;
  }

  async remove(sha256: string): Promise<void> {
    await discard(this.folder, checked(sha256));
    await discard(this.folder, sha256);
  }
}
