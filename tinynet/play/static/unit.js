// One value in detail: the window it looks at, the weights over it, and the sum with its numbers.

import { make, say, shown, times } from "./page.js";
import { cssColour, darkOn, heat, largest, palette, sized } from "./paint.js";

export const READS = { conv: "conv2d", max: "max_pool2d", mean: "avg_pool2d", dense: "dense", ReLU: "relu", BatchNorm: "batch_norm" };
const MOST_ROWS = 8;

export class Unit {
  // moved(at): another value of the same map is looked at
  constructor(root, moved) {
    Object.assign(this, { root, moved, timer: 0 });
    this.empty();
  }

  empty() {
    this.stop();
    this.answer = null;
    this.root.replaceChildren(
      make("div", { class: "head" }, make("h2", {}, "One value in detail")),
      make("p", { class: "soft" }, "Click a value in any map: you see the part of the drawing that it sees, the weights over its window, and the sum that it is."),
    );
  }

  // Show the server's answer at a place of the map.
  show(answer, row, column) {
    this.stop();
    const same = this.answer && this.answer.layer === answer.layer && this.answer.channel === answer.channel;
    Object.assign(this, { answer, row, column, far: Infinity });
    if (!same) this.input = null;
    this.y = answer.arrays.y;
    this.build();
    this.update();
  }

  build() {
    const { answer } = this;
    this.place = make("span", { class: "soft" });
    this.figures = make("div", { class: "figures" });
    this.numbers = make("div", { class: "numbers" });
    this.sum = make("p", { class: "sum" });
    this.list = make("div", {});
    this.back = make("button", { class: "quiet back", onclick: () => this.moved({ back: true }) }, "↓ To the map");
    this.slide = make("button", { type: "button", onclick: () => (this.timer ? this.stop() : this.start()) }, "Slide the kernel");
    const slides = ["conv", "max", "mean"].includes(answer.kind);
    const read = READS[answer.kind];
    this.root.replaceChildren(
      make("div", { class: "head" }, make("h2", {}, answer.title), this.place, this.back),
      this.figures,
      this.numbers,
      this.sum,
      this.list,
      make("div", { class: "row" }, ...(slides ? [this.slide] : []), ...(read ? [make("a", { class: "button", href: `#read?operation=${read}` }, `Read ${read}`)] : [])),
    );
    if (answer.kind === "conv") {
      const [, , channels] = answer.arrays.x.shape;
      this.pictures = [this.figure(channels > 1 ? "input map" : "input"), this.figure("kernel"), this.figure("output", true)];
    } else if (slides) this.pictures = [this.figure("input map"), this.figure("output", true)];
    else this.pictures = [];
  }

  figure(caption, movable = false) {
    const canvas = make("canvas", movable ? { tabindex: 0, role: "application", "aria-label": "The output map. Arrow keys move over it." } : { role: "img", "aria-label": caption });
    const text = make("figcaption", { class: "soft" }, caption);
    this.figures.append(make("figure", {}, canvas, text));
    if (movable) {
      canvas.addEventListener("keydown", (event) => this.key(event));
      canvas.addEventListener("click", (event) => {
        const box = canvas.getBoundingClientRect();
        const [high, wide] = this.y.shape;
        this.stop();
        this.go(Math.floor(((event.clientY - box.top) / box.height) * high), Math.floor(((event.clientX - box.left) / box.width) * wide));
      });
    }
    return { canvas, text };
  }

  key(event) {
    const [down, side] = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key] ?? [0, 0];
    if (!down && !side) return;
    event.preventDefault();
    this.stop();
    this.go(this.row + down, this.column + side);
    say(`row ${this.row}, column ${this.column}: ${shown(this.value)}`);
  }

  go(row, column) {
    const [high, wide] = this.y.shape;
    this.row = Math.max(0, Math.min(high - 1, row));
    this.column = Math.max(0, Math.min(wide - 1, column));
    this.update();
    this.moved({ row: this.row, column: this.column, sliding: this.timer !== 0 });
  }

  start() {
    const [high, wide] = this.y.shape;
    let at = this.row === high - 1 && this.column === wide - 1 ? 0 : this.row * wide + this.column;
    this.slide.textContent = "Stop";
    this.timer = setInterval(() => {
      if (at >= high * wide) return this.stop();
      this.far = at;
      this.go(Math.floor(at / wide), at % wide);
      at++;
    }, Math.max(16, Math.min(250, 9000 / (high * wide))));
  }

  stop() {
    clearInterval(this.timer);
    this.timer = 0;
    if (this.slide) this.slide.textContent = "Slide the kernel";
    if (this.far !== Infinity && this.answer) {
      this.far = Infinity;
      this.go(this.row, this.column);
    }
  }

  get value() {
    const { shape, values } = this.y;
    return shape.length === 2 ? values[this.row * shape[1] + this.column] : values[0];
  }

  update() {
    const { answer } = this;
    const flat = this.y.shape.length === 1;
    this.place.textContent = flat ? `value ${answer.channel}` : `map ${answer.channel}, row ${this.row}, column ${this.column}`;
    if (answer.kind === "conv") this.convolution();
    else if (answer.kind === "max" || answer.kind === "mean") this.pool();
    else if (answer.arrays.w) this.dense();
    else this.sum.textContent = `value = ${shown(this.value)}`;
  }

  // The figures of an input map with its window, and of the output.
  maps(input, at, high, wide, window) {
    const scale = largest(this.answer.arrays.x.values);
    const side = input.canvas.clientWidth;
    const context = sized(input.canvas, side, side);
    heat(context, high, wide, (r, c) => at(r, c) / scale, 0, 0, side, side);
    box(context, window.map((v, i) => (v * side) / (i % 2 ? high : wide)), side);
    const output = this.pictures.at(-1);
    const [oh, ow] = this.y.shape;
    const most = largest(this.y.values);
    const far = this.far;
    const drawn = sized(output.canvas, side, side);
    heat(drawn, oh, ow, (r, c) => (r * ow + c > far ? 0 : this.y.values[r * ow + c] / most), 0, 0, side, side);
    box(drawn, [(this.column * side) / ow, (this.row * side) / oh, side / ow, side / oh], side);
    output.text.textContent = `output, ${oh} × ${ow}`;
  }

  convolution() {
    const { x, w } = this.answer.arrays;
    const [high, wide, channels] = x.shape;
    const [kh, kw] = w.shape;
    const { stride, dilation, bias, activation } = this.answer;
    const [top, left] = [this.row * stride[0], this.column * stride[1]];
    const given = (u, v, c) => x.values[((top + u * dilation[0]) * wide + left + v * dilation[1]) * channels + c];
    const weight = (u, v, c) => w.values[(u * kw + v) * channels + c];
    const parts = Array.from({ length: channels }, (_, c) => {
      let sum = 0;
      for (let u = 0; u < kh; u++) for (let v = 0; v < kw; v++) sum += given(u, v, c) * weight(u, v, c);
      return { c, sum };
    });
    const total = parts.reduce((sum, part) => sum + part.sum, 0);
    const sorted = [...parts].sort((a, b) => Math.abs(b.sum) - Math.abs(a.sum));
    if (this.input === null) this.input = sorted[0].c;
    const c = this.input;
    const [input, kernel] = this.pictures;
    this.maps(input, (r, k) => x.values[(r * wide + k) * channels + c], high, wide, [left, top, (kw - 1) * dilation[1] + 1, (kh - 1) * dilation[0] + 1]);
    if (channels > 1) input.text.textContent = `map ${c + this.answer.first}, ${high} × ${wide}`;
    else input.text.textContent = `input, ${high} × ${wide}`;
    const most = largest(w.values);
    const side = kernel.canvas.clientWidth;
    heat(sized(kernel.canvas, side, side), kh, kw, (u, v) => weight(u, v, c) / most, 0, 0, side, side);
    kernel.text.textContent = `kernel, ${kh} × ${kw}`;
    if (kh * kw <= 25) {
      const scale = largest(x.values);
      this.numbers.replaceChildren(
        grid("input", kh, kw, (u, v) => given(u, v, c), scale),
        sign("×"),
        grid("weights", kh, kw, (u, v) => weight(u, v, c), most),
        sign("="),
        grid("products", kh, kw, (u, v) => given(u, v, c) * weight(u, v, c), scale * most),
      );
    }
    const before = total + bias;
    this.sum.replaceChildren(
      ...equation(channels > 1 ? `sum over ${channels} maps` : "sum of the products", total, bias, before, activation, this.value),
    );
    if (channels > 1) {
      const others = sorted.slice(MOST_ROWS).reduce((sum, part) => sum + part.sum, 0);
      this.list.replaceChildren(
        make("h3", {}, "What each input map adds"),
        contributions(
          sorted.slice(0, MOST_ROWS).map((part) => ({
            text: `map ${part.c + this.answer.first}`,
            value: part.sum,
            chosen: part.c === c,
            act: () => {
              this.input = part.c;
              this.update();
            },
          })),
          channels > MOST_ROWS ? { text: `${channels - MOST_ROWS} others`, value: others } : null,
        ),
      );
    }
  }

  pool() {
    const { x } = this.answer.arrays;
    const [high, wide] = x.shape;
    const { stride, dilation, kernel, kind } = this.answer;
    const [top, left] = [this.row * stride[0], this.column * stride[1]];
    const given = (u, v) => x.values[(top + u * dilation[0]) * wide + left + v * dilation[1]];
    const window = [left, top, Math.min(kernel[1], wide - left), Math.min(kernel[0], high - top)];
    this.maps(this.pictures[0], (r, c) => x.values[r * wide + c], high, wide, window);
    this.pictures[0].text.textContent = `input map, ${high} × ${wide}`;
    if (kernel[0] * kernel[1] <= 25) this.numbers.replaceChildren(grid("window", window[3], window[2], given, largest(x.values), kind === "max" ? this.value : null));
    this.sum.textContent = `${kind === "max" ? "the largest" : "the mean"} = ${shown(this.value)}`;
  }

  dense() {
    const { x, w } = this.answer.arrays;
    const { bias, activation, from } = this.answer;
    const parts = Array.from(x.values, (value, i) => ({ i, sum: value * w.values[i] }));
    const total = parts.reduce((sum, part) => sum + part.sum, 0);
    const name = (i) => (from ? `map ${i % from[2]}, row ${Math.floor(i / from[2] / from[1])}, column ${Math.floor(i / from[2]) % from[1]}` : `value ${i}`);
    const sorted = parts.sort((a, b) => Math.abs(b.sum) - Math.abs(a.sum));
    const top = sorted.slice(0, 12);
    const others = sorted.slice(12);
    this.sum.replaceChildren(...equation(`sum over ${x.values.length} inputs`, total, bias, total + bias, activation, this.value));
    this.list.replaceChildren(
      make("h3", {}, `The inputs that count most${from ? `, of ${times(from)}` : ""}`),
      contributions(
        top.map((part) => ({ text: name(part.i), note: `${shown(x.values[part.i], 2)} × ${shown(w.values[part.i], 2)}`, value: part.sum })),
        others.length ? { text: `${others.length} others`, value: others.reduce((sum, part) => sum + part.sum, 0) } : null,
      ),
    );
  }
}

function box(context, [x, y, wide, high], side) {
  context.strokeStyle = palette().named("below");
  context.lineWidth = 2;
  context.strokeRect(Math.max(1, x), Math.max(1, y), Math.min(wide, side - 1 - x), Math.min(high, side - 1 - y));
}

const sign = (text) => make("span", { class: "sign", "aria-hidden": "true" }, text);

// A table of numbers on the colours of their values.
function grid(caption, high, wide, at, scale, marked = null) {
  const rows = Array.from({ length: high }, (_, u) =>
    make(
      "tr",
      {},
      ...Array.from({ length: wide }, (_, v) => {
        const cell = make("td", {}, shown(at(u, v), 2));
        cell.style.background = cssColour(at(u, v) / scale);
        cell.style.color = darkOn(at(u, v) / scale) ? "#000" : "#fff";
        if (marked !== null && Math.abs(at(u, v) - marked) < 1e-7) cell.className = "marked";
        return cell;
      }),
    ),
  );
  return make("table", { class: "grid" }, make("caption", { class: "soft" }, caption), make("tbody", {}, ...rows));
}

function equation(what, total, bias, before, activation, value) {
  const term = (label, number) => make("span", { class: "term" }, make("b", {}, shown(number)), make("small", {}, label));
  const parts = [term(what, total), sign("+"), term("bias", bias), sign("="), term(activation ? `before ${activation}` : "value", before)];
  if (activation) parts.push(sign("→"), term(`after ${activation}`, value));
  return parts;
}

// Bars to the right for what adds, to the left for what takes away.
function contributions(parts, rest) {
  const most = Math.max(...[...parts, ...(rest ? [rest] : [])].map((part) => Math.abs(part.value))) || 1;
  const line = (part, soft) => {
    const bar = make("span", { class: "bar", "aria-hidden": "true" });
    bar.style.width = `${(48 * Math.abs(part.value)) / most}%`;
    bar.style[part.value < 0 ? "right" : "left"] = "50%";
    bar.style.background = `var(--${part.value < 0 ? "below" : "above"})`;
    const text = part.act ? make("button", { class: "quiet", "aria-pressed": String(part.chosen), onclick: part.act }, part.text) : make("span", {}, part.text);
    return make("li", { class: soft ? "soft" : null }, text, make("span", { class: "track" }, bar), make("span", { class: "value" }, part.note ? make("small", { class: "soft" }, `${part.note} = `) : "", shown(part.value)));
  };
  return make("ol", { class: "contributions" }, ...parts.map((part) => line(part, false)), ...(rest ? [line(rest, true)] : []));
}
