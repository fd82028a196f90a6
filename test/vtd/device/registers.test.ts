import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import type { VtdProperties } from "../../../src/vtd/index.js";
import { QIE, R, Rig, SRTP, TE } from "../rig.js";

const load = <T>(name: string): T => JSON.parse(readFileSync(new URL(`../data/${name}`, import.meta.url), "utf8")) as T;
const capabilities = load<{ rows: Array<{ properties: string; cap: string; ecap: string }> }>("qemu-11.1-capabilities.json");
const dumps = load<{ machines: Array<{ properties: string; reset: Record<string, string>; ones: Record<string, string>; zeros: Record<string, string> }> }>(
  "qemu-11.1-registers.json",
);

/** `scalable-mode=on,pasid-bits=8` as the device's properties. */
function propertiesOf(text: string): Partial<VtdProperties> {
  const out: Record<string, unknown> = {};
  for (const part of text.split(",").filter((one) => one !== "" && !one.endsWith("=auto"))) {
    const [name, value] = part.split("=");
    const key = name.replace(/-(.)/g, (_all, letter: string) => letter.toUpperCase());
    out[key] = /^\d+$/.test(value) ? Number(value) : value === "on";
  }
  return out;
}

describe("CAP and ECAP", () => {
  it.each(capabilities.rows)("are QEMU's for '$properties'", ({ properties, cap, ecap }) => {
    const rig = new Rig(propertiesOf(properties));
    expect(rig.read64(R.CAP).toString(16).padStart(16, "0")).toBe(cap);
    expect(rig.read64(R.ECAP).toString(16).padStart(16, "0")).toBe(ecap);
  });
});

/**
 * Words in which the specification and QEMU differ: IQA reads back what was written (11.4.8.3), QEMU shows
 * the address of the queue in use; with EIM the upper message addresses are there (11.4.7.5, 11.4.8.8).
 */
const differs = new Map([
  ["090", "fffff807"],
  ["094", "ffffffff"],
]);
const withEim = new Map([
  ["044", "ffffffff"],
  ["0ac", "ffffffff"],
]);

describe.each(dumps.machines)("registers of '$properties'", ({ properties, reset, ones, zeros }) => {
  const hex = (value: number): string => value.toString(16).padStart(8, "0");
  const offsets = Array.from({ length: 0x240 / 4 }, (_unused, i) => (4 * i).toString(16).padStart(3, "0"));

  it("have QEMU's reset values, before and after a reset", () => {
    const rig = new Rig(propertiesOf(properties));
    const all = (): Record<string, string> => Object.fromEntries(offsets.map((at) => [at, hex(rig.read(parseInt(at, 16)))]));
    const expected = Object.fromEntries(offsets.map((at) => [at, reset[at] ?? "00000000"]));
    expect(all()).toEqual(expected);
    for (const at of offsets) {
      rig.write(parseInt(at, 16), 0xffff_ffff);
    }
    rig.vtd.reset();
    expect(all()).toEqual(expected);
  });

  it("keep what QEMU's keep", () => {
    const rig = new Rig(propertiesOf(properties));
    for (const at of offsets) {
      const offset = parseInt(at, 16);
      if (offset === R.GCMD) {
        continue;
      }
      rig.write(offset, 0xffff_ffff);
      const kept = differs.get(at) ?? (properties.includes("eim=on") ? withEim.get(at) : undefined) ?? ones[at] ?? "00000000";
      expect(`${at} ${hex(rig.read(offset))}`).toBe(`${at} ${kept}`);
      rig.write(offset, 0);
      expect(`${at} ${hex(rig.read(offset))}`).toBe(`${at} ${zeros[at] ?? "00000000"}`);
    }
  });
});

describe("accesses", () => {
  it("are 4 bytes, or 8 at 64-bit registers, and aligned", () => {
    const rig = new Rig();
    rig.write64(R.RTADDR, 0x12_3456_7000n);
    expect(rig.read64(R.RTADDR)).toBe(0x12_3456_7000n);
    expect(rig.read(R.RTADDR + 4)).toBe(0x12);
    rig.write(R.RTADDR + 4, 0x34);
    expect(rig.read64(R.RTADDR)).toBe(0x34_3456_7000n);
    expect(rig.vtd.read(R.RTADDR, 1)).toBe(0n);
    expect(rig.vtd.read(R.RTADDR, 2)).toBe(0n);
    rig.vtd.write(R.FEDATA, 8, 0xffff_ffff_ffffn);
    expect([rig.read(R.FEDATA), rig.read(R.FEADDR)]).toEqual([0, 0]);
    expect(rig.vtd.read(0xffc, 4)).toBe(0n);
  });
});

describe("global commands", () => {
  it("take the root table pointer when told to, and keep it", () => {
    const rig = new Rig({ scalableMode: true });
    rig.write64(R.RTADDR, 0x5_4000n | (1n << 10n));
    expect(rig.vtd.rootTableAddress).toBe(0);
    rig.command(SRTP);
    expect(rig.read(R.GSTS) >>> 0).toBe(SRTP);
    rig.write64(R.RTADDR, 0x9_9000n);
    expect([rig.vtd.rootTableAddress, rig.vtd.tableMode]).toEqual([0x5_4000, 1]);
    rig.command(SRTP);
    expect([rig.vtd.rootTableAddress, rig.vtd.tableMode]).toEqual([0x9_9000, 0]);
  });

  it("switch translation on and off", () => {
    const rig = new Rig();
    rig.command(TE);
    expect(rig.read(R.GSTS) >>> 0).toBe(TE);
    expect(rig.vtd.translationEnabled).toBe(true);
    rig.write(R.GCMD, 0);
    expect(rig.read(R.GSTS)).toBe(0);
  });

  it("do not translate without dma-translation, nor remap without intremap", () => {
    const rig = new Rig({ dmaTranslation: false, intremap: false });
    rig.command(TE);
    rig.command(0x0200_0000);
    expect(rig.read(R.GSTS)).toBe(0);
  });

  it("show no write buffer to flush, and read as zero", () => {
    const rig = new Rig();
    rig.command(0x0800_0000 | QIE);
    expect(rig.read(R.GSTS) >>> 0).toBe(QIE);
    expect(rig.read(R.GCMD)).toBe(0);
  });
});
