/**
 * Where a group's calls are made: a fresh iommufd and functions that this group has opened. Each call is made once,
 * its answer kept under its name, and a refused one stops nothing: what it would have given is 0 in the calls that
 * follow, as it would be in a program that does not look. Everything that was opened is closed at the end.
 */
import type { EventStream, HostEvent, Host, Iommufd, VfioDevice } from "../iommufd/index.js";
import type { RamBlock } from "../memory/index.js";
import { type Answer, NotExpressible, refusedAnswer } from "./answer.js";
import type { SuiteOptions } from "./group.js";
import type { Facts } from "./survey.js";

/** Functions of the host, by what they are for. */
export interface Subjects {
  /** The function under test (host PCI address). */
  readonly device: string;
  /** Another one behind the same IOMMU. */
  readonly neighbour: string | null;
  /** One behind another IOMMU. */
  readonly stranger: string | null;
}

/** A function that is bound to the group's iommufd. */
export interface Bound {
  readonly device: VfioDevice;
  readonly devId: number;
}

/** A run of the process's memory. */
export interface Memory {
  readonly address: number;
  readonly bytes: number;
  /** The file that it is of, and where in it; null: none that can be named. */
  readonly file: { readonly fd: number; readonly offset: number } | null;
}

export class Bench {
  readonly answers = new Map<string, Answer>();
  private readonly iommufds: Iommufd[] = [];
  private readonly devices: VfioDevice[] = [];
  private readonly events: HostEvent[] = [];
  private readonly streams: EventStream[] = [];
  private readonly blocks: RamBlock[] = [];
  private first: Iommufd | null = null;

  constructor(
    readonly host: Host,
    readonly subjects: Subjects,
    readonly facts: Facts,
    readonly options: SuiteOptions,
  ) {}

  /** The group's iommufd. */
  get iommufd(): Iommufd {
    this.first ??= this.openIommufd();
    return this.first;
  }

  openIommufd(): Iommufd {
    const iommufd = this.host.openIommufd();
    this.iommufds.push(iommufd);
    return iommufd;
  }

  open(address: string = this.subjects.device): VfioDevice {
    const device = this.host.openDevice(address);
    this.devices.push(device);
    return device;
  }

  /** A function, bound to the group's iommufd; 0 as its id where that is refused. */
  bind(address: string = this.subjects.device): Bound {
    const device = this.open(address);
    return { device, devId: this.quiet(() => device.bind(this.iommufd.fd)) ?? 0 };
  }

  /** Memory that begins at a multiple of `alignment`. Bytes. */
  memory(bytes: number, alignment = 0x20_0000): Memory {
    const block = this.host.allocateMemory("conformance", bytes + alignment);
    this.blocks.push(block);
    const offset = (alignment - (block.hostAddress % alignment)) % alignment;
    const { fd } = block.backing;
    return { address: block.hostAddress + offset, bytes, file: fd === null ? null : { fd, offset } };
  }

  event(): HostEvent {
    const event = this.host.makeEvent();
    this.events.push(event);
    return event;
  }

  /** Keeps a stream that a call has given, to close it at the end. */
  keep<T extends EventStream>(stream: T): T {
    this.streams.push(stream);
    return stream;
  }

  /** Makes a call: what it returns is what its answer tells behind "ok". */
  call(name: string, make: () => string | void): void {
    this.answer(name, () => {
      const told = make();
      return told === undefined ? "ok" : `ok ${told}`;
    });
  }

  /** Makes a call that gives an id. @returns the id, 0 where it is refused */
  id(name: string, make: () => number): number {
    let id = 0;
    this.call(name, () => {
      id = make();
    });
    return id;
  }

  /** Makes a call whose whole answer is what it returns, unless it throws. */
  answer(name: string, make: () => Answer): void {
    if (this.answers.has(name)) {
      throw new RangeError(`two calls of one group are named ${JSON.stringify(name)}`);
    }
    let answer: Answer;
    try {
      answer = make();
    } catch (error) {
      answer = refusedAnswer(error);
    }
    this.answers.set(name, answer);
  }

  /** Makes a call that prepares others and that is no answer of its own; null where it is refused. */
  quiet<T>(make: () => T): T | null {
    try {
      return make();
    } catch (error) {
      refusedAnswer(error);
      return null;
    }
  }

  /** An ioctl by its number and bytes. @throws NotExpressible where the host has none */
  ioctl(fd: number, request: number, argument: Uint8Array | null, pointers: ReadonlyArray<{ at: number; to: Uint8Array }> = []): void {
    if (this.host.rawIoctl === undefined) {
      throw new NotExpressible();
    }
    this.host.rawIoctl.ioctl(fd, request, argument, pointers);
  }

  /** Closes all that the group has opened, users first. */
  close(): void {
    this.streams.forEach((stream) => this.quiet(() => stream.close()));
    this.devices.forEach((device) => this.quiet(() => device.close()));
    this.iommufds.forEach((iommufd) => this.quiet(() => iommufd.close()));
    this.events.forEach((event) => this.quiet(() => event.close()));
    this.blocks.forEach((block) => this.quiet(() => this.host.freeMemory(block)));
  }
}
