import { describe, expect, it } from "vitest";
import { kvm, kvmPrograms } from "./programs.js";

/** The vCPU that runs in the models' thread, whose event loop goes on all the same. */
describe.skipIf(!kvm())("a vCPU in the models' thread", () => {
  const run = kvmPrograms();

  it("exits, is answered, and holds nothing when it is closed", () => {
    const { out, status } = run(`
      const { readFileSync } = await import("node:fs");
      let sent = "";
      const vcpu = new InlineVcpu(vm, ({ run }, reason) => {
        sent += reason === EXIT.IO ? String.fromCharCode(run.getUint8(Number(run.getBigUint64(RUN.IO.DATA_OFFSET, true)))) : "?" + reason;
        if (sent.length === 300) {
          setImmediate(async () => {
            await vcpu.close();
            vm.close();
            console.log(sent === "A".repeat(300), vcpu.runs >= 300, readFileSync("/proc/self/maps", "latin1").includes("kvm-vcpu"));
          });
        }
        return true;
      });
      begin(vcpu.all[0], sends(300));
      vcpu.start();
    `);
    expect([out.trim(), status]).toEqual(["true true false", 0]);
  });

  it("lets the loop have its turn though the guest never exits: timers, sockets, files, threads, what began to be watched late", () => {
    const { out, status } = run(`
      const net = await import("node:net");
      const { readFile } = await import("node:fs/promises");
      const { Worker } = await import("node:worker_threads");
      const vcpu = new InlineVcpu(vm, () => true);
      begin(vcpu.all[0], SPINS);
      vcpu.start();
      const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
      for (let n = 0; n < 20; n++) { await sleep(n); }
      console.log("timers");
      const said = await new Promise((resolve) => {
        const server = net.createServer((socket) => socket.pipe(socket)).listen(0, "127.0.0.1", () => {
          const client = net.connect(server.address().port, "127.0.0.1");
          let rounds = 0;
          client.on("data", (data) => {
            if (++rounds < 20) { client.write(String(rounds)); return; }
            client.end();
            server.close(() => resolve(data.toString()));
          });
          client.write("0");
        });
      });
      console.log("socket", said);
      console.log("file", (await readFile("/proc/self/comm", "latin1")).length > 1);
      const thread = new Worker("require('node:worker_threads').parentPort.on('message', (n) => require('node:worker_threads').parentPort.postMessage(n + 1))", { eval: true });
      const reply = new Promise((resolve) => thread.once("message", resolve));
      thread.postMessage(41);
      console.log("thread", await reply);
      await thread.terminate();
      await vcpu.close();
      vm.close();
    `);
    expect([out.trim().split("\n"), status]).toEqual([["timers", "socket 19", "file true", "thread 42"], 0]);
  });

  it("has its turn though the loop always has something to do", () => {
    const { out, status } = run(`
      const vcpu = new InlineVcpu(vm, () => true);
      // again: inc byte [0x8000]; jmp again
      begin(vcpu.all[0], [0xfe, 0x06, 0x00, 0x80, 0xeb, 0xfa]);
      vcpu.start();
      let left = true, turns = 0;
      const busy = () => { turns++; if (left) { setImmediate(busy); } };
      busy();
      let moved = 0;
      for (let last = -1, tries = 0; moved < 5 && tries < 400; tries++) {
        await new Promise((resolve) => setTimeout(resolve, 5));
        if (memory[0x8000] !== last) { moved++; last = memory[0x8000]; }
      }
      left = false;
      await vcpu.close();
      vm.close();
      console.log(moved, turns > 5);
    `);
    expect([out.trim(), status]).toEqual(["5 true", 0]);
  });

  it("stays out of the guest for a pause and a hold, also one from within an answer, and goes on after", () => {
    const { out, status } = run(`
      const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
      const vcpu = new InlineVcpu(vm, () => { if (vcpu.runs === 50) { vcpu.hold(); } return true; });
      // again: inc byte [0x8000]; out dx, al; jmp again
      begin(vcpu.all[0], [0xfe, 0x06, 0x00, 0x80, 0xee, 0xeb, 0xf9]);
      await vcpu.pause();
      vcpu.start();
      await sleep(20);
      console.log(vcpu.runs);
      vcpu.resume();
      for (let tries = 0; tries < 400 && vcpu.runs < 50; tries++) { await sleep(5); }
      await sleep(20);
      console.log(vcpu.runs, memory[0x8000]);
      for (let n = 0; n < 20; n++) {
        vcpu.resume();
        await sleep(1);
        await vcpu.pause();
        const runs = vcpu.runs;
        await sleep(2);
        if (vcpu.runs !== runs) { console.log("ran while paused"); }
      }
      console.log(vcpu.runs > 50);
      await vcpu.close();
      vm.close();
    `);
    expect([out.trim().split("\n"), status]).toEqual([["0", "50 50", "true"], 0]);
  });

  it("waits where its exit is not answered", () => {
    const { out, status } = run(`
      const vcpu = new InlineVcpu(vm, () => false);
      begin(vcpu.all[0], sends(3));
      vcpu.start();
      while (vcpu.runs === 0) { await new Promise((resolve) => setTimeout(resolve, 5)); }
      vcpu.resume();
      await new Promise((resolve) => setTimeout(resolve, 20));
      console.log(vcpu.runs);
      await vcpu.close();
      vm.close();
    `);
    expect([out.trim(), status]).toEqual(["1", 0]);
  });

  it("has promises and ticks of an exit's answer go on, though the loop has nothing else", () => {
    const { out, status } = run(`
      const order = [];
      let told;
      const promise = new Promise((resolve) => { told = resolve; });
      // Its third exit never comes: the guest spins then, and only a turn that nothing asks for would go on.
      const vcpu = new InlineVcpu(vm, () => { if (vcpu.runs === 2) { process.nextTick(() => order.push("tick")); told(); } return true; });
      begin(vcpu.all[0], [0xba, 0xf8, 0x03, 0xb0, 0x41, 0xee, 0xee, 0xeb, 0xfe]);
      vcpu.start();
      await promise;
      order.push("promise");
      console.log(order.sort().join(), vcpu.runs >= 2);
      await vcpu.close();
      vm.close();
    `);
    expect([out.trim(), status]).toEqual(["promise,tick true", 0]);
  });

  it("is one machine's: a second one has threads, until the first has ended", () => {
    const { out, status } = run(`
      const [first, second] = [makeVcpus(vm, 1, () => true), makeVcpus(KvmVm.open(), 1, () => true)];
      console.log(first instanceof InlineVcpu, second instanceof Vcpus);
      await first.close();
      const third = makeVcpus(KvmVm.open(), 1, () => true);
      console.log(third instanceof InlineVcpu);
      await Promise.all([second.close(), third.close()]);
    `);
    expect([out.trim().split("\n"), status]).toEqual([["true true", "true"], 0]);
  });

  it("does not keep a process that ends: by process.exit, by an exception, by a signal", () => {
    const ending = (how: string): unknown[] => {
      const { out, status, signal } = run(`
        const vcpu = new InlineVcpu(vm, () => true);
        begin(vcpu.all[0], SPINS);
        vcpu.start();
        process.on("SIGINT", () => process.exit(9));
        setTimeout(() => { ${how} }, 100);
      `);
      return [status, signal, out.includes("on purpose")];
    };
    expect(ending("process.exit(7)")).toEqual([7, null, false]);
    expect(ending("throw new Error('on purpose')")).toEqual([1, null, true]);
    expect(ending("process.kill(process.pid, 'SIGTERM')")).toEqual([null, "SIGTERM", false]);
    expect(ending("process.kill(process.pid, 'SIGKILL')")).toEqual([null, "SIGKILL", false]);
    expect(ending("process.kill(process.pid, 'SIGINT')")).toEqual([9, null, false]);
  });
});
