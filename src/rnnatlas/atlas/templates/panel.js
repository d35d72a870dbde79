/* The panel: what one RNN is, two side by side, or the RNNs that are chosen by lasso and filters. */
let closest = [];

function select(i) {
  selected = i;
  closest = i === null ? [] : nearest(i);
  $("tip").hidden = true;
  panel(); overlay();
  $("panel").scrollTop = 0;
  // A page within a frame may not change its address; the map works without.
  try { history.replaceState(null, "", i === null ? location.pathname + location.search : `#${encodeURIComponent(data.ids[i])}`); } catch { }
}

function pin(i) { pinned = i; panel(); overlay(); }

const link = i => element("a", {href: `#${encodeURIComponent(data.ids[i])}`, textContent: data.ids[i], onclick: event => { event.preventDefault(); select(i); }});
const dot = i => element("i", {style: {background: color(i)}});
const button = (name, click, more = {}) => element("button", {type: "button", textContent: name, onclick: click, ...more});
const strings = i => element("ul", {className: "strings"}, ...data.samples[i].map(string => element("li", {}, element("code", {textContent: string}))));

function facts(i, keys) {
  const list = element("dl");
  for (const key of keys) {
    const column = columns.get(key), value = column && text(column, i);
    if (value !== null && value !== undefined) list.append(element("dt", {textContent: column.name}), element("dd", {textContent: value}));
  }
  return list;
}

function brief(i) {
  return data.brief.map(key => columns.get(key)).map(column => {
    const value = text(column, i);
    return value === null || column.kind === "category" ? value : `${column.name} ${value}`;
  }).filter(Boolean).join(" · ");
}

function entry(i, number = null) {  // an RNN in a list: its address leads to its sample outputs
  const item = element("li", {tabIndex: 0},
    element("div", {className: "row"}, dot(i), element("span", {textContent: title(i)}), number === null ? null : element("em", {textContent: number})),
    element("div", {className: "what"}, link(i), brief(i) ? ` · ${brief(i)}` : ""));
  if (data.samples[i].length) item.append(element("code", {textContent: data.samples[i].slice(0, 2).join("  ")}));
  item.onclick = () => select(i);
  item.onkeydown = event => { if (event.key === "Enter" && event.target === item) select(i); };
  return item;
}

function panel() {
  const box = $("panel");
  if (selected === null) box.replaceChildren(...(pinned === null ? group() : [...waiting()]));
  else box.replaceChildren(...(pinned === null || pinned === selected ? one(selected) : two(pinned, selected)));
}

const note = () => `Places come from ${place.name} and keep neighbourhoods only roughly; the list of nearest RNNs is computed from the embeddings themselves.`;

function waiting() {
  return [element("h2", {textContent: "Compare"}), element("p", {className: "id"}, link(pinned)),
    element("p", {className: "hint", textContent: "Click another RNN to see both side by side."}), button("End comparison", () => pin(null))];
}

const listed = 100;
function group() {
  const chosen = filters.size || lassoed, parts = [element("h2", {textContent: `${count(passing.count)} RNN${passing.count === 1 ? "" : "s"}`})];
  if (!chosen) parts.push(
    element("p", {className: "hint", textContent: `Each point is one RNN, placed by its embedding. Click one to see which RNNs are nearest to it${data.writes ? " and what they write" : ""}. Choose several by the legend, the filters or the lasso to list and export them.`}),
    element("p", {className: "hint", textContent: note()}));
  parts.push(element("div", {className: "buttons"},
    button("Download CSV", () => save("rnns.csv", "text/csv", csv(group.members()))), button("Copy ids", event => copy(group.members().map(i => data.ids[i]).join("\n"), event.target)),
    chosen ? button("Clear", clearFilters) : null));
  if (!chosen) return parts;
  const members = group.members();
  parts.push(element("ol", {className: "neighbours"}, ...members.slice(0, listed).map(i => entry(i))));
  if (members.length > listed) parts.push(element("p", {className: "hint", textContent: `and ${count(members.length - listed)} more; the CSV has all`}));
  return parts;
}
group.members = () => { const found = []; for (let i = 0; i < n; i++) if (passing.has[i]) found.push(i); return found; };

function one(i) {
  const parts = [element("h2", {textContent: title(i)}), element("p", {className: "id"}, link(i)),
    element("div", {className: "buttons"},
      pinned === i ? button("End comparison", () => pin(null)) : button("Compare with …", () => pin(i)),
      button(filters.size || lassoed ? `Back to ${count(passing.count)} RNNs` : "Close", () => { pinned = null; select(null); }))];
  if (pinned === i) parts.push(element("p", {className: "hint", textContent: "Click another RNN to see both side by side."}));
  parts.push(facts(i, data.facts));
  if (data.samples[i].length) parts.push(element("h3", {textContent: "Writes"}), strings(i));
  const path = snapshots(i);
  if (path.length > 1) {
    parts.push(element("h3", {textContent: "Snapshots of its run, by step"}), element("p", {className: "snapshots"},
      ...path.map(j => element("a", {href: `#${encodeURIComponent(data.ids[j])}`, textContent: count(data.runs.step[j]), className: j === i ? "this" : "", onclick: event => { event.preventDefault(); select(j); }}))));
  }
  parts.push(element("h3", {textContent: "Nearest by cosine of the embeddings"}),
    element("ol", {className: "neighbours"}, ...closest.map(([j, similarity]) => entry(j, similarity.toFixed(3)))));
  return parts;
}

function two(a, b) {
  const table = element("div", {className: "pair"});
  const add = (name, first, second, differs = false) => table.append(element("h3", {textContent: name}),
    ...[first, second].map(cell => { const box = element("div", {}, cell ?? "–"); box.classList.toggle("differs", differs); return box; }));
  add("RNN", ...[a, b].map(i => element("div", {}, element("b", {}, dot(i), title(i)), element("br"), link(i))));
  for (const key of data.facts) {
    const column = columns.get(key), [first, second] = [text(column, a), text(column, b)];
    if (first !== null || second !== null) add(column.name, first, second, first !== second);
  }
  if (data.samples[a].length || data.samples[b].length) add("writes", strings(a), strings(b));
  return [element("h2", {textContent: "Side by side"}),
    element("p", {className: "id", textContent: `Cosine of the embeddings ${cosine(a, b).toFixed(3)} (${encoder.name})`}),
    element("div", {className: "buttons"}, button("Swap", () => { const kept = pinned; pinned = selected; select(kept); }), button("End comparison", () => pin(null))), table];
}

/* ---- beside the pointer ---- */
function tip(i, event) {
  const box = $("tip");
  box.replaceChildren(element("b", {textContent: title(i)}), element("p", {className: "id", textContent: data.ids[i]}), facts(i, data.hover));
  box.hidden = false;
  const {width, height} = box.getBoundingClientRect();
  box.style.left = `${Math.max(Math.min(event.clientX + 14, innerWidth - width - 8), 4)}px`;
  box.style.top = `${event.clientY + 14 + height > innerHeight ? event.clientY - height - 14 : event.clientY + 14}px`;
}
