const measure = require("../lib/measure.js");
const mode = process.argv[2], count = Number(process.argv[3]);

const sleep = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
const next = () => new Promise(setImmediate);

async function main() {
  const cpu = measure.cpu();
  if (mode === "sleep") {
    const before = measure.memory("VmRSS");
    for (let i = 0; i < count; i++) {
      (async () => { await sleep(3600000); })();
    }
    measure.report({ cpu: measure.cpu() - cpu, bytes: (measure.memory("VmHWM") - before) / count });
  } else {
    await Promise.all(Array.from({ length: 1000 }, async () => {
      for (let i = 0; i < count / 1000; i++) {
        await next();
      }
    }));
    measure.report({ rate: count / (measure.cpu() - cpu) });
  }
  process.exit();
}

main();
