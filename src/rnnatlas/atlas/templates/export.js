/* What can be taken away: ids, CSV, and the map as SVG or PNG. */
function save(name, type, content) {
  const address = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], {type}));
  element("a", {href: address, download: name}).click();
  setTimeout(() => URL.revokeObjectURL(address), 60000);
}

async function copy(string, button) {
  try { await navigator.clipboard.writeText(string); button.textContent = "Copied"; } catch { save("ids.txt", "text/plain", string); }
}

function csv(list) {
  const quoted = value => /[",\n\r]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value;
  const value = (column, i) => {
    if (isMissing(column, i)) return "";
    if (column.kind === "number") return String(column.whole ? column.values[i] : +column.values[i].toPrecision(6));
    return String((column.numbers ?? column.categories)[column.values[i]]);
  };
  const lines = [["id", ...data.columns.map(column => column.key), "x", "y", "samples"]];
  for (const i of list) lines.push([data.ids[i], ...data.columns.map(column => value(column, i)), String(place.x[i]), String(place.y[i]), data.samples[i].join(" ")]);
  return lines.map(line => line.map(quoted).join(",")).join("\r\n") + "\r\n";
}

/* The map as it is seen, with its legend, as vectors. */
function svg() {
  const {width, height} = frame(), at = pixels(), size = pointSize() / 2, parts = [];
  const safe = string => string.replace(/[&<>"]/g, sign => `&#${sign.charCodeAt(0)};`).replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, "�");
  const dots = (wanted, opacity) => {
    parts.push(`<g fill-opacity="${opacity}">`);
    for (let i = 0; i < n; i++) {
      if (passing.has[i] !== wanted) continue;
      const x = at.x(place.x[i]), y = at.y(place.y[i]);
      if (x > 0 && y > 0 && x < width && y < height) parts.push(`<circle cx="${x.toFixed(1)}" cy="${y.toFixed(1)}" r="${size.toFixed(1)}" fill="${wanted ? color(i) : missing}"/>`);
    }
    parts.push("</g>");
  };
  const trace = points => points.map(i => `${at.x(place.x[i]).toFixed(1)},${at.y(place.y[i]).toFixed(1)}`).join(" ");
  dots(0, .16); dots(1, size < 2 ? .7 : .88);
  if (allPaths) for (const path of runPaths()) parts.push(`<polyline points="${trace(path)}" fill="none" stroke="${style("--ink")}" stroke-opacity="${faintness()}"/>`);
  const {lines, rings} = marks();
  for (const line of lines) parts.push(`<polyline points="${trace(line.points)}" fill="none" stroke="${line.color}" stroke-width="${line.width}" stroke-dasharray="${(line.dash ?? []).join(" ")}"/>`);
  for (const ring of rings) parts.push(`<circle cx="${at.x(place.x[ring.i]).toFixed(1)}" cy="${at.y(place.y[ring.i]).toFixed(1)}" r="${ring.radius}" fill="${color(ring.i)}" stroke="${style("--ring")}" stroke-width="${ring.width}"/>`);
  const legend = [`<text y="0" font-weight="600">${safe(current.name)}</text>`];
  let bottom = 0;
  const rowOf = (fill, name) => { bottom += 16; legend.push(`<circle cx="4" cy="${bottom - 4}" r="4" fill="${fill}"/><text x="14" y="${bottom}">${safe(name)}</text>`); };
  if (current.kind === "number") {
    const [low, high] = range(current);
    for (let k = 0; k < 100; k++) legend.push(`<rect x="${k * 1.4}" y="10" width="1.6" height="10" fill="${colors[Math.floor(k / 99 * (steps - 1))]}"/>`);
    legend.push(`<text y="36">${format(low)}</text><text x="140" y="36" text-anchor="end">${format(high)}</text>`);
  } else {
    const chosen = filters.get(current.key), shown = [...current.categories.keys()].filter(code => !chosen || chosen.has(code)), room = Math.floor((height - 60) / 16);
    shown.slice(0, room).forEach(code => rowOf(colors[code], current.categories[code]));
    if (shown.length > room) rowOf("none", `and ${count(shown.length - room)} more`);
  }
  const whole = width + 190;
  return {width: whole, height, text: `<svg xmlns="http://www.w3.org/2000/svg" width="${whole}" height="${height}" viewBox="0 0 ${whole} ${height}"><title>${safe(document.title)}</title>` +
    `<rect width="${whole}" height="${height}" fill="${style("--paper")}"/><svg width="${width}" height="${height}">${parts.join("")}</svg>` +
    `<g transform="translate(${width + 10} 28)" font-family="system-ui, sans-serif" font-size="12" fill="${style("--ink")}">${legend.join("")}</g></svg>`};
}

async function png() {
  const {width, height, text} = svg(), image = new Image(), address = URL.createObjectURL(new Blob([text], {type: "image/svg+xml"}));
  image.src = address;
  await image.decode();
  const canvas = element("canvas", {width: 2 * width, height: 2 * height});
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  URL.revokeObjectURL(address);
  return new Promise(done => canvas.toBlob(done, "image/png"));
}
