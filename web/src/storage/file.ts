/** Hands a text to the visitor as a file. */
export function saveAsFile(name: string, type: string, text: string): void {
  const address = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = address;
  link.download = name.replace(/[^\p{L}\p{N} ._-]/gu, "").trim() || "trimtab.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
