// The same messages by nodemailer with nunjucks: build_nodemailer.mjs FOLDER SECONDS NODE_MODULES, one line of JSON.
// FOLDER holds mailing.json, rows.json and the files; nunjucks' bare rendering takes turns with the whole.
import { readFileSync, existsSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const [folder, seconds, modules] = process.argv.slice(2);
const require = createRequire(path.join(modules, "x.js"));
const nunjucks = require("nunjucks");
const MailComposer = require("nodemailer/lib/mail-composer");
const read = name => readFileSync(path.join(folder, name));
const mailing = JSON.parse(read("mailing.json"));
const rows = JSON.parse(read("rows.json"));
const file = name => existsSync(path.join(folder, name)) ? read(name) : null;
const pdf = file("brochure.pdf"), image = file("logo.png");

function compiled(source, autoescape) {
  const environment = new nunjucks.Environment(null, { autoescape });
  for (const name in mailing.variables) environment.addGlobal(name, mailing.variables[name]);
  return nunjucks.compile(source, environment);
}
const subject = compiled(mailing.subject, false), text = compiled(mailing.text, false);
const html = mailing.html && compiled(mailing.html, true);
const render = row => [subject.render(row), text.render(row), html ? html.render(row) : undefined];

function build(row) {
  const [shown, plain, rich] = render(row);
  const message = {
    from: { name: mailing.sender_name, address: mailing.sender }, to: { name: row.name, address: row.email },
    subject: shown, text: plain, html: rich, messageId: `<${row.token}@example.com>`, newline: "\r\n",
    headers: {
      "List-Unsubscribe": mailing.unsubscribe.replaceAll("{{ token }}", row.token),
      "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    },
    attachments: [],
  };
  if (pdf) message.attachments.push({ filename: "brochure.pdf", content: pdf, contentType: "application/pdf" });
  if (image) message.attachments.push({ filename: "logo.png", content: image, cid: "logo@campaign", contentDisposition: "inline" });
  return new Promise((done, failed) =>
    new MailComposer(message).compile().build((error, bytes) => error ? failed(error) : done(bytes)));
}

const cpu = () => { const used = process.cpuUsage(); return used.user + used.system; };
const median = list => list.sort((a, b) => a - b)[list.length >> 1];
for (const row of rows.slice(0, 200)) { render(row); await build(row); }
const floors = [], whole = [], ratios = [], began = Date.now();
for (let start = 0; floors.length < 5 || Date.now() - began < seconds * 1000; start = (start + 25) % (rows.length - 25)) {
  const block = rows.slice(start, start + 25), first = cpu();
  for (const row of block) render(row);
  const second = cpu();
  for (const row of block) await build(row);
  const third = cpu();
  floors.push((second - first) / block.length);
  whole.push((third - second) / block.length);
  ratios.push((third - second) / Math.max(1, second - first));
}
console.log(JSON.stringify({ nunjucks: [median(floors), 1], nodemailer: [median(whole), median(ratios)] }));
