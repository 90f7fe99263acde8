/** Registers and ports. Accesses are time points. Values are unsigned and little-endian. */
import {
  addrAdd,
  alignDown,
  alignUp,
  fromLoHi,
  hexAddr,
  hi32,
  lo32,
  offsetIn,
  PAGE_SIZE,
  type PhysAddr,
} from '../base/addr.ts';
import { type Errno, ETIMEDOUT, OK } from '../base/errno.ts';
import type { Machine } from '../machine/contract.ts';
import { mightSleep } from './context.ts';
import type { Kernel } from './kernel.ts';
import { splat } from './panic.ts';
import { usleepRange } from './wait.ts';

/** Mapped registers; offsets are in bytes from its start. @linux __iomem */
export class IoMem {
  readonly kernel: Kernel;
  readonly phys: PhysAddr;
  /** In bytes, as asked for. */
  readonly size: number;
  /** How far accesses reach: to the end of the last page. */
  readonly #limit: number;
  readonly machine: Machine;
  /** What all parts of one mapping share. */
  readonly #mapping: { mapped: boolean };

  /** @internal Use `ioremap`. */
  constructor(kernel: Kernel, phys: PhysAddr, size: number, mapping: { mapped: boolean }) {
    this.kernel = kernel;
    this.machine = kernel.machine;
    this.phys = phys;
    this.size = size;
    this.#mapping = mapping;
    this.#limit = alignUp(phys + size, PAGE_SIZE) - phys;
  }
  /** The registers from `offset` on, as pointer arithmetic. */
  slice(offset: number, size: number = this.size - offset): IoMem {
    return new IoMem(this.kernel, addrAdd(this.phys, offset), size, this.#mapping);
  }
  /** False after `iounmap`, of it or of what it is a part of, or when the mapping was refused. */
  get mapped(): boolean {
    return this.#mapping.mapped;
  }
  /** @internal */
  unmap(): void {
    this.#mapping.mapped = false;
  }
  /** @internal Whether an access may be made; what may not is reported. */
  reachable(offset: number, width: number): boolean {
    const inside = offset >= 0 && offset + width <= this.#limit;
    if (inside && this.#mapping.mapped === true && offsetIn(offset + this.phys, width) === 0) return true;
    this.#refuse(offset, width);
    return false;
  }
  #refuse(offset: number, width: number): void {
    const at = `${offset < 0 ? '-' : ''}0x${Math.abs(offset).toString(16)}`;
    const what = `${8 * width}-bit access at offset ${at} of the registers at ${hexAddr(this.phys)}`;
    const message = !this.mapped
      ? `Unable to handle kernel paging request: ${what}, which are not mapped (any more)`
      : offset < 0 || offset + width > this.#limit
        ? `Unable to handle kernel paging request: ${what}, which are ${this.size} bytes`
        : `Unhandled fault: alignment fault: ${what}`;
    splat(this.kernel, 'io', message, [this.kernel.context.describe()]);
  }
}

/** Map registers. RAM is refused with a warning: what is returned then cannot be used. May sleep. @linux ioremap */
export function ioremap(kernel: Kernel, phys: PhysAddr, size: number): IoMem {
  mightSleep(kernel, 'ioremap');
  const first = alignDown(phys, PAGE_SIZE);
  const last = alignUp(phys + size, PAGE_SIZE) - 1;
  let mapped = size > 0;
  if (kernel.machine.bankAt(first) !== null || kernel.machine.bankAt(last) !== null) {
    splat(kernel, 'io', `WARNING: ioremap on RAM at ${hexAddr(first)} - ${hexAddr(last)}`);
    mapped = false;
  }
  return new IoMem(kernel, phys, size, { mapped });
}
/** Registers may not be accessed through this mapping any more. @linux iounmap */
export function iounmap(io: IoMem): void {
  if (!io.mapped) splat(io.kernel, 'io', `WARNING: Trying to iounmap() nonexistent mapping of ${hexAddr(io.phys)}`);
  io.unmap();
}

/** Read a byte; later loads see memory as it was then, or newer. All ones where nothing answers. @linux readb */
export function readb(io: IoMem, offset: number): number {
  if (!io.reachable(offset, 1)) return 0xff;
  const value = io.machine.read8(addrAdd(io.phys, offset));
  io.machine.barrier('rmb');
  return value;
}
/** @linux readw */
export function readw(io: IoMem, offset: number): number {
  if (!io.reachable(offset, 2)) return 0xffff;
  const value = io.machine.read16(addrAdd(io.phys, offset));
  io.machine.barrier('rmb');
  return value;
}
/** Read 32 bits; later loads see memory as it was then, or newer. All ones where nothing answers. @linux readl */
export function readl(io: IoMem, offset: number): number {
  if (!io.reachable(offset, 4)) return 0xffff_ffff;
  const value = io.machine.read32(addrAdd(io.phys, offset));
  io.machine.barrier('rmb');
  return value;
}
/** Read without barrier. @linux readl_relaxed */
export function readlRelaxed(io: IoMem, offset: number): number {
  return io.reachable(offset, 4) ? io.machine.read32(addrAdd(io.phys, offset)) : 0xffff_ffff;
}
/** Two 32-bit reads, the low half first; exact below 2^53. @linux readq, lo_hi_readq */
export function readq(io: IoMem, offset: number): number {
  const lo = readl(io, offset);
  return fromLoHi(lo, readl(io, offset + 4));
}
/** Write a byte, after all stores before it. Posted: a read makes sure that it arrived. @linux writeb */
export function writeb(value: number, io: IoMem, offset: number): void {
  if (!io.reachable(offset, 1)) return;
  io.machine.barrier('wmb');
  io.machine.write8(addrAdd(io.phys, offset), value);
}
/** @linux writew */
export function writew(value: number, io: IoMem, offset: number): void {
  if (!io.reachable(offset, 2)) return;
  io.machine.barrier('wmb');
  io.machine.write16(addrAdd(io.phys, offset), value);
}
/** Write 32 bits, after all stores before it. Posted: a read makes sure that it arrived. @linux writel */
export function writel(value: number, io: IoMem, offset: number): void {
  if (!io.reachable(offset, 4)) return;
  io.machine.barrier('wmb');
  io.machine.write32(addrAdd(io.phys, offset), value >>> 0);
}
/** Write without barrier: stores to memory before it may arrive later. @linux writel_relaxed */
export function writelRelaxed(value: number, io: IoMem, offset: number): void {
  if (io.reachable(offset, 4)) io.machine.write32(addrAdd(io.phys, offset), value >>> 0);
}
/** Two 32-bit writes, the low half first; `value` below 2^53. @linux writeq, lo_hi_writeq */
export function writeq(value: number, io: IoMem, offset: number): void {
  writel(lo32(value), io, offset);
  writel(hi32(value), io, offset + 4);
}

/** Read an 8-bit x86 port; all ones where there is none. @linux inb */
export function inb(kernel: Kernel, port: number): number {
  return kernel.machine.portRead(port, 1);
}
/** @linux inw */
export function inw(kernel: Kernel, port: number): number {
  return kernel.machine.portRead(port, 2);
}
/** @linux inl */
export function inl(kernel: Kernel, port: number): number {
  return kernel.machine.portRead(port, 4);
}
/** Write an 8-bit x86 port; not posted. @linux outb */
export function outb(kernel: Kernel, value: number, port: number): void {
  kernel.machine.portWrite(port, 1, value);
}
/** @linux outw */
export function outw(kernel: Kernel, value: number, port: number): void {
  kernel.machine.portWrite(port, 2, value);
}
/** @linux outl */
export function outl(kernel: Kernel, value: number, port: number): void {
  kernel.machine.portWrite(port, 4, value);
}

/**
 * Read until `condition` holds of the value: OK, or ETIMEDOUT after `timeoutUs` (0: never). Sleeps `sleepUs` in between,
 * or only relaxes the CPU when that is 0. @linux readl_poll_timeout
 */
export async function readlPollTimeout(
  io: IoMem,
  offset: number,
  condition: (value: number) => boolean,
  sleepUs: number,
  timeoutUs: number,
): Promise<Errno> {
  if (sleepUs > 0) mightSleep(io.kernel, 'readl_poll_timeout');
  const deadlineNs = io.machine.now() + timeoutUs * 1000;
  for (;;) {
    if (condition(readl(io, offset))) return OK;
    // Once more after the deadline: the wait may have taken longer than asked for.
    if (timeoutUs > 0 && io.machine.now() > deadlineNs) return condition(readl(io, offset)) ? OK : ETIMEDOUT;
    if (sleepUs > 0) await usleepRange(io.kernel, Math.ceil(sleepUs / 4) + 1, sleepUs);
    else io.machine.cpuRelax();
  }
}
/** The same without sleeping: `delayUs` of busy waiting in between. Any context. @linux readl_poll_timeout_atomic */
export function readlPollTimeoutAtomic(
  io: IoMem,
  offset: number,
  condition: (value: number) => boolean,
  delayUs: number,
  timeoutUs: number,
): Errno {
  const deadlineNs = io.machine.now() + timeoutUs * 1000;
  for (;;) {
    if (condition(readl(io, offset))) return OK;
    if (timeoutUs > 0 && io.machine.now() > deadlineNs) return condition(readl(io, offset)) ? OK : ETIMEDOUT;
    if (delayUs > 0) io.machine.delay(delayUs * 1000);
    else io.machine.cpuRelax();
  }
}
