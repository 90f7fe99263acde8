import type { PciFunction } from '../model.ts';

/** PCI configuration space: the functions by bus, device and function number. */
export class PciConfig {
  readonly #functions = new Map<number, PciFunction>();

  add(fn: PciFunction): void {
    if (this.#functions.has(fn.bdf)) throw new Error(`there is a PCI function at 0x${fn.bdf.toString(16)} already`);
    this.#functions.set(fn.bdf, fn);
  }
  read(bdf: number, offset: number, width: 1 | 2 | 4): number {
    const fn = this.#functions.get(bdf);
    return fn === undefined ? -1 : fn.configRead(offset, width);
  }
  write(bdf: number, offset: number, width: 1 | 2 | 4, value: number): void {
    this.#functions.get(bdf)?.configWrite(offset, width, value);
  }
}
