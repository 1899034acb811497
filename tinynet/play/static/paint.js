// Colours of values: blue above zero, orange below, the ground at zero. And canvases that are sharp on every screen.

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
  if (fixed) canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.setTransform(w / width, 0, 0, h / height, 0, 0);
  context.imageSmoothingEnabled = false;
  context.clearRect(0, 0, width, height);
  return context;
}

const scratch = document.createElement("canvas");

// Draw H × W values at (x, y) in a square of `side`; at(row, column) is each one's share of the scale.
export function heat(context, height, width, at, x, y, wide, high) {
  const pixels = new ImageData(width, height);
  for (let r = 0, i = 0; r < height; r++) for (let c = 0; c < width; c++, i++) colour(pixels.data, i, at(r, c));
  blit(context, pixels, x, y, wide, high);
}

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
