"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const n = data.ids.length;
const columns = new Map(data.columns.map(column => [column.key, column]));
const neighbours = 8;
const writes = data.samples.some(strings => strings.length);
const $ = id => document.getElementById(id);
const style = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/* Texts reach the page through textContent only, so nothing in an id or a string is read as HTML. */
function element(tag, options = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(options)) {
    if (key === "style") Object.assign(made.style, value); else made[key] = value;
  }
  made.append(...children);
  return made;
}

/* ---- embeddings: little-endian float32, rows scaled to unit length here ---- */
const bytes = Uint8Array.from(atob(data.embedding), character => character.charCodeAt(0));
const vectors = new Float32Array(bytes.buffer);
const size = n ? vectors.length / n : 0;
for (let i = 0; i < n; i++) {
  let norm = 0;
  for (let k = 0; k < size; k++) norm += vectors[i * size + k] ** 2;
  norm = Math.sqrt(norm) || 1;
  for (let k = 0; k < size; k++) vectors[i * size + k] /= norm;
}

function nearest(query) {
  const scores = new Float32Array(n);
  for (let i = 0; i < n; i++) {
    let cosine = 0;
    for (let k = 0; k < size; k++) cosine += vectors[i * size + k] * vectors[query * size + k];
    scores[i] = cosine;
  }
  return [...scores.keys()].filter(i => i !== query)
    .sort((a, b) => scores[b] - scores[a] || a - b).slice(0, neighbours).map(i => [i, scores[i]]);
}

/* ---- colours ---- */
const missing = "#9aa0a6";
let current = columns.get(data.color);
let off = new Set();
let selected = null;

const dark = matchMedia("(prefers-color-scheme: dark)");

function scale(column) {
  if ($("cyclic").checked && column.kind === "number") return data.scales.cyclic;
  return dark.matches ? data.scales.dark : data.scales.sequential;
}

function range(column) {
  if (column.cyclic) return [0, 360];
  let low = Infinity, high = -Infinity;
  for (const value of column.values) if (value !== null) { low = Math.min(low, value); high = Math.max(high, value); }
  return low < high ? [low, high] : low === Infinity ? [0, 1] : [low, low + 1];
}

function mix(colors, share) {
  const place = Math.min(Math.max(share, 0), 1) * (colors.length - 1);
  const below = Math.min(Math.floor(place), colors.length - 2);
  const rgb = color => [1, 3, 5].map(i => parseInt(color.slice(i, i + 2), 16));
  const [a, b] = [rgb(colors[below]), rgb(colors[below + 1])];
  return `rgb(${a.map((value, i) => Math.round(value + (b[i] - value) * (place - below))).join(",")})`;
}

function palette(column) {
  return column.kind === "category" ? column.colors : column.categories.map((_, code, all) => mix(scale(column), code / Math.max(all.length - 1, 1)));
}

function colorsOf(column) {
  if (column.kind !== "number") {
    const own = palette(column);
    return column.values.map(code => code === null ? missing : own[code]);
  }
  const [low, high] = range(column), colors = scale(column);
  return column.values.map(value => value === null ? missing : mix(colors, (value - low) / (high - low)));
}

let colors = colorsOf(current);
const format = value => typeof value !== "number" ? value : Number.isInteger(value) ? value.toLocaleString("en") : value.toPrecision(3);
const text = (column, i) => column.values[i] === null ? null : column.kind === "number" ? format(column.values[i]) : column.categories[column.values[i]];
const title = i => data.labels[i] ?? data.ids[i];

/* ---- the map ---- */
const base = n > 4000 ? 5 : n > 1000 ? 6.5 : n > 300 ? 8 : 10;
const empty = extra => ({type: "scattergl", mode: "markers", x: [], y: [], hoverinfo: "skip", ...extra});

function layout() {
  const axis = {visible: false, zeroline: false, showgrid: false};
  return {
    margin: {l: 8, r: 8, t: 8, b: 8}, paper_bgcolor: style("--paper"), plot_bgcolor: style("--paper"),
    xaxis: axis, yaxis: {...axis, scaleanchor: "x"}, showlegend: false, dragmode: "pan", hovermode: "closest", hoverdistance: 14,
  };
}

function traces() {
  const points = {
    type: "scattergl", mode: "markers", x: data.x, y: data.y, hoverinfo: "none",
    marker: {color: colors, size: base, opacity: n > 4000 ? .75 : .88, line: {width: n > 4000 ? 0 : .6, color: style("--paper")}},
  };
  return [
    points,
    empty({mode: "lines", line: {color: style("--quiet"), width: 1.2}}),
    empty({hoverinfo: "none", marker: {size: base + 3, line: {width: 1.2, color: style("--ring")}}}),
    empty({marker: {size: base + 8, line: {width: 2.4, color: style("--ring")}}}),
  ];
}

const shown = i => current.kind === "number" || off.size === 0 || !off.has(current.values[i]);

function opacities() {
  const strong = n > 4000 ? .75 : .88, weak = selected === null ? strong : .3;
  if (off.size === 0) return weak;
  return data.ids.map((_, i) => shown(i) ? weak : .05);
}

function repaint() {
  const close = selected === null ? [] : nearest(selected).map(([i]) => i);
  const lines = {x: [], y: []};
  for (const i of close) { lines.x.push(data.x[selected], data.x[i], null); lines.y.push(data.y[selected], data.y[i], null); }
  const chosen = selected === null ? [] : [selected];
  const at = list => ({x: list.map(i => data.x[i]), y: list.map(i => data.y[i])});
  Plotly.restyle("map", {"marker.color": [colors], "marker.opacity": [opacities()], "marker.line.color": style("--paper")}, [0]);
  Plotly.restyle("map", {x: [lines.x, at(close).x, at(chosen).x], y: [lines.y, at(close).y, at(chosen).y]}, [1, 2, 3]);
  Plotly.restyle("map", {"marker.color": [close.map(i => colors[i]), chosen.map(i => colors[i])], "marker.line.color": style("--ring")}, [2, 3]);
  repaint.close = close;
}

/* ---- legend ---- */
function legend() {
  const box = $("legend");
  const without = current.values.filter(value => value === null).length;
  box.replaceChildren(element("h2", {textContent: current.name}));
  if (current.kind === "number") {
    const [low, high] = range(current);
    box.append(element("div", {className: "scale"},
      element("div", {className: "bar", style: {background: `linear-gradient(to right, ${scale(current).join(",")})`}}),
      element("div", {className: "ends"}, element("span", {textContent: format(low)}), element("span", {textContent: format(high)}))));
  } else {
    const counts = new Array(current.categories.length).fill(0);
    for (const code of current.values) if (code !== null) counts[code]++;
    const own = palette(current);
    current.categories.forEach((category, code) => {
      const button = element("button", {type: "button", title: "Show this one alone; once more for all"},
        element("i", {style: {background: own[code]}}), element("span", {textContent: category}), element("em", {textContent: counts[code]}));
      button.classList.toggle("off", off.has(code));
      button.onclick = () => {
        const alone = !off.has(code) && off.size === current.categories.length - 1;
        off = alone ? new Set() : new Set([...current.categories.keys()].filter(other => other !== code));
        legend(); repaint();
      };
      box.append(button);
    });
  }
  if (without) box.append(element("p", {className: "without", textContent: `${without.toLocaleString("en")} without`}));
}

/* ---- what one RNN is ---- */
function facts(i, keys) {
  const list = element("dl");
  for (const key of keys) {
    const column = columns.get(key), value = column && text(column, i);
    if (value !== null && value !== undefined) list.append(element("dt", {textContent: column.name}), element("dd", {textContent: value}));
  }
  return list;
}

function panel() {
  const box = $("panel");
  if (selected === null) {
    box.replaceChildren(
      element("h2", {textContent: `${n.toLocaleString("en")} RNNs`}),
      element("p", {className: "hint", textContent: "Each point is one RNN, placed by its embedding. Click one to see which RNNs are nearest to it" + (writes ? " and what they write." : ".")}),
      element("p", {className: "hint", textContent: data.note}));
    return;
  }
  const i = selected;
  box.replaceChildren(element("h2", {textContent: title(i)}), element("p", {className: "id", textContent: data.ids[i]}), facts(i, data.facts));
  if (data.samples[i].length) {
    box.append(element("h3", {textContent: "Writes"}), element("ul", {className: "strings"}, ...data.samples[i].map(string => element("li", {}, element("code", {textContent: string})))));
  }
  box.append(element("h3", {textContent: "Nearest by cosine of the embeddings"}));
  const list = element("ol", {className: "neighbours"});
  for (const [j, cosine] of nearest(i)) {
    const brief = data.brief.map(key => columns.get(key)).map(column => { const value = text(column, j); return value === null || column.kind === "category" ? value : `${column.name} ${value}`; }).filter(Boolean).join(" · ");
    const row = element("li", {tabIndex: 0},
      element("div", {className: "row"}, element("i", {style: {background: colors[j]}}), element("span", {textContent: title(j)}), element("em", {textContent: cosine.toFixed(3)})),
      element("div", {className: "what", textContent: brief ? `${data.ids[j]} · ${brief}` : data.ids[j]}));
    if (data.samples[j].length) row.append(element("code", {textContent: data.samples[j].slice(0, 2).join("  ")}));
    row.onclick = () => select(j);
    row.onkeydown = event => { if (event.key === "Enter") select(j); };
    list.append(row);
  }
  box.append(list);
  box.scrollTop = 0;
}

function select(i) {
  selected = i;
  $("tip").hidden = true;
  panel(); repaint();
  // A page within a frame may not change its address; the map works without.
  try { history.replaceState(null, "", i === null ? location.pathname + location.search : `#${encodeURIComponent(data.ids[i])}`); } catch { }
}

function tip(i, event) {
  const box = $("tip");
  box.replaceChildren(element("b", {textContent: title(i)}), element("p", {className: "id", textContent: data.ids[i]}), facts(i, data.hover));
  box.hidden = false;
  const {width, height} = box.getBoundingClientRect();
  box.style.left = `${Math.min(event.clientX + 14, innerWidth - width - 8)}px`;
  box.style.top = `${event.clientY + 14 + height > innerHeight ? event.clientY - height - 14 : event.clientY + 14}px`;
}

/* ---- search ---- */
function matches(query) {
  query = query.trim().toLowerCase();
  if (!query) return [];
  const found = [];
  for (const exact of [true, false]) {
    for (let i = 0; i < n && found.length < 8; i++) {
      const [id, label] = [data.ids[i].toLowerCase(), (data.labels[i] ?? "").toLowerCase()];
      const is = id === query || label === query;
      if (exact ? is : !is && (id.includes(query) || label.includes(query))) found.push(i);
    }
  }
  return found;
}

function suggest() {
  const found = matches($("find").value), list = $("found");
  const items = found.map((i, place) => {
    const item = element("li", {className: place ? "" : "first"}, element("b", {textContent: data.ids[i]}), element("span", {textContent: data.labels[i] ?? ""}));
    item.onmousedown = event => { event.preventDefault(); choose(i); };
    return item;
  });
  list.replaceChildren(...items.length ? items : [element("li", {className: "none", textContent: "No such RNN here"})]);
  list.hidden = !$("find").value.trim();
}

function choose(i) { $("find").value = data.ids[i]; $("found").hidden = true; select(i); }

/* ---- wiring ---- */
for (const column of data.columns) $("color").append(element("option", {value: column.key, textContent: column.name}));
$("color").value = current.key;
function recolor() {
  $("cyclic-label").hidden = current.kind !== "number";
  colors = colorsOf(current); legend(); repaint(); panel();
}
$("color").onchange = event => { current = columns.get(event.target.value); off = new Set(); $("cyclic").checked = current.cyclic; recolor(); };
$("cyclic").onchange = recolor;
$("find").oninput = suggest;
$("find").onblur = () => { $("found").hidden = true; };
$("find").onkeydown = event => {
  const found = matches($("find").value);
  if (event.key === "Enter" && found.length) choose(found[0]);
  if (event.key === "Escape") { $("find").value = ""; $("found").hidden = true; }
};
addEventListener("keydown", event => { if (event.key === "Escape" && event.target !== $("find") && selected !== null) select(null); });
dark.addEventListener("change", () => {
  Plotly.relayout("map", {paper_bgcolor: style("--paper"), plot_bgcolor: style("--paper")});
  Plotly.restyle("map", {"line.color": style("--quiet")}, [1]);
  recolor();
});

$("cyclic").checked = current.cyclic;
colors = colorsOf(current);
Plotly.newPlot("map", traces(), layout(), {responsive: true, scrollZoom: true, displaylogo: false, displayModeBar: false, doubleClick: "reset"}).then(plot => {
  plot.on("plotly_hover", event => {
    const point = event.points[0];
    tip(point.curveNumber === 2 ? repaint.close[point.pointNumber] : point.pointNumber, event.event);
  });
  plot.on("plotly_unhover", () => { $("tip").hidden = true; });
  plot.on("plotly_click", event => {
    const point = event.points[0];
    select(point.curveNumber === 2 ? repaint.close[point.pointNumber] : point.pointNumber);
  });
  const linked = data.ids.indexOf(decodeURIComponent(location.hash.slice(1)));
  recolor();
  if (linked >= 0) select(linked);
  document.body.dataset.ready = "yes";
});
