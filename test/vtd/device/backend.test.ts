/** What the device asks of whoever serves its passed-through functions, and in which order: a backend that writes it down. */
import { describe, expect, it } from "vitest";
import type { BackendProgress, VtdBackend } from "../../../src/vtd/index.js";
import { QIE, R, Rig, SRTP, STATUS, TE } from "../rig.js";

class RecordingBackend implements VtdBackend {
  readonly calls: string[] = [];
  functionCount = 1;
  progress: BackendProgress = "done";
  capacity = 4;
  pending = 0;
  stepsTaken = 0;
  /** What the next flush returns. */
  flushed = -1;
  /** What the next invalidation returns. */
  taken = true;
  /** PASIDs with a table. */
  readonly tables = new Set([7]);

  private note(call: string, result = true): boolean {
    this.calls.push(call);
    return result;
  }

  pasidCacheInvalidated(pasid: number): boolean {
    return this.note(`PASIDs ${pasid}`, this.taken);
  }

  contextCacheInvalidated(sourceId: number, sourceMask: number): boolean {
    return this.note(`contexts ${sourceId} mask ${sourceMask}`, this.taken);
  }

  iotlbInvalidated(domain: number, high: number, low: number, mask: number): boolean {
    return this.note(`IOTLB ${domain} ${(high >>> 0).toString(16)}:${(low >>> 0).toString(16)}+${mask}`, this.taken);
  }

  forwardPasidIotlb(domain: number, pasid: number, high: number, low: number, mask: number, leaf: boolean): boolean {
    if (!this.tables.has(pasid)) {
      return false;
    }
    this.pending++;
    return this.note(`take ${domain}/${pasid} ${(high >>> 0).toString(16)}:${(low >>> 0).toString(16)}+${mask}${leaf ? " leaf" : ""}`);
  }

  pasidIotlbInvalidated(): boolean {
    return this.taken;
  }

  flush(): number {
    this.note(`flush ${this.pending}`);
    this.pending = 0;
    return this.flushed;
  }

  descriptorsDone(): void {
    this.note("end");
  }

  tablesChanged(): void {
    this.note("tables");
  }

  retryRefused(): void {
    this.note("retry");
  }

  proceed(): void {
    this.note("proceed");
  }

  reset(): void {
    this.note("reset");
  }

  dispose(): void {
    this.note("dispose");
  }

  /** The calls, but for those that each register write begins with, and forgets them. */
  told(): string[] {
    return this.calls.splice(0).filter((call) => call !== "retry");
  }
}

function served(): { rig: Rig; backend: RecordingBackend } {
  const rig = new Rig({ scalableMode: true, fsts: true, pasidBits: 20 });
  const backend = new RecordingBackend();
  rig.vtd.backend = backend;
  rig.startQueue(true);
  rig.write64(R.RTADDR, 0x10_0400n);
  rig.command(SRTP);
  rig.command(TE);
  return { rig, backend };
}

const page = (pasid: bigint, address: bigint): readonly [bigint, bigint] => [0x36n | (5n << 16n) | (pasid << 32n), address];
const wait: readonly [bigint, bigint] = [0x25n | (1n << 32n), BigInt(STATUS)];

describe("the backend of a VT-d unit", () => {
  it("hears of tables at SRTP and TE, on and off, and at reset", () => {
    const { rig, backend } = served();
    expect(backend.told()).toEqual(["end", "tables", "tables"]);
    rig.write(R.GCMD, QIE);
    expect(backend.told()).toEqual(["tables"]);
    rig.vtd.reset();
    rig.vtd.dispose();
    expect(backend.told()).toEqual(["reset", "dispose"]);
  });

  it("gets invalidations in the queue's order, those of first stages in batches that are sent before anything else", () => {
    const { rig, backend } = served();
    backend.told();
    rig.put(...page(7n, 0x1000n));
    rig.put(...page(8n, 0x1000n));
    rig.put(0x26n | (5n << 16n) | (7n << 32n));
    rig.put(0x17n | (5n << 16n) | (9n << 32n));
    rig.put(0x37n);
    rig.put(0x31n | (0x1234n << 32n));
    rig.put(0x12n);
    rig.put(0x22n | (6n << 16n));
    rig.put(...page(7n, 0x2040n));
    rig.put(...wait);
    rig.kick();
    expect(backend.told()).toEqual([
      "take 5/7 0:1000+0",
      "take 5/7 0:0+-1",
      "flush 2",
      "PASIDs 9",
      "PASIDs -1",
      "contexts 4660 mask 0",
      "IOTLB -1 0:0+-1",
      "IOTLB 6 0:0+-1",
      "take 5/7 0:2000+0 leaf",
      "flush 1",
      "end",
    ]);
    expect(rig.load32(STATUS)).toBe(1);
  });

  it("is flushed when it is full", () => {
    const { rig, backend } = served();
    backend.told();
    for (let n = 1n; n <= 6n; n++) {
      rig.put(...page(7n, n << 12n));
    }
    rig.kick();
    expect(backend.told().filter((call) => !call.startsWith("take"))).toEqual(["flush 4", "flush 2", "end"]);
  });

  it("stops the queue at what it does not take, and gets it again", () => {
    const { rig, backend } = served();
    rig.put(...page(7n, 0x1000n));
    rig.put(...page(7n, 0x2000n));
    rig.put(...wait);
    backend.flushed = 1;
    rig.kick();
    expect([rig.read(R.IQH) / 32, rig.read(R.FSTS) & 0x10, rig.load32(STATUS)]).toEqual([1, 0x10, 0]);
    backend.told();
    backend.flushed = -1;
    backend.taken = false;
    rig.write(R.FSTS, 0x10);
    // The descriptor after the IOTLB's: beside the batch, what it does to mirrors.
    expect([rig.read(R.IQH) / 32, rig.read(R.FSTS) & 0x10]).toEqual([1, 0x10]);
    backend.taken = true;
    rig.write(R.FSTS, 0x10);
    expect(backend.told()).toEqual(["take 5/7 0:2000+0", "flush 1", "end"]);
    expect([rig.read(R.IQH) / 32, rig.load32(STATUS)]).toEqual([3, 1]);
  });

  it("holds back waits and GSTS while it works or keeps what may be stale", () => {
    const { rig, backend } = served();
    backend.told();
    backend.progress = "working";
    rig.put(...wait);
    rig.kick();
    rig.command(SRTP);
    expect([rig.load32(STATUS), (rig.read(R.GSTS) >>> 30) & 1]).toEqual([0, 0]);
    expect(backend.told()).toContain("proceed");
    backend.progress = "done";
    rig.vtd.followed();
    expect([rig.load32(STATUS), (rig.read(R.GSTS) >>> 30) & 1]).toEqual([1, 1]);
    backend.progress = "refused";
    rig.store(STATUS, 0n);
    rig.put(...wait);
    rig.kick();
    expect([rig.load32(STATUS), rig.read(R.FSTS) & 0x10]).toEqual([0, 0x10]);
    rig.command(SRTP);
    backend.calls.length = 0;
    expect([(rig.read(R.GSTS) >>> 30) & 1, backend.calls]).toEqual([0, ["retry"]]);
  });

  it("is asked nothing while it has no functions", () => {
    const { rig, backend } = served();
    backend.calls.length = 0;
    backend.functionCount = 0;
    backend.progress = "working";
    rig.put(0x37n);
    rig.put(...page(7n, 0x1000n));
    rig.put(...wait);
    rig.kick();
    expect([rig.load32(STATUS), rig.vtd.backend, backend.calls]).toEqual([1, null, []]);
  });
});
