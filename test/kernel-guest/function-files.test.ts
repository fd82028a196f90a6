import { expect, it } from "vitest";
import { FunctionFiles } from "../../src/kernel-guest/function-files.js";
import { SystemError } from "../../src/linux/index.js";
import { HostFiles } from "../../src/machine/index.js";
import { Log } from "../../src/support/index.js";
import { ForwardingHost } from "../../src/host/instruments/index.js";
import { createSimulatedHost, describeHost } from "../../src/host/simulated/index.js";
import { parseArguments } from "../../src/machine/arguments/index.js";
import { Machine } from "../../src/machine/index.js";
import { hostInput } from "../machine/build.js";
import { words } from "../machine/refused.js";

function device(refuse = false) {
  const calls: string[] = [];
  const call = (what: string) => (fd: number): void => {
    calls.push(`${what} ${fd}`);
    if (refuse) {
      throw new SystemError("ioctl(KVM_SET_DEVICE_ATTR)", 22);
    }
  };
  return { calls, add: call("add"), remove: call("remove"), close: () => void calls.push("close") };
}

it("KVM is told of each function's descriptor while it is open: those that are there, those that come, and before one is closed", () => {
  const [files, log] = [new HostFiles(), new Log()];
  files.opened(5);
  const first = device();
  const told = FunctionFiles.of({ fd: 3 }, files, log, () => first)!;
  files.opened(6);
  files.closing(5);
  files.closing(5);
  told.close();
  files.opened(7);
  expect(first.calls).toEqual(["add 5", "add 6", "remove 5", "close"]);
  // The machine of KVM is made anew.
  const second = device();
  FunctionFiles.of({ fd: 3 }, files, log, () => second);
  expect(second.calls).toEqual(["add 6", "add 7"]);
});

it("a kernel that refuses, or has no such device, is told of and no reason to stop", () => {
  const [files, log] = [new HostFiles(), new Log()];
  files.opened(5);
  FunctionFiles.of({ fd: 3 }, files, log, () => device(true));
  expect(
    FunctionFiles.of({ fd: 3 }, files, log, () => {
      throw new SystemError("ioctl(KVM_CREATE_DEVICE)", 19);
    }),
  ).toBeNull();
  expect(log.lines.map(({ text }) => text)).toEqual([expect.stringContaining("a function of the host is not told to KVM"), expect.stringContaining("it does not know of the functions of the host")]);
});

it("a machine tells of functions of a host that has descriptors, from before they are bound until they are closed", () => {
  const simulated = createSimulatedHost(describeHost(hostInput("grace")));
  class Giving extends ForwardingHost {
    override get hasDescriptors(): boolean {
      return true;
    }
  }
  const line = "-M virt -m 256M -nodefaults -object iommufd,id=i -device pxb-pcie,id=p,bus_nr=16 -device arm-smmuv3,primary-bus=p,accel=on,id=s -device pcie-root-port,id=rp,bus=p,chassis=1 -device vfio-pci,host=0009:01:00.0,bus=rp,id=gpu0,iommufd=i";
  const machine = new Machine(parseArguments(words(line)), new Giving(simulated), new Log());
  const told = device();
  FunctionFiles.of({ fd: 3 }, machine.board.hostFiles, machine.log, () => told);
  machine.shutdown();
  expect(told.calls.map((call) => call.split(" ")[0])).toEqual(["add", "remove"]);
  const without = new Machine(parseArguments(words(line)), simulated, new Log());
  const none = device();
  FunctionFiles.of({ fd: 3 }, without.board.hostFiles, without.log, () => none);
  without.shutdown();
  expect(none.calls).toEqual([]);
});
