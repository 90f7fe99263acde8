/** What the DMA engine keeps for each kernel. */
import type { Kernel } from '../kernel/kernel.ts';
import { Mutex } from '../kernel/mutex.ts';
import { DMA_TX_TYPE_END } from './cap-mask.ts';
import type { DmaChan } from './dma-chan.ts';
import type { DmaDevice } from './dma-device.ts';
import { describeUnissued } from './outstanding.ts';

/** @internal The global state of dmaengine.c. */
export class DmaengineCore {
  readonly kernel: Kernel;
  /** Registered devices, in order of registration. */
  readonly devices: DmaDevice[] = [];
  /** Device numbers in use. */
  readonly ids: boolean[] = [];
  /** Clients of the general pool (`dmaengineGet`). */
  refCount = 0;
  /** For each transaction type, the channel that `dmaFindChannel` gives (on the one CPU). */
  readonly table: (DmaChan | null)[] = new Array<DmaChan | null>(DMA_TX_TYPE_END).fill(null);
  /** Held by all who get or give back channels. @linux dma_list_mutex */
  readonly listMutex: Mutex;

  constructor(kernel: Kernel) {
    this.kernel = kernel;
    this.listMutex = new Mutex(kernel, 'dma_list_mutex');
    kernel.hungTaskHints.push(() => describeUnissued(this.devices));
  }
}

const key = {};
const make = (kernel: Kernel): DmaengineCore => new DmaengineCore(kernel);
/** @internal */
export function dmaengineCore(kernel: Kernel): DmaengineCore {
  return kernel.subsystem(key, make);
}

/** The registered DMA devices of a kernel, in order of registration. @linux dma_device_list */
export function dmaDevices(kernel: Kernel): readonly DmaDevice[] {
  return dmaengineCore(kernel).devices;
}

/** @internal The lowest free number, taken. @linux ida_alloc */
export function idaAlloc(ids: boolean[]): number {
  let id = 0;
  while (ids[id] === true) id++;
  ids[id] = true;
  return id;
}
/** @internal @linux ida_free */
export function idaFree(ids: boolean[], id: number): void {
  ids[id] = false;
}
