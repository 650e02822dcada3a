const measure = require("../lib/measure.js");
const FLYING = 100000;
const count = Number(process.argv[2]);
const delays = measure.delays(count), flying = new Array(FLYING);

function onTimer() {
  throw new Error("fired");
}

const start = measure.cpu();
for (let i = 0; i < count; i++) {
  clearTimeout(flying[i % FLYING]);
  flying[i % FLYING] = setTimeout(onTimer, 60 * delays[i]);
}
const fresh = measure.cpu();
for (let i = 0; i < count; i++) {
  flying[i % FLYING].refresh(); // with the delay it has: node has no other way
}
const again = measure.cpu();
measure.report({ fresh: fresh - start, again: again - fresh });
process.exit();
