import { describe, expect, it } from "vitest";
import { kvm, kvmPrograms } from "./programs.js";

describe.skipIf(!kvm())("vCPUs", () => {
  const run = kvmPrograms();

  it("exit to the models' thread, which answers each", () => {
    const { out, status } = run(`
      let sent = "";
      const vcpus = new Vcpus(vm, 1, ({ run }, reason) => {
        sent += reason === EXIT.IO ? String.fromCharCode(run.getUint8(Number(run.getBigUint64(RUN.IO.DATA_OFFSET, true)))) : "?" + reason;
        if (sent.length === 300) { setImmediate(async () => { await vcpus.close(); vm.close(); console.log(sent === "A".repeat(300), vcpus.runs >= 300); }); }
        return true;
      });
      begin(vcpus.all[0], sends(300));
      vcpus.start();
    `);
    expect([out.trim(), status]).toEqual(["true true", 0]);
  });

  it("get the interrupts of a descriptor that is bound; those of one that is not stay in its count", () => {
    const { out, status } = run(`
      const { IrqRoutes } = await import(process.argv[2] + "/kvm.js");
      const { makeEventFd, signalEventFd, takeEventFd } = await import(process.argv[2] + "/linux.js");
      vm.enable(CAP.X2APIC_API, 3);
      const vcpus = new Vcpus(vm, 1, () => true);
      const routes = new IrqRoutes(vm, 24);
      const fds = [makeEventFd(), makeEventFd()];
      const seen = [];
      routes.batch(() => fds.forEach((fd, n) => routes.bindMessage(fd, { address: 0xfee00000n, data: 0x30 + n })));
      signalEventFd(fds[0]);
      seen.push(takeEventFd(fds[0]));
      routes.setPins([null, { address: 0xfee00000n, data: 0x8041 }]);
      signalEventFd(fds[0]);
      seen.push(takeEventFd(fds[0]));
      routes.unbind(fds[0]);
      signalEventFd(fds[0]);
      seen.push(takeEventFd(fds[0]));
      // A message that no route can hold: the kernel refuses the whole table.
      const refused = [];
      routes.onRefused = (fd) => refused.push(fds.indexOf(fd));
      seen.push(routes.bindMessage(fds[0], { address: 0x01_fee00000n, data: 0x30 }));
      signalEventFd(fds[1]);
      seen.push(takeEventFd(fds[1]));
      // A level needs an interrupt controller that is the kernel's whole.
      seen.push(routes.bindLevel(fds[0], makeEventFd(), 3));
      routes.close();
      signalEventFd(fds[1]);
      seen.push(takeEventFd(fds[1]));
      await vcpus.close();
      vm.close();
      console.log(JSON.stringify([seen, refused]));
    `);
    expect([out.trim(), status]).toEqual(["[[false,false,true,false,false,false,true],[0,0]]", 0]);
  });

  it("have functions of the host by KVM's VFIO device, which takes no other file", () => {
    const { out, status } = run(`
      const { KvmVfio } = await import(process.argv[2] + "/kvm.js");
      const { makeEventFd } = await import(process.argv[2] + "/linux.js");
      let said = "";
      try {
        const device = new KvmVfio(vm);
        try { device.add(makeEventFd()); } catch (error) { said = error.code; }
        device.close();
      } catch (error) { said = error.code; }
      vm.close();
      console.log(said);
    `);
    // ENODEV: a kernel without it.
    expect(["EINVAL", "ENODEV"]).toContain(out.trim());
    expect(status).toBe(0);
  });

  it("go on where a pause was taken back before it was reached, and hold nothing when they are closed", () => {
    const { out, status } = run(`
      const { readFileSync } = await import("node:fs");
      const vcpus = new Vcpus(vm, 1, () => true);
      // again: inc byte [0x8000]; jmp again
      begin(vcpus.all[0], [0xfe, 0x06, 0x00, 0x80, 0xeb, 0xfa]);
      vcpus.start();
      const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
      const moves = async () => {
        for (let tries = 0, last = memory[0x8000]; tries < 200; tries++) {
          await sleep(5);
          if (memory[0x8000] !== last) { return true; }
        }
        return false;
      };
      console.log(await moves());
      for (let n = 0; n < 3; n++) {
        const paused = vcpus.pause();
        vcpus.resume();
        await paused;
        await sleep(60);
        console.log(await moves());
      }
      await vcpus.close();
      vm.close();
      console.log(readFileSync("/proc/self/maps", "latin1").includes("kvm-vcpu"));
    `);
    expect([out.trim().split("\n"), status]).toEqual([["true", "true", "true", "true", "false"], 0]);
  });

  it("wait for their own answer, however often they are woken", () => {
    const { out, status } = run(`
      let sent = 0;
      const vcpus = new Vcpus(vm, 1, () => {
        sent++;
        // What is late of the answer before: a bell without an answer.
        for (const until = performance.now() + 1; performance.now() < until; ) { Atomics.notify(new Int32Array(vcpus.shared), 1); Atomics.notify(new Int32Array(vcpus.shared), 0); }
        if (sent === 200) { setImmediate(async () => { await vcpus.close(); vm.close(); console.log(vcpus.runs); }); }
        return true;
      });
      begin(vcpus.all[0], sends(200));
      vcpus.start();
    `);
    expect([Number(out) <= 202, status]).toEqual([true, 0]);
  });

  it("lose a message that no local APIC can have, as a bus would", () => {
    const { out, status } = run(`
      vm.enable(CAP.X2APIC_API, 3);
      const vcpus = new Vcpus(vm, 1, () => true);
      console.log(vm.signal({ address: 0x1_fee0_0000n, data: 0x31 }));
      await vcpus.close();
      vm.close();
    `);
    expect([out.trim(), status]).toEqual(["false", 0]);
  });

  it("leave the guest for a pause and a hold, though it never exits by itself, and go on after", () => {
    const { out, status } = run(`
      const vcpus = new Vcpus(vm, 2, () => true);
      vcpus.all.forEach((vcpu) => begin(vcpu, SPINS));
      vcpus.start();
      await new Promise((resolve) => setTimeout(resolve, 100));
      for (let n = 0; n < 20; n++) {
        await vcpus.pause();
        const runs = vcpus.runs;
        await new Promise((resolve) => setTimeout(resolve, 2));
        if (vcpus.runs !== runs) { console.log("ran while paused"); }
        vcpus.resume();
        await new Promise((resolve) => setTimeout(resolve, 1));
        if (!vcpus.hold()) { console.log("not held"); }
        vcpus.resume();
      }
      await vcpus.close();
      vm.close();
      console.log("done");
    `);
    expect([out.trim(), status]).toEqual(["done", 0]);
  });

  it("do not keep a process that ends: by process.exit, by an exception, by a signal", () => {
    const ending = (how: string): unknown[] => {
      const { out, status, signal } = run(`
        const vcpus = new Vcpus(vm, 1, () => true);
        begin(vcpus.all[0], SPINS);
        vcpus.start();
        setTimeout(() => { ${how} }, 100);
      `);
      return [status, signal, out.includes("on purpose")];
    };
    expect(ending("process.exit(7)")).toEqual([7, null, false]);
    expect(ending("throw new Error('on purpose')")).toEqual([1, null, true]);
    expect(ending("process.kill(process.pid, 'SIGTERM')")).toEqual([null, "SIGTERM", false]);
    expect(ending("process.kill(process.pid, 'SIGKILL')")).toEqual([null, "SIGKILL", false]);
  });
});
