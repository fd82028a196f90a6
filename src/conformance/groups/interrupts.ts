/** SET_IRQS in good and bad forms, by kind. Events are set and taken away; nothing makes the function raise one. */
import { type VfioDevice, VfioIrq } from "../../iommufd/index.js";
import type { Bench } from "../bench.js";
import type { Group } from "../group.js";
import { request, structure } from "../raw.js";
import { NO_FD, U32_MAX, Work } from "../work.js";

const { INTX, MSI, MSIX, ERR, REQ } = VfioIrq;

/** Flags of struct vfio_irq_set. */
const DATA_NONE = 1 << 0;
const DATA_BOOL = 1 << 1;
const DATA_EVENTFD = 1 << 2;
const MASK = 1 << 3;
const UNMASK = 1 << 4;
const TRIGGER = 1 << 5;

/** VFIO_DEVICE_SET_IRQS as it is. */
function set(bench: Bench, device: VfioDevice, flags: number, index: number, start: number, count: number, data: readonly number[] = [], argsz = 20 + data.length): void {
  const fields = structure([[4, argsz], [4, flags], [4, index], [4, start], [4, count]], data.length);
  fields.set(data, 20);
  bench.ioctl(device.fd, request(110), fields);
}

const i32 = (value: number): number[] => [value & 0xff, (value >> 8) & 0xff, (value >> 16) & 0xff, (value >> 24) & 0xff];

const forms: Group = {
  name: "SET_IRQS",
  about: "flags, indexes and lengths that cannot be",
  run: (bench) => {
    const { device } = new Work(bench);
    const event = bench.event();
    for (const index of [5, 99, U32_MAX]) {
      bench.call(`index ${index}`, () => device.setIrqs(index, 0, [event]));
      bench.call(`index ${index}, switched off`, () => device.setIrqs(index, 0, []));
      bench.call(`index ${index}, masked`, () => device.maskIrqs(index, 0, 1));
    }
    bench.call("argsz 16", () => set(bench, device, DATA_NONE | TRIGGER, ERR, 0, 0, [], 16));
    bench.call("no flags", () => set(bench, device, 0, ERR, 0, 0));
    bench.call("no action", () => set(bench, device, DATA_NONE, ERR, 0, 0));
    bench.call("two actions", () => set(bench, device, DATA_NONE | MASK | TRIGGER, ERR, 0, 0));
    bench.call("no data type", () => set(bench, device, TRIGGER, ERR, 0, 0));
    bench.call("two data types", () => set(bench, device, DATA_NONE | DATA_BOOL | TRIGGER, ERR, 0, 1, [0]));
    bench.call("flag bit 6", () => set(bench, device, DATA_NONE | TRIGGER | 64, ERR, 0, 0));
    bench.call("one eventfd and argsz for none", () => set(bench, device, DATA_EVENTFD | TRIGGER, ERR, 0, 1, [], 20));
    bench.call("start 1 of one", () => set(bench, device, DATA_EVENTFD | TRIGGER, ERR, 1, 1, i32(-1)));
    bench.call("count 2 of one", () => set(bench, device, DATA_EVENTFD | TRIGGER, ERR, 0, 2, [...i32(-1), ...i32(-1)]));
    bench.call("start 2^32 - 1", () => set(bench, device, DATA_EVENTFD | TRIGGER, ERR, U32_MAX, 1, i32(-1)));
    bench.call("count 2^32 - 1", () => set(bench, device, DATA_EVENTFD | TRIGGER, ERR, 0, U32_MAX, i32(-1)));
    bench.call("DATA_NONE with count 0 of an unused index", () => set(bench, device, DATA_NONE | TRIGGER, ERR, 0, 0));
    bench.call("an eventfd that is closed", () => set(bench, device, DATA_EVENTFD | TRIGGER, REQ, 0, 1, i32(NO_FD)));
    bench.call("an iommufd for an eventfd", () => set(bench, device, DATA_EVENTFD | TRIGGER, REQ, 0, 1, i32(bench.iommufd.fd)));
  },
};

const others: Group = {
  name: "ERR and REQ",
  about: "the interrupts by which the host tells of errors, and asks for the function",
  run: (bench) => {
    const { device } = new Work(bench);
    const event = bench.event();
    const second = bench.event();
    for (const [name, index] of [["ERR", ERR], ["REQ", REQ]] as const) {
      bench.call(`${name}: switched off while it is off`, () => device.setIrqs(index, 0, []));
      bench.call(`${name}: an event taken away while there is none`, () => device.setIrqs(index, 0, [null]));
      bench.call(`${name}: an event`, () => device.setIrqs(index, 0, [event]));
      bench.call(`${name}: another event`, () => device.setIrqs(index, 0, [second]));
      bench.call(`${name}: from vector 1 on`, () => device.setIrqs(index, 1, [event]));
      bench.call(`${name}: two events`, () => device.setIrqs(index, 0, [event, second]));
      bench.call(`${name}: masked`, () => device.maskIrqs(index, 0, 1));
      bench.call(`${name}: unmasked`, () => device.unmaskIrqs(index, 0, 1));
      bench.call(`${name}: an event that unmasks`, () => device.setUnmaskEvent(index, event));
      bench.call(`${name}: the event taken away`, () => device.setIrqs(index, 0, [null]));
      bench.call(`${name}: an event again`, () => device.setIrqs(index, 0, [event]));
      bench.call(`${name}: switched off`, () => device.setIrqs(index, 0, []));
    }
  },
};

/** What MSI and MSI-X have in common. */
function messages(bench: Bench, index: number, count: number): void {
  const work = new Work(bench);
  const { device } = work;
  const event = bench.event();
  const second = bench.event();
  bench.call("switched off while it is off", () => device.setIrqs(index, 0, []));
  bench.call("masked while it is off", () => device.maskIrqs(index, 0, 1));
  bench.call("unmasked while it is off", () => device.unmaskIrqs(index, 0, 1));
  bench.call("an event that unmasks, while it is off", () => device.setUnmaskEvent(index, event));
  bench.call("an event of a vector that there is not", () => device.setIrqs(index, count, [event]));
  bench.call("an event too many", () => device.setIrqs(index, 0, Array.from({ length: count + 1 }, () => event)));
  bench.call("vector 2^32 - 1", () => device.setIrqs(index, U32_MAX, [event]));
  bench.call("two vectors, not attached", () => device.setIrqs(index, 0, count > 1 ? [event, second] : [event]));
  bench.call("switched off", () => device.setIrqs(index, 0, []));
  bench.call("switched off again", () => device.setIrqs(index, 0, []));
  bench.call("attach the IOAS", () => device.attach(work.ioas));
  bench.call("two vectors", () => device.setIrqs(index, 0, count > 1 ? [event, second] : [event]));
  bench.call("two vectors, switched off", () => device.setIrqs(index, 0, []));
  bench.call("one vector", () => device.setIrqs(index, 0, [event]));
  bench.call("the same vector again", () => device.setIrqs(index, 0, [second]));
  bench.call("its event taken away", () => device.setIrqs(index, 0, [null]));
  bench.call("a vector more", () => device.setIrqs(index, 1, [second]));
  bench.call("the last vector more", () => device.setIrqs(index, count - 1, [second]));
  bench.call("masked", () => device.maskIrqs(index, 0, 1));
  bench.call("unmasked", () => device.unmaskIrqs(index, 0, 1));
  bench.call("masked, a vector that there is not", () => device.maskIrqs(index, count, 1));
  bench.call("an event that unmasks", () => device.setUnmaskEvent(index, event));
  bench.call("INTx while it is on", () => device.setIrqs(INTX, 0, [event]));
  bench.call(`${index === MSI ? "MSI-X" : "MSI"} while it is on`, () => device.setIrqs(index === MSI ? MSIX : MSI, 0, [event]));
  bench.call("switched off from vector 1 on", () => device.setIrqs(index, 1, []));
  bench.call("switched off then", () => device.setIrqs(index, 0, []));
  bench.call("an event that is taken away, first", () => device.setIrqs(index, 0, [null]));
  bench.call("switched off after that", () => device.setIrqs(index, 0, []));
  bench.call("all vectors", () => device.setIrqs(index, 0, Array.from({ length: count }, (_unused, vector) => (vector === 0 ? event : null))));
  bench.call("detach while it is on", () => device.detach());
  bench.call("an event while it is detached", () => device.setIrqs(index, 0, [second]));
  bench.call("a vector more while it is detached", () => device.setIrqs(index, 1, [second]));
  bench.call("attach while it is on", () => device.attach(work.ioas));
  bench.call("raised by DATA_NONE", () => set(bench, device, DATA_NONE | TRIGGER, index, 0, 1));
  bench.call("raised by DATA_BOOL 0", () => set(bench, device, DATA_BOOL | TRIGGER, index, 0, 1, [0]));
  bench.call("raised by DATA_BOOL 1", () => set(bench, device, DATA_BOOL | TRIGGER, index, 0, 1, [1]));
  bench.call("raised, a vector that there is not", () => set(bench, device, DATA_NONE | TRIGGER, index, count, 1));
  bench.call("an eventfd that is closed", () => set(bench, device, DATA_EVENTFD | TRIGGER, index, 0, 1, i32(NO_FD)));
  bench.call("an iommufd for an eventfd", () => set(bench, device, DATA_EVENTFD | TRIGGER, index, 0, 1, i32(bench.iommufd.fd)));
  bench.call("switched off at the end", () => device.setIrqs(index, 0, []));
  bench.call("raised while it is off", () => set(bench, device, DATA_NONE | TRIGGER, index, 0, 1));
}

const msix: Group = { name: "MSI-X", about: "vectors on, more of them, off", needs: ["msix"], run: (bench) => messages(bench, MSIX, bench.facts.msix) };
const msi: Group = { name: "MSI", about: "vectors on, more of them, off", needs: ["msi"], run: (bench) => messages(bench, MSI, bench.facts.msi) };

const intx: Group = {
  name: "INTx",
  about: "on, masks, an event that unmasks, off",
  needs: ["intx"],
  run: (bench) => {
    const { device } = new Work(bench);
    const event = bench.event();
    const second = bench.event();
    bench.call("switched off while it is off", () => device.setIrqs(INTX, 0, []));
    bench.call("masked while it is off", () => device.maskIrqs(INTX, 0, 1));
    bench.call("unmasked while it is off", () => device.unmaskIrqs(INTX, 0, 1));
    bench.call("an event that unmasks, while it is off", () => device.setUnmaskEvent(INTX, event));
    bench.call("two events", () => device.setIrqs(INTX, 0, [event, second]));
    bench.call("vector 1", () => device.setIrqs(INTX, 1, [event]));
    bench.call("an event", () => device.setIrqs(INTX, 0, [event]));
    bench.call("another event", () => device.setIrqs(INTX, 0, [second]));
    bench.call("masked", () => device.maskIrqs(INTX, 0, 1));
    bench.call("masked again", () => device.maskIrqs(INTX, 0, 1));
    bench.call("unmasked", () => device.unmaskIrqs(INTX, 0, 1));
    bench.call("unmasked again", () => device.unmaskIrqs(INTX, 0, 1));
    bench.call("masked, two", () => device.maskIrqs(INTX, 0, 2));
    bench.call("unmasked, vector 1", () => device.unmaskIrqs(INTX, 1, 1));
    bench.call("an event that unmasks", () => device.setUnmaskEvent(INTX, event));
    bench.call("an event that unmasks, again", () => device.setUnmaskEvent(INTX, second));
    bench.call("that taken away", () => device.setUnmaskEvent(INTX, null));
    bench.call("that taken away again", () => device.setUnmaskEvent(INTX, null));
    bench.call("an eventfd that is closed unmasks", () => set(bench, device, DATA_EVENTFD | UNMASK, INTX, 0, 1, i32(NO_FD)));
    bench.call("an event that masks", () => set(bench, device, DATA_EVENTFD | MASK, INTX, 0, 1, i32(NO_FD)));
    bench.call("MSI-X while it is on", () => device.setIrqs(MSIX, 0, [event]));
    bench.call("its event taken away", () => device.setIrqs(INTX, 0, [null]));
    bench.call("an event again", () => device.setIrqs(INTX, 0, [event]));
    bench.call("raised by DATA_NONE", () => set(bench, device, DATA_NONE | TRIGGER, INTX, 0, 1));
    bench.call("raised by DATA_BOOL", () => set(bench, device, DATA_BOOL | TRIGGER, INTX, 0, 1, [1]));
    bench.call("masked by DATA_BOOL 1", () => set(bench, device, DATA_BOOL | MASK, INTX, 0, 1, [1]));
    bench.call("unmasked by DATA_BOOL 0", () => set(bench, device, DATA_BOOL | UNMASK, INTX, 0, 1, [0]));
    bench.call("unmasked by DATA_BOOL 1", () => set(bench, device, DATA_BOOL | UNMASK, INTX, 0, 1, [1]));
    bench.call("switched off", () => device.setIrqs(INTX, 0, []));
    bench.call("switched off again", () => device.setIrqs(INTX, 0, []));
  },
};

const missing: Group = {
  name: "no INTx",
  about: "INTx of a function that has none",
  needs: ["no intx"],
  run: (bench) => {
    const { device } = new Work(bench);
    const event = bench.event();
    bench.call("an event", () => device.setIrqs(INTX, 0, [event]));
    bench.call("switched off", () => device.setIrqs(INTX, 0, []));
    bench.call("masked", () => device.maskIrqs(INTX, 0, 1));
    bench.call("unmasked", () => device.unmaskIrqs(INTX, 0, 1));
    bench.call("an event that unmasks", () => device.setUnmaskEvent(INTX, event));
  },
};

const noMsi: Group = {
  name: "no MSI",
  about: "MSI of a function that has MSI-X alone",
  needs: ["no msi"],
  run: (bench) => {
    const { device } = new Work(bench);
    const event = bench.event();
    bench.call("an event", () => device.setIrqs(MSI, 0, [event]));
    bench.call("switched off", () => device.setIrqs(MSI, 0, []));
    bench.call("masked", () => device.maskIrqs(MSI, 0, 1));
    bench.call("raised", () => set(bench, device, DATA_NONE | TRIGGER, MSI, 0, 1));
  },
};

export const interruptGroups: readonly Group[] = [forms, others, msix, msi, intx, missing, noMsi];
