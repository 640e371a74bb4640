/** Places a floating box under what it explains, above where there is more room, always inside the window and never over it: what has no room there scrolls. */
export function place(box: HTMLElement, anchor: DOMRect): void {
  const margin = 8;
  box.style.maxHeight = "";
  const { width, height } = box.getBoundingClientRect();
  const left = Math.min(Math.max(anchor.left, margin), window.innerWidth - width - margin);
  const under = window.innerHeight - margin - (anchor.bottom + 6);
  const above = anchor.top - 6 - margin;
  const goesUnder = height <= under || under >= above;
  const shown = Math.min(height, Math.max(goesUnder ? under : above, 96));
  box.style.maxHeight = `${shown}px`;
  box.style.left = `${Math.max(left, margin)}px`;
  box.style.top = `${Math.min(Math.max(goesUnder ? anchor.bottom + 6 : anchor.top - 6 - shown, margin), window.innerHeight - margin - shown)}px`;
}
