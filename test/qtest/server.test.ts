import { PassThrough, Writable } from "node:stream";
import { afterEach, describe, expect, it } from "vitest";
import type { VirtBoard } from "../../src/machine/index.js";
import { QtestLog, QtestServer } from "../../src/qtest/index.js";
import { Rig } from "./rig.js";
import { TRANSCRIPT, TRANSCRIPT_MACHINE } from "./transcript.js";

const MACHINE = "-M virt,gic-version=3 -nodefaults -m 512 -device iommu-testdev,id=t0 -device edu -device arm-smmuv3,primary-bus=pcie.0,id=s0";
const RAM = 0x4100_0000;

let rig: Rig;
afterEach(() => rig.end());

function start(line = MACHINE, log: QtestLog | null = null): Rig {
  rig = new Rig(line, log);
  return rig;
}

describe("the answers", () => {
  it("are QEMU's, byte for byte", () => {
    start(TRANSCRIPT_MACHINE);
    const ours = TRANSCRIPT.map(([request]) => [request, ...rig.ask(request)]);
    expect(ours).toEqual(TRANSCRIPT.map(([request, answer]) => [request, answer]));
  });

  it("come in order to lines that come together, in pieces, or byte by byte", () => {
    start(TRANSCRIPT_MACHINE);
    const all = TRANSCRIPT.map(([request]) => `${request}\n`).join("");
    const answers = TRANSCRIPT.map(([, answer]) => answer);
    expect(rig.send(all)).toEqual(answers);
    for (const size of [1, 7, 64]) {
      rig.end();
      start(TRANSCRIPT_MACHINE);
      const out: string[] = [];
      for (let at = 0; at < all.length; at += size) {
        out.push(...rig.send(all.slice(at, at + size)));
      }
      expect(out).toEqual(answers);
    }
  });

  it("read back what was written, in every width and at any alignment", () => {
    start();
    for (const [letter, bytes] of [["b", 1], ["w", 2], ["l", 4], ["q", 8]] as const) {
      for (const address of [RAM, RAM + 0x1003, 0x5fff_fff0]) {
        const value = 0xfedc_ba98_7654_3210n;
        expect(rig.ask(`write${letter} ${address} 0x${value.toString(16)}`)).toEqual(["OK"]);
        expect(rig.ask(`read${letter} 0x${address.toString(16)}`)).toEqual([`OK 0x${BigInt.asUintN(8 * bytes, value).toString(16).padStart(16, "0")}`]);
      }
    }
    // The last word that is half beyond RAM.
    expect(rig.ask(`writeq 0x5ffffffc -1`)).toEqual(["OK"]);
    expect(rig.ask(`readq 0x5ffffffc`)).toEqual(["OK 0x00000000ffffffff"]);
  });

  it("carry memory of any length as hexadecimal digits and as base64", () => {
    start();
    const data = Buffer.from(Array.from({ length: 200_001 }, (_, i) => (i * 7 + (i >> 8)) & 0xff));
    expect(rig.ask(`write ${RAM} ${data.length} 0x${data.toString("hex")}`)).toEqual(["OK"]);
    expect(rig.ask(`read ${RAM} ${data.length}`)).toEqual([`OK 0x${data.toString("hex")}`]);
    expect(rig.ask(`b64read ${RAM} ${data.length}`)).toEqual([`OK ${data.toString("base64")}`]);
    expect(rig.ask(`b64write ${RAM + 0x10_0000} ${data.length} ${data.toString("base64")}`)).toEqual(["OK"]);
    expect(rig.ask(`read ${RAM + 0x10_0000} ${data.length}`)).toEqual([`OK 0x${data.toString("hex")}`]);
    expect(rig.ask(`memset ${RAM} ${data.length - 1} 0x1a5`)).toEqual(["OK"]);
    const filled = Buffer.alloc(data.length, 0xa5);
    filled[data.length - 1] = data[data.length - 1];
    expect(rig.ask(`read ${RAM} ${data.length}`)).toEqual([`OK 0x${filled.toString("hex")}`]);
  });

  it("are OK and 0 where nothing is, up to the last address", () => {
    start();
    for (const address of ["0x7fff00000000", "0xffffffffffffffff", "0xfffffffffffff", "0x10000000000000"]) {
      expect(rig.ask(`writel ${address} 1`)).toEqual(["OK"]);
      expect(rig.ask(`readl ${address}`)).toEqual(["OK 0x0000000000000000"]);
      expect(rig.ask(`read ${address} 3`)).toEqual(["OK 0x000000"]);
      expect(rig.ask(`write ${address} 3 0x010203`)).toEqual(["OK"]);
    }
  });
});

describe("what makes QEMU abort", () => {
  it.each([
    "", " ", "readl", "readl ", "readl x", "readl 0x", "readl  0x40000000", "readl 0x40000000x", "readl 0x10000000000000000", "readl 08",
    "writel 0x40000000", "writel 0x40000000 ", "writel 0x40000000 z", "read 0x40000000", "read 0x40000000 0", "read 0x40000000 -1",
    "b64read 0x40000000 0x4000001", "write 0x40000000 4", "write 0x40000000 0xffffffffffffffff 0x00", "memset 0 0x4000001 0", "memset 0 1",
    "b64write 0x40000000 1", "inb 0x10000", "outb 0x10000 1", "outb 1", "inl", "irq_intercept_in", "irq_intercept_out", "set_irq_in s0",
    "set_irq_in s0 unnamed-gpio-in x 1", "set_irq_in /machine/unattached/device[1] unnamed-gpio-in 9999 1",
    "set_irq_in /machine/unattached/device[1] unnamed-gpio-in 1 4294967296", "set_irq_in t0 unnamed-gpio-in 0 1", "module_load a",
    "clock_step x", "clock_step 9223372036854775808", "clock_set", "clock_set ",
    "\0", "readl\t0x40000000", "writel 0x41000000 1\r",
  ])("%j is refused and nothing else happens", (line) => {
    start();
    const [answer, ...more] = rig.ask(line);
    expect(more).toEqual([]);
    expect(answer).toMatch(/^(?:ERR .|FAIL Unknown command)/);
    expect(rig.ask("readl 0x41000000")).toEqual(["OK 0x0000000000000000"]);
    expect(rig.server.counters).toMatchObject({ commands: 2, refused: 1 });
  });

  it("a line without an end is cut off before it fills memory", () => {
    start();
    const piece = Buffer.alloc(8 * 2 ** 20, 0x61);
    let lines: string[] = [];
    for (let i = 0; i < 20 && lines.length === 0; i++) {
      lines = rig.send(piece);
    }
    expect(lines.join("")).toMatch(/^ERR a line of more than \d+ bytes$/);
    expect(rig.closed).toBe(true);
  });

  it("a peer that does not read is not answered without bound, and is answered when it reads", async () => {
    start();
    const held: Array<() => void> = [];
    let lines = 0;
    const output = new Writable({
      highWaterMark: 1024,
      write: (bytes: Buffer, _encoding, done) => {
        for (let at = bytes.indexOf(0x0a); at >= 0; at = bytes.indexOf(0x0a, at + 1)) {
          lines++;
        }
        held.push(done);
      },
    });
    const input = new PassThrough();
    const server = new QtestServer({ memory: rig.built.machine.board.memory, ports: null, clock: null, findDevice: () => null });
    server.serve({ readable: input, writable: output, end: () => output.end(), close: () => input.destroy() });
    const count = 60;
    input.end(`read ${RAM} 0x80000\n`.repeat(count));
    // All that it does, it does by turns of the event loop: a turn without a command is followed by no other.
    let before: number;
    do {
      before = server.counters.commands;
      for (let turn = 0; turn < 10; turn++) {
        await new Promise((resolve) => setImmediate(resolve));
      }
    } while (server.counters.commands !== before);
    expect(before).toBeGreaterThan(0);
    expect(before).toBeLessThan(20);
    expect(output.writableLength).toBeLessThan(8 * 2 ** 20);
    while (!output.writableFinished) {
      held.splice(0).forEach((done) => done());
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect([server.counters.commands, lines]).toEqual([count, count]);
  });

  it("random bytes are answered, a line for a line", () => {
    start();
    let seed = 12345;
    const next = (): number => (seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fff_ffff) >> 8;
    const words = ["readl", "writeq", "read", "b64write", "memset", "clock_step", "irq_intercept_in", "0x40000000", "-1", "4", "0x9050000", "", "\xff", "s0"];
    for (let i = 0; i < 3000; i++) {
      const line = Array.from({ length: next() % 6 }, () => (next() % 4 === 0 ? String.fromCharCode(next() % 256) : words[next() % words.length])).join(" ").replaceAll("\n", "");
      const answers = rig.ask(line).filter((answer) => !answer.startsWith("IRQ"));
      expect(answers).toHaveLength(1);
      expect(answers[0]).toMatch(/^(?:OK|FAIL|ERR)/);
    }
  });
});

describe("interrupt lines", () => {
  const GIC = "/machine/unattached/device[1]";
  /** A command that the SMMU does not have: a global error, whose line is the SMMU's fourth. */
  const provokeError = (base: number): string[] =>
    [`writel ${base + 0x50} 5`, `writeq ${base + 0x90} 0x40100002`, `writel ${base + 0x20} 8`, "write 0x40100000 0x10 0xff", `writel ${base + 0x98} 1`].flatMap((line) => rig.ask(line));

  it("of the interrupt controller are numbered by SPI", () => {
    start();
    expect(rig.ask(`irq_intercept_in ${GIC}`)).toEqual(["OK"]);
    expect(provokeError(0xc00_0000)).toEqual(["OK", "OK", "OK", "OK", "IRQ raise 115", "IRQ lower 115", "OK"]);
  });

  it("of a device are numbered from 0, under its path or the end of it", () => {
    start();
    expect(rig.ask("irq_intercept_out /machine/peripheral/s0")).toEqual(["FAIL No intercepts installed"]);
    expect(rig.ask("irq_intercept_out s0 sysbus-irq")).toEqual(["OK"]);
    expect(rig.ask("irq_intercept_out peripheral/s0 sysbus-irq")).toEqual(["OK"]);
    expect(rig.ask(`irq_intercept_in ${GIC}`)).toEqual(["FAIL IRQ intercept already enabled"]);
    expect(provokeError(0xc00_0000).slice(-3)).toEqual(["IRQ raise 3", "IRQ lower 3", "OK"]);
  });

  it("of the legacy SMMU, of the PCI host bridge and of the GICv2m frame have QEMU's paths", () => {
    start("-M virt,gic-version=2,iommu=smmuv3 -smp 2 -nodefaults -m 512 -device edu");
    // Two CPUs, the GIC, its frame, UART, RTC, host bridge, SMMU.
    expect(rig.ask("irq_intercept_out /machine/unattached/device[7] sysbus-irq")).toEqual(["OK"]);
    expect(provokeError(0x905_0000).slice(-3)).toEqual(["IRQ raise 3", "IRQ lower 3", "OK"]);
    rig.end();
    start("-M virt,gic-version=2,iommu=smmuv3 -smp 2 -nodefaults -m 512 -device edu");
    expect(rig.ask("irq_intercept_out /machine/unattached/device[6] sysbus-irq")).toEqual(["OK"]);
    expect(rig.ask("writel 0x4010008010 0x10000000")).toEqual(["OK"]);
    expect(rig.ask("writel 0x4010008004 6")).toEqual(["OK"]);
    // Slot 1's INTA is the host bridge's second line (PCIe 2.2.8.1).
    expect(rig.ask("writel 0x10000060 1")).toEqual(["IRQ raise 1", "OK"]);
    expect(rig.ask("writel 0x10000060 1")).toEqual(["OK"]);
    expect(rig.ask("writel 0x10000064 1")).toEqual(["IRQ lower 1", "OK"]);
    rig.end();
    start("-M virt,gic-version=2 -smp 2 -nodefaults -m 512");
    expect(rig.ask("irq_intercept_out /machine/unattached/device[3] sysbus-irq")).toEqual(["OK"]);
    expect(rig.ask("writel 0x8020040 83")).toEqual(["IRQ raise 3", "IRQ lower 3", "OK"]);
  });

  it("are set to any level", () => {
    start();
    expect(rig.ask(`irq_intercept_in ${GIC}`)).toEqual(["OK"]);
    const set = (level: string): string[] => rig.ask(`set_irq_in ${GIC} unnamed-gpio-in 7 ${level}`);
    expect([set("1"), set("1"), set("5"), set("0"), set("0"), set("-1")]).toEqual([["IRQ raise 7", "OK"], ["OK"], ["IRQ raise 7", "OK"], ["IRQ lower 7", "OK"], ["OK"], ["IRQ raise 7", "OK"]]);
    expect(rig.ask("set_irq_in /machine/none unnamed-gpio-in 0 1")).toEqual(["FAIL Unknown device"]);
  });

  it("that change between commands are told at once", () => {
    start();
    rig.ask(`irq_intercept_in ${GIC}`);
    (rig.built.machine.board as VirtBoard).interrupts.spi(32 + 9);
    expect(rig.take()).toEqual(["IRQ raise 9", "IRQ lower 9"]);
  });

  it("of functions without any are not there", () => {
    start();
    expect(rig.ask("irq_intercept_in t0")).toEqual(["FAIL No intercepts installed"]);
    expect(rig.ask("irq_intercept_in /machine/peripheral-anon/device[0]")).toEqual(["FAIL No intercepts installed"]);
    expect(rig.ask("irq_intercept_in device[0]")).toEqual(["FAIL No intercepts installed"]);
    expect(rig.ask("irq_intercept_in /machine/peripheral-anon/device[1]")).toEqual(["FAIL Unknown device"]);
    expect(rig.ask("irq_intercept_in /machine")).toEqual(["FAIL Unknown device"]);
  });
});

describe("the clock", () => {
  const EDU = ["writel 0x4010010010 0x10000000", "writel 0x4010010004 6", "writel 0x41000000 0x12345678", "writeq 0x10000080 0x1000000", "writeq 0x10000088 0x40000", "writeq 0x10000090 4"];
  const program = (line: string): void => {
    start(line);
    EDU.forEach((request) => expect(rig.ask(request)).toEqual(["OK"]));
  };

  it("makes edu's transfer wait 100 ms, its registers fixed meanwhile", () => {
    program(MACHINE);
    rig.ask("clock_step 1500000");
    expect(rig.ask("writeq 0x10000098 1")).toEqual(["OK"]);
    rig.ask("writeq 0x10000090 0x9999");
    expect(rig.ask("readq 0x10000090")).toEqual(["OK 0x0000000000000004"]);
    expect(rig.ask("clock_step 99499999")).toEqual(["OK 100999999"]);
    expect(rig.ask("readq 0x10000098")).toEqual(["OK 0x0000000000000001"]);
    expect(rig.ask("clock_step")).toEqual(["OK 101000000"]);
    expect(rig.ask("readq 0x10000098")).toEqual(["OK 0x0000000000000000"]);
    expect(rig.ask("clock_step")).toEqual(["FAIL cannot advance clock to the next deadline because there is no pending deadline"]);
  });

  it("stands still for timers with -S", () => {
    program(`${MACHINE} -S`);
    rig.ask("writeq 0x10000098 1");
    expect(rig.ask("clock_step")).toEqual(["FAIL cannot advance clock to the next deadline because there is no pending deadline"]);
    expect(rig.ask("clock_step 300000000")).toEqual(["OK 300000000"]);
    expect(rig.ask("readq 0x10000098")).toEqual(["OK 0x0000000000000001"]);
  });

  it("lets no transfer begin after a reset", () => {
    program(MACHINE);
    rig.ask("writeq 0x10000098 1");
    rig.built.machine.reset();
    expect(rig.ask("clock_step")).toEqual(["FAIL cannot advance clock to the next deadline because there is no pending deadline"]);
  });
});

describe("the log", () => {
  it("has QEMU's format", () => {
    const lines: string[] = [];
    let time = 5000;
    start(MACHINE, new QtestLog((text) => lines.push(text), () => (time += 1.5)));
    rig.send("readl 0x9050000\nfoo\nirq_intercept_in /machine/unattached/device[1]\nset_irq_in /machine/unattached/device[1] unnamed-gpio-in 1 1\n");
    expect(lines).toEqual([
      "[I 0.000000] OPENED\n",
      "[R +0.001500] readl 0x9050000\n",
      "[S +0.003000] OK 0x0000000000000000\n",
      "[R +0.004500] foo\n",
      "[S +0.006000] FAIL Unknown command 'foo'\n",
      "[R +0.007500] irq_intercept_in /machine/unattached/device[1]\n",
      "[S +0.009000] OK\n",
      "[R +0.010500] set_irq_in /machine/unattached/device[1] unnamed-gpio-in 1 1\n",
      "[S +0.012000] IRQ raise 1\n",
      "[S +0.013500] OK\n",
    ]);
  });
});
