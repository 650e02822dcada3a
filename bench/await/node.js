const measure = require("../lib/measure.js");
const count = Number(process.argv[2]);

async function main() {
  const cpu = measure.cpu();
  for (let i = 0; i < count; i++) {
    await new Promise((done) => done(i));
  }
  measure.report({ cpu: (measure.cpu() - cpu) / count });
}

main();
