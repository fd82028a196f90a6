import { describe, expect, it } from "vitest";
import { STEPS_AT_ONCE } from "../../../src/nesting/index.js";
import { QUEUE, R, Rig, SRTP, STATUS, TE } from "../rig.js";

/** Descriptors as the specification draws them (Intel VT-d 5.10, 6.5.2). */
const wait = (flags: { status?: number; interrupt?: boolean; fence?: boolean } = {}): bigint[] => [
  5n |
    (flags.interrupt === true ? 1n << 4n : 0n) |
    (flags.status !== undefined ? 1n << 5n : 0n) |
    (flags.fence === true ? 1n << 6n : 0n) |
    (BigInt(flags.status ?? 0) << 32n),
  flags.status === undefined ? 0n : BigInt(STATUS),
];
const contextGlobal = [0x11n, 0n];
const iotlbGlobal = [0x12n, 0n];
const IQE = 0x10;

const scalable = (): Rig => {
  const rig = new Rig({ scalableMode: true, fsts: true });
  rig.write64(R.RTADDR, 0x400n);
  rig.command(SRTP);
  rig.startQueue(true);
  return rig;
};

describe("the invalidation queue", () => {
  it("does descriptors up to the tail, and writes the status of a wait", () => {
    const rig = new Rig();
    rig.startQueue();
    rig.put(...contextGlobal);
    rig.put(...iotlbGlobal);
    rig.put(...wait({ status: 0xcafe }));
    expect(rig.load32(STATUS)).toBe(0);
    rig.kick();
    expect(rig.load32(STATUS)).toBe(0xcafe);
    expect([rig.read(R.IQH), rig.read(R.IQT), rig.read(R.FSTS)]).toEqual([0x30, 0x30, 0]);
    expect(rig.vtd.counters()).toMatchObject({ descriptors: 3, waits: 1, descriptorsByType: { "context-cache": 1, iotlb: 1, wait: 1 } });
  });

  it("wraps at its end", () => {
    const rig = new Rig();
    rig.startQueue();
    for (let n = 0; n < 600; n++) {
      rig.run(...wait({ status: n }));
      expect(rig.load32(STATUS)).toBe(n);
    }
    expect(rig.read(R.IQH)).toBe((600 % 256) * 16);
  });

  it("takes what was queued before it was switched on", () => {
    const rig = new Rig();
    rig.put(...wait({ status: 7 }));
    rig.kick();
    expect(rig.load32(STATUS)).toBe(0);
    rig.startQueue();
    expect(rig.load32(STATUS)).toBe(7);
  });

  it("is where IQA said when it was switched on, and its head is zero when it is off", () => {
    const rig = new Rig();
    rig.startQueue();
    rig.write64(R.IQA, 0x9_9000n);
    rig.run(...wait({ status: 3 }));
    expect(rig.load32(STATUS)).toBe(3);
    rig.write(R.GCMD, 0);
    expect([rig.read(R.GSTS), rig.read(R.IQH)]).toEqual([0, 0]);
    rig.run(...wait({ status: 4 }));
    expect(rig.load32(STATUS)).toBe(3);
  });

  it("uses 256-bit descriptors in scalable mode", () => {
    const rig = scalable();
    rig.run(0x37n);
    rig.run(...wait({ status: 9 }));
    expect([rig.read(R.IQH), rig.read(R.FSTS), rig.load32(STATUS)]).toEqual([0x40, 0, 9]);
    expect(rig.vtd.counters().descriptorsByType).toEqual({ "pasid-cache": 1, wait: 1 });
  });

  it("is as long as IQA says", () => {
    const rig = new Rig();
    rig.write64(R.IQA, BigInt(QUEUE) | 1n);
    rig.command(0x0400_0000);
    for (let n = 0; n < 511; n++) {
      rig.store(QUEUE + 16 * n, ...wait({ status: n }));
    }
    rig.write64(R.IQT, 511 * 16);
    expect([rig.read(R.IQH), rig.load32(STATUS)]).toEqual([511 * 16, 510]);
    rig.write64(R.IQT, 512 * 16);
    expect([rig.read(R.FSTS) & IQE, rig.read(R.IQERCD), rig.read(R.IQH)]).toEqual([IQE, 1, 511 * 16]);
  });
});

describe("more than is done at once", () => {
  const LAST = 8191;
  const LONG_QUEUE = 0x4_0000;

  function filled(): Rig {
    const rig = new Rig();
    // 2^5 pages: 8,192 descriptors.
    rig.write64(R.IQA, BigInt(LONG_QUEUE) | 5n);
    rig.command(0x0400_0000);
    for (let n = 0; n < LAST; n++) {
      rig.store(LONG_QUEUE + 16 * n, ...wait({ status: n }));
    }
    rig.write64(R.IQT, LAST * 16);
    return rig;
  }

  it("yields with IQH at what is done, and goes on when the event loop is free", () => {
    const rig = filled();
    expect([rig.vtd.registers.word(R.IQH), rig.load32(STATUS)]).toEqual([STEPS_AT_ONCE * 16, STEPS_AT_ONCE - 1]);
    rig.later.shift()!();
    expect([rig.vtd.registers.word(R.IQH), rig.load32(STATUS), rig.later.length]).toEqual([LAST * 16, LAST - 1, 0]);
    expect(rig.vtd.counters().descriptors).toBe(LAST);
  });

  it("is not heard of again where a completion's message has switched it off: IQH is 0 (11.4.8.1)", () => {
    const rig = new Rig();
    rig.write64(R.IQA, BigInt(LONG_QUEUE));
    rig.command(0x0400_0000);
    rig.onMessage = () => rig.write(R.GCMD, 0);
    rig.write(R.IECTL, 0);
    rig.store(LONG_QUEUE, ...wait({ status: 1, interrupt: true }), ...wait({ status: 2 }));
    rig.write64(R.IQT, 32);
    expect([rig.messages.length, rig.load32(STATUS), rig.read(R.IQH)]).toEqual([1, 1, 0]);
    rig.command(0x0400_0000);
    expect([rig.load32(STATUS), rig.read(R.IQH)]).toEqual([2, 32]);
  });

  it("is left where it is when the machine is gone", () => {
    const rig = filled();
    rig.vtd.dispose();
    rig.later.forEach((work) => work());
    expect([rig.vtd.registers.word(R.IQH), rig.load32(STATUS)]).toEqual([STEPS_AT_ONCE * 16, STEPS_AT_ONCE - 1]);
  });

  it("is done by a guest that polls, and stops where the queue is switched off, or the unit reset, meanwhile", () => {
    const polled = filled();
    expect([polled.read(R.IQH), polled.load32(STATUS)]).toEqual([LAST * 16, LAST - 1]);
    for (const stop of [(rig: Rig) => rig.write(R.GCMD, 0), (rig: Rig) => rig.vtd.reset()]) {
      const rig = filled();
      stop(rig);
      while (rig.later.length > 0) {
        rig.later.shift()!();
      }
      expect([rig.read(R.IQH), rig.load32(STATUS)]).toEqual([0, STEPS_AT_ONCE - 1]);
    }
  });
});

describe("the completion interrupt", () => {
  const armed = (): Rig => {
    const rig = new Rig();
    rig.write(R.IEDATA, 0x41);
    rig.write(R.IEADDR, 0xfee0_1000);
    rig.startQueue();
    return rig;
  };

  it("is sent once until software has seen it", () => {
    const rig = armed();
    rig.write(R.IECTL, 0);
    rig.run(...wait({ interrupt: true }));
    expect(rig.messages).toEqual([{ address: 0xfee0_1000n, data: 0x41 }]);
    expect([rig.read(R.ICS), rig.read(R.IECTL)]).toEqual([1, 0]);
    rig.run(...wait({ interrupt: true }));
    expect(rig.messages).toHaveLength(1);
    rig.write(R.ICS, 1);
    rig.run(...wait({ interrupt: true }));
    expect(rig.messages).toHaveLength(2);
  });

  it("waits behind its mask, and goes when software has served it otherwise", () => {
    const rig = armed();
    rig.run(...wait({ interrupt: true }));
    expect(rig.read(R.IECTL)).toBe(0xc000_0000);
    rig.write(R.IECTL, 0);
    expect(rig.messages).toHaveLength(1);
    rig.write(R.ICS, 1);
    rig.write(R.IECTL, 0x8000_0000);
    rig.run(...wait({ interrupt: true }));
    rig.write(R.ICS, 1);
    expect(rig.read(R.IECTL)).toBe(0x8000_0000);
    rig.write(R.IECTL, 0);
    expect(rig.messages).toHaveLength(1);
  });

  it("finds the status written and the head behind its descriptor", () => {
    const rig = armed();
    rig.write(R.IECTL, 0);
    const seen: number[] = [];
    rig.onMessage = () => seen.push(rig.load32(STATUS), rig.read(R.IQH));
    rig.run(...wait({ status: 5, interrupt: true }));
    expect(seen).toEqual([5, 0x10]);
  });

  it("may itself make the queue go on: what is queued meanwhile is done by the one that runs", () => {
    const rig = armed();
    rig.write(R.IECTL, 0);
    rig.onMessage = () => {
      rig.onMessage = () => {};
      rig.run(...wait({ status: 0x77 }));
    };
    rig.run(...wait({ interrupt: true }));
    expect([rig.load32(STATUS), rig.read(R.IQH)]).toEqual([0x77, 0x20]);
  });
});

describe("queue errors", () => {
  interface Case {
    name: string;
    rig: () => Rig;
    words: bigint[];
    iqei: number;
  }
  const legacy = (): Rig => {
    const rig = new Rig();
    rig.startQueue();
    return rig;
  };
  const narrowScalable = (): Rig => {
    const rig = new Rig({ scalableMode: true });
    rig.write64(R.RTADDR, 0x400n);
    rig.command(SRTP);
    rig.startQueue();
    return rig;
  };
  const wideLegacy = (): Rig => {
    const rig = new Rig();
    rig.startQueue(true);
    return rig;
  };
  const withMode = (mode: bigint) => (): Rig => {
    const rig = new Rig({ scalableMode: true });
    rig.write64(R.RTADDR, mode << 10n);
    rig.command(SRTP);
    rig.startQueue(true);
    return rig;
  };
  const cases: Case[] = [
    { name: "a type that is not there", rig: legacy, words: [0xfn], iqei: 3 },
    { name: "a type by its high bits", rig: legacy, words: [0x205n], iqei: 3 },
    { name: "type 0", rig: legacy, words: [0n], iqei: 3 },
    { name: "a device-TLB descriptor without device TLBs", rig: legacy, words: [0x3n], iqei: 3 },
    { name: "a PASID-cache descriptor without scalable mode", rig: legacy, words: [0x37n], iqei: 3 },
    {
      name: "a PASID-cache descriptor in legacy mode",
      rig: () => {
        const rig = new Rig({ scalableMode: true });
        rig.startQueue(true);
        return rig;
      },
      words: [0x37n],
      iqei: 3,
    },
    { name: "128-bit descriptors in scalable mode", rig: narrowScalable, words: wait({ status: 1 }), iqei: 5 },
    { name: "256-bit descriptors without scalable mode", rig: wideLegacy, words: wait({ status: 1 }), iqei: 5 },
    { name: "a reserved table mode", rig: withMode(2n), words: wait({ status: 1 }), iqei: 7 },
    { name: "abort-DMA mode where it is not offered", rig: withMode(3n), words: wait({ status: 1 }), iqei: 7 },
    { name: "a reserved granularity of the context cache", rig: legacy, words: [0x1n], iqei: 4 },
    { name: "a reserved granularity of the IOTLB", rig: legacy, words: [0x2n], iqei: 4 },
    { name: "a reserved granularity of the PASID cache", rig: scalable, words: [0x27n], iqei: 4 },
    { name: "a reserved granularity of the PASID-based IOTLB", rig: scalable, words: [0x16n], iqei: 4 },
    { name: "an address mask beyond CAP.MAMV", rig: legacy, words: [0x32n, 19n], iqei: 4 },
    { name: "reserved bits of a context-cache descriptor", rig: legacy, words: [0x11n, 1n], iqei: 4 },
    { name: "reserved bits of an IOTLB descriptor", rig: legacy, words: [0x1_0000_0012n], iqei: 4 },
    { name: "reserved bits of a wait", rig: legacy, words: [0x1_0000_0125n], iqei: 4 },
    { name: "page-request drain without page requests", rig: legacy, words: [0xa5n, BigInt(STATUS)], iqei: 4 },
    { name: "reserved bits of an interrupt-entry descriptor", rig: legacy, words: [0x4n | (1n << 48n)], iqei: 4 },
    { name: "reserved bits of a PASID-cache descriptor", rig: scalable, words: [0x37n | (1n << 52n)], iqei: 4 },
    { name: "reserved bits of a PASID-based IOTLB descriptor", rig: scalable, words: [0x26n, 0x80n], iqei: 4 },
    { name: "the upper half of a 256-bit descriptor", rig: scalable, words: [0x37n, 0n, 1n], iqei: 4 },
    { name: "a wait that waits for nothing", rig: legacy, words: [0x5n], iqei: 4 },
  ];

  it.each(cases)("$name", ({ rig: make, words, iqei }) => {
    const rig = make();
    const first = rig.read(R.IQH);
    rig.put(...words);
    rig.put(...wait({ status: 0x55 }));
    rig.kick();
    expect([rig.read(R.FSTS), rig.read(R.IQERCD), rig.read(R.IQH), rig.load32(STATUS)]).toEqual([IQE, iqei, first, 0]);
    expect(rig.read(R.FECTL)).toBe(0xc000_0000);
  });

  it("stop the queue at their descriptor until software clears them, then it goes on", () => {
    const rig = new Rig();
    rig.startQueue();
    rig.put(...wait({ status: 1 }));
    rig.put(0xfn);
    rig.put(...wait({ status: 2 }));
    rig.kick();
    expect([rig.read(R.IQH), rig.load32(STATUS)]).toEqual([0x10, 1]);
    rig.run(...wait({ status: 3 }));
    expect([rig.read(R.IQH), rig.load32(STATUS)]).toEqual([0x10, 1]);
    rig.store(QUEUE + 0x10, ...contextGlobal);
    rig.write(R.FSTS, IQE);
    expect([rig.read(R.FSTS), rig.read(R.IQERCD), rig.read(R.IQH), rig.load32(STATUS)]).toEqual([0, 0, 0x40, 3]);
  });

  it("come again where nothing was mended", () => {
    const rig = new Rig();
    rig.startQueue();
    rig.run(0xfn);
    rig.write(R.FSTS, IQE);
    expect([rig.read(R.FSTS), rig.read(R.IQH)]).toEqual([IQE, 0]);
    expect(rig.vtd.counters().queueErrors).toBe(2);
  });

  it("send the fault message, once for all that is pending", () => {
    const rig = new Rig();
    rig.write(R.FEDATA, 0x51);
    rig.write(R.FEADDR, 0xfee0_2000);
    rig.write(R.FECTL, 0);
    rig.startQueue();
    rig.run(0xfn);
    expect(rig.messages).toEqual([{ address: 0xfee0_2000n, data: 0x51 }]);
  });

  it("tell of a tail that is not aligned, and of memory that is not there", () => {
    const rig = scalable();
    rig.write64(R.IQT, 0x10);
    expect([rig.read(R.FSTS), rig.read(R.IQERCD)]).toEqual([IQE, 6]);

    const away = new Rig();
    away.write64(R.IQA, 0x4000_0000n);
    away.command(0x0400_0000);
    away.write64(R.IQT, 0x10);
    expect([away.read(R.FSTS), away.read(R.IQERCD), away.read(R.IQH)]).toEqual([IQE, 2, 0]);
  });

  it("tell of a status that cannot be written", () => {
    const rig = new Rig();
    rig.startQueue();
    rig.run(0x1_0000_0025n, 0x4000_0000n);
    expect([rig.read(R.FSTS), rig.read(R.IQH)]).toEqual([IQE, 0]);
  });

  it("do not take the unit down when a status write hits its own registers", () => {
    const rig = new Rig();
    rig.startQueue();
    rig.run(0x30_0000_0025n, 0xfed9_0088n);
    expect(rig.read(R.FSTS)).toBe(IQE);
    expect(rig.read(R.IQH)).toBe(0x10);
  });
});

describe("register-based invalidation", () => {
  it("tells the granularity that it performed", () => {
    const rig = new Rig();
    for (const granularity of [1n, 2n, 3n]) {
      rig.write64(R.CCMD, (1n << 63n) | (granularity << 61n));
      expect(rig.read64(R.CCMD) >> 59n).toBe((granularity << 2n) | granularity);
      rig.write64(R.IVA, 0x1000n);
      rig.write64(R.IOTLB, (1n << 63n) | (granularity << 60n));
      expect(rig.read64(R.IOTLB) >> 57n).toBe((granularity << 3n) | granularity);
    }
  });

  it("goes with a write of the upper half alone", () => {
    const rig = new Rig();
    rig.write(R.CCMD, 0);
    rig.write(R.CCMD + 4, 0xa000_0000);
    expect(rig.read(R.CCMD + 4)).toBe(0x2800_0000);
  });

  it("is refused beside queued invalidation, in scalable mode, and for masks that are too large", () => {
    const queued = new Rig();
    queued.startQueue();
    queued.write64(R.CCMD, (1n << 63n) | (1n << 61n));
    expect(queued.read64(R.CCMD) >> 59n).toBe(4n);

    const scalableMode = new Rig({ scalableMode: true });
    scalableMode.write64(R.RTADDR, 0x400n);
    scalableMode.command(SRTP);
    scalableMode.write64(R.IOTLB, (1n << 63n) | (1n << 60n));
    expect(scalableMode.read64(R.IOTLB) >> 57n).toBe(8n);

    const large = new Rig();
    large.write64(R.IVA, 19n);
    large.write64(R.IOTLB, (1n << 63n) | (3n << 60n));
    expect(large.read64(R.IOTLB) >> 57n).toBe(24n);
    large.write64(R.IVA, 18n);
    large.write64(R.IOTLB, (1n << 63n) | (3n << 60n));
    expect(large.read64(R.IOTLB) >> 57n).toBe(27n);
    expect(large.read(R.GSTS) & TE).toBe(0);
  });
});
