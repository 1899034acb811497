// The Read view: an operation's code in three panes, lightly coloured.

import { ask } from "./api.js";
import { get, keep, make, options, state, trouble } from "./page.js";

const WORDS = {
  python: "def return lambda if else elif for in not is None True False and or raise import from class with while yield as",
  cuda: "template typename class __global__ __device__ __forceinline__ void for if else return const constexpr int i32 i64 bool double float struct static while continue __launch_bounds__",
};
const TOKENS = {
  python: /("""[\s\S]*?"""|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|(#[^\n]*)|(@?\b[A-Za-z_]\w*)|(\b\d[\w.]*)/g,
  cuda: /("(?:\\.|[^"\\\n])*")|(\/\/[^\n]*)|(\b[A-Za-z_]\w*)|(\b\d[\w.]*)/g,
};

function coloured(code, language) {
  const words = new Set(WORDS[language].split(" "));
  const parts = [];
  let at = 0;
  for (const match of code.matchAll(TOKENS[language])) {
    const [text, string, comment, name, number] = match;
    const kind = string ? "string" : comment ? "comment" : number ? "number" : words.has(name) ? "word" : name?.startsWith("@") ? "word" : "";
    if (!kind) continue;
    parts.push(code.slice(at, match.index), make("span", { class: kind }, text));
    at = match.index + text.length;
  }
  return [...parts, code.slice(at)];
}

function part({ line, code }, language) {
  const count = code.split("\n").length;
  const numbers = Array.from({ length: count }, (_, i) => line + i).join("\n");
  return make("div", { class: "code" }, make("pre", { class: "lines", "aria-hidden": "true" }, numbers), make("pre", {}, make("code", {}, ...coloured(code, language))));
}

export async function open() {
  const wanted = state().values.get("operation");
  const select = get("operation");
  if (wanted && [...select.options].some((option) => option.value === wanted)) select.value = wanted;
  if (!select.value) return;
  try {
    const { panes } = await ask("GET", "source", { operation: select.value });
    get("panes").replaceChildren(
      ...panes.map((pane) =>
        make(
          "section",
          { class: "card pane", "aria-label": pane.title },
          make("div", { class: "head" }, make("h2", {}, pane.title), make("code", { class: "soft" }, pane.file)),
          make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `${pane.file}, code` }, ...pane.parts.map((found) => part(found, pane.language))),
        ),
      ),
    );
  } catch (error) {
    trouble(error);
  }
}

export function offer(operations) {
  options(get("operation"), operations);
}

get("operation").addEventListener("change", () => {
  keep({ operation: get("operation").value });
  open();
});
