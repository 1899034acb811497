// What all views share: elements, the state in the address, messages.

export const get = (id) => document.getElementById(id);

// An element: make("p", { class: "soft" }, "text", child, …)
export function make(tag, attributes = {}, ...inside) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...inside);
  return made;
}

export function options(select, names, labels = names) {
  const before = select.value;
  select.replaceChildren(...names.map((name, i) => make("option", { value: name }, labels[i])));
  if (names.includes(before)) select.value = before;
}

export function say(text) {
  get("live").textContent = text;
}

export function trouble(error) {
  const bar = get("trouble");
  bar.hidden = !error;
  bar.querySelector("span").textContent = error ? sentence(error.message ?? String(error)) : "";
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");

export const times = (shape) => shape.join(" × ");

export function shown(value, digits = 3) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  const text = size !== 0 && ((size < 0.001 && digits > 2) || size >= 1e5) ? value.toExponential(1) : value.toFixed(size >= 100 ? 1 : digits);
  return /^-0\.?0*$/.test(text) ? text.slice(1) : text.replace("-", "−");
}

export const percent = (share) => `${(100 * share).toFixed(share > 0.9995 || share < 0.0005 ? 0 : 1)} %`;

// ---- the state: #view?name=value&… ------------------------------------------------------------------------------

export function state() {
  const [view, query = ""] = location.hash.slice(1).split("?");
  return { view: view || "draw", values: new URLSearchParams(query) };
}

// Change values of the address, without a new entry in the history; null takes one out.
export function keep(changes) {
  const { view, values } = state();
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === "") values.delete(name);
    else values.set(name, value);
  }
  const query = values.toString();
  history.replaceState(null, "", `#${view}${query ? `?${query}` : ""}`);
}
