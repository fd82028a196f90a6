/** An SMMUv3's HWPT_INVALIDATE: each command, its fields, and bits that it has not. */
import { HwptAllocFlags } from "../../iommufd/index.js";
import { type CMD, commandFields, commandName, encodeCommand, OP } from "../../smmuv3/spec/index.js";
import type { Bench } from "../bench.js";
import type { Group } from "../group.js";
import { bytes32, Work } from "../work.js";

/** The function's virtual StreamID. */
const SID = 0x10;

function withVdevice(bench: Bench): { work: Work; viommu: number } {
  const work = new Work(bench);
  const parent = bench.quiet(() => work.table(HwptAllocFlags.NEST_PARENT)) ?? 0;
  const viommu = bench.quiet(() => work.viommu(parent)) ?? 0;
  bench.quiet(() => work.vdevice(viommu, BigInt(SID)));
  return { work, viommu };
}

const opcodes: Group = {
  name: "commands",
  about: "each command of the architecture as an invalidation",
  needs: ["smmuv3", "nesting"],
  run: (bench) => {
    const { work, viommu } = withVdevice(bench);
    for (const op of [...Object.values(OP), 0x00, 0x09, 0x47, 0xff]) {
      if (op === OP.ATC_INV && !bench.facts.ats && !bench.options.illegal) {
        continue;
      }
      const words = new Int32Array(4);
      const has = commandFields.get(op) ?? [];
      words.set(has.includes("SID") ? encodeCommand(op, { SID }) : [op, 0, 0, 0]);
      bench.answer(commandName(op), () => work.invalidate(viommu, [bytes32(words)]));
    }
  },
};

/** Commands that a guest may give, with fields that are legal. */
const FORWARDED = [OP.TLBI_NH_ALL, OP.TLBI_NH_ASID, OP.TLBI_NH_VA, OP.TLBI_NH_VAA, OP.TLBI_NSNH_ALL, OP.CFGI_CD, OP.CFGI_CD_ALL] as const;

const bits: Group = {
  name: "command bits",
  about: "each bit of the commands that a guest may give",
  needs: ["smmuv3", "nesting", "illegal"],
  run: (bench) => {
    const { work, viommu } = withVdevice(bench);
    for (const op of FORWARDED) {
      const fields = commandFields.get(op) ?? [];
      const good = fields.includes("SID") ? encodeCommand(op, { SID }) : encodeCommand(op, {});
      const refused: string[] = [];
      bench.call(commandName(op), () => {
        // Bits of the opcode and of the StreamID make other commands.
        for (let bit = 8; bit < 128; bit++) {
          if (fields.includes("SID") && bit >= 32 && bit < 64) {
            continue;
          }
          const words = Int32Array.from(good);
          words[bit >> 5] |= 1 << (bit & 31);
          const told = work.invalidate(viommu, [bytes32(words)]);
          // ETIMEDOUT: the kernel has handed it on, and the SMMU has stopped at it.
          if (told !== "ok entry_num=1" && !told.startsWith("ETIMEDOUT")) {
            refused.push(`${bit}${told === "EIO entry_num=0" ? "" : ` (${told})`}`);
          }
        }
        return refused.length === 0 ? "every bit is taken" : `refused with bit ${runs(refused)}`;
      });
    }
  },
};

/** 1 2 3 7 as 1-3 7. */
function runs(bits: readonly string[]): string {
  const parts: string[] = [];
  for (let at = 0; at < bits.length; ) {
    let end = at;
    while (end + 1 < bits.length && Number(bits[end + 1]) === Number(bits[end]) + 1) {
      end++;
    }
    parts.push(end > at ? `${bits[at]}-${bits[end]}` : bits[at]);
    at = end + 1;
  }
  return parts.join(" ");
}

const fields: Group = {
  name: "command fields",
  about: "ranges, granules, substreams, translation requests",
  needs: ["smmuv3", "nesting", "illegal"],
  run: (bench) => {
    const { work, viommu } = withVdevice(bench);
    const give = (name: string, op: number, values: Partial<Record<keyof typeof CMD, number>>): void =>
      bench.answer(name, () => work.invalidate(viommu, [bytes32(encodeCommand(op, values))]));
    for (const op of [OP.TLBI_NH_VA, OP.TLBI_NH_VAA] as const) {
      const name = commandName(op);
      give(`${name} TG=4K NUM=1`, op, { TG: 1, NUM: 1 });
      give(`${name} TG=4K NUM=31 SCALE=31`, op, { TG: 1, NUM: 31, SCALE: 31 });
      give(`${name} TG=4K SCALE=32`, op, { TG: 1, NUM: 1, SCALE: 32 });
      give(`${name} TG=4K NUM=SCALE=TTL=0`, op, { TG: 1 });
      give(`${name} TG=4K TTL=3`, op, { TG: 1, TTL: 3 });
      give(`${name} TG=16K TTL=1`, op, { TG: 2, TTL: 1 });
      give(`${name} TG=16K TTL=2`, op, { TG: 2, TTL: 2 });
      give(`${name} TG=64K TTL=1`, op, { TG: 3, TTL: 1 });
      give(`${name} TG=0 NUM=1`, op, { NUM: 1 });
      give(`${name} TG=0 SCALE=1`, op, { SCALE: 1 });
      give(`${name} TG=0 TTL=3`, op, { TTL: 3 });
      give(`${name} LEAF`, op, { LEAF: 1 });
      give(`${name} VMID=77`, op, { VMID: 77 });
    }
    give("TLBI_NH_ASID ASID=255", OP.TLBI_NH_ASID, { ASID: 255 });
    give("TLBI_NH_ASID ASID=65535", OP.TLBI_NH_ASID, { ASID: 65535 });
    give("CFGI_CD LEAF", OP.CFGI_CD, { SID, LEAF: 1 });
    give("CFGI_CD SSID=1", OP.CFGI_CD, { SID, SSID: 1 });
    give("CFGI_CD_ALL", OP.CFGI_CD_ALL, { SID });
    give("ATC_INV", OP.ATC_INV, { SID });
    give("ATC_INV everything", OP.ATC_INV, { SID, ATC_SIZE: 52 });
    give("ATC_INV SIZE=53", OP.ATC_INV, { SID, ATC_SIZE: 53 });
    give("ATC_INV SSV", OP.ATC_INV, { SID, SSV: 1, SSID: 1 });
    give("ATC_INV GLOBAL", OP.ATC_INV, { SID, GLOBAL: 1 });
    give("ATC_INV unknown vSID", OP.ATC_INV, { SID: 0x99 });
    const all = bytes32(encodeCommand(OP.TLBI_NH_ALL, {}));
    const bad = bytes32(encodeCommand(OP.CFGI_CD, { SID: 0x99 }));
    for (const [good, after] of [[62, 0], [63, 0], [64, 1], [127, 10]] as const) {
      const entries = [...Array.from({ length: good }, () => all), bad, ...Array.from({ length: after }, () => all)];
      bench.answer(`${good} good ones, unknown vSID, ${after} good ones`, () => work.invalidate(viommu, entries));
    }
    bench.answer("1024 good ones", () => work.invalidate(viommu, Array.from({ length: 1024 }, () => all)));
    bench.answer("data type VTD_S1", () => work.invalidate(viommu, [all], 16, 0));
    bench.answer("data type 99", () => work.invalidate(viommu, [all], 16, 99));
    bench.answer("entry_len 0", () => invalidateEmpty(work, viommu));
    bench.answer("entry_len 1", () => work.invalidate(viommu, [all], 1));
    bench.answer("entry_len 32, zeros behind", () => work.invalidate(viommu, [all], 32));
    const long = new Uint8Array(32);
    long.set(all);
    long[31] = 1;
    bench.answer("entry_len 32, ones behind", () => work.invalidate(viommu, [long], 32));
    bench.answer("zero entries of data type 99", () => work.invalidate(viommu, [], 16, 99));
    bench.answer("zero entries of an unknown id", () => work.invalidate(0x7777, []));
    bench.answer("of an IOAS", () => work.invalidate(work.ioas, [all]));
    bench.answer("of the device", () => work.invalidate(work.devId, [all]));
  },
};

/** One entry of no bytes. */
function invalidateEmpty(work: Work, hwptId: number): string {
  const { errno, handled } = work.iommufd.hwptInvalidate({ hwptId, dataType: 1, entryLength: 0, entryCount: 1, data: new Uint8Array(16) });
  return `${errno ?? "ok"} entry_num=${handled}`;
}

export const commandGroups: readonly Group[] = [opcodes, bits, fields];
