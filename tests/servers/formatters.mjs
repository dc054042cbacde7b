// Reads [[number, code], ...] and writes [[shown by ssf, shown by numfmt], ...], null where one fails.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const modules = resolve(process.argv[2]);
const ssf = createRequire(resolve(modules, "any.js"))("ssf");
// Its package.json names files that it does not have.
const { format } = await import(pathToFileURL(resolve(modules, "numfmt/dist/index.mjs")));

const attempt = (show) => {
  try {
    return String(show());
  } catch {
    return null;
  }
};
const cells = JSON.parse(readFileSync(0, "utf-8"));
console.log(JSON.stringify(cells.map(([number, code]) => [
  attempt(() => ssf.format(code, number)),
  attempt(() => format(code, number, { throws: true, leap1900: true })),
])));
