// Puts the page together: draws the chosen row, listens to keys and buttons, reloads when a live page changes.

let drawing = 0;

async function drawRow(announce = false) {
  const item = page.byRow.get(state.row);
  if (!item) return;
  const turn = ++drawing;
  const other = state.compare !== null ? page.byRow.get(state.compare) : null;
  let found;
  let otherFound;
  let failure = null;
  try {
    [found, otherFound] = await Promise.all([details(item), other ? details(other) : null]);
  } catch (error) {
    failure = error;
  }
  if (turn !== drawing) return; // a newer row was requested meanwhile
  const at = shown.indexOf(item);
  $("row-title").textContent = found?.rows || `Row ${item.row}`;
  $("badges").replaceChildren(...badges(item), el("span", { class: "hint" }, at < 0 ? (state.query ? "not among the results" : "") : `${number(at + 1)} of ${number(shown.length)}`));
  $("next-problem").hidden = !page.entries.some(PROBLEM);
  $("compare").setAttribute("aria-pressed", String(Boolean(other)));
  $("compare").disabled = page.entries.length < 2;
  $("compare-bar").hidden = !other;
  if (other && document.activeElement !== $("compare-row")) $("compare-row").value = other.row;
  if (failure) { // nothing of another row is left under this one's title
    $("heads").replaceChildren();
    $("panel").replaceChildren(cannotBeShown("This row", failure));
    return;
  }
  $("heads").replaceChildren(...[[item, found], ...(other ? [[other, otherFound]] : [])].map(([one, its]) =>
    fenced("The head of this message", () => head(one, its, Boolean(other)))));
  $("heads").classList.toggle("two", Boolean(other));
  drawTabs(found);
  drawPanel(item, found, other, otherFound);
  if (announce) say(spoken(item));
}

// A failure is reported in its place: one message that no browser can show must not hide the others.
function fenced(what, make) {
  try {
    return make();
  } catch (error) {
    return cannotBeShown(what, error);
  }
}

function cannotBeShown(what, error) {
  return nothing(`${what} cannot be shown`, String(error?.message || error));
}

function spoken(item) {
  const problems = [item.errors ? plural(item.errors, "error") : "", item.codes.length && !item.errors ? plural(item.codes.length, "warning") : "",
    item.status === "pending" ? "" : stateWord(item.status)].filter(Boolean);
  return `Row ${item.row} of ${number(page.facts.rows)}, ${problems.join(", ") || "no problems"}`;
}

// The status of the row: the same line above every tab.
function standing(item, found) {
  return el("p", { class: `standing standing-${SHAPES[item.status] || "pending"}` }, SHAPES[item.status] ? icon(SHAPES[item.status]) : null, el("span", {}, found.standing));
}

// From, subject and first words as an inbox shows them, then who gets it.
function head(item, found, narrow) {
  if (!found.message) return el("div", { class: "head" }, standing(item, found), el("p", { class: "head-none" }, item.address ? [who(item), item.address].filter((text, at, both) => both.indexOf(text) === at).join(" · ") : `No address: ${who(item)}`));
  const from = header(found.message, "From");
  const name = from.replace(/\s*<[^<>]*>$/, "").replace(/^"|"$/g, "") || from;
  const first = found.htmlPart ? preheader(new DOMParser().parseFromString(partText(found.htmlPart), "text/html"))
    : (found.textPart ? partText(found.textPart).replace(/\s+/g, " ").trim() : "");
  const subject = header(found.message, "Subject");
  const cut = (text, most) => (text.length > most ? `${[...text].slice(0, most - 1).join("")}…` : text);
  const facts = ["To", "Cc", "Reply-To", "Sender"].map((field) => [field, header(found.message, field)]).filter(([, value]) => value);
  const listed = folded(facts.map(([, value]) => value).join(" "));
  const blind = found.rcpt.filter((address) => !listed.includes(folded(address)));
  if (blind.length) facts.push(["Bcc", blind.join(", ")]);
  const files = found.parts.filter((part) => part.attached);
  return el("div", { class: "head" }, standing(item, found),
    el("div", { class: "inboxes" },
      el("div", { class: "inbox inbox-desktop" }, el("p", { class: "eyebrow" }, "Inbox, desktop"),
        el("p", { class: "inbox-line" }, el("b", {}, cut(name, 24)), el("span", {}, el("b", {}, cut(subject, 60)), " ", el("span", { class: "soft" }, cut(first, 90))))),
      narrow ? null : el("div", { class: "inbox inbox-phone" }, el("p", { class: "eyebrow" }, "Phone"),
        el("p", { class: "inbox-stack" }, el("b", {}, cut(name, 24)), el("span", {}, cut(subject, 35)), el("span", { class: "soft" }, cut(first, 60))))),
    el("dl", { class: "who" }, facts.map(([field, value]) => el("div", {}, el("dt", {}, field), el("dd", {}, value))),
      files.length ? el("div", {}, el("dt", {}, "Files"), el("dd", {}, files.map((part) =>
        el("button", { type: "button", class: "file", onclick: () => openFile(part, item, found), title: opensAs(part) ? "Open" : "Show where it is" }, icon("clip"), decodeWords(part.name))))) : null));
}

function drawTabs(found) {
  const had = document.activeElement?.getAttribute("role") === "tab";
  const findings = (found.checks || []).length;
  $("tabs").replaceChildren(...TABS.map(([name, label, , key]) => el("button", {
    type: "button", role: "tab", id: `tab-${name}`, "aria-selected": String(name === state.tab), "aria-controls": "panel",
    tabindex: name === state.tab ? "0" : "-1", title: `${label} (${key})`,
    onclick: () => set({ tab: name }), onkeydown: tabKey,
  }, label, name === "checks" && findings ? el("span", { class: "count" }, String(findings)) : null)));
  $("panel").setAttribute("aria-labelledby", `tab-${state.tab}`);
  if (had) $(`tab-${state.tab}`).focus();
  else showTab();
}

function showTab() {
  const [tabs, tab] = [$("tabs"), $(`tab-${state.tab}`)];
  if (tab.offsetLeft < tabs.scrollLeft) tabs.scrollLeft = tab.offsetLeft - 16;
  else if (tab.offsetLeft + tab.offsetWidth > tabs.scrollLeft + tabs.clientWidth) tabs.scrollLeft = tab.offsetLeft + tab.offsetWidth - tabs.clientWidth + 16;
}

function tabKey(event) {
  const names = TABS.map(([name]) => name);
  const at = names.indexOf(state.tab);
  const next = { ArrowRight: (at + 1) % names.length, ArrowLeft: (at + names.length - 1) % names.length, Home: 0, End: names.length - 1 }[event.key];
  if (next === undefined) return;
  event.preventDefault();
  set({ tab: names[next] });
}

function drawPanel(item, found, other, otherFound) {
  const panel = $("panel");
  const focused = panel.contains(document.activeElement) ? document.activeElement.getAttribute("data-value") || "" : null;
  const [name, , view] = TABS.find(([candidate]) => candidate === state.tab);
  const shows = (...of) => fenced(of[1] === found ? "This view of the row" : "This view of the other row", () => view(...of));
  const one = shows(item, found, otherFound, other);
  panel.className = `panel panel-${name}`;
  const tools = name === "message" && (found.htmlPart || otherFound?.htmlPart) ? toolbar()
    : name === "message" && found.message ? toolbar()
      : (name === "text" || name === "source") && found.message ? marksToggle(found) : null;
  const body = other
    ? el("div", { class: "pair" }, column(item, one), column(other, shows(other, otherFound, found, item)))
    : one;
  panel.replaceChildren(...[tools, body].filter(Boolean));
  if (other) $("compare-hint").textContent = compareHint(name, panel);
  if (focused !== null) (focused && panel.querySelector(`[data-value="${focused}"]`) || panel).focus({ preventScroll: true });
}

function compareHint(name, panel) {
  if (!MARKS_DIFFERENCES.includes(name)) return "Differences are marked in Text, Source, Headers, Links and Row data.";
  return panel.querySelector("mark[class*=differs]") ? "Differences are marked." : "No differences in this view.";
}

function column(item, view) {
  return el("section", { "aria-label": `Row ${item.row}` }, el("h3", { class: "pair-title" }, `Row ${item.row}`), view);
}

// --- keys and buttons --------------------------------------------------------------------------------------------

function cycle(values, current) {
  return values[(values.indexOf(current) + 1) % values.length];
}

function toggleCompare() {
  if (state.compare !== null) return set({ compare: null });
  const at = shown.findIndex((item) => item.row === state.row);
  const other = shown[at + 1] || shown[at - 1] || page.entries.find((item) => item.row !== state.row);
  return other ? set({ compare: other.row }) : undefined;
}

function stepCompared(by) {
  const rows = page.entries.map((item) => item.row).filter((row) => row !== state.row);
  const next = rows[rows.indexOf(state.compare) + by];
  if (next !== undefined) set({ compare: next });
}

const KEYS = {
  j: () => step(1), k: () => step(-1),
  n: () => step(1, PROBLEM), p: () => step(-1, PROBLEM),
  "/": () => { openDrawer(); $("search").focus(); $("search").select(); },
  w: () => set({ tab: "message", width: cycle(WIDTHS, state.width) }),
  d: () => set({ tab: "message", dark: cycle(DARK.map(([name]) => name), state.dark) }),
  i: () => set({ tab: "message", images: !state.images }),
  h: () => set({ highlight: !state.highlight, tab: ["text", "source"].includes(state.tab) ? state.tab : "source" }),
  c: toggleCompare,
  "?": () => $("help").showModal(),
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open || !page.entries.length) return;
  if (event.key === "Escape") return event.target === $("search") ? leaveSearch() : closeDrawer();
  if (event.target.matches("input, textarea, select")) return undefined;
  const tab = TABS.find(([, , , key]) => key === event.key);
  const action = KEYS[event.key] || (tab && (() => set({ tab: tab[0] })));
  if (!action) return undefined;
  event.preventDefault();
  return action();
}

function leaveSearch() {
  if (state.query) search("");
  else $("list").focus();
}

function onListKey(event) {
  const last = shown.length - 1;
  const at = shown.findIndex((item) => item.row === state.row);
  const page_ = Math.max(1, Math.floor($("list").clientHeight / ROW_HEIGHT) - 1);
  const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: last, PageDown: at + page_, PageUp: at - page_ }[event.key];
  if (event.key === "Enter") { closeDrawer(); $("row-title").focus(); }
  if (next === undefined || last < 0) return;
  event.preventDefault();
  goTo(shown[Math.min(last, Math.max(0, next))].row);
}

const narrow = window.matchMedia("(max-width: 699px)");

function openDrawer() {
  if (!narrow.matches) return;
  document.body.classList.add("drawer-open");
  $("open-list").setAttribute("aria-expanded", "true");
  reveal();
}

function closeDrawer() {
  if (!document.body.classList.contains("drawer-open")) return;
  document.body.classList.remove("drawer-open");
  $("open-list").setAttribute("aria-expanded", "false");
  $("open-list").focus();
}

function drawTheme() {
  if (state.theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = state.theme;
  const words = { system: "like the system", light: "light", dark: "dark" }[state.theme];
  $("theme").setAttribute("aria-label", `Colours of this page: ${words}`);
  $("theme").title = `Colours of this page: ${words}`;
}

function listen() {
  document.addEventListener("keydown", onKey);
  $("list").addEventListener("keydown", onListKey);
  $("list").addEventListener("scroll", drawList, { passive: true });
  new ResizeObserver(drawList).observe($("list"));
  $("search").addEventListener("input", (event) => search(event.target.value));
  $("order").addEventListener("click", () => {
    state.problemsFirst = !state.problemsFirst;
    $("order").setAttribute("aria-pressed", String(state.problemsFirst));
    writeAddress();
    arrange();
    reveal();
  });
  $("previous").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  $("next-problem").addEventListener("click", () => step(1, PROBLEM));
  $("compare").addEventListener("click", toggleCompare);
  $("compare-previous").addEventListener("click", () => stepCompared(-1));
  $("compare-next").addEventListener("click", () => stepCompared(1));
  $("compare-bar").addEventListener("submit", (event) => event.preventDefault());
  $("compare-row").addEventListener("input", (event) => {
    const row = Number(event.target.value);
    if (page.byRow.has(row) && row !== state.row) set({ compare: row });
  });
  $("test").addEventListener("click", async () => {
    const line = command("test", state.row);
    if (!line) return notice("This campaign's command cannot be quoted for every shell of this system: run `test` with the options that you gave `preview`.", "passing");
    say(await copy(line) ? `Copied: ${line}` : "Could not be copied");
    notice(`Copied: ${line}`, "passing");
  });
  $("theme").addEventListener("click", () => {
    state.theme = cycle(["system", "light", "dark"], state.theme);
    writeAddress();
    drawTheme();
  });
  $("show-help").addEventListener("click", () => $("help").showModal());
  $("close-help").addEventListener("click", () => $("help").close());
  $("open-list").addEventListener("click", () => { openDrawer(); $("search").focus(); });
  $("close-list").addEventListener("click", closeDrawer);
  $("skip").addEventListener("click", (event) => { event.preventDefault(); $("panel").focus(); });
  window.addEventListener("hashchange", () => { readAddress(); refresh(); });
}

// --- the whole -----------------------------------------------------------------------------------------------------

function notice(text, kind = "") {
  const shown_ = $("notice");
  shown_.className = `notice ${kind}`;
  shown_.textContent = text;
  if (kind === "passing") setTimeout(() => { if (shown_.textContent === text) notice(""); }, 4000);
}

function drawFacts() {
  const { facts } = page;
  const counts = facts.counts || {};
  const words = [`${plural(facts.shown, facts.counted)} shown`];
  for (const status of ["pending", ...CONTACTED, "invalid", "duplicate", "suppressed", "skipped"]) {
    if (counts[status]) words.push(`${number(counts[status])} ${stateWord(status)}`);
  }
  if (facts.source) words.push(facts.source.split("/").pop());
  $("facts").textContent = words.join(" · ");
  $("facts").title = [facts.source, facts.dialect, `made ${new Date(facts.made).toLocaleString()}`].filter(Boolean).join("\n");
  const told = [];
  if (facts.sampled) told.push(`A sample: ${number(facts.shown)} of ${number(facts.rows)} ${facts.counted}s, including all with problems${facts.left_out ? ` but ${number(facts.left_out)}` : ""}. ${command("others") ? `Others: ${command("others")}` : ""}`);
  else if (facts.left_out) told.push(`${plural(facts.left_out, `more ${facts.counted}`)} with problems did not fit${command("check") ? `: ${command("check")}` : ""}`);
  if (facts.files) told.push(`Files: ${facts.files}.`);
  if (told.length) notice(told.join(" "));
}

function drawBroken() {
  $("empty").replaceChildren(
    page.facts.broken
      ? el("div", { class: "checks" }, el("h2", {}, "The campaign cannot be shown yet"),
        el("p", {}, "Fix this and save: the page reloads automatically."), page.facts.problems.map(finding))
      : el("div", {}, el("h2", {}, "No messages"), el("p", {}, "No row of the list is selected. "), command("check") && el("code", {}, command("check"))));
}

function refresh() {
  $("search").value = state.query;
  $("order").setAttribute("aria-pressed", String(state.problemsFirst));
  drawTheme();
  drawFilters();
  drawStrip();
  arrange();
  if (state.row === null && shown.length) state.row = shown[0].row;
  reveal();
  return drawRow();
}

const SCROLLED = ["detail", "list", "panel"];

// A live page reloads itself; row, tab and search are in the address, scroll positions are kept here.
function followChanges() {
  if (!location.protocol.startsWith("http")) return;
  const key = "mailmerge-preview";
  const kept = JSON.parse(sessionStorage.getItem(key) || "{}");
  sessionStorage.removeItem(key);
  for (const id of SCROLLED) if (kept[id]) $(id).scrollTop = kept[id];
  const sign = $("live-state");
  const show = (text, kind) => { sign.hidden = false; sign.textContent = text; sign.className = `live-state ${kind}`; };
  const events = new EventSource("events");
  events.addEventListener("ready", () => { show("live", "on"); notice(""); drawFacts(); });
  events.addEventListener("changed", () => {
    sessionStorage.setItem(key, JSON.stringify(Object.fromEntries(SCROLLED.map((id) => [id, $(id).scrollTop]))));
    location.reload();
  });
  events.addEventListener("error", () => {
    show("stopped", "off");
    notice("The preview server has stopped: this page shows its last state.");
  });
  window.addEventListener("pagehide", () => events.close());
}

async function start() {
  try {
    await openPage();
  } catch (error) {
    $("empty").replaceChildren(el("h2", {}, "This file cannot be opened here"),
      el("p", {}, `It may be truncated, or the browser is too old: it needs DecompressionStream (2023). ${error.message}`));
    return;
  }
  readAddress();
  drawFacts();
  listen();
  if (page.entries.length) {
    $("empty").hidden = true;
    $("row").hidden = false;
  } else {
    drawBroken();
  }
  await refresh();
  followChanges();
  document.documentElement.dataset.ready = "true";
}

start();
