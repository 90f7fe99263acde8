/** What tests of the PL330 share: the controller on a rig, and programs written down as bytes. */
import { Prng, physAddr } from '../base/index.ts';
import { Rig } from './model-rig.cases.ts';
import { Pl330Model } from './pl330.ts';
import type { Pl330Options } from './pl330-config.ts';

export const BASE = 0xf800_3000;
export const ABORT_LINE = 45;
/** Event n has line 46 + n. */
export const EVENT_LINE = 46;

// Instructions as bytes, typed from the TRM's encodings.
const word = (value: number): number[] => [0, 8, 16, 24].map((shift) => (value >>> shift) & 0xff);
export const MOV_SAR = (value: number): number[] => [0xbc, 0x00, ...word(value)];
export const MOV_CCR = (value: number): number[] => [0xbc, 0x01, ...word(value)];
export const MOV_DAR = (value: number): number[] => [0xbc, 0x02, ...word(value)];
export const LP0 = (iterations: number): number[] => [0x20, iterations - 1];
export const LP1 = (iterations: number): number[] => [0x22, iterations - 1];
export const LPEND0 = (back: number): number[] => [0x38, back];
export const LPEND1 = (back: number): number[] => [0x3c, back];
export const LPEND_FOREVER = (back: number): number[] => [0x28, back];
export const LD = 0x04;
export const ST = 0x08;
export const STZ = 0x0c;
export const RMB = 0x12;
export const WMB = 0x13;
export const NOP = 0x18;
export const END = 0x00;
export const KILL = 0x01;
export const SEV = (event: number): number[] => [0x34, event << 3];
export const WFE = (event: number): number[] => [0x36, event << 3];

/** CCR for incrementing bursts: `size` as its logarithm, `beats` from 1. */
export function ccr(size: number, beats: number, dstSize = size, dstBeats = beats): number {
  return 0x4001 | (size << 1) | ((beats - 1) << 4) | (dstSize << 15) | ((dstBeats - 1) << 18);
}

/** The controller as a driver's registers show it. */
export class Dmac {
  readonly rig: Rig;
  constructor(options: Partial<Pl330Options> = {}, memoryBytes = 1 << 20, seed = 1) {
    this.rig = new Rig(memoryBytes, 0, seed);
    new Pl330Model(this.rig, {
      base: physAddr(BASE),
      master: { name: 'dmac' },
      irqLines: Array.from({ length: options.events ?? 16 }, (_, event) => EVENT_LINE + event),
      abortIrqLine: ABORT_LINE,
      ...options,
    });
  }
  get memory(): Uint8Array {
    return this.rig.memory;
  }
  read(offset: number): number {
    return this.rig.read(BASE + offset);
  }
  write(offset: number, value: number): void {
    this.rig.write(BASE + offset, value);
  }
  /** Fill a part of memory with random bytes. */
  random(start: number, bytes: number, seed = 1): Uint8Array {
    const part = this.memory.subarray(start, start + bytes);
    new Prng(seed).fill(part);
    return part.slice();
  }
  /** Put a program into memory. */
  program(at: number, ...code: (number | number[])[]): void {
    this.memory.set(code.flat(), at);
  }
  /** Give an instruction by the debug registers: to a channel, or to the manager (-1). */
  debug(thread: number, bytes: readonly number[]): void {
    const [b0 = 0, b1 = 0, ...rest] = bytes;
    this.write(0xd08, ((b1 << 24) | (b0 << 16) | (thread < 0 ? 0 : 1 | (thread << 8))) >>> 0);
    this.write(
      0xd0c,
      rest.reduce((value, byte, i) => (value | (byte << (8 * i))) >>> 0, 0),
    );
    this.write(0xd04, 0);
  }
  /** DMAGO of a channel. */
  start(channel: number, at: number, nonSecure = false): void {
    this.debug(-1, [nonSecure ? 0xa2 : 0xa0, channel, ...word(at)]);
    this.rig.run(100);
  }
  /** Put a program at 0x1000 * (channel + 1) and start it. */
  run(channel: number, code: (number | number[])[], forNs = 1e6): void {
    const at = 0x1000 * (channel + 1);
    this.program(at, ...code);
    this.start(channel, at);
    this.rig.run(forNs);
  }
  state(channel: number): number {
    return this.read(0x100 + 8 * channel) & 15;
  }
  pc(channel: number): number {
    return this.read(0x104 + 8 * channel);
  }
  sar(channel: number): number {
    return this.read(0x400 + 0x20 * channel);
  }
  dar(channel: number): number {
    return this.read(0x404 + 0x20 * channel);
  }
  fault(channel: number): number {
    return this.read(0x40 + 4 * channel);
  }
  get aborted(): boolean {
    return this.rig.lines.get(ABORT_LINE) === true;
  }
  interrupt(event: number): boolean {
    return this.rig.lines.get(EVENT_LINE + event) === true;
  }
}
