// The content of the file: blocks of deflated JSON, opened when they are needed.

const page = { facts: null, entries: [], pieces: [], rowBlocks: [], blobBlocks: [], byRow: new Map() };
const openedBlocks = new Map();
const openedBlobs = new Map();
const BLOCKS_KEPT = 6;

async function inflate(base64) {
  const bytes = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function inflateJson(element) {
  return JSON.parse(new TextDecoder().decode(await inflate(element.textContent)));
}

async function openPage() {
  const blocks = (kind) => [...document.querySelectorAll(`script[data-block=${kind}]`)];
  page.rowBlocks = blocks("rows");
  page.blobBlocks = blocks("blob");
  page.facts = await inflateJson(blocks("facts")[0]);
  const [entries, pieces] = await Promise.all([
    Promise.all(blocks("entries").map(inflateJson)),
    Promise.all(blocks("pieces").map(inflateJson)),
  ]);
  page.pieces = pieces.flat();
  page.entries = entries.flat().map(entry);
  for (const item of page.entries) page.byRow.set(item.row, item);
}

function entry(values, index) {
  const [row, status, address, name, subject, octets, attachments, errors, codes, cells] = values;
  const warnings = codes.length > 0 && errors === 0;
  return { index, row, status, address, name, subject, octets, attachments, errors, warnings, codes, cells };
}

function unfold(folded) {
  return folded.map((piece) =>
    typeof piece === "string" ? piece : page.pieces.slice(piece[0], piece[0] + piece[1]).join("")).join("");
}

async function details(item) {
  const number = Math.floor(item.index / page.facts.block);
  if (!openedBlocks.has(number)) {
    openedBlocks.set(number, inflateJson(page.rowBlocks[number]));
    if (openedBlocks.size > BLOCKS_KEPT) openedBlocks.delete(openedBlocks.keys().next().value);
  }
  const found = (await openedBlocks.get(number))[item.index % page.facts.block];
  if (!found.opened) found.opened = openDetails(found);
  return found.opened;
}

async function openDetails(found) {
  const raw = found.content ? (await Promise.all(found.content.map(segment))).join("") : null;
  const message = raw === null ? null : parseEntity(raw);
  const parts = message ? leaves(message) : [];
  const marked = (name) => (found[name] ? unmark(unfold(found[name])) : null);
  return {
    ...found,
    raw,
    message,
    parts,
    htmlPart: parts.find((part) => part.type === "text/html" && !part.attached),
    textPart: parts.find((part) => part.type === "text/plain" && !part.attached),
    htmlSource: marked("html"),
    textSource: marked("text"),
    htmlMarked: found.html ? unfold(found.html) : null,
  };
}

async function segment(part) {
  if (Array.isArray(part)) return unfold(part);
  if (part.base64) return base64Lines(new TextEncoder().encode(unfold(part.base64)));
  if (part.blob !== undefined) {
    if (!openedBlobs.has(part.blob)) openedBlobs.set(part.blob, inflate(page.blobBlocks[part.blob].textContent));
    return binary(await openedBlobs.get(part.blob));
  }
  return `${part.head.slice(0, -2)}X-Left-Out: ${part.size}\r\n\r\n`;
}

// Removes the marks from text; returns the text and the positions of the values in it.
function unmark(text) {
  const [start, end] = page.facts.marks;
  const values = [];
  let plain = "";
  let from = -1;
  for (const piece of text.split(new RegExp(`(${start}|${end})`, "u"))) {
    if (piece === start) from = plain.length;
    else if (piece === end) values.push({ start: Math.max(from, 0), end: plain.length });
    else plain += piece;
  }
  return { text: plain, values };
}

function binary(bytes) {
  const pieces = [];
  for (let at = 0; at < bytes.length; at += 32768) pieces.push(String.fromCharCode(...bytes.subarray(at, at + 32768)));
  return pieces.join("");
}

function base64Lines(bytes) {
  return btoa(binary(bytes)).replace(/.{1,76}/g, "$&\r\n");
}

function cellText(item, found, index) {
  return found.long?.[index] ?? item.cells[index];
}
