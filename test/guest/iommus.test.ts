import { describe, expect, it } from "vitest";
import { IommuSet, PciFunction, VtdDriver, type ConfigAccess, type Dmar, type FirmwareDescription, type HostBridge, type RemappingUnit } from "../../src/guest/index.js";

const config = {} as ConfigAccess;

/** A function at a place; `portType` of PCIe, null for conventional PCI. */
function fn(bus: number, device: number, number: number, parent: PciFunction | null = null, portType: number | null = 0): PciFunction {
  const made = new PciFunction(config, bus, (device << 3) | number, parent);
  made.portType = portType;
  return made;
}

const ROOT_PORT = 4;
const scope = (type: number, bus: number, ...path: Array<[number, number]>): Dmar["units"][number]["scopes"][number] => ({
  type,
  enumerationId: 0,
  bus,
  path: path.map(([device, number]) => ({ device, fn: number })),
});

function unit(base: number, scopes: RemappingUnit["scopes"], includeAll = false): RemappingUnit {
  return { name: `vtd@${base.toString(16)}`, base, segment: 0, includeAll, scopes, proximity: null };
}

function setUp(dmar: Partial<Dmar>): { set: IommuSet; bridge: HostBridge; source: (of: PciFunction) => [string, number, boolean] | null } {
  const whole: Dmar = { addressWidth: 48, interruptRemapping: true, x2apicOptOut: false, units: [], reserved: [], ats: [], ...dmar };
  const firmware = { dmar: whole, reservedWindows: [] } as unknown as FirmwareDescription;
  const set = new IommuSet({ firmware: () => firmware } as ConstructorParameters<typeof IommuSet>[0]);
  set.units.push(...whole.units.map((description) => Object.assign(Object.create(VtdDriver.prototype) as VtdDriver, { description })));
  const bridge = { description: { segment: 0, streamMaps: [] } } as unknown as HostBridge;
  return {
    set,
    bridge,
    source: (of) => {
      const found = set.sourceOf(bridge, of);
      return found === null ? null : [found.driver.name, found.sourceId, found.ats];
    },
  };
}

describe("which unit a function is behind", () => {
  const port = fn(0, 0x1c, 4, null, ROOT_PORT);
  const below = fn(5, 0, 1, port);

  it("is the one whose scope names it or a bridge above it, else the one for all others", () => {
    const { source } = setUp({ units: [unit(0xd000_0000, [scope(1, 0, [2, 0])]), unit(0xd100_0000, [scope(2, 0, [0x1c, 4])]), unit(0xd200_0000, [], true)] });
    expect(source(fn(0, 2, 0))?.[0]).toBe("vtd@d0000000");
    expect(source(fn(0, 2, 1))?.[0]).toBe("vtd@d2000000");
    expect(source(port)?.[0]).toBe("vtd@d1000000");
    expect(source(below)).toEqual(["vtd@d1000000", 0x501, false]);
  });

  it("is none where no scope names it", () => {
    const { source, set, bridge } = setUp({ units: [unit(0xd000_0000, [scope(1, 0, [2, 0]), scope(3, 0, [3, 0])])] });
    expect(source(fn(0, 3, 0))).toBeNull();
    expect(set.remapperOf(bridge, fn(0, 3, 0))).toBeNull();
  });

  it("follows a path through bridges, from the bus that it begins at", () => {
    const { source } = setUp({ units: [unit(0xd000_0000, [scope(1, 0, [0x1c, 4], [0, 1])]), unit(0xd100_0000, [scope(1, 8, [1, 0])])] });
    expect(source(below)?.[0]).toBe("vtd@d0000000");
    expect(source(fn(5, 0, 0, port))).toBeNull();
    expect(source(fn(8, 1, 0))?.[0]).toBe("vtd@d1000000");
    expect(source(fn(0, 1, 0))).toBeNull();
  });

  it("has the requester id of a conventional bridge above", () => {
    const { source } = setUp({ units: [unit(0xd000_0000, [], true)] });
    const pci = fn(0, 4, 0, null, 7);
    pci.secondary = 6;
    expect(source(fn(6, 3, 0, pci, null))?.[1]).toBe(0x600);
  });
});

describe("whether ATS may be used", () => {
  const units = [unit(0xd000_0000, [], true)];
  const [listed, other] = [fn(0, 0x1c, 4, null, ROOT_PORT), fn(0, 0x1c, 5, null, ROOT_PORT)];

  it("by integrated functions, and below the root ports that an ATSR names", () => {
    const { source } = setUp({ units, ats: [{ kind: "root-ports", segment: 0, flag: false, scopes: [scope(2, 0, [0x1c, 4])] }] });
    expect(source(fn(0, 2, 0))?.[2]).toBe(true);
    expect(source(fn(5, 0, 0, listed))?.[2]).toBe(true);
    expect(source(fn(6, 0, 0, other))?.[2]).toBe(false);
    // Not behind a conventional bridge.
    expect(source(fn(7, 0, 0, fn(5, 0, 0, listed, null)))?.[2]).toBe(false);
  });

  it("below all root ports of the segment where an ATSR says so", () => {
    const all = { kind: "root-ports", flag: true, scopes: [] } as const;
    expect(setUp({ units, ats: [{ ...all, segment: 0 }] }).source(fn(6, 0, 0, other))?.[2]).toBe(true);
    expect(setUp({ units, ats: [{ ...all, segment: 1 }] }).source(fn(6, 0, 0, other))?.[2]).toBe(false);
  });
});

describe("windows of a function's domains", () => {
  it("are the interrupt range, and RMRRs that name it, mapped to themselves", () => {
    const units = [unit(0xd000_0000, [], true)];
    const { set } = setUp({ units, reserved: [{ base: 0x7b80_0000, size: 0x1000, segment: 0, scopes: [scope(1, 0, [2, 0])] }] });
    const windows = (of: PciFunction): unknown[] => set.windowsFor(set.units[0], [of.bdf], of).map(({ base, size, identity }) => [base, size, identity]);
    expect(windows(fn(0, 2, 0))).toEqual([[0xfee0_0000, 0x10_0000, false], [0x7b80_0000, 0x1000, true]]);
    expect(windows(fn(0, 3, 0))).toEqual([[0xfee0_0000, 0x10_0000, false]]);
  });
});
