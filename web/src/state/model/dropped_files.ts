/** What somebody dropped on the page: files, and those that lie directly in a folder. */

const ENDINGS = /\.(gguf|safetensors|json|jinja|jsonl)$/i;

function filesIn(folder: FileSystemDirectoryEntry): Promise<File[]> {
  const reader = folder.createReader();
  const entries: FileSystemEntry[] = [];
  const readAll = (): Promise<void> =>
    new Promise((resolve, reject) => {
      // Browsers give a folder's entries a hundred at a time.
      reader.readEntries((some) => {
        entries.push(...some);
        if (some.length === 0) resolve();
        else readAll().then(resolve, reject);
      }, reject);
    });
  const fileOf = (entry: FileSystemFileEntry) => new Promise<File>((resolve, reject) => { entry.file(resolve, reject); });
  return readAll().then(() => Promise.all(entries.filter((entry): entry is FileSystemFileEntry => entry.isFile && ENDINGS.test(entry.name)).map(fileOf)));
}

/** What dropped files are. */
export type Dropped = "model" | "adapter" | "dataset";

export function kindOf(files: readonly File[]): Dropped {
  if (files.some(({ name }) => /^adapter_(config\.json|model\.safetensors)$/i.test(name))) return "adapter";
  return files.length > 0 && files.every(({ name }) => /\.jsonl$/i.test(name)) ? "dataset" : "model";
}

/** The files of a drop that a model, an adapter or a dataset may be made of; none where something else was dropped. */
export async function droppedFiles({ items }: DataTransfer): Promise<File[]> {
  // Entries have to be asked for before anything is waited for: the browser takes the list away.
  const taken = [...items].filter(({ kind }) => kind === "file").map((item) => ({ entry: item.webkitGetAsEntry(), file: item.getAsFile() }));
  const files = await Promise.all(
    taken.map(({ entry, file }) => {
      if (entry?.isDirectory === true) return filesIn(entry as FileSystemDirectoryEntry);
      return file !== null && ENDINGS.test(file.name) ? [file] : [];
    }),
  );
  return files.flat();
}
