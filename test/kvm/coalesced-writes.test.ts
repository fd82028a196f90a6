import { describe, expect, it } from "vitest";
import { kvm, kvmPrograms } from "./programs.js";

/** Writes that KVM keeps for the next exit. */
describe.skipIf(!kvm())("coalesced writes", () => {
  const run = kvmPrograms();

  it("are done in their order before the exit that follows, more than the ring holds too, and cost none", () => {
    const { out, status } = run(`
      const seen = [];
      let kept = null;
      const vcpu = new Vcpus(vm, 1, ({ run }) => {
        kept.drain((isPort, address, size, value) => seen.push([isPort, address, size, Number(value)].join(":")));
        seen.push("exit:" + run.getUint16(RUN.IO.PORT, true).toString(16));
        return true;
      });
      kept = CoalescedWrites.open(vm, vcpu.all, [{ address: 0x3f8, bytes: 1, isPort: true }, { address: 0xcf8, bytes: 4, isPort: true }, { address: 0xd0000, bytes: 4, isPort: false }]);
      begin(vcpu.all[0], [
        0xba, 0xf8, 0x03, 0xb0, 0x41, 0xee, // mov dx,0x3f8; mov al,'A'; out dx,al
        0xba, 0xf8, 0x0c, 0x66, 0xb8, 0x04, 0x08, 0x00, 0x80, 0x66, 0xef, // mov dx,0xcf8; mov eax,0x80000804; out dx,eax
        0xb8, 0x00, 0xd0, 0x8e, 0xd8, 0xc6, 0x06, 0x01, 0x00, 0x5a, // mov ax,0xd000; mov ds,ax; mov byte [1],0x5a
        0xba, 0xfc, 0x0c, 0x66, 0xed, // mov dx,0xcfc; in eax,dx
        0xba, 0xf8, 0x03, 0xb9, 0x2c, 0x01, 0xb0, 0x42, 0xee, 0xe2, 0xfd, // mov dx,0x3f8; mov cx,300; mov al,'B'; again: out dx,al; loop again
        0xba, 0xfd, 0x03, 0xec, 0xf4, // mov dx,0x3fd; in al,dx; hlt
      ]);
      vcpu.start();
      for (let tries = 0; tries < 400 && seen.at(-1) !== "exit:3fd"; tries++) { await new Promise((resolve) => setTimeout(resolve, 5)); }
      console.log(seen.slice(0, 4).join(" "));
      console.log(seen.filter((one) => one === "true:1016:1:66").length, seen.filter((one) => one === "exit:3f8").length, seen.at(-1));
      await vcpu.close();
      vm.close();
    `);
    // KVM leaves the ring a place less than it has: 169 of 300 fit, one is an exit, and 130 fit again.
    expect([out.trim().split("\n"), status]).toEqual([["true:1016:1:65 true:3320:4:2147485700 false:851969:1:90 exit:cfc", "299 1 exit:3fd"], 0]);
  });
});
