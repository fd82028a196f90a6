import { expect, it } from "vitest";
import { Rig } from "./rig.js";

/** As QEMU 11.1.3 answered, with -M q35 -m 512 -device intel-iommu -device edu,id=e,addr=3. */
const TRANSCRIPT: ReadonlyArray<readonly [command: string, answer: readonly string[]]> = [
  ["outl 0xcf8 0x80000000", ["OK"]],
  ["inl 0xcfc", ["OK 0x29c08086"]],
  ["inw 0xcfe", ["OK 0x29c0"]],
  ["inb 0xcff", ["OK 0x0029"]],
  ["inl 0xcf8", ["OK 0x80000000"]],
  ["outw 0xcf8 0", ["OK"]],
  ["inl 0xcf8", ["OK 0x80000000"]],
  ["outl 0xcf8 0x8000f800", ["OK"]],
  ["inl 0xcfc", ["OK 0x29188086"]],
  ["outl 0xcf8 0x8000fa08", ["OK"]],
  ["inl 0xcfc", ["OK 0x1060102"]],
  ["outl 0xcf8 0x8000ff08", ["OK"]],
  ["inl 0xcfc", ["OK 0xffffffff"]],
  ["readl 0xb0000000", ["OK 0x0000000000000000"]],
  ["outl 0xcf8 0x80000060", ["OK"]],
  ["inl 0xcfc", ["OK 0xb0000000"]],
  ["outl 0xcfc 0xb0000001", ["OK"]],
  ["inl 0xcfc", ["OK 0xb0000001"]],
  ["readl 0xb0000000", ["OK 0x0000000029c08086"]],
  ["readq 0xb00f8000", ["OK 0x0000000029188086"]],
  ["readw 0xb00fa00a", ["OK 0x0000000000000106"]],
  ["outw 0x510 0", ["OK"]],
  ["inb 0x511", ["OK 0x0051"]],
  ["inb 0x511", ["OK 0x0045"]],
  ["inb 0x511", ["OK 0x004d"]],
  ["inb 0x511", ["OK 0x0055"]],
  ["inb 0x511", ["OK 0x0000"]],
  ["outw 0x510 1", ["OK"]],
  ["inb 0x511", ["OK 0x0003"]],
  ["outw 0x510 5", ["OK"]],
  ["inb 0x511", ["OK 0x0001"]],
  ["inl 0x514", ["OK 0x554d4551"]],
  ["inl 0x518", ["OK 0x47464320"]],
  ["readl 0xfed90000", ["OK 0x0000000000000010"]],
  ["readq 0xfed90008", ["OK 0x80d2008c222f0606"]],
  ["readq 0xfed90010", ["OK 0x0000000000f00f4a"]],
  ["writel 0xfec00000 1", ["OK"]],
  ["readl 0xfec00010", ["OK 0x0000000000170020"]],
  ["writel 0xfec00000 0x10", ["OK"]],
  ["readl 0xfec00010", ["OK 0x0000000000010000"]],
  ["writel 0xfec00000 0x11", ["OK"]],
  ["writel 0xfec00010 0xff000000", ["OK"]],
  ["readl 0xfec00010", ["OK 0x00000000ff000000"]],
  ["writel 0xfec00000 0x10", ["OK"]],
  ["writel 0xfec00010 0xffffffff", ["OK"]],
  ["readl 0xfec00010", ["OK 0x00000000ffffafff"]],
  ["writel 0xfec00000 0x3f", ["OK"]],
  ["readl 0xfec00010", ["OK 0x0000000000000000"]],
  ["writel 0xfec00000 0x40", ["OK"]],
  ["readl 0xfec00010", ["OK 0x0000000000000000"]],
  ["writel 0xfec00000 0", ["OK"]],
  ["writel 0xfec00010 0xff000000", ["OK"]],
  ["readl 0xfec00010", ["OK 0x000000000f000000"]],
  ["readl 0xfec00000", ["OK 0x0000000000000000"]],
  ["readb 0xfec00000", ["OK 0x0000000000000000"]],
  ["readl 0xfec00020", ["OK 0x0000000000000000"]],
  ["outb 0x1234 1", ["OK"]],
  ["inb 0x1234", ["OK 0x00ff"]],
  ["inw 0x1234", ["OK 0xffff"]],
  ["inl 0x1234", ["OK 0xffffffff"]],
  ["irq_intercept_in /machine/q35/ioapic", ["OK"]],
  ["irq_intercept_in ioapic", ["OK"]],
  ["irq_intercept_out ioapic", ["OK"]],
  ["outl 0xcf8 0x80001810", ["OK"]],
  ["outl 0xcfc 0xc1000000", ["OK"]],
  ["outl 0xcf8 0x80001804", ["OK"]],
  ["outl 0xcfc 6", ["OK"]],
  ["readl 0xc1000000", ["OK 0x00000000010000ed"]],
  ["writel 0xc1000060 1", ["IRQ raise 23", "OK"]],
  ["writel 0xc1000064 1", ["IRQ lower 23", "OK"]],
  ["set_irq_in /machine/q35/ioapic unnamed-gpio-in 5 1", ["IRQ raise 5", "OK"]],
  ["set_irq_in /machine/q35/ioapic unnamed-gpio-in 5 0", ["IRQ lower 5", "OK"]],
  ["set_irq_in /machine/nothing unnamed-gpio-in 5 0", ["FAIL Unknown device"]],
  ["irq_intercept_in /machine/peripheral/e", ["FAIL IRQ intercept already enabled"]],
  ["readl 0xc0000000", ["OK 0x0000000000000000"]],
  ["readl 0xfee00000", ["OK 0x00000000ffffffff"]],
  ["writel 0x9fffc 0x12345678", ["OK"]],
  ["readl 0x9fffc", ["OK 0x0000000012345678"]],
  ["writel 0xbfffc 0x12345678", ["OK"]],
  ["readl 0xbfffc", ["OK 0x0000000012345678"]],
];

it("a q35 answers over qtest as QEMU does: ports, configuration space, fw_cfg, IOAPIC, interrupts", () => {
  const rig = new Rig("-M q35 -m 512 -nodefaults -device intel-iommu -device edu,id=e,addr=3");
  for (const [command, answer] of TRANSCRIPT) {
    expect([command, rig.ask(command)]).toEqual([command, answer]);
  }
  rig.end();
});

it("a machine without ports reads all ones there", () => {
  const rig = new Rig("-M virt -nodefaults");
  expect(rig.ask("inl 0xcfc")).toEqual(["OK 0xffffffff"]);
  rig.end();
});
