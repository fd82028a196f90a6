// failing.mjs HOST FUNCTION MOST: a machine with a function of the host behind an accelerated SMMU, and a guest that drives
// it, with one call to the host refused: the first MOST of each kind, one run after the other. Prints as JSON what came
// of them, and what was left open after any: {"calls": {"IOAS_MAP": 3, ...}, "runs", "refused", "failed", "fine", "left": []}.
import { readdirSync, readlinkSync } from "node:fs";
import { hostInstruments, run } from "../../dist/lib/index.js";

const [name, address, most] = process.argv.slice(2);
const host = await run.hostToRun(name);
const guest = await run.findGuest("linux");
const words = `-machine virt,gic-version=3 -m 64M -nodefaults -display none -object iommufd,id=iommufd0
  -device pxb-pcie,id=pcie.1,bus_nr=8 -device arm-smmuv3,primary-bus=pcie.1,id=smmu1,accel=on
  -device pcie-root-port,id=rp1,bus=pcie.1,chassis=1 -device vfio-pci,host=${address},bus=rp1,iommufd=iommufd0`.split(/\s+/);

/** Descriptors of this process that a run may have opened. */
function open() {
  return readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      const path = readlinkSync(`/proc/self/fd/${fd}`);
      return /^\/dev\/(iommu|vfio)|eventfd|iommufd|memfd|dmabuf/.test(path) ? [path] : [];
    } catch {
      return [];
    }
  });
}

async function runWith(observer) {
  try {
    const report = await run.runMachine({ arguments: words, host, guest, wrapHost: (inner) => hostInstruments.observeHost(inner, observer) });
    return { outcome: report.ok ? "fine" : "failed", why: report.failure, alive: report.hostObjects.alive };
  } catch (error) {
    return { outcome: "refused", why: error.message, alive: 0 };
  }
}

const clean = new hostInstruments.HostObserver();
const before = open().length;
const first = await runWith(clean);
const calls = Object.fromEntries(clean.calls);
const result = { calls, first, runs: 0, refused: 0, failed: 0, fine: 0, left: [] };
// The first of every kind, then the second: whoever has not the time for all has seen each kind.
for (let nth = 1; nth <= Math.min(Math.max(...Object.values(calls)), Number(most)); nth++) {
  for (const operation of Object.keys(calls).filter((one) => calls[one] >= nth)) {
    const observer = new hostInstruments.HostObserver();
    observer.failOn({ operation, nth, errno: "ENOMEM" });
    const { outcome, why, alive } = await runWith(observer);
    result.runs++;
    result[outcome]++;
    const now = open();
    if (alive !== 0 || now.length !== before) {
      result.left.push({ operation, nth, outcome, why, alive, open: now });
    }
    console.error(`${operation} ${nth}: ${outcome}, ${alive + now.length - before} left${why ? `: ${why}` : ""}`);
  }
}
result.last = await runWith(new hostInstruments.HostObserver());
console.log(JSON.stringify(result));
