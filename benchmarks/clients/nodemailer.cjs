// nodemailer's pool with one connection: HOST PORT SECONDS MESSAGES NODE_MODULES
const fs = require('fs');
const path = require('path');
const { createRequire } = require('module');
const [host, port, seconds, file, modules] = process.argv.slice(2);
const nodemailer = createRequire(path.join(modules, 'x.js'))('nodemailer');

const data = fs.readFileSync(file), messages = [];
for (let place = 0; place < data.length;) {
  const end = data.indexOf(10, place);
  const [first, second] = data.toString('latin1', place, end).split(' ').map(Number);
  place = end + 1;
  messages.push([data.toString('utf8', place, place + first), data.subarray(place + first, place + first + second)]);
  place += first + second;
}

const transport = nodemailer.createTransport({
  pool: true, maxConnections: 1, maxMessages: Infinity, host, port: +port, name: 'bench.example', secure: false, ignoreTLS: true,
});
const send = ([to, raw]) => transport.sendMail({ envelope: { from: 'news@example.com', to: [to] }, raw });

(async () => {
  await send(messages[0]); // connects
  const cpu = process.cpuUsage(), began = process.hrtime.bigint();
  const wall = () => Number(process.hrtime.bigint() - began) / 1e9;
  let next = 0, count = 0;
  const worker = async () => { // the pool's queue is never empty, as its own documentation advises
    do { await send(messages[next++ % messages.length]); count++; } while (wall() < +seconds);
  };
  await Promise.all([worker(), worker(), worker()]);
  const took = wall(), used = process.cpuUsage(cpu);
  transport.close();
  console.log(JSON.stringify({ rate: count / took, cpu_us: (used.user + used.system) / count, count }));
})().catch(error => { console.error(error); process.exit(1); });
