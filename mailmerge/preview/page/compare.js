// What differs between two texts, word by word: Myers' greedy algorithm, after common ends are removed.

const MOST_EDITS = 1200;
const MOST_TOKENS = 60000;

// The ranges of `text` that are not in `other`.
function differences(text, other) {
  if (text === other) return [];
  const [a, b] = [text, other].map((value) => value.match(/[\p{L}\p{N}]+|\s+|[^\p{L}\p{N}\s]/gu) || []);
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start += 1;
  let end = 0;
  while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end += 1;
  const [left, right] = [a.slice(start, a.length - end), b.slice(start, b.length - end)];
  const kept = left.length + right.length > MOST_TOKENS ? null : common(left, right);
  const ranges = [];
  let at = a.slice(0, start).join("").length;
  for (const [index, token] of left.entries()) {
    if (!kept?.has(index)) {
      const last = ranges[ranges.length - 1];
      if (last && last.end === at) last.end += token.length;
      else ranges.push({ start: at, end: at + token.length, kind: "differs" });
    }
    at += token.length;
  }
  return ranges;
}

// Positions in `a` of what is also in `b`, in order; null if the two have too little in common.
function common(a, b) {
  const trace = [];
  const reach = new Map([[1, 0]]);
  for (let edits = 0; edits <= Math.min(a.length + b.length, MOST_EDITS); edits += 1) {
    trace.push(new Map(reach));
    for (let k = -edits; k <= edits; k += 2) {
      const down = k === -edits || (k !== edits && reach.get(k - 1) < reach.get(k + 1));
      let x = down ? reach.get(k + 1) : reach.get(k - 1) + 1;
      while (x < a.length && x - k < b.length && a[x] === b[x - k]) x += 1;
      reach.set(k, x);
      if (x >= a.length && x - k >= b.length) return walkBack(trace, a.length, b.length);
    }
  }
  return null;
}

function walkBack(trace, x, y) {
  const kept = new Set();
  for (let edits = trace.length - 1; edits >= 0; edits -= 1) {
    const reach = trace[edits];
    const k = x - y;
    const down = k === -edits || (k !== edits && reach.get(k - 1) < reach.get(k + 1));
    const before = down ? k + 1 : k - 1;
    const from = edits === 0 ? 0 : reach.get(before);
    const stop = edits === 0 ? 0 : down ? from : from + 1;
    while (x > stop && x > 0) { x -= 1; y -= 1; kept.add(x); }
    if (edits > 0) { x = from; y = from - before; }
  }
  return kept;
}
