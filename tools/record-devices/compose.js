/** The record as it is kept: both machines' devices in one list, and what several have in common said once. */
import { changes, runs } from "./config-space.js";

/** Functions that need a device of the host's to be realized, by another of the same configuration space: bytes that differ. */
const ALIKE = new Map([
  ["vhost-scsi-pci", { as: "virtio-scsi-pci", bytes: {} }],
  ["vhost-scsi-pci-transitional", { as: "virtio-scsi-pci-transitional", bytes: {} }],
  ["vhost-scsi-pci-non-transitional", { as: "virtio-scsi-pci-non-transitional", bytes: {} }],
  ["vhost-vsock-pci", { as: "vhost-user-vsock-pci", bytes: {} }],
  ["vhost-vsock-pci-non-transitional", { as: "vhost-user-vsock-pci-non-transitional", bytes: {} }],
  ["virtio-gpu-gl-pci", { as: "virtio-gpu-pci", bytes: {} }],
  ["virtio-vga-gl", { as: "virtio-vga", bytes: {} }],
  // Class 0x0980, other input devices.
  ["virtio-input-host-pci", { as: "virtio-keyboard-pci", bytes: { 0x0a: 0x80 } }],
  // Revision 1, as ivshmem-plain; its MSI-X capability is made for the vectors that its server gives.
  ["ivshmem-doorbell", { as: "ivshmem-plain", bytes: {} }],
]);

/** Said of the machine that it was tried in. */
const OF_THE_BUS = /bus found for device|bus was found but is full|already|multiple vIOMMUs|^warning:|no default audio driver|U2F USB device|backend must be one of/;

const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

/** Numbers of things that are listed once. */
class Numbers {
  list = [];
  #at = new Map();

  of(text) {
    let n = this.#at.get(text);
    if (n === undefined) {
      n = this.list.push(text) - 1;
      this.#at.set(text, n);
    }
    return n;
  }
}

/** A property as text: name, type and, where it has one, its default. */
function propertyText({ name, type, "default-value": value }) {
  return `${name} ${type.replaceAll(" ", "-")}${value === undefined || value === "" ? "" : ` ${JSON.stringify(value)}`}`;
}

/** Configuration space in each place: of the slot of a port (else of the first place that there is), and how the others differ. */
function spaceOf(places) {
  const names = ["port", "root", "conventional"].filter((name) => places[name]?.image !== undefined);
  if (names.length === 0) {
    return undefined;
  }
  const [first] = names;
  const { image, mask } = places[first];
  const out = { size: image.length, image: runs(image), mask: runs(mask) };
  for (const name of ["port", "root", "conventional"]) {
    const place = places[name];
    if (name === first || place === undefined) {
      continue;
    }
    if (place.refused !== undefined) {
      out[name] = place.refused;
      continue;
    }
    const differs = { ...(place.image.length === image.length ? {} : { size: place.image.length }) };
    const short = (bytes) => bytes.subarray(0, place.image.length);
    Object.assign(differs, changes(place.image, short(image)) === "" ? {} : { image: changes(place.image, short(image)) });
    Object.assign(differs, changes(place.mask, short(mask)) === "" ? {} : { mask: changes(place.mask, short(mask)) });
    if (Object.keys(differs).length > 0) {
      out[name] = differs;
    }
  }
  return out;
}

function alike(places, bytes) {
  return Object.fromEntries(
    Object.entries(places).map(([name, place]) => {
      if (place.image === undefined) {
        return [name, place];
      }
      const image = Buffer.from(place.image);
      Object.entries(bytes).forEach(([at, byte]) => (image[Number(at)] = byte));
      return [name, { image, mask: place.mask }];
    }),
  );
}

/** @param boards what was recorded, by the machine's name @returns the version, and the file's text: a device a line */
export function compose(boards) {
  const names = Object.keys(boards);
  const [first] = names;
  const properties = new Numbers();
  const all = new Map();
  for (const board of names) {
    for (const device of boards[board].devices) {
      all.set(device.name, { ...(all.get(device.name) ?? {}), [board]: device });
    }
  }
  const cpus = [];
  const texts = new Map();
  const entries = [];
  for (const [name, on] of [...all].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const there = Object.keys(on);
    const device = on[there[0]];
    if (device.category === "CPU") {
      cpus.push([name, there[0]]);
      continue;
    }
    const entry = { bus: device.bus ?? undefined, alias: device.alias ?? undefined, description: device.description || undefined, category: device.category };
    if (there.length < names.length) {
      entry.board = there[0];
    }
    if (!device.hotpluggable) {
      entry.cold = true;
    }
    const needs = there.map((board) => on[board].needs).find((one) => one !== undefined && !OF_THE_BUS.test(one.words));
    if (needs !== undefined) {
      entry.needs = [needs.words, needs.properties];
    }
    const makes = there.map((board) => on[board].buses).find((buses) => buses.length > 0);
    if (makes !== undefined) {
      entry.makes = makes.map(({ name: bus, type }) => [bus, type]);
    }
    // What was refused for want of a back end is no matter of the type.
    const refused = Object.fromEntries(there.filter((board) => on[board].refused !== undefined && !OF_THE_BUS.test(on[board].refused)).map((board) => [board, on[board].refused]));
    if (needs === undefined && Object.keys(refused).length > 0) {
      entry.refused = refused;
    }
    if (device.bus === "PCI") {
      const likeness = ALIKE.get(name);
      const spaces = there.map((board) => {
        const own = spaceOf(on[board].places);
        const other = likeness === undefined ? undefined : boards[board].devices.find((one) => one.name === likeness.as);
        return own ?? (other === undefined ? undefined : spaceOf(alike(other.places, likeness.bytes)));
      });
      const found = spaces.findIndex((space) => space !== undefined);
      if (found >= 0) {
        entry.space = spaces[found];
        const other = spaces.findIndex((space, n) => n > found && space !== undefined && !same(space, spaces[found]));
        if (other >= 0) {
          entry[`space-${there[other]}`] = spaces[other];
        }
        if (spaceOf(on[there[found]].places) === undefined) {
          entry.like = likeness.as;
        }
      } else {
        entry.refused = Object.fromEntries(there.map((board) => [board, (on[board].places.port ?? on[board].places.root).refused]));
      }
    }
    texts.set(name, new Set(device.properties.map(propertyText)));
    entries.push([name, entry]);
  }
  // What all of a kind have is a set of its own: PCI functions, virtio's among them, devices of each other bus.
  const kinds = [
    ["pci", ({ bus }) => bus === "PCI"],
    ["virtio-pci", (_entry, name) => /^(?:virtio|vhost)-.*-pci(?:$|-)/.test(name)],
    ["virtio", ({ bus }) => bus === "virtio-bus"],
    ["usb", ({ bus }) => bus === "usb-bus"],
    ["flash", ({ bus }) => bus === "SSI"],
  ];
  const sets = {};
  for (const [kind, is] of kinds) {
    const members = entries.filter(([name, entry]) => is(entry, name)).map(([name]) => texts.get(name));
    const common = [...(members[0] ?? [])].filter((text) => members.every((one) => one.has(text)));
    sets[kind] = common.sort().map((text) => properties.of(text));
    for (const [name, entry] of entries) {
      if (is(entry, name)) {
        entry.sets = [...(entry.sets ?? []), kind];
        common.forEach((text) => texts.get(name).delete(text));
      }
    }
  }
  for (const [name, entry] of entries) {
    const own = [...texts.get(name)].sort().map((text) => properties.of(text));
    if (own.length > 0) {
      entry.properties = own;
    }
  }
  const fixed = [...new Set(names.flatMap((board) => boards[board].fixed))].filter((name) => !all.has(name)).sort();
  const buses = Object.fromEntries(names.map((board) => [board, boards[board].own.map(({ name, type }) => [name, type])]));
  const lines = [
    `"qemu": ${JSON.stringify(boards[first].version)}`,
    `"buses": ${JSON.stringify(buses)}`,
    `"properties": ${JSON.stringify(properties.list)}`,
    `"sets": ${JSON.stringify(sets)}`,
    `"cpus": ${JSON.stringify(Object.fromEntries(names.map((board) => [board, cpus.filter(([, on]) => on === board).map(([name]) => name)])))}`,
    `"fixed": ${JSON.stringify(fixed)}`,
    `"devices": {\n${entries.map(([name, entry]) => `${JSON.stringify(name)}: ${JSON.stringify(entry)}`).join(",\n")}\n}`,
  ];
  return { version: boards[first].version, text: `{\n${lines.join(",\n")}\n}\n` };
}
