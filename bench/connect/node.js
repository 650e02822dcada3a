const measure = require("../lib/measure.js");
const net = require("net"), fs = require("fs");
const count = Number(process.argv[2]), path = process.argv[3];

let served = 0, begun = 0, wall, cpu;
fs.rmSync(path, { force: true });
const server = net.createServer((client) => {
  client.resume();
  client.on("close", () => {
    served++;
    if (served === count) {
      measure.report({ cpu: (measure.cpu() - cpu) / count, wall: (performance.now() - wall) / 1e3 / count });
      server.close();
      process.exit();
    }
  });
});

function connect() {
  if (begun < count) {
    begun++;
    const stream = net.connect(path, () => stream.destroy());
    stream.on("close", connect);
  }
}

server.listen(path, () => {
  wall = performance.now();
  cpu = measure.cpu();
  connect();
});
