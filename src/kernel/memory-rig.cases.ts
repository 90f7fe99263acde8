/** Machines to test the allocators on. */
import { SimMachine } from '../machine/sim/sim-machine.ts';
import { Kernel, type KernelOptions } from './kernel.ts';

export const MIB = 2 ** 20;

/** What `memoryRig` may be told. */
export interface MemoryRigOptions extends KernelOptions {
  readonly ram?: readonly { readonly base: number; readonly sizeBytes: number }[];
  readonly coherent?: boolean;
  readonly cacheLineBytes?: number;
}

/** A kernel on a coherent machine of 64 MiB from address 0, unless told otherwise. */
export function memoryRig(options: MemoryRigOptions = {}): Kernel {
  const machine = new SimMachine({
    name: 'memory',
    coherent: options.coherent ?? true,
    cacheLineBytes: options.cacheLineBytes ?? 64,
    seed: 1,
    ram: options.ram ?? [{ base: 0, sizeBytes: 64 * MIB }],
  });
  return new Kernel(machine, options);
}
/** The messages of the kernel's splats so far. */
export function splatMessages(kernel: Kernel): string[] {
  return kernel.splats.map((splat) => splat.message);
}
/** The kernel's log so far, without times. */
export function logText(kernel: Kernel): string {
  return kernel.log.lines.map((line) => line.text).join('\n');
}
