// The drawing pad: strokes of a pen, kept as points from 0 to 255 a side, so that they fit into an address.

import { palette, sized } from "./paint.js";

export const SIDE = 256;
const WIDTH = 20; // of the pen, in the same units
const NEAR = 3; // points that are closer to the last one are left out
const KEY_STEP = 6;

export class Pen {
  // changed(done): after each bit of a stroke, and with true at its end
  constructor(canvas, changed) {
    Object.assign(this, { canvas, changed, strokes: [], open: null, backdrop: null, cursor: null });
    this.raster = new OffscreenCanvas(SIDE, SIDE).getContext("2d", { willReadFrequently: true });
    canvas.addEventListener("pointerdown", (event) => this.begin(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => this.end(event));
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("blur", () => {
      this.cursor = null;
      this.paint();
    });
    new ResizeObserver(() => this.paint()).observe(canvas);
  }

  get empty() {
    return this.strokes.length === 0;
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    const at = (v, low, size) => Math.max(0, Math.min(255, Math.round(((v - low) / size) * 255)));
    return [at(event.clientX, box.left, box.width), at(event.clientY, box.top, box.height)];
  }

  begin(event) {
    if (event.button) return;
    event.preventDefault();
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    this.backdrop = this.cursor = null;
    this.open = [this.place(event)];
    this.strokes.push(this.open);
    this.paint();
  }

  move(event) {
    if (!this.open) return;
    for (const part of event.getCoalescedEvents?.() ?? [event]) this.add(this.place(part));
    this.paint();
    this.changed(false);
  }

  end() {
    if (!this.open) return;
    this.open = null;
    this.changed(true);
  }

  add([x, y]) {
    const [a, b] = this.open.at(-1);
    if (Math.hypot(x - a, y - b) >= NEAR) this.open.push([x, y]);
  }

  key(event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!step && event.key !== " ") return;
    event.preventDefault();
    this.cursor ??= [128, 128];
    if (event.key === " ") {
      if (this.open) this.end();
      else this.strokes.push((this.open = [[...this.cursor]]));
      this.backdrop = null;
    } else {
      this.cursor = this.cursor.map((v, i) => Math.max(0, Math.min(255, v + KEY_STEP * step[i])));
      if (this.open) this.add(this.cursor);
    }
    this.paint();
  }

  undo() {
    this.strokes.pop();
    this.open = null;
    this.paint();
  }

  clear() {
    this.strokes = [];
    this.open = this.backdrop = null;
    this.paint();
  }

  // Show a picture in place of a drawing.
  show(image) {
    this.strokes = [];
    this.backdrop = image;
    this.paint();
  }

  paint() {
    const side = this.canvas.clientWidth;
    if (!side) return;
    const context = sized(this.canvas, side, side);
    if (this.backdrop) {
      const { width, height } = this.backdrop;
      const scale = side / Math.max(width, height);
      const [w, h] = [width * scale, height * scale];
      context.drawImage(this.backdrop, (side - w) / 2, (side - h) / 2, w, h);
    }
    context.strokeStyle = context.fillStyle = palette().named("ink");
    trace(context, this.strokes, side / 255);
    if (this.cursor) {
      context.strokeStyle = palette().named(this.open ? "below" : "above");
      context.lineWidth = 2;
      context.beginPath();
      context.arc((this.cursor[0] / 255) * side, (this.cursor[1] / 255) * side, 9, 0, 7);
      context.stroke();
    }
  }

  // The ink, a byte a pixel: what the server takes.
  ink() {
    const context = this.raster;
    context.clearRect(0, 0, SIDE, SIDE);
    trace(context, this.strokes, (SIDE - 1) / 255);
    const { data } = context.getImageData(0, 0, SIDE, SIDE);
    const bytes = new Uint8Array(SIDE * SIDE);
    for (let i = 0; i < bytes.length; i++) bytes[i] = data[4 * i + 3];
    return bytes;
  }

  // Each stroke as its number of points and the points, in letters for an address.
  get text() {
    const bytes = this.strokes.flatMap((stroke) => {
      const points = stroke.slice(0, 2000);
      return [points.length & 255, points.length >> 8, ...points.flat()];
    });
    return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  }

  set text(text) {
    const strokes = [];
    try {
      const bytes = [...atob(text.replaceAll("-", "+").replaceAll("_", "/"))].map((c) => c.charCodeAt(0));
      for (let i = 0; i + 1 < bytes.length; ) {
        const count = bytes[i] + 256 * bytes[i + 1];
        const points = bytes.slice(i + 2, i + 2 + 2 * count);
        strokes.push(Array.from({ length: points.length >> 1 }, (_, k) => [points[2 * k], points[2 * k + 1]]));
        i += 2 + 2 * count;
      }
    } catch {
      return; // a damaged address: nothing is drawn
    }
    this.strokes = strokes.filter((stroke) => stroke.length);
    this.backdrop = null;
    this.paint();
  }
}

function trace(context, strokes, scale) {
  context.lineWidth = WIDTH * scale;
  context.lineCap = context.lineJoin = "round";
  for (const stroke of strokes) {
    context.beginPath();
    context.moveTo(stroke[0][0] * scale, stroke[0][1] * scale);
    for (let i = 1; i < stroke.length - 1; i++) {
      const [[a, b], [c, d]] = [stroke[i], stroke[i + 1]];
      context.quadraticCurveTo(a * scale, b * scale, ((a + c) / 2) * scale, ((b + d) / 2) * scale);
    }
    const [x, y] = stroke.at(-1);
    context.lineTo(x * scale, y * scale + (stroke.length === 1 ? 0.01 : 0));
    context.stroke();
  }
}
