// Elements are made, never written as markup: no text from a list or a message is ever parsed as HTML here.

const $ = (id) => document.getElementById(id);

function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "class") node.className = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== ""));
  return node;
}

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  svg.setAttribute("class", `icon icon-${name}`);
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

const number = (value) => value.toLocaleString("en");
const plural = (count, word) => `${number(count)} ${word}${count === 1 ? "" : "s"}`;

function size(octets) {
  if (octets < 1000) return `${octets} B`;
  if (octets < 1e6) return `${(octets / 1000).toFixed(1)} KB`;
  return `${(octets / 1e6).toFixed(1)} MB`;
}

function say(text) {
  $("live").textContent = text;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = el("textarea", { class: "unseen", "aria-hidden": "true" });
    const focused = document.activeElement;
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy"); // the only way where the clipboard API is refused
    area.remove();
    focused?.focus();
    return done;
  }
}

function copyButton(text, label = "Copy", name = label) {
  const words = el("span", {}, label);
  const button = el("button", { type: "button", class: "button small", "aria-label": name }, icon("copy"), words);
  button.addEventListener("click", async () => {
    const done = await copy(text);
    words.textContent = done ? "Copied" : "Not copied";
    say(done ? "Copied" : "Could not be copied");
    setTimeout(() => { words.textContent = label; }, 1600);
  });
  return button;
}

// The commands arrive complete and quoted; only a row's number is inserted between their parts.
function command(name, row) {
  const line = (page.facts.commands || {})[name];
  if (!line) return null;
  return Array.isArray(line) ? line.join(String(Math.trunc(row))) : line;
}
