/** Windows of a bus into physical addresses, where one offset is not enough: the VideoCore's bus on the BCM2835. */
import { BusStatus, type Translation, type Translator } from '../machine/index.ts';

/** `sizeBytes` bytes at `bus` on the bus are those at `phys`. */
export interface BusWindow {
  readonly bus: number;
  readonly phys: number;
  readonly sizeBytes: number;
}

/** See the file's head. Nothing decodes an address outside of the windows. */
export class BusWindows implements Translator {
  readonly #windows: readonly BusWindow[];

  constructor(windows: readonly BusWindow[]) {
    this.#windows = windows;
  }

  translate(_requesterId: number, addr: number, sizeBytes: number, _isWrite: boolean, result: Translation): BusStatus {
    for (let i = 0; i < this.#windows.length; i++) {
      const window = this.#windows[i]!;
      const offset = addr - window.bus;
      if (offset < 0 || offset >= window.sizeBytes) continue;
      result.phys = window.phys + offset;
      result.sizeBytes = Math.min(sizeBytes, window.sizeBytes - offset);
      return BusStatus.OK;
    }
    return BusStatus.DECODE_ERROR;
  }
}
