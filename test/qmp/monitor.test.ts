import { describe, expect, it } from "vitest";
import { MonitorRig, QmpClient, settle } from "./rig.js";

const MACHINE = "-M virt,accel=kvm,gic-version=3 -cpu host -m 1G -nodefaults -object iommufd,id=iommufd0 -device arm-smmuv3,primary-bus=pcie.0,id=smmu0,accel=on -device pcie-root-port,id=rp0,chassis=1 -device pcie-root-port,id=rp1,chassis=2 -device vfio-pci,host=0000:03:00.0,id=nic0,bus=rp0,iommufd=iommufd0";

describe("a monitor", () => {
  it("greets, negotiates once, and ends its lines as QEMU does", async () => {
    const rig = new MonitorRig("-M virt -nodefaults");
    const client = new QmpClient(rig.monitor);
    await settle();
    expect(client.raw).toMatch(/^\{"QMP": \{"version": \{"qemu": \{"major": 11, "minor": 1, "micro": 0\}, "package": "viommu test"\}, "capabilities": \["oob"\]\}\}\r\n$/);
    await client.take();
    expect(await client.ask("query-status")).toEqual([{ error: { class: "CommandNotFound", desc: "Expecting capabilities negotiation with 'qmp_capabilities'" } }]);
    expect(await client.ask("qmp_capabilities")).toEqual([{ return: {} }]);
    client.write('{"execute":"query-status","id":18446744073709551615}');
    await settle();
    expect(client.raw).toBe('{"return": {"status": "running", "running": true}, "id": 18446744073709551615}\r\n');
    rig.close();
  });

  it("serves clients one after another and beside each other; each negotiates for itself, and all get the events", async () => {
    const rig = new MonitorRig("-M virt -nodefaults");
    const [first, second] = [await rig.client(), await rig.client()];
    const stranger = new QmpClient(rig.monitor);
    await stranger.take();
    expect(await first.ask("stop")).toEqual([{ event: "STOP" }, { return: {} }]);
    expect(await second.take()).toEqual([{ event: "STOP" }]);
    expect(await stranger.take()).toEqual([]);
    first.end();
    await settle();
    expect(first.closed).toBe(true);
    expect(await second.ask("cont")).toEqual([{ event: "RESUME" }, { return: {} }]);
    rig.close();
  });

  it("is not put out by garbage, pieces, floods and a client that goes in the middle", async () => {
    const rig = new MonitorRig("-M virt -nodefaults");
    const client = await rig.client();
    client.write(Uint8Array.from({ length: 4096 }, (_unused, i) => (i * 7 + 3) & 0xff));
    client.write(`\n${"[".repeat(5000)}\n`);
    client.write(Uint8Array.of(0xff, 0x0a));
    client.write(`{"execute":"${"x".repeat(1 << 19)}"}\n`);
    client.write(Uint8Array.of(0xff, 0x0a));
    await settle();
    await settle();
    client.raw = "";
    const command = '{"execute":"query-name","id":"a"}';
    for (const byte of Buffer.from(command)) {
      client.write(Uint8Array.of(byte));
    }
    expect(await client.take()).toEqual([{ return: {}, id: "a" }]);
    client.write('{"execute":"query-status"}'.repeat(500));
    let answers = 0;
    for (let turn = 0; turn < 400 && answers < 500; turn++) {
      answers += (await client.take()).length;
    }
    expect(answers).toBe(500);
    const other = await rig.client();
    other.write('{"execute":"stop"');
    other.end();
    await settle();
    expect(await client.ask("query-status")).toEqual([{ return: { status: "running", running: true } }]);
    rig.close();
  });

  it("stops the guest's accesses until cont, and starts it with cont where -S was said", async () => {
    const rig = new MonitorRig("-M virt -nodefaults -S -qmp null");
    const client = await rig.client();
    expect(await client.ask("query-status")).toEqual([{ return: { status: "prelaunch", running: false } }]);
    let read: bigint | null = null;
    void rig.machine.port().read(0x4000_0000, 4).then((value) => (read = value));
    await settle();
    expect(read).toBeNull();
    expect(await client.ask("cont")).toEqual([{ event: "RESUME" }, { return: {} }]);
    expect(read).toBeTypeOf("bigint");
    rig.close();
  });

  it("ends the run with quit, and tells so after its answer", async () => {
    const rig = new MonitorRig("-M virt -nodefaults");
    const client = await rig.client();
    expect(await client.ask("quit")).toEqual([{ return: {} }, { event: "SHUTDOWN", data: { guest: false, reason: "host-qmp-quit" } }]);
    expect(rig.quits).toBe(1);
    rig.close();
  });

  it("shows every member on a line of its own with -qmp-pretty", async () => {
    const rig = new MonitorRig("-M virt -nodefaults");
    const client = new QmpClient(rig.monitor, { pretty: true });
    await settle();
    expect(client.raw.split("\n").length).toBeGreaterThan(8);
    expect(JSON.parse(client.raw)).toMatchObject({ QMP: { capabilities: ["oob"] } });
    rig.close();
  });
});

describe("devices by the monitor", () => {
  it("come into a slot, are told to the guest, and go when it has let go of them", async () => {
    const rig = new MonitorRig(MACHINE);
    const client = await rig.client();
    const port = rig.machine.board.find("rp0")!.fn;
    // Presence, and no power indicator off: Slot Control 0x54 + 0x18.
    const control = 0x54 + 0x18;
    port.configWrite(control, 2, 0x0029 | 0x0100);
    expect(await client.ask("device_del", { id: "nic0" })).toEqual([{ return: {} }]);
    expect(port.config.get16(control + 2) & 0x0001).toBe(0x0001);
    expect(await client.ask("device_del", { id: "nic0" })).toEqual([{ error: { class: "GenericError", desc: "Device nic0 is already in the process of unplug" } }]);
    expect(rig.host.liveObjects().length).toBeGreaterThan(0);
    // The guest powers the slot off: power controller off, power indicator off.
    port.configWrite(control, 2, 0x0029 | 0x0300 | 0x0400);
    expect(await client.take()).toEqual([{ event: "DEVICE_DELETED", data: { device: "nic0", path: "/machine/peripheral/nic0" } }]);
    expect(rig.host.liveObjects()).toEqual([]);
    expect(await client.ask("qom-get", { path: "/machine/peripheral/nic0", property: "type" })).toEqual([
      { error: { class: "DeviceNotFound", desc: "Device '/machine/peripheral/nic0' not found" } },
    ]);
    expect(await client.ask("device_add", { driver: "vfio-pci", host: "0000:03:00.0", id: "nic0", bus: "rp1", iommufd: "iommufd0" })).toEqual([{ return: {} }]);
    expect(await client.ask("qom-get", { path: "/machine/peripheral/nic0", property: "hotplugged" })).toEqual([{ return: true }]);
    expect(await client.ask("qom-get", { path: "/machine/peripheral/nic0", property: "iommufd" })).toEqual([{ return: "/objects/iommufd0" }]);
    expect(await client.ask("qom-get", { path: "/machine/peripheral/nic0", property: "host" })).toEqual([{ return: "0000:03:00.0" }]);
    expect(rig.close()).toBe(0);
  });

  it("need an iommufd that is there, which cannot go while it is used", async () => {
    const rig = new MonitorRig(MACHINE.replace(/ -device vfio-pci\S*/, "").replace("accel=on", "accel=on,ril=on,ats=off,oas=44,ssidsize=0"));
    const client = await rig.client();
    const nic = { driver: "vfio-pci", host: "0000:03:00.0", id: "nic0", bus: "rp0", iommufd: "other" };
    expect(await client.ask("device_add", nic)).toEqual([{ error: { class: "DeviceNotFound", desc: "Device 'other' not found" } }]);
    expect(await client.ask("object-add", { "qom-type": "iommufd", id: "other" })).toEqual([{ return: {} }]);
    expect(await client.ask("object-add", { "qom-type": "iommufd", id: "other" })).toEqual([
      { error: { class: "GenericError", desc: "attempt to add duplicate property 'other' to object (type 'container')" } },
    ]);
    expect(await client.ask("device_add", nic)).toEqual([{ return: {} }]);
    expect(await client.ask("object-del", { id: "other" })).toEqual([{ error: { class: "GenericError", desc: "Can not delete IOMMUFD backend 'other' with 1 users" } }]);
    expect(await client.ask("object-del", { id: "iommufd0" })).toEqual([{ return: {} }]);
    // Nobody has powered the slot on: it goes at once.
    expect(await client.ask("device_del", { id: "nic0" })).toEqual([{ return: {} }, { event: "DEVICE_DELETED", data: { device: "nic0", path: "/machine/peripheral/nic0" } }]);
    expect(await client.ask("object-del", { id: "other" })).toEqual([{ return: {} }]);
    expect(rig.close()).toBe(0);
  });

  it("leave nothing on the host where they are refused", async () => {
    const rig = new MonitorRig(MACHINE);
    const client = await rig.client();
    const before = rig.host.liveObjects().length;
    const [answer] = await client.ask("device_add", { driver: "e1000e", id: "e0", bus: "rp1" });
    expect(answer).toEqual({ error: { class: "GenericError", desc: "Emulated endpoint devices are not allowed when using arm-smmuv3,accel=on" } });
    expect(rig.host.liveObjects()).toHaveLength(before);
    expect(await client.ask("qom-list", { path: "/machine/peripheral/rp1/rp1" })).toMatchObject([{ return: expect.not.arrayContaining([{ name: "child[0]", type: "link<e1000e>" }]) as unknown }]);
    expect(rig.close()).toBe(0);
  });

  it("are told with their tables by info iommu", async () => {
    const rig = new MonitorRig(MACHINE);
    const client = await rig.client();
    const [{ return: text }] = (await client.ask("human-monitor-command", { "command-line": "info iommu" })) as [{ return: string }];
    expect(text).toMatch(/^smmu0: arm-smmuv3 on bus pcie\.0, accelerated by smmu3\.\S+, stage 1, disabled, bypasses\r\n/);
    expect(text).toMatch(/ {2}00:00\.0 vfio-pci 'nic0', no StreamID, its bus has no number, host 0000:03:00\.0 \(smmu3\.\S+\), bypass table HWPT \d+, parent HWPT \d+, IOAS \d+, no vDEVICE, iommufd iommufd0, device \d+/);
    rig.close();
  });
});

describe("traces by the monitor", () => {
  it("are turned on and off by name or pattern", async () => {
    const rig = new MonitorRig("-M virt -nodefaults");
    const client = await rig.client();
    const state = async (): Promise<unknown> => (await client.ask("trace-event-get-state", { name: "smmuv3_cmdq_opcode" }))[0].return;
    expect(await state()).toEqual([{ name: "smmuv3_cmdq_opcode", state: "disabled" }]);
    expect(await client.ask("trace-event-set-state", { name: "smmuv3_cmdq_*", enable: true })).toEqual([{ return: {} }]);
    expect(await state()).toEqual([{ name: "smmuv3_cmdq_opcode", state: "enabled" }]);
    await client.ask("trace-event-set-state", { name: "*", enable: false });
    expect(await state()).toEqual([{ name: "smmuv3_cmdq_opcode", state: "disabled" }]);
    rig.close();
  });
});

describe("a monitor for people", () => {
  it("prompts, and answers a line with what human-monitor-command gives", async () => {
    const rig = new MonitorRig("-M virt -nodefaults");
    const person = new QmpClient(rig.monitor, { people: true });
    await settle();
    expect(person.raw).toBe("QEMU 11.1.0 monitor - type 'help' for more information\r\n(qemu) ");
    person.raw = "";
    person.write("info status\r\ninfo no");
    person.write("such\n\nstop\n");
    await settle();
    expect(person.raw).toBe("VM status: running\r\n(qemu) unknown command: 'info nosuch'\r\n(qemu) (qemu) (qemu) ");
    expect(rig.machine.runState.running).toBe(false);
    person.raw = "";
    person.write(`${"x".repeat(10_000)}\n`);
    await settle();
    expect(person.raw.length).toBeLessThan(5000);
    rig.close();
  });
});
