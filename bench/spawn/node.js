const { spawn } = require("child_process");
const measure = require("../lib/measure.js");
const mode = process.argv[2], count = Number(process.argv[3]);

function one() {
  return new Promise((done) => {
    spawn("/bin/true", [], { stdio: "ignore" }).on("exit", done);
  });
}

async function run(total, flying) {
  await Promise.all(Array.from({ length: flying }, async (_, i) => {
    for (let j = i; j < total; j += flying) {
      await one();
    }
  }));
}

async function capture(total) {
  for (let i = 0; i < total; i++) {
    await new Promise((done) => {
      const chunks = [];
      const child = spawn("/usr/bin/head", ["-c", "1048576", "/dev/zero"], { stdio: ["ignore", "pipe", "ignore"] });
      child.stdout.on("data", (chunk) => chunks.push(chunk));
      child.on("close", () => {
        if (Buffer.concat(chunks).length !== 1 << 20) {
          process.exit(1);
        }
        done();
      });
    });
  }
}

async function main() {
  let small = 1, heap = [];
  const crowd = [];
  if (mode === "heap") {
    small = measure.wall();
    await run(count, 1);
    small = measure.wall() - small;
    heap = Buffer.alloc(1 << 30, 1);
  } else if (mode === "crowd") {
    for (let i = 0; i < 2000; i++) {
      crowd.push(spawn("/bin/sleep", ["1000"], { stdio: "ignore" }));
    }
  }
  let wall = measure.wall(), cpu = measure.cpu();
  await (mode === "capture" ? capture(count) : run(count, mode === "many" ? 32 : 1));
  wall = measure.wall() - wall;
  cpu = measure.cpu() - cpu;
  crowd.forEach((child) => child.kill("SIGKILL"));
  measure.report({ cpu: cpu / count, wall: wall / count, growth: wall / small, held: heap.length });
}

main();
