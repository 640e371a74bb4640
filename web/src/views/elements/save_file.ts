/** Hands a text or bytes to the visitor as a file. */
export function saveAsFile(name: string, type: string, content: string | Uint8Array<ArrayBuffer>): void {
  saveBlob(name, new Blob([content], { type }));
}

export function saveBlob(name: string, content: Blob): void {
  const address = URL.createObjectURL(content);
  const link = document.createElement("a");
  link.href = address;
  link.download = name.replace(/[^\p{L}\p{N} ._-]/gu, "").trim() || "trimtab.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
