/** Takes the place of `threads.ts` in the one-file page, which no header isolates from other origins: it has one thread. */
export function openThreaded(): Promise<null> {
  return Promise.resolve(null);
}
