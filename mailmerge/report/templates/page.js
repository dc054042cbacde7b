// Filter and sort the table of rows. Everything else on this page, the table included, works without script.
"use strict";
(() => {
  const tools = document.getElementById("tools");
  const table = document.getElementById("rows-table");
  if (!tools || !table) return;

  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const search = document.getElementById("search");
  const shown = document.getElementById("shown");
  const chips = Array.from(tools.querySelectorAll("button[data-status]"));
  const counted = table.dataset.counted;
  let status = "";

  const apply = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    rows.forEach((row, index) => {
      const fits =
        (!status || row.dataset.status === status) && words.every((word) => texts[index].includes(word));
      row.hidden = !fits;
      count += fits;
    });
    const all = `${rows.length.toLocaleString("en")} ${counted}${rows.length === 1 ? "" : "s"}`;
    shown.textContent = count === rows.length ? `${all} shown` : `${count.toLocaleString("en")} of ${all} shown`;
    document.getElementById("nothing").hidden = count > 0;
  };

  const choose = (chosen) => {
    status = chosen;
    chips.forEach((chip) => chip.setAttribute("aria-pressed", String(chip.dataset.status === status)));
    apply();
  };

  const value = (row, column) => {
    const cell = row.cells[column];
    return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent.trim().toLowerCase();
  };

  const sort = (heading) => {
    const falling = heading.getAttribute("aria-sort") === "ascending";
    const column = heading.cellIndex;
    const sign = falling ? -1 : 1;
    const order = rows
      .map((row) => [value(row, column), row])
      .sort(([one], [other]) => sign * (one < other ? -1 : one > other ? 1 : 0));
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
    body.append(...order.map(([, row]) => row));
  };

  for (const heading of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = heading.textContent;
    button.addEventListener("click", () => sort(heading));
    heading.replaceChildren(button);
  }

  // A link to a row that the filter hides shows all rows again.
  const follow = () => {
    const row = document.getElementById(location.hash.slice(1));
    if (!row || !row.hidden) return;
    search.value = "";
    choose("");
    row.scrollIntoView();
  };

  search.addEventListener("input", apply);
  chips.forEach((chip) => chip.addEventListener("click", () => choose(chip.dataset.status)));
  addEventListener("hashchange", follow);
  tools.hidden = false;
  choose("");
})();
