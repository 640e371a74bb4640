/** Measuring and painting on the browser's own canvas. */

import { type Drawing, fontFamily, type Measure } from "./picture.ts";

/** Longest side that every browser's canvas has. */
const maxSide = 8192;

const font = (size: number, bold: boolean) => `${bold ? "600 " : ""}${String(size)}px ${fontFamily}`;

export function canvasMeasure(): Measure {
  const context = document.createElement("canvas").getContext("2d");
  if (context === null) return (text, size) => text.length * size * 0.5;
  return (text, size, bold) => {
    context.font = font(size, bold);
    return context.measureText(text).width;
  };
}

/** A PNG at twice the drawing's size, for sharp slides; null where the browser cannot. */
export async function toPng(drawing: Drawing): Promise<Blob | null> {
  const scale = Math.min(2, maxSide / Math.max(drawing.width, drawing.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(drawing.width * scale);
  canvas.height = Math.round(drawing.height * scale);
  const context = canvas.getContext("2d");
  if (context === null) return null;
  context.scale(scale, scale);
  context.fillStyle = "#ffffff";
  context.fillRect(0, 0, drawing.width, drawing.height);
  for (const shape of drawing.shapes) {
    if (shape.kind === "word") {
      context.font = font(shape.size, shape.bold);
      context.fillStyle = shape.fill;
      context.fillText(shape.text, shape.x, shape.y);
    } else if (shape.line) {
      context.strokeStyle = "#8b8f92";
      context.strokeRect(shape.x, shape.y, shape.width, shape.height);
    } else {
      context.fillStyle = shape.fill;
      context.fillRect(shape.x, shape.y, shape.width, shape.height);
    }
  }
  return new Promise((resolve) => {
    canvas.toBlob(resolve, "image/png");
  });
}
