const measure = require("../lib/measure.js");
const count = Number(process.argv[2]), delays = measure.delays(count);
const timers = new Array(count);

function onTimer() {
  throw new Error("fired");
}

const fresh = measure.cpu();
for (let i = 0; i < count; i++) {
  timers[i] = setTimeout(onTimer, 60 * delays[i]);
}
const armed = measure.cpu();
for (let i = 0; i < count; i++) {
  timers[i].refresh(); // with the delay it has: node has no other way
}
const again = measure.cpu();
for (let i = 0; i < count; i++) {
  clearTimeout(timers[i]);
}
const last = measure.cpu();
measure.report({ fresh: armed - fresh + last - again, again: again - armed });
