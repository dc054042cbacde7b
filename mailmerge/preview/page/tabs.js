// The views of a row. Each takes the row, its details, and those of the row that it is compared with.

const TABS = [
  ["message", "Message", messageView, "1"],
  ["text", "Text", textView, "2"],
  ["source", "Source", sourceView, "3"],
  ["headers", "Headers", headersView, "4"],
  ["structure", "Structure", structureView, "5"],
  ["links", "Links", linksView, "8"],
  ["row", "Row data", rowView, "6"],
  ["checks", "Checks", checksView, "7"],
];
const MARKS_DIFFERENCES = ["text", "source", "headers", "links", "row"];
const WIDTHS = ["320", "375", "414", "600", "768", "full"];
const DARK = [["light", "Light"], ["dark", "Dark"], ["forced", "Forced dark"]];
const SHOWN_SOURCE = 300000;

function segmented(label, key, options, current, choose) {
  return el("div", { class: "segmented", role: "group", "aria-label": label }, options.map(([value, words, title]) =>
    el("button", { type: "button", "aria-pressed": String(value === current), title, "data-value": `${key}-${value}`, onclick: () => choose(value) }, words)));
}

function toggle(label, key, on, choose, shape) {
  return el("button", { type: "button", class: "button small", "aria-pressed": String(on), "data-value": key, onclick: () => choose(!on) },
    shape ? icon(shape) : null, label);
}

function nothing(title, text) {
  return el("div", { class: "empty" }, el("h3", {}, title), text ? el("p", {}, text) : null);
}

function noMessage(found) {
  return nothing("No message for this row", found.checks?.[0]?.message);
}

// --- message ---------------------------------------------------------------------------------------------

function toolbar() {
  return el("div", { class: "toolbar" },
    segmented("Width of the message in pixels", "width", WIDTHS.map((width) => [width, width === "full" ? "Full" : width]), state.width, (width) => set({ width })),
    segmented("Colours of the message", "dark", DARK.map(([value, words]) =>
      [value, words, value === "forced" ? "As in apps that invert colours (approximate)" : undefined]), state.dark, (dark) => set({ dark })),
    toggle("Images", "images", state.images, (images) => set({ images }), "image"));
}

function messageView(item, found) {
  if (!found.message) return noMessage(found);
  const device = el("div", { class: `device device-${state.width}` });
  if (state.width !== "full") device.style.width = `${state.width}px`;
  if (!found.htmlPart) {
    device.classList.add(`paper-${state.dark}`);
    device.append(el("pre", { class: "paper" }, found.textPart ? partText(found.textPart) : ""));
    return el("div", {}, el("div", { class: "stage" }, device), el("p", { class: "hint" }, "This message has only a text part."));
  }
  const made = messageDocument(partText(found.htmlPart), found.parts, { images: state.images, dark: state.dark });
  device.append(messageFrame(item, made));
  const remote = made.remote.size ? `${plural(made.remote.size, "image")} from the web not loaded here. ` : "";
  const unseen = made.unseen.size ? `${plural(made.unseen.size, "image")} cannot be shown: no part of the message has ${made.unseen.size > 1 ? "these names" : "this name"}. ` : "";
  const removed = made.removed ? `${plural(made.removed, "script or embedded page", "")} left out, as mail programs do. ` : "";
  const asIs = state.dark === "dark" && !made.forDark ? "This message has no dark colours of its own: some programs show it unchanged, others as in Forced dark. " : "";
  return el("div", {},
    el("div", { class: "stage", tabindex: "0", role: "group", "aria-label": `The message of row ${item.row}` }, device),
    remote || unseen || removed || asIs ? el("p", { class: "hint" }, remote, unseen, removed, asIs) : null,
    made.links.length ? linkList(made.links) : null);
}

function linkList(links) {
  return el("details", { class: "links" }, el("summary", {}, `${plural(links.length, "link")} in this message`),
    el("ul", {}, links.map(({ target, text }) => el("li", {},
      el("span", { class: "link-text" }, text || "(no text)"), el("code", {}, target), copyButton(target, "Copy", `Copy ${target}`)))));
}

// --- links -----------------------------------------------------------------------------------------------

const LINK_CODES = /^(H20[789]|H21[019]|H234|H30[1-4]|N21[0-2])$/;
const SHOWN_LINKS = 300;
const IN_TEXT = /\b(?:https?:\/\/|www\.|mailto:|tel:)[^\s<>"']+/gi;

// The links of a message as written, inactive: the target of each, with the values in it.
function linksOf(found) {
  const links = htmlLinks(found);
  const known = new Set(links.map((link) => link.target));
  if (found.textPart) {
    const { text, values } = found.textSource || { text: partText(found.textPart), values: [] };
    for (const match of text.matchAll(IN_TEXT)) {
      const target = match[0].replace(/[.,;:!?)\]]+$/, "");
      const end = match.index + target.length;
      const inside = values.filter((value) => value.end > match.index && value.start < end).map((value) =>
        ({ start: Math.max(value.start - match.index, 0), end: Math.min(value.end, end) - match.index }));
      if (!known.has(target)) links.push({ target, text: "", values: inside, where: found.htmlPart ? "Only in the text part" : "In the text" });
      known.add(target);
    }
  }
  for (const [, target] of header(found.message, "List-Unsubscribe").matchAll(/<([^<>]*)>/g)) {
    links.push({ target, text: "Unsubscribe", values: [], where: "In the header List-Unsubscribe" });
  }
  return links;
}

function htmlLinks(found) {
  if (!found.htmlPart) return [];
  const read = (html) => [...new DOMParser().parseFromString(html, "text/html").querySelectorAll("a, area")]
    .map((node) => ({ target: node.getAttribute("href") ?? node.getAttribute("xlink:href"), text: node.textContent.trim() || node.querySelector("img")?.alt || node.getAttribute("alt") || "" }))
    .filter(({ target }) => target !== null);
  const marked = (found.htmlMarked ? read(found.htmlMarked) : []).map(({ target }) => unmark(target));
  return read(partText(found.htmlPart)).map((link, index) => ({
    ...link, where: "In the HTML", values: marked[index]?.text === link.target ? marked[index].values : [],
  }));
}

function linksView(item, found, other) {
  if (!found.message) return noMessage(found);
  const links = linksOf(found);
  const about = [...(found.checks || []), ...page.facts.problems.filter((problem) => !problem.rows.length)].filter((problem) => LINK_CODES.test(problem.code));
  if (!links.length) return el("div", { class: "checks" }, nothing("No links", "This message contains no links."), about.map(finding));
  const others = other?.message ? linksOf(other) : null;
  const told = new Set();
  const nodes = links.slice(0, SHOWN_LINKS).map((link, index) => {
    const its = about.filter((problem) => isAbout(problem, link));
    for (const problem of its) told.add(problem);
    const ranges = link.values.filter(({ start, end }) => end > start).map((value) => ({ ...value, kind: "value", title: "merged value" }));
    if (others) ranges.push(...differences(link.target, others[index]?.target ?? ""));
    return el("li", { class: its.length ? "link link-found" : "link" },
      el("div", { class: "link-head" }, el("span", { class: "link-text" }, link.text || (link.where === "In the HTML" ? "(no text)" : "")), el("span", { class: "hint" }, link.where),
        copyButton(link.target, "Copy", `Copy ${link.target}`)),
      el("code", {}, link.target ? paint(link.target, ranges) : "(empty)"),
      its.map((problem) => el("p", { class: `link-finding link-${problem.severity}` }, icon(problem.severity === "error" ? "error" : "warning"), el("span", {}, `${problem.code}: ${problem.message}`))));
  });
  const rest = about.filter((problem) => !told.has(problem));
  return el("div", {},
    el("p", { class: "hint" }, `${plural(links.length, "link")}; they cannot be followed here. Merged values are marked.`),
    el("ul", { class: "link-list" }, nodes),
    links.length > SHOWN_LINKS ? el("p", { class: "hint" }, `The first ${number(SHOWN_LINKS)} of ${number(links.length)}.`) : null,
    rest.length ? el("div", { class: "checks" }, rest.map(finding)) : null);
}

// A finding quotes the link, in full or its beginning.
function isAbout(problem, { target, text }) {
  const quoted = [...problem.message.matchAll(/"([^"]+)"/g)].map(([, words]) => words.replace(/(…|\.\.\.)$/, ""));
  return quoted.some((words) => words === target || words === text || (words.length > 20 && target.startsWith(words)));
}

// --- texts with marks ---------------------------------------------------------------------------------------

const TAGS = /<!--[\s\S]*?-->|<\/?[a-zA-Z][^>]*>|&#?\w+;/g;

function syntax(text) {
  return [...text.matchAll(TAGS)].map((match) => ({
    start: match.index, end: match.index + match[0].length,
    kind: match[0].startsWith("<!--") ? "comment" : match[0].startsWith("&") ? "entity" : "tag",
  }));
}

// Values become `mark` elements that name their column.
function valueRanges(source, item) {
  return source.values.map(({ start, end }) => {
    const text = source.text.slice(start, end);
    const index = item.cells.findIndex((cell) => cell !== "" && cell.trim() === text.trim());
    const title = index < 0 ? "merged value" : `column ${page.facts.columns[index].heading}`;
    return { start, end, kind: start === end ? "value value-empty" : "value", title: start === end ? "empty value" : title };
  });
}

function paint(text, ranges) {
  const cuts = new Set([0, text.length]);
  for (const { start, end } of ranges) cuts.add(start).add(end);
  const points = [...cuts].filter((cut) => cut <= text.length).sort((a, b) => a - b);
  const opening = Map.groupBy ? Map.groupBy(ranges, (range) => range.start) : groupBy(ranges);
  let open = [];
  const nodes = [];
  for (const [index, start] of points.entries()) {
    const empty = (opening.get(start) || []).filter((range) => range.end === start);
    nodes.push(...empty.map((range) => el("mark", { class: range.kind, title: range.title }, "∅")));
    open = [...open.filter((range) => range.end > start), ...(opening.get(start) || []).filter((range) => range.end > start)];
    const piece = text.slice(start, points[index + 1] ?? start);
    if (!piece) continue;
    const titled = open.find((range) => range.title);
    nodes.push(open.length
      ? el(titled || open.some((range) => range.kind === "differs") ? "mark" : "span", { class: open.map((range) => range.kind).join(" "), title: titled?.title }, piece)
      : piece);
  }
  return nodes;
}

function groupBy(ranges) {
  const groups = new Map();
  for (const range of ranges) groups.set(range.start, [...(groups.get(range.start) || []), range]);
  return groups;
}

function marksToggle(found) {
  const known = found.htmlSource || found.textSource;
  return el("div", { class: "toolbar" },
    known ? toggle("Mark merged values", "highlight", state.highlight, (highlight) => set({ highlight }), null)
      : el("p", { class: "hint" }, "Merged values cannot be marked in this row: its templates process their own output."));
}

function textView(item, found, other) {
  if (!found.message) return noMessage(found);
  if (!found.textPart) return nothing("No text part", "Some readers and most spam filters expect one: add message.text.");
  const source = found.textSource || { text: partText(found.textPart), values: [] };
  const ranges = state.highlight ? valueRanges(source, item) : [];
  if (other?.textPart) ranges.push(...differences(source.text, other.textSource?.text ?? partText(other.textPart)));
  return el("pre", { class: "code code-wrap" }, paint(source.text, ranges));
}

function sourceView(item, found, other) {
  if (!found.message) return noMessage(found);
  const part = found.htmlPart || found.textPart;
  if (!part) return nothing("No body");
  const pick = (from) => (from.htmlPart ? from.htmlSource : from.textSource);
  const whole = pick(found) || { text: partText(part), values: [] };
  const source = { text: whole.text.slice(0, SHOWN_SOURCE), values: whole.values.filter((value) => value.end <= SHOWN_SOURCE) };
  const ranges = [...syntax(source.text), ...(state.highlight ? valueRanges(source, item) : [])];
  if (other?.message) ranges.push(...differences(source.text, (pick(other)?.text ?? "").slice(0, SHOWN_SOURCE)));
  return el("div", {}, lines(source.text, ranges),
    whole.text.length > SHOWN_SOURCE ? el("p", { class: "hint" }, `The first ${number(SHOWN_SOURCE)} of ${number(whole.text.length)} characters.`) : null);
}

function lines(text, ranges) {
  const code = el("div", { class: "code code-lines" });
  let start = 0;
  const sorted = [...ranges].sort((a, b) => a.start - b.start);
  for (const line of text.split("\n")) {
    const end = start + line.length;
    const inside = sorted.filter((range) => range.start <= end && (range.end > start || (range.end === range.start && range.start >= start)))
      .map((range) => ({ ...range, start: Math.max(range.start, start) - start, end: Math.min(range.end, end) - start }))
      .filter((range) => range.end > range.start || range.kind.includes("value-empty"));
    code.append(el("div", { class: "line" }, inside.length ? paint(line, inside) : line || "\u200b"));
    start = end + 1;
  }
  return code;
}

// --- headers, structure, row -----------------------------------------------------------------------------------

const MADE_WHEN_SENT = "made when sent";

// The header with a remark in place of what is not known yet.
function asSent(found) {
  return (found.to_come || []).reduce((head, name) =>
    head.replace(new RegExp(`^${name}:.*(\\r\\n[ \\t].*)*`, "m"), `${name}: ${MADE_WHEN_SENT}`), found.message.head);
}

function headersView(item, found, other) {
  if (!found.message) return noMessage(found);
  const headers = found.message.headers;
  const others = new Map((other?.message?.headers || []).map((field) => [field.name, decodeWords(field.value)]));
  const decoded = headers.map((field) => {
    const value = found.to_come?.includes(field.name) ? MADE_WHEN_SENT : decodeWords(field.value);
    return el("tr", {}, el("th", { scope: "row" }, field.name),
      el("td", {}, other?.message ? paint(value, differences(value, others.get(field.name) ?? "")) : value));
  });
  return el("div", {},
    el("table", { class: "table" }, el("caption", {}, "Decoded"), el("tbody", {}, decoded)),
    el("table", { class: "table" }, el("caption", {}, "Envelope: what the server receives"), el("tbody", {},
      el("tr", {}, el("th", { scope: "row" }, "MAIL FROM"), el("td", {}, found.from)),
      found.rcpt.map((address) => el("tr", {}, el("th", { scope: "row" }, "RCPT TO"), el("td", {}, address))))),
    el("div", { class: "section-head" }, el("h3", {}, "As sent"), copyButton(asSent(found))),
    el("pre", { class: "code" }, asSent(found).replace(/\r\n/g, "\n")),
    el("p", { class: "hint" }, found.to_come
      ? `${found.to_come.join(", ").replace(/, ([^,]*)$/, " and $1")} ${found.to_come.length > 1 ? "are" : "is"} made when the message is first sent; everything else is exactly what is sent.`
      : "Date and Message-ID are those of the first attempt."));
}

function structureView(item, found) {
  if (!found.message) return noMessage(found);
  return el("div", {},
    el("ul", { class: "tree" }, branch(found.message, item, found)),
    el("div", { class: "section-head" }, el("h3", {}, "The whole message"),
      el("span", { class: "hint" }, size(item.octets)),
      found.parts.some((part) => part.leftOut) ? null : saveButton(toBytes(found.raw), "message/rfc822", `row-${item.row}.eml`, "Save .eml")));
}

function branch(part, item, found) {
  const multipart = part.children.length > 0;
  const octets = part.leftOut ? Math.round(part.leftOut / 1.37) : multipart ? 0 : partBytes(part).length;
  const facts = [part.attached ? "attachment" : part.contentId ? "inside the HTML" : "", multipart ? "" : part.encoding, multipart ? "" : size(octets)];
  return el("li", {},
    el("div", { class: "tree-line" },
      el("code", {}, part.type), part.name ? el("strong", {}, decodeWords(part.name)) : null,
      el("span", { class: "hint" }, facts.filter(Boolean).join(" · ")),
      multipart ? null : partButtons(part, item, found)),
    multipart ? el("ul", {}, part.children.map((child) => branch(child, item, found))) : null);
}

function partButtons(part, item, found) {
  if (part.leftOut) {
    const line = command("eml", item.row);
    return el("span", { class: "hint" }, line ? "not in this page: " : "not in this page", line && el("code", {}, line));
  }
  if (!part.name && !part.contentId) return null;
  const name = decodeWords(part.name) || "part";
  const buttons = [saveButton(partBytes(part), part.type, name, "Save", `Save ${name}`)];
  const place = `${item.row}-${found.parts.indexOf(part)}`;
  const kind = opensAs(part);
  if (kind === "picture") buttons.unshift(openButton(name, place, () => picture(part, name)));
  else if (kind === "text") buttons.unshift(openButton(name, place, () => el("pre", { class: "code code-wrap" }, partText(part).slice(0, SHOWN_SOURCE))));
  else if (kind === "pdf") buttons.unshift(el("button", { type: "button", class: "button small", "aria-label": `Open ${name} in a new tab`, onclick: () => openPdf(part) }, "Open"));
  else if (part.type === "application/pdf") buttons.unshift(el("span", { class: "hint" }, "not opened here: it contains scripts, or is not a PDF"));
  return buttons;
}

// How a file can be viewed without running any code in it.
function opensAs(part) {
  if (part.leftOut) return null;
  if (/^image\/(png|jpeg|gif|webp)$/.test(part.type)) return "picture";
  if (/^text\//.test(part.type)) return "text";
  return part.type === "application/pdf" && isQuietPdf(part) ? "pdf" : null;
}

// Names in a PDF may be written with #xx. Compressed parts are not examined: the browser's viewer is sandboxed itself.
function isQuietPdf(part) {
  const text = binary(partBytes(part));
  return text.slice(0, 1024).includes("%PDF-") && !/\/(JavaScript|JS|Launch)\b/.test(text.replace(/#([0-9a-f]{2})/gi, (_, hex) => String.fromCharCode(parseInt(hex, 16))));
}

function picture(part, name) {
  return el("img", { class: "opened", src: `data:${part.type};base64,${part.body.replace(/\s/g, "")}`, alt: name });
}

function openButton(name, place, make) {
  const button = el("button", { type: "button", class: "button small", "data-part": place, "aria-expanded": "false", "aria-label": `Open ${name}` }, "Open");
  button.addEventListener("click", () => {
    const line = button.closest(".tree-line");
    const opened = line.nextElementSibling?.classList.contains("tree-opened") ? line.nextElementSibling : null;
    if (opened) opened.remove();
    else line.after(el("div", { class: "tree-opened" }, make()));
    button.setAttribute("aria-expanded", String(!opened));
  });
  return button;
}

// Shown by the browser's own viewer, in a tab without access to this one; its type keeps it from being parsed as a page.
function openPdf(part) {
  window.open(URL.createObjectURL(new Blob([partBytes(part)], { type: "application/pdf" })), "_blank", "noopener");
}

async function openFile(part, item, found) {
  if (opensAs(part) === "pdf") return openPdf(part);
  await set({ tab: "structure" });
  $("panel").querySelector(`[data-part="${item.row}-${found.parts.indexOf(part)}"]`)?.click();
}

function saveButton(bytes, type, name, label, spoken = label) {
  return el("button", { type: "button", class: "button small", "aria-label": spoken, onclick: () => {
    // Never opened, always saved: as bytes of a type that the browser does not interpret.
    const address = URL.createObjectURL(new Blob([bytes], { type: "application/octet-stream" }));
    el("a", { href: address, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  } }, label);
}

function rowView(item, found, other, otherItem) {
  const rows = page.facts.columns.map((column, index) => {
    const text = cellText(item, found, index);
    const value = otherItem ? paint(text, differences(text, cellText(otherItem, other, index))) : text;
    return el("tr", { class: column.used ? "" : "unused" },
      el("th", { scope: "row" }, column.heading),
      el("td", {}, el("code", {}, column.name)),
      el("td", { class: "cell" }, text === "" ? el("span", { class: "hint" }, "empty") : value),
      el("td", {}, found.types[index]),
      el("td", {}, column.used ? el("span", { class: "used" }, icon("ok"), "used") : el("span", { class: "hint" }, "unused")));
  });
  const heads = ["Column", "In templates", "Value", "Type", "Use"].map((name) => el("th", { scope: "col" }, name));
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Data of row ${item.row}` },
    el("table", { class: "table table-row" },
      el("caption", {}, `${found.rows || `Row ${item.row}`} of ${page.facts.source}`), el("thead", {}, el("tr", {}, heads)), el("tbody", {}, rows)));
}

// --- checks ----------------------------------------------------------------------------------------------------

function checksView(item, found) {
  const own = found.checks || [];
  const general = page.facts.problems.filter((problem) => !problem.rows.length);
  return el("div", { class: "checks" },
    own.length ? own.map(finding) : el("div", { class: "empty all-well" }, icon("ok"), el("h3", {}, "No findings in this row")),
    general.length ? [el("h3", { class: "general" }, "About the whole campaign"), general.map(finding)] : null);
}

function finding(problem) {
  const shape = problem.severity === "error" ? "error" : "warning";
  const where = [problem.path, problem.line, problem.column].filter((part) => part !== undefined).join(":");
  const place = [where, problem.cell].filter(Boolean).join(", ");
  const plain = [`${problem.severity}[${problem.code}]: ${problem.message}`, place && `  --> ${place}`, problem.hint && `   = hint: ${problem.hint}`];
  return el("article", { class: `finding finding-${shape}` },
    el("div", { class: "finding-head" }, icon(shape), el("span", { class: "code-name" }, `${problem.severity} ${problem.code}`),
      copyButton(plain.filter(Boolean).join("\n"), "Copy", `Copy ${problem.code}`)),
    el("p", { class: "finding-text" }, problem.message),
    place ? el("p", { class: "hint" }, place) : null,
    problem.source !== undefined ? snippet(problem) : null,
    problem.hint ? el("p", { class: "finding-hint" }, el("strong", {}, "Hint "), problem.hint) : null);
}

function snippet(problem) {
  const start = problem.column ? problem.column - 1 : 0;
  const ranges = problem.column ? [{ start, end: start + (problem.width || 1), kind: "caret", title: "here" }] : [];
  return el("pre", { class: "code" }, `${problem.line ?? ""} │ `, paint(problem.source.slice(0, 2000), ranges));
}
