// Asking the server. Answers are JSON, or a header with arrays (packed.py); the server's end is noticed and told.

let alive = true;
const listeners = [];

export function onServer(listener) {
  listeners.push(listener);
}

export async function ask(method, name, request = {}, body = null) {
  const place = `api/${name}?q=${encodeURIComponent(JSON.stringify(request))}`;
  let answer, bytes;
  try {
    answer = await fetch(place, { method, body: method === "POST" ? (body ?? new Uint8Array(0)) : undefined });
    bytes = await answer.arrayBuffer();
  } catch {
    tell(false);
    throw new Error("the server does not answer");
  }
  tell(true);
  if (!answer.ok) throw new Error(told(bytes));
  return answer.headers.get("Content-Type").startsWith("application/json")
    ? JSON.parse(new TextDecoder().decode(bytes))
    : unpacked(bytes);
}

function told(bytes) {
  try {
    return JSON.parse(new TextDecoder().decode(bytes)).error;
  } catch {
    return "the server could not answer";
  }
}

function unpacked(bytes) {
  const length = new DataView(bytes).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 4, length)));
  const found = {};
  for (const { name, shape, at } of header.arrays) {
    const count = shape.reduce((a, b) => a * b, 1);
    found[name] = { shape, values: new Float32Array(bytes, 4 + length + at, count) };
  }
  header.arrays = found;
  return header;
}

function tell(answers) {
  if (alive === answers) return;
  alive = answers;
  for (const listener of listeners) listener(alive);
  if (!alive) setTimeout(probe, 1500);
}

async function probe() {
  try {
    await ask("GET", "state");
  } catch {
    if (!alive) setTimeout(probe, 1500);
  }
}
