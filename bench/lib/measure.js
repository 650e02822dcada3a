// What the node programs share; see measure.lua.
const fs = require("fs");

// Seconds of CPU of this process, including its garbage collector's threads.
exports.cpu = () => {
  const usage = process.cpuUsage();
  return (usage.user + usage.system) / 1e6;
};

exports.wall = () => Number(process.hrtime.bigint()) / 1e9;

exports.memory = (field) => {
  const match = fs.readFileSync("/proc/self/status", "utf8").match(new RegExp(`${field}:\\s*(\\d+)`));
  return Number(match[1]) * 1024;
};

exports.delays = (count) => {
  const delays = new Array(count);
  let seed = 1;
  for (let i = 0; i < count; i++) {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    delays[i] = 1000 + (seed >>> 12) % 1000;
  }
  return delays;
};

exports.report = (figures) => console.log(JSON.stringify(figures));
