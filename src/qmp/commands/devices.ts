/** device_add, device_del, object-add, object-del (QEMU's qapi/qdev.json, qapi/qom.json). */
import type { PciFunction } from "../../pci/index.js";
import { type Arguments, type QmpCommand, text } from "../command.js";
import { generic, QmpError } from "../errors.js";
import { formatJson } from "../json.js";
import { resolvePath } from "../qom/node.js";
import { qomTree } from "../qom/tree.js";
import type { MonitorTarget } from "../target.js";

export const deviceCommands: readonly QmpCommand[] = [
  {
    name: "device_add",
    parameters: {},
    open: true,
    run: (args, { target }) => {
      if (typeof args.driver !== "string") {
        throw generic("Parameter 'driver' is missing");
      }
      target.machine.hotplug.plug(formatJson({ ...args }));
      return undefined;
    },
  },
  {
    name: "device_del",
    parameters: { id: text },
    run: ({ id }, { target }) => {
      unplug(target, id as string);
      return undefined;
    },
  },
  {
    name: "object-add",
    parameters: { "qom-type": text, id: text },
    open: true,
    run: (args: Arguments, { target }) => {
      target.machine.board.objects.add(formatJson({ ...args }));
      return undefined;
    },
  },
  {
    name: "object-del",
    parameters: { id: text },
    run: ({ id }, { target }) => {
      target.machine.board.objects.delete(id as string);
      return undefined;
    },
  },
];

/** device_del, of an id or a path. The guest is asked; DEVICE_DELETED tells when the device has gone. @throws QmpError or Refusal */
export function unplug(target: MonitorTarget, id: string): void {
  const { board, hotplug } = target.machine;
  const device = findDevice(target, id);
  const iommu = board.iommus.find((one) => one.device === device);
  if (iommu !== undefined) {
    throw generic(`Device '${iommu.argument?.model.name ?? "arm-smmuv3"}' does not support hotplugging`);
  }
  const dimm = board.memoryDevices.list.find((one) => one === device);
  if (dimm !== undefined) {
    hotplug.unplugMemory(dimm);
    return;
  }
  const other = board.otherDevices.list.find((one) => one === device);
  if (other !== undefined) {
    hotplug.removeOther(other);
    return;
  }
  const fn = device as PciFunction;
  if (hotplug.isAsked(fn)) {
    throw generic(`Device ${id} is already in the process of unplug`);
  }
  hotplug.ask(fn);
}

function findDevice(target: MonitorTarget, id: string): object {
  const { names } = target.machine.board;
  const notFound = (): QmpError => new QmpError("DeviceNotFound", `Device '${id}' not found`);
  if (!id.startsWith("/")) {
    const device = names.in("peripheral").get(id);
    if (device === undefined) {
      throw notFound();
    }
    return device;
  }
  const found = resolvePath(qomTree(target), id);
  if (found === null || found === "ambiguous") {
    throw notFound();
  }
  const devices = [...names.in("peripheral").values(), ...names.in("peripheral-anon").values()];
  const device = devices.find((one) => names.pathOf(one) === found.path);
  if (device === undefined) {
    throw generic(`${id} is not a device`);
  }
  return device;
}
