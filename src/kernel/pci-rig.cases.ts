/** PCI functions made of bytes, to hold the kernel's scan against configuration spaces of all kinds, bad ones among them. */
import type { PciFunction } from '../machine/model.ts';
import { SimMachine } from '../machine/sim/sim-machine.ts';
import { Kernel, type KernelOptions } from './kernel.ts';
import type { BridgeWindow } from './pci-host-bridge.ts';

const MIB = 2 ** 20;

/** A window below 4 GiB, one above, and ports. */
export const RIG_WINDOWS: readonly BridgeWindow[] = [
  { start: 0xa_0000, end: 0xb_ffff, offset: 0, type: 'mem' },
  { start: 0xc000_0000, end: 0xc0ff_ffff, offset: 0, type: 'mem' },
  { start: 0x10_0000_0000, end: 0x1f_ffff_ffff, offset: 0, type: 'mem' },
  { start: 0x1000, end: 0xffff, offset: 0, type: 'io' },
];

/** A register of 32 bits: what it holds, and which bits a write stores. */
export interface FakeRegister {
  value: number;
  readonly writable: number;
}

/** A function whose configuration space is a list of registers by offset; the others are zero. */
export class FakeFunction implements PciFunction {
  readonly bdf: number;
  readonly registers = new Map<number, FakeRegister>();
  /** Command register values, in the order in which they were written. */
  readonly commands: number[] = [];
  /** Whether it answers; a function behind a bridge may not. */
  visible = (): boolean => true;

  constructor(bdf: number, vendor: number, device: number, classCode: number, headerType = 0) {
    this.bdf = bdf;
    this.set(0x00, (vendor | (device << 16)) >>> 0);
    this.set(0x04, 0, 0x0000_0547);
    this.set(0x08, (classCode << 8) >>> 0);
    this.set(0x0c, (headerType << 16) >>> 0, 0xff);
    this.set(0x3c, 0, 0xff);
  }
  set(offset: number, value: number, writable = 0): this {
    this.registers.set(offset, { value: value >>> 0, writable: writable >>> 0 });
    return this;
  }
  /** A memory BAR of 32 bits (64 with `is64`) at `address`. */
  bar(index: number, sizeBytes: number, address = 0, is64 = false): this {
    const low = (2 ** 32 - (sizeBytes % 2 ** 32)) % 2 ** 32;
    this.set(0x10 + 4 * index, (address % 2 ** 32) | (is64 ? 4 : 0), low === 0 ? 0 : low);
    if (!is64) return this;
    const high = sizeBytes >= 2 ** 32 ? 2 ** 32 - sizeBytes / 2 ** 32 : 0xffff_ffff;
    return this.set(0x14 + 4 * index, Math.floor(address / 2 ** 32), high);
  }
  /** Capabilities: [offset, id, next]. */
  capabilities(...entries: readonly (readonly [number, number, number])[]): this {
    this.set(0x04, 0x0010_0000, 0x0000_0547);
    this.set(0x34, entries[0]![0]);
    for (const [at, id, next] of entries) this.set(at, id | (next << 8));
    return this;
  }
  get command(): number {
    return this.registers.get(4)!.value & 0xffff;
  }
  /** What the registers hold at `offset`. */
  at(offset: number): number {
    return this.registers.get(offset)?.value ?? 0;
  }

  configRead(offset: number, width: number): number {
    if (!this.visible()) return -1;
    const word = this.registers.get(offset & ~3)?.value ?? 0;
    return (word >>> (8 * (offset & 3))) & (width === 4 ? -1 : 2 ** (8 * width) - 1);
  }
  configWrite(offset: number, width: number, value: number): void {
    const register = this.registers.get(offset & ~3);
    if (register === undefined || !this.visible()) return;
    const shift = 8 * (offset & 3);
    const lanes = ((width === 4 ? 0xffff_ffff : 2 ** (8 * width) - 1) << shift) >>> 0;
    const mask = lanes & register.writable;
    register.value = ((register.value & ~mask) | ((value << shift) & mask)) >>> 0;
    if ((offset & ~3) === 4) this.commands.push(this.command);
  }
}

/** A bridge: functions behind it answer when its bus numbers are set up for theirs. */
export function fakeBridge(bdf: number, buses = 0): FakeFunction {
  const bridge = new FakeFunction(bdf, 0x1b36, 0x000c, 0x06_0400, 1);
  bridge.set(0x18, buses, 0x00ff_ffff);
  bridge.set(0x1c, 0x0000_01f1, 0xf0f0);
  return bridge.set(0x20, 0, 0xfff0_fff0).set(0x24, 0x0001_fff1, 0xfff0_fff0);
}
/** Let `fn` answer only while `bridge` passes accesses on to its bus. */
export function behind(bridge: FakeFunction, fn: FakeFunction): FakeFunction {
  fn.visible = () => {
    const buses = bridge.at(0x18);
    const bus = fn.bdf >>> 8;
    return bridge.visible() && bus >= ((buses >>> 8) & 0xff) && bus <= ((buses >>> 16) & 0xff);
  };
  return fn;
}

/** A coherent machine with these functions; message-signalled interrupts at 0xfee00000 unless `msiBase` says otherwise. */
export function pciRig(functions: readonly PciFunction[], options: KernelOptions = {}, msiBase = 0xfee0_0000): Kernel {
  const machine = new SimMachine({
    name: 'pci',
    coherent: true,
    seed: 1,
    ram: [{ base: 0, sizeBytes: 16 * MIB }],
    ...(msiBase < 0 ? {} : { msiBase }),
  });
  for (const fn of functions) machine.addPciFunction(fn);
  return new Kernel(machine, options);
}
