// The layers of a network, each a canvas of all its maps: heat maps with an outline as thick as they are active.

import { get, make, say, shown, times } from "./page.js";
import { largest, palette, Sheet, sized } from "./paint.js";

const GAP = 6;

export class Layers {
  // chosen(layer, channel, row, column): somebody asks for a value
  constructor(root, chosen) {
    Object.assign(this, { root, chosen, rows: [], selected: null });
    new ResizeObserver(() => this.paint()).observe(root);
    this.sight = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) this.rows.find((row) => row.canvas === target)?.appear(isIntersecting);
    }, { rootMargin: "300px" });
  }

  // Show an answer of the server.
  show(answer) {
    const names = answer.layers.map((layer) => layer.name + layer.shape).join();
    if (names !== this.names) {
      this.names = names;
      this.rows = answer.layers.map((layer, i) => new Row(this, layer, i));
      this.root.replaceChildren(...this.rows.map((row) => row.root));
      this.sight.disconnect();
      for (const row of this.rows) this.sight.observe(row.canvas);
    }
    const last = answer.layers.at(-1);
    answer.layers.forEach((layer, i) => {
      const named = layer === last && layer.shape.length === 1 && layer.shape[0] === answer.classes.length;
      this.rows[i].take(answer.arrays[layer.name], layer.channels, named && layer.shape[0] <= 20 ? answer.classes : null);
    });
    this.paint();
  }

  paint() {
    for (const row of this.rows) row.paint();
  }

  select(selected) {
    this.selected = selected;
    this.paint();
  }

  // The same map, at another place.
  move(selected) {
    this.selected = selected;
    this.rows.find((row) => row.layer.name === selected.layer)?.paint();
  }

  // Go to the map that is looked at.
  reveal() {
    const row = this.rows.find((found) => found.layer.name === this.selected?.layer);
    row?.canvas.focus({ preventScroll: true });
    row?.root.scrollIntoView({ block: "start" });
  }
}

class Row {
  constructor(layers, layer, number) {
    Object.assign(this, { layers, layer, at: { map: 0, row: 0, column: 0 }, visible: true });
    this.note = make("span", { class: "soft" });
    this.canvas = make("canvas", { tabindex: 0, role: "application", "aria-roledescription": "heat maps" });
    this.root = make(
      "section",
      { class: "card layer" },
      make("div", { class: "head" }, make("h2", {}, make("span", { class: "ordinal" }, `${number + 1}`), layer.title), this.note),
      this.canvas,
    );
    this.canvas.addEventListener("pointermove", (event) => this.hover(event));
    this.canvas.addEventListener("pointerleave", () => (get("tip").hidden = true));
    this.canvas.addEventListener("click", (event) => this.click(event));
    this.canvas.addEventListener("keydown", (event) => this.key(event));
  }

  take(array, channels, classes) {
    const flat = array.shape.length === 1;
    this.size = flat ? [1, 1, array.shape[0]] : array.shape;
    Object.assign(this, { values: array.values, channels, classes, flat });
    const [, , count] = this.size;
    this.scale = largest(array.values);
    this.strength = new Float32Array(count);
    let active = 0;
    for (let i = 0; i < array.values.length; i++) {
      this.strength[i % count] += Math.abs(array.values[i]);
      if (array.values[i] > 0) active++;
    }
    const most = largest(this.strength);
    this.strength = this.strength.map((s) => s / most);
    const some = channels ? `, the strongest ${count} of ${this.layer.shape.at(-1)} maps` : "";
    this.note.textContent = `${times(this.layer.shape)}${some} · ${Math.round((100 * active) / array.values.length)} % above zero`;
    const what = flat ? `${count} values` : `${count} maps of ${this.size[0]} by ${this.size[1]}`;
    this.canvas.setAttribute(
      "aria-label",
      `${this.layer.title}: ${what}. Arrow keys choose a value, Page Up and Page Down a map, Enter shows how it came about.`,
    );
  }

  // Where things are: columns of cells of this side.
  layout() {
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
    const [height, , count] = this.size;
    const grow = Math.max(1, Math.min(1.7, this.canvas.clientWidth / rem / 45)); // on a wall there is room
    const side = grow * rem * (this.classes ? 2.6 : this.flat ? 1.15 : height > 40 ? 5 : height > 18 ? 3.6 : height > 8 ? 2.9 : 2.2);
    const gap = this.flat && !this.classes ? 3 : GAP;
    const width = this.canvas.clientWidth;
    const columns = Math.max(1, Math.min(count, Math.floor((width + gap) / (side + gap))));
    const below = this.classes ? 1.3 * grow * rem : 0;
    return { side, gap, columns, width, high: Math.ceil(count / columns) * (side + gap + below) - gap + 2, below };
  }

  // Only what is in sight is drawn.
  appear(visible) {
    this.visible = visible;
    if (visible) this.paint();
  }

  paint() {
    if (!this.values || !this.canvas.clientWidth) return;
    const { side, gap, columns, width, high, below } = this.layout();
    if (!this.visible) {
      if (this.canvas.style.height !== `${high}px`) this.canvas.style.height = `${high}px`;
      return;
    }
    const context = sized(this.canvas, width, high);
    const [height, wide, count] = this.size;
    const { named } = palette();
    const selected = this.layers.selected?.layer === this.layer.name ? this.layers.selected : null;
    const inner = side - 2;
    const place = (k) => [(k % columns) * (side + gap) + 1, Math.floor(k / columns) * (side + gap + below) + 1];
    const sheet = new Sheet(context);
    for (let k = 0; k < count; k++) {
      sheet.heat(height, wide, (r, c) => this.values[(r * wide + c) * count + k] / this.scale, ...place(k), inner, inner);
    }
    sheet.put();
    for (let k = 0; k < count; k++) {
      const [x, y] = place(k);
      const mine = selected && selected.channel === this.channel(k);
      context.strokeStyle = mine ? named("ink") : named("line");
      context.lineWidth = mine ? 2.5 : 1;
      context.strokeRect(x - 0.5, y - 0.5, inner + 1, inner + 1);
      if (!mine && !this.flat && this.strength[k] > 0.04) {
        context.strokeStyle = named("above");
        context.globalAlpha = 0.25 + 0.75 * this.strength[k];
        context.lineWidth = 0.5 + 2.5 * this.strength[k];
        context.strokeRect(x - 0.5, y - 0.5, inner + 1, inner + 1);
        context.globalAlpha = 1;
      }
      if (mine && !this.flat) {
        const [a, b] = [inner / wide, inner / height];
        context.lineWidth = 2;
        context.strokeStyle = named("below");
        context.strokeRect(x + selected.column * a - 1, y + selected.row * b - 1, a + 2, b + 2);
      }
      if (this.classes) {
        context.fillStyle = named("soft");
        context.textAlign = "center";
        context.font = `${0.8 * below}px system-ui, sans-serif`;
        context.fillText(this.classes[k], x + inner / 2, y + side + 0.62 * below, side + gap);
      }
    }
  }

  channel(k) {
    return this.channels ? this.channels[k] : k;
  }

  find(event) {
    const { side, gap, columns, below } = this.layout();
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left - 1, event.clientY - box.top - 1];
    const [i, j] = [Math.floor(x / (side + gap)), Math.floor(y / (side + gap + below))];
    const map = j * columns + i;
    const [height, wide, count] = this.size;
    const [inX, inY] = [x - i * (side + gap), y - j * (side + gap + below)];
    if (x < 0 || y < 0 || i >= columns || map >= count || inX >= side || inY >= side) return null;
    const within = (v, n) => Math.min(n - 1, Math.floor((v / (side - 2)) * n));
    return { map, row: within(inY, height), column: within(inX, wide) };
  }

  describe({ map, row, column }) {
    const value = this.values[(row * this.size[1] + column) * this.size[2] + map];
    if (this.classes) return `${this.classes[map]}: ${shown(value)}`;
    return this.flat ? `value ${map}: ${shown(value)}` : `map ${this.channel(map)}, row ${row}, column ${column}: ${shown(value)}`;
  }

  hover(event) {
    const at = this.find(event);
    const tip = get("tip");
    tip.hidden = !at;
    if (!at) return;
    tip.textContent = this.describe(at);
    tip.style.left = `${Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8)}px`;
    tip.style.top = `${event.clientY + 18}px`;
  }

  click(event) {
    const at = this.find(event);
    if (at) this.choose(at);
  }

  choose(at) {
    this.at = at;
    this.layers.chosen({ layer: this.layer.name, channel: this.channel(at.map), row: at.row, column: at.column });
  }

  key(event) {
    const [height, wide, count] = this.size;
    const at = { ...this.at };
    const clamp = (v, n) => Math.max(0, Math.min(n - 1, v));
    const side = { ArrowLeft: -1, ArrowRight: 1 }[event.key] ?? 0;
    const down = { ArrowUp: -1, ArrowDown: 1 }[event.key] ?? 0;
    const page = { PageUp: -1, PageDown: 1 }[event.key] ?? 0;
    if (event.key === "Enter") this.choose(at);
    else if (!side && !down && !page) return;
    event.preventDefault();
    at.map = clamp(at.map + page + (this.flat ? side + down * this.layout().columns : 0), count);
    at.column = clamp(at.column + side, wide);
    at.row = clamp(at.row + down, height);
    this.at = at;
    say(this.describe(at));
    if (this.layers.selected?.layer === this.layer.name && event.key !== "Enter") this.choose(at);
  }
}
