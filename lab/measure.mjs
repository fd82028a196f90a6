// measure.mjs REQUEST.json: boots a guest whose tests are `lab=rates` by any monitor and prints what its maps and unmaps
// cost, as JSON: {"status", "times": [...], "reads", "phases": [...], "bootMs", "kernelMs", "rssKiB", "hostCalls", "account",
// "console", "stderr"}. "hostCalls": HWPT_INVALIDATE calls are counted in each phase (a kprobe); false where the kernel has none.
// REQUEST: {"command": [words], "consoleAddress", "consoleBytes", "ports", "memoryMiB", "seconds"}: where the console's registers are,
// the first of which is the one for data; whether they are ports; the guest's memory. `-serial file:...` is added to the command.
//
// Exits are counted by the kernel (tracepoints of KVM: each return to user space, and the access before it), so that they
// are of one source whoever the monitor is. What the guest writes to its console is among them: it says where a phase is.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const request = JSON.parse(readFileSync(process.argv[2], "utf8"));
const folder = mkdtempSync(join(tmpdir(), "viommu-lab-"));
const consolePath = join(folder, "console");
const TRACING = "/sys/kernel/tracing";
const set = (file, text) => writeFileSync(join(TRACING, file), text);
if (!existsSync(join(TRACING, "trace"))) {
  spawnSync("mount", ["-t", "tracefs", "tracefs", TRACING]);
}
set("tracing_on", "0");
set("buffer_size_kb", "16384");
set("trace", "");
const EVENTS = ["kvm/kvm_userspace_exit", "kvm/kvm_mmio", ...(request.ports ? ["kvm/kvm_pio"] : [])];
try {
  set("kprobe_events", "p:lab/host_call iommufd_hwpt_invalidate");
  EVENTS.push("lab/host_call");
} catch {
  // No iommufd, or no kprobes.
}

const [program, ...words] = request.command;
const child = spawn(program, [...words, "-serial", `file:${consolePath}`], { stdio: ["ignore", "pipe", "pipe"] });
let [out, err] = ["", ""];
child.stdout.on("data", (data) => (out += data));
child.stderr.on("data", (data) => (err += data));
const text = () => (existsSync(consolePath) ? readFileSync(consolePath, "latin1").replaceAll("\r", "") : "");

const begun = Date.now();
let [counting, bootMs, rssKiB] = [false, null, null];
const watch = setInterval(() => {
  if (bootMs === null && text().includes("lab: ready")) {
    bootMs = Date.now() - begun;
  }
  if (!counting && text().includes("rates: counted now")) {
    counting = true;
    rssKiB = residentKiB(child.pid);
    EVENTS.forEach((event) => set(`events/${event}/enable`, "1"));
    set("tracing_on", "1");
  }
}, 100);
const timer = setTimeout(() => child.kill("SIGTERM"), request.seconds * 1000);
child.on("close", (status) => {
  clearInterval(watch);
  clearTimeout(timer);
  set("tracing_on", "0");
  EVENTS.forEach((event) => set(`events/${event}/enable`, "0"));
  const trace = readFileSync(join(TRACING, "trace"), "latin1");
  let account = null;
  try {
    account = JSON.parse(out);
  } catch {
    // Another monitor, or one that was refused.
  }
  const console_ = text();
  const times = [...console_.matchAll(/rates: (\d+) pages (\d+) times map (\d+) unmap (\d+) us/g)].map(([, pages, times, map, unmap]) => ({ pages: Number(pages), times: Number(times), mapUs: Number(map), unmapUs: Number(unmap) }));
  const reads = [...console_.matchAll(/rates: (\d+) reads of (\d+) pages in (\d+) us/g)].map(([, times, pages, us]) => ({ pages: Number(pages), times: Number(times), us: Number(us) }));
  const up = /lab: ready,.* up ([\d.]+) s/.exec(console_);
  const lost = /entries-in-buffer\/entries-written: (\d+)\/(\d+)/.exec(trace);
  console.log(
    JSON.stringify({
      status,
      times,
      reads,
      phases: phasesOf(trace),
      bootMs,
      kernelMs: up === null ? null : Math.round(Number(up[1]) * 1000),
      rssKiB,
      hostCalls: EVENTS.includes("lab/host_call"),
      traceLost: lost === null ? 0 : Number(lost[2]) - Number(lost[1]),
      account,
      console: console_,
      stderr: err,
    }),
  );
  rmSync(folder, { recursive: true, force: true });
});

/** What a process has in memory, without what is mapped of the guest's: a range as large as that, or larger. */
function residentKiB(pid) {
  let [sum, bytes] = [0, 0];
  for (const line of readFileSync(`/proc/${pid}/smaps`, "latin1").split("\n")) {
    const range = /^([0-9a-f]+)-([0-9a-f]+) /.exec(line);
    if (range !== null) {
      bytes = Number(`0x${range[2]}`) - Number(`0x${range[1]}`);
    }
    const resident = /^Rss:\s+(\d+)/.exec(line);
    if (resident !== null && bytes < request.memoryMiB * 2 ** 20) {
      sum += Number(resident[1]);
    }
  }
  return sum;
}

/**
 * Exits of each phase, the console's left out: {"what", "pages", "times", "exits", "kicks", "hostCalls",
 * "by": {place: exits}}. Of an access the
 * kernel traces the address before it leaves for user space, but of a read from a port after it has come back.
 */
function phasesOf(trace) {
  const phases = [];
  const { consoleAddress, consoleBytes, ports } = request;
  const isConsole = ({ place, isPort }) => isPort === ports && place >= consoleAddress && place < consoleAddress + consoleBytes;
  // By thread: the access that it is about to leave for; it has left to read a port.
  const accesses = new Map();
  const reading = new Set();
  let [line, begun, phase] = ["", null, null];
  const count = (place) => {
    phase.exits++;
    phase.by[place] = (phase.by[place] ?? 0) + 1;
  };
  const countAccess = (access) => {
    if (phase !== null && !isConsole(access)) {
      count(`${access.kind} ${access.isPort ? "port " : ""}0x${access.place.toString(16)}`);
    }
  };
  const printed = (character) => {
    if (phase !== null) {
      phases.push(phase);
      phase = null;
    }
    if (character !== "\n") {
      line += character;
      return;
    }
    begun = /rates: begin (\w+) (\d+) (\d+)/.exec(line);
    line = "";
    if (begun !== null) {
      phase = { what: begun[1], pages: Number(begun[2]), times: Number(begun[3]), exits: 0, kicks: 0, hostCalls: 0, by: {} };
    }
  };
  for (const [, task, event, rest] of trace.matchAll(/^\s*(.*-\d+)\s+\[\d+\].*?: (kvm_\w+|host_call): (.*)$/gm)) {
    if (event === "host_call") {
      if (phase !== null) {
        phase.hostCalls++;
      }
      continue;
    }
    if (event === "kvm_userspace_exit") {
      const reason = /KVM_EXIT_(\w+)/.exec(rest)?.[1] ?? rest;
      const access = accesses.get(task);
      accesses.delete(task);
      if (reason !== "MMIO" && reason !== "IO") {
        // A monitor that gets its vCPU out for work of its own (EINTR): not for anything that the guest does.
        if (reason === "INTR" || reason.startsWith("reason restart")) {
          if (phase !== null) {
            phase.kicks++;
          }
        } else if (phase !== null) {
          count(reason);
        }
      } else if (access !== undefined) {
        countAccess(access);
      } else if (reason === "IO") {
        reading.add(task);
      }
      continue;
    }
    const isPort = event === "kvm_pio";
    const found = (isPort ? /pio_(\S+) at (0x[0-9a-f]+) .* val (0x[0-9a-f]+)/ : /mmio (\S+) len \d+ gpa (0x[0-9a-f]+) val (0x[0-9a-f]+)/).exec(rest);
    if (found === null) {
      continue;
    }
    const access = { kind: found[1].replace("unsatisfied-", ""), place: Number(found[2]), isPort };
    if (access.kind === "read" && found[1] === "read") {
      if (reading.delete(task)) {
        countAccess(access);
      }
      continue;
    }
    accesses.set(task, access);
    if (access.kind === "write" && access.place === consoleAddress && isPort === ports) {
      printed(String.fromCharCode(Number(found[3]) & 0xff));
    }
  }
  return phases;
}
