/** The file's path from the chosen folder on. Not every browser keeps it when the file goes to a worker. */
export function folderPath(file: File): string[] {
  const { webkitRelativePath: path } = file as Partial<File>;
  return path ? path.split("/") : [file.name];
}

/** The files that lie directly in the chosen folder, or that were chosen one by one. */
export function directFiles(files: readonly File[]): File[] {
  return files.filter((file) => folderPath(file).length <= 2);
}
