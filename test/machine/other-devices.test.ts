/** Functions that are placed and devices of other buses in a machine: places, buses, words of refusals, hot-plug. */
import { describe, expect, it } from "vitest";
import { Refusal } from "../../src/support/index.js";
import { ACCEL, build } from "./build.js";
import { refusalOf } from "./refused.js";

const X86 = "-M q35 -m 256M -nodefaults";
const ARM = "-M virt -m 256M -nodefaults";

/** Devices of other buses: name and bus. */
function others(line: string): string[] {
  const { machine } = build(line);
  try {
    return machine.describe().otherDevices.map(({ id, model, bus }) => `${id === "" ? model : id} ${bus ?? "-"}`);
  } finally {
    machine.shutdown();
  }
}

async function refused(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => "taken",
    (error: unknown) => {
      if (error instanceof Refusal) {
        return error.words;
      }
      throw error;
    },
  );
}

describe("placed functions", () => {
  it("have slots, multifunction and configuration space as in QEMU", () => {
    const { machine } = build(
      `${X86} -device qemu-xhci,id=u,addr=4.0,multifunction=on -device ich9-intel-hda,id=h,addr=4.1 -device virtio-rng-pci,id=r -device pcie-root-port,id=rp,chassis=1 -device virtio-rng-pci,id=s,bus=rp -device pcie-pci-bridge,id=old -device virtio-rng-pci,id=t,bus=old`,
    );
    const of = (id: string): readonly number[] => {
      const { config, bdf } = machine.board.find(id)!.fn;
      return [bdf, config.get32(0), config.get32(8), config.bytes[0x0e], config.size];
    };
    expect(["u", "h", "r", "s", "t"].map(of)).toEqual([
      [0x20, 0x000d_1b36, 0x0c03_3001, 0x80, 4096],
      [0x21, 0x293e_8086, 0x0403_0003, 0, 256],
      // Transitional on a root bus and on conventional PCI.
      [0x08, 0x1005_1af4, 0x00ff_0000, 0, 256],
      [0, 0x1044_1af4, 0x00ff_0001, 0, 4096],
      [0x08, 0x1005_1af4, 0x00ff_0000, 0, 256],
    ]);
    machine.shutdown();
    expect(refusalOf(() => build(`${X86} -device qemu-xhci,addr=4.0 -device usb-ehci,addr=4.1`)).words).toMatch(/^PCI: single function device can't be populated in function 4\.1/);
    expect(refusalOf(() => build(`${X86} -device qemu-xhci,addr=4 -device edu,addr=4`)).words).toMatch(/^PCI: slot 4 function 0 not available for edu, in use by qemu-xhci/);
  });

  it("are emulated endpoints to an IOMMU", () => {
    expect(refusalOf(() => build(`${ACCEL} -device qemu-xhci,bus=rp1`)).words).toBe("Emulated endpoint devices are not allowed when using arm-smmuv3,accel=on");
    const { machine } = build(`${X86} -device intel-iommu -device qemu-xhci,id=u`);
    expect(machine.describe().functions).toMatchObject([{ id: "u", iommu: "intel-iommu", streamId: 8, modelled: false }]);
    machine.shutdown();
  });

  it("have BARs and vectors as their properties say", () => {
    const { machine } = build(`${X86} -device VGA,id=v,vgamem_mb=64 -device pcie-root-port,id=rp,chassis=1 -device virtio-serial-pci,id=s,bus=rp,vectors=9 -device pcie-root-port,id=rq,chassis=2 -device virtio-scsi-pci,id=n,bus=rq,vectors=0`);
    const { fn } = machine.board.find("v")!;
    fn.configWrite(0x10, 4, 0xffff_ffff);
    expect([fn.configRead(0x10, 4), fn.bars.map(({ index, size }) => [index, size])]).toEqual([0xfc00_0008, [[0, 0x400_0000], [2, 0x1000]]]);
    const capability = (id: string): string[] => {
      const { bytes } = machine.board.find(id)!.fn.config;
      const found: string[] = [];
      for (let at = bytes[0x34]; at !== 0; at = bytes[at + 1]) {
        found.push(bytes[at] === 0x11 ? `11 x${(bytes[at + 2] | (bytes[at + 3] << 8)) + 1}` : bytes[at].toString(16).padStart(2, "0"));
      }
      return found;
    };
    expect(capability("s")[0]).toBe("11 x9");
    expect(capability("n")).not.toContainEqual(expect.stringMatching(/^11/));
    machine.shutdown();
  });

  it("come and go while the machine runs", async () => {
    const { machine } = build(`${X86} -device pcie-root-port,id=rp,chassis=1`);
    machine.start();
    const operator = machine.operator();
    await operator.plug("qemu-xhci,id=u,bus=rp");
    await operator.plug("usb-tablet,id=t,bus=u.0");
    expect(machine.describe().otherDevices).toEqual([{ id: "t", model: "usb-tablet", bus: "u.0" }]);
    expect(await refused(operator.plug("usb-kbd,id=u"))).toBe("Duplicate ID 'u' for device");
    expect(await refused(operator.plug("usb-kbd,id=t"))).toBe("Duplicate ID 't' for device");
    expect(await refused(operator.plug("VGA,bus=rp"))).toBe("Device 'VGA' does not support hotplugging");
    expect(await refused(operator.plug("qemu-xhci"))).toBe("Bus 'pcie.0' does not support hotplugging");
    const deleted: unknown[] = [];
    machine.events.subscribe((event) => {
      if (event.name === "DEVICE_DELETED") {
        deleted.push(event.data);
      }
    });
    await operator.requestUnplug("t");
    expect(machine.describe().otherDevices).toEqual([]);
    await operator.plug("usb-mouse,id=m,bus=u.0");
    // Nobody runs in this machine who would answer: what is on the function's bus goes with it.
    machine.board.otherDevices.functionGone(machine.board.find("u")!.fn);
    expect(machine.describe().otherDevices).toEqual([]);
    expect(deleted).toEqual([{ device: "t", path: "/machine/peripheral/t" }]);
    machine.shutdown();
  });
});

describe("devices of other buses", () => {
  it("go on the bus that is named, or the first of its kind with room", () => {
    expect(
      others(
        `${X86} -device qemu-xhci,id=u -device usb-tablet,id=t -device virtio-scsi-pci,id=s -device scsi-cd,id=cd,bus=s.0 -device ich9-intel-hda -device hda-micro,id=mic,audiodev=a -device ide-cd,id=o,bus=ide.2 -device isa-serial,id=ser -device virtio-serial-pci -device virtserialport,id=p -device usb-storage,id=st,drive=x,bus=u.0 -device scsi-hd,id=hd,drive=y,bus=st.0 -device vmcoreinfo -device tpm-crb,tpmdev=z`,
      ),
    ).toEqual(["t u.0", "cd s.0", "mic hda.0", "o ide.2", "ser isa.0", "p virtio-serial-bus.0", "st u.0", "hd st.0", "vmcoreinfo -", "tpm-crb -"]);
    expect(others(`${ARM} -device virtio-blk-device,drive=x -device virtio-net-device -device virtio-rng-device,bus=virtio-mmio-bus.7`)).toEqual([
      "virtio-blk-device virtio-mmio-bus.0",
      "virtio-net-device virtio-mmio-bus.1",
      "virtio-rng-device virtio-mmio-bus.7",
    ]);
    // Without ids buses are counted by their types, behind those of the board.
    expect(others(`${X86} -device ich9-ahci -device ide-cd,bus=ide.8 -device qemu-xhci -device nec-usb-xhci -device usb-kbd,bus=usb-bus.1`)).toEqual(["ide-cd ide.8", "usb-kbd usb-bus.1"]);
  });

  it.each([
    [`${X86} -device usb-tablet`, "No 'usb-bus' bus found for device 'usb-tablet'", "-device qemu-xhci before it"],
    [`${X86} -device usb-tablet,bus=x.0`, "Bus 'x.0' not found", "-device qemu-xhci before it"],
    [`${X86} -device qemu-xhci,id=usb -device usb-tablet,bus=usb.1`, "Bus 'usb.1' not found", "did you mean usb.0?"],
    [`${X86} -device usb-tablet,bus=pcie.0`, "Device 'usb-tablet' can't go on PCIE bus", "qemu-xhci"],
    [`${X86} -device qemu-xhci,id=u -device scsi-hd,drive=d,bus=u.0`, "Device 'scsi-hd' can't go on usb-bus bus", "virtio-scsi-pci"],
    [`${X86} -device virtio-scsi-pci -device scsi-hd`, "drive property not set", "drive="],
    [`${X86} -device virtio-blk-device,drive=d`, "No 'virtio-bus' bus found for device 'virtio-blk-device'", ""],
    [`${ARM} -device virtio-rng-device,bus=virtio-mmio-bus.3 -device virtio-net-device,bus=virtio-mmio-bus.3`, "Bus 'virtio-mmio-bus.3' is full", ""],
    [`${ARM} -device ide-cd`, "No 'IDE' bus found for device 'ide-cd'", "-device ich9-ahci"],
    [`-M q35,sata=off -m 256M -nodefaults -device ide-cd`, "No 'IDE' bus found for device 'ide-cd'", "ich9-ahci"],
    [`${ARM} -device m25p80`, "No 'SSI' bus found for device 'm25p80'", "nothing on this machine"],
    [`${X86} -device pci-bridge`, "Bridge chassis not specified. Each bridge is required to be assigned a unique chassis id > 0.", "chassis_nr=1"],
  ])("%s: %s", (line, words, more) => {
    const refusal = refusalOf(() => build(line));
    expect(refusal.words).toBe(words);
    expect(refusal.message).toContain(more);
  });

  it("come and go on buses that are for it", async () => {
    const { machine } = build(`${X86} -device qemu-xhci -device virtio-scsi-pci -device ich9-intel-hda -device hda-duplex,id=codec,audiodev=a -device vmgenid,id=gen`);
    machine.start();
    const operator = machine.operator();
    expect(await refused(operator.plug("scsi-cd,id=cd"))).toBe("taken");
    expect(await refused(operator.plug("hda-micro,audiodev=a"))).toBe("Bus 'hda.0' does not support hotplugging");
    expect(await refused(operator.plug("ide-cd,bus=ide.1"))).toBe("Bus 'ide.1' does not support hotplugging");
    expect(await refused(operator.plug("vmgenid"))).toBe("Device 'vmgenid' does not support hotplugging");
    expect(await refused(operator.requestUnplug("codec"))).toBe("Bus 'hda.0' does not support hotplugging");
    expect(await refused(operator.requestUnplug("gen"))).toBe("Device 'vmgenid' does not support hotplugging");
    expect(await refused(operator.requestUnplug("cd"))).toBe("taken");
    expect(machine.describe().otherDevices.map(({ id }) => id)).toEqual(["codec", "gen"]);
    machine.shutdown();
  });
});

describe("older names", () => {
  it("are taken as today's, with a note", () => {
    const { machine } = build(`${X86} -device virtio-net-pci-non-transitional,id=n -device virtio-scsi,id=s`);
    expect(machine.describe().functions.map(({ id, model, modelled }) => [id, model, modelled])).toEqual([["n", "virtio-net-pci", true], ["s", "virtio-scsi-pci", false]]);
    expect(machine.board.args.notes).toContain("virtio-net-pci-non-transitional: taken as virtio-net-pci: the modern device, as disable-legacy=on says today");
    machine.shutdown();
  });
});

describe("buses that are not modelled have as many places as QEMU's", () => {
  const repeated = (text: string, count: number): string => Array.from({ length: count }, () => text).join(" ");
  it.each([
    ["-device ide-cd -device ide-cd", "Can't create IDE unit 1, bus supports only 1 units"],
    ["-device ide-cd,bus=ide.0,unit=1", "Can't create IDE unit 1, bus supports only 1 units"],
    ["-device ide-cd,bus=ide.0,unit=0 -device ide-cd,bus=ide.0,unit=0", "IDE unit 0 is in use"],
    ["-device piix3-ide,id=p -device ide-cd,bus=p.0,unit=2", "Can't create IDE unit 2, bus supports only 2 units"],
    ["-device qemu-xhci,p2=2,p3=2,id=x -device usb-tablet,bus=x.0,port=9", "usb port 9 (bus x.0) not found (in use?)"],
    ["-device qemu-xhci,id=x -device usb-tablet,bus=x.0,port=1 -device usb-kbd,bus=x.0,port=1", "usb port 1 (bus x.0) not found (in use?)"],
    ["-device ich9-intel-hda -device hda-duplex,cad=15", "HDA audio codec address is full"],
    [`-device ich9-intel-hda ${repeated("-device hda-duplex", 16)}`, "HDA audio codec address is full"],
  ])("%s", (line, words) => {
    expect(refusalOf(() => build(`${X86} ${line}`)).words).toBe(words);
  });

  it("take what fits: a hub before the last port, ports of a hub, two units of a parallel controller", () => {
    expect(others(`${X86} -device qemu-xhci,id=x,p2=1,p3=1 ${repeated("-device usb-tablet", 3)}`)).toHaveLength(3);
    expect(others(`${X86} -device qemu-xhci,id=x -device usb-hub,bus=x.0,port=2 -device usb-kbd,bus=x.0,port=2.8`)).toHaveLength(2);
    expect(others(`${X86} -device piix3-ide,id=p ${repeated("-device ide-cd,bus=p.0", 2)}`)).toHaveLength(2);
    expect(others(`${X86} -M usb=on ${repeated("-device usb-tablet", 2)}`)).toHaveLength(2);
  });
});
