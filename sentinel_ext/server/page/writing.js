"use strict";
/* What others named (tenants, upstreams, hosts) only ever becomes text: textContent, never markup. */

const at = (id) => document.getElementById(id);
const NO_NEWS_MS = 3500, GIVE_UP_MS = 15000, RETRY_MS = 2000, SPEAK_MS = 5000, POINTS = 120;
const SEVERITY = { ok: "OK", notice: "Notice", warning: "Warning", critical: "Critical" };
const PLACES = { tenants: "tenants-s", breakers: "breakers-s" };
const SVG = "http://www.w3.org/2000/svg";

/* Words and numbers, in the reader's locale. */

const whole = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat(undefined, { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const percent = new Intl.NumberFormat(undefined, { style: "percent", maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

const count = (value) => whole.format(value);
const rate = (value) => (value < 0.05 ? "0" : value < 9.95 ? tenth.format(value) : whole.format(value));
const score = (value) => whole.format(Math.round(value));
const words = (text) => text.replaceAll("_", " ");
const heat = (value) => (value >= 85 ? "hot" : value >= 50 ? "warm" : value >= 1 ? "some" : "cold");

function share(part, all) {
  if (!all) return "–";
  const found = part / all;
  /* Not quite all is not all, and a little is not nothing. */
  if (part < all && found > 0.999) return ">" + percent.format(0.999);
  if (part > 0 && found < 0.001) return "<" + percent.format(0.001);
  return percent.format(found);
}

function length(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 120) return s + " s";
  if (s < 7200) return Math.floor(s / 60) + " min";
  if (s < 172800) return Math.floor(s / 3600) + " h " + Math.floor((s % 3600) / 60) + " min";
  return Math.floor(s / 86400) + " d " + Math.floor((s % 86400) / 3600) + " h";
}

function moment(seconds) {
  const date = new Date(seconds * 1000);
  return (date.toDateString() === new Date().toDateString() ? clock : day).format(date);
}

/* Writing into the page; what has not changed is left alone. */

function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function mark(node, name, value) {
  if (node.dataset[name] !== value) node.dataset[name] = value;
}

function child(node, tag, className) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  return node.appendChild(made);
}

function badge(node, severity, text) {
  node.classList.add("badge");
  mark(node, "severity", severity);
  put(node, text);
}

/* Columns: what stands in a cell. `label` is also what a phone shows before the value. */

const plain = (label, text, more) => ({ label, paint: (cell, row) => put(cell, text(row)), ...more });
const number = (label, text, more) => plain(label, text, { kind: "num", ...more });

const name = (label, text) => ({
  label,
  kind: "name",
  paint(cell, row) {
    const inner = cell.firstChild || child(cell, "bdi");
    put(inner, text(row));
    if (inner.title !== text(row)) inner.title = text(row);
  },
});

function bar(cell, filled, text, warmth) {
  if (!cell.firstChild) {
    const made = child(cell, "span", "meter");
    child(child(made, "span", "track"), "span", "fill");
    child(made, "span", "text");
  }
  const box = cell.firstChild;
  box.firstChild.firstChild.style.width = Math.min(100, Math.max(0, filled)) + "%";
  mark(box, "heat", warmth);
  put(box.lastChild, text);
}

const meter = (label, value, text, more) => ({
  label,
  paint: (cell, row) => bar(cell, value(row), text(row), heat(value(row))),
  ...more,
});

const state = (label, judge) => ({
  label,
  paint(cell, row) {
    const [severity, text] = judge(row);
    badge(cell.firstChild || child(cell, "span"), severity, text);
  },
});

const chips = (label, pairs) => ({
  label,
  kind: "wide-cell",
  paint(cell, row) {
    const box = cell.firstChild || child(cell, "span", "chips");
    const found = pairs(row);
    while (box.childElementCount > found.length) box.lastChild.remove();
    found.forEach(([text, warmth], n) => {
      const chip = box.children[n] || child(box, "span");
      put(chip, text);
      mark(chip, "heat", warmth);
    });
  },
});

const spark = (label, points, describe) => ({
  label,
  kind: "num",
  paint(cell, row) {
    let svg = cell.firstChild;
    if (!svg) {
      svg = cell.appendChild(document.createElementNS(SVG, "svg"));
      for (const [key, value] of [["viewBox", "0 0 119 18"], ["preserveAspectRatio", "none"], ["role", "img"]])
        svg.setAttribute(key, value);
    }
    draw(svg, [["deny", points(row)]], 18);
    svg.setAttribute("aria-label", describe(row, Math.max(0, ...points(row))));
  },
});

function draw(svg, layers, height) {
  const base = new Array(POINTS).fill(0);
  const tops = layers.map(([className, points]) => {
    const past = POINTS - points.length;
    points.forEach((value, n) => { base[past + n] += value; });
    return [className, past, base.slice()];
  });
  const most = Math.max(...base, 1);
  const y = (value) => (height - (value / most) * (height - 1)).toFixed(1);
  /* The highest layer first, so that lower ones lie on top of it. */
  tops.reverse().forEach(([className, past, top], n) => {
    const path = svg.children[n] || svg.appendChild(document.createElementNS(SVG, "path"));
    path.setAttribute("class", className);
    const line = top.slice(past).map((value, at) => `L${past + at},${y(value)}`).join("");
    path.setAttribute("d", line ? `M${past},${height}${line}L${POINTS - 1},${height}Z` : "");
  });
  return Math.max(...base);
}

function table(id, columns, rows, nothing) {
  const node = at(id);
  let body = node.tBodies[0];
  if (!body) {
    /* Roles are said again because a phone's style takes the table's layout away, and with it its roles. */
    node.setAttribute("role", "table");
    const head = child(node, "thead");
    head.setAttribute("role", "rowgroup");
    const line = child(head, "tr");
    line.setAttribute("role", "row");
    for (const column of columns) {
      const cell = child(line, "th", column.kind);
      cell.scope = "col";
      cell.setAttribute("role", "columnheader");
      put(cell, column.label);
    }
    body = child(node, "tbody");
    body.setAttribute("role", "rowgroup");
  }
  const wanted = rows.length || 1, shape = rows.length ? "rows" : "none";
  if (body.dataset.shape !== shape) body.replaceChildren();
  body.dataset.shape = shape;
  while (body.rows.length > wanted) body.lastChild.remove();
  while (body.rows.length < wanted) makeRow(body, columns, rows.length > 0);
  if (!rows.length) return put(body.rows[0].cells[0], nothing);
  rows.forEach((row, n) => columns.forEach((column, m) => column.paint(body.rows[n].cells[m], row)));
}

function makeRow(body, columns, isFull) {
  const line = child(body, "tr");
  line.setAttribute("role", "row");
  if (!isFull) {
    const cell = child(line, "td", "none");
    cell.colSpan = columns.length;
    cell.setAttribute("role", "cell");
    return;
  }
  columns.forEach((column, n) => {
    const cell = child(line, n ? "td" : "th", column.kind);
    cell.setAttribute("role", n ? "cell" : "rowheader");
    if (n) cell.dataset.label = column.label;
    else cell.scope = "row";
  });
}

function list(id, pairs) {
  const node = at(id);
  pairs.forEach(([label, text, severity], n) => {
    if (node.children.length <= 2 * n) { child(node, "dt"); child(node, "dd"); }
    const [term, value] = [node.children[2 * n], node.children[2 * n + 1]];
    put(term, label);
    for (const each of [term, value]) each.classList.toggle("long", text.length > 20 || label === "Names");
    if (!severity) return value.firstElementChild ? value.replaceChildren(text) : put(value, text);
    if (!value.firstElementChild) value.replaceChildren(document.createElement("span"));
    badge(value.firstElementChild, severity, text);
  });
  while (node.children.length > 2 * pairs.length) node.lastChild.remove();
}
