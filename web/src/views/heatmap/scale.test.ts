import { describe, expect, it } from "vitest";
import { anchors, heatColour, readingSpan, surpriseSpan } from "./scale.ts";

type Rgb = readonly [number, number, number];

/** Of the cards that tokens lie on, and of their text (theme.css). */
const light = { card: [255, 254, 251] as Rgb, ink: [29, 35, 41] as Rgb };
const dark = { card: [28, 33, 38] as Rgb, ink: [233, 236, 238] as Rgb };

function luminance(colour: Rgb): number {
  const [r, g, b] = colour.map((channel) => {
    const c = channel / 255;
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  }) as [number, number, number];
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/** WCAG 2.2, contrast ratio. */
function contrast(a: Rgb, b: Rgb): number {
  const [high, low] = [luminance(a), luminance(b)].sort((x, y) => y - x) as [number, number];
  return (high + 0.05) / (low + 0.05);
}

function over(anchor: Rgb, alpha: number, card: Rgb): Rgb {
  return anchor.map((channel, i) => channel * alpha + (card[i] ?? 0) * (1 - alpha)) as unknown as Rgb;
}

function parsed(colour: string | undefined): { light: Rgb; dark: Rgb; alpha: number } {
  const found = /light-dark\(rgb\((\d+) (\d+) (\d+) \/ ([\d.]+)\), rgb\((\d+) (\d+) (\d+) \/ [\d.]+\)\)/.exec(colour ?? "");
  if (found === null) throw new Error(`not a colour of ours: ${colour}`);
  const [r, g, b, alpha, r2, g2, b2] = found.slice(1).map(Number) as [number, number, number, number, number, number, number];
  return { light: [r, g, b], dark: [r2, g2, b2], alpha };
}

describe("heatColour", () => {
  it("keeps text readable on every colour, light and dark", () => {
    for (const scale of ["reading", "surprise"] as const) {
      for (let value = -6; value <= 8; value += 0.25) {
        const { light: onLight, dark: onDark, alpha } = parsed(heatColour(value, scale));
        expect(contrast(over(onLight, alpha, light.card), light.ink)).toBeGreaterThanOrEqual(4.5);
        expect(contrast(over(onDark, alpha, dark.card), dark.ink)).toBeGreaterThanOrEqual(4.5);
      }
    }
  });

  it("has no colour at 0 and full colour from the span on", () => {
    expect(parsed(heatColour(0, "reading")).alpha).toBe(0);
    expect(parsed(heatColour(readingSpan, "reading")).alpha).toBe(1);
    expect(heatColour(readingSpan * 5, "reading")).toBe(heatColour(readingSpan, "reading"));
    expect(parsed(heatColour(surpriseSpan, "surprise")).alpha).toBe(1);
  });

  it("grows with the number and changes side with its sign", () => {
    expect(parsed(heatColour(2, "reading")).alpha).toBeGreaterThan(parsed(heatColour(1, "reading")).alpha);
    expect(parsed(heatColour(1, "reading")).light).toEqual([...anchors.more.light]);
    expect(parsed(heatColour(-1, "reading")).light).toEqual([...anchors.less.light]);
  });

  it("shows nothing where there is no reading", () => {
    expect(heatColour(null, "reading")).toBeUndefined();
    expect(heatColour(Number.NaN, "reading")).toBeUndefined();
  });

  it("tells more from less for people without red or green cones", () => {
    // Machado, Oliveira, Fernandes 2009, severity 1.0, on linear RGB.
    const matrices = [
      [0.152286, 1.052583, -0.204868, 0.114503, 0.786281, 0.099216, -0.003882, -0.048116, 1.051998],
      [0.367322, 0.860646, -0.227968, 0.280085, 0.672501, 0.047413, -0.01182, 0.04294, 0.968881],
    ];
    const linear = (c: number) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
    for (const m of matrices) {
      for (const theme of ["light", "dark"] as const) {
        const seen = (colour: Rgb) => {
          const [r, g, b] = colour.map(linear) as [number, number, number];
          return [0, 3, 6].map((row) => (m[row] ?? 0) * r + (m[row + 1] ?? 0) * g + (m[row + 2] ?? 0) * b);
        };
        const a = seen(anchors.more[theme]);
        const b = seen(anchors.less[theme]);
        const difference = Math.hypot(...a.map((channel, i) => channel - (b[i] ?? 0)));
        const strength = Math.hypot(...a);
        expect(difference / strength).toBeGreaterThan(0.5);
      }
    }
  });
});
