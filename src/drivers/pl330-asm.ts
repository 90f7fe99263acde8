/** An assembler for the PL330: each method is an instruction of TRM 4.3, put behind the one before. */
import { KernelBug } from '../base/index.ts';
import { PL330_OP as OP, PL330_RD as RD } from '../regs/pl330.ts';

/** Which of a peripheral's requests an instruction is for: `always` means unconditional. */
export type Condition = 'single' | 'burst' | 'always';
const CONDITION = { always: 0, single: 1, burst: 3 } as const;

/** A program under construction in a part of memory. */
export class Pl330Assembler {
  #bytes: Uint8Array = new Uint8Array(0);
  #at = 0;
  #end = 0;

  /** Start a program at `offset`, of at most `sizeBytes` bytes. */
  begin(bytes: Uint8Array, offset: number, sizeBytes: number): void {
    this.#bytes = bytes;
    this.#at = offset;
    this.#end = offset + sizeBytes;
  }
  /** Where the next instruction goes: a label to jump back to. */
  get here(): number {
    return this.#at;
  }
  #emit(byte: number): void {
    if (this.#at >= this.#end) throw new KernelBug('pl330: the program is longer than its buffer');
    this.#bytes[this.#at++] = byte;
  }
  #emit32(value: number): void {
    for (let shift = 0; shift < 32; shift += 8) this.#emit((value >>> shift) & 0xff);
  }
  #emitNumbered(opcode: number, number: number): void {
    if (number < 0 || number > 31)
      throw new KernelBug(`pl330: events and peripherals have numbers 0 to 31, found ${number}`);
    this.#emit(opcode);
    this.#emit(number << 3);
  }

  /** Move a 32-bit value into SAR, CCR or DAR. */
  DMAMOV(register: keyof typeof RD, value: number): void {
    this.#emit(OP.DMAMOV);
    this.#emit(RD[register]);
    this.#emit32(value);
  }
  /** Add 0 to 65535 to SAR or DAR. */
  DMAADDH(register: 'SAR' | 'DAR', value: number): void {
    this.#add(OP.DMAADDH, register, value);
  }
  /** Add -65536 to -1 to SAR or DAR. */
  DMAADNH(register: 'SAR' | 'DAR', value: number): void {
    this.#add(OP.DMAADNH, register, value + 0x1_0000);
  }
  #add(opcode: number, register: 'SAR' | 'DAR', half: number): void {
    if (half < 0 || half > 0xffff) throw new KernelBug(`pl330: an addend of 16 bits does not hold ${half}`);
    this.#emit(opcode | (register === 'DAR' ? 2 : 0));
    this.#emit(half & 0xff);
    this.#emit(half >>> 8);
  }
  /** Load as the source half of CCR says, into the MFIFO. */
  DMALD(condition: Condition = 'always'): void {
    this.#emit(OP.DMALD | CONDITION[condition]);
  }
  /** Store as the destination half of CCR says, from the MFIFO. */
  DMAST(condition: Condition = 'always'): void {
    this.#emit(OP.DMAST | CONDITION[condition]);
  }
  /** Store zeros. */
  DMASTZ(): void {
    this.#emit(OP.DMASTZ);
  }
  /** Load, and tell the peripheral that its request is served. */
  DMALDP(condition: 'single' | 'burst', peripheral: number): void {
    this.#emitNumbered(OP.DMALDP | (condition === 'burst' ? 2 : 0), peripheral);
  }
  /** Store, and tell the peripheral that its request is served. */
  DMASTP(condition: 'single' | 'burst', peripheral: number): void {
    this.#emitNumbered(OP.DMASTP | (condition === 'burst' ? 2 : 0), peripheral);
  }
  /** Wait until the peripheral requests a single transfer, a burst, or either (`periph`). */
  DMAWFP(condition: 'single' | 'burst' | 'periph', peripheral: number): void {
    this.#emitNumbered(OP.DMAWFP | (condition === 'burst' ? 2 : condition === 'periph' ? 1 : 0), peripheral);
  }
  /** Forget a peripheral's requests, and have it say again what it wants. */
  DMAFLUSHP(peripheral: number): void {
    this.#emitNumbered(OP.DMAFLUSHP, peripheral);
  }
  /** Begin a loop of 1 to 256 iterations with counter 0 or 1. */
  DMALP(counter: 0 | 1, iterations: number): void {
    if (iterations < 1 || iterations > 256)
      throw new KernelBug(`pl330: a loop has 1 to 256 iterations, found ${iterations}`);
    this.#emit(OP.DMALP | (counter << 1));
    this.#emit(iterations - 1);
  }
  /** End the loop whose body begins at the label `start`. */
  DMALPEND(counter: 0 | 1, start: number, condition: Condition = 'always'): void {
    this.#loopEnd(0x10 | (counter << 2), start, condition);
  }
  /** End an endless loop (DMALPFE); the peripheral's last request ends it. */
  DMALPFEEND(start: number, condition: Condition = 'always'): void {
    // With a condition, loop counter 0 would make it a DMASTP.
    this.#loopEnd(condition === 'always' ? 0 : 4, start, condition);
  }
  #loopEnd(bits: number, start: number, condition: Condition): void {
    const back = this.#at - start;
    if (back < 0 || back > 255) throw new KernelBug(`pl330: a loop's body has up to 255 bytes, found ${back}`);
    this.#emit(OP.DMALPEND | bits | CONDITION[condition]);
    this.#emit(back);
  }
  /** Wait until all loads of the channel are done. */
  DMARMB(): void {
    this.#emit(OP.DMARMB);
  }
  /** Wait until all stores of the channel are done. */
  DMAWMB(): void {
    this.#emit(OP.DMAWMB);
  }
  DMANOP(): void {
    this.#emit(OP.DMANOP);
  }
  /** Signal an event: an interrupt where INTEN says so. */
  DMASEV(event: number): void {
    this.#emitNumbered(OP.DMASEV, event);
  }
  /** Wait for an event; `invalidate` drops the instruction cache, for programs that changed meanwhile. */
  DMAWFE(event: number, invalidate = false): void {
    this.#emitNumbered(OP.DMAWFE, event);
    if (invalidate) this.#bytes[this.#at - 1]! |= 2;
  }
  DMAEND(): void {
    this.#emit(OP.DMAEND);
  }
}

// Instructions for the debug registers: DBGINST0 without the thread, and DBGINST1.

/** DMAGO of a channel; its DBGINST1 is the program's bus address. */
export function dbgDMAGO(channel: number, nonSecure: boolean): number {
  return (((OP.DMAGO | (nonSecure ? 2 : 0)) << 16) | (channel << 24)) >>> 0;
}
/** DMAKILL. */
export function dbgDMAKILL(): number {
  return OP.DMAKILL << 16;
}
