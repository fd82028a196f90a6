import { accessSync, constants } from "node:fs";
import { type ExitHandler, type HandOver, InlineVcpu, KVM_X86, KvmVm, REGS, RUN, SREGS, type VcpuGroup, Vcpus } from "../src/kvm/index.js";
import { ioctl, map, memoryFile, viewOf } from "../src/linux/index.js";
import { compare, type Comparison } from "./measure.js";
import type { Bench, BenchResult } from "./registry.js";

/** Exits of a round; bench/c/exits.c makes as many. */
const EXITS = 20_000;
/** mov dx, 0x3f8; mov al, 'A'; again: out dx, al; jmp again: in real mode. */
const CODE = [0xba, 0xf8, 0x03, 0xb0, 0x41, 0xee, 0xeb, 0xfd];
const ENTRY = 0x1000;
const MEMORY_BYTES = 0x1_0000;

/** Ways in which an exit comes from its vCPU to the models' thread. */
const WAYS: ReadonlyArray<readonly [name: string, make: (vm: KvmVm, onExit: ExitHandler) => VcpuGroup]> = [
  ["byEventLoop", byThread({ attendMs: 0, stayMs: 0, spins: 0 })],
  ["attended", byThread({ attendMs: 0.5, stayMs: 4, spins: 0 })],
  ["attendedSpinning", byThread({ attendMs: 0.5, stayMs: 4, spins: 2000 })],
  ["inModelsThread", (vm, onExit) => new InlineVcpu(vm, onExit)],
];

function byThread(way: HandOver): (vm: KvmVm, onExit: ExitHandler) => VcpuGroup {
  return (vm, onExit) => new Vcpus(vm, 1, onExit, way);
}

/** A guest that does nothing but leave: a byte to a port, again and again. */
class Leaver {
  private readonly vm = KvmVm.open();
  private readonly vcpus: VcpuGroup;
  private left = 0;
  private sum = 0;
  private done: () => void = () => {};

  constructor(make: (vm: KvmVm, onExit: ExitHandler) => VcpuGroup) {
    const ram = map(memoryFile("bench", MEMORY_BYTES), MEMORY_BYTES);
    new Uint8Array(viewOf(ram)).set(CODE, ENTRY);
    this.vm.addSlot({ guestAddress: 0, bytes: MEMORY_BYTES, userAddress: ram.address, readOnly: false });
    this.vcpus = make(this.vm, ({ run }) => {
      if (this.left > 0) {
        this.sum += run.getUint8(Number(run.getBigUint64(RUN.IO.DATA_OFFSET, true)));
        if (--this.left === 0) {
          this.done();
        }
      }
      return true;
    });
    const [{ fd }] = this.vcpus.all;
    const special = Buffer.alloc(SREGS.BYTES);
    ioctl(fd, "KVM_GET_SREGS", KVM_X86.GET_SREGS, special);
    special.writeBigUInt64LE(0n, SREGS.CS);
    special.writeUInt16LE(0, SREGS.CS + 12);
    ioctl(fd, "KVM_SET_SREGS", KVM_X86.SET_SREGS, special);
    const registers = Buffer.alloc(REGS.BYTES);
    registers.writeBigUInt64LE(BigInt(ENTRY), REGS.RIP);
    registers.writeBigUInt64LE(2n, REGS.RFLAGS);
    ioctl(fd, "KVM_SET_REGS", KVM_X86.SET_REGS, registers);
    this.vcpus.start();
  }

  /** Microseconds of wall-clock for each exit: two threads take part. */
  async round(): Promise<{ figure: number; checksum: string }> {
    const ended = new Promise<void>((resolve) => (this.done = resolve));
    this.sum = 0;
    this.left = EXITS;
    const begun = performance.now();
    this.vcpus.resume();
    await ended;
    const took = performance.now() - begun;
    await this.vcpus.pause();
    return { figure: (took * 1000) / EXITS, checksum: String(this.sum) };
  }

  async close(): Promise<void> {
    await this.vcpus.close();
    this.vm.close();
  }
}

function hasKvm(): boolean {
  try {
    accessSync("/dev/kvm", constants.R_OK | constants.W_OK);
    return process.arch === "x64";
  } catch {
    return false;
  }
}

export const exitBench: Bench = {
  name: "exits",
  title: "exits of a vCPU, from the guest to the models' thread and back",
  async run(context): Promise<BenchResult[]> {
    if (!hasKvm()) {
      context.say("exits: no /dev/kvm on x86-64 that can be opened");
      return [];
    }
    const program = await context.startC("exits");
    const results: BenchResult[] = [];
    for (const [name, make] of WAYS) {
      const guest = new Leaver(make);
      try {
        const one: Comparison = { name: `exit.${name}`, unit: "µs/exit", js: () => guest.round(), question: "run" };
        results.push(...(await compare([one], program, Math.min(context.rounds, 5))));
      } finally {
        await guest.close();
      }
    }
    return results;
  },
};
