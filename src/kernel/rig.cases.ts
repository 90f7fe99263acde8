/** What the kernel's own tests run on: a small simulated machine with one device that raises interrupts on request. */
import { type PhysAddr, physAddr } from '../base/addr.ts';
import type { IrqLine, RegisterBlock } from '../machine/model.ts';
import type { SimMachineOptions } from '../machine/sim/options.ts';
import { SimMachine } from '../machine/sim/sim-machine.ts';
import { type IoMem, ioremap } from './io.ts';
import { Kernel, type KernelOptions } from './kernel.ts';

export const RAM_BASE = 0x4000_0000;
export const RIG_REGS: PhysAddr = physAddr(0x1000_0000);
export const RIG_IRQ = 40;

/**
 * Registers: 0x0 is memory; a write to 0x4 raises the line after so many ns; a write to 0x8 lowers it; a write to 0xc
 * pulses line 41 at once; 0x10 counts its reads.
 */
export class RigDevice implements RegisterBlock {
  readonly line: IrqLine;
  readonly edge: IrqLine;
  scratch = 0;
  reads = 0;
  /** Offsets written, in order. */
  readonly writes: number[] = [];
  readonly #machine: SimMachine;
  constructor(machine: SimMachine) {
    this.#machine = machine;
    this.line = machine.irqLine(RIG_IRQ);
    this.edge = machine.irqLine(RIG_IRQ + 1);
    machine.mapRegisters(RIG_REGS, 0x1000, 'rig', this);
  }
  readRegister(offset: number): number {
    if (offset === 0x10) return ++this.reads;
    return offset === 0 ? this.scratch : 0;
  }
  writeRegister(offset: number, _width: number, value: number): void {
    this.writes.push(offset);
    if (offset === 0) this.scratch = value;
    if (offset === 4) this.#machine.after(value, () => this.line.set(true));
    if (offset === 8) this.line.set(false);
    if (offset === 0xc) this.edge.pulse();
  }
}

export interface Rig {
  readonly machine: SimMachine;
  readonly kernel: Kernel;
  readonly device: RigDevice;
  readonly regs: IoMem;
  /** Messages of the splats so far. */
  splats(): string[];
}
export function rig(options: Partial<SimMachineOptions> = {}, kernelOptions: KernelOptions = {}): Rig {
  const machine = new SimMachine({
    name: 'rig',
    coherent: true,
    seed: 1,
    ram: [{ base: RAM_BASE, sizeBytes: 16 << 20 }],
    ...options,
  });
  const device = new RigDevice(machine);
  const kernel = new Kernel(machine, kernelOptions);
  const regs = ioremap(kernel, RIG_REGS, 0x1000);
  return { machine, kernel, device, regs, splats: () => kernel.splats.map((splat) => splat.message) };
}
