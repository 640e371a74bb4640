/** Amounts as people say them. */

export function megabytes(bytes: number): string {
  const value = bytes / 1e6;
  return value >= 10 ? value.toFixed(0) : value.toFixed(1);
}

export function seconds(left: number): string {
  if (left < 60) return `about ${Math.max(1, Math.round(left))} s left`;
  const minutes = Math.round(left / 60);
  return minutes < 90 ? `about ${minutes} min left` : `about ${Math.round(left / 3600)} h left`;
}
