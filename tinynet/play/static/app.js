// Views, theme, messages: what holds the page together.

import { ask, onServer } from "./api.js";
import * as draw from "./draw.js";
import { get, say, state, trouble } from "./page.js";
import { forgetPalette } from "./paint.js";
import * as read from "./read.js";
import * as train from "./train.js";

const VIEWS = { draw, train, read };

async function offer() {
  try {
    const found = await ask("GET", "state");
    draw.offer(found.networks);
    train.offer(found);
    read.offer(found.operations);
    if (!location.hash && !Object.keys(found.networks).length) history.replaceState(null, "", "#train");
  } catch (error) {
    trouble(error);
  }
}

async function show() {
  const name = state().view in VIEWS ? state().view : "draw";
  for (const view of Object.keys(VIEWS)) get(view).hidden = view !== name;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${name[0].toUpperCase()}${name.slice(1)} · tinynet play`;
  trouble(null);
  if (name !== "train") train.rest();
  if (name === "draw") await offer();
  await VIEWS[name].open();
}

// Each view comes back as it was left.
const left = {};
let current = null;
addEventListener("hashchange", () => show());
for (const link of document.querySelectorAll("nav a")) {
  link.addEventListener("click", () => {
    current = state().view;
    left[current] = location.hash;
    link.href = left[link.dataset.view] ?? `#${link.dataset.view}`;
  });
}

function repaint() {
  forgetPalette();
  for (const view of Object.values(VIEWS)) view.repaint?.();
}

const dark = matchMedia("(prefers-color-scheme: dark)");
dark.addEventListener("change", repaint);
get("theme").addEventListener("click", () => {
  const now = document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light");
  document.documentElement.dataset.theme = now === "dark" ? "light" : "dark";
  try {
    localStorage.setItem("theme", document.documentElement.dataset.theme);
  } catch {
    // without storage the choice lasts as long as the page
  }
  repaint();
});
try {
  const theme = localStorage.getItem("theme");
  if (theme) document.documentElement.dataset.theme = theme;
} catch {
  // without storage the system's choice holds
}

get("link").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(location.href);
    say("The link is copied");
    get("link").textContent = "Copied";
    setTimeout(() => (get("link").textContent = "Copy link"), 1500);
  } catch {
    trouble(new Error("the browser did not allow it; the link is in the address bar"));
  }
});
get("trouble").querySelector("button").addEventListener("click", () => trouble(null));

onServer((alive) => {
  const bar = get("gone");
  bar.hidden = alive;
  bar.textContent = alive ? "" : "The server has ended. What you see stays, and nothing new can be computed: start it again with tinynet play, and open the address that it prints.";
  document.body.classList.toggle("ended", !alive);
  if (alive) offer();
});

await offer();
await show();
document.body.dataset.ready = "true";
