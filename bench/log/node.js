const fs = require("fs");
const measure = require("../lib/measure.js");
const lines = Number(process.argv[2]);
const log = fs.openSync(process.argv[3], "a");

function info(message, fields) {
  const text = Object.entries(fields).map(([name, value]) => ` ${name}=${value}`).join("");
  fs.writeSync(log, `${new Date().toISOString()} info  log: ${message}${text}\n`);
}

const cpu = measure.cpu(), wall = measure.wall();
for (let i = 1; i <= lines; i++) {
  info("beat", { count: i });
}
measure.report({ cpu: (measure.cpu() - cpu) / lines, rate: lines / (measure.wall() - wall) });
