const fs = require("fs");
const out = "@OUT@" !== "" ? fs.openSync("@OUT@", "w") : -1;

function beat() {
  if (out >= 0) {
    fs.writeSync(out, "@VERSION@");
  }
}

beat();
setInterval(beat, Number("@PERIOD@") * 1000);
