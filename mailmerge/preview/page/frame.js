// The message itself, in a frame that runs no code and has no network. Three barriers: what acts or loads is
// removed, the frame is sandboxed, and its policy allows nothing but inline images. The first one also
// keeps browsers from connecting ahead to a link or frame that the others would refuse only afterwards.

const FRAME_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";
const ACTIVE = "script, base, link, iframe, frame, frameset, object, embed, applet, portal, meta[http-equiv], template";
const FORCED_DARK = "html{background:#fff;filter:invert(1) hue-rotate(180deg)}img,video,[background]{filter:invert(1) hue-rotate(180deg)}";
const LINK_STYLE = "a:target{outline:3px solid #0b7a66;outline-offset:2px}a:target::after{content:' → ' attr(title);font:12px/1.4 system-ui,sans-serif;background:#0b7a66;color:#fff;padding:1px 6px;border-radius:4px;overflow-wrap:anywhere}";

function messageDocument(html, parts, { images, dark }) {
  const inert = new DOMParser().parseFromString(html, "text/html");
  const found = { links: [], remote: new Set(), unseen: new Set(), removed: 0, forDark: /color-scheme|light-dark\(/i.test(html) };
  for (const node of inert.querySelectorAll(ACTIVE)) {
    if (node.matches("script, iframe, object, embed, meta[http-equiv=refresh i]")) found.removed += 1;
    node.remove();
  }
  for (const node of inert.querySelectorAll("*")) {
    for (const { name } of [...node.attributes]) if (/^on|^(srcset|ping|poster|manifest|action|formaction|target|download|autofocus|autoplay)$/i.test(name)) node.removeAttribute(name);
    quietLink(node, found);
    quietPictures(node, parts, images, found);
    if (node.hasAttribute("media")) node.setAttribute("media", inScheme(node.getAttribute("media"), dark));
  }
  for (const node of inert.querySelectorAll("style")) node.textContent = inScheme(inline(node.textContent, parts, images), dark);
  const head = [inert.createElement("meta"), inert.createElement("meta"), inert.createElement("style")];
  head[0].setAttribute("http-equiv", "Content-Security-Policy");
  head[0].setAttribute("content", FRAME_POLICY);
  head[1].setAttribute("http-equiv", "x-dns-prefetch-control");
  head[1].setAttribute("content", "off");
  head[2].textContent = LINK_STYLE + (dark === "forced" ? FORCED_DARK : "");
  inert.head.prepend(...head);
  return { ...found, source: `<!doctype html>${inert.documentElement.outerHTML}`, preheader: preheader(inert) };
}

// Colour scheme queries of a message are answered by the chosen mode, whatever the system's: not every
// browser asks the frame.
function inScheme(style, dark) {
  const wanted = dark === "dark" ? "dark" : "light";
  return style.replace(/\(\s*prefers-color-scheme\s*(?::\s*([a-z-]+)\s*)?\)/gi, (_, scheme) =>
    !scheme || scheme.toLowerCase() === wanted ? "(min-width: 0px)" : "(max-width: 0px)");
}

// A link becomes a jump to itself, which shows its target. The frame's own address must be
// written out: relative ones belong to the page around it.
function quietLink(node, found) {
  if (!node.matches("a, area")) return;
  const target = node.getAttribute("href") ?? node.getAttribute("xlink:href");
  node.removeAttribute("xlink:href");
  if (target === null) return;
  if (target.startsWith("#")) {
    node.setAttribute("href", `about:srcdoc${target}`);
    return;
  }
  const number = found.links.push({ target, text: node.textContent.trim() || node.querySelector("img")?.alt || "" });
  if (!node.id) node.id = `preview-link-${number}`;
  node.setAttribute("href", `about:srcdoc#${encodeURIComponent(node.id)}`);
  node.setAttribute("title", target);
}

function quietPictures(node, parts, images, found) {
  for (const name of ["src", "background", "href", "xlink:href"]) {
    const value = node.getAttribute(name);
    if (value === null || (name.endsWith("href") && !/^(image|use|feimage)$/i.test(node.localName))) continue;
    const source = value.trim();
    if (/^cid:/i.test(source)) {
      if (!partNamed(source, parts)) found.unseen.add(source);
      source_(node, name, images ? inlineSource(source, parts) : null);
    }
    else if (/^data:image\//i.test(source)) source_(node, name, images ? source : null);
    else {
      if (/^(https?:)?\/\//i.test(source)) found.remote.add(source);
      source_(node, name, null);
    }
  }
  const style = node.getAttribute("style");
  if (/url|import/i.test(style)) node.setAttribute("style", inline(style, parts, images));
}

function source_(node, name, value) {
  if (value === null) node.removeAttribute(name);
  else node.setAttribute(name, value);
}

// Addresses in styles: images of the message are inserted, all others removed.
function inline(style, parts, images) {
  const quiet = style.replace(/@import\b[^;]*;?/gi, "");
  return quiet.replace(/url\(\s*(["']?)([^"')]*)\1\s*\)/gi, (_, quote, source) => {
    if (/^cid:/i.test(source)) return `url("${(images && inlineSource(source, parts)) || "data:,"}")`;
    return images && /^data:image\//i.test(source) ? `url("${source}")` : "none";
  });
}

function inlineSource(source, parts) {
  const part = partNamed(source, parts);
  if (!part || part.leftOut || !part.type.startsWith("image/")) return null;
  return `data:${part.type};base64,${part.body.replace(/\s/g, "")}`;
}

function partNamed(source, parts) {
  let wanted = source.slice(4);
  try {
    wanted = decodeURIComponent(wanted);
  } catch {
    // Not percent-encoded: there may be a part of this very name.
  }
  return parts.find((candidate) => candidate.contentId === wanted);
}

// The words that an inbox shows after the subject: the first ones of the body.
function preheader(inert) {
  const body = inert.body.cloneNode(true);
  for (const node of body.querySelectorAll("style, script, title")) node.remove();
  for (const node of body.querySelectorAll("p, div, td, th, li, br, h1, h2, h3, h4, tr, img[alt]")) node.before(node.matches("img") ? ` ${node.alt} ` : " ");
  return body.textContent.replace(/[\u00ad\u034f\u200b-\u200f\u2060\ufeff]/g, "").replace(/\s+/g, " ").trim().slice(0, 140);
}

function messageFrame(item, made) {
  const frame = el("iframe", { sandbox: "", title: `Message to ${who(item)}`, referrerpolicy: "no-referrer", class: `message-frame ${state.dark}` });
  frame.srcdoc = made.source;
  return frame;
}
