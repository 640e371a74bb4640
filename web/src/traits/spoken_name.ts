/** A trait's name as people read it: the names of files and sliders have hyphens for spaces. */
export function spokenName(name: string): string {
  return name.replaceAll("-", " ");
}
