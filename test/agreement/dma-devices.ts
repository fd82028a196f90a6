/** QEMU's two devices that make accesses, as a guest drives them. */
import type { Driver } from "./driver.js";

/** edu's registers, and its buffer of 4096 bytes in its own address space. */
const SOURCE = 0x80;
const DESTINATION = 0x88;
const COUNT = 0x90;
const COMMAND = 0x98;
export const EDU_BUFFER = 0x40000;
const RUN = 1;
const TO_RAM = 2;

/** Registers of iommu-testdev. */
const TESTDEV = { trigger: 0x00, iovaLow: 0x04, iovaHigh: 0x08, length: 0x0c, result: 0x10, doorbell: 0x14, attributes: 0x18, gpaLow: 0x1c, gpaHigh: 0x20 } as const;

export class Edu {
  constructor(
    private readonly driver: Driver,
    private readonly bar: number,
  ) {}

  /** Copies bytes from RAM into the buffer, `at` bytes from its start. */
  read(source: number | bigint, at: number, count: number): Promise<void> {
    return this.run(source, EDU_BUFFER + at, count, 0);
  }

  /** Copies bytes of the buffer, from `at` on, to RAM. */
  write(at: number, destination: number | bigint, count: number): Promise<void> {
    return this.run(EDU_BUFFER + at, destination, count, TO_RAM);
  }

  private async run(source: number | bigint, destination: number | bigint, count: number, direction: number): Promise<void> {
    const { driver, bar } = this;
    driver.write(bar + SOURCE, 8, source);
    driver.write(bar + DESTINATION, 8, destination);
    driver.write(bar + COUNT, 8, count);
    driver.write(bar + COMMAND, 8, direction | RUN);
    await driver.finish(bar + COMMAND, 8, BigInt(RUN));
  }
}

/** iommu-testdev at `bar` writes its pattern through the IOMMU and looks for it at `expected`: its result code. */
export function testdevWrite(driver: Driver, bar: number, iova: bigint, expected: number, length: number): Promise<string> {
  driver.write(bar + TESTDEV.iovaLow, 4, iova & 0xffff_ffffn);
  driver.write(bar + TESTDEV.iovaHigh, 4, iova >> 32n);
  driver.write(bar + TESTDEV.gpaLow, 4, expected);
  driver.write(bar + TESTDEV.gpaHigh, 4, 0);
  driver.write(bar + TESTDEV.length, 4, length);
  driver.write(bar + TESTDEV.doorbell, 4, 1);
  return Promise.all([driver.read(bar + TESTDEV.trigger, 4), driver.read(bar + TESTDEV.result, 4)]).then(([zero, code]) => (zero === 0n ? code.toString(16) : `trigger ${zero}`));
}
