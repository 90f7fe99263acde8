/**
 * The safe layer: mappings that end with their scope, and whose type says who owns the memory. A `DeviceOwned` mapping has
 * an address for the device and no bytes; borrowed for the CPU it is a `CpuOwned` one, which has bytes and no address.
 *
 * ```ts
 * using buffer = mapStreaming(dev, mem, DMA_FROM_DEVICE);   // unmapped at the end of the block
 * await receive(buffer.addr, buffer.size);
 * {
 *   using view = buffer.forCpu();                           // synced for the CPU here …
 *   parse(view.bytes);
 * }                                                         // … and back for the device here
 * ```
 */
import { DMA_MAPPING_ERROR, type DmaAddr } from '../base/addr.ts';
import type { Device } from '../kernel/device.ts';
import type { DmaDataDirection } from '../kernel/dma-direction.ts';
import type { Gfp } from '../kernel/gfp.ts';
import type { Mem } from '../kernel/index.ts';
import { dmaAllocCoherent, dmaFreeCoherent } from './coherent.ts';
import { dmaMappingError } from './error.ts';
import { dmaMapSingle, dmaUnmapSingle } from './streaming.ts';
import { dmaSyncSingleForCpu, dmaSyncSingleForDevice } from './sync.ts';

/** A buffer could not be mapped, or memory not be had. */
export class MappingFailedError extends Error {
  override name = 'MappingFailedError';
}
/** Memory was used by somebody who does not own it. */
export class OwnershipError extends Error {
  override name = 'OwnershipError';
}

/** A mapped buffer that the device owns. */
export class DeviceOwned implements Disposable {
  readonly dev: Device;
  readonly size: number;
  readonly dir: DmaDataDirection;
  readonly #addr: DmaAddr;
  readonly #mem: Mem;
  #state: 'device' | 'cpu' | 'unmapped' = 'device';

  /** @internal Use `mapStreaming`. */
  constructor(dev: Device, mem: Mem, dir: DmaDataDirection, addr: DmaAddr) {
    this.dev = dev;
    this.size = mem.size;
    this.dir = dir;
    this.#addr = addr;
    this.#mem = mem;
  }
  /** Where the device finds it. Throws `OwnershipError` while the CPU has it, or after unmapping. */
  get addr(): DmaAddr {
    this.#demand('device');
    return this.#addr;
  }
  /** Hand the buffer to the CPU, until the view is disposed of. Throws `OwnershipError` when it is not the device's. */
  forCpu(): CpuOwned {
    this.#demand('device');
    this.#state = 'cpu';
    dmaSyncSingleForCpu(this.dev, this.#addr, this.size, this.dir);
    return new CpuOwned(this.#mem, () => {
      if (this.#state !== 'cpu') return;
      this.#state = 'device';
      dmaSyncSingleForDevice(this.dev, this.#addr, this.size, this.dir);
    });
  }
  /** Unmap now, rather than at the end of the scope. Doing it again does nothing. */
  unmap(): void {
    if (this.#state === 'unmapped') return;
    this.#state = 'unmapped';
    dmaUnmapSingle(this.dev, this.#addr, this.size, this.dir);
  }
  [Symbol.dispose](): void {
    this.unmap();
  }
  #demand(state: 'device'): void {
    if (this.#state === state) return;
    const now = this.#state === 'cpu' ? 'the CPU has it' : 'it was unmapped';
    throw new OwnershipError(`the device does not own this buffer of ${this.size} bytes: ${now}`);
  }
}

/** A mapped buffer that the CPU has borrowed from the device. */
export class CpuOwned implements Disposable {
  readonly #mem: Mem;
  #giveBack: (() => void) | null;

  /** @internal Use `DeviceOwned.forCpu`. */
  constructor(mem: Mem, giveBack: () => void) {
    this.#mem = mem;
    this.#giveBack = giveBack;
  }
  /** Throws `OwnershipError` after it was given back. */
  get mem(): Mem {
    if (this.#giveBack === null) throw new OwnershipError('this buffer was given back to the device');
    return this.#mem;
  }
  get bytes(): Uint8Array {
    return this.mem.bytes;
  }
  /** Hand it back to the device now, rather than at the end of the scope. */
  giveBack(): void {
    const giveBack = this.#giveBack;
    this.#giveBack = null;
    giveBack?.();
  }
  [Symbol.dispose](): void {
    this.giveBack();
  }
}

/** Map `mem` for the time of a scope. Throws `MappingFailedError`. */
export function mapStreaming(dev: Device, mem: Mem, dir: DmaDataDirection): DeviceOwned {
  const addr = dmaMapSingle(dev, mem, dir);
  if (dmaMappingError(dev, addr) !== 0 || addr === DMA_MAPPING_ERROR) {
    throw new MappingFailedError(`${dev.name} cannot map ${mem.size} bytes at 0x${mem.phys.toString(16)}`);
  }
  return new DeviceOwned(dev, mem, dir, addr);
}

/** Coherent memory for the time of a scope: both sides own it. */
export class CoherentBuffer implements Disposable {
  readonly dev: Device;
  readonly mem: Mem;
  readonly addr: DmaAddr;
  readonly size: number;
  #freed = false;

  /** @internal Use `allocCoherent`. */
  constructor(dev: Device, size: number, mem: Mem, addr: DmaAddr) {
    this.dev = dev;
    this.size = size;
    this.mem = mem;
    this.addr = addr;
  }
  [Symbol.dispose](): void {
    if (this.#freed) return;
    this.#freed = true;
    dmaFreeCoherent(this.dev, this.size, this.mem, this.addr);
  }
}
/** Coherent memory for the time of a scope. Throws `MappingFailedError` when there is none. */
export function allocCoherent(dev: Device, size: number, gfp: Gfp): CoherentBuffer {
  const memory = dmaAllocCoherent(dev, size, gfp);
  if (memory === null) throw new MappingFailedError(`${dev.name} gets no ${size} bytes of coherent memory`);
  return new CoherentBuffer(dev, size, memory.mem, memory.handle);
}
