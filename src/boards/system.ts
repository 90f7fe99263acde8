/** A booted board: a machine, a kernel on it, and its devices once something runs. */
import {
  type Device,
  deviceDel,
  driverRegister,
  Kernel,
  type KernelOptions,
  type OfNode,
  ofPlatformPopulate,
  waitForDeviceProbe,
} from '../kernel/index.ts';
import { FrameKind, frameKindName, type Machine } from '../machine/index.ts';
import { dmaInit } from '../mapping/index.ts';
import type { Board, BootOptions } from './board.ts';
import type { Mode } from './mode.ts';

/** What is left after `System.close`. */
export interface Teardown {
  /** Pages that were taken after the boot and never given back, by kind of use; empty when all is well. */
  readonly leaks: readonly { readonly use: string; readonly pages: number }[];
  /** Warnings and bugs of the whole run. */
  readonly splats: readonly string[];
  /** Why the devices could not be taken away, where that is so: a driver hangs, or the run had ended with a panic. */
  readonly failure?: string;
}

/** Uses of memory that end with the driver; slab pages are kept for reuse, and are no leak. */
const TRANSIENT = [FrameKind.PAGES, FrameKind.COHERENT, FrameKind.VMALLOC, FrameKind.STACK] as const;

/** See the file's head. */
export class System {
  /** The board's name. */
  readonly board: string;
  /** The mode's text; '' is the board as it is. */
  readonly mode: string;
  readonly seed: number;
  readonly machine: Machine;
  readonly kernel: Kernel;
  readonly definition: Board;
  readonly modeTerms: Mode;
  readonly #tree: OfNode;
  readonly #untrusted: boolean;
  #probed = false;
  #usedAtBoot: number[] = [];

  /** @internal `Board.boot` makes systems. */
  constructor(
    board: Board,
    mode: Mode,
    machine: Machine,
    seed: number,
    kernelOptions: KernelOptions,
    tree: OfNode,
    options: BootOptions,
  ) {
    this.board = board.name;
    this.mode = mode.text;
    this.seed = seed;
    this.machine = machine;
    this.definition = board;
    this.modeTerms = mode;
    this.#tree = tree;
    this.kernel = new Kernel(machine, kernelOptions);
    dmaInit(this.kernel, tree);
    this.kernel.observer = options.observers?.kernel ?? null;
    this.kernel.mappingObserver = options.observers?.mapping ?? null;
    this.kernel.dmaengineObserver = options.observers?.dmaengine ?? null;
    this.kernel.iommuObserver = options.observers?.iommu ?? null;
    this.#untrusted = options.untrusted ?? false;
  }

  /**
   * Run `main` in process context until it ends; the first time, the board's devices are probed before. Rejects with
   * what `main` threw, and with the reports of runs that have no end (see `Scheduler.run`).
   */
  run<T>(main: (kernel: Kernel) => Promise<T> | T): Promise<T> {
    return this.kernel.run(async (kernel) => {
      if (!this.#probed) await this.#probe();
      return main(kernel);
    });
  }

  async #probe(): Promise<void> {
    this.#probed = true;
    await this.definition.start?.(this.kernel, { mode: this.modeTerms, untrusted: this.#untrusted });
    this.#usedAtBoot = this.#usedPages();
    for (const driver of this.definition.drivers) await driverRegister(this.kernel, driver);
    await ofPlatformPopulate(this.kernel, this.#tree);
    await waitForDeviceProbe(this.kernel);
  }

  /** Devices of the board that have a node and no driver. */
  get unbound(): readonly Device[] {
    return this.kernel.devices.filter((dev) => dev.ofNode !== null && dev.driver === null);
  }

  /** Take all devices away, newest first, and tell what drivers and clients left behind. The system is not used again. */
  async close(): Promise<Teardown> {
    const failure = await this.#removeDevices();
    const used = this.#usedPages();
    const leaks = TRANSIENT.map((kind, i) => ({
      use: frameKindName(kind),
      pages: used[i]! - (this.#usedAtBoot[i] ?? used[i]!),
    }));
    const found = {
      leaks: leaks.filter(({ pages }) => pages > 0),
      splats: this.kernel.splats.map(({ message }) => message),
    };
    return failure === null ? found : { ...found, failure };
  }
  /** Returns why that was not possible, or null. */
  async #removeDevices(): Promise<string | null> {
    if (this.kernel.dead !== null) return this.kernel.dead.message;
    if (!this.#probed) return null;
    try {
      await this.kernel.run(async (kernel) => {
        for (const dev of kernel.devices.slice().reverse()) await deviceDel(dev);
      });
      return null;
    } catch (error) {
      return (error as Error).message;
    }
  }

  #usedPages(): number[] {
    const counts = new Array<number>(16).fill(0);
    for (const { kinds } of this.machine.ram) for (const kind of kinds) counts[kind]!++;
    return TRANSIENT.map((kind) => counts[kind]!);
  }
}
