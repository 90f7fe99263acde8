/** Rigs with a device that dma-direct serves. */
import { dmaBitMask } from '../base/addr.ts';
import { Device, type DmaRange, Kernel, type KernelOptions } from '../kernel/index.ts';
import { SimMachine } from '../machine/sim/sim-machine.ts';
import type { MappingRig, MappingRigOptions } from './ops.cases.ts';

/** What `directRig` may be told. */
export interface DirectRigOptions extends Partial<MappingRigOptions> {
  readonly coherent?: boolean;
  readonly cacheLineBytes?: number;
  readonly weaklyOrdered?: boolean;
  readonly ram?: readonly { readonly base: number; readonly sizeBytes: number }[];
  readonly dmaRangeMap?: readonly DmaRange[];
  /** Added to physical addresses on the device's bus. */
  readonly busOffset?: number;
  readonly kernel?: KernelOptions;
}

/** A machine of 1 MiB, unless told otherwise, with a device that can address 32 bits. */
export function directRig(options: DirectRigOptions = {}): MappingRig {
  const ram = options.ram ?? [{ base: 0, sizeBytes: 2 ** 20 }];
  const machine = new SimMachine({
    name: 'direct',
    coherent: options.coherent ?? true,
    cacheLineBytes: options.cacheLineBytes ?? 64,
    weaklyOrdered: options.weaklyOrdered ?? false,
    seed: options.seed ?? 1,
    cacheNoise: options.cacheNoise ?? 'off',
    ram,
  });
  const kernel = new Kernel(machine, options.kernel);
  const dev = new Device(kernel, 'tester');
  dev.dmaMask = dmaBitMask(32);
  dev.coherentDmaMask = dmaBitMask(32);
  dev.dmaParms = { maxSegmentSize: 0, segmentBoundaryMask: 0, minAlignMask: 0 };
  dev.dmaRangeMap = options.dmaRangeMap ?? null;
  const bus = machine.busMaster({ name: 'tester', busOffset: options.busOffset ?? 0 });
  return {
    kernel,
    dev,
    ramBytes: ram.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    deviceRead(addr, sizeBytes) {
      const bytes = new Uint8Array(sizeBytes);
      return bus.read(addr, bytes, 0, sizeBytes) === 0 ? bytes : null;
    },
    deviceWrite: (addr, bytes) => bus.write(addr, bytes, 0, bytes.length) === 0,
  };
}
