import { MEMORY_ABORT, type WordMemory, type WordWindow } from "../../memory/index.js";

/** Memory that is read and not written: what would change it is refused. Its loads leave those of its owner alone. */
export class ReadOnlyWords implements WordMemory {
  loadedLow = 0;
  loadedHigh = 0;

  constructor(private readonly inner: WordMemory) {}

  get flat(): Int32Array {
    return this.inner.flat;
  }

  get flatBase(): number {
    return this.inner.flatBase;
  }

  get flatBytes(): number {
    return this.inner.flatBytes;
  }

  window(addressHigh: number, addressLow: number): WordWindow | undefined {
    return this.inner.window?.(addressHigh, addressLow);
  }

  load64(addressHigh: number, addressLow: number): number {
    const { inner } = this;
    const { loadedHigh, loadedLow } = inner;
    const answer = inner.load64(addressHigh, addressLow);
    this.loadedHigh = inner.loadedHigh;
    this.loadedLow = inner.loadedLow;
    inner.loadedHigh = loadedHigh;
    inner.loadedLow = loadedLow;
    return answer;
  }

  store64(): number {
    return MEMORY_ABORT;
  }

  compareExchange64(): number {
    return MEMORY_ABORT;
  }
}
