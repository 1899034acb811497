// Charts on canvases: curves, histograms, a confusion matrix, the plane. Each also says in words what it shows.

import { shown } from "./page.js";
import { blit, cssColour, darkOn, largest, palette, Sheet, sized } from "./paint.js";

const CLASSES = ["#2a6fbb", "#d9702b", "#3f9362", "#8d5fb0", "#b9912b", "#c24d6a", "#4aa3b5", "#7a6a58", "#5c6bc0", "#8a9a35"];
const [LEFT, BELOW] = [42, 20];

const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));

// The context of a canvas whose height the style sheet says.
function frame(canvas) {
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  const context = sized(canvas, width, height, false);
  context.font = "11px system-ui, sans-serif";
  return { context, width, height, ...palette() };
}

const round = (value) => {
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].find((k) => k * unit >= value * 0.999) * unit;
};

// Lines over steps: [{ points: [[step, value], …], colour, label }]
export function curves(canvas, lines, high = null, format = shown) {
  const { context, width, height, named } = frame(canvas);
  const points = lines.flatMap((line) => line.points);
  const most = high ?? round(Math.max(1e-6, ...points.map((p) => p[1]).filter(Number.isFinite)) * 1.02);
  const end = Math.max(1, ...points.map((p) => p[0]));
  const x = (step) => LEFT + (step / end) * (width - LEFT - 8);
  const y = (value) => 8 + (1 - Math.min(1, value / most)) * (height - BELOW - 8);
  context.fillStyle = named("soft");
  context.strokeStyle = named("line");
  context.textAlign = "right";
  for (let i = 0; i <= 2; i++) {
    const value = (most * i) / 2;
    context.beginPath();
    context.moveTo(LEFT, y(value));
    context.lineTo(width - 8, y(value));
    context.stroke();
    context.fillText(format(value), LEFT - 6, y(value) + 4);
  }
  context.fillText(`step ${end.toLocaleString("en")}`, width - 8, height - 5);
  for (const line of lines) {
    context.strokeStyle = named(line.colour);
    context.lineWidth = 1.8;
    context.globalAlpha = line.faint ? 0.35 : 1;
    context.beginPath();
    line.points.forEach((p, i) => context[i ? "lineTo" : "moveTo"](x(p[0]), y(p[1])));
    context.stroke();
    context.globalAlpha = 1;
  }
}

// A running mean, so that a noisy line can be read.
export function smooth(points, share = 0.92) {
  let mean = null;
  return points.map(([step, value]) => {
    mean = mean === null ? value : share * mean + (1 - share) * value;
    return [step, mean];
  });
}

export function histogram(canvas, counts, { low, high, zero }) {
  const width = canvas.clientWidth;
  const height = 58;
  const context = sized(canvas, width, height);
  const { named } = palette();
  const most = largest(counts);
  const room = height - 16;
  const wide = width / counts.length;
  counts.forEach((count, i) => {
    const centre = low + ((high - low) * (i + 0.5)) / counts.length;
    context.fillStyle = named(centre < 0 ? "below" : "above");
    const tall = Math.sqrt(count / most) * room;
    context.fillRect(i * wide, room - tall, Math.max(1, wide - 1), tall);
  });
  context.fillStyle = named("line");
  context.fillRect(0, room, width, 1);
  context.font = "11px system-ui, sans-serif";
  context.fillStyle = named("soft");
  context.textAlign = "left";
  context.fillText(shown(low, 2), 0, height - 3);
  context.textAlign = "right";
  context.fillText(shown(high, 2), width, height - 3);
  canvas.setAttribute("aria-label", `from ${shown(low, 3)} to ${shown(high, 3)}, ${Math.round(100 * zero)} % are zero`);
}

export function confusion(canvas, counts, classes) {
  const { named } = palette();
  const width = canvas.clientWidth;
  const n = classes.length;
  const names = n <= 12 && classes.every((name) => name.length <= 2);
  const edge = names ? 22 : 8;
  const cell = Math.min((width - edge - 4) / n, 44);
  const context = sized(canvas, width, edge + cell * n + 22);
  context.font = "11px system-ui, sans-serif";
  context.textAlign = "center";
  for (let r = 0; r < n; r++) {
    let all = 0;
    for (let c = 0; c < n; c++) all += counts[r * n + c];
    for (let c = 0; c < n; c++) {
      const count = counts[r * n + c];
      const share = (all && count / all) * (r === c ? 1 : -1);
      context.fillStyle = cssColour(share);
      context.fillRect(edge + c * cell, edge + r * cell, cell - 1, cell - 1);
      if (count && cell > 15) {
        context.fillStyle = darkOn(share) ? "#000" : "#fff";
        context.fillText(count, edge + (c + 0.5) * cell, edge + (r + 0.5) * cell + 4);
      }
    }
    context.fillStyle = named("soft");
    if (names) {
      context.fillText(classes[r], edge / 2, edge + (r + 0.5) * cell + 4);
      context.fillText(classes[r], edge + (r + 0.5) * cell, edge - 8);
    }
  }
  context.textAlign = "left";
  context.fillText("rows: what it is; columns: what the network says", edge, edge + cell * n + 14);
}

// The plane with the network's probabilities, and the points: filled those it learns from, rings those of the test.
export function plane(canvas, answer) {
  const side = canvas.clientWidth;
  const context = sized(canvas, side, side);
  const { sheet, named } = palette();
  const { plane: found, x, y } = answer.arrays;
  const [high, wide, classes] = found.shape;
  const pixels = new ImageData(wide, high);
  const colours = CLASSES.map(rgb);
  for (let i = 0; i < high * wide; i++) {
    for (let c = 0; c < 3; c++) {
      let value = 0;
      for (let k = 0; k < classes; k++) value += found.values[i * classes + k] * colours[k][c];
      pixels.data[4 * i + c] = sheet[c] + (value - sheet[c]) * 0.5;
    }
    pixels.data[4 * i + 3] = 255;
  }
  context.imageSmoothingEnabled = true;
  blit(context, pixels, 0, 0, side, side);
  const at = (v) => ((v / answer.shown + 1) / 2) * side;
  const radius = Math.max(2, side / 150);
  const dots = (points, labels, ring) => {
    for (let i = 0; i < labels.length; i++) {
      context.beginPath();
      context.arc(at(points[2 * i]), side - at(points[2 * i + 1]), radius, 0, 7);
      context.fillStyle = ring ? named("sheet") : CLASSES[labels[i]];
      context.strokeStyle = ring ? CLASSES[labels[i]] : named("sheet");
      context.lineWidth = ring ? 1.5 : 0.8;
      context.fill();
      context.stroke();
    }
  };
  dots(x.values, y.values, false);
  dots(answer.arrays["x test"].values, answer.arrays["y test"].values, true);
}

export const classColour = (i) => CLASSES[i % CLASSES.length];

// Small maps in rows: what hidden units do over the plane, or filters.
export function tiles(canvas, { shape, values }, side = 44) {
  const width = canvas.clientWidth;
  const [count, high, wide, channels = 1] = shape;
  const columns = Math.max(1, Math.floor((width + 4) / (side + 4)));
  const context = sized(canvas, width, Math.ceil(count / columns) * (side + 4) - 4);
  const size = high * wide * channels;
  const most = largest(values);
  const sheet = new Sheet(context);
  const place = (k) => [(k % columns) * (side + 4), Math.floor(k / columns) * (side + 4)];
  if (channels !== 3) {
    for (let k = 0; k < count; k++) sheet.heat(high, wide, (r, c) => values[k * size + (r * wide + c) * channels] / most, ...place(k), side, side);
    sheet.put();
  }
  for (let k = 0; k < count; k++) {
    const [x, y] = place(k);
    if (channels === 3) {
      const pixels = new ImageData(wide, high);
      for (let i = 0; i < high * wide; i++) {
        for (let c = 0; c < 3; c++) pixels.data[4 * i + c] = 127.5 * (1 + values[k * size + 3 * i + c] / most);
        pixels.data[4 * i + 3] = 255;
      }
      blit(context, pixels, x, y, side, side);
    }
    context.strokeStyle = palette().named("line");
    context.strokeRect(x + 0.5, y + 0.5, side - 1, side - 1);
  }
}

