"use strict";
const charts = JSON.parse(document.getElementById("charts").textContent);
const style = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const fonts = getComputedStyle(document.body).fontFamily;
const pen = document.createElement("canvas").getContext("2d");

/* The same chart in the page's colours: charts name them as var(--name). */
function coloured(value) {
  if (typeof value === "string") {
    const named = /^var\((--[\w-]+)\)$/.exec(value);
    return named ? style(named[1]) : value;
  }
  if (Array.isArray(value)) return typeof value.at(-1) === "number" ? value : value.map(coloured);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, coloured(part)]));
}

/* ---- texts ---- */
const plain = text => new DOMParser().parseFromString(text, "text/html").body.textContent;

function breadth(text, size = 13) {
  pen.font = `${size}px ${fonts}`;
  return pen.measureText(plain(text)).width;
}

/* Lines no wider than `width`; words that are wider are cut. Texts are escaped and stay so. */
function wrapped(text, width, size = 13) {
  const lines = [];
  for (const word of text.split(" ")) {
    const last = lines.length - 1;
    if (last >= 0 && breadth(`${lines[last]} ${word}`, size) <= width) lines[last] += ` ${word}`;
    else lines.push(...pieces(word, width, size));
  }
  return lines;
}

function pieces(word, width, size) {
  const cut = [""];
  for (const letter of word.match(/<[^>]*>|&\w+;|./gsu) ?? [])
    if (breadth(cut.at(-1) + letter, size) > width && cut.at(-1)) cut.push(letter); else cut[cut.length - 1] += letter;
  return cut;
}

/* ---- panels ---- */
const key = (axis, panel) => `${axis}axis${panel ? panel + 1 : ""}`;
const bar = trace => trace.marker?.showscale ? trace.marker.colorbar : trace.showscale ? trace.colorbar : null;
const panelOf = trace => Number((trace.xaxis ?? "x").slice(1) || 1) - 1;

/* Names of rows: in lines beside the first panel, which takes pixels on the left; or, on a narrow page, above the rows. */
function beside(chart, width) {
  const axis = chart.layout.yaxis, title = axis.title?.text ? 24 : 0;
  if (axis.visible === false) return {left: 2};
  if (axis.showticklabels === false) return {left: title + 4};
  if (!axis.ticktext) {
    const names = chart.data.flatMap(trace => trace.type === "heatmap" ? trace.y : []);
    return {left: Math.max(...(names.length ? names : ["0.000"]).map(text => breadth(text))) + 10 + title};
  }
  const longest = Math.max(...axis.ticktext.map(text => breadth(text)));
  if (width < 560 && longest > .36 * width) return {left: 2, inside: longest};
  const most = Math.max(160, .28 * width), names = axis.ticktext.map(text => wrapped(text, most));
  return {left: Math.min(longest, most) + 16, names};
}

/* Names of rows above them, where there is no room beside. */
function namesAbove(layout, {number, width}, x) {
  const {tickvals, ticktext} = layout[key("y", number)];
  return tickvals.map((y, i) => ({
    text: wrapped(ticktext[i], width, 12).join("<br>"), x, y, xref: "paper", yref: `y${number ? number + 1 : ""}`,
    xanchor: "left", yanchor: "bottom", yshift: 3, align: "left", showarrow: false, font: {size: 11.5, color: "var(--quiet)"}, borderpad: 0,
  }));
}

/* Where panels are, in pixels: as many columns as fit, others in bands below them. */
function boxesOf({layout}, width, scale, {left, inside, names}) {
  const grid = layout.meta, narrowest = Math.max(scale * grid.narrowest, inside ?? 0);
  const right = grid.side ? 50 : 10, gap = inside ? 16 : grid.square ? 10 : 26, whole = width - left - right;
  const most = Math.max(1, Math.min(grid.columns, grid.most ?? grid.columns, Math.floor((whole + gap) / (narrowest + gap))));
  const bands = Math.ceil(grid.columns / most), abreast = Math.ceil(grid.columns / bands);
  const panel = (whole - gap * (abreast - 1)) / abreast;
  const above = inside ? Math.max(...layout.yaxis.ticktext.map(name => wrapped(name, panel, 12).length)) : 0;
  const lines = Math.max(...(names ?? [[""]]).map(name => name.length)), stretch = 1 + .55 * above + .3 * (lines - 1);
  const height = grid.square ? Math.min(scale * grid.height, panel) : scale * grid.height * stretch;
  const boxes = [];
  let down = 0;
  for (let band = 0; band < bands; band++) for (let row = 0; row < grid.rows; row++) {
    const first = row * grid.columns, columns = [...Array(abreast).keys()].map(i => band * abreast + i).filter(i => i < grid.columns);
    const titles = columns.map(column => wrapped(grid.titles[first + column] ?? "", panel));
    const high = Math.max(...titles.map(title => title.join("") ? title.length : 0));
    down += high * 16 + (high || row ? 8 : 2);
    columns.forEach((column, place) => boxes.push(
      {number: first + column, first, place, title: titles[place].join("<br>"), left: place * (panel + gap), width: panel, top: down, height}));
    const {visible, showticklabels, title} = layout[key("x", first)];
    down += height + (visible === false ? 8 : (showticklabels === false ? 0 : 20) + (title?.text ? 26 : 4) + 8);
  }
  return {boxes, whole, down, right};
}

/* A chart for a page of some width. */
function arranged(chart, width, scale = 1) {
  const {data, layout} = structuredClone(chart), {side} = layout.meta, rows = beside(chart, width);
  const {boxes, whole, down, right} = boxesOf(chart, width, scale, rows);
  const across = pixels => Math.min(1, Math.max(0, pixels / whole)), up = pixels => Math.min(1, Math.max(0, 1 - pixels / down));
  const bars = new Map(data.filter(bar).map(trace => [panelOf(trace), bar(trace)]));
  layout.annotations = [];
  for (const box of boxes) {
    const x = layout[key("x", box.number)], y = layout[key("y", box.number)], first = chart.layout[key("y", box.first)];
    const end = box.left + box.width - (bars.has(box.number) && !side ? 46 : 0);
    x.domain = [across(box.left), across(end)];
    y.domain = [up(box.top + box.height), up(box.top)];
    if (first.visible !== false) {
      y.showticklabels = first.showticklabels !== false && box.place === 0 && !rows.inside;
      if (rows.names) y.ticktext = rows.names.map(lines => lines.join("<br>"));
      y.title = {...y.title, text: box.place === 0 ? first.title?.text ?? "" : ""};
    }
    if (box.title) layout.annotations.push({
      text: box.title, x: across(box.left), y: up(box.top), xref: "paper", yref: "paper", xanchor: "left", yanchor: "bottom",
      yshift: 3, align: "left", showarrow: false, font: {size: 13, color: "var(--ink)"}, borderpad: 0,
    });
    if (rows.inside) layout.annotations.push(...namesAbove(layout, box, across(box.left)));
    if (bars.has(box.number)) Object.assign(bars.get(box.number), {
      x: side ? 1 : across(end), y: up((side ? boxes.find(one => one.first === box.first) : box).top), yanchor: "top", ypad: 0, xpad: 6,
      lenmode: "pixels", len: Math.min(box.height, 190),
    });
  }
  Object.assign(layout, {width, height: down + 4, autosize: false, margin: {l: rows.left, r: right, t: 2, b: 2, autoexpand: false}});
  return {data, layout};
}

/* ---- drawing ---- */
function draw(width, scale) {
  return Promise.all(Object.entries(charts).map(([id, chart]) => {
    const box = document.getElementById(`chart-${id}`), {data, layout} = coloured(arranged(chart, width ?? box.clientWidth, scale));
    return Plotly.react(box, data, layout, {displayModeBar: false});
  }));
}

let drawnAt = innerWidth;
draw().then(() => { document.body.dataset.ready = "yes"; });
addEventListener("resize", () => {
  if (innerWidth !== drawnAt && !document.documentElement.classList.contains("printing")) { drawnAt = innerWidth; draw(); }
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw());
addEventListener("beforeprint", () => { document.documentElement.classList.add("printing"); draw(688, .65); });
addEventListener("afterprint", () => { document.documentElement.classList.remove("printing"); draw(); });
