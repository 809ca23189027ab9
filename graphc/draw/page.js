"use strict";
// Gives boxes coordinates and draws them. Rows and their orders come from Python (layout.py); only
// coordinates depend on what is folded. Within a row, vertices go as near to their neighbours as the
// order allows: least squares under minimal distances, by pooling adjacent violators.
const data = JSON.parse(document.getElementById("data").textContent);
const { groups, boxes, wires, texts } = data;
const GAP = 16, ROW_GAP = 13, HEAD = 26, PAD = 14, SWEEPS = 18;
const $ = (id) => document.getElementById(id);
const canvas = $("canvas"), scene = $("scene"), root = document.documentElement;
const pen = document.createElement("canvas").getContext("2d");
const family = getComputedStyle(document.body).fontFamily;
const SVG = "http://www.w3.org/2000/svg";
const FIELDS = ["kind", "title", "subtitle", "where", "source", "detail", "types"];

const width = (text, font) => ((pen.font = `${font} ${family}`), pen.measureText(text).width);
const cut = (text, n) => (text.length > n ? text.slice(0, n - 1) + "…" : text);
const nodes = boxes.map((row, index) => {
  if (!row) return null;
  const box = { index, gradient: row[7] & 1, fetched: row[7] & 2, writes: row[8] };
  FIELDS.forEach((field, i) => (box[field] = texts[row[i]]));
  return box;
});
const parentOf = new Map();
groups.forEach((group, g) => { group.index = g; group.members.forEach((m) => parentOf.set(m, g)); });
const touching = boxes.map(() => []);
wires.forEach(([tail, head], w) => { touching[tail].push(w); touching[head].push(w); });

// ---------------------------------------------------------------- sizes
const isOpen = (m) => m < 0 && groups[~m].open && groups[~m].rows;
const FOLDED = { segment: "segment", kernel: "kernel", loop: "loop", branch: "branch", side: "branch" };
const kindOfGroup = (group) => FOLDED[group.kind] || "folded";
const TABS = ["folded", "kernel", "loop", "branch"];
const kindOf = (m) => (m >= 0 ? nodes[m].kind : kindOfGroup(groups[~m]));
function words(m) {
  if (m >= 0) return [nodes[m].title, cut(nodes[m].subtitle, 44), nodes[m].where];
  if (groups[~m].loops) return [groups[~m].title, groups[~m].loops, cut(groups[~m].where, 48)];
  const [count, rest] = groups[~m].summary.split(": ");
  return [groups[~m].title, count, cut(rest || "", 48)];
}
const headOf = (group) => (group.loops ? [group.loops, cut(group.where, 48)].filter(Boolean).join(" · ") : group.summary.split(":")[0]);
const sizes = new Map();
function boxSize(m) {
  if (!sizes.has(m)) {
    const [title, sub, where] = words(m);
    const wide = Math.max(width(title, "600 13px"), width(sub, "11px"), width(where, "10px"));
    const extra = { update: 34, placeholder: 40, segment: 32, host: 36, parameter: 44, result: 44 }[kindOf(m)] || (TABS.includes(kindOf(m)) ? 32 : 24);
    const tall = { variable: 62, segment: 61, parameter: 42, result: 42 }[kindOf(m)] || (TABS.includes(kindOf(m)) ? 59 : 54);
    sizes.set(m, { w: Math.max(64, wide + extra), h: tall });
  }
  return sizes.get(m);
}
function lineLabel(line) {
  const tensors = new Map();
  for (const w of line[2]) {
    const [tail, , , label, type] = wires[w];
    tensors.set(`${tail}:${label}`, { label: texts[label], type: texts[type] });
  }
  if (tensors.size === 1) {
    const n = line[2].length;
    return [...tensors.values()][0].label + (n > 1 ? ` ×${n}` : "");
  }
  const counts = new Map();
  for (const { type } of tensors.values()) counts.set(type, (counts.get(type) || 0) + 1);
  const ranked = [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
  const shown = ranked.slice(0, 2).map(([type, n]) => (n > 1 ? `${type} ×${n}` : type));
  return `${tensors.size} tensors: ${shown.join(", ")}${ranked.length > 2 ? " …" : ""}`;
}

// ---------------------------------------------------------------- coordinates
function spread(row) { // wish, weight, w of each vertex -> x
  const blocks = [];
  let offset = 0;
  row.forEach((v, i) => {
    if (i) offset += (row[i - 1].w + v.w) / 2 + (v.thin && row[i - 1].thin ? 7 : GAP);
    v.offset = offset;
    let block = { sum: (v.wish - offset) * v.weight, weight: v.weight, from: i };
    while (blocks.length && blocks.at(-1).sum / blocks.at(-1).weight > block.sum / block.weight) {
      const last = blocks.pop();
      block = { sum: last.sum + block.sum, weight: last.weight + block.weight, from: last.from };
    }
    blocks.push(block);
  });
  blocks.forEach((block, b) => {
    const end = b + 1 < blocks.length ? blocks[b + 1].from : row.length;
    for (let i = block.from; i < end; i++) row[i].x = block.sum / block.weight + row[i].offset;
  });
}
function vertexOf(group, code, inner) {
  const kind = code[0], n = Number(code.slice(1));
  if (kind === "m") {
    const m = group.members[n];
    const child = isOpen(m) ? (inner[n] = arrange(groups[~m])) : null;
    const { w, h } = child || boxSize(m);
    return { kind, n, m, child, w, h, up: [], down: [] };
  }
  if (kind !== "b") return { kind, n, w: 10, h: 0, up: [], down: [] };
  const line = n < 0 ? ~n : n, label = n < 0 ? lineLabel(group.lines[line]) : "";
  const w = label ? width(label, "10px") + 10 : 6;
  return { kind, n, line, label, w, h: label ? 15 : 0, thin: !label, up: [], down: [] };
}
function attach(v, end, below) { // the place on a vertex where a line ends, from its middle
  if (!v.child) return 0;
  const ports = below ? v.child.outs : v.child.ins;
  return ports[end[2]] === undefined ? 0 : ports[end[2]] - v.w / 2;
}
function connect(group, rows) {
  const ends = new Map(), bends = group.lines.map(() => []);
  for (const row of rows) for (const v of row) {
    if (v.kind === "b") bends[v.line].push(v);
    else ends.set(v.kind + v.n, v);
  }
  const backward = new Set(group.backward);
  return group.lines.map(([tail, head, uses], i) => {
    const back = backward.has(i), [from, to] = back ? [head, tail] : [tail, head];
    const a = ends.get(from[0] + from[1]), b = ends.get(to[0] + to[1]);
    const chain = [a, ...bends[i], b];
    for (let k = 0; k + 1 < chain.length; k++) {
      const dx = k === 0 ? (back ? 0 : attach(a, from, true)) : 0;
      const ex = k + 2 === chain.length ? (back ? 0 : attach(b, to, false)) : 0;
      const weight = chain[k].kind === "b" && chain[k + 1].kind === "b" ? 12 : 1;
      chain[k].down.push({ v: chain[k + 1], shift: ex - dx, weight });
      chain[k + 1].up.push({ v: chain[k], shift: dx - ex, weight });
    }
    return { chain, tail, head, uses, back, group: group.index };
  });
}
function settle(rows) {
  for (const row of rows) {
    row.forEach((v) => { v.wish = 0; v.weight = 1; });
    spread(row);
  }
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    const down = sweep % 2 === 0, order = down ? rows : [...rows].reverse(), both = sweep >= SWEEPS - 3;
    for (const row of order) {
      for (const v of row) {
        const near = both ? [...v.up, ...v.down] : down ? v.up : v.down;
        const all = near.length ? near : [...v.up, ...v.down];
        v.weight = all.reduce((sum, link) => sum + link.weight, 0) || 0.01;
        v.wish = all.length ? all.reduce((sum, l) => sum + l.weight * (l.v.x + l.shift), 0) / v.weight : v.x;
      }
      if (row.length) spread(row);
    }
  }
}
function fan(routes) { // where several lines meet one side of a box, they keep apart
  const sides = new Map();
  for (const route of routes) {
    const { chain, tail, head, back } = route;
    const [from, to] = back ? [head, tail] : [tail, head];
    for (const [v, end, below, next] of [[chain[0], from, true, chain[1]], [chain.at(-1), to, false, chain.at(-2)]]) {
      const key = below ? "start" : "stop";
      route[key] = v.kind === "m" && v.child && !back ? v.x + attach(v, end, below) : v.x;
      if (v.kind !== "m" || (v.child && !back)) continue;
      const id = v.n + key;
      if (!sides.has(id)) sides.set(id, []);
      sides.get(id).push({ route, key, v, at: next.x });
    }
  }
  for (const list of sides.values()) {
    list.sort((a, b) => a.at - b.at);
    const room = Math.min(list[0].v.w * 0.7, 16 * (list.length - 1));
    list.forEach(({ route, key, v }, i) => (route[key] = v.x + (list.length > 1 ? (i / (list.length - 1) - 0.5) * room : 0)));
  }
}
function sideways(v) { // how far its lines lead aside on their way to the next row
  return Math.max(0, ...v.down.map((link) => Math.abs(link.v.x + link.shift - v.x)));
}
function arrange(group) { // -> width, height, the places of everything inside, and of the ports
  const inner = [];
  const rows = group.rows.map((row) => row.map((code) => vertexOf(group, code, inner)));
  const routes = connect(group, rows);
  settle(rows);
  const all = rows.flat();
  const left = Math.min(0, ...all.map((v) => v.x - v.w / 2));
  const title = group.parent < 0 ? 0 : width(`▾ ${group.title}  ${headOf(group)}`, "600 12px") + 24;
  const span = Math.max(...all.map((v) => v.x + v.w / 2), 0) - left;
  const shift = PAD - left + Math.max(0, title - span - 2 * PAD) / 2;
  all.forEach((v) => (v.x += shift));
  fan(routes);
  let y = HEAD;
  for (const row of rows) {
    const tall = Math.max(0, ...row.map((v) => v.h)), aside = Math.max(0, ...row.map(sideways));
    row.forEach((v) => { v.top = y; v.tall = tall; });
    y += tall + ROW_GAP + Math.min(34, aside * 0.09);
  }
  const port = (kind) => all.filter((v) => v.kind === kind).sort((a, b) => a.n - b.n).map((v) => v.x);
  return { group, rows, routes, w: Math.max(span + 2 * PAD, title), h: y, ins: port("i"), outs: port("o") };
}

// ---------------------------------------------------------------- drawing
function make(name, attributes, parent, text) {
  const element = document.createElementNS(SVG, name);
  for (const key in attributes) element.setAttribute(key, attributes[key]);
  if (text !== undefined) element.textContent = text;
  if (parent) parent.appendChild(element);
  return element;
}
function outline(kind, w, h) {
  const r = 9, t = 7;
  switch (kind) {
    case "placeholder": return `M14 0H${w - 14}L${w} ${h / 2}L${w - 14} ${h}H14L0 ${h / 2}Z`;
    case "variable": return `M0 ${t}C0 ${-t / 3} ${w} ${-t / 3} ${w} ${t}V${h - t}C${w} ${h + t / 3} 0 ${h + t / 3} 0 ${h - t}ZM0 ${t}C0 ${2.3 * t} ${w} ${2.3 * t} ${w} ${t}`;
    case "constant": return `M0 0H${w - 11}L${w} 11V${h}H0ZM${w - 11} 0V11H${w}`;
    case "update": return `M0 0H${w - 14}L${w} ${h / 2}L${w - 14} ${h}H0Z`;
    case "segment": return `M0 6H${w - 6}V${h}H0ZM0 6L6 0H${w}V${h - 6}L${w - 6} ${h}M${w - 6} 6L${w} 0`;
    case "host": return `M4 0H${w}V${h}H4V${h - 12}H0V${h - 20}H4V20H0V12H4ZM4 12H8V20H4M4 ${h - 12}H8V${h - 20}H4`;
    case "parameter": return `M0 0H${w}L${w - 14} ${h}H14Z`;
    case "result": return `M14 0H${w - 14}L${w} ${h}H0Z`;
    case "folded": case "kernel": case "loop": case "branch": return `M0 5V${h}H${w}V5H${Math.min(58, w / 2)}L${Math.min(52, w / 2 - 6)} 0H6Q0 0 0 5Z`;
    default: return `M${r} 0H${w - r}Q${w} 0 ${w} ${r}V${h - r}Q${w} ${h} ${w - r} ${h}H${r}Q0 ${h} 0 ${h - r}V${r}Q0 0 ${r} 0Z`;
  }
}
let drawnBoxes = new Map(), drawnLines = [], drawnHeads = new Map(), extent = { w: 1, h: 1 };
function drawBox(m, x, y, w, h) {
  const kind = kindOf(m), owner = m >= 0 ? nodes[m] : groups[~m];
  const marks = `box k-${kind}${owner.gradient ? " grad" : ""}${owner.fetched ? " fetched" : ""}`;
  const g = make("g", { class: marks, transform: `translate(${x} ${y})`, "data-member": m }, layers.boxes);
  make("path", { class: "shape", d: outline(kind, w, h) }, g);
  const lower = kind === "variable" ? 8 : kind === "segment" || TABS.includes(kind) ? 4 : 0;
  words(m).forEach((line, i) => {
    make("text", { class: ["title", "sub", "where"][i], x: w / 2, y: 19 + 15 * i + lower, "text-anchor": "middle" }, g, (i === 0 && m < 0 ? "▸ " : "") + line);
  });
  drawnBoxes.set(m, { g, x, y, w, h });
}
function drawLine(route, dx, dy) {
  const { chain, back } = route, first = chain[0], last = chain.at(-1);
  const startY = first.kind === "i" ? 0 : first.top + first.h, port = last.kind === "o";
  let d = `M${route.start + dx} ${startY + dy}`, x = route.start, y = startY, label = null;
  const curve = (nx, ny) => {
    const bow = Math.max(8, (ny - y) * 0.5);
    d += Math.abs(nx - x) < 0.5 ? `V${ny + dy}` : `C${x + dx} ${y + bow + dy} ${nx + dx} ${ny - bow + dy} ${nx + dx} ${ny + dy}`;
    x = nx; y = ny;
  };
  for (const v of chain.slice(1, -1)) {
    curve(v.x, v.top);
    if (v.tall) { d += `V${v.top + v.tall + dy}`; y = v.top + v.tall; }
    if (v.label) label = v;
  }
  const into = last.kind === "m" && !last.child;
  const stopY = port ? last.top + ROW_GAP : last.top;
  curve(route.stop, stopY - (into && !back ? 5 : 0));
  const g = make("g", { class: "wire" }, layers.lines);
  make("path", { class: "reach", d }, g);
  make("path", { d }, g);
  if (into && !back) make("path", { class: "tip", d: `M${route.stop + dx} ${stopY + dy}l-4 -7h8z` }, g);
  if (back && first.kind === "m") make("path", { class: "tip", d: `M${route.start + dx} ${startY + dy}l-4 7h8z` }, g);
  const item = { g, route };
  if (label) {
    make("rect", { x: label.x - label.w / 2 + 2 + dx, y: label.top + dy, width: label.w - 4, height: 15, rx: 3 }, g);
    make("text", { x: label.x + dx, y: label.top + 11 + dy }, g, label.label);
  }
  g.addEventListener("pointerenter", () => hover(route.uses, null, () => describeLine(route)));
  g.addEventListener("pointerleave", calm);
  drawnLines.push(item);
}
function drawGroup(plan, dx, dy) {
  const { group } = plan;
  if (group.parent >= 0) {
    const g = make("g", { class: `group g-${group.kind}${group.gradient ? " grad" : ""}`, "data-member": ~group.index }, layers.groups);
    make("rect", { x: dx, y: dy, width: plan.w, height: plan.h, rx: 10 }, g);
    make("rect", { class: "head", x: dx, y: dy, width: plan.w, height: HEAD }, g);
    const name = make("text", { class: "name", x: dx + 11, y: dy + 17 }, g, `▾ ${group.title}`);
    make("tspan", { "font-weight": 400, class: "where" }, name, `  ${headOf(group)}`);
    drawnHeads.set(~group.index, { x: dx, y: dy, w: plan.w, h: plan.h });
  }
  for (const row of plan.rows) for (const v of row) {
    if (v.kind !== "m") continue;
    const x = dx + v.x - v.w / 2;
    if (v.child) drawGroup(v.child, x, dy + v.top);
    else drawBox(v.m, x, dy + v.top, v.w, v.h);
  }
  for (const route of plan.routes) drawLine(route, dx, dy);
}
function drawReturns() { // from the next value of a state to the state
  for (const box of nodes) {
    if (!box || box.kind !== "result" || box.writes < 0) continue;
    const from = drawnBoxes.get(box.index), to = drawnBoxes.get(box.writes);
    if (!from || !to) continue;
    const x = from.x + from.w - 7, y = from.y + from.h / 2, ex = to.x + to.w - 7, ey = to.y + to.h / 2;
    const out = Math.max(x, ex) + 30, g = make("g", { class: "return" }, layers.lines);
    make("path", { d: `M${x} ${y}C${out} ${y} ${out} ${ey} ${ex + 6} ${ey}` }, g);
    make("path", { class: "tip", d: `M${ex} ${ey}l7 -4v8z` }, g);
  }
}
let layers = {};
function redraw() {
  scene.replaceChildren();
  for (const layer of ["groups", "lines", "boxes"]) layers[layer] = make("g", {}, scene);
  drawnBoxes = new Map(); drawnLines = []; drawnHeads = new Map();
  const plan = arrange(groups[0]);
  extent = plan;
  drawGroup(plan, 0, 0);
  drawReturns();
  $("count").textContent = `${groups[0].summary}`;
  for (const [m, { g }] of drawnBoxes) {
    g.addEventListener("pointerenter", () => hover(usesOf(m), m, () => describe(m)));
    g.addEventListener("pointerleave", calm);
  }
}

// ---------------------------------------------------------------- pan, zoom, fold
let sight = { x: 0, y: 0, k: 1 };
const look = () => scene.setAttribute("transform", `translate(${sight.x} ${sight.y}) scale(${sight.k})`);
function fit(least = 0) {
  const wide = innerWidth - 40, tall = innerHeight - 90;
  const k = Math.max(least, Math.min(1.25, wide / extent.w, tall / extent.h));
  sight = { k, x: Math.max(20, (innerWidth - extent.w * k) / 2), y: Math.max(40, 50 + (tall - extent.h * k) / 2) };
  if (extent.w * k > wide) { // too large for the window: start where the graph starts
    const first = extent.rows.find((row) => row.some((v) => v.kind === "m")).filter((v) => v.kind === "m");
    sight.x = innerWidth / 2 - (k * (first[0].x + first.at(-1).x)) / 2;
  }
  look();
}
const placeOf = (m) => drawnBoxes.get(m) || drawnHeads.get(m);
function toggle(m, open) {
  const before = placeOf(m);
  if (open && !groups[~m].rows) return;
  groups[~m].open = open;
  redraw();
  const after = placeOf(m); // what was clicked stays under the pointer
  if (before && after) { sight.x += (before.x + before.w / 2 - after.x - after.w / 2) * sight.k; sight.y += (before.y - after.y) * sight.k; }
  look();
}
let drag = null;
canvas.addEventListener("pointerdown", (event) => { drag = { x: event.clientX, y: event.clientY, moved: false, target: event.target }; });
addEventListener("pointermove", (event) => {
  if (!drag) return;
  const dx = event.clientX - drag.x, dy = event.clientY - drag.y;
  if (!drag.moved && Math.abs(dx) + Math.abs(dy) < 4) return;
  drag.moved = true;
  canvas.classList.add("dragging");
  sight.x += dx; sight.y += dy; drag.x = event.clientX; drag.y = event.clientY;
  look();
});
addEventListener("pointerup", () => {
  const was = drag;
  drag = null;
  canvas.classList.remove("dragging");
  if (!was || was.moved) return;
  const box = was.target.closest(".box"), head = was.target.closest(".head");
  if (head) return toggle(Number(head.parentNode.dataset.member), false);
  const m = box ? Number(box.dataset.member) : null;
  if (m !== null && m < 0) return toggle(m, true);
  pick(m);
});
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  const k = Math.min(4, Math.max(0.03, sight.k * Math.exp(-event.deltaY * 0.0015)));
  sight.x = event.clientX - ((event.clientX - sight.x) * k) / sight.k;
  sight.y = event.clientY - ((event.clientY - sight.y) * k) / sight.k;
  sight.k = k;
  look();
}, { passive: false });
$("fit").onclick = () => fit();
$("fold").onclick = () => { groups.forEach((g, i) => (g.open = i === 0)); redraw(); fit(0.3); };
$("unfold").onclick = () => {
  const closed = groups.filter((g) => !g.open && g.rows && groups[g.parent].open && drawnBoxes.has(~g.index));
  closed.forEach((g) => (g.open = true));
  redraw(); fit(0.3);
};
$("theme").onclick = () => theme(root.dataset.theme === "dark" ? "light" : "dark");
function theme(name) { root.dataset.theme = name; }

// ---------------------------------------------------------------- what a box is
let picked = null;
function usesOf(m) {
  if (m >= 0) return touching[m];
  const out = [];
  for (const { route } of drawnLines) {
    const [a, b] = [route.chain[0], route.chain.at(-1)];
    if (a.m === m || b.m === m) out.push(...route.uses);
  }
  return out;
}
function hover(uses, m, text) {
  if (drag && drag.moved) return;
  const hot = new Set(uses), near = new Set();
  for (const w of hot) { near.add(visible(wires[w][0])); near.add(visible(wires[w][1])); }
  if (m !== null) near.add(m);
  if (m !== null && m >= 0) nodes.forEach((box) => { // an update belongs to its variable
    if (box && box.writes >= 0 && (box.index === m || box.writes === m)) near.add(visible(box.index)).add(visible(box.writes));
  });
  for (const { g, route } of drawnLines) g.classList.toggle("hot", route.uses.some((w) => hot.has(w)));
  for (const [member, { g }] of drawnBoxes) g.classList.toggle("hot", near.has(member));
  canvas.classList.add("busy");
  text();
}
function visible(index) {
  let member = index;
  for (let m = index; m !== undefined; m = parentOf.has(m) ? ~parentOf.get(m) : undefined) {
    if (drawnBoxes.has(m)) member = m;
  }
  return member;
}
function calm() {
  canvas.classList.remove("busy");
  if (picked !== null) describe(picked); else $("details").hidden = true;
}
function pick(m) {
  picked = m;
  for (const [member, { g }] of drawnBoxes) g.classList.toggle("picked", member === m);
  if (m === null) $("details").hidden = true; else describe(m);
}
function card(title, lines) {
  const aside = $("details");
  aside.hidden = false;
  aside.replaceChildren();
  const add = (name, text) => { const e = document.createElement(name); e.textContent = text; aside.appendChild(e); };
  add("h2", title);
  for (const [name, text] of lines) if (text) add(name, text);
}
function pathTo(m) {
  const names = [];
  for (let g = parentOf.get(m); g > 0; g = groups[g].parent) names.unshift(groups[g].title);
  return names.join(" / ");
}
function called(index) { // as in the listing, so that it can be searched for
  return nodes[index] ? nodes[index].detail.split(": ")[0] : "?";
}
function describe(m) {
  if (m < 0) {
    const hint = groups[~m].rows ? "Click to unfold." : "The inside is left out of this page, which would be too large: draw fewer fetches.";
    return card(groups[~m].title, [["p", pathTo(m)], ["p", groups[~m].summary], ["code", groups[~m].detail], ["p", groups[~m].where], ["p", hint]]);
  }
  const box = nodes[m];
  const reads = touching[m].filter((w) => wires[w][1] === m).slice(0, 12).map((w) => `${texts[wires[w][2]]}: ${texts[wires[w][4]]}  ← ${called(wires[w][0])}`);
  const marks = [data.legend[box.kind], box.fetched ? "fetched" : ""].filter(Boolean).join(" · ");
  card(box.title, [["p", pathTo(m)], ["p", marks], ["code", box.detail], ["p", box.writes >= 0 && nodes[box.writes] ? `${box.kind === "update" ? "writes" : "in the next step"} ${pathTo(box.writes)} / ${nodes[box.writes].title}` : ""], ["p", reads.length ? "reads" : ""], ["code", reads.join("\n")], ["p", box.where], ["code", box.source]]);
}
function describeLine(route) {
  const lines = route.uses.slice(0, 12).map((w) => {
    const [tail, head, operand, label] = wires[w];
    return `${called(tail)} → ${called(head)} (${texts[operand]}): ${texts[label]}`;
  });
  if (route.uses.length > 12) lines.push(`and ${route.uses.length - 12} more`);
  card(route.uses.length === 1 ? "1 use of a tensor" : `${route.uses.length} uses of tensors`, [["code", lines.join("\n")]]);
}

// ---------------------------------------------------------------- search
function matches(query) {
  const wanted = query.toLowerCase().split(/\s+/).filter(Boolean);
  if (!wanted.length) return [];
  const has = (text) => wanted.every((word) => text.toLowerCase().includes(word));
  const found = [];
  nodes.forEach((box, i) => { if (box && found.length < 200 && has(`${box.title} ${box.detail} ${box.where} ${box.source}`)) found.push(i); });
  groups.forEach((g, i) => { if (i && g.kind === "scope" && has(g.title)) found.push(~i); });
  const exact = (m) => (m >= 0 ? nodes[m].title : groups[~m].title).toLowerCase() === wanted.join(" ");
  return found.sort((a, b) => exact(b) - exact(a)).slice(0, 12);
}
function reveal(m) {
  for (let g = parentOf.get(m); g !== undefined && g >= 0; g = groups[g].parent) {
    if (!groups[g].rows) return;
    groups[g].open = true;
  }
  redraw();
  const place = placeOf(m);
  if (!place) return;
  const k = Math.max(sight.k, 0.8);
  sight = { k, x: innerWidth / 2 - (place.x + place.w / 2) * k, y: innerHeight / 2 - (place.y + Math.min(place.h, 200) / 2) * k };
  look();
  pick(m);
}
function search() {
  const list = $("found");
  list.replaceChildren();
  matches($("search").value).forEach((m, i) => {
    const item = document.createElement("li"), small = document.createElement("small");
    item.textContent = (m >= 0 ? nodes[m].title : `▸ ${groups[~m].title}`) + " ";
    small.textContent = m >= 0 ? `${nodes[m].subtitle} · ${nodes[m].where}` : groups[~m].summary;
    item.appendChild(small);
    if (!i) item.className = "first";
    item.onpointerdown = (event) => { event.preventDefault(); list.replaceChildren(); reveal(m); };
    list.appendChild(item);
  });
}
$("search").addEventListener("input", search);
$("search").addEventListener("blur", () => $("found").replaceChildren());
$("search").addEventListener("focus", search);
addEventListener("keydown", (event) => {
  const typing = document.activeElement === $("search");
  if (event.key === "Enter" && typing) { const [first] = matches($("search").value); if (first !== undefined) reveal(first); $("search").blur(); }
  else if (event.key === "Escape") { $("search").blur(); pick(null); calm(); }
  else if (event.key === "/" && !typing) { event.preventDefault(); $("search").focus(); }
  else if (event.key === "f" && !typing && !event.ctrlKey && !event.metaKey) fit();
});

// ---------------------------------------------------------------- start
function legend() {
  const used = new Set(nodes.filter(Boolean).map((box) => box.kind));
  groups.forEach((g, i) => { if (i) used.add(kindOfGroup(g)); });
  const row = (text, kind, extra) => {
    const div = document.createElement("div"), svg = make("svg", { width: 30, height: 18, viewBox: "-2 -2 66 42", class: `k-${kind}${extra}` }, div);
    make("path", { class: "shape", "stroke-width": 3, d: outline(kind, 62, 38) }, svg);
    div.appendChild(document.createTextNode(text));
    $("legend").appendChild(div);
  };
  for (const kind in data.legend) if (used.has(kind)) row(data.legend[kind], kind, "");
  row("thick border: fetched", "op", " fetched");
  if (groups.some((g) => g.gradient) || nodes.some((box) => box && box.gradient)) row("dashed: part of a gradient", "gradient", " grad");
}
// page.html#dark, #light, #open (all scopes), #find=NAME: for links to a place in a picture
const asked = new URLSearchParams(location.hash.slice(1));
theme(asked.has("dark") || (!asked.has("light") && matchMedia("(prefers-color-scheme: dark)").matches) ? "dark" : "light");
if (asked.has("open")) groups.forEach((g) => (g.open = true));
if (innerWidth < 900) $("legend").open = false;
legend();
redraw();
fit(0.55);
if (asked.get("find")) { const [first] = matches(asked.get("find")); if (first !== undefined) reveal(first); }
document.body.dataset.ready = "yes";
