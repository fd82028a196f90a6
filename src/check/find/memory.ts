/** Memory against what a process of the host may lock, and against what its processors address. */
import { DEFAULT_RAM, textProperty } from "../../machine/arguments/index.js";
import { type Machine, VirtBoard } from "../../machine/index.js";
import type { Raised, Subject } from "../subject.js";
import { pciHole } from "./windows.js";

const gibibytes = (bytes: number): string => `${Math.ceil((10 * bytes) / 2 ** 30) / 10} GiB`;

function ramOf({ args }: Subject): number {
  const backends = args.objects.reduce((sum, { size }) => sum + size, 0);
  return args.memory.size ?? (backends === 0 ? DEFAULT_RAM : backends);
}

const counted = (count: number, what: string): string[] => (count === 0 ? [] : [`${count} ${what}${count > 1 ? "s" : ""}`]);

/**
 * RLIMIT_MEMLOCK. What an iommufd pins counts for the user (iopt_pages, IOPT_PAGES_ACCOUNT_USER); what a legacy container
 * pins, and what mlockall locks, for the process (mm->locked_vm): the limit is of each of the two.
 */
export function memoryLock(subject: Subject): Raised[] {
  const limit = subject.host?.limits?.memlock ?? null;
  const { topology, line, left } = subject;
  const overcommit = line.options.findLastIndex(({ name }, at) => name === "overcommit" && !left.has(at) && line.said(at, "mem-lock") !== undefined);
  const locks = overcommit >= 0 && ["on", "on-fault", "yes", "true"].includes(line.said(overcommit, "mem-lock")!);
  const first = topology.passedThrough.at(0);
  if (limit === null || limit === "unlimited" || (first === undefined && !locks)) {
    return [];
  }
  const ram = ramOf(subject);
  const iommufds = new Set(topology.passedThrough.filter((fn) => fn.properties.has("iommufd")).map((fn) => textProperty(fn, "iommufd"))).size;
  const legacy = topology.passedThrough.filter((fn) => !fn.properties.has("iommufd"));
  // Functions of one container share its mappings unless a vIOMMU gives each an address space of its own.
  const containers = legacy.some((fn) => topology.iommuOf(fn) !== null) ? legacy.length : Math.min(legacy.length, 1);
  const processes = containers + (locks ? 1 : 0);
  const times = Math.max(iommufds, processes);
  const size = subject.lastOption("m");
  const raised: Raised[] = [];
  if (locks && ram > limit) {
    raised.push({
      rule: "memory-lock",
      words: "mlockall: Cannot allocate memory",
      found: `-overcommit mem-lock=${line.said(overcommit, "mem-lock")!} locks ${gibibytes(ram)} of RAM and all else of QEMU's, and RLIMIT_MEMLOCK is ${gibibytes(limit)}`,
      wouldWork: "prlimit --memlock=unlimited, CAP_IPC_LOCK, or mem-lock=off",
      spot: { option: overcommit, property: "mem-lock" },
    });
  }
  if (first !== undefined && ram * times > limit) {
    const who = iommufds >= processes ? counted(iommufds, "iommufd") : [...counted(containers, "legacy container"), ...(locks ? ["mem-lock"] : [])];
    raised.push({
      rule: "memory-lock",
      words: `RLIMIT_MEMLOCK of ${gibibytes(limit)} is below the ${gibibytes(ram * times)} that the machine pins`,
      found: `${gibibytes(ram)} of RAM for ${who.join(" and ")}`,
      wouldWork: `prlimit --memlock=${ram * times} or more (libvirt: <memtune><hard_limit>), or CAP_IPC_LOCK`,
      spot: size === null ? subject.spotOf(first) : { option: size },
    });
  }
  return raised;
}

/** The guest has the host's width where its processor is the host's: QEMU's -cpu host and max under KVM, unless phys-bits says other. */
function guestBits(subject: Subject): number | null {
  const { args, host, line } = subject;
  const option = subject.lastOption("cpu");
  const [model, ...properties] = option === null ? [""] : line.options[option].value.split(",");
  const said = properties.find((one) => /^(?:phys-bits|host-phys-bits-limit)=/.test(one));
  const isHosts = args.machine.accelerator === "kvm" && (model === "host" || model === "max") && said === undefined && !properties.includes("host-phys-bits=off");
  return isHosts ? (host?.addressBits ?? null) : null;
}

const hex = (value: number): string => `0x${value.toString(16)}`;

/** Memory and windows beyond what the host's processors address, which are the guest's (hw/i386/pc.c, pc_memory_init; hw/arm/virt.c, virt_set_memmap). */
export function addressWidth(subject: Subject, { board }: Machine): Raised[] {
  const bits = guestBits(subject);
  if (bits === null) {
    return [];
  }
  const limit = 2 ** bits;
  const { name } = subject.host!;
  const size = subject.lastOption("m") ?? subject.lastOption("machine", "M");
  const machine = subject.lastOption("machine", "M");
  if (!(board instanceof VirtBoard)) {
    const hole = pciHole(subject);
    const window = board.map.mmio64;
    const last = window === null ? 0 : window.base + hole.bytes - 1;
    return last < limit
      ? []
      : [
          {
            rule: "address-width",
            words: `Address space limit ${hex(limit - 1)} < ${hex(last)} phys-bits too low (${bits})`,
            found: `memory, and ${gibibytes(hole.bytes)} of PCI memory above it up to ${hex(last)}; processors of ${name} address ${bits} bits`,
            wouldWork: hole.option === null ? "a smaller -m or maxmem" : "a smaller pci-hole64-size, or less memory",
            spot: hole.option === null ? (size === null ? null : { option: size }) : { option: hole.option },
          },
        ];
  }
  const { ram, deviceMemory, mmio64 } = board.map;
  const top = deviceMemory === null ? ram.base + ram.size : deviceMemory.base + deviceMemory.size;
  if (top > limit) {
    return [
      {
        rule: "address-width",
        words: `Addressing limited to ${bits} bits, but memory exceeds it by ${top - limit} bytes`,
        found: `memory up to ${hex(top - 1)}; processors of ${name} address ${bits} bits`,
        wouldWork: "a smaller -m or maxmem",
        spot: size === null ? null : { option: size },
      },
    ];
  }
  return mmio64 === null || mmio64.base + mmio64.size <= limit
    ? []
    : [
        {
          rule: "address-width",
          words: `the machine has no 64-bit memory for BARs: its window from ${hex(mmio64.base)} to ${hex(mmio64.base + mmio64.size - 1)} is beyond ${bits} bits`,
          found: `highmem-mmio-size of ${gibibytes(mmio64.size)}; processors of ${name} address ${bits} bits, and QEMU leaves a region out that does not fit`,
          wouldWork: "a smaller highmem-mmio-size, or less memory",
          spot: machine === null ? null : { option: machine, property: subject.line.said(machine, "highmem-mmio-size") === undefined ? "type" : "highmem-mmio-size" },
        },
      ];
}
