/** Places a floating box under what it explains, above where there is no room, always inside the window. */
export function place(box: HTMLElement, anchor: DOMRect): void {
  const margin = 8;
  const { width, height } = box.getBoundingClientRect();
  const left = Math.min(Math.max(anchor.left, margin), window.innerWidth - width - margin);
  const under = anchor.bottom + 6;
  const above = anchor.top - height - 6;
  const fitsUnder = under + height <= window.innerHeight - margin;
  const top = fitsUnder || above < margin ? Math.min(under, window.innerHeight - height - margin) : above;
  box.style.left = `${Math.max(left, margin)}px`;
  box.style.top = `${Math.max(top, margin)}px`;
}
