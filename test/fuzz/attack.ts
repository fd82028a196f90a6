/** Between the random guest and what it does to IOMMUs of one architecture. */
import type { Random } from "./random.js";
import type { World } from "./world.js";

/** What an attack has of the random guest. Addresses are guest-physical. */
export interface Tools {
  readonly world: World;
  readonly random: Random;
  /** Of an access, in bytes. */
  readonly size: number;
  /** Requester ids of functions, and some that are nobody's. */
  readonly sourceIds: number[];
  read(address: number, size: number): bigint;
  write(address: number, size: number, value: bigint): void;
  /** A number that means something here, or one that means nothing. */
  value(): bigint;
  ramAddress(): number;
  /** A page that the honest guest has used. */
  page(): number;
  isRam(address: number): boolean;
  /** What was in RAM when the honest guest had booted. */
  restorePages(): void;
}

export interface Attack {
  /** Notes what the honest guest has programmed. */
  remember(): void;
  restoreRegisters(): void;
  /** Has all IOMMUs forget what they have of tables; where they did, each function is where its entry says. */
  settle(): void;
  writeRegister(): void;
  pushCommands(): void;
  writeEntry(): void;
  /** One invalidation or the like, after a table was written. */
  invalidateSome(): void;
  /** Invalidations of every kind and scope, as many as the queues take. */
  invalidate(): void;
  /** The guest's drivers go on: errors acknowledged, events taken. */
  acknowledge(): void;
  /** Messages that no function sent. */
  writeDoorbell(): void;
  /** Address of a register; of one that commands. */
  register(): number;
  commandRegister(): number;
  /** An address among the chipset's registers. */
  chipset(): number;
}
