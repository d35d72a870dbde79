/* What the reader does: choosing, searching, pointing. */
function subtitle() { $("subtitle").textContent = `Embedded by ${encoder.name}, placed by ${place.name}`; }

async function recolor(column = current) {
  paint(column);
  $("cyclic-label").hidden = !column.cyclic;
  facets(); panel();
  return draw();
}

function offer(select, names, change) {
  select.replaceChildren(...names.map((name, i) => element("option", {value: i, textContent: name})));
  select.onchange = () => change(Number(select.value));
}

async function move(toEncoder, toLayout) {
  encoder = data.encoders[toEncoder];
  place = encoder.layouts[toLayout];
  lassoed = null;  // it was drawn around other places
  offer($("layout"), encoder.layouts.map(one => one.name), chosen => move(toEncoder, chosen));
  $("layout").value = toLayout;
  subtitle(); pass(); facets(); chips();
  select(selected);
  view = home = whole();
  return draw();
}

function chooseColumns() {
  offer($("color"), data.columns.map(column => column.name), chosen => { $("cyclic").checked = data.columns[chosen].cyclic; recolor(data.columns[chosen]); });
  $("color").value = data.columns.indexOf(current);
  $("cyclic").onchange = () => recolor();
  offer($("encoder"), data.encoders.map(one => one.name), chosen => {
    const same = data.encoders[chosen].layouts.findIndex(one => one.name === place.name);
    move(chosen, Math.max(same, 0));
  });
  $("encoder-label").hidden = data.encoders.length < 2;
  offer($("layout"), encoder.layouts.map(one => one.name), chosen => move(0, chosen));
  $("layout-label").hidden = data.encoders.every(one => one.layouts.length < 2);
}

/* ---- search: Enter goes to the first hit, once more to the next ---- */
let hits = [], hit = -1;
const offered = 50;

function suggest() {
  hits = matches($("find").value, offered + 1); hit = -1;
  const items = hits.slice(0, offered).map((i, at) => {
    const item = element("button", {type: "button", tabIndex: -1}, element("b", {textContent: data.ids[i]}), element("span", {textContent: label(i) ?? ""}));
    item.onmousedown = event => { event.preventDefault(); visit(at); $("found").hidden = true; };
    return item;
  });
  if (!hits.length) items.push(element("p", {textContent: "No such RNN here"}));
  if (hits.length > offered) items.push(element("p", {textContent: "and more; write more of it"}));
  hits.length = Math.min(hits.length, offered);
  $("found").replaceChildren(...items);
  $("found").hidden = !$("find").value.trim();
}

function visit(to) {
  if (!hits.length) return;
  hit = (to + hits.length) % hits.length;
  [...$("found").children].forEach((item, at) => item.classList.toggle("this", at === hit));
  $("found").children[hit].scrollIntoView({block: "nearest"});
  select(hits[hit]);
  show(hits[hit]);
}

function searching() {
  const box = $("find");
  box.oninput = suggest;
  box.onfocus = () => { $("found").hidden = !hits.length; };
  box.onblur = () => { $("found").hidden = true; };
  box.onkeydown = event => {
    const by = {Enter: event.shiftKey ? -1 : 1, ArrowDown: 1, ArrowUp: -1}[event.key];
    if (by) { event.preventDefault(); visit(hit + by); }
    if (event.key === "Escape") { event.stopPropagation(); box.value = ""; suggest(); }
  };
}

/* ---- the pointer on the map: one pans, chooses or draws a lasso, two zoom ---- */
function pointing() {
  const map = $("map"), fingers = new Map();
  const at = event => { const edge = $("overlay").getBoundingClientRect(); return [event.clientX - edge.left, event.clientY - edge.top]; };
  const onMap = event => !event.target.closest("#tools, #chips button");
  const lassoing = () => map.classList.contains("lassoing");
  let start = null, hovering = null;  // where a click may have begun; null once it is more than a click

  const hover = event => {
    cancelAnimationFrame(hovering);
    hovering = requestAnimationFrame(() => { const i = onMap(event) ? pick(...at(event)) : null; if (i === null) $("tip").hidden = true; else tip(i, event); });
  };

  map.addEventListener("pointerdown", event => {
    if (event.button || !onMap(event)) return;
    fingers.set(event.pointerId, at(event));
    map.setPointerCapture(event.pointerId);
    start = fingers.size === 1 ? at(event) : null;
    loop = lassoing() && start ? [start] : [];
  });
  map.addEventListener("pointermove", event => {
    const before = fingers.get(event.pointerId), [x, y] = at(event);
    if (!before) { if (event.pointerType !== "touch") hover(event); return; }
    $("tip").hidden = true;
    if (start && Math.hypot(x - start[0], y - start[1]) > 5) start = null;
    if (loop.length) { loop.push([x, y]); overlay(true); return; }
    if (start) return;
    fingers.set(event.pointerId, [x, y]);
    if (fingers.size === 1) { pan(x - before[0], y - before[1]); return; }
    const [, other] = [...fingers].find(([id]) => id !== event.pointerId), apart = (a, b) => Math.max(Math.hypot(a[0] - b[0], a[1] - b[1]), 1);
    pan((x - before[0]) / 2, (y - before[1]) / 2);
    zoom(apart([x, y], other) / apart(before, other), (x + other[0]) / 2, (y + other[1]) / 2);
  });
  map.addEventListener("pointerup", event => {
    if (!fingers.delete(event.pointerId)) return;
    const path = loop, click = start;
    loop = []; start = null;
    if (!click) { if (path.length > 2) encircle(path); return; }
    const i = pick(...click, event.pointerType === "touch" ? 22 : 14);
    if (event.shiftKey && i !== null && selected !== null && pinned === null) pinned = selected;
    select(i);
    if (event.pointerType === "touch" && i !== null) tip(i, event);  // the panel may be out of view
  });
  map.addEventListener("pointercancel", event => { fingers.delete(event.pointerId); loop = []; start = null; overlay(); });
  map.addEventListener("pointerleave", event => { if (event.pointerType === "touch") return; cancelAnimationFrame(hovering); $("tip").hidden = true; });
  map.addEventListener("wheel", event => { event.preventDefault(); $("tip").hidden = true; zoom(Math.exp(-event.deltaY * (event.deltaMode ? .05 : .002)), ...at(event)); }, {passive: false});
  map.addEventListener("dblclick", event => { if (onMap(event)) everything(); });
}

function encircle(polygon) {
  const where = pixels();
  lassoed = new Uint8Array(n);
  for (let i = 0; i < n; i++) lassoed[i] = inside(polygon, where.x(place.x[i]), where.y(place.y[i])) ? 1 : 0;
  pressed("lasso", false);
  select(null);
  return refilter();
}

function pressed(id, on) {
  $(id).setAttribute("aria-pressed", on);
  if (id === "lasso") $("map").classList.toggle("lassoing", on);
}

function tools() {
  $("lasso").onclick = () => pressed("lasso", !$("map").classList.contains("lassoing"));
  $("paths").hidden = !data.runs;
  $("paths").onclick = () => { allPaths = !allPaths; pressed("paths", allPaths); overlay(); };
  $("closer").onclick = () => zoom(1.6);
  $("farther").onclick = () => zoom(1 / 1.6);
  $("reset").onclick = everything;
  $("svg").onclick = () => save("map.svg", "image/svg+xml", svg().text);
  $("png").onclick = async () => save("map.png", "image/png", await png());
}

/* ---- paper ---- */
function printing(on) {
  document.documentElement.classList.toggle("printing", on);
  paint(current); facets(); panel(); overlay();
}

function escape(event) {
  if (event.key !== "Escape") return;
  if ($("map").classList.contains("lassoing")) pressed("lasso", false);
  else if (pinned !== null) pin(null);
  else if (selected !== null) select(null);
}

load().then(async () => {
  const first = columns.get(data.color);
  $("cyclic").checked = first.cyclic;
  $("cyclic-label").hidden = !first.cyclic;
  paint(first); pass(); chooseColumns(); subtitle(); facets(); chips(); panel();
  await startMap();
  searching(); pointing(); tools();
  const linked = () => { const i = row(decodeURIComponent(location.hash.slice(1))); if (i !== undefined) { select(i); show(i); } };
  linked();
  addEventListener("hashchange", linked);
  addEventListener("keydown", escape);
  addEventListener("beforeprint", () => printing(true));
  addEventListener("afterprint", () => printing(false));
  darkness.addEventListener("change", () => recolor());
  document.body.dataset.ready = "yes";
});
