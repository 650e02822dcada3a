const { spawn } = require("child_process");
const measure = require("../lib/measure.js");
const count = Number(process.argv[2]);

async function cost(total) {
  const children = [], ends = [];
  for (let i = 0; i < total; i++) {
    const child = spawn("/bin/sleep", ["1000"], { stdio: "ignore" });
    ends.push(new Promise((done) => child.on("exit", done)));
    children.push(child);
  }
  const cpu = measure.cpu();
  children.forEach((child) => child.kill("SIGKILL"));
  await Promise.all(ends);
  return (measure.cpu() - cpu) / total;
}

async function main() {
  const few = await cost(count / 10), many = await cost(count);
  measure.report({ cpu: many, growth: many / few });
}

main();
