import { describe, expect, it } from "vitest";
import { ACCEL, build } from "./build.js";

const FUNCTION = "0009:01:00.0";
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

function machine(words = ""): ReturnType<typeof build> & { events: string[] } {
  const built = build(`${ACCEL} -device pcie-root-port,id=rp9,bus=pcie.1,chassis=9 -device vfio-pci,host=${FUNCTION},bus=rp9,id=gpu0,iommufd=iommufd0${words}`);
  const events: string[] = [];
  built.machine.events.subscribe(({ name }) => events.push(name));
  built.machine.start();
  return { ...built, events };
}

describe("what the host tells of a passed-through function", () => {
  it("an error that it does not get over stops the machine, in QEMU's words, until it is reset", async () => {
    const { machine: made, host, log, events } = machine();
    expect(host.kernel.reportError(FUNCTION)).toBe(true);
    await turn();
    expect([made.runState.status, events]).toEqual(["internal-error", ["STOP"]]);
    expect(log.warnings()).toContainEqual(expect.stringContaining(`vfio_err_notifier_handler(${FUNCTION}) Unrecoverable error detected. Please collect any data possible and then kill the guest`));
    made.reset();
    expect(made.runState.status).toBe("paused");
    made.runState.resume();
    expect(made.runState.running).toBe(true);
    made.shutdown();
    expect(host.liveObjects()).toEqual([]);
  });

  it("that it wants the function back is device_del: the guest is asked to give it up", async () => {
    const { machine: made, host, events } = machine();
    expect(host.kernel.requestDevice(FUNCTION)).toBe(true);
    await turn();
    // The host repeats itself until the function is closed.
    host.kernel.requestDevice(FUNCTION);
    await turn();
    expect([made.hotplug.isAsked(made.board.find("gpu0")!.fn), events]).toEqual([true, []]);
    made.shutdown();
    expect(host.liveObjects()).toEqual([]);
  });

  it("x-req=off: nobody is told; and none is told of a function that is not there", () => {
    const { machine: made, host } = machine(",x-req=off");
    expect([host.kernel.requestDevice(FUNCTION), host.kernel.reportError(FUNCTION), host.kernel.reportError("0008:01:00.0")]).toEqual([false, true, false]);
    made.shutdown();
    expect(host.kernel.reportError(FUNCTION)).toBe(false);
  });

  it("a host that refuses to tell is no reason against the function", () => {
    const built = build(`${ACCEL} -device pcie-root-port,id=rp9,bus=pcie.1,chassis=9 -device vfio-pci,host=${FUNCTION},bus=rp9,id=gpu0,iommufd=iommufd0`, "grace", (observer) => observer.failOn({ operation: "VFIO_SET_IRQS", nth: 1, errno: "EINVAL" }));
    expect(built.log.lines.map(({ text }) => text)).toContainEqual(expect.stringContaining("the host does not tell of its errors: VFIO_SET_IRQS: EINVAL"));
    built.machine.shutdown();
  });
});
