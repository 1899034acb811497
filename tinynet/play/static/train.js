// The Train view: what to train, and everything about the network while it learns.

import { ask } from "./api.js";
import { classColour, confusion, curves, histogram, plane, smooth, tiles } from "./charts.js";
import { get, keep, make, options, percent, say, shown, state, trouble } from "./page.js";
import { picture } from "./paint.js";

const form = get("plan");
const QUICK = 200; // milliseconds between two looks while it runs, and while it rests
const SLOW = 700;

let pictures = {}; // networks by data
let version = -1;
let answer = null;
let timer = 0;
let cards = {};
let kind = null;
let rateChosen = false;

const images = () => form.data.value in pictures;
const rate = () => Number((10 ** form.rate.value).toPrecision(2));

// ---- the form ---------------------------------------------------------------------------------------------------

export function offer(found) {
  pictures = found.pictures;
  const group = (label, names, labels) => make("optgroup", { label }, ...names.map((name, i) => make("option", { value: name }, labels[i])));
  const before = form.data.value;
  form.data.replaceChildren(
    group("Points in the plane", [...found.planes, "table"], [...found.planes, "own table"]),
    group("Pictures", Object.keys(pictures), Object.keys(pictures).map((name) => (name === "digits" ? "digits, drawn here" : name))),
  );
  if (before) form.data.value = before;
  options(form.activation, found.activations);
  options(form.optimizer, found.optimizers);
  if (!before) {
    form.activation.value = "relu";
    form.optimizer.value = "adam";
    if (found.plan && !state().values.has("data")) fill({ ...found.plan, rate: String(found.plan.rate), batch: String(found.plan.batch) });
  }
  fitted();
}

function fill(plan) {
  if (plan.data && [...form.data.options].some((option) => option.value === plan.data)) form.data.value = plan.data;
  fitted();
  if (images()) form.model.value = plan.network ?? form.model.value;
  else form.hidden.value = plan.network ?? form.hidden.value;
  for (const name of ["activation", "optimizer", "batch"]) if (plan[name]) form[name].value = plan[name];
  if (Number(plan.rate) > 0) form.rate.value = Math.log10(Number(plan.rate));
  fitted();
}

// Show the fields that belong to the data.
function fitted() {
  for (const field of form.querySelectorAll(".for-images")) field.hidden = !images();
  for (const field of form.querySelectorAll(".for-points")) field.hidden = images();
  get("table-drop").hidden = images();
  if (images()) options(form.model, pictures[form.data.value]);
  get("rate-shown").textContent = rate();
  const download = ["mnist", "fashion_mnist", "cifar10"].includes(form.data.value);
  get("plan-note").textContent = download ? "Where it is not on this machine yet, it is downloaded." : form.data.value === "digits" ? "10,000 digits are drawn: a few seconds." : "";
}

function plan() {
  return {
    data: form.data.value,
    network: images() ? form.model.value : form.hidden.value.trim(),
    activation: form.activation.value,
    optimizer: form.optimizer.value,
    rate: rate(),
    batch: Number(form.batch.value),
  };
}

function kept() {
  keep(Object.fromEntries(Object.entries(plan()).map(([name, value]) => [name, String(value)])));
}

async function act(name, request = {}, body = null) {
  try {
    const found = await ask("POST", `train/${name}`, request, body);
    trouble(null);
    look();
    return found;
  } catch (error) {
    trouble(error);
    return null;
  }
}

async function start() {
  kept();
  get("start").disabled = true;
  get("plan-note").textContent = images() ? "Getting the pictures…" : "";
  if (await act("start", plan())) await act("run");
  get("start").disabled = false;
  fitted();
}

async function table(file) {
  if (!file) return;
  if (file.size > 8e6) {
    trouble(new Error(`the table ${file.name} has ${(file.size / 1e6).toFixed(1)} MB; the page takes tables of up to 8 MB`));
    return;
  }
  const found = await act("table", {}, new Uint8Array(await file.arrayBuffer()));
  if (!found) return;
  form.data.value = "table";
  fitted();
  get("plan-note").textContent = `${found.points.toLocaleString("en")} points of ${found.classes.length} classes: press Start.`;
  say(get("plan-note").textContent);
}

// ---- the picture ------------------------------------------------------------------------------------------------

async function look() {
  clearTimeout(timer);
  try {
    const found = await ask("GET", "train", { since: version });
    if (found.arrays) {
      version = found.version;
      answer = found;
      show();
    } else if (found.version < version) version = -1; // another server
  } catch {
    // the banner says it
  }
  if (!get("train").hidden) timer = setTimeout(look, answer?.running ? QUICK : SLOW);
}

function card(title, note, ...inside) {
  return make("section", { class: "card" }, make("div", { class: "head" }, make("h2", {}, title), make("span", { class: "soft" }, note)), ...inside);
}

const canvas = (label, kind = null) => make("canvas", { class: kind, role: "img", "aria-label": label });

function build() {
  const points = kind === "points";
  cards = {
    head: make("div", { class: "headline" }),
    plane: canvas("The plane, coloured by class"),
    legend: make("p", { class: "legend soft" }),
    loss: canvas("Loss", "chart"),
    accuracy: canvas("Accuracy", "chart"),
    tiles: canvas(points ? "Hidden units over the plane" : "Filters of the first convolution"),
    confusion: canvas("Confusion matrix"),
    mistakes: make("div", { class: "mistakes" }),
    activations: make("div", { class: "histograms" }),
    gradients: make("div", { class: "histograms" }),
  };
  cards.tilesCard = card(points ? "Hidden units" : "Filters", points ? "what each says over the plane" : "of the first convolution", cards.tiles);
  const plots = [
    card("Loss", "faint: each batch; orange: test", cards.loss),
    card("Accuracy", "on the test", cards.accuracy),
    cards.tilesCard,
    card("Confusion", "", cards.confusion),
  ];
  if (!points) plots.push(card("Worst mistakes", "what it is → what the network says", cards.mistakes));
  plots.push(card("Activations", "of each layer", cards.activations), card("Gradients", "of each layer's weights", cards.gradients));
  const first = points ? [make("section", { class: "card big" }, cards.plane, cards.legend)] : [];
  get("watch").replaceChildren(cards.head, make("div", { class: "plots" }, ...first, ...plots));
}

function show() {
  const now = answer.plan.images ? "pictures" : "points";
  if (now !== kind) {
    kind = now;
    build();
  }
  const { arrays } = answer;
  const rows = (array, columns) => Array.from({ length: array.shape[0] }, (_, i) => columns.map((c) => array.values[i * array.shape[1] + c]));
  const losses = rows(arrays.losses, [0, 1]);
  const tests = rows(arrays.tests, [0, 1]);
  const accuracy = rows(arrays.tests, [0, 2]);
  const [testLoss, best] = [tests.at(-1)[1], accuracy.at(-1)[1]];
  const stat = (label, value) => make("div", {}, make("b", {}, value), make("small", { class: "soft" }, label));
  cards.head.replaceChildren(
    stat("right, on the test", percent(best)),
    stat("loss, on the test", shown(testLoss)),
    stat("steps", answer.step.toLocaleString("en")),
    stat("times through the data", answer.epoch.toLocaleString("en")),
    stat("parameters", answer.parameters.toLocaleString("en")),
    ...(kind === "pictures" ? [make("a", { class: "button", href: "#draw?network=training" }, "Draw for it")] : []),
  );
  cards.head.dataset.accuracy = best;
  curves(cards.loss, [
    { points: losses, colour: "above", faint: true },
    { points: smooth(losses), colour: "above" },
    { points: tests, colour: "below" },
  ]);
  curves(cards.accuracy, [{ points: accuracy, colour: "below" }], 1, (v) => `${100 * v} %`);
  cards.loss.setAttribute("aria-label", `Loss: ${shown(testLoss)} on the test after ${answer.step} steps`);
  cards.accuracy.setAttribute("aria-label", `Accuracy: ${percent(best)} on the test after ${answer.step} steps`);
  confusion(cards.confusion, arrays.confusion.values, answer.classes);
  histograms(cards.activations, answer.activations, "activation");
  histograms(cards.gradients, answer.gradients, "gradient");
  if (kind === "points") {
    plane(cards.plane, answer);
    cards.legend.replaceChildren(
      ...answer.classes.map((name, i) => {
        const dot = make("i", {});
        dot.style.background = classColour(i);
        return make("span", {}, dot, name);
      }),
      make("span", {}, `${answer.trained_on} to learn from; rings: ${answer.tested} to test · ${answer.axes.join(", ")}`),
    );
    units();
  } else {
    if (arrays.filters) tiles(cards.tiles, arrays.filters);
    cards.tilesCard.hidden = !arrays.filters;
    mistakes();
  }
  buttons();
}

// The hidden units' maps, layer after layer, in one canvas.
function units() {
  const found = Object.keys(answer.arrays).filter((name) => name.startsWith("hidden")).map((name) => answer.arrays[name]);
  cards.tilesCard.hidden = !found.length;
  if (!found.length) return;
  const count = found.reduce((sum, array) => sum + array.shape[0], 0);
  const values = new Float32Array(found.reduce((sum, array) => sum + array.values.length, 0));
  let at = 0;
  for (const array of found) {
    const most = array.values.reduce((m, v) => Math.max(m, Math.abs(v)), 1e-9);
    array.values.forEach((v, i) => (values[at + i] = v / most));
    at += array.values.length;
  }
  tiles(cards.tiles, { shape: [count, ...found[0].shape.slice(1)], values });
}

function histograms(root, layers, what) {
  if (root.children.length !== layers.length) root.replaceChildren(...layers.map(() => make("div", {}, make("p", {}), canvas(""))));
  layers.forEach((layer, i) => {
    const [text, chart] = root.children[i].children;
    const dead = layer.zero > 0.005 ? `${Math.round(100 * layer.zero)} % zero` : "";
    text.replaceChildren(make("span", {}, layer.title ?? layer.name), make("span", { class: "soft" }, dead));
    histogram(chart, answer.arrays[`${what} ${layer.name}`].values, layer);
  });
  if (!layers.length) root.replaceChildren(make("p", { class: "soft" }, "after the first batch"));
}

function mistakes() {
  const found = answer.arrays.mistakes;
  const size = found.shape.slice(1).reduce((a, b) => a * b, 1);
  cards.mistakes.replaceChildren(
    ...answer.mistakes.map(([truth, said], i) => {
      const [is, says] = [answer.classes[truth], answer.classes[said]];
      const drawn = make("canvas", { width: found.shape[2], height: found.shape[1], role: "img", "aria-label": `${is}, taken for ${says}` });
      drawn.getContext("2d").putImageData(picture(found, found.shape[3] === 1, i * size), 0, 0);
      return make("figure", {}, drawn, make("figcaption", {}, `${is} → ${says}`));
    }),
  );
  if (!answer.mistakes.length) cards.mistakes.replaceChildren(make("p", { class: "soft" }, "none among those tested"));
}

function buttons() {
  get("pause").disabled = get("step").disabled = false;
  get("pause").textContent = answer.running ? "Pause" : "Go on";
  get("start").textContent = "Start again";
  get("train").dataset.running = answer.running;
  if (answer.trouble) trouble(new Error(answer.trouble));
}

// ---- the view ---------------------------------------------------------------------------------------------------

export function open() {
  const { values } = state();
  if (values.has("data")) {
    fill(Object.fromEntries(values));
    if (!values.has("rate")) form.rate.value = images() ? -3 : -2;
    fitted();
  }
  if (!answer) get("watch").replaceChildren(make("div", { class: "card empty" }, make("h2", {}, "Nothing is in training yet"), make("p", { class: "soft" }, "Press Start. The curves, the filters, the activations, the gradients and the mistakes appear here while the network learns; for points in the plane, the boundary that it draws.")));
  else show();
  look();
}

export function rest() {
  clearTimeout(timer);
}

export function repaint() {
  if (answer && !get("train").hidden) show();
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  start();
});
form.addEventListener("change", (event) => {
  if (event.target === form.data && !rateChosen) form.rate.value = images() ? -3 : -2;
  fitted();
  kept();
});
form.rate.addEventListener("input", () => {
  rateChosen = true;
  fitted();
});
form.rate.addEventListener("change", () => answer && act("rate", { rate: rate() }));
get("pause").addEventListener("click", () => act(answer?.running ? "pause" : "run"));
get("step").addEventListener("click", () => act("step"));
get("table-file").addEventListener("change", (event) => {
  table(event.target.files[0]);
  event.target.value = "";
});
const view = get("train");
view.addEventListener("dragover", (event) => event.preventDefault());
view.addEventListener("drop", (event) => {
  event.preventDefault();
  table(event.dataTransfer.files[0]);
});
new ResizeObserver(() => repaint()).observe(get("watch"));
