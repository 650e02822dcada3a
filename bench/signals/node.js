const measure = require("../lib/measure.js");
let left = Number(process.argv[2]);
const cpu = measure.cpu(), wall = measure.wall();
const alive = setInterval(() => {}, 1000000);

process.on("SIGUSR2", () => {
  if (--left > 0) {
    process.kill(process.pid, "SIGUSR2");
  } else {
    measure.report({ cpu: measure.cpu() - cpu, wall: measure.wall() - wall });
    clearInterval(alive);
    process.exit();
  }
});

process.kill(process.pid, "SIGUSR2");
