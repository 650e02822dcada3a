const measure = require("../lib/measure.js");
let left = Number(process.argv[2]);
let fired = 0, heard = -1;

process.on("SIGUSR2", () => { heard = fired; });

// setTimeout has no delay below 1 ms, so setImmediate is used.
function onTimer() {
  fired++;
  if (--left > 0) {
    setImmediate(onTimer);
  } else {
    measure.report({ cpu: measure.cpu() - cpu, wall: measure.wall() - wall, starved: heard });
    process.exit();
  }
}

const cpu = measure.cpu(), wall = measure.wall();
setImmediate(onTimer);
process.kill(process.pid, "SIGUSR2");
