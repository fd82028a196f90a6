import { describe, expect, test } from "vitest";
import { describeHost, SimulatedHardware, SimulatedKernel } from "../../../src/host/simulated/index.js";
import { A, bind, DATA, GPA, GuestTables, hostInput, nested, readText, TABLES } from "./rig.js";

/** The guest's first table, in memory that the parent maps read-only. */
const READ_ONLY = 0x1000_0000;

/** Under a kernel that knows of no erratum: what is read through tables in read-only memory, and their first entry afterwards. */
function walkReadOnly(errata: Array<"772415">): { read: string | null; entry: bigint } {
  const hardware = SimulatedHardware.fromDescription(describeHost(hostInput({ errata })));
  for (const unit of hardware.vtds.values()) {
    unit.hasErratum = () => false;
  }
  const kernel = new SimulatedKernel(hardware, "test", { version: "7.3", config: null });
  const iommufd = kernel.openIommufd();
  const ram = kernel.allocateMemory("guest", 0x400_0000);
  ram.write(DATA, new TextEncoder().encode("here"));
  const tables = new GuestTables(ram);
  tables.map(0x1000, GPA + DATA);
  const ioasId = iommufd.ioasAlloc();
  const map = (offset: number, length: number, iova: number, writable: boolean): unknown =>
    iommufd.ioasMap({ ioasId, source: { address: ram.hostAddress + offset }, length: BigInt(length), iova: BigInt(iova), readable: true, writable });
  map(0, ram.size, GPA, true);
  map(TABLES, 0x1000, READ_ONLY, false);
  const a = bind(kernel, iommufd, A);
  const parent = iommufd.hwptAlloc({ flags: 1, devId: a.devId, ptId: ioasId, dataType: 0, data: new Uint8Array(0) });
  a.device.attach(nested(iommufd, a.devId, parent, { root: READ_ONLY }));
  return { read: readText(a, 0x1000, 4), entry: tables.load(TABLES) & 0xfffn };
}

describe("erratum 772415", () => {
  test("a unit without it faults where accessed bits would go to read-only memory; one with it writes them", () => {
    expect(walkReadOnly([])).toEqual({ read: null, entry: 0x7n });
    expect(walkReadOnly(["772415"])).toEqual({ read: "here", entry: 0x27n });
  });
});
