import { describe, expect, it } from "vitest";
import { Exits, type VcpuEnd } from "../../src/kernel-guest/exits.js";
import { EXIT, INTERNAL_ERROR, RUN } from "../../src/kvm/index.js";
import { Log } from "../../src/support/index.js";

function make(abortable = true): { exits: Exits; calls: unknown[]; ends: VcpuEnd[]; run: DataView; answer(reason: number): boolean } {
  const calls: unknown[] = [];
  const ends: VcpuEnd[] = [];
  const exits = new Exits(
    {
      readMemory: (address, size) => (calls.push(["read", address, size]), 0x1122_3344_5566_7788n),
      writeMemory: (address, size, value) => void calls.push(["write", address, size, value]),
      readPort: (port, size) => (calls.push(["in", port, size]), 0x5a),
      writePort: (port, size, value) => void calls.push(["out", port, size, value]),
      endOfInterrupt: (vector) => void calls.push(["end", vector]),
    },
    { nameOf: (address, isPort) => (isPort ? `port ${address}` : "registers"), onEnd: (end) => void ends.push(end), abort: () => (calls.push(["abort"]), abortable) },
    new Log(() => {}),
  );
  const run = new DataView(new ArrayBuffer(12288));
  return { exits, calls, ends, run, answer: (reason) => exits.answer({ index: 0, fd: -1, run }, reason) };
}

function mmio(run: DataView, address: bigint, size: number, write: boolean, data = 0n): void {
  run.setBigUint64(RUN.MMIO.ADDRESS, address, true);
  run.setBigUint64(RUN.MMIO.DATA, data, true);
  run.setUint32(RUN.MMIO.LENGTH, size, true);
  run.setUint8(RUN.MMIO.IS_WRITE, write ? 1 : 0);
}

function io(run: DataView, out: boolean, port: number, size: number, values: number[]): void {
  run.setUint8(RUN.IO.DIRECTION, out ? 1 : 0);
  run.setUint8(RUN.IO.SIZE, size);
  run.setUint16(RUN.IO.PORT, port, true);
  run.setUint32(RUN.IO.COUNT, values.length, true);
  run.setBigUint64(RUN.IO.DATA_OFFSET, 4096n, true);
  values.forEach((value, n) => run.setUint8(4096 + n * size, value));
}

describe("exits of a vCPU", () => {
  it("reads and writes memory by the width of the access", () => {
    const { calls, run, answer } = make();
    mmio(run, 0xfed9_0008n, 8, false);
    expect(answer(EXIT.MMIO)).toBe(true);
    expect(run.getBigUint64(RUN.MMIO.DATA, true)).toBe(0x1122_3344_5566_7788n);
    mmio(run, 0xfed9_0018n, 4, true, 0xffff_ffff_8000_0000n);
    expect(answer(EXIT.MMIO)).toBe(true);
    expect(calls).toEqual([
      ["read", 0xfed9_0008, 8],
      ["write", 0xfed9_0018, 4, 0x8000_0000n],
    ]);
  });

  it("gives ones for a width that no register has, and goes on", () => {
    const { calls, run, answer } = make();
    mmio(run, 0xfed9_0000n, 3, false);
    expect(answer(EXIT.MMIO)).toBe(true);
    expect(run.getBigUint64(RUN.MMIO.DATA, true)).toBe(2n ** 64n - 1n);
    expect(calls).toEqual([]);
  });

  it("serves string instructions value by value", () => {
    const { calls, run, answer } = make();
    io(run, true, 0x3f8, 1, [0x41, 0x42]);
    expect(answer(EXIT.IO)).toBe(true);
    io(run, false, 0x3fd, 1, [0, 0, 0]);
    expect(answer(EXIT.IO)).toBe(true);
    expect([0, 1, 2].map((n) => run.getUint8(4096 + n))).toEqual([0x5a, 0x5a, 0x5a]);
    expect(calls).toEqual([["out", 0x3f8, 1, 0x41], ["out", 0x3f8, 1, 0x42], ["in", 0x3fd, 1], ["in", 0x3fd, 1], ["in", 0x3fd, 1]]);
  });

  it("ends level-triggered interrupts, and resets at a triple fault", () => {
    const { calls, ends, run, answer } = make();
    run.setUint8(RUN.EOI_VECTOR, 0x24);
    expect(answer(EXIT.IOAPIC_EOI)).toBe(true);
    expect(calls).toEqual([["end", 0x24]]);
    expect(answer(EXIT.SHUTDOWN)).toBe(false);
    expect(ends).toEqual([{ kind: "reset", reason: "triple fault of vCPU 0" }]);
  });

  it("switches off and resets by PSCI's calls, and tells a crash", () => {
    const { ends, run, answer } = make();
    for (const type of [1, 2, 3, 5]) {
      run.setUint32(RUN.SYSTEM_EVENT_TYPE, type, true);
      expect(answer(EXIT.SYSTEM_EVENT)).toBe(false);
    }
    expect(ends.map(({ kind }) => kind)).toEqual(["power-off", "reset", "failed", "failed"]);
    expect(ends[3].reason).toBe("vCPU 0 has told a system event 5, which nothing here answers");
  });

  it("aborts an access that tells no register, and ends where the kernel cannot abort it", () => {
    const able = make();
    able.run.setBigUint64(RUN.ARM_NISV.FAULT_ADDRESS, 0x900_0018n, true);
    expect(able.answer(EXIT.ARM_NISV)).toBe(true);
    expect([able.calls, able.exits.byDevice]).toEqual([[["abort"]], [["registers", 1]]]);
    const unable = make(false);
    unable.run.setBigUint64(RUN.ARM_NISV.FAULT_ADDRESS, 0x900_0018n, true);
    expect(unable.answer(EXIT.ARM_NISV)).toBe(false);
    expect(unable.ends[0].reason).toContain("0x9000018 by an instruction that tells no register");
  });

  it("enters again after an event that was not delivered, a bounded number of times", () => {
    const { ends, run, answer } = make();
    run.setUint32(RUN.INTERNAL.SUBERROR, INTERNAL_ERROR.DELIVERY_EV, true);
    let entered = 0;
    while (answer(EXIT.INTERNAL_ERROR)) {
      entered++;
    }
    expect([entered, ends.length, ends[0].kind]).toEqual([1000, 1, "failed"]);
  });

  it("says what it cannot answer, and does not go on", () => {
    const { ends, run, answer } = make();
    run.setUint32(RUN.INTERNAL.SUBERROR, INTERNAL_ERROR.EMULATION, true);
    expect(answer(EXIT.INTERNAL_ERROR)).toBe(false);
    expect(answer(-14)).toBe(false);
    expect(answer(99)).toBe(false);
    expect(ends.map(({ reason }) => reason)).toEqual([
      "vCPU 0 met an instruction that KVM cannot emulate (); a KVM that runs without the processor's virtualization (kvm_pvm) emulates too little for a kernel that does not know it",
      "KVM_RUN of vCPU 0 gives errno 14",
      "vCPU 0 has left the guest by exit 99, which nothing here answers",
    ]);
  });

  it("counts by kind and by what answered", () => {
    const { exits, run, answer } = make();
    mmio(run, 0n, 4, false);
    answer(EXIT.MMIO);
    answer(EXIT.MMIO);
    io(run, true, 0x80, 1, [0]);
    answer(EXIT.IO);
    expect([...exits.byKind]).toEqual([["MMIO", 2], ["IO", 1]]);
    expect(exits.byDevice).toEqual([["registers", 2], ["port 128", 1]]);
  });
});
