/** The last mappings that were taken down, so that a finding can say who did it: a ring, allocating nothing. */
import type { Trace } from './place.ts';

const KEPT = 1024;

/** See the file's head. */
export class History {
  readonly address = new Float64Array(KEPT);
  readonly size = new Float64Array(KEPT);
  readonly device = new Int32Array(KEPT).fill(-1);
  readonly mappedTraces: (Trace | null)[] = new Array(KEPT).fill(null);
  readonly unmappedTraces: (Trace | null)[] = new Array(KEPT).fill(null);
  #at = 0;

  /** Remember one that ends now. */
  add(device: number, address: number, size: number, mapped: Trace | null, unmapped: Trace | null): void {
    const at = this.#at;
    this.address[at] = address;
    this.size[at] = size;
    this.device[at] = device;
    this.mappedTraces[at] = mapped;
    this.unmappedTraces[at] = unmapped;
    this.#at = (at + 1) % KEPT;
  }
  /** The newest that shares a byte with the range; device -1 is any. Its index, or -1. */
  find(device: number, address: number, size: number): number {
    for (let back = 1; back <= KEPT; back++) {
      const at = (this.#at - back + KEPT) % KEPT;
      if (this.device[at]! < 0) return -1;
      if (device >= 0 && this.device[at] !== device) continue;
      if (this.address[at]! < address + size && address < this.address[at]! + this.size[at]!) return at;
    }
    return -1;
  }
}
