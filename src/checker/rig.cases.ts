/** What the checker's tests stand on: a machine, a kernel, devices that are bus masters, and a checker that listens. */
import { type DmaAddr, dmaBitMask } from '../base/addr.ts';
import { Device, GFP_KERNEL, getFreePages, Kernel, kmalloc } from '../kernel/index.ts';
import { SimMachine } from '../machine/index.ts';
import type { Mem } from '../machine/mem.ts';
import type { BusMaster } from '../machine/model.ts';
import { dmaInit, dmaSetMaskAndCoherent } from '../mapping/index.ts';
import { attachChecker, type Checker, type CheckerOptions } from './checker.ts';
import type { Finding, RuleId } from './finding.ts';

/** A device that does on the bus what it is told. */
export interface RigDevice {
  readonly dev: Device;
  readonly bus: BusMaster;
  read(addr: number, size: number): Uint8Array;
  /** Write `size` bytes of `value`. Returns the bus status. */
  write(addr: number, size: number, value?: number): number;
}

export interface Rig {
  readonly machine: SimMachine;
  readonly kernel: Kernel;
  readonly checker: Checker;
  /** `labdma`, and `labdma2`. */
  readonly a: RigDevice;
  readonly b: RigDevice;
  kmalloc(size: number): Mem;
  pages(order: number): Mem;
  /** Rules of the findings so far, in order. */
  found(): RuleId[];
  findings(): Finding[];
}

export interface RigOptions extends CheckerOptions {
  readonly coherent?: boolean;
  readonly seed?: number;
  readonly cacheNoise?: 'on' | 'off';
  /** Boot arguments; the bounce buffers that they ask for are set up. */
  readonly cmdline?: string;
}

/** Lines of 32 bytes; non-coherent and without cache noise unless told otherwise. */
export function makeRig(options: RigOptions = {}): Rig {
  const machine = new SimMachine({
    name: 'rig',
    coherent: options.coherent ?? false,
    cacheLineBytes: 32,
    seed: options.seed ?? 1,
    cacheNoise: options.cacheNoise ?? 'off',
    ram: [{ base: 0x10_0000, sizeBytes: 32 << 20 }],
  });
  const kernel = new Kernel(machine, { cmdline: options.cmdline ?? '' });
  if (options.cmdline !== undefined) dmaInit(kernel);
  const checker = attachChecker({ machine, kernel }, options);
  const make = (name: string): RigDevice => {
    const dev = new Device(kernel, name);
    dev.dmaMask = dmaBitMask(64);
    dmaSetMaskAndCoherent(dev, dmaBitMask(64));
    kernel.devices.push(dev);
    const bus = machine.busMaster({ name });
    return {
      dev,
      bus,
      read(addr, size) {
        const into = new Uint8Array(size);
        bus.read(addr, into, 0, size);
        return into;
      },
      write: (addr, size, value = 0xd7) => bus.write(addr, new Uint8Array(size).fill(value), 0, size),
    };
  };
  const must = (mem: Mem | null): Mem => {
    if (mem === null) throw new Error('the rig is out of memory');
    return mem;
  };
  return {
    machine,
    kernel,
    checker,
    a: make('labdma'),
    b: make('labdma2'),
    kmalloc: (size) => must(kmalloc(kernel, size, GFP_KERNEL)),
    pages: (order) => must(getFreePages(kernel, GFP_KERNEL, order)),
    found: () => checker.findings().map(({ rule }) => rule),
    findings: () => checker.findings(),
  };
}

/** An address that nobody was given. */
export const NOWHERE = 0x1234_5000 as DmaAddr;
