// Reads a message from its own bytes (RFC 5322, 2045 to 2047, 2231); strings here contain one byte per character.

function parseEntity(raw, depth = 0) {
  const cut = raw.indexOf("\r\n\r\n");
  const head = cut < 0 ? raw : raw.slice(0, cut + 2);
  const body = cut < 0 ? "" : raw.slice(cut + 4);
  const headers = parseHeaders(head);
  const header = (name) => headers.find((field) => field.name.toLowerCase() === name)?.value ?? "";
  const [type, parameters] = parseParameters(header("content-type") || "text/plain");
  const [disposition, more] = parseParameters(header("content-disposition"));
  const entity = {
    headers, head, body, type: type.toLowerCase(), parameters,
    encoding: header("content-transfer-encoding").trim().toLowerCase() || "7bit",
    attached: disposition.toLowerCase() === "attachment",
    name: more.filename || parameters.name || "",
    contentId: header("content-id").trim().replace(/^<|>$/g, ""),
    leftOut: Number(header("x-left-out")) || 0,
    children: [],
  };
  const boundary = entity.type.startsWith("multipart/") && parameters.boundary;
  if (boundary && depth < 20) {
    const lines = `\r\n${body}`.split(`\r\n--${boundary}`);
    entity.children = lines.slice(1).filter((part) => !part.startsWith("--"))
      .map((part) => parseEntity(part.replace(/^[ \t]*\r\n/, ""), depth + 1));
  }
  return entity;
}

function parseHeaders(head) {
  const fields = head.replace(/\r\n$/, "").split(/\r\n(?![ \t])/);
  return fields.filter((field) => field.includes(":")).map((raw) => {
    const colon = raw.indexOf(":");
    return { name: raw.slice(0, colon), raw, value: raw.slice(colon + 1).replace(/\r\n/g, "").trim() };
  });
}

function parseParameters(value) {
  const parameters = {};
  const found = /;\s*([^\s=;]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;]*)/g;
  for (const [, key, quoted] of value.matchAll(found)) {
    const text = quoted.startsWith('"') ? quoted.slice(1, -1).replace(/\\(.)/g, "$1") : quoted.trim();
    const [, name, section, extended] = /^([^*]*)(?:\*(\d+))?(\*?)$/.exec(key.toLowerCase()) || [null, key, "", ""];
    const decoded = extended && !Number(section) ? text.replace(/^[^']*'[^']*'/, "") : text;
    (parameters[name] ??= []).push({ section: Number(section || 0), text: decoded, percent: Boolean(extended) });
  }
  for (const [name, pieces] of Object.entries(parameters)) {
    pieces.sort((a, b) => a.section - b.section);
    const bytes = pieces.map((piece) => (piece.percent ? unescape(piece.text) : piece.text)).join("");
    parameters[name] = pieces.some((piece) => piece.percent) ? utf8(bytes) : decodeWords(bytes);
  }
  return [value.split(";")[0].trim(), parameters];
}

const toBytes = (text) => Uint8Array.from(text, (char) => char.charCodeAt(0));
const utf8 = (text) => new TextDecoder().decode(toBytes(text));

function decodeWords(value) {
  const joined = value.replace(/(=\?[^?]+\?[bq]\?[^?]*\?=)\s+(?==\?[^?]+\?[bq]\?)/gi, "$1");
  return joined.replace(/=\?([^?*]+)(?:\*[^?]*)?\?([bq])\?([^?]*)\?=/gi, (all, charset, kind, text) => {
    try {
      const bytes = kind.toLowerCase() === "b" ? atob(text) : unquote(text.replace(/_/g, " "));
      return new TextDecoder(charset).decode(toBytes(bytes));
    } catch {
      return all;
    }
  });
}

function unquote(text) {
  return text.replace(/=\r?\n/g, "").replace(/=([0-9A-F]{2})/gi, (_, hex) => String.fromCharCode(parseInt(hex, 16)));
}

function partBytes(part) {
  if (part.encoding === "base64") return toBytes(atob(part.body.replace(/[^A-Za-z0-9+/=]/g, "")));
  return toBytes(part.encoding === "quoted-printable" ? unquote(part.body) : part.body);
}

function partText(part) {
  let decoder;
  try {
    decoder = new TextDecoder(part.parameters.charset || "utf-8");
  } catch {
    decoder = new TextDecoder();
  }
  return decoder.decode(partBytes(part)).replace(/\r\n/g, "\n");
}

function leaves(entity) {
  return entity.children.length ? entity.children.flatMap(leaves) : [entity];
}

function header(message, name) {
  const field = message.headers.find((candidate) => candidate.name.toLowerCase() === name.toLowerCase());
  return field ? decodeWords(field.value) : "";
}
