import { type PhysAddr, physAddr } from '../../base/addr.ts';
import type { BusMaster, IrqLine, RegisterBlock } from '../model.ts';
import type { SimMachineOptions } from './options.ts';
import { SimMachine } from './sim-machine.ts';

export const RIG_BASE = physAddr(0x4000_0000);
export const RAM_BASE = physAddr(0x10_0000);
export const SCRATCH = 0x00;
export const SRC = 0x04;
export const DST = 0x08;
/** Writing a length starts the copy. */
export const GO = 0x0c;
export const ACK = 0x10;
export const RIG_LINE = 7;

/** A device to test with: a register that keeps its value, and an engine that copies. */
export class TestDevice implements RegisterBlock {
  readonly bus: BusMaster;
  readonly line: IrqLine;
  /** Every register write in its order: [offset, value]. */
  readonly writes: [number, number][] = [];
  scratch = 0;
  #src = 0;
  #dst = 0;
  #length = 0;
  readonly #finish;

  constructor(machine: SimMachine) {
    this.bus = machine.busMaster({ name: 'tester' });
    this.line = machine.irqLine(RIG_LINE);
    this.#finish = machine.timer(() => {
      this.bus.copy(this.#dst, this.#src, this.#length);
      this.line.set(true);
    });
    machine.mapRegisters(RIG_BASE, 0x100, 'tester', this);
  }
  readRegister(offset: number): number {
    return offset === SCRATCH ? this.scratch : 0;
  }
  writeRegister(offset: number, _width: number, value: number): void {
    this.writes.push([offset, value]);
    if (offset === SCRATCH) this.scratch = value;
    else if (offset === SRC) this.#src = value;
    else if (offset === DST) this.#dst = value;
    else if (offset === ACK) this.line.set(false);
    else if (offset === GO) {
      this.#length = value;
      this.#finish.start(500 + value);
    }
  }
}

/** A machine with a `TestDevice`. */
export interface Rig {
  readonly machine: SimMachine;
  readonly device: TestDevice;
}
/** A small non-coherent machine, unless told otherwise. */
export function makeRig(options: Partial<SimMachineOptions> = {}): Rig {
  const machine = new SimMachine({
    name: 'rig',
    coherent: false,
    cacheLineBytes: 32,
    seed: 1,
    ram: [{ base: RAM_BASE, sizeBytes: 0x10_0000 }],
    ...options,
  });
  return { machine, device: new TestDevice(machine) };
}
/** The address of one of the test device's registers. */
export function reg(offset: number): PhysAddr {
  return physAddr(RIG_BASE + offset);
}
