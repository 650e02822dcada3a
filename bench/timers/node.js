const measure = require("../lib/measure.js");
const count = Number(process.argv[2]), delays = measure.delays(count);
let fired = 0;
const before = measure.memory("VmRSS"), cpu = measure.cpu(), wall = measure.wall();

function onTimer() {
  if (++fired === count) {
    measure.report({
      cpu: measure.cpu() - cpu, wall: measure.wall() - wall, fired,
      bytes: (measure.memory("VmHWM") - before) / count,
    });
  }
}

for (let i = 0; i < count; i++) {
  setTimeout(onTimer, delays[i]);
}
