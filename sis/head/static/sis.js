// What makes the console live. Every page is whole without it; nothing a node said is ever read as HTML here.
"use strict";

const main = document.getElementById("main");
const sign = document.getElementById("live");

function follow(kinds, node, each) {
  const query = new URLSearchParams({ since: main.dataset.since });
  if (kinds.length) query.set("kind", kinds.join(","));
  if (node) query.set("node", node);
  const source = new EventSource("/api/v1/events?" + query);
  sign.hidden = false;
  source.onopen = () => { sign.textContent = "live"; sign.className = "live on"; };
  source.onerror = () => {
    sign.textContent = source.readyState === EventSource.CLOSED ? "not live: load again" : "reconnecting";
    sign.className = "live off";
  };
  const known = ["event", "report", "state", "order", "arming", "published", "discovered"];
  for (const kind of kinds.length ? kinds : known) {
    source.addEventListener(kind, (message) => each(JSON.parse(message.data)));
  }
  source.addEventListener("skipped", () => location.reload());
  addEventListener("pagehide", () => source.close());
}

function liveMap() {
  const legend = new Map();
  for (const item of document.querySelectorAll(".legend li")) legend.set(item.dataset.state, item);
  const waiting = new Map();
  const count = (state, by) => {
    const item = legend.get(state);
    if (!item) return;
    const shown = item.querySelector("strong");
    const value = Number(shown.textContent) + by;
    shown.textContent = String(value);
    item.hidden = value === 0;
  };
  const paint = () => {
    for (const [node, row] of waiting) {
      const tile = document.getElementById("n-" + node);
      const look = legend.get(row.what);
      if (!tile || !look) continue;
      tile.title = node + " " + row.what + (row.text ? " " + row.text : "");
      if (tile.dataset.at === row.what) continue;
      count(tile.dataset.at, -1);
      count(row.what, 1);
      tile.dataset.at = row.what;
      tile.className = "tile " + look.dataset.look;
      tile.querySelector("b").textContent = look.dataset.letter;
    }
    waiting.clear();
  };
  follow(["state"], "", (row) => {
    if (waiting.size === 0) setTimeout(paint, 250);
    waiting.set(row.node, row);
  });
}

function liveEvents() {
  const table = document.getElementById("events");
  const cell = (line, text, name) => {
    const made = line.insertCell();
    made.textContent = text;
    if (name) made.className = name;
    return made;
  };
  follow(main.dataset.kind ? [main.dataset.kind] : [], main.dataset.node, (row) => {
    const line = table.insertRow(0);
    if (row.outcome === "failed" || (row.kind === "state" && row.what === "failed")) line.className = "bad";
    cell(line, row.id, "num");
    cell(line, row.time.slice(0, 19).replace("T", " "));
    cell(line, row.kind);
    const about = cell(line, row.node ? "" : row.subject);
    if (row.node) {
      const link = about.appendChild(document.createElement("a"));
      link.href = "/nodes/" + encodeURIComponent(row.node);
      link.textContent = row.node;
    }
    cell(line, row.what);
    cell(line, row.outcome);
    cell(line, (row.kind === "state" && row.subject ? "was " + row.subject + " " : "") + row.text, "told");
    while (table.rows.length > 500) table.deleteRow(-1);
  });
}

function livePage() {
  let waiting = 0;
  const again = async () => {
    waiting = 0;
    const answer = await fetch(location.pathname + location.search, { headers: { accept: "text/html" } });
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("main");
    if (!fresh || main.contains(document.activeElement)) return;
    for (const open of main.querySelectorAll("details[open][data-key]")) {
      const same = fresh.querySelector(`details[data-key="${open.dataset.key}"]`);
      if (same) same.open = true;
    }
    main.replaceChildren(...fresh.childNodes);
  };
  follow(main.dataset.kind ? [main.dataset.kind] : [], main.dataset.node, () => {
    if (!waiting) waiting = setTimeout(again, 1000);
  });
}

const pages = { map: liveMap, events: liveEvents, page: livePage };
if (main.dataset.live) pages[main.dataset.live]();
