// The search language: words, "quoted words", -not, and name:value.

const PROBLEM = (item) => item.errors > 0 || item.codes.length > 0;
const STATES = {
  error: (item) => item.errors > 0,
  warning: (item) => item.warnings,
  problem: PROBLEM,
  nameless: (item) => item.codes.includes("D204"),
};
const UNUSUAL = { longest: "Longest", shortest: "Shortest", biggest: "Biggest", rare: "Rare branch", nameless: "Greeting without a name" };

// Letters without their accents: "zoe" finds Zoë.
const folded = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();

function haystack(item) {
  item.haystack ??= folded([item.row, item.address, item.name, item.subject, ...item.cells].join("\n"));
  return item.haystack;
}

function unusualRows(kind) {
  page.unusual ??= Object.fromEntries(Object.entries(page.facts.unusual).map(([name, rows]) => [name, new Set(rows)]));
  if (kind === "nameless") return { has: (row) => STATES.nameless(page.byRow.get(row)) };
  return page.unusual[kind];
}

const isUnusual = (item, kind) => unusualRows(kind).has(item.row);

function predicate(name, value) {
  const text = folded(value);
  switch (name) {
    case "to": return (item) => folded(`${item.address} ${item.name}`).includes(text);
    case "subject": return (item) => folded(item.subject).includes(text);
    case "code": return (item) => item.codes.some((code) => folded(code) === text);
    case "has": return (item) => text.startsWith("attach") && item.attachments > 0;
    case "larger": case "smaller": {
      const [, digits, unit] = /^([\d.]+)([km]?)b?$/.exec(text) || [null, "0", ""];
      const octets = Number(digits) * ({ k: 1e3, m: 1e6 }[unit] || 1);
      return (item) => (name === "larger" ? item.octets > octets : item.octets < octets);
    }
    case "row": {
      const ranges = text.split(",").map((range) => range.split("-").map(Number));
      return (item) => ranges.some(([first, last = first]) => item.row >= first && item.row <= last);
    }
    case "is":
      if (STATES[text]) return STATES[text];
      if (text === "unusual") return (item) => Object.keys(UNUSUAL).some((kind) => isUnusual(item, kind));
      if (UNUSUAL[text]) return (item) => isUnusual(item, text);
      return (item) => stateWord(item.status) === text.replace(/[_-]/g, " ");
    default: {
      const index = columnIndex(name);
      if (index < 0) return null;
      return text.startsWith("=")
        ? (item) => folded(item.cells[index]) === text.slice(1)
        : (item) => folded(item.cells[index]).includes(text);
    }
  }
}

function columnIndex(name) {
  const wanted = folded(name);
  return page.facts.columns.findIndex((column) => folded(column.name) === wanted || folded(column.heading) === wanted);
}

function parseQuery(query) {
  const tests = [];
  for (const [, minus, name, quoted, bare] of query.matchAll(/(-?)(?:([^\s":]+):)?(?:"([^"]*)"?|(\S+))/gu)) {
    const value = quoted ?? bare;
    const test = (name && predicate(name.toLowerCase(), value)) || words(name ? `${name}:${value}` : value);
    tests.push(minus ? (item) => !test(item) : test);
  }
  return (item) => tests.every((test) => test(item));
}

function words(text) {
  const wanted = folded(text);
  return (item) => haystack(item).includes(wanted);
}

const queryTerms = (query) => query.match(/-?(?:[^\s":]+:)?(?:"[^"]*"?|\S+)/gu) || [];

function toggleTerm(query, term) {
  const terms = queryTerms(query);
  return (terms.includes(term) ? terms.filter((other) => other !== term) : [...terms, term]).join(" ");
}
