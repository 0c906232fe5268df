"use strict";
// The page's whole state is `state`; every change goes through `go`, `show`, `filter` or `point`, then `draw`.
// A cell is pointed at by the mouse, until that leaves; or held, by a click, a tap or the arrow keys, until let go.
const data = JSON.parse(document.getElementById("data").textContent);
const [T, H, W] = data.grid;
const DROPPED = -1;
const NAMES = { 0: "kept", 1: "representative", 2: "event", 3: "both" };
const PAINT = { 0: "#f0f0f0", 1: "#ffd60a", 2: "#e1142d", 3: "#ff8000" };
const REGIONS = ["#56b4e9", "#009e73", "#cc79a7", "#0072b2", "#94cb66", "#8856c8", "#b8a078"];
// Of two files a token is in A only, in B only, or in both; the third value is what a picture writes into its cell.
const SIDES = { A: ["#56b4e9", "only in A", "A"], B: ["#ff7ab8", "only in B", "B"], both: ["#f0f0f0", "in both", ""] };
const state = { slot: 0, show: "kept", kinds: new Set(), cell: null, held: false, playing: null };
const byId = (id) => document.getElementById(id);
const element = (name, props = {}, parent = null) => {
  const made = Object.assign(document.createElement(name), props);
  if (parent) parent.append(made);
  return made;
};
const svg = (name, attributes, parent) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent.append(made);
  return made;
};

// Kept tokens are listed by position; these find one by its position on the grid.
for (const file of data.files) {
  file.at = new Map(file.index.map((position, i) => [position, i]));
  file.sizes = new Map();
  file.keptOf = new Map();
  file.pieces = new Map();
  for (const whole of file.wholes || []) file.pieces.set(whole, (file.pieces.get(whole) || 0) + 1);
  for (const label of file.community) file.sizes.set(label, (file.sizes.get(label) || 0) + 1);
  for (const p of file.index) file.keptOf.set(file.community[p], (file.keptOf.get(file.community[p]) || 0) + 1);
}
const pictures = data.frames.map((source) => {
  if (!source) return null;
  const image = new Image();
  image.onload = () => draw();
  image.src = source;
  return image;
});

const position = (slot, row, column) => (slot * H + row) * W + column;
const kindAt = (file, p) => (file.at.has(p) ? file.kind[file.at.get(p)] : DROPPED);
const shown = (kind) => kind !== DROPPED && state.kinds.has(kind);
const [A, B] = data.files;
/** Which of two files kept a token: A, B, both, or null. */
const sideAt = (p) => (A.at.has(p) ? (B.at.has(p) ? "both" : "A") : B.at.has(p) ? "B" : null);
/** How many tokens of each slot each kind has, or each side if two files are held against each other. */
function counted(file) {
  const counts = [...Array(T)].map(() => ({}));
  file.index.forEach((p, i) => {
    const slot = Math.floor(p / (H * W)), key = state.show === "difference" ? sideAt(p) : file.kind[i];
    if (state.show === "difference" || state.kinds.has(key)) counts[slot][key] = (counts[slot][key] || 0) + 1;
  });
  return counts;
}
/** The number under which a community was one before it was cut; its own if it was not, or if the file does not say. */
const wholeOf = (file, label) => (file.wholes && label >= 0 ? file.wholes[label] : label);
const digits = (value) => Number(value).toPrecision(3);

/** All that is known of a cell, as the lines that a reader sees. */
function describe(file, slot, row, column) {
  const p = position(slot, row, column), i = file.at.get(p), label = file.community[p];
  const lines = [`slot ${slot}, row ${row}, column ${column} (position ${p}), ${data.times[slot]} s`];
  const kind = kindAt(file, p);
  let text = kind === DROPPED ? "dropped" : kind === 3 ? "representative and event" : NAMES[kind];
  if (label >= 0) {
    const kept = file.keptOf.get(label) || 0;
    text += file.regions ? `; community ${label}: ${file.sizes.get(label)} tokens, ${kept} kept`
      : `; community ${label}: ${kept} kept`;
    const whole = wholeOf(file, label), pieces = file.pieces.get(whole);
    if (pieces > 1) text += `; piece ${file.piece[label] + 1} of ${pieces} of community ${whole}`;
  }
  lines.push(text);
  const numbers = [];
  if (i !== undefined && file.centrality) numbers.push(`centrality ${digits(file.centrality[i])}`);
  if (i !== undefined && file.importance) numbers.push(`importance ${digits(file.importance[i])}`);
  if (numbers.length) lines.push(numbers.join("; "));
  return lines;
}

/** x, y, width and height of a cell on a picture of that size. */
function box(row, column, width, height) {
  const g = data.geometry;
  const x = (c) => Math.round((g.left + ((g.right - g.left) * c) / g.columns) * width);
  const y = (r) => Math.round((g.top + ((g.bottom - g.top) * r) / g.rows) * height);
  return [x(column), y(row), Math.min(width, x(column + 1)) - x(column), Math.min(height, y(row + 1)) - y(row)];
}

/** Row and column under a point given in fractions of the picture; null outside of the grid. */
function cellAt(fx, fy) {
  const g = data.geometry;
  const column = Math.floor(((fx - g.left) / (g.right - g.left)) * g.columns);
  const row = Math.floor(((fy - g.top) / (g.bottom - g.top)) * g.rows);
  return row >= 0 && row < g.rows && column >= 0 && column < g.columns ? [row, column] : null;
}

function drawPicture(file) {
  const canvas = file.canvas, aspect = data.width / data.height, scale = window.devicePixelRatio || 1;
  const room = Math.min(canvas.parentElement.clientWidth, window.innerHeight * 0.46 * aspect);
  canvas.style.width = `${room}px`;
  canvas.style.height = `${room / aspect}px`;
  canvas.width = Math.round(room * scale);
  canvas.height = Math.round((room / aspect) * scale);
  const pen = canvas.getContext("2d"), { width, height } = canvas, image = pictures[state.slot];
  const whole = () => {
    if (image && image.complete && image.naturalWidth) pen.drawImage(image, 0, 0, width, height);
    else { pen.fillStyle = "#787c82"; pen.fillRect(0, 0, width, height); }
  };
  whole();
  if (state.show !== "frame") {
    pen.fillStyle = state.show === "regions" ? "rgba(40,42,46,.55)" : "rgba(12,13,15,.72)";
    pen.fillRect(0, 0, width, height);
  }
  const pointed = state.cell && file.community[position(state.slot, ...state.cell)];
  for (let row = 0; row < data.geometry.rows; row++) {
    for (let column = 0; column < data.geometry.columns; column++) {
      const p = position(state.slot, row, column), [x, y, w, h] = box(row, column, width, height);
      const label = file.community[p], kind = kindAt(file, p);
      const line = Math.max(1.5 * scale, Math.min(4 * scale, Math.min(w, h) / 9));
      const side = state.show === "difference" ? sideAt(p) : null;
      if (side || (state.show === "kept" && shown(kind))) {
        const [colour, , letter] = side ? SIDES[side] : [PAINT[kind], "", ""];
        pen.save(); pen.beginPath(); pen.rect(x, y, w, h); pen.clip(); whole(); pen.restore();
        pen.strokeStyle = colour; pen.lineWidth = line;
        pen.strokeRect(x + line / 2, y + line / 2, w - line, h - line);
        if (letter && Math.min(w, h) > 16 * scale) {
          pen.font = `bold ${Math.min(14 * scale, h / 3)}px system-ui, sans-serif`;
          pen.textAlign = "center"; pen.textBaseline = "middle";
          pen.lineWidth = 3 * scale; pen.strokeStyle = "#16181c"; pen.fillStyle = colour;
          pen.strokeText(letter, x + w / 2, y + h / 2); pen.fillText(letter, x + w / 2, y + h / 2);
        }
      }
      if (state.show === "regions" && label >= 0 && (file.sizes.get(label) > 1 || shown(kind))) {
        pen.globalAlpha = 0.62; pen.fillStyle = REGIONS[wholeOf(file, label) % REGIONS.length];
        pen.fillRect(x, y, w, h); pen.globalAlpha = 1;
        if (file.piece[label] % 2) { pen.fillStyle = "rgba(0,0,0,.35)"; pen.fillRect(x, y, w, h); }
        if (shown(kind)) {
          pen.fillStyle = PAINT[kind]; pen.beginPath();
          pen.arc(x + w / 2, y + h / 2, Math.min(w, h) / 6, 0, 7); pen.fill();
        }
      }
      if (state.show === "regions") {
        // White around communities, dark between the pieces of one.
        const between = (other) => (wholeOf(file, other) === wholeOf(file, label) ? "#282828" : "#ffffff");
        const right = file.community[p + 1], below = file.community[p + W];
        pen.fillStyle = between(right);
        if (column + 1 < data.geometry.columns && right !== label) pen.fillRect(x + w - scale, y, 2 * scale, h);
        pen.fillStyle = between(below);
        if (row + 1 < data.geometry.rows && below !== label) pen.fillRect(x, y + h - scale, w, 2 * scale);
      }
      if (state.cell && label >= 0 && label === pointed) {
        pen.strokeStyle = "#ffffff"; pen.lineWidth = scale; pen.setLineDash([4 * scale, 3 * scale]);
        pen.strokeRect(x + 2 * scale, y + 2 * scale, w - 4 * scale, h - 4 * scale); pen.setLineDash([]);
      }
      if (state.cell && state.cell[0] === row && state.cell[1] === column) {
        pen.strokeStyle = "#ffffff"; pen.lineWidth = 2 * scale; pen.strokeRect(x, y, w, h);
      }
    }
  }
  const lines = state.cell ? describe(file, state.slot, ...state.cell) : ["Point at a cell, or tap it, to read about its token."];
  file.told.replaceChildren(...lines.flatMap((line) => [document.createTextNode(line), element("br")]));
}

function drawLine(file) {
  const wide = Math.max(240, Math.min(720, file.line.parentElement.clientWidth)), high = 190;
  const left = 46, right = 54, top = 14, bottom = 40;
  for (const [name, value] of Object.entries({ width: wide, height: high, viewBox: `0 0 ${wide} ${high}` })) {
    file.line.setAttribute(name, value);
  }
  const x = (slot) => left + ((wide - left - right) * (slot + 0.5)) / T, step = (wide - left - right) / T;
  file.line.replaceChildren();
  const counts = counted(file);
  const sum = (count) => Object.values(count).reduce((a, b) => a + b, 0);
  const most = Math.max(1, ...data.files.flatMap((each) => each.perSlot)), y = (n) => high - bottom - ((high - top - bottom) * n) / most;
  svg("rect", { x: x(state.slot) - step / 2, y: 0, width: step, height: high - bottom, fill: "var(--line)" }, file.line);
  counts.forEach((count, slot) => {
    let base = 0;
    for (const kind of state.show === "difference" ? ["both", "A", "B"] : [1, 2, 3, 0]) {
      if (!count[kind]) continue;
      svg("rect", { x: x(slot) - step * 0.41, y: y(base + count[kind]), width: step * 0.82,
        height: y(base) - y(base + count[kind]), fill: `var(--bar${kind === "both" ? 0 : kind})`, class: "bar" }, file.line);
      base += count[kind];
    }
  });
  svg("line", { x1: left, x2: wide - right, y1: y(0), y2: y(0), stroke: "var(--soft)" }, file.line);
  const write = (px, py, text, anchor = "middle", more = {}) =>
    (svg("text", { x: px, y: py, "text-anchor": anchor, ...more }, file.line).textContent = text);
  write(left - 6, y(most) + 4, most, "end");
  write(left - 6, y(0) + 4, "0", "end");
  write(left - 6, y(most / 2) + 4, "tokens", "end");
  for (const slot of new Set([0, Math.round((T - 1) / 2), T - 1])) {
    write(x(slot), high - bottom + 15, `${slot}`);
    write(x(slot), high - bottom + 30, `${data.times[slot]} s`, slot ? "middle" : "start");
  }
  for (const slot of data.marked) {
    svg("line", { x1: x(slot), x2: x(slot), y1: 4, y2: high - bottom, stroke: "var(--ink)", "stroke-width": 1.5,
      "stroke-dasharray": "2 3", class: "marked" }, file.line);
  }
  if (file.change) {
    const limit = Math.max(0.05, ...data.files.flatMap((each) => each.change || [])), cy = (v) => high - bottom - ((high - top - bottom) * v) / limit;
    svg("polyline", { points: file.change.map((v, slot) => `${x(slot)},${cy(v)}`).join(" "), fill: "none",
      stroke: "var(--accent)", "stroke-width": 2 }, file.line);
    write(wide - right + 6, cy(limit) + 4, limit.toFixed(2), "start", { style: "fill:var(--accent)" });
    write(wide - right + 6, cy(limit / 2) + 4, "change", "start", { style: "fill:var(--accent)" });
    write(wide - right + 6, cy(0) + 4, "0", "start", { style: "fill:var(--accent)" });
  }
  const now = sum(counts[state.slot]);
  const change = file.change ? `; change ${file.change[state.slot].toFixed(3)}` : "";
  const alone = state.show === "difference" ? `, ${counts[state.slot][file.letter] || 0} only in ${file.letter}` : "";
  file.here.textContent = `In slot ${state.slot}: ${now} of ${H * W} tokens${alone}${change}.`;
  file.slotAt = (x) => Math.floor(((x - left) / (wide - left - right)) * T);
}

function draw() {
  byId("slot").value = state.slot;
  const when = `slot ${state.slot} of ${T - 1}, ${data.times[state.slot]} s`;
  byId("when").textContent = when;
  byId("slot").setAttribute("aria-valuetext", when);
  byId("link").href = `#slot=${state.slot}`;
  byId("link").setAttribute("aria-label", `link to slot ${state.slot}`);
  byId("kinds").hidden = state.show === "difference";
  byId("sides").hidden = state.show !== "difference";
  for (const file of data.files) { drawPicture(file); drawLine(file); }
}
function go(slot) { state.slot = Math.max(0, Math.min(T - 1, slot)); draw(); }
function show(what) { state.show = what; draw(); }
function filter(kind, on) { if (on) state.kinds.add(kind); else state.kinds.delete(kind); draw(); }
function point(cell, held = false) { Object.assign(state, { cell, held: held && cell !== null }); draw(); }
/** Go to the slot that the address names, as in page.html#slot=5. */
function follow() {
  const named = /^#slot=(\d+)$/.exec(location.hash);
  if (named) go(Number(named[1]));
}
function play(on) {
  clearInterval(state.playing);
  state.playing = on ? setInterval(() => go((state.slot + 1) % T), 250) : null;
  byId("play").textContent = on ? "Pause" : "Play";
}

function start() {
  byId("title").textContent = data.title;
  byId("about").textContent = data.about;
  byId("slot").max = T - 1;
  const kinds = [...new Set(data.files.flatMap((file) => file.kind))].sort((a, b) => a - b);
  for (const kind of kinds) {
    state.kinds.add(kind);
    const label = element("label", {}, byId("kinds"));
    const input = element("input", { type: "checkbox", checked: true, value: kind }, label);
    input.addEventListener("change", () => filter(kind, input.checked));
    element("span", { className: "key", style: `background:${PAINT[kind]}` }, label);
    label.append(NAMES[kind]);
  }
  const events = new Set(data.files.flatMap((file) => file.index.filter((_, i) => file.kind[i] & 2))
    .map((p) => Math.floor(p / (H * W))));
  const along = (slot) => `left:${(100 * slot) / Math.max(1, T - 1)}%`;
  for (const slot of events) element("i", { style: along(slot) }, byId("marks"));
  for (const slot of data.marked) element("i", { className: "asked", style: along(slot) }, byId("marks"));
  if (data.marked.length) {
    byId("marked").hidden = false;
    byId("marked").append("Marked: ");
    data.marked.forEach((slot, i) => {
      byId("marked").append(i ? ", " : "");
      element("a", { href: `#slot=${slot}`, textContent: `${data.times[slot]} s` }, byId("marked"));
    });
    byId("marked").append(".");
  }
  if (B) {
    byId("compare").hidden = false;
    A.letter = "A"; B.letter = "B";
    const sides = new Set([...A.index, ...B.index]), sizes = {};
    for (const p of sides) sizes[sideAt(p)] = (sizes[sideAt(p)] || 0) + 1;
    for (const [side, [colour, words]] of Object.entries(SIDES)) {
      const entry = element("span", { style: "margin-right:1rem;white-space:nowrap" }, byId("sides"));
      element("span", { className: "key", style: `background:${colour}` }, entry);
      entry.append(`${words} (${sizes[side] || 0})`);
      byId("sides").append(" ");
    }
  }
  if (!data.files.some((file) => file.community.some((label) => label >= 0))) {
    document.querySelector("input[value=regions]").disabled = true;
  }
  for (const file of data.files) {
    const section = element("section", {}, byId("files"));
    element("h2", { textContent: file.letter ? `${file.letter}: ${file.title}` : file.title }, section);
    file.canvas = element("canvas", { tabIndex: 0 }, element("div", {}, section));
    file.canvas.setAttribute("role", "img");
    file.canvas.setAttribute("aria-label", `${file.title}: arrow keys walk over the cells`);
    file.told = element("div", { className: "told" }, section);
    file.told.setAttribute("aria-live", "polite");
    file.here = element("p", {}, section);
    file.line = svg("svg", { role: "img", "aria-label": "Tokens kept per slot" }, section);
    if (file.note) element("p", { textContent: file.note }, section);
    const under = (event) => {
      const at = file.canvas.getBoundingClientRect();
      return cellAt((event.clientX - at.left) / at.width, (event.clientY - at.top) / at.height);
    };
    // A finger that moves scrolls the page; only a tap, which arrives as a click, chooses a cell.
    const passing = (event) => event.pointerType !== "touch" && !state.held;
    file.canvas.addEventListener("pointermove", (event) => { if (passing(event)) point(under(event)); });
    file.canvas.addEventListener("pointerleave", (event) => { if (passing(event)) point(null); });
    file.canvas.addEventListener("click", (event) => {
      const cell = under(event), again = state.held && cell && `${cell}` === `${state.cell}`;
      point(again ? null : cell, true);
    });
    file.canvas.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      if (!move) return;
      event.preventDefault();
      const g = data.geometry, within = (n, size) => Math.max(0, Math.min(size - 1, n));
      if (!state.cell) return point([0, 0], true);
      const [row, column] = state.cell;
      point([within(row + move[0], g.rows), within(column + move[1], g.columns)], true);
    });
    file.line.addEventListener("click", (event) => {
      go(file.slotAt(event.clientX - file.line.getBoundingClientRect().left));
    });
  }
  byId("slot").addEventListener("input", (event) => go(Number(event.target.value)));
  byId("play").addEventListener("click", () => play(!state.playing));
  for (const input of document.querySelectorAll("input[name=show]")) {
    input.addEventListener("change", () => show(input.value));
  }
  document.addEventListener("keydown", (event) => {
    if (event.key === "," || event.key === ".") go(state.slot + (event.key === "." ? 1 : -1));
    if (event.key === "Escape" && state.playing) play(false);
    else if (event.key === "Escape") point(null);
  });
  window.addEventListener("resize", draw);
  window.addEventListener("hashchange", follow);
  draw();
  follow();
}
start();
