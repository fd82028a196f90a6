/** What firmware gives a guest, read as a guest reads it: the device tree at the start of RAM, ACPI tables through fw_cfg. */
import type { DeviceTreeNode} from "../../src/guest/firmware/device-tree.js";
import { parseDeviceTree } from "../../src/guest/firmware/device-tree.js";
import type { Observation } from "./agreement.js";
import type { Driver } from "./driver.js";

const RAM = 0x4000_0000;
/** fw_cfg of `virt`: data at 0, the selector at 8, big-endian (QEMU docs/specs/fw_cfg.rst). */
const FW_CFG = 0x0902_0000;
const FILE_DIRECTORY = 0x19;
const ENTRY_BYTES = 64;

/** Selects an item and reads bytes of it. */
export type FwCfgReader = (driver: Driver, selector: number, length: number) => Promise<Buffer>;

export const virtFwCfg: FwCfgReader = async (driver, selector, length) => {
  driver.write(FW_CFG + 8, 2, ((selector & 0xff) << 8) | (selector >> 8));
  const words = await Promise.all(Array.from({ length: Math.ceil(length / 8) }, () => driver.read(FW_CFG, 8)));
  return Buffer.from(BigUint64Array.from(words).buffer).subarray(0, length);
};

/** fw_cfg of x86 boards: the port of the DMA address' lower half, big-endian. */
const DMA_PORT = 0x518;
const [DMA_READ, DMA_SELECT] = [2, 8];
/** Guest-physical addresses of the request and of what it brings. */
const [REQUEST, BUFFER] = [0x0100_0000, 0x0110_0000];

export const q35FwCfg: FwCfgReader = async (driver, selector, length) => {
  const request = Buffer.alloc(16);
  request.writeUInt32BE(((selector << 16) | DMA_SELECT | DMA_READ) >>> 0, 0);
  request.writeUInt32BE(length, 4);
  request.writeBigUInt64BE(BigInt(BUFFER), 8);
  driver.store(REQUEST, request);
  const address = Buffer.alloc(4);
  address.writeUInt32BE(REQUEST);
  driver.writePort(DMA_PORT, 4, address.readUInt32LE());
  return Buffer.from(await driver.load(BUFFER, length));
};

/** An ACPI table by its signature, out of QEMU's fw_cfg. @throws Error where there is none */
export async function acpiTable(driver: Driver, signature: string, selectAndRead: FwCfgReader = virtFwCfg): Promise<Buffer> {
  const count = (await selectAndRead(driver, FILE_DIRECTORY, 4)).readUInt32BE(0);
  const directory = await selectAndRead(driver, FILE_DIRECTORY, 4 + count * ENTRY_BYTES);
  for (let at = 4; at < directory.length; at += ENTRY_BYTES) {
    const name = directory.toString("latin1", at + 8, at + ENTRY_BYTES).replace(/\0.*$/s, "");
    if (name === "etc/acpi/tables") {
      const tables = await selectAndRead(driver, directory.readUInt16BE(at + 4), directory.readUInt32BE(at));
      for (let table = 0; table + 8 <= tables.length; ) {
        const length = tables.readUInt32LE(table + 4);
        if (tables.toString("latin1", table, table + 4) === signature) {
          return tables.subarray(table, table + length);
        }
        // FACS and DSDT stand there, too; between tables there may be padding.
        table += length >= 8 && /^[A-Z0-9]{4}$/.test(tables.toString("latin1", table, table + 4)) ? length : 4;
      }
    }
  }
  throw new Error(`${driver.name} has no ${signature}`);
}

/** A table without what names who made it: the checksum, OEM id, table id and revision, creator. */
export function anonymousTable(table: Uint8Array): string {
  const copy = Buffer.from(table);
  copy.fill(0, 9, 36);
  return copy.toString("hex");
}

export async function deviceTree(driver: Driver): Promise<DeviceTreeNode> {
  const header = Buffer.from(await driver.load(RAM, 8));
  return parseDeviceTree(await driver.load(RAM, header.readUInt32BE(4)));
}

/** Nodes that an operating system finds PCI, its IOMMU, its interrupts and the memory by. */
const NODES = /^\/(intc@|smmuv3@|pcie@|memory@)/;
/** Properties with references to other nodes. */
const REFERENCES = new Set(["interrupt-parent", "interrupt-map", "iommu-map", "msi-map", "msi-parent", "iommus"]);

/** The properties of those nodes as text; a reference to a node is its path. */
export function describeTree(root: DeviceTreeNode): Observation {
  const nodes: DeviceTreeNode[] = [];
  const visit = (node: DeviceTreeNode): void => {
    nodes.push(node);
    node.children.forEach(visit);
  };
  visit(root);
  const paths = new Map(nodes.filter((node) => node.has("phandle")).map((node) => [node.cell("phandle", 0), node.path]));
  const out: Observation = {};
  for (const node of nodes.filter(({ path }) => NODES.test(path))) {
    for (const [name, bytes] of node.properties) {
      if (name !== "phandle") {
        out[`${node.path} ${name}`] = REFERENCES.has(name) ? node.cells(name).map((cell) => paths.get(cell) ?? cell.toString(16)).join(" ") : Buffer.from(bytes).toString("hex");
      }
    }
  }
  return out;
}
