/**
 * From a number to a colour. Orange and blue stay apart for every common kind of colour blindness;
 * both ends keep text readable (checked in scale.test.ts).
 */

type Rgb = readonly [red: number, green: number, blue: number];

interface Anchor {
  light: Rgb;
  dark: Rgb;
}

/** More of the trait than ordinary. */
const more: Anchor = { light: [246, 158, 52], dark: [158, 84, 10] };
/** Less of it. */
const less: Anchor = { light: [104, 168, 232], dark: [34, 92, 156] };
/** Unexpected. */
const surprising: Anchor = { light: [206, 142, 226], dark: [124, 62, 150] };

/** Full colour at this many standard deviations. */
export const readingSpan = 3;
/** Full colour at one chance in a thousand, in nats. */
export const surpriseSpan = Math.log(1000);

export type Scale = "reading" | "surprise";

/** Above 1, so that what is nearly ordinary stays calm. */
const gamma = 1.3;

function blend(anchor: Anchor, strength: number): string {
  const alpha = Math.round(strength ** gamma * 1000) / 1000;
  return `light-dark(rgb(${anchor.light.join(" ")} / ${alpha}), rgb(${anchor.dark.join(" ")} / ${alpha}))`;
}

/** Background of a token; undefined where there is nothing to show. */
export function heatColour(value: number | null, scale: Scale): string | undefined {
  if (value === null || !Number.isFinite(value)) return undefined;
  const strength = Math.min(Math.abs(value) / (scale === "reading" ? readingSpan : surpriseSpan), 1);
  if (scale === "surprise") return blend(surprising, value < 0 ? 0 : strength);
  return blend(value < 0 ? less : more, strength);
}

export const anchors = { more, less, surprising };
