// run.mjs REQUEST.json: boots a guest by `viommu run`, acts when its console says so, and prints what came of it as
// JSON: {"status", "console", "report", "stderr"}. REQUEST: {"host", "arguments": [...], "seconds", "steps": [...]}, each
// step {"on": "regular expression", "in": "console" | "monitor", "wait": milliseconds from then, "qmp": {...}} and taken in
// its order. "killAfter":
// milliseconds after which it ends by SIGKILL, from the start or from when the console says "killOn".
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const project = dirname(dirname(fileURLToPath(import.meta.url)));
const request = JSON.parse(readFileSync(process.argv[2], "utf8"));
const folder = mkdtempSync(join(tmpdir(), "viommu-lab-"));
const consolePath = join(folder, "console");
const monitorPath = join(folder, "qmp");
const steps = request.steps ?? [];
const words = [join(project, "dist/lib/cli/main.js"), "run", "--json", "--host", request.host, "--", ...request.arguments, "-serial", `file:${consolePath}`];
if (steps.length > 0) {
  words.push("-qmp", `unix:${monitorPath},server=on,wait=off`);
}
const child = spawn(process.execPath, words, { stdio: ["ignore", "pipe", "pipe"] });
let [out, err] = ["", ""];
child.stdout.on("data", (data) => (out += data));
child.stderr.on("data", (data) => (err += data));
const text = () => (existsSync(consolePath) && statSync(consolePath).size > 0 ? readFileSync(consolePath, "latin1") : "");

let monitor = null;
let answers = "";
/** The monitor's connection, made with the first command. */
async function command(line) {
  if (monitor === null) {
    monitor = connect(monitorPath);
    monitor.on("data", (data) => (answers += data));
    monitor.on("error", () => {});
    monitor.write('{"execute":"qmp_capabilities"}\n');
  }
  monitor.write(`${JSON.stringify(line)}\n`);
}

let next = 0;
const seen = { console: 0, monitor: 0 };
let killer;
const killSoon = () => (killer = setTimeout(() => child.kill("SIGKILL"), request.killAfter));
const watch = setInterval(() => {
  if (request.killOn !== undefined && killer === undefined && new RegExp(request.killOn).test(text())) {
    killSoon();
  }
  while (next < steps.length) {
    const where = steps[next].in ?? "console";
    const found = new RegExp(steps[next].on).exec((where === "monitor" ? answers : text()).slice(seen[where]));
    if (found === null) {
      break;
    }
    seen[where] += found.index + found[0].length;
    const { qmp, wait = 0 } = steps[next++];
    setTimeout(() => command(qmp), wait);
  }
}, 200);
const timer = setTimeout(() => child.kill("SIGTERM"), request.seconds * 1000);
if (request.killAfter !== undefined && request.killOn === undefined) {
  killSoon();
}
child.on("close", (status, signal) => {
  clearInterval(watch);
  clearTimeout(timer);
  clearTimeout(killer);
  monitor?.destroy();
  let report = null;
  try {
    report = JSON.parse(out);
  } catch {
    // Refused, or killed: its words are in stderr.
  }
  console.log(JSON.stringify({ status, signal, console: text().replaceAll("\r", ""), report, stderr: err, monitor: answers }));
  rmSync(folder, { recursive: true, force: true });
});
