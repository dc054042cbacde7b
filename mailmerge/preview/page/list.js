// The list of rows: a listbox of which only the visible rows exist.

const ROW_HEIGHT = 58;
const SPARE_ROWS = 6;
// Shapes of findings and states; a pending row has no badge.
const SHAPES = {
  error: "error", warning: "warning", invalid: "error", duplicate: "duplicate", suppressed: "suppressed", skipped: "suppressed",
  accepted: "ok", rejected: "error", expired: "error", bounced: "error", drafted: "ok", deferred: "deferred", in_doubt: "doubt", handing_over: "deferred",
};
const CONTACTED = ["accepted", "rejected", "expired", "bounced", "drafted", "deferred", "in_doubt", "handing_over"];
const stateWord = (status) => status.replace("_", " ");

let shown = [];

function arrange() {
  const test = parseQuery(state.query);
  shown = page.entries.filter(test);
  if (state.problemsFirst) {
    const rank = (item) => (item.errors ? 0 : item.codes.length ? 1 : 2);
    shown.sort((a, b) => rank(a) - rank(b) || a.index - b.index);
  }
  const all = page.entries.length;
  $("found").textContent = state.query ? `${number(shown.length)} of ${plural(all, page.facts.counted)}` : plural(all, page.facts.counted);
  $("list-room").style.height = `${Math.max(shown.length, 1) * ROW_HEIGHT}px`;
  drawList();
}

function drawList() {
  const list = $("list");
  const room = $("list-room");
  if (!shown.length) {
    list.removeAttribute("aria-activedescendant");
    room.replaceChildren(el("div", { class: "list-empty", role: "option", "aria-disabled": "true", "aria-selected": "false" },
      page.entries.length ? `No ${page.facts.counted}s match.` : `There are no ${page.facts.counted}s to show.`));
    return;
  }
  const first = Math.max(0, Math.floor(list.scrollTop / ROW_HEIGHT) - SPARE_ROWS);
  const last = Math.min(shown.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW_HEIGHT) + SPARE_ROWS);
  const nodes = [];
  for (let at = first; at < last; at += 1) nodes.push(option(shown[at], at));
  room.replaceChildren(...nodes);
  const current = shown.findIndex((item) => item.row === state.row);
  if (current >= first && current < last) list.setAttribute("aria-activedescendant", `row-${state.row}`);
  else list.removeAttribute("aria-activedescendant");
}

function option(item, at) {
  const chosen = item.row === state.row;
  const node = el("div", {
    class: "list-row", role: "option", id: `row-${item.row}`,
    "aria-selected": String(chosen), "aria-posinset": at + 1, "aria-setsize": shown.length,
    onclick: () => { goTo(item.row); closeDrawer(); },
  },
    el("span", { class: "list-number" }, String(item.row)),
    el("span", { class: "list-who" }, who(item),
      item.attachments ? icon("clip") : null),
    el("span", { class: "list-badges" }, badges(item, true)),
    el("span", { class: "list-subject" }, item.subject || (item.address ? item.address : "no message")));
  node.style.top = `${at * ROW_HEIGHT}px`;
  return node;
}

const capital = (word) => word[0].toUpperCase() + word.slice(1);

// The message's own name, or that in the list's columns of names; else the address.
const who = (item) => item.name || named(item) || item.address || item.cells.find((cell) => cell) || "(empty row)";

function named(item) {
  for (const places of page.facts.names || []) {
    const name = places.map((place) => item.cells[place].trim()).filter(Boolean).join(" ");
    if (name) return name;
  }
  return "";
}

// Shape, word and colour together; in the list the word is for screen readers.
function badges(item, short = false) {
  const kinds = [];
  if (item.status !== "pending") kinds.push(item.status);
  if (item.errors && item.status !== "invalid") kinds.push("error");
  if (!item.errors && item.codes.length) kinds.push("warning");
  return kinds.map((kind) =>
    el("span", { class: `badge badge-${SHAPES[kind]}${short ? " badge-short" : ""}` }, icon(SHAPES[kind]), el("span", {}, stateWord(kind))));
}

function reveal() {
  const at = shown.findIndex((item) => item.row === state.row);
  if (at < 0) return drawList();
  const list = $("list");
  const top = at * ROW_HEIGHT;
  if (top < list.scrollTop) list.scrollTop = top;
  else if (top + ROW_HEIGHT > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW_HEIGHT - list.clientHeight;
  return drawList();
}

function step(by, test = () => true) {
  const at = shown.findIndex((item) => item.row === state.row);
  for (let next = at < 0 ? (by > 0 ? 0 : shown.length - 1) : at + by; next >= 0 && next < shown.length; next += by) {
    if (test(shown[next])) return goTo(shown[next].row);
  }
  return say(by > 0 ? `No more ${page.facts.counted}s` : `No earlier ${page.facts.counted}s`);
}

function drawFilters() {
  const count = (test) => page.entries.filter(test).length;
  const chips = [
    ["is:error", "Errors", count(STATES.error), "error"],
    ["is:warning", "Warnings", count(STATES.warning), "warning"],
    ["is:duplicate", "Duplicates", count(predicate("is", "duplicate")), "duplicate"],
    ["is:suppressed", "Suppressed", count(predicate("is", "suppressed")), "suppressed"],
    ...CONTACTED.map((status) => [`is:${status}`, capital(stateWord(status)), count(predicate("is", status)), SHAPES[status]]),
    ["is:pending", "Pending", CONTACTED.some((status) => page.facts.counts?.[status]) ? count(predicate("is", "pending")) : 0, null],
    ["is:unusual", "Unusual", count(predicate("is", "unusual")), null],
    ["has:attachment", "Attachments", count((item) => item.attachments > 0), "clip"],
  ];
  const terms = queryTerms(state.query);
  const nodes = chips.filter(([, , rows]) => rows).map(([term, label, rows, shape]) => chip(terms, term, label, rows, shape));
  if (terms.some((term) => term === "is:unusual" || UNUSUAL[term.replace("is:", "")])) {
    nodes.push(el("span", { class: "chips-break" }));
    for (const [kind, label] of Object.entries(UNUSUAL)) {
      const rows = count((item) => isUnusual(item, kind));
      if (rows) nodes.push(chip(terms, `is:${kind}`, label, rows, null));
    }
  }
  $("filters").replaceChildren(...nodes);
}

function chip(terms, term, label, rows, shape) {
  const pressed = terms.includes(term);
  return el("button", {
    type: "button", class: `chip${shape ? ` chip-${shape}` : ""}`, "aria-pressed": String(pressed), "data-term": term,
    onclick: () => search(toggleTerm(state.query, term), term),
  }, shape ? icon(shape) : null, label, el("span", { class: "count" }, number(rows)));
}

function drawStrip() {
  const problems = new Map();
  for (const found of page.facts.problems) {
    const known = problems.get(found.code) || { ...found, count: 0 };
    known.count += found.count;
    problems.set(found.code, known);
  }
  const strip = $("strip");
  strip.hidden = problems.size === 0 || Boolean(page.facts.broken);
  const terms = queryTerms(state.query);
  strip.replaceChildren(
    el("span", { class: "strip-title" }, `${plural(problems.size, "kind")} of problem:`),
    ...[...problems.values()].map((found) => {
      const shape = found.severity === "error" ? "error" : "warning";
      const inRows = page.entries.some((item) => item.codes.includes(found.code));
      const node = inRows ? chip(terms, `code:${found.code}`, found.code, found.count, shape)
        : el("button", { type: "button", class: `chip chip-${shape}`, onclick: () => set({ tab: "checks" }) },
          icon(shape), found.code, el("span", { class: "count" }, "everywhere"));
      node.title = found.message;
      return node;
    }));
}
