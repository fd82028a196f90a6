import { describe, expect, it } from "vitest";
import { ForwardingDevice, ForwardingHost } from "../../src/host/instruments/index.js";
import { createSimulatedHost, describeHost, type SimulatedHost } from "../../src/host/simulated/index.js";
import type { HostFunction, VfioDevice } from "../../src/iommufd/index.js";
import { parseArguments } from "../../src/machine/arguments/index.js";
import { Machine } from "../../src/machine/index.js";
import { Log } from "../../src/support/index.js";
import { build, hostInput } from "./build.js";
import { words } from "./refused.js";

const FUNCTION = "0009:01:00.0";
const BOARD = "-M virt -m 1G -nodefaults -device pxb-pcie,id=pcie.1,bus_nr=16 -device arm-smmuv3,primary-bus=pcie.1,id=smmu1,accel=on -device pcie-root-port,id=rp1,bus=pcie.1,chassis=1";

/** A host whose descriptors a process may have been given, as Linux's are. */
class Giving extends ForwardingHost {
  readonly tokens: Array<Uint8Array | undefined> = [];

  constructor(
    readonly simulated: SimulatedHost,
    private readonly lists: boolean,
  ) {
    super(simulated);
  }

  override get hasDescriptors(): boolean {
    return true;
  }

  override functions(): HostFunction[] {
    return this.lists ? super.functions() : [];
  }

  protected override wrapDevice(device: VfioDevice): VfioDevice {
    const { tokens } = this;
    return new (class extends ForwardingDevice {
      override bind(iommufd: number, token?: Uint8Array): number {
        tokens.push(token);
        return super.bind(iommufd);
      }
    })(device);
  }
}

function giving(lists = true): { host: Giving; machine: (rest: string) => Machine; log: Log } {
  const host = new Giving(createSimulatedHost(describeHost(hostInput("grace"))), lists);
  const log = new Log();
  return { host, log, machine: (rest) => new Machine(parseArguments(words(`${BOARD} ${rest}`)), host, log) };
}

describe("what a process was given", () => {
  it.each([true, false])("an iommufd and a function by their descriptors, with a host that lists its functions: %s", (lists) => {
    const { host, machine } = giving(lists);
    const iommufd = host.simulated.openIommufd();
    const device = host.simulated.openDevice(FUNCTION);
    const made = machine(`-object iommufd,id=iommufd0,fd=${iommufd.fd} -device vfio-pci,fd=${device.fd},bus=rp1,id=gpu0,iommufd=iommufd0`);
    made.start();
    const { fn } = made.board.find("gpu0")!;
    expect(fn.passthrough).toEqual({ hostAddress: FUNCTION, iommufd: "iommufd0" });
    expect(fn.configRead(0, 4)).toBe(host.simulated.hardware.functions.get(FUNCTION)!.configRead(0, 4));
    made.shutdown();
    // The descriptor of the function is closed, which alone unbinds it; the iommufd is its owner's.
    expect(host.simulated.liveObjects()).toEqual([{ id: 0, type: "iommufd" }]);
    iommufd.close();
    expect(host.simulated.liveObjects()).toEqual([]);
  });

  it.each([
    { rest: "-object iommufd,id=iommufd0 -device vfio-pci,fd=77,bus=rp1,iommufd=iommufd0", said: "vfio VFIO_FD77: open: EBADF" },
    { rest: "-object iommufd,id=iommufd0 -device vfio-pci,fd=gpu,bus=rp1,iommufd=iommufd0", said: "Could not parse remote object fd gpu" },
    { rest: "-device vfio-pci,fd=5,bus=rp1", said: "Use FD passing only with iommufd backend" },
    { rest: `-object iommufd,id=iommufd0,fd=99 -device vfio-pci,host=${FUNCTION},bus=rp1,iommufd=iommufd0`, said: "EBADF" },
    { rest: "-object iommufd,id=iommufd0,fd=mine", said: "Could not parse remote object fd mine" },
    { rest: `-object iommufd,id=iommufd0 -device vfio-pci,host=${FUNCTION},bus=rp1,iommufd=iommufd0,vf-token=1234`, said: "Parameter 'vf-token' expects UUID format" },
    { rest: "-object iommufd,id=iommufd0 -device vfio-pci,sysfsdev=/sys/bus/mdev/devices/a,bus=rp1,iommufd=iommufd0", said: "vfio /sys/bus/mdev/devices/a: no such host device" },
  ])("is refused where it is none: $said", ({ rest, said }) => {
    const { host, machine } = giving();
    expect(() => machine(rest)).toThrow(said);
    expect(host.simulated.liveObjects()).toEqual([]);
  });

  it("is noted and left where the host has no descriptors: libvirt's command line works as it is", () => {
    const { machine, log } = build(`${BOARD} -object iommufd,id=iommufd0,fd=25 -device vfio-pci,host=${FUNCTION},bus=rp1,id=gpu0,iommufd=iommufd0`);
    expect(log.lines.map(({ text }) => text)).toContain("-object iommufd,id=iommufd0: fd has no effect, the host opens its own /dev/iommu");
    machine.shutdown();
  });
});

describe("a function by other names", () => {
  it.each(["/sys/bus/pci/devices/0009:01:00.0", "/sys/devices/pci0009:00/0009:00:00.0/0009:01:00.0/"])("its folder in sysfs: %s", (folder) => {
    const { machine } = build(`${BOARD} -object iommufd,id=iommufd0 -device vfio-pci,sysfsdev=${folder},bus=rp1,id=gpu0,iommufd=iommufd0`);
    expect(machine.board.find("gpu0")!.fn.passthrough?.hostAddress).toBe(FUNCTION);
    machine.shutdown();
  });

  it("vf-token= goes to the bind, as its 16 bytes in the order that they are written in", () => {
    const { host, machine } = giving();
    const made = machine(`-object iommufd,id=iommufd0 -device vfio-pci,host=${FUNCTION},bus=rp1,iommufd=iommufd0,vf-token=00112233-4455-6677-8899-aabbccddeeff`);
    expect(host.tokens.map((token) => Buffer.from(token!).toString("hex"))).toEqual(["00112233445566778899aabbccddeeff"]);
    made.shutdown();
  });

  it("a token for a function that is neither virtual nor has such is refused by the host", () => {
    expect(() => build(`${BOARD} -object iommufd,id=iommufd0 -device vfio-pci,host=${FUNCTION},bus=rp1,iommufd=iommufd0,vf-token=00112233-4455-6677-8899-aabbccddeeff`)).toThrow("VF token incorrectly provided");
  });
});
