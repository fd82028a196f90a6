import { readFileSync } from "node:fs";
import { isMainThread } from "node:worker_threads";
import { describe, expect, it } from "vitest";
import { closeFd, interruptibleIoctl, ioctl, makeEventFd, map, memoryFile, openFile, signalEventFd, SystemError, takeEventFd, threadId, unmap, viewOf, watchReadable } from "../../src/linux/index.js";

const KIB = 1024;

describe.skipIf(process.platform !== "linux")("Linux's system calls", () => {
  it("map a file in memory that two mappings share", () => {
    const fd = memoryFile("viommu-test", 64 * KIB);
    const [one, other] = [map(fd, 64 * KIB), map(fd, 32 * KIB, { offset: 32 * KIB })];
    const [a, b] = [new Uint8Array(viewOf(one)), new Uint32Array(viewOf(other, 4096, 4096))];
    a[36 * KIB] = 0x78;
    expect(b[0]).toBe(0x78);
    expect(readFileSync(`/proc/self/maps`, "latin1")).toContain(`${one.address.toString(16)}-`);
    expect(() => viewOf(one, 60 * KIB, 8 * KIB)).toThrow("a view of 8192 bytes from 61440 on, of a mapping of 65536");
    [one, other].forEach(unmap);
    closeFd(fd);
    expect(readFileSync(`/proc/self/maps`, "latin1")).not.toContain("memfd:viommu-test");
  });

  it("say which call is refused, with the errno's name and words", () => {
    const error = ((): unknown => {
      try {
        return openFile("/proc/nothing-of-this-name");
      } catch (caught) {
        return caught;
      }
    })();
    expect(error).toBeInstanceOf(SystemError);
    expect([(error as SystemError).code, (error as SystemError).errno]).toEqual(["ENOENT", 2]);
    expect((error as SystemError).message).toBe('open("/proc/nothing-of-this-name"): ENOENT (No such file or directory)');
    const fd = makeEventFd();
    expect(() => ioctl(fd, "KVM_CREATE_VM", 0xae01)).toThrow("ioctl(KVM_CREATE_VM): ENOTTY");
    expect(interruptibleIoctl(fd, 0xae01, 0)).toBe(-25);
    closeFd(fd);
  });

  it("wake the event loop by an eventfd, once for what is taken at once, and not after the end", async () => {
    expect(isMainThread).toBe(true);
    const fd = makeEventFd();
    let woken = 0;
    const watch = watchReadable(fd, () => {
      woken++;
      expect(takeEventFd(fd)).toBe(true);
    });
    const turn = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 5));
    await turn();
    expect([woken, takeEventFd(fd)]).toEqual([0, false]);
    signalEventFd(fd);
    signalEventFd(fd);
    await turn();
    expect(woken).toBe(1);
    watch.close();
    watch.close();
    signalEventFd(fd);
    await turn();
    expect(woken).toBe(1);
    closeFd(fd);
  });

  it("know this thread as the kernel does", () => {
    expect(threadId()).toBe(process.pid);
  });
});

it("a refused call has one name for each errno, the one that refused host calls have", () => {
  expect([95, 77, 11, 999].map((errno) => new SystemError("ioctl", errno).code)).toEqual(["EOPNOTSUPP", "EBADFD", "EAGAIN", "E999"]);
  expect(new SystemError("ioctl(X)", 95).message).toBe("ioctl(X): EOPNOTSUPP (Operation not supported)");
});
