/* The map: Plotly draws all points; what changes at a click is drawn on a canvas above them. */
let current, shade, colors;  // the column that colours, and its colours
let selected = null, pinned = null;  // an RNN, and another that it is compared with
const color = i => colors[shade[i]];

function paint(column) {
  current = column;
  shade = shades(column);
  colors = palette(column);
}

/* ---- the view: what lies in the middle of the map's box, and how many of data's units a pixel is ---- */
let view, home, drawn;  // now; of the whole map; what Plotly has drawn
function frame() {  // the box; on paper it stays what it was on the screen
  if (!onPaper()) frame.last = {width: Math.max($("map").clientWidth, 50), height: Math.max($("map").clientHeight, 50)};
  return frame.last;
}

function whole() {
  const {width, height} = frame(), [left, right] = range({values: place.x}), [bottom, top] = range({values: place.y});
  const unit = Math.max((right - left) / (width - 40), (top - bottom) / (height - 100));
  return {x: (left + right) / 2, y: (bottom + top) / 2, unit};
}

function pixels() {
  const {width, height} = frame(), {x, y, unit} = view;
  return {
    x: value => width / 2 + (value - x) / unit, y: value => height / 2 - (value - y) / unit,
    toX: pixel => x + (pixel - width / 2) * unit, toY: pixel => y - (pixel - height / 2) * unit,
  };
}

/* A move shows at once: what is drawn is shifted and scaled, and drawn anew when the view rests. */
let resting = null;
function go(to) {
  view = to;
  const {width, height} = frame(), ratio = drawn.unit / view.unit;
  const x = width / 2 * (1 - ratio) + (drawn.x - view.x) / view.unit, y = height / 2 * (1 - ratio) - (drawn.y - view.y) / view.unit;
  $("plot").style.transform = `translate(${x}px, ${y}px) scale(${ratio})`;
  overlay(true);
  clearTimeout(resting);
  resting = setTimeout(draw, 150);
}

function pan(dx, dy) { go({...view, x: view.x - dx * view.unit, y: view.y + dy * view.unit}); }

function zoom(factor, px = frame().width / 2, py = frame().height / 2) {
  const at = pixels(), [x, y] = [at.toX(px), at.toY(py)], unit = Math.min(Math.max(view.unit / factor, home.unit / 5000), home.unit * 4);
  go({x: x + (view.x - x) * unit / view.unit, y: y + (view.y - y) * unit / view.unit, unit});
}

function everything() { home = whole(); go(home); }

function show(i) {  // moves the map where the RNN is not in view
  const at = pixels(), [x, y] = [at.x(place.x[i]), at.y(place.y[i])], {width, height} = frame();
  if (x < 0 || y < 0 || x > width || y > height) go({...view, x: place.x[i], y: place.y[i]});
}

/* ---- points ---- */
function pointSize() {  // larger the closer one looks
  const {width, height} = frame(), size = Math.min(Math.max(.75 * Math.sqrt(width * height / n), 2.2), 10);
  return Math.min(size * Math.sqrt(Math.max(home.unit / view.unit, 1)), Math.max(size, 10));
}

function traces() {
  const all = passing.count === n;
  const list = wanted => {
    const x = new Float32Array(wanted ? passing.count : n - passing.count), y = new Float32Array(x.length);
    let k = 0;
    for (let i = 0; i < n; i++) if (passing.has[i] === wanted) { x[k] = place.x[i]; y[k++] = place.y[i]; }
    return {x, y};
  };
  const shown = [];
  for (let i = 0; i < n; i++) if (all || passing.has[i]) shown.push(colors[shade[i]]);
  const size = pointSize(), kind = {type: "scattergl", mode: "markers", hoverinfo: "skip"};
  return [
    {...kind, ...list(0), marker: {color: missing, size, opacity: .16, line: {width: 0}}},
    {...kind, ...list(1), marker: {color: shown, size, opacity: size < 4 ? .7 : .88, line: {width: size < 6 ? 0 : .6, color: style("--paper")}}},
  ];
}

function layout() {
  const {width, height} = frame(), at = pixels(), axis = {visible: false, zeroline: false, showgrid: false, fixedrange: true};
  return {
    width, height, margin: {l: 0, r: 0, t: 0, b: 0}, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    xaxis: {...axis, range: [at.toX(0), at.toX(width)]}, yaxis: {...axis, range: [at.toY(height), at.toY(0)]},
    showlegend: false, hovermode: false, dragmode: false,
  };
}

async function draw() {  // all points anew: after another view, colour, filter, layout or size
  clearTimeout(resting);
  const now = view;
  await Plotly.react("plot", traces(), layout(), {staticPlot: true});
  drawn = now;
  if (view === now) { $("plot").style.transform = ""; overlay(); } else go(view);
}

async function startMap() {
  view = home = whole();
  await draw();
  new ResizeObserver(() => {
    const {width, height} = frame(), last = $("plot").layout;
    if (onPaper() || (last.width === width && last.height === height)) return;
    if (view === home) view = whole();
    home = whole();
    draw();
  }).observe($("map"));
}

/* Points in cells of a grid, so that the nearest to the pointer is found without looking at all. */
function grid() {
  place.grid ??= (() => {
    const [x, y] = [range({values: place.x}), range({values: place.y})];
    const side = Math.min(Math.max(Math.ceil(Math.sqrt(n / 4)), 1), 512);
    const at = (value, [low, high]) => Math.min(Math.max(Math.floor((value - low) / (high - low) * side), 0), side - 1);
    const cell = i => at(place.y[i], y) * side + at(place.x[i], x);
    const starts = new Uint32Array(side * side + 1), members = new Uint32Array(n);
    for (let i = 0; i < n; i++) starts[cell(i) + 1]++;
    for (let c = 0; c < side * side; c++) starts[c + 1] += starts[c];
    const next = starts.slice();
    for (let i = 0; i < n; i++) members[next[cell(i)]++] = i;
    return {side, starts, members, atX: value => at(value, x), atY: value => at(value, y)};
  })();
  return place.grid;
}

function pick(px, py, reach = 14) {  // the nearest point that passes the filters, or null
  const at = pixels(), {side, starts, members, atX, atY} = grid();
  let best = null, least = reach ** 2;
  for (let v = atY(at.toY(py + reach)); v <= atY(at.toY(py - reach)); v++) {
    for (let c = v * side + atX(at.toX(px - reach)); c <= v * side + atX(at.toX(px + reach)); c++) {
      for (let k = starts[c]; k < starts[c + 1]; k++) {
        const i = members[k];
        if (!passing.has[i]) continue;
        const away = (at.x(place.x[i]) - px) ** 2 + (at.y(place.y[i]) - py) ** 2;
        if (away < least) { least = away; best = i; }
      }
    }
  }
  return best;
}

/* ---- the canvas above: the selection, its neighbours, runs, the lasso ---- */
let allPaths = false, loop = [];

/* What is marked, as lines and rings in data's units; the SVG is made of the same. */
function marks() {
  const lines = [], rings = [];
  for (const i of [pinned, selected]) {
    if (i === null) continue;
    const path = snapshots(i);
    if (path.length > 1) lines.push({points: path, width: 2.2, color: style("--ink")});
    for (const j of path) rings.push({i: j, radius: 3.2, width: 1.2});
  }
  if (selected !== null && pinned === null) {
    for (const [j] of closest) { lines.push({points: [selected, j], width: 1.2, color: style("--quiet")}); rings.push({i: j, radius: 5, width: 1.2}); }
  }
  if (selected !== null && pinned !== null) lines.push({points: [pinned, selected], width: 1.2, color: style("--quiet"), dash: [4, 4]});
  for (const i of [pinned, selected]) if (i !== null) rings.push({i, radius: 7.5, width: 2.4});
  return {lines, rings};
}

const faintness = () => Math.min(Math.max(1500 / passing.count, .02), .3);  // many lines would hide the points

function* runPaths() {  // of every run, the snapshots that pass the filters
  let path = [], run = null;
  for (const i of byRun()) {
    if (!passing.has[i] || data.runs.run[i] < 0) continue;
    if (data.runs.run[i] !== run) { if (path.length > 1) yield path; path = []; run = data.runs.run[i]; }
    path.push(i);
  }
  if (path.length > 1) yield path;
}

/* WebGL is not printed, so on paper the canvas has the points as well. */
function points(pen, at) {
  for (const wanted of [0, 1]) {
    const size = pointSize() / 2;
    pen.globalAlpha = wanted ? .85 : .16;
    for (let i = 0; i < n; i++) {
      if (passing.has[i] !== wanted) continue;
      pen.fillStyle = wanted ? color(i) : missing;
      pen.beginPath(); pen.arc(at.x(place.x[i]), at.y(place.y[i]), size, 0, 7); pen.fill();
    }
  }
  pen.globalAlpha = 1;
}

function overlay(moving = false) {
  const canvas = $("overlay"), {width, height} = frame(), paper = onPaper(), dense = paper ? 2 : devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * dense) || canvas.height !== Math.round(height * dense)) {
    canvas.width = Math.round(width * dense); canvas.height = Math.round(height * dense);
  }
  const pen = canvas.getContext("2d"), at = pixels();
  pen.setTransform(dense, 0, 0, dense, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.lineJoin = "round";
  if (paper) points(pen, at);
  const trace = points => points.forEach((i, k) => pen[k ? "lineTo" : "moveTo"](at.x(place.x[i]), at.y(place.y[i])));
  if (allPaths && !(moving && n > 20000)) {
    pen.beginPath();
    for (const path of runPaths()) trace(path);
    Object.assign(pen, {strokeStyle: style("--ink"), lineWidth: 1, globalAlpha: faintness()});
    pen.stroke();
    pen.globalAlpha = 1;
  }
  const {lines, rings} = marks();
  for (const line of lines) {
    pen.beginPath();
    trace(line.points);
    pen.setLineDash(line.dash ?? []);
    Object.assign(pen, {strokeStyle: line.color, lineWidth: line.width});
    pen.stroke();
  }
  pen.setLineDash([]);
  for (const ring of rings) {
    pen.beginPath();
    pen.arc(at.x(place.x[ring.i]), at.y(place.y[ring.i]), ring.radius, 0, 7);
    Object.assign(pen, {fillStyle: color(ring.i), strokeStyle: style("--ring"), lineWidth: ring.width});
    pen.fill(); pen.stroke();
  }
  if (loop.length) {
    pen.beginPath();
    loop.forEach(([x, y], k) => pen[k ? "lineTo" : "moveTo"](x, y));
    pen.closePath();
    Object.assign(pen, {fillStyle: style("--accent"), strokeStyle: style("--accent"), lineWidth: 1.5, globalAlpha: .12});
    pen.fill(); pen.globalAlpha = 1; pen.stroke();
  }
}

function inside(polygon, x, y) {
  let odd = false;
  for (let k = 0, last = polygon.length - 1; k < polygon.length; last = k++) {
    const [ax, ay] = polygon[k], [bx, by] = polygon[last];
    if ((ay > y) !== (by > y) && x < (bx - ax) * (y - ay) / (by - ay) + ax) odd = !odd;
  }
  return odd;
}
