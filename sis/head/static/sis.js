// What makes the console live. Every page is whole without it; nothing a node said is ever read as HTML here.
"use strict";

const main = document.getElementById("main");
const sign = document.getElementById("live");

// A source of events, held only while the page is seen: browsers allow six connections to a head, over all its tabs.
function listen(address, place, kinds, each, told) {
  let source = null;
  const open = () => {
    if (source || document.hidden) return;
    source = new EventSource(address(place));
    source.onopen = () => told("live", "on");
    source.onerror = () => {
      const ended = source && source.readyState === EventSource.CLOSED;
      told(ended ? "not live: load again" : "reconnecting", "off");
    };
    for (const kind of kinds) {
      source.addEventListener(kind, (message) => {
        place = message.lastEventId || place;
        each(kind, JSON.parse(message.data));
      });
    }
  };
  const close = () => {
    if (source) source.close();
    source = null;
  };
  const seen = () => (document.hidden ? close() : open());
  document.addEventListener("visibilitychange", seen);
  addEventListener("pagehide", close);
  addEventListener("pageshow", seen);
  open();
  return () => { document.removeEventListener("visibilitychange", seen); removeEventListener("pageshow", seen); close(); };
}

function follow(kinds, node, each) {
  sign.hidden = false;
  const address = (place) => {
    const query = new URLSearchParams({ since: place });
    if (kinds.length) query.set("kind", kinds.join(","));
    if (node) query.set("node", node);
    if (main.dataset.latest) query.set("latest", "true");
    return "/api/v1/events?" + query;
  };
  const wanted = kinds.length ? kinds : main.dataset.kinds.split(",");
  listen(address, main.dataset.since, [...wanted, "skipped"], (kind, row) => {
    if (kind === "skipped") location.reload();
    else each(row);
  }, (text, look) => { sign.textContent = text; sign.className = "live " + look; });
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
  filterTiles();
  follow(["state"], "", (row) => {
    if (waiting.size === 0) requestAnimationFrame(paint);
    waiting.set(row.node, row);
  });
}

// What is typed hides the tiles that neither have it in their name nor are in a state that begins with it.
function filterTiles() {
  const field = document.getElementById("filter");
  const told = document.getElementById("filtered");
  field.addEventListener("input", () => {
    const wanted = field.value.trim().toLowerCase();
    let shown = 0;
    for (const rack of document.querySelectorAll(".rack")) {
      let here = 0;
      for (const tile of rack.querySelectorAll(".tile")) {
        const name = tile.id.slice(2);
        const fits = !wanted || name.includes(wanted) || tile.dataset.at.startsWith(wanted);
        tile.hidden = !fits;
        if (fits) here += 1;
      }
      rack.hidden = here === 0;
      shown += here;
    }
    told.textContent = wanted ? shown + " shown" : "";
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
  follow(main.dataset.kind ? main.dataset.kind.split(",") : [], main.dataset.node, (row) => {
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

// Parts of a page that differ are taken from a fresh one; what someone is typing in is left alone.
function busy(part) {
  const at = document.activeElement;
  if (part.contains(at) && at.matches("input, select, textarea")) return true;
  for (const each of part.querySelectorAll("input, textarea")) {
    if (each.type === "hidden") continue;
    if (each.type === "checkbox" ? each.checked !== each.defaultChecked : each.value !== each.defaultValue) return true;
  }
  for (const each of part.querySelectorAll("select")) {
    const given = Math.max(0, [...each.options].findIndex((option) => option.defaultSelected));
    if (each.options.length && each.selectedIndex !== given) return true;
  }
  return false;
}

function replacePart(old, fresh) {
  for (const open of old.querySelectorAll("details[data-key]")) {
    const same = fresh.querySelector(`details[data-key="${CSS.escape(open.dataset.key)}"]`);
    if (same) same.open = open.open;
  }
  if (old.isEqualNode(fresh) || busy(old)) return;
  const like = (each) => [...old.querySelectorAll("a, button, summary")].filter(
    (one) => one.textContent === each.textContent && one.value === each.value);
  const focused = old.contains(document.activeElement) ? document.activeElement : null;
  const place = focused ? like(focused).indexOf(focused) : 0;
  const scrolled = [...old.querySelectorAll(".scroll, pre")].map((each) => [each.scrollLeft, each.scrollTop]);
  old.replaceChildren(...fresh.childNodes);
  old.className = fresh.className;
  [...old.querySelectorAll(".scroll, pre")].forEach((each, at) => { if (scrolled[at]) [each.scrollLeft, each.scrollTop] = scrolled[at]; });
  if (!focused) return;
  const same = like(focused);
  const next = same[place] || same[0];
  if (next) next.focus({ preventScroll: true });
}

let refreshing = 0;
let took = 0;
async function refresh() {
  refreshing = 0;
  if (document.hidden) return;
  const began = performance.now();
  const headers = { accept: "text/html", "x-sis-parts": "yes" };
  const answer = await fetch(location.pathname + location.search, { headers }).catch(() => null);
  took = performance.now() - began;
  if (!answer || !answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("main");
  if (!fresh) return;
  const parts = main.querySelectorAll("[data-part]");
  if (!parts.length) { replacePart(main, fresh); return; }
  for (const part of parts) {
    const same = fresh.querySelector(`[data-part="${CSS.escape(part.dataset.part)}"]`);
    if (same) replacePart(part, same);
  }
}

function refreshSoon() {
  if (!refreshing) refreshing = setTimeout(refresh, Math.max(1000, 4 * took));
}

function livePage() {
  follow(main.dataset.kind ? main.dataset.kind.split(",") : [], main.dataset.node, refreshSoon);
  if (main.dataset.every) setInterval(refreshSoon, Number(main.dataset.every) * 1000);
  document.addEventListener("visibilitychange", refreshSoon);
}

const LOG_LETTERS = 1 << 20;

function liveLog(pre) {
  pre.scrollTop = pre.scrollHeight;
  if (!pre.dataset.running) return;
  const address = (place) => `/jobs/${pre.dataset.job}/log?since=${place}`;
  const stop = listen(address, pre.dataset.place, ["log", "end"], (kind, data) => {
    if (kind === "end") {
      stop();
      refreshSoon();
      return;
    }
    const below = pre.scrollHeight - pre.scrollTop - pre.clientHeight < 40;
    pre.append(data.text);
    while (pre.textContent.length > LOG_LETTERS && pre.childNodes.length > 1) pre.firstChild.remove();
    if (below) pre.scrollTop = pre.scrollHeight;
  }, () => {});
}

const pages = { map: liveMap, events: liveEvents, page: livePage };
if (main.dataset.live) pages[main.dataset.live]();
for (const pre of document.querySelectorAll("pre[data-job]")) liveLog(pre);
