// The Draw view: the pad, what the network says, what it sees, its layers, one value in detail.

import { ask } from "./api.js";
import { Layers } from "./maps.js";
import { get, keep, make, options, percent, shown, state, times, trouble } from "./page.js";
import { blit, colour, largest, palette, picture, sized } from "./paint.js";
import { Pen, SIDE } from "./pen.js";
import { Unit } from "./unit.js";

const LARGEST = 8e6; // bytes of a picture that is dropped
const LIVE = 90; // milliseconds between two looks while the pen is down, at least; and how much of the time they take
const SHARE = 4;
const PAGE = 24; // samples that are shown together

let networks = {};
let source = { from: "drawing" }; // or a sample's number, or a picture's pixels
let answer = null;
let selected = null;
let over = null; // the overlay's map
let asking = false;
let newest = 0;
let last = 0; // when the last look began, and how long it took
let took = 0;
let start = 0;

const pen = new Pen(get("pen"), drawn);
const layers = new Layers(get("layers"), choose);
const unit = new Unit(get("unit"), (at) => {
  if (at.back) return layers.reveal();
  selected = { ...selected, row: at.row, column: at.column };
  layers.move(selected);
  paintSeen();
  if (!at.sliding) keepUnit(); // browsers allow few changes of the address in a second
});

const network = () => networks[get("network").value];

// ---- looking ----------------------------------------------------------------------------------------------------

function drawn(done) {
  source = { from: "drawing" };
  if (done) look(performance.now()).then(() => keep({ ink: pen.text, sample: null }));
  else if (!asking && performance.now() - last > Math.max(LIVE, SHARE * took)) look();
}

function asked(more = {}) {
  const request = { network: get("network").value, from: source.from, ...more };
  if (source.from === "sample") return [{ ...request, number: source.number }, null];
  if (source.from === "picture") return [{ ...request, height: source.height, width: source.width }, source.pixels];
  return [{ ...request, height: SIDE, width: SIDE }, pen.ink()];
}

// Ask for the maps of what is on the pad. since: when a stroke ended. An answer that is no longer the newest is dropped.
async function look(since = null) {
  if (!network()) return;
  const mine = ++newest;
  asking = true;
  last = performance.now();
  try {
    const found = await ask("POST", "look", ...asked());
    if (mine !== newest) return;
    answer = found;
    over = null;
    show();
    took = performance.now() - last;
    trouble(null);
    if (since !== null) requestAnimationFrame(() => told(performance.now() - since));
  } catch (error) {
    if (mine === newest) trouble(error);
  }
  asking = false;
  if (mine === newest && !pen.open) details();
}

// Say how soon the picture was there.
function told(ms) {
  get("time").textContent = `${Math.round(ms)} ms`;
  document.dispatchEvent(new CustomEvent("looked", { detail: ms }));
}

// What is asked for only when the pen rests.
async function details() {
  if (answer?.empty) return unit.empty();
  if (selected) inspect();
  if (get("overlay").value) overlay();
}

function show() {
  const { classes, arrays } = answer;
  const p = arrays.probabilities.values;
  const order = [...p.keys()].sort((a, b) => p[b] - p[a]);
  const nothing = answer.empty;
  get("hint").hidden = !pen.empty || pen.backdrop !== null || pen.open !== null;
  get("answer").textContent = nothing ? "–" : classes[order[0]];
  const truth = answer.truth === undefined ? "" : answer.truth === order[0] ? ", and it is" : `; it is ${classes[answer.truth]}`;
  get("sure").textContent = nothing ? "nothing is drawn yet" : `${percent(p[order[0]])} sure${truth}${answer.note ? ` (${answer.note})` : ""}`;
  get("answer").classList.toggle("unsure", !nothing && p[order[0]] < 0.6);
  const many = classes.length > 12;
  const listed = many ? order.slice(0, 10) : [...classes.keys()];
  bars(listed, (i) => (nothing ? 0 : p[i]), nothing ? -1 : order[0]);
  get("seen-size").textContent = times(arrays.input.shape);
  paintSeen();
  layers.show(answer);
}

// A bar for each class that is listed; those that are there are changed, not made anew.
function bars(listed, share, best) {
  const list = get("bars");
  if (list.children.length !== listed.length) {
    const line = () => make("li", {}, make("span", { class: "name" }), make("span", { class: "track", "aria-hidden": "true" }, make("span", { class: "fill" })), make("span", { class: "value" }));
    list.replaceChildren(...listed.map(line));
  }
  listed.forEach((i, k) => {
    const [name, track, value] = list.children[k].children;
    list.children[k].className = i === best ? "best" : "";
    name.textContent = answer.classes[i];
    track.firstChild.style.width = `${100 * share(i)}%`;
    value.textContent = best < 0 ? "" : percent(share(i));
  });
}

// The picture as the network gets it, with the overlay and the receptive field of the chosen value.
function paintSeen() {
  const canvas = get("seen");
  const side = canvas.clientWidth;
  if (!answer || !side) return;
  const [height, width] = answer.arrays.input.shape;
  const high = (side * height) / width;
  const context = sized(canvas, side, high);
  blit(context, picture(answer.arrays.input, network()?.drawn), 0, 0, side, high);
  if (over) {
    const most = largest(over.values);
    const pixels = new ImageData(width, height);
    for (let i = 0; i < height * width; i++) {
      colour(pixels.data, i, over.values[i] / most);
      pixels.data[4 * i + 3] = 225 * Math.min(1, Math.abs(over.values[i]) / most) ** 0.6;
    }
    blit(context, pixels, 0, 0, side, high);
  }
  const field = selected && unit.answer?.field;
  if (field && !answer.empty) {
    const k = side / width;
    const [y, x] = [selected.row, selected.column].map((v, i) => field.start[i] + v * field.jump[i]);
    context.lineWidth = 2.5;
    context.strokeStyle = palette().named("below");
    context.strokeRect(x * k, y * k, field.size[1] * k, field.size[0] * k);
  }
}

// ---- one value --------------------------------------------------------------------------------------------------

function choose(at) {
  selected = at;
  layers.select(at);
  keepUnit();
  if (answer && !answer.empty) inspect(true);
}

function keepUnit() {
  keep({ value: selected && [selected.layer, selected.channel, selected.row, selected.column].join(",") });
}

async function inspect(asks = false) {
  const { layer, channel } = selected;
  try {
    const found = await ask("POST", "unit", ...asked({ layer, channel }));
    if (selected?.layer !== layer || selected.channel !== channel) return;
    unit.show(found, selected.row, selected.column);
    paintSeen();
    if (asks) reveal();
  } catch (error) {
    selected = null;
    keepUnit();
    unit.empty();
    trouble(error);
  }
}

// Where the value's card is out of sight, as on a phone, go to it.
function reveal() {
  const { top, bottom } = get("side").getBoundingClientRect();
  if (top > innerHeight - 120 || bottom < 160) get("side").scrollIntoView({ block: "start" });
}

// ---- overlays ---------------------------------------------------------------------------------------------------

const NOTES = {
  cam: "Blue: the places whose features speak for it.",
  saliency: "Blue: pixels that change the score most.",
};

async function overlay() {
  const [what, target] = [get("overlay").value, Number(get("target").value)];
  keep({ overlay: what, target: what ? String(target) : null });
  get("target-label").hidden = !what;
  get("overlay-note").textContent = "";
  over = null;
  if (what && answer && !answer.empty) {
    try {
      const found = await ask("POST", "overlay", ...asked({ what, target }));
      if (get("overlay").value !== what || Number(get("target").value) !== target) return;
      over = found.arrays.map;
      get("overlay-note").textContent =
        what === "toward"
          ? found.steps === 0
            ? `It is a ${answer.classes[target]} already: ${percent(found.probability)}.`
            : `With ink where it is blue, and none where it is orange, it would be a ${answer.classes[target]}: ${percent(found.probability)}.`
          : NOTES[what];
    } catch (error) {
      trouble(error);
    }
  }
  paintSeen();
}

// ---- samples and pictures ---------------------------------------------------------------------------------------

async function samples() {
  const box = get("samples");
  try {
    const found = await ask("GET", "samples", { network: get("network").value, start, count: PAGE });
    const { pictures } = found.arrays;
    const size = pictures.shape.slice(1).reduce((a, b) => a * b, 1);
    const buttons = found.labels.map((label, i) => {
      const canvas = make("canvas", { width: pictures.shape[2], height: pictures.shape[1] });
      canvas.getContext("2d").putImageData(picture(pictures, network().drawn, i * size), 0, 0);
      return make("button", { "aria-label": `Sample ${start + i}: ${network().classes[label]}`, onclick: () => sample(start + i) }, canvas);
    });
    const turn = (by) => () => {
      start = Math.max(0, Math.min(found.total - 1, start + by));
      samples();
    };
    box.replaceChildren(
      make("div", { class: "thumbs" }, ...buttons),
      make("div", { class: "row spread" }, make("button", { class: "quiet", disabled: start === 0, onclick: turn(-PAGE) }, "← Earlier"), make("span", { class: "soft" }, `${start} to ${start + found.labels.length - 1} of ${found.total.toLocaleString("en")}`), make("button", { class: "quiet", disabled: start + PAGE >= found.total, onclick: turn(PAGE) }, "Later →")),
    );
  } catch (error) {
    box.hidden = true;
    trouble(error);
  }
}

async function sample(number) {
  source = { from: "sample", number };
  keep({ sample: String(number), ink: null });
  pen.clear();
  await look(performance.now());
  if (answer) await backdrop();
}

// The sample that is looked at, on the pad.
async function backdrop() {
  const pixels = picture(answer.arrays.input, network().drawn);
  pen.show(await createImageBitmap(pixels));
}

async function file(given) {
  if (!given) return;
  if (given.size > LARGEST) {
    trouble(new Error(`the picture ${given.name} has ${(given.size / 1e6).toFixed(1)} MB; the page takes pictures of up to ${LARGEST / 1e6} MB`));
    return;
  }
  let image;
  try {
    image = await createImageBitmap(given);
  } catch {
    trouble(new Error(`the file ${given.name} is no picture that the browser can read`));
    return;
  }
  const scale = Math.min(1, 640 / Math.max(image.width, image.height));
  const [width, height] = [image.width, image.height].map((side) => Math.max(1, Math.round(side * scale)));
  const context = new OffscreenCanvas(width, height).getContext("2d");
  context.fillStyle = "#fff"; // paper behind what is transparent
  context.fillRect(0, 0, width, height);
  context.drawImage(image, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  const pixels = new Uint8Array(3 * width * height);
  for (let i = 0; i < width * height; i++) for (let c = 0; c < 3; c++) pixels[3 * i + c] = data[4 * i + c];
  source = { from: "picture", width, height, pixels };
  keep({ ink: null, sample: null });
  pen.show(image);
  look(performance.now());
}

// ---- the view ---------------------------------------------------------------------------------------------------

export function repaint() {
  pen.paint();
  layers.paint();
  paintSeen();
  if (unit.answer) unit.update();
}

export function offer(found) {
  networks = found;
  const names = Object.keys(found);
  const select = get("network");
  options(select, names, names.map((name) => (name === "training" ? "in training" : found[name].name)));
  select.hidden = names.length < 2;
  describe();
}

function describe() {
  const found = network();
  get("about").textContent = found ? `${found.name} · ${found.about}` : "no trained network yet";
  get("hint").textContent = found ? (found.drawn ? "Draw a digit" : "Draw, or open a picture") : "Train a network on pictures first";
  if (!found) return;
  options(get("target"), [...found.classes.keys()].map(String), found.classes);
  get("open-samples").hidden = !found.samples;
  get("target-label").hidden = !get("overlay").value;
}

export function open() {
  const { values } = state();
  if (values.has("network") && values.get("network") in networks) get("network").value = values.get("network");
  describe();
  if (values.has("overlay")) get("overlay").value = values.get("overlay");
  if (values.has("target")) get("target").value = values.get("target");
  get("target-label").hidden = !get("overlay").value;
  const value = values.get("value")?.split(",");
  selected = value?.length === 4 ? { layer: value[0], channel: +value[1], row: +value[2], column: +value[3] } : null;
  layers.select(selected);
  if (values.has("sample")) return sample(Number(values.get("sample")));
  if (values.has("ink") && values.get("ink") !== pen.text) {
    source = { from: "drawing" };
    pen.text = values.get("ink");
  }
  repaint();
  if (network()) look();
  else get("unit").replaceChildren(make("p", {}, "There is no trained network yet. ", make("a", { href: "#train" }, "Train one here"), ", or run tinynet train and start the page again."));
}

get("undo").addEventListener("click", () => {
  pen.undo();
  drawn(true);
});
get("clear").addEventListener("click", () => {
  pen.clear();
  unit.empty();
  drawn(true);
});
get("open-samples").addEventListener("click", () => {
  const box = get("samples");
  box.hidden = !box.hidden;
  get("open-samples").setAttribute("aria-expanded", String(!box.hidden));
  if (!box.hidden) samples();
});
get("network").addEventListener("change", () => {
  keep({ network: get("network").value, value: null, sample: null });
  selected = null;
  unit.empty();
  describe();
  if (source.from === "sample") source = { from: "drawing" };
  look();
});
get("overlay").addEventListener("change", () => {
  if (answer && get("overlay").value && !answer.empty && get("overlay").value !== "toward") {
    const p = answer.arrays.probabilities.values;
    get("target").value = String(p.indexOf(Math.max(...p)));
  }
  overlay();
});
get("target").addEventListener("change", overlay);
get("file").addEventListener("change", (event) => {
  file(event.target.files[0]);
  event.target.value = "";
});
const view = get("draw");
view.addEventListener("dragover", (event) => event.preventDefault());
view.addEventListener("drop", (event) => {
  event.preventDefault();
  file(event.dataTransfer.files[0]);
});
new ResizeObserver(paintSeen).observe(get("seen"));
