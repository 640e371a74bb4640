/**
 * Colours of numbers. Orange and blue stay apart for every common kind of colour blindness;
 * both ends keep text readable (checked in scale.test.ts).
 */

type Rgb = readonly [red: number, green: number, blue: number];

interface Anchor {
  light: Rgb;
  dark: Rgb;
}

/** Colour of a token with more of the trait than ordinary. */
const more: Anchor = { light: [246, 158, 52], dark: [158, 84, 10] };
/** Colour of a token with less of the trait than ordinary. */
const less: Anchor = { light: [104, 168, 232], dark: [34, 92, 156] };
/** Colour of an unexpected token. */
const surprising: Anchor = { light: [206, 142, 226], dark: [124, 62, 150] };

/** Standard deviations at which a reading has its full colour. */
export const readingSpan = 3;
/** Surprise in nats that has its full colour: one chance in a thousand. */
export const surpriseSpan = Math.log(1000);

export type Scale = "reading" | "surprise";

/** Exponent of the colour's strength, above 1, so that nearly ordinary tokens stay calm. */
const gamma = 1.3;

/** The end of the scale that a value leans to, and how far. */
function lean(value: number, scale: Scale): { anchor: Anchor; alpha: number } {
  const strength = Math.min(Math.abs(value) / (scale === "reading" ? readingSpan : surpriseSpan), 1);
  const alpha = Math.round(strength ** gamma * 1000) / 1000;
  if (scale === "surprise") return { anchor: surprising, alpha: value < 0 ? 0 : alpha };
  return { anchor: value < 0 ? less : more, alpha };
}

/** Background of a token; undefined where there is nothing to show. */
export function heatColour(value: number | null, scale: Scale): string | undefined {
  if (value === null || !Number.isFinite(value)) return undefined;
  const { anchor, alpha } = lean(value, scale);
  return `light-dark(rgb(${anchor.light.join(" ")} / ${alpha}), rgb(${anchor.dark.join(" ")} / ${alpha}))`;
}

/** The same colour on white paper, `#rrggbb`: for pictures, which know no themes. */
export function heatOnWhite(value: number | null, scale: Scale): string | null {
  if (value === null || !Number.isFinite(value)) return null;
  const { anchor, alpha } = lean(value, scale);
  return `#${anchor.light.map((part) => Math.round(255 + (part - 255) * alpha).toString(16).padStart(2, "0")).join("")}`;
}

export const anchors = { more, less, surprising };
