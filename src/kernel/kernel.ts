/**
 * A kernel on a machine: what belongs to it and nobody else, so that several can run in one process. Functions that have
 * no device or other object to find it from take it first.
 */
import { alignUp, type PhysAddr } from '../base/addr.ts';
import type { Machine } from '../machine/contract.ts';
import { HungTaskError } from '../machine/scheduler.ts';
import { Context } from './context.ts';
import type { Device } from './device.ts';
import { DriverCore } from './driver-core.ts';
import { IrqCore } from './irq.ts';
import type { KThread } from './kthread.ts';
import type { KernelObserver, Splat } from './observer.ts';
import { PageAllocator } from './page-alloc.ts';
import { KernelLog } from './printk.ts';
import { SoftirqCore } from './softirq.ts';
import { WorkerPool } from './workqueue.ts';

/** Memory that the kernel never hands out. */
export interface ReservedMemory {
  readonly phys: number;
  readonly sizeBytes: number;
  /** A `FrameKind`; default RESERVED. */
  readonly kind?: number;
}

/** How the kernel was configured, where it matters here: CONFIG_ symbols without their prefix. */
export interface KernelConfig {
  /** Freed and fresh blocks of a dma_pool are filled with patterns and checked, and frees are checked. Default off. */
  readonly DMAPOOL_DEBUG?: boolean;
  /** Size of the default CMA area without `cma=`, in MiB. Default 0. */
  readonly CMA_SIZE_MBYTES?: number;
  /** The unmap-state macros keep what they are given. Default on. @linux NEED_DMA_MAP_STATE */
  readonly NEED_DMA_MAP_STATE?: boolean;
  /** A scatterlist entry has a DMA length beside its length. Default on. @linux NEED_SG_DMA_LENGTH */
  readonly NEED_SG_DMA_LENGTH?: boolean;
}

/** What a board tells its kernel. */
export interface KernelOptions {
  /** The boot command line, e.g. `swiotlb=force iommu.strict=1`. */
  readonly cmdline?: string;
  readonly config?: KernelConfig;
  /** ARCH_DMA_MINALIGN in bytes, a power of two; default: the cache line on a non-coherent machine, else 8. */
  readonly dmaMinAlign?: number;
  /** One past the last physical address of ZONE_DMA; 0: no such zone. */
  readonly zoneDmaLimit?: number;
  /** One past the last physical address of ZONE_DMA32; 0: no such zone. */
  readonly zoneDma32Limit?: number;
  /** One past the last physical address that all devices reach: RAM above brings bounce buffers. Default: 4 GiB. */
  readonly dmaPhysLimit?: number;
  /**
   * One past the last physical address that early boot counts as low, where bounce buffers go. Default: the end of
   * ZONE_DMA, or 4 GiB without one. @linux ARCH_LOW_ADDRESS_LIMIT
   */
  readonly lowAddressLimit?: number;
  /** Physical address from which RAM is HIGHMEM; absent: none is. */
  readonly highmemStart?: number;
  readonly reserved?: readonly ReservedMemory[];
}

/** See the file's head. */
export class Kernel {
  readonly machine: Machine;
  readonly options: KernelOptions;
  /** Parsed boot arguments: `swiotlb` → `force`; an argument without value has ''. The last of several holds. */
  readonly cmdline: ReadonlyMap<string, string>;
  /** @linux ARCH_DMA_MINALIGN, ARCH_KMALLOC_MINALIGN */
  readonly dmaMinAlign: number;
  readonly log = new KernelLog();
  /** Every warning and bug so far, in order. */
  readonly splats: Splat[] = [];
  /** @internal Messages of `warnOnce` that were reported. */
  readonly warnedOnce = new Set<string>();
  readonly context: Context;
  /** @internal */
  readonly softirqs: SoftirqCore;
  /** @internal */
  readonly irqs: IrqCore;
  /** @internal */
  readonly workers: WorkerPool;
  /** @internal */
  readonly driverCore: DriverCore;
  /** @internal Running kernel threads by task. */
  readonly kthreads = new Map<object, KThread>();
  readonly pages: PageAllocator;
  /** Devices that were added, in order. */
  readonly devices: Device[] = [];
  /**
   * Called with a device whose driver was unbound, after its managed resources were released: what it still holds then,
   * it leaked. Also called when a probe failed.
   */
  readonly unbindHooks: ((dev: Device) => void)[] = [];
  /** Called with a device that was added, before a driver is looked for. @linux BUS_NOTIFY_ADD_DEVICE */
  readonly addHooks: ((dev: Device) => void)[] = [];
  /** Called with a device that is gone, after its driver was unbound. @linux BUS_NOTIFY_REMOVED_DEVICE */
  readonly removeHooks: ((dev: Device) => void)[] = [];
  /**
   * The bus address under which a device reaches the register that takes interrupt messages; an IOMMU that translates
   * messages like any access sets it. Negative: an error. Null: the physical address. @linux iommu_dma_prepare_msi
   */
  msiAddress: ((dev: Device, doorbell: PhysAddr) => number) | null = null;
  /** Asked when the run hangs: lines that may explain it, e.g. what was submitted to a DMA channel and never issued. */
  readonly hungTaskHints: (() => string[])[] = [];
  /** Told what the kernel does; null costs nothing. */
  observer: KernelObserver | null = null;
  /** Note where in the source each spin lock is taken, to say so in reports. Costs a stack trace a lock. */
  debugLocks = false;
  /** Typed by src/mapping. */
  mappingObserver: unknown = null;
  /** Typed by src/dmaengine. */
  dmaengineObserver: unknown = null;
  /** Typed by src/iommu. */
  iommuObserver: unknown = null;
  /** What the run ended with after a panic or deadlock; no code should run any more. */
  dead: Error | null = null;
  readonly #subsystems = new Map<object, unknown>();

  /** Takes over the machine's interrupts and its scheduler's switches: one kernel to a machine. */
  constructor(machine: Machine, options: KernelOptions = {}) {
    this.machine = machine;
    this.options = options;
    this.cmdline = parseCmdline(options.cmdline ?? '');
    this.dmaMinAlign = options.dmaMinAlign ?? (machine.traits.coherent ? 8 : alignUp(machine.traits.cacheLineBytes, 8));
    this.context = new Context(this);
    this.softirqs = new SoftirqCore(this);
    this.irqs = new IrqCore(this);
    this.workers = new WorkerPool(this);
    this.driverCore = new DriverCore(this);
    this.pages = new PageAllocator(this);
  }

  /** The state of an upper layer that belongs to this kernel, made on first use. `key` is any object of that layer. */
  subsystem<T>(key: object, make: (kernel: Kernel) => T): T {
    let state = this.#subsystems.get(key) as T | undefined;
    if (state === undefined) {
      state = make(this);
      this.#subsystems.set(key, state);
    }
    return state;
  }

  /**
   * Run `main` as a task in process context, and time, until it ends. Rejects as `Scheduler.run` does, and with
   * KernelPanic or DeadlockError; after those, no more code runs on this kernel.
   */
  async run<T>(main: (kernel: Kernel) => Promise<T> | T): Promise<T> {
    if (this.dead !== null) throw this.dead;
    try {
      return await this.machine.scheduler.run('main', () => main(this));
    } catch (error) {
      if (error instanceof HungTaskError) this.#explain(error);
      throw error;
    }
  }
  #explain(error: HungTaskError): void {
    error.hints = this.hungTaskHints.flatMap((hint) => hint());
    for (const hint of error.hints) if (!error.message.includes(hint)) error.message += `\n${hint}`;
  }
}

/** Split as the kernel does: arguments at blanks outside double quotes, name and value at the first `=`. */
export function parseCmdline(text: string): Map<string, string> {
  const parsed = new Map<string, string>();
  for (const [argument] of text.matchAll(/(?:"[^"]*"|[^\s"])+/g)) {
    const plain = argument.replaceAll('"', '');
    const equals = plain.indexOf('=');
    const name = equals < 0 ? plain : plain.slice(0, equals);
    parsed.set(name, equals < 0 ? '' : plain.slice(equals + 1));
  }
  return parsed;
}
