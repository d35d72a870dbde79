/* Filters: classes and ranges of any columns, and a lasso; the legend is the filter of the column that colours. */
const filters = new Map();  // key → a set of codes, or [low, high]
let lassoed = null;  // one byte an RNN
let passing = {has: null, count: 0};
const opened = new Set();

function pass() {
  const has = new Uint8Array(n).fill(1);
  for (const [key, chosen] of filters) {
    const {values} = columns.get(key);
    if (Array.isArray(chosen)) {
      const [low, high] = values instanceof Float32Array ? chosen.map(Math.fround) : chosen;  // "to 0.4" has what is 0.4
      for (let i = 0; i < n; i++) if (!(values[i] >= low && values[i] <= high)) has[i] = 0;
    } else {
      for (let i = 0; i < n; i++) if (!chosen.has(values[i])) has[i] = 0;
    }
  }
  if (lassoed) for (let i = 0; i < n; i++) has[i] &= lassoed[i];
  passing = {has, count: has.reduce((sum, one) => sum + one, 0)};
}

function refilter() {
  pass(); facets(); chips(); panel();
  return draw();
}

function setFilter(key, chosen) {
  if (chosen === null) filters.delete(key); else filters.set(key, chosen);
  return refilter();
}

/* The first click shows one class alone; further ones add classes, or take them away. */
function toggle(column, code) {
  const chosen = new Set(filters.get(column.key) ?? []);
  if (!chosen.delete(code)) chosen.add(code);
  return setFilter(column.key, chosen.size && chosen.size < column.categories.length ? chosen : null);
}

function clearFilters() { filters.clear(); lassoed = null; return refilter(); }

/* ---- a facet: a column's classes with counts, or its histogram ---- */
const most = 400;

function classes(column) {
  const total = new Uint32Array(column.categories.length + 1), left = new Uint32Array(total.length);
  for (let i = 0; i < n; i++) { total[column.values[i]]++; left[column.values[i]] += passing.has[i]; }
  const chosen = filters.get(column.key), highest = Math.max(...total.subarray(0, -1), 1);
  const list = element("div", {className: "classes"});
  column.categories.slice(0, most).forEach((category, code) => {
    const button = element("button", {type: "button", title: `${category}: ${count(left[code])} of ${count(total[code])} shown`},
      column === current ? element("i", {style: {background: colors[code]}}) : null, element("span", {textContent: category}),
      element("em", {textContent: count(chosen || passing.count === n ? total[code] : left[code])}));
    button.style.setProperty("--share", `${100 * total[code] / highest}%`);
    button.setAttribute("aria-pressed", chosen?.has(code) ?? false);
    button.classList.toggle("off", Boolean(chosen) && !chosen.has(code));
    button.onclick = () => toggle(column, code);
    list.append(button);
  });
  if (column.categories.length > most) list.append(element("p", {className: "without", textContent: `and ${count(column.categories.length - most)} more`}));
  return [list, total[column.categories.length]];
}

const bins = 40;

function histogram(column) {
  const [low, high] = range(column), all = new Uint32Array(bins), left = new Uint32Array(bins);
  let without = 0;
  for (let i = 0; i < n; i++) {
    const value = column.values[i];
    if (Number.isNaN(value)) { without++; continue; }
    const bin = Math.min(Math.floor((value - low) / (high - low) * bins), bins - 1);
    all[bin]++; left[bin] += passing.has[i];
  }
  const highest = Math.max(...all, 1), chosen = filters.get(column.key);
  const bar = (bin, number, fill) => `<rect x="${bin * 5 + .5}" y="${60 - 60 * number / highest}" width="4" height="${60 * number / highest}" fill="${fill}"/>`;
  const box = element("div", {className: "histogram"});
  const paints = column === current ? Array.from(all, (_, bin) => colors[Math.floor((bin + .5) / bins * steps)]) : null;
  box.innerHTML = `<svg viewBox="0 0 ${bins * 5} 60" preserveAspectRatio="none" aria-hidden="true">` +  // numbers and our own colours alone
    Array.from(all, (number, bin) => bar(bin, number, "var(--line)") + bar(bin, left[bin], paints ? paints[bin] : "var(--bar)")).join("") + "</svg>";
  const brush = element("div", {className: "brush"});
  const show = (from, to) => Object.assign(brush.style, {left: `${100 * (from - low) / (high - low)}%`, width: `${100 * (to - from) / (high - low)}%`});
  if (chosen) show(Math.max(chosen[0], low), Math.min(chosen[1], high));
  box.append(brush);
  box.onpointerdown = event => {
    const {left: edge, width} = box.getBoundingClientRect();
    const value = ({clientX}) => low + Math.min(Math.max((clientX - edge) / width, 0), 1) * (high - low), start = value(event);
    const ends = move => [Math.min(start, value(move)), Math.max(start, value(move))];
    box.setPointerCapture(event.pointerId);
    box.onpointermove = move => show(...ends(move));
    box.onpointerup = move => {
      box.onpointermove = box.onpointerup = null;
      const [from, to] = ends(move);
      setFilter(column.key, to - from > (high - low) / 200 ? [from, to] : null);
    };
  };
  const input = (which, name, value) => {
    const field = element("input", {type: "number", step: "any", value: String(+value.toPrecision(5)), ariaLabel: `${column.name}, ${name}`});
    field.onchange = () => {
      const ends = [...filters.get(column.key) ?? [-Infinity, Infinity]];
      ends[which] = field.value === "" ? [-Infinity, Infinity][which] : Number(field.value);
      setFilter(column.key, ends[0] <= low && ends[1] >= high ? null : ends);
    };
    return field;
  };
  const [from, to] = chosen ?? [low, high];
  const ends = element("div", {className: "ends"}, input(0, "from", Math.max(from, low)), input(1, "to", Math.min(to, high)));
  return [element("div", {}, box, ends), without];
}

function facet(column) {
  const [content, without] = column.kind === "number" ? histogram(column) : classes(column);
  return element("div", {className: "facet"}, content, without ? element("p", {className: "without", textContent: `${count(without)} without`}) : null);
}

/* A column of one class, which all RNNs have, is no filter. */
const divides = column => column.kind === "number" || column.categories.length > 1 || column.values.some(code => code > 0);

function facets() {
  const scrolled = [...document.querySelectorAll(".classes")].map(list => [list.closest("[data-key]").dataset.key, list.scrollTop]);
  const legend = $("legend");
  legend.dataset.key = current.key;
  legend.replaceChildren(element("h2", {textContent: current.name}), facet(current));
  $("filters").replaceChildren(element("h2", {textContent: "Filter by"}), ...data.columns.filter(column => column !== current && divides(column)).map(column => {
    const box = element("details", {open: opened.has(column.key)}, element("summary", {textContent: column.name}));
    box.dataset.key = column.key;
    box.classList.toggle("filtered", filters.has(column.key));
    if (box.open) box.append(facet(column));
    box.ontoggle = () => {
      if (box.open === opened.has(column.key)) return;
      if (box.open) { opened.add(column.key); box.append(facet(column)); } else { opened.delete(column.key); box.lastChild.remove(); }
    };
    return box;
  }));
  for (const [key, top] of scrolled) {
    const list = document.querySelector(`[data-key="${CSS.escape(key)}"] .classes`);
    if (list) list.scrollTop = top;
  }
}

/* ---- what is in force ---- */
function said(key, chosen) {
  const column = columns.get(key);
  if (Array.isArray(chosen)) return `${column.name} ${format(Math.max(chosen[0], range(column)[0]))} to ${format(Math.min(chosen[1], range(column)[1]))}`;
  const names = [...chosen].map(code => column.categories[code]);
  return `${column.name}: ${names.length > 3 ? `${names.length} of ${column.categories.length}` : names.join(", ")}`;
}

function chips() {
  const chip = (name, remove) => {
    const button = element("button", {type: "button", title: "Remove this filter", textContent: `${name} ✕`});
    button.onclick = remove;
    return button;
  };
  const list = [...filters].map(([key, chosen]) => chip(said(key, chosen), () => setFilter(key, null)));
  if (lassoed) list.push(chip("lasso", () => { lassoed = null; refilter(); }));
  if (list.length > 1) list.push(chip("all filters", clearFilters));
  if (list.length) list.unshift(element("b", {textContent: `${count(passing.count)} of ${count(n)}`}));
  $("chips").replaceChildren(...list);
}
