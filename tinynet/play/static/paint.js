// Colours of values: blue above zero, orange below, the ground at zero. And canvases that are sharp on every screen.

const STEPS = 256; // of the colours on each side of zero
let colours = null;

export function palette() {
  if (colours) return colours;
  const style = getComputedStyle(document.documentElement);
  const named = (name) => style.getPropertyValue(`--${name}`).trim();
  const rgb = (name) => named(name).match(/\w\w/g).map((pair) => parseInt(pair, 16));
  colours = { zero: rgb("zero"), above: rgb("above"), below: rgb("below"), ink: rgb("ink"), sheet: rgb("sheet"), named };
  return colours;
}

export function forgetPalette() {
  colours = null;
}

// Write the colour of value / scale, from -1 to 1, at pixel i of data.
export function colour(data, i, share) {
  const { zero, above, below } = palette();
  const end = share < 0 ? below : above;
  const t = Math.min(1, Math.abs(share)) ** 0.7;
  for (let c = 0; c < 3; c++) data[4 * i + c] = zero[c] + (end[c] - zero[c]) * t;
  data[4 * i + 3] = 255;
}

export function cssColour(share) {
  const pixel = [0, 0, 0, 0];
  colour(pixel, 0, share);
  return `rgb(${pixel.slice(0, 3).map(Math.round).join(" ")})`;
}

// Whether dark letters are read better than white ones on the colour of this share: by its luminance (WCAG 2).
export function darkOn(share) {
  const pixel = [0, 0, 0, 0];
  colour(pixel, 0, share);
  const [r, g, b] = pixel.map((value) => (value / 255) ** 2.2);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.18;
}

// Give a canvas this size on the page; its context, in units of the page's pixels.
export function sized(canvas, width, height, fixed = true) {
  const ratio = window.devicePixelRatio || 1;
  const [w, h] = [Math.max(1, Math.round(width * ratio)), Math.max(1, Math.round(height * ratio))];
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
  }
  if (fixed && canvas.style.height !== `${height}px`) canvas.style.height = `${height}px`; // else the page is laid out anew
  const context = canvas.getContext("2d", { willReadFrequently: true }); // pixels are written more than lines drawn
  context.setTransform(w / width, 0, 0, h / height, 0, 0);
  context.imageSmoothingEnabled = false;
  context.clearRect(0, 0, width, height);
  return context;
}

// The colours of shares from -1 to 1, as pixels of 32 bits.
function table() {
  const found = palette();
  if (!found.table) {
    const bytes = new Uint8ClampedArray(4 * (2 * STEPS + 1));
    for (let i = 0; i <= 2 * STEPS; i++) colour(bytes, i, i / STEPS - 1);
    found.table = new Uint32Array(bytes.buffer);
  }
  return found.table;
}

// The pixels of a whole canvas: heat maps are written into them, and put() shows all at once. (Canvases scale pictures
// themselves, but not hundreds of them within a frame.)
export class Sheet {
  constructor(context) {
    this.context = context;
    this.image = new ImageData(context.canvas.width, context.canvas.height);
    this.pixels = new Uint32Array(this.image.data.buffer);
    const { a, d } = context.getTransform();
    this.scale = [a, d];
  }

  // H × W values in a rectangle at (x, y); at(row, column) is each one's share of the scale.
  heat(height, width, at, x, y, wide, high) {
    const colours = table();
    const across = this.image.width;
    const [left, top, w, h] = [x * this.scale[0], y * this.scale[1], wide * this.scale[0], high * this.scale[1]].map(Math.round);
    const columns = Uint16Array.from({ length: Math.min(w, across - left) }, (_, i) => (i * width) / w);
    const line = new Uint32Array(width);
    const end = Math.min(h, this.image.height - top);
    for (let i = 0, before = -1; i < end; i++) {
      const row = Math.floor((i * height) / h);
      const start = (top + i) * across + left;
      if (row === before) this.pixels.copyWithin(start, start - across, start - across + columns.length);
      else {
        for (let c = 0; c < width; c++) line[c] = colours[Math.round(STEPS * Math.max(-1, Math.min(1, at(row, c)))) + STEPS];
        for (let j = 0; j < columns.length; j++) this.pixels[start + j] = line[columns[j]];
      }
      before = row;
    }
  }

  put() {
    this.context.putImageData(this.image, 0, 0);
  }
}

// One heat map on a canvas of its own.
export function heat(context, height, width, at, x, y, wide, high) {
  const sheet = new Sheet(context);
  sheet.heat(height, width, at, x, y, wide, high);
  sheet.put();
}

const scratch = document.createElement("canvas");

export function blit(context, pixels, x, y, wide, high) {
  if (scratch.width !== pixels.width || scratch.height !== pixels.height) {
    scratch.width = pixels.width; // no larger: smoothing looks beyond the border
    scratch.height = pixels.height;
  }
  const small = scratch.getContext("2d", { willReadFrequently: true });
  small.putImageData(pixels, 0, 0);
  context.drawImage(scratch, 0, 0, pixels.width, pixels.height, x, y, wide, high);
}

// A picture (H, W, 1 or 3) in [0, 1] as pixels: drawings as ink on paper, others as they are.
export function picture({ shape, values }, ink, from = 0) {
  const [height, width, channels] = shape.slice(-3);
  const pixels = new ImageData(width, height);
  const { ink: dark, sheet } = palette();
  for (let i = 0; i < height * width; i++) {
    for (let c = 0; c < 3; c++) {
      const value = values[from + i * channels + (channels === 3 ? c : 0)];
      pixels.data[4 * i + c] = ink ? sheet[c] + (dark[c] - sheet[c]) * value : 255 * value;
    }
    pixels.data[4 * i + 3] = 255;
  }
  return pixels;
}

export function largest(values) {
  let most = 0;
  for (const value of values) if (Math.abs(value) > most) most = Math.abs(value);
  return most || 1;
}
