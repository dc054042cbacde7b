// What is being viewed. It is part of the address, so that a link shows a colleague the same.

const DEFAULTS = {
  row: null, tab: "message", query: "", compare: null, width: "full", dark: "light",
  images: true, highlight: true, problemsFirst: true, theme: "system",
};
const state = { ...DEFAULTS };

function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  const choice = (name, values) => (values.includes(given.get(name)) ? given.get(name) : DEFAULTS[name]);
  const row = Number(given.get("row"));
  const compare = Number(given.get("compare"));
  Object.assign(state, {
    row: page.byRow.has(row) ? row : null,
    compare: page.byRow.has(compare) ? compare : null,
    query: given.get("q") || "",
    tab: choice("tab", TABS.map(([name]) => name)),
    width: choice("width", WIDTHS),
    dark: choice("dark", DARK.map(([name]) => name)),
    theme: choice("theme", ["system", "light", "dark"]),
    images: given.get("images") !== "off",
    highlight: given.get("marks") !== "off",
    problemsFirst: given.get("order") !== "list",
  });
}

function writeAddress() {
  const given = new URLSearchParams();
  if (state.row !== null) given.set("row", state.row);
  given.set("tab", state.tab);
  if (state.compare !== null) given.set("compare", state.compare);
  if (state.query) given.set("q", state.query);
  for (const name of ["width", "dark", "theme"]) if (state[name] !== DEFAULTS[name]) given.set(name, state[name]);
  if (!state.images) given.set("images", "off");
  if (!state.highlight) given.set("marks", "off");
  if (!state.problemsFirst) given.set("order", "list");
  history.replaceState(null, "", `#${given}`);
}

// Changes how the row is shown; the row remains the same.
function set(changes) {
  Object.assign(state, changes);
  writeAddress();
  return drawRow();
}

function goTo(row) {
  const compare = state.compare === row ? state.row : state.compare;
  Object.assign(state, { row, compare });
  writeAddress();
  reveal();
  return drawRow(true);
}

function search(query, focusTerm = null) {
  state.query = query;
  if ($("search").value !== query) $("search").value = query;
  writeAddress();
  arrange();
  drawFilters();
  drawStrip();
  if (focusTerm) document.querySelector(`[data-term="${CSS.escape(focusTerm)}"]`)?.focus();
  $("list").scrollTop = 0;
  if (shown.length && !shown.some((item) => item.row === state.row)) goTo(shown[0].row);
  else {
    reveal();
    drawRow();
  }
}
