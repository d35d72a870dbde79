/* What the file holds, unpacked, and questions about it; nothing here draws. */
const $ = id => document.getElementById(id);
const style = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/* Texts reach the page through textContent only, so nothing in an id or a string is read as HTML. */
function element(tag, options = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(options)) {
    if (key === "style") Object.assign(made.style, value); else made[key] = value;
  }
  made.append(...children.filter(child => child !== null));
  return made;
}

async function unpack({packed, data}) {
  const text = atob(data), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(stream).arrayBuffer();
  return packed === "JSON" ? JSON.parse(new TextDecoder().decode(buffer)) : new globalThis[packed](buffer);
}

async function unpackAll(value) {
  if (value === null || typeof value !== "object") return value;
  if (value.packed) return unpack(value);
  if (Array.isArray(value)) return Promise.all(value.map(unpackAll));
  return Object.fromEntries(await Promise.all(Object.entries(value).map(async ([key, one]) => [key, await unpackAll(one)])));
}

let data, n, columns, encoder, place;  // place: the current layout, {name, x, y}

async function load() {
  data = await unpackAll(JSON.parse($("data").textContent));
  n = data.ids.length;
  columns = new Map(data.columns.map(column => [column.key, column]));
  encoder = data.encoders[0];
  place = encoder.layouts[0];
}

/* ---- values ---- */
const count = number => number.toLocaleString("en");
const format = value => Number.isInteger(value) ? count(value) : value.toPrecision(3);
const isMissing = (column, i) => column.kind === "number" ? Number.isNaN(column.values[i]) : column.values[i] === column.categories.length;
function text(column, i) {
  if (isMissing(column, i)) return null;
  return column.kind === "number" ? format(column.values[i]) : column.categories[column.values[i]];
}
const label = i => { const column = columns.get("label"); return column ? text(column, i) : null; };
const title = i => label(i) ?? data.ids[i];

function range(column) {
  column.range ??= (() => {
    let low = Infinity, high = -Infinity;
    for (const value of column.values) if (value < low) low = value;
    for (const value of column.values) if (value > high) high = value;
    return low < high ? [low, high] : low === Infinity ? [0, 1] : [low, low + 1];
  })();
  if (!column.cyclic) return column.range;
  return column.range[0] < 0 ? [-180, 180] : [0, 360];
}

let rows = null;
function row(id) {  // of an id; undefined where there is none
  rows ??= new Map(data.ids.map((id, i) => [id, i]));
  return rows.get(id);
}

/* ---- the nearest by cosine of the embeddings ---- */
function lengths() {
  encoder.lengths ??= (() => {
    const size = encoder.embedding.length / n, found = new Float64Array(n);
    for (let i = 0; i < n; i++) {
      let sum = 0;
      for (let k = i * size; k < (i + 1) * size; k++) sum += encoder.embedding[k] ** 2;
      found[i] = Math.sqrt(sum) || 1;
    }
    return found;
  })();
  return encoder.lengths;
}

function cosine(i, j) {
  const size = encoder.embedding.length / n, norms = lengths();
  let sum = 0;
  for (let k = 0; k < size; k++) sum += encoder.embedding[i * size + k] * encoder.embedding[j * size + k];
  return sum / norms[i] / norms[j];
}

function nearest(query, k = 8) {
  const best = [];
  for (let i = 0; i < n; i++) {
    if (i === query) continue;
    const one = cosine(query, i);
    if (best.length === k && one <= best[k - 1][1]) continue;
    let at = best.length;
    while (at > 0 && best[at - 1][1] < one) at--;
    best.splice(at, 0, [i, one]);
    if (best.length > k) best.pop();
  }
  return best;
}

/* ---- runs: snapshots in the order of training ---- */
function byRun() {
  data.runs.order ??= Uint32Array.from({length: n}, (_, i) => i).sort((a, b) => data.runs.run[a] - data.runs.run[b] || data.runs.step[a] - data.runs.step[b]);
  return data.runs.order;
}

function snapshots(i) {  // of the run of an RNN, itself among them
  if (!data.runs || data.runs.run[i] < 0) return [];
  const found = [];
  data.runs.run.forEach((run, j) => { if (run === data.runs.run[i]) found.push(j); });
  return found.sort((a, b) => data.runs.step[a] - data.runs.step[b]);
}

/* ---- search: "anbn+1cn" finds aⁿbⁿ⁺¹cⁿ ---- */
const plain = string => string.normalize("NFKC").replace(/[\u2212\u2010-\u2015]/g, "-").toLowerCase().replace(/\s+/g, "");
let plainIds = null;

function matches(query, most) {
  query = plain(query);
  if (!query) return [];
  plainIds ??= data.ids.map(plain);
  const tasks = columns.get("label")?.categories && columns.get("label"), names = tasks ? tasks.categories.map(plain) : [];
  const groups = [[], [], []];  // equal, beginning so, containing
  const rank = name => name === query ? 0 : name.startsWith(query) ? 1 : name.includes(query) ? 2 : 3;
  const ranks = [...names.map(rank), 3];
  for (let i = 0; i < n; i++) {
    const best = Math.min(rank(plainIds[i]), tasks ? ranks[tasks.values[i]] : 3);
    if (best < 3) groups[best].push(i);
  }
  return groups.flat().slice(0, most);
}

/* ---- colours ---- */
const missing = "#9aa0a6", steps = 256;
const darkness = matchMedia("(prefers-color-scheme: dark)");
const onPaper = () => document.documentElement.classList.contains("printing");
const dark = () => darkness.matches && !onPaper();

function mix(colors, share) {
  const at = Math.min(Math.max(share, 0), 1) * (colors.length - 1), below = Math.min(Math.floor(at), colors.length - 2);
  const rgb = color => [1, 3, 5].map(i => parseInt(color.slice(i, i + 2), 16));
  const [a, b] = [rgb(colors[below]), rgb(colors[below + 1])];
  return "#" + a.map((value, i) => Math.round(value + (b[i] - value) * (at - below)).toString(16).padStart(2, "0")).join("");
}

const scale = column => data.scales[(column.cyclic && $("cyclic").checked ? "cyclic" : "sequential") + (dark() ? " dark" : "")];

/* One colour a class, or 256 of a scale, and a last one for what is missing. */
function palette(column) {
  const own = column.kind === "category" ? column.colors
    : column.kind === "ordered" ? column.categories.map((_, code, all) => mix(scale(column), code / Math.max(all.length - 1, 1)))
    : Array.from({length: steps}, (_, step) => mix(scale(column), step / (steps - 1)));
  return [...own, missing];
}

function shades(column) {  // the place in the palette of every RNN
  if (column.kind !== "number") return column.values;
  const [low, high] = range(column);
  return Uint16Array.from(column.values, value => Number.isNaN(value) ? steps : Math.min(Math.max(Math.floor((value - low) / (high - low) * steps), 0), steps - 1));
}
