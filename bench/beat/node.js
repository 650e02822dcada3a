const measure = require("../lib/measure.js");
const count = Number(process.argv[2]), seconds = Number(process.argv[3]);
let ticks = 0;
const cpu = measure.cpu(), wall = measure.wall();

function onTick() {
  ticks++;
}

for (let i = 0; i < count; i++) {
  setInterval(onTick, 10);
}
setTimeout(() => {
  measure.report({
    cpu: measure.cpu() - cpu, wall: measure.wall() - wall, delivered: ticks / (count * seconds * 100),
  });
  process.exit();
}, seconds * 1000 + 5);
