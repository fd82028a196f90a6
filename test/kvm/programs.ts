/** Programs that run vCPUs of KVM, each in a process of its own, by the package as it is built. For machines with x86-64's KVM. */
import { spawnSync } from "node:child_process";
import { accessSync, constants, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll } from "vitest";
import { compile } from "../qtest/process.js";

export function kvm(): boolean {
  try {
    accessSync("/dev/kvm", constants.R_OK | constants.W_OK);
    return process.arch === "x64";
  } catch {
    return false;
  }
}

/** What each program below begins with: a VM with 64 KiB and vCPUs in real mode at 0x1000 times their number and one. */
const PRELUDE = `
const { KvmVm, CoalescedWrites, InlineVcpu, makeVcpus, Vcpus, CAP, EXIT, RUN, SREGS, REGS, KVM_X86 } = await import(process.argv[2] + "/kvm.js");
const { memoryFile, map, viewOf, ioctl } = await import(process.argv[2] + "/linux.js");
const vm = KvmVm.open();
vm.enable(CAP.SPLIT_IRQCHIP, 24);
const mapping = map(memoryFile("ram", 0x10000), 0x10000);
const memory = new Uint8Array(viewOf(mapping));
vm.addSlot({ guestAddress: 0, bytes: 0x10000, userAddress: mapping.address, readOnly: false });
function begin(vcpu, code) {
  const at = 0x1000 * (vcpu.index + 1);
  memory.set(code, at);
  const special = Buffer.alloc(SREGS.BYTES);
  ioctl(vcpu.fd, "KVM_GET_SREGS", KVM_X86.GET_SREGS, special);
  special.writeBigUInt64LE(0n, SREGS.CS);
  special.writeUInt16LE(0, SREGS.CS + 12);
  ioctl(vcpu.fd, "KVM_SET_SREGS", KVM_X86.SET_SREGS, special);
  const registers = Buffer.alloc(REGS.BYTES);
  registers.writeBigUInt64LE(BigInt(at), REGS.RIP);
  registers.writeBigUInt64LE(2n, REGS.RFLAGS);
  ioctl(vcpu.fd, "KVM_SET_REGS", KVM_X86.SET_REGS, registers);
}
/** mov dx,0x3f8; mov cx,COUNT; mov al,'A'; out dx,al; loop; hlt */
const sends = (count) => [0xba, 0xf8, 0x03, 0xb9, count & 0xff, count >> 8, 0xb0, 0x41, 0xee, 0xe2, 0xfb, 0xf4];
/** jmp $ */
const SPINS = [0xeb, 0xfe];
`;

/** For a file's tests, in their `describe`: runs a program to its end. */
export function kvmPrograms(): KvmPrograms["run"] {
  let programs: KvmPrograms;
  beforeAll(() => {
    programs = new KvmPrograms();
  }, 60_000);
  afterAll(() => programs.close());
  return (program) => programs.run(program);
}

/** Compiled once for a file's tests. */
class KvmPrograms {
  private readonly compiled = compile();

  /** Runs a program to its end; a hanging one fails. */
  run(program: string): { out: string; status: number | null; signal: NodeJS.Signals | null } {
    const { library } = this.compiled;
    const file = join(library, `program-${Math.random().toString(36).slice(2)}.mjs`);
    writeFileSync(file, PRELUDE + program);
    const { stdout, stderr, status, signal } = spawnSync(process.execPath, [file, library], { encoding: "utf8", timeout: 30_000 });
    return { out: stdout + stderr, status, signal };
  }

  close(): void {
    this.compiled.remove();
  }
}
