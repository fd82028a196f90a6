import { describe, expect, it } from "vitest";
import { splitWords } from "../../src/machine/arguments/argument-file.js";
import { parseArguments } from "../../src/machine/arguments/arguments.js";
import { dropProgram } from "../../src/machine/arguments/program.js";
import { editDistance, nearest } from "../../src/machine/arguments/nearest.js";
import { refusalOf, words } from "./refused.js";

const parse = (line: string): ReturnType<typeof parseArguments> => parseArguments(words(line));

describe("a command line as QEMU spells it", () => {
  it("takes machine, memory, processors, objects and devices in their order", () => {
    const args = parse(
      "/usr/bin/qemu-system-aarch64 -machine virt,accel=kvm,gic-version=3 -cpu host -smp 4,maxcpus=8 -m 64G -nodefaults " +
        "-object iommufd,id=iommufd0 -device pxb-pcie,id=pcie.1,bus_nr=0x10,bus=pcie.0 " +
        "-device arm-smmuv3,primary-bus=pcie.1,id=smmu1,accel=on,ats=on,ril=off,oas=48,ssidsize=16 " +
        "-device pcie-root-port,id=rp1,bus=pcie.1,chassis=1,addr=2.0 -device vfio-pci,host=9:1:0.0,bus=rp1,iommufd=iommufd0,id=gpu0",
    );
    expect(args.machine).toMatchObject({ type: "virt-11.1", accelerator: "kvm", gicVersion: "3", iommu: "none" });
    expect(args.memory.size).toBe(64 * 2 ** 30);
    expect(args.smp).toMatchObject({ cpus: 4, maxCpus: 8 });
    expect(args.cpu).toBe("host");
    expect(args.objects.map((object) => [object.type, object.id])).toEqual([["iommufd", "iommufd0"]]);
    expect(args.devices.map((device) => device.model.name)).toEqual(["pxb-pcie", "arm-smmuv3", "pcie-root-port", "vfio-pci"]);
    expect(Object.fromEntries(args.devices[1].properties)).toEqual({
      "primary-bus": "pcie.1",
      accel: true,
      ats: "on",
      ril: "off",
      oas: "48",
      ssidsize: "16",
    });
    expect(args.devices[0].properties.get("bus_nr")).toBe(16);
    expect(args.devices[2].devfn).toBe(16);
    expect(args.devices[3]).toMatchObject({ id: "gpu0", bus: "rp1", devfn: -1 });
    expect(args.devices[3].properties.get("host")).toBe("0009:01:00.0");
    expect(args.notes).toEqual([]);
  });

  it("takes the JSON form of -device and -object, as libvirt writes it", () => {
    const args = parse(
      "-machine virt -nodefaults -object '{\"qom-type\":\"iommufd\",\"id\":\"iommufd0\",\"fd\":\"25\"}' " +
        '-device \'{"driver":"pcie-root-port","port":8,"chassis":1,"id":"pci.1","bus":"pcie.0","multifunction":true,"addr":"0x1"}\' ' +
        '-device \'{"driver":"vfio-pci","host":"0009:01:00.0","id":"hostdev0","iommufd":"iommufd0","bus":"pci.1","addr":"0x0"}\'',
    );
    expect(args.devices[0]).toMatchObject({ id: "pci.1", bus: "pcie.0", devfn: 8 });
    expect(Object.fromEntries(args.devices[0].properties)).toMatchObject({ port: 8, chassis: 1, multifunction: true });
    expect(args.devices[1].devfn).toBe(0);
    expect([args.notes, args.objects[0].fd]).toEqual([[], "25"]);
  });

  it("takes slot and function with 0x before each, as libvirt writes them", () => {
    const devfn = (text: string): number => parse(`-M virt -device edu,addr=${text}`).devices[0].devfn;
    expect(["0x2.0x1", "2.1", "0x1f.7", "003", "0x0"].map(devfn)).toEqual([17, 17, 255, 24, 0]);
    expect(parse('-M virt -device \'{"driver":"edu","addr":"0x2.0x1"}\'').devices[0].devfn).toBe(17);
  });

  it("takes a comma at the end of an argument for nothing, as QEMU does", () => {
    const args = parse("-M virt, -m 1G, -object iommufd,id=a, -device edu,addr=1,");
    expect([args.machine.type, args.memory.size, args.objects[0].id, args.devices[0].devfn]).toEqual(["virt-11.1", 2 ** 30, "a", 8]);
  });

  it("computes the levels of -smp that are not said", () => {
    const smp = (text: string): unknown => parse(`-M virt -smp ${text}`).smp;
    expect(["4", "4,maxcpus=8,sockets=2,cores=4", "sockets=2,cores=4", "8,sockets=1,dies=1,clusters=1,cores=8,threads=1", "clusters=2,cores=3"].map(smp)).toEqual([
      { cpus: 4, maxCpus: 4, sockets: 1, dies: 1, clusters: 1, modules: 1, cores: 4, threads: 1 },
      { cpus: 4, maxCpus: 8, sockets: 2, dies: 1, clusters: 1, modules: 1, cores: 4, threads: 1 },
      { cpus: 8, maxCpus: 8, sockets: 2, dies: 1, clusters: 1, modules: 1, cores: 4, threads: 1 },
      { cpus: 8, maxCpus: 8, sockets: 1, dies: 1, clusters: 1, modules: 1, cores: 8, threads: 1 },
      { cpus: 6, maxCpus: 6, sockets: 1, dies: 1, clusters: 2, modules: 1, cores: 3, threads: 1 },
    ]);
  });

  it("numbers expanders that say no bus_nr, as in QEMU's documentation, apart from those that do", () => {
    const numbers = (line: string): unknown[] => parse(`-M virt ${line}`).devices.map((device) => device.properties.get("bus_nr"));
    expect(numbers("-device pxb-pcie,id=a")).toEqual([128]);
    expect(numbers("-device pxb-pcie,id=a -device pxb-pcie,id=b,bus_nr=16 -device pxb-pcie,id=c")).toEqual([136, 16, 76]);
    expect(parse("-M virt,highmem-ecam=off -device pxb-pcie,id=a").devices[0].properties.get("bus_nr")).toBe(8);
    expect(numbers("-global pxb-pcie.bus_nr=5 -device pxb-pcie,id=a")).toEqual([5]);
    expect(parse("-M virt -nodefaults -device pxb-pcie,id=a").notes).toEqual(["pxb-pcie 'a': no bus_nr is said, it takes 128"]);
  });

  it("takes what only a real guest needs with a line for each", () => {
    const args = parse(
      "-M virt -nodefaults -no-user-config -S -bios QEMU_EFI.fd -kernel Image -append root=/dev/vda -display none -monitor none -serial stdio " +
        "-drive file=a.img,if=none,id=d0 -device virtio-blk-pci,drive=d0 -netdev user,id=n0 -device virtio-net-pci,netdev=n0,mac=52:54:00:12:34:56 -uuid 8c3bd1e0-1f5e-4a5e-9f3e-000000000001 -name guest=vm,debug-threads=on",
    );
    expect(args.name).toBe("vm");
    expect(args.notes).toHaveLength(9);
    expect(args.notes.join("\n")).toContain("virtio-net-pci: without effect here: netdev, mac");
    expect(args.notes.join("\n")).not.toContain("display");
  });

  it("says that QEMU's own network card is not there where -nodefaults is not said", () => {
    expect(parse("-M virt").notes[0]).toContain("-nodefaults");
  });

  it("adds -machine options up, with underscores for hyphens, and takes -global and older machine types' defaults", () => {
    const args = parse("-M virt-10.2,default_bus_bypass_iommu=on -M msi=gicv2m -enable-kvm -global pcie-root-port.chassis=7 -device pcie-root-port -device arm-smmuv3,primary-bus=pcie.0");
    expect(args.machine).toMatchObject({ type: "virt-10.2", bypassIommu: true, msi: "gicv2m", accelerator: "kvm" });
    expect(args.devices[0].properties.get("chassis")).toBe(7);
    expect(args.devices[1].properties.get("oas")).toBe("44");
    expect(args.devices[1].properties.get("ril")).toBe("on");
  });

  it("has of a board's options those of the last machine type, wherever it stands", () => {
    const { machine } = parse("-M sata=off -M virt -machine type=q35 -nodefaults");
    expect(machine).toEqual({
      board: "q35",
      type: "pc-q35-11.1",
      version: [11, 1],
      acpi: true,
      acpiAuto: true,
      bypassIommu: false,
      usb: false,
      hmat: false,
      memoryBackend: null,
      accelerator: null,
      kernelIrqchip: null,
      maxRamBelow4g: 2 ** 32,
      sata: false,
      smbus: true,
    });
    expect(Object.keys(parse("-M q35 -M virt").machine)).not.toContain("sata");
  });

  it("reads sizes with their suffixes, megabytes where there is none", () => {
    for (const [text, bytes] of [["512", 2 ** 29], ["1G", 2 ** 30], ["size=2g", 2 ** 31], ["1.5G", 1.5 * 2 ** 30], ["4096K", 2 ** 22], ["1T,slots=2,maxmem=2T", 2 ** 40]] as const) {
      expect(parse(`-M virt -m ${text}`).memory.size, text).toBe(bytes);
    }
    expect(parse("-M virt").memory.size).toBeNull();
  });

  it("takes ,, for a comma in a value", () => {
    expect(parse("-M virt -device vfio-pci,host=0009:01:00.0,iommufd=a,,b").devices[0].properties.get("iommufd")).toBe("a,b");
  });
});

describe("argument files", () => {
  it("are a shell's words with comments, continuations and quotes", () => {
    const text = `# a machine
qemu-system-aarch64 \\
  -machine virt \\
  # the GPU
  -device '{"driver":"edu", "id": "e#1"}' -append "root=/dev/vda \\"x\\"" -name it\\'s
-m 4G # enough`;
    expect(splitWords(text)).toEqual(["qemu-system-aarch64", "-machine", "virt", "-device", '{"driver":"edu", "id": "e#1"}', "-append", 'root=/dev/vda "x"', "-name", "it's", "-m", "4G"]);
  });

  it("may begin with an environment and the program, as libvirt's logs do", () => {
    expect(dropProgram(["LC_ALL=C", "PATH=/bin", "/usr/bin/qemu-system-aarch64", "-M", "virt"])).toEqual(["-M", "virt"]);
    expect(dropProgram(["-M", "virt"])).toEqual(["-M", "virt"]);
    expect(dropProgram(["qemu-system-x86_64", "-M", "q35"])).toEqual(["-M", "q35"]);
    expect(refusalOf(() => dropProgram(["qemu-system-s390x", "-M", "s390-ccw-virtio"])).words).toContain("qemu-system-s390x");
  });

  it("name the line of a quote that is not closed", () => {
    expect(refusalOf(() => splitWords("a\n'b\nc", "x.args")).words).toBe("x.args:2: the quote ' is not closed");
    expect(refusalOf(() => splitWords("a \\", "x.args")).words).toContain("x.args:1:");
  });
});

describe("spelling", () => {
  it("is measured as an editor would", () => {
    expect(editDistance("smmu", "smmu")).toBe(0);
    expect(editDistance("primary_bsu", "primary_bus")).toBe(1);
    expect(editDistance("ab", "")).toBe(2);
    expect(nearest("primary-buss", ["primary-bus", "accel"])).toBe("primary-bus");
    expect(nearest("zzz", ["primary-bus", "accel"])).toBeNull();
    expect(nearest("smmuv3", ["pxb-pcie", "arm-smmuv3"])).toBe("arm-smmuv3");
    expect(nearest("arm-smmuv3-accel", ["pxb-pcie", "arm-smmuv3"])).toBe("arm-smmuv3");
    expect(nearest("smmu", ["pxb-pcie", "arm-smmuv3"])).toBeNull();
  });
});

/** Wrong input, and the words that QEMU 11.1 has for it (the part after its program name and the option). */
const wrong: Array<[line: string, words: string, more?: string]> = [
  ["", "No machine specified, and there is no default", "-machine virt"],
  ["-M foo", 'unsupported machine type: "foo"', "virt"],
  ["-M virt-12.0", 'unsupported machine type: "virt-12.0"', "virt-11.1"],
  ["-M q35-11.1", 'unsupported machine type: "q35-11.1"', "did you mean pc-q35-11.1?"],
  ["-M pc-q35-12.0", 'unsupported machine type: "pc-q35-12.0"', "pc-q35-11.1"],
  ["-M pc", 'unsupported machine type: "pc"', "would work: q35"],
  ["-M q35,iommu=smmuv3", "Property 'pc-q35-11.1-machine.iommu' not found", "iommu=smmuv3, which is a property of virt"],
  ["-M q35,gic-version=3", "Property 'pc-q35-11.1-machine.gic-version' not found"],
  ["-M virt,max-ram-below-4g=1G", "Property 'virt-11.1-machine.max-ram-below-4g' not found", "which is a property of q35"],
  ["-M max-ram-below-4g=5G -M q35", "Machine option 'max-ram-below-4g=5368709120' expects size less than or equal to 4G"],
  ["-M q35 -smp 5000", "Invalid SMP CPUs 5000. The max CPUs supported by machine 'pc-q35-11.1' is 4096"],
  ["-M q35 -device arm-smmuv3", "'arm-smmuv3' is not a valid device model name", "intel-iommu"],
  ["-M virt -device intel-iommu", "'intel-iommu' is not a valid device model name", "-machine q35"],
  ["-M q35 -device intel-iommu,bus=pcie.0", "Device 'intel-iommu' can't go on PCIE bus", "covers every root bus"],
  ["-M q35 -device intel-iommu,primary-bus=pcie.0", "Property 'intel-iommu.primary-bus' not found", "scalable-mode"],
  ["-M q35 -device intel-iommu,addr=3", "Property 'intel-iommu.addr' not found"],
  ["-M q35 -device intel-iommu,aw-bits=999", "Parameter 'aw-bits' expects uint8_t"],
  ["-M q35 -device intel-iommu,eim=5", "Parameter 'eim' does not accept value '5'"],
  ["-M q35 -device intel-iommu,id=x -device intel-iommu,id=x", "Duplicate ID 'x' for device"],
  ["-M q35 -device intel-iommu -device intel-iommu", "QEMU does not support multiple vIOMMUs for x86 yet.", "covers every root bus"],
  ["-M q35 -device intel-iommu -device virtio-iommu-pci", "QEMU does not support multiple vIOMMUs for x86 yet.", "virtio-iommu-pci beside an intel-iommu"],
  ["-M q35 -device virtio-iommu-pci -device intel-iommu", "QEMU does not support multiple vIOMMUs for x86 yet."],
  ["-M q35 -device amd-iommu -device intel-iommu", "QEMU does not support multiple vIOMMUs for x86 yet."],
  ["-M pc -device intel-iommu", "Parameter 'driver' expects a dynamic sysbus device type for the machine", "-machine q35"],
  ["-device intel-iommu,scalable-mode=on -M pc-i440fx-9.1", "Parameter 'driver' expects a dynamic sysbus device type for the machine"],
  ["-M virt,foo=1", "Property 'virt-11.1-machine.foo' not found"],
  ["-M virt,gic-verson=3", "Property 'virt-11.1-machine.gic-verson' not found", "did you mean gic-version?"],
  ["-M virt,iommu=x", "Invalid iommu value\nValid values are none, smmuv3."],
  ["-M virt,gic-version=9", "Invalid gic-version value\nValid values are 2, 3, 4, x-5, host, and max."],
  ["-M virt,msi=foo", "Invalid msi value\nValid values are auto, gicv2m, its, off"],
  ["-M virt,its=foo", "Parameter 'its' expects 'on' or 'off'"],
  ["-M virt,highmem=maybe", "Parameter 'highmem' expects 'on' or 'off'"],
  ["-M virt,accel=foo", "invalid accelerator foo"],
  ["-M virt -accel foo", "invalid accelerator foo"],
  ["-M virt,x-oem-id=toolong", "User specified x-oem-id value is bigger than 6 bytes in size"],
  ["-M virt -device", "-device: requires an argument"],
  ["-M virt -m", "-m: requires an argument"],
  ["-M virt -foo", "-foo: invalid option"],
  ["-M virt -devcie edu", "-devcie: invalid option", "did you mean -device?"],
  ["-M virt extra", "'extra' is not an option"],
  ["-M virt -incoming defer", "-incoming: not possible here", "Migration not supported"],
  ["-M virt -xen-domid 1", "-xen-domid: not possible here", "there is no Xen"],
  ["-M virt -sd x", "machine type does not support if=sd,bus=0,unit=0", "if=virtio"],
  ["-M q35 -drive if=scsi,file=x,index=3", "machine type does not support if=scsi,bus=0,unit=3", "if=ide"],
  ["-M virt -drive if=foo,file=x", "unsupported bus type 'foo'", "if=none"],
  ["-M q35 -vga foo", "invalid argument 'foo' for -vga", "qxl"],
  ["-M q35 -nic user,model=foo", "'foo' is not a valid device model name"],
  ["-M q35 -device edu,id=a -set device.b.addr=1", 'there is no device "b" defined', "before it"],
  ["-M q35 -set foo", 'can\'t parse: "foo"', "-set device.ID"],
  ["-M q35 -readconfig /nonexistent.cfg", "Could not open '/nonexistent.cfg'"],
  ["-M q35 -device {\"driver\":\"edu\",\"id\":\"a\",\"id\":\"b\"}", "JSON parse error, duplicate key", "each name once"],
  ["-M virt -m 12x", "Parameter 'size' expects a non-negative number below 2^64", "suffix"],
  ["-M virt -m -5", "Parameter 'size' expects a non-negative number below 2^64"],
  ["-M virt -m 1G,foo=1", "Invalid parameter 'foo'"],
  ["-M virt -m 64G,slots=2", "slots specified but no max-size"],
  ["-M virt -m 4G,maxmem=2G", "invalid value of maxmem: maximum memory size (0x80000000) must be at least the initial memory size (0x100000000)"],
  ["-M virt -smp 0", "Invalid CPU topology: CPU topology parameters must be greater than zero"],
  ["-M virt -smp foo", "Parameter 'smp.cpus' expects integer"],
  ["-M virt -smp cpus=4,foo=2", "Parameter 'smp.foo' is unexpected"],
  ["-M virt -smp 8,maxcpus=4", "Invalid CPU topology: maxcpus must be equal to or greater than smp: sockets (1) * clusters (1) * cores (4) * threads (1) == maxcpus (4) < smp_cpus (8)"],
  ["-M virt -smp 4,sockets=3", "Invalid CPU topology: product of the hierarchy must match maxcpus: sockets (3) * clusters (1) * cores (1) * threads (1) != maxcpus (4)"],
  ["-M virt -smp 4,sockets=2,cores=4", "Invalid CPU topology: product of the hierarchy must match maxcpus: sockets (2) * clusters (1) * cores (4) * threads (0) != maxcpus (4)"],
  ["-M virt -smp 4,dies=2", "dies > 1 not supported by this machine's CPU topology"],
  ["-M virt -smp 600", "Invalid SMP CPUs 600. The max CPUs supported by machine 'virt-11.1' is 512"],
  ["-M virt -name guest=a,foo=1", "Invalid parameter 'foo'"],
  ["-M virt -uuid x", "failed to parse UUID string: wrong format"],
  ["-M virt -trace files=x", "Invalid parameter 'files'"],
  ["-M virt -global edu.foo=1", "Property 'edu.foo' not found"],
  ["-M virt -global arm-smmuv3.accel=7", "Parameter 'accel' expects 'on' or 'off'"],
  ["-M virt -device help", "-device help asks QEMU for a list", "viommu devices"],
  ["-M virt -numa nodeid=1", "Parameter 'type' is missing"],
  ["-M virt -global foo", "Invalid 'global' option"],
  ["-M virt -device nope", "'nope' is not a valid device model name"],
  ["-M virt -device vfio-pic", "'vfio-pic' is not a valid device model name", "did you mean vfio-pci?"],
  ["-M virt -device intel-iommu", "'intel-iommu' is not a valid device model name", "would work: arm-smmuv3"],
  ["-M virt -device virtio-iommu-pci", "'virtio-iommu-pci' is not a valid device model name", "would work: arm-smmuv3"],
  ["-M virt -device amd-iommu", "'amd-iommu' is not a valid device model name", "another IOMMU"],
  ["-M virt -device qemu-xhcy", "'qemu-xhcy' is not a valid device model name", "did you mean qemu-xhci?"],
  ["-M virt -device virtio-9p-pci", "9pfs device couldn't find fsdev with the id = NULL", "fsdev="],
  ["-M virt -device qemu-xhci,p9=1", "Property 'qemu-xhci.p9' not found", "did you mean"],
  ["-M virt -device qemu-xhci,p2=x", "Parameter 'p2' expects"],
  ["-M virt -device gpex-root", "Parameter 'driver' expects a pluggable device type", "a part of machines"],
  ["-M virt -device isa-serial", "'isa-serial' is not a valid device model name", "-machine q35"],
  ["-M virt -device id=a", "Parameter 'driver' is missing"],
  ["-M virt -device edu,foo=1", "Property 'edu.foo' not found", "dma_mask"],
  ["-M virt -device arm-smmuv3,foo=1", "Property 'arm-smmuv3.foo' not found", "primary-bus, accel, stage, ril, ats, oas, ssidsize, cmdqv"],
  ["-M virt -device arm-smmuv3,primary_buss=pcie.0", "Property 'arm-smmuv3.primary_buss' not found", "did you mean primary-bus?"],
  ["-M virt -device arm-smmuv3,ssidsize=21", "Parameter 'ssidsize' does not accept value '21'", "0 to 20, auto"],
  ["-M virt -device arm-smmuv3,oas=43", "Parameter 'oas' does not accept value '43'"],
  ["-M virt -device arm-smmuv3,ril=maybe", "Parameter 'ril' does not accept value 'maybe'", "on, off, auto"],
  ["-M virt -device arm-smmuv3,accel=maybe", "Parameter 'accel' expects 'on' or 'off'"],
  ["-M virt -device arm-smmuv3,bus=pcie.0", "Device 'arm-smmuv3' can't go on PCIE bus", "primary-bus=pcie.0"],
  ["-M virt -device arm-smmuv3,msi-gpa=0x8090040", "Property 'arm-smmuv3.msi-gpa' cannot be set here"],
  ["-M virt -device edu,id=1a", "Parameter 'id' expects an identifier", "starting with a letter"],
  ["-M virt -device edu,id=", "Parameter 'id' expects an identifier"],
  ["-M virt -device edu,id=a -device edu,id=a", "Duplicate ID 'a' for device"],
  ["-M virt -device edu,addr=99", "Property 'edu.addr' doesn't take value '99'"],
  ["-M virt -device edu,addr=1.9", "Property 'edu.addr' doesn't take value '1.9'"],
  ["-M virt -device edu,multifunction=maybe", "Parameter 'multifunction' expects 'on' or 'off'"],
  ["-M virt -device edu,dma_mask=foo", "Parameter 'dma_mask' expects integer"],
  ["-M virt -device edu,addr=1,,multifunction=on", "Property 'edu.addr' doesn't take value '1,multifunction=on'"],
  ["-M virt -device edu,,id=x", "'edu,id=x' is not a valid device model name"],
  ["-M virt -device edu,addr=0x2.0x8", "Property 'edu.addr' doesn't take value '0x2.0x8'"],
  ["-M virt -device pxb-pcie,bus_nr=300", "Parameter 'bus_nr' expects uint8_t", "0 to 255"],
  ["-M virt -device pxb-pcie,bus_nr=-1", "Parameter 'bus_nr' expects uint8_t"],
  ["-M virt -device vfio-pci,host=xx", "Property 'vfio-pci.host' doesn't take value 'xx'", "0009:01:00.0"],
  ["-M virt -device vfio-pci,x-msix-relocation=bar4", "Property 'vfio-pci.x-msix-relocation' cannot be set here", "the MSI-X table stays"],
  ["-M virt -device '{\"driver\":\"edu\"'", "JSON parse error"],
  ["-M virt -device '{\"id\":\"a\"}'", "Parameter 'driver' is missing"],
  ["-M virt -device '{\"driver\":\"edu\",\"foo\":1}'", "Property 'edu.foo' not found"],
  ["-M virt -device '{\"driver\":\"arm-smmuv3\",\"ssidsize\":5}'", "Invalid parameter type for 'ssidsize', expected: string"],
  ["-M virt -device '{\"driver\":\"pcie-root-port\",\"chassis\":\"1\"}'", "Parameter 'chassis' expects uint64"],
  ["-M virt -object '{\"qom-type\":\"memory-backend-ram\",\"id\":\"m\",\"size\":\"1G\"}'", "Parameter 'size' expects uint64"],
  ["-M virt -object memory-backend-ram,id=m,size=1x", "Parameter 'size' expects a size value"],
  ["-M virt -object memory-backend-ram,id=m,size=0", "property 'size' of memory-backend-ram doesn't take value '0'"],
  ["-M virt -device arm-smmuv3,ril=AUTO", "Parameter 'ril' does not accept value 'AUTO'"],
  ["-M virt -device '{\"driver\":\"arm-smmuv3\",\"accel\":\"on\"}'", "Invalid parameter type for 'accel', expected: boolean"],
  ["-M virt -object iommufd", "Parameter 'id' is missing"],
  ["-M virt -object id=i0", "Parameter 'qom-type' is missing"],
  ["-M virt -object nope,id=i0", "Parameter 'qom-type' does not accept value 'nope'"],
  ["-M virt -object iommfd,id=i0", "Parameter 'qom-type' does not accept value 'iommfd'", "did you mean iommufd?"],
  ["-M virt -object iommufd,id=i0 -object iommufd,id=i0", "Duplicate ID 'i0' for object"],
  ["-M virt -object iommufd,id=i0,foo=1", "Invalid parameter 'foo'"],
  ["-M virt -object memory-backend-ram,id=m", "Parameter 'size' is missing"],
  ["-M virt -numa foo", "Parameter 'type' does not accept value 'foo'"],
  ["-M virt -numa node,foo=1", "Invalid parameter 'foo'"],
  ["-M virt -numa node,nodeid=0 -numa node,nodeid=0", "Duplicate NUMA nodeid: 0"],
  ["-M virt -numa node,nodeid=1", "numa: Node ID missing: 0"],
  ["-M virt -numa node,nodeid=x", "Parameter 'nodeid' expects a uint64 value"],
  ["-M virt -numa node,cpus=x", "Parameter 'cpus' expects a uint64 value or range"],
  ["-M virt -numa node,mem=1G", "Parameter -numa node,mem is not supported by this machine type\nUse -numa node,memdev instead", "-numa node,nodeid=0,memdev=m0"],
  ["-M virt -numa node,nodeid=0 -numa dist,src=0,dst=1,val=20", "Source/Destination NUMA node is missing. Please use '-numa node' option to declare it first."],
  ["-M virt -numa node,nodeid=0 -numa dist,src=0,dst=0,val=9", "NUMA distance (9) is invalid, it shouldn't be less than 10."],
  ["-M virt -numa node,nodeid=0 -numa dist,src=0,dst=0,val=20", "Local distance of node 0 should be 10."],
  ["-M virt -numa node,nodeid=0 -numa node,nodeid=1 -numa dist,src=0,dst=1,val=256", "Parameter 'val' expects a uint8 value"],
  ["-M virt -numa node,cpus=99", "CPU index (99) should be smaller than maxcpus (1)"],
];

describe("wrong input", () => {
  it.each(wrong.map(([line, expected, more]) => ({ line, expected, more })))("$line", ({ line, expected, more }) => {
    const refusal = refusalOf(() => parse(line));
    expect(refusal.words.startsWith(expected), refusal.message).toBe(true);
    if (more !== undefined) {
      expect(refusal.message).toContain(more);
    }
  });

  it("names the argument that it is about", () => {
    expect(refusalOf(() => parse("-M virt -device edu,addr=99")).message).toContain("-device edu,addr=99");
  });
});

describe("a kernel's consoles", () => {
  const boot = (words: string): ReturnType<typeof parseArguments>["boot"] => parseArguments(`-M q35,accel=kvm -kernel k ${words}`.trim().split(" ")).boot;

  it("are those of -serial, or the one that QEMU has where none is said", () => {
    expect(boot("").serials).toEqual([{ spec: { kind: "stdio" }, monitor: true }]);
    expect(boot("-nodefaults").serials).toEqual([]);
    expect(boot("-serial none").serials).toEqual([]);
    expect(boot("-serial null -serial mon:stdio").serials).toEqual([null, { spec: { kind: "stdio" }, monitor: true }]);
  });

  it("may be monitors, to which -S waits", () => {
    const stopped = (words: string): boolean => parseArguments(`-M q35,accel=kvm -kernel k -S ${words}`.trim().split(" ")).control.stopped;
    expect(["", "-serial mon:stdio", "-serial stdio", "-nodefaults", "-serial none"].map(stopped)).toEqual([true, true, false, false, false]);
  });

  it("are told to be none where nothing runs a kernel", () => {
    const { notes, boot } = parseArguments("-M virt -nodefaults -kernel k -serial stdio".split(" "));
    expect(boot).toEqual({ kernel: null, initrd: null, commandLine: "", serials: [] });
    expect(notes).toEqual(expect.arrayContaining(["-kernel k: only vCPUs run a kernel (-machine virt,accel=kvm): the guest here is a program (--guest)", "-serial stdio: the guest here is a program and has no console"]));
  });
});
