/* What the reader does: choosing, searching, pointing. */
function subtitle() { $("subtitle").textContent = `Embedded by the ${encoder.name} encoder, placed by ${place.name}`; }

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
  await draw();
  return everything();
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
    item.onmousedown = event => { event.preventDefault(); go(at); $("found").hidden = true; };
    return item;
  });
  if (!hits.length) items.push(element("p", {textContent: "No such RNN here"}));
  if (hits.length > offered) items.push(element("p", {textContent: "and more; write more of it"}));
  hits.length = Math.min(hits.length, offered);
  $("found").replaceChildren(...items);
  $("found").hidden = !$("find").value.trim();
}

function go(to) {
  if (!hits.length) return;
  hit = (to + hits.length) % hits.length;
  [...$("found").children].forEach((item, at) => item.classList.toggle("this", at === hit));
  $("found").children[hit].scrollIntoView({block: "nearest"});
  select(hits[hit]);
  show(hits[hit]);
}

function show(i) {  // moves the map where the RNN is not in view
  const at = pixels(), [x, y] = [at.x(place.x[i]), at.y(place.y[i])], {clientWidth: width, clientHeight: height} = $("plot");
  if (x > 0 && y > 0 && x < width && y < height) return;
  const change = {};
  for (const [name, to] of [["xaxis", place.x[i]], ["yaxis", place.y[i]]]) {
    const [low, high] = $("plot")._fullLayout[name].range;
    change[`${name}.range`] = [to - (high - low) / 2, to + (high - low) / 2];
  }
  Plotly.relayout("plot", change);
}

function searching() {
  const box = $("find");
  box.oninput = suggest;
  box.onfocus = () => { $("found").hidden = !hits.length; };
  box.onblur = () => { $("found").hidden = true; };
  box.onkeydown = event => {
    const by = {Enter: event.shiftKey ? -1 : 1, ArrowDown: 1, ArrowUp: -1}[event.key];
    if (by) { event.preventDefault(); go(hit + by); }
    if (event.key === "Escape") { event.stopPropagation(); box.value = ""; suggest(); }
  };
}

/* ---- the pointer on the map ---- */
function pointing() {
  const map = $("map"), canvas = $("overlay");
  const at = event => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
  const onMap = event => !event.target.closest("#tools, #chips");
  let down = null, hovering = null;
  const lassoing = () => $("lasso").getAttribute("aria-pressed") === "true";
  map.addEventListener("pointermove", event => {
    if (down) { if (lassoing()) { loop.push(at(event)); overlay(); } $("tip").hidden = true; return; }
    if (event.pointerType === "touch") return;
    cancelAnimationFrame(hovering);
    hovering = requestAnimationFrame(() => { const i = onMap(event) ? pick(...at(event)) : null; if (i === null) $("tip").hidden = true; else tip(i, event); });
  });
  map.addEventListener("pointerleave", () => { cancelAnimationFrame(hovering); $("tip").hidden = true; });
  map.addEventListener("pointerdown", event => {
    if (event.button || !onMap(event)) return;
    down = at(event);
    if (lassoing()) { loop = [down]; canvas.setPointerCapture(event.pointerId); }
  }, true);
  addEventListener("pointercancel", () => { down = null; loop = []; overlay(); }, true);
  addEventListener("pointerup", event => {
    if (!down) return;
    const [x, y] = at(event), still = Math.hypot(x - down[0], y - down[1]) < 5, drawn = loop;
    down = null; loop = [];
    if (still && drawn.length < 12) {
      const i = pick(x, y, event.pointerType === "touch" ? 22 : 14);
      if (event.shiftKey && i !== null && selected !== null && pinned === null) pinned = selected;
      select(i);
      if (event.pointerType === "touch" && i !== null) tip(i, event);  // the panel may be out of view
    } else if (drawn.length > 2) encircle(drawn);
    overlay();
  }, true);
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
  $("lasso").onclick = () => pressed("lasso", $("lasso").getAttribute("aria-pressed") !== "true");
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
