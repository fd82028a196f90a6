import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { parseArguments, readArguments } from "../../src/machine/arguments/index.js";
import { type OptionFate, optionFate, optionRules } from "../../src/machine/arguments/other-options.js";
import { words } from "./refused.js";

/** What record-options.mjs has read off `-help`. */
const recorded = (version: string): string[] => {
  const { options } = JSON.parse(readFileSync(new URL(`qemu-${version}-options.json`, import.meta.url), "utf8")) as { options: Record<string, string[]> };
  return [...new Set(Object.values(options).flat())];
};
const count = (names: readonly string[]): Record<OptionFate, number> => {
  const fates = names.map((name) => optionFate(optionRules.get(name)!));
  const of = (fate: OptionFate): number => fates.filter((one) => one === fate).length;
  return { taken: of("taken"), noted: of("noted"), gone: of("gone"), refused: of("refused") };
};
const devices = (line: string): string[] => parseArguments(words(line)).devices.map(({ model, properties, devfn }) => [model.name, devfn < 0 ? "" : `@${(devfn >> 3).toString(16)}.${devfn & 7}`, properties.has("drive") ? `=${String(properties.get("drive"))}` : ""].join(""));

describe("every option", () => {
  it("of QEMU 11.1 is known: taken, or noted, or refused with a reason", () => {
    const names = recorded("11.1");
    expect(names.filter((name) => !optionRules.has(name))).toEqual([]);
    expect(count(names)).toEqual({ taken: 54, noted: 48, gone: 0, refused: 10 });
  });

  it("of QEMU 7.2 is known, those that are gone with what replaced them", () => {
    const names = recorded("7.2");
    expect(names.filter((name) => !optionRules.has(name))).toEqual([]);
    expect(count(names)).toEqual({ taken: 53, noted: 44, gone: 10, refused: 10 });
  });

  it("that QEMU has no more is told with what replaced it", () => {
    const current = new Set(recorded("11.1"));
    const gone = [...optionRules.values()].filter((rule) => rule.gone !== undefined);
    expect(gone).toHaveLength(43);
    for (const { name, argument } of gone) {
      expect(current.has(name), name).toBe(false);
      const value = { watchdog: "i6300esb", soundhw: "hda", balloon: "virtio", "no-kvm-irqchip": "" }[name] ?? "x";
      const { arguments: args, findings } = readArguments(["-M", "q35", "-nodefaults", `-${name}`, ...(argument ? [value] : [])]);
      expect(args, `${name}: ${findings.map((one) => one.words).join("; ")}`).not.toBeNull();
      expect(findings[0].words, name).toMatch(/^-[\w-]+.*: QEMU [\d.]+ has it no more, .+ (?:is in its place); (?:taken as -|it has no effect here)/);
      expect(findings[0].place?.word, name).toBe(3);
    }
    expect(parseArguments(words("-M q35 -no-acpi -no-hpet")).machine.acpi).toBe(false);
    expect(parseArguments(words("-M virt -no-kvm")).machine.accelerator).toBe("tcg");
    expect(devices("-M q35 -nodefaults -device edu -watchdog i6300esb -soundhw hda -balloon virtio,addr=9")).toEqual(["edu", "i6300esb", "intel-hda", "hda-duplex", "virtio-balloon-pci@9.0"]);
  });
});

describe("functions that other options ask for", () => {
  it("are made in the order in which QEMU makes them", () => {
    // As `info pci` of QEMU 11.1 has them for this line.
    const line = "-M q35 -S -drive if=virtio,file=/dev/null,format=raw -device '{\"driver\":\"edu\",\"id\":\"json\"}' -device edu,id=x -virtfs local,path=/tmp,mount_tag=t,security_model=none -nic user,model=e1000e -vga std -usb";
    expect(devices(line)).toEqual([
      "VGA", "e1000e",
      "ich9-usb-ehci1@1d.7", "ich9-usb-uhci1@1d.0", "ich9-usb-uhci2@1d.1", "ich9-usb-uhci3@1d.2",
      "edu", "virtio-9p-pci", "virtio-blk-pci=virtio0", "edu",
    ]);
  });

  it("are the board's defaults where nothing else is said", () => {
    expect(devices("-M virt -nic user -hda x.img -cdrom y.iso -usb -vga none")).toEqual(["virtio-net-pci", "virtio-blk-pci=virtio0", "virtio-blk-pci=virtio1"]);
    expect(devices("-M q35 -nic user,mac=52:54:00:00:00:01 -net nic,model=virtio,addr=7 -net user -hda x.img -cdrom y.iso -vga qxl -fda z -pflash f")).toEqual(["qxl-vga", "e1000e", "virtio-net-pci@7.0"]);
    expect(devices("-M q35 -nic none -net none -audio none,model=ac97 disk.qcow2")).toEqual(["AC97"]);
    expect(parseArguments(words("-M q35 -usb -machine usb=off")).devices).toEqual([]);
    expect(parseArguments(words("-M q35 -nic none")).notes).toEqual(["QEMU adds a VGA and a CD drive where -nodefaults is not said; viommu makes what is asked for and no more"]);
    expect(parseArguments(words("-M virt -nic none")).notes).toEqual([]);
  });
});

describe("options of files and of -set", () => {
  it("-readconfig reads a file, whose lines are the places", () => {
    const folder = mkdtempSync(join(tmpdir(), "viommu-"));
    try {
      const file = join(folder, "a.cfg");
      writeFileSync(file, '# a comment\n[machine]\n  type = "q35"\n\n[device "rp"]\n  driver = "pcie-root-port"\n  chassis = "1"\n  addr = "1c.0"\n[memory]\n  size = "2G"\n[device "x"]\n  driver = "edu"\n  foo = "1"\n');
      const { findings } = readArguments(["-nodefaults", "-readconfig", file]);
      expect(findings.map(({ words: said, place }) => [said, place?.source, place?.line])).toEqual([["Property 'edu.foo' not found", file, 11]]);
      writeFileSync(file, '[machine]\n  type = "q35"\n[device "rp"]\n  driver = "pcie-root-port"\n  chassis = "1"\n  addr = "1c.0"\n[memory]\n  size = "2G"\n[smp-opts]\n  cpus = "4"\n');
      const args = parseArguments(["-nodefaults", "-readconfig", file]);
      expect([args.machine.type, args.memory.size, args.smp.cpus, args.devices[0].id, args.devices[0].devfn]).toEqual(["pc-q35-11.1", 2 ** 31, 4, "rp", 0xe0]);
      writeFileSync(file, "driver = x");
      expect(readArguments(["-M", "q35", "-readconfig", file]).findings[0].words).toBe("parse error");
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it("-readconfig knows what Proxmox's q35 machines have where its file is not there", () => {
    const args = parseArguments(words("/usr/bin/kvm -id 100 -nodefaults -readconfig /usr/share/qemu-server/pve-q35-4.0.cfg -machine type=q35+pve0 -device vfio-pci,host=0000:01:00.0,bus=ich9-pcie-port-1,addr=0x0"));
    expect(args.devices.filter(({ model }) => model.name === "pcie-root-port").map(({ id, devfn }) => [id, devfn])).toEqual([0, 1, 2, 3].map((n) => [`ich9-pcie-port-${n + 1}`, 0xe0 + n]));
    expect(args.devices).toHaveLength(8 + 1 + 4 + 5 + 1);
    expect(args.notes).toContain("-readconfig /usr/share/qemu-server/pve-q35-4.0.cfg: the file is not here; the functions that Proxmox VE's pve-q35-4.0.cfg has are taken");
    expect(args.notes).toContain("-machine q35+pve0: Proxmox VE's name for q35");
  });

  it("-set changes a device that stands before it", () => {
    expect(devices("-M q35 -device edu,id=a -set device.a.addr=7")).toEqual(["edu@7.0"]);
  });

  it("the first id of an option string counts, as in QEMU, and the last of other properties", () => {
    const { devices: [edu], objects } = parseArguments(words("-M q35 -device edu,id=a,addr=5,id=b,addr=6 -object iommufd,id=a,id=b"));
    expect([edu.id, edu.devfn, objects[0].id]).toEqual(["a", 48, "a"]);
  });
});

describe("an IOMMU that stands after a passed-through function", () => {
  it("covers it, which QEMU's does not, and is told", () => {
    const notes = (line: string): string[] => parseArguments(words(line)).notes.filter((note) => note.includes("stands after"));
    const told = (iommu: string, label: string): string[] => [`${iommu}: QEMU does not put ${label} behind an IOMMU that stands after; here it does cover what is on its buses`];
    const fn = "-object iommufd,id=i -device pcie-root-port,id=rp,chassis=1,bus=";
    expect(notes(`-M q35 -nodefaults ${fn}pcie.0 -device vfio-pci,host=01:00.0,bus=rp,iommufd=i,id=f -device intel-iommu`)).toEqual(told("-device intel-iommu", "vfio-pci 'f'"));
    expect(notes(`-M q35 -nodefaults -device intel-iommu ${fn}pcie.0 -device vfio-pci,host=01:00.0,bus=rp,iommufd=i`)).toEqual([]);
    expect(notes("-M q35 -nodefaults -device e1000e -device intel-iommu")).toEqual([]);
    const arm = `-M virt -nodefaults -device pxb-pcie,id=p,bus_nr=8 ${fn}p -device vfio-pci,host=01:00.0,bus=rp,iommufd=i,id=f`;
    expect(notes(`${arm} -device arm-smmuv3,primary-bus=p`)).toEqual(told("-device arm-smmuv3,primary-bus=p", "vfio-pci 'f'"));
    expect(notes(`${arm} -device arm-smmuv3,primary-bus=pcie.0`)).toEqual([]);
  });
});

describe("machine types", () => {
  it.each([
    ["pc-q35-rhel9.6.0", "pc-q35-9.1", "RHEL's machine type, which follows pc-q35-9.1"],
    ["virt-rhel9.4.0", "virt-8.2", "RHEL's machine type, which follows virt-8.2"],
    ["pc-q35-rhel7.6.0", "pc-q35-5.2", "RHEL's machine type, which follows pc-q35-2.12, taken as pc-q35-5.2, the oldest that there is"],
    ["virt-rhel10.2.0", "virt-10.1", "RHEL's machine type, which follows virt-10.1"],
    ["q35+pve0", "pc-q35-11.1", "Proxmox VE's name for q35"],
    ["pc-q35-8.1+pve0", "pc-q35-8.1", "Proxmox VE's name for pc-q35-8.1"],
    ["virt+pve1", "virt-11.1", "Proxmox VE's name for virt"],
    ["pc-q35-noble", "pc-q35-8.2", "Ubuntu's machine type, which follows pc-q35-8.2"],
    ["pc-q35-noble-v2", "pc-q35-8.2", "Ubuntu's"],
    ["pc-q35-jammy-hpb", "pc-q35-6.2", "Ubuntu's"],
    ["virt-questing", "virt-10.1", "Ubuntu's"],
    ["ubuntu-q35", "pc-q35-11.1", "Ubuntu's name for its last machine type"],
    ["pc-q35-4.2", "pc-q35-5.2", "a machine type that QEMU 11.1 has no more, taken as pc-q35-5.2, the oldest that there is"],
    ["virt-2.12", "virt-5.2", "a machine type that QEMU 11.1 has no more"],
  ])("%s is taken as %s, which is told", (name, type, told) => {
    const { machine, notes } = parseArguments(["-M", name, "-nodefaults"]);
    expect(machine.type).toBe(type);
    expect(notes).toHaveLength(1);
    expect(notes[0]).toMatch(new RegExp(`^-machine ${name.replace(/[+.]/g, "\\$&")}: `));
    expect(notes[0]).toContain(told);
  });
});
