/** An SMMU on a bare machine, with tables written by hand: every number here is typed from the specification. */
import assert from 'node:assert/strict';
import { physAddr } from '../base/addr.ts';
import { type BusMaster, BusStatus, SimMachine, type Translation } from '../machine/index.ts';
import { SmmuModel } from './smmu-v3.ts';
import type { SmmuOptions } from './smmu-v3-config.ts';

export const RAM = 0x4000_0000;
export const BASE = 0x0905_0000;
export const STRTAB = RAM + 0x1_0000;
export const CDTAB = RAM + 0x2_0000;
export const L0 = RAM + 0x3_0000;
export const L1 = RAM + 0x3_1000;
export const L2 = RAM + 0x3_2000;
export const L3 = RAM + 0x3_3000;
/** Stage 2, from level 1. */
export const S2L1 = RAM + 0x3_8000;
export const S2L2 = RAM + 0x3_9000;
export const S2L3 = RAM + 0x3_a000;
export const CMDQ = RAM + 0x4_0000;
export const EVENTQ = RAM + 0x5_0000;
/** Where data pages begin. */
export const DATA = RAM + 0x10_0000;
export const EVENT_IRQ = 106;
export const SYNC_IRQ = 108;
export const GERROR_IRQ = 109;
export const MSI_BASE = 0x0802_0040;
/** A page of stage 1 that all may read and write, of one ASID. */
export const PAGE_RW = 0xc43n;
export const TABLE = 3n;
/** A context descriptor's first quadword: 48-bit addresses, stage 1's upper half off, AArch64, valid, ASID 5, faults recorded. */
export const CD0 =
  16n | (1n << 30n) | (1n << 31n) | (4n << 32n) | (1n << 41n) | (1n << 45n) | (1n << 46n) | (5n << 48n);
/** A stream-table entry for stage 1 with the context table at CDTAB. */
export const STE_STAGE1 = 1n | (5n << 1n) | BigInt(CDTAB);
/** For stage 2: 39-bit addresses from level 1, AArch64, faults recorded, VMID 9. */
export const STE_S2_FIELDS = 9n | (25n << 32n) | (1n << 38n) | (4n << 48n) | (1n << 51n) | (1n << 58n);

/** See the file's head. */
export class SmmuRig {
  readonly machine: SimMachine;
  readonly smmu: SmmuModel;
  /** Lines that were delivered. */
  readonly lines: number[] = [];
  readonly #result: Translation = { phys: 0, sizeBytes: 0 };
  readonly #masters = new Map<number, BusMaster>();
  #prod = 0;

  constructor(options: Partial<SmmuOptions> = {}) {
    this.machine = new SimMachine({
      name: 'smmu-rig',
      coherent: true,
      seed: 1,
      ram: [{ base: RAM, sizeBytes: 16 * 2 ** 20 }],
      msiBase: MSI_BASE,
    });
    this.smmu = new SmmuModel(this.machine, {
      base: physAddr(BASE),
      eventIrq: EVENT_IRQ,
      syncIrq: SYNC_IRQ,
      gerrorIrq: GERROR_IRQ,
      ...options,
    });
    this.machine.setIrqHandler((line) => this.lines.push(line));
    for (const line of [EVENT_IRQ, SYNC_IRQ, GERROR_IRQ]) this.machine.enableIrqLine(line);
  }

  read(offset: number): number {
    return this.machine.read32(physAddr(BASE + offset));
  }
  write(offset: number, value: number): void {
    this.machine.write32(physAddr(BASE + offset), value);
  }
  write64(offset: number, value: bigint): void {
    this.write(offset, Number(value & 0xffff_ffffn));
    this.write(offset + 4, Number(value >> 32n));
  }
  /** Write a control register, and wait for its acknowledgement. */
  control(offset: number, value: number): void {
    this.write(offset, value);
    for (let i = 0; i < 100; i++) if (this.read(offset + 4) === value) return;
    assert.fail(`register 0x${offset.toString(16)} is not acknowledged`);
  }

  #view(phys: number): DataView {
    const { memory } = this.machine.bankAt(phys)!;
    return new DataView(memory.buffer, phys - RAM);
  }
  get64(phys: number): bigint {
    return this.#view(phys).getBigUint64(0, true);
  }
  set64(phys: number, ...values: bigint[]): void {
    for (const [i, value] of values.entries()) this.#view(phys + 8 * i).setBigUint64(0, value, true);
  }
  /** Write a stream-table entry. */
  ste(sid: number, ...values: bigint[]): void {
    this.set64(STRTAB + 64 * sid, ...[...values, 0n, 0n, 0n, 0n, 0n, 0n, 0n, 0n].slice(0, 8));
  }
  /** Write a context descriptor. */
  cd(index: number, first: bigint, table = BigInt(L0)): void {
    this.set64(CDTAB + 64 * index, first, table, 0n, 0xf4_04_ff_44n);
  }
  /** Tables of stage 1 of four levels, for one region of 2 MiB at `va`; entries of the last level by page. */
  stage1(va: number, entries: Record<number, bigint>): void {
    this.set64(L0 + 8 * Math.floor(va / 2 ** 39), BigInt(L1) | TABLE);
    this.set64(L1 + 8 * (Math.floor(va / 2 ** 30) % 512), BigInt(L2) | TABLE);
    this.set64(L2 + 8 * (Math.floor(va / 2 ** 21) % 512), BigInt(L3) | TABLE);
    for (const [page, entry] of Object.entries(entries)) this.set64(L3 + 8 * Number(page), entry);
  }
  /** The same of stage 2, whose first level is 1. */
  stage2(ipa: number, entries: Record<number, bigint>): void {
    this.set64(S2L1 + 8 * Math.floor(ipa / 2 ** 30), BigInt(S2L2) | TABLE);
    this.set64(S2L2 + 8 * (Math.floor(ipa / 2 ** 21) % 512), BigInt(S2L3) | TABLE);
    for (const [page, entry] of Object.entries(entries)) this.set64(S2L3 + 8 * Number(page), entry);
  }

  /** Stream table (linear, 2^8 entries), queues of 2^commandBits and 2^eventBits entries, interrupts and the unit itself. */
  start({ commandBits = 4, eventBits = 3, strtabCfg = 8 } = {}): this {
    this.write64(0x80, BigInt(STRTAB));
    this.write(0x88, strtabCfg);
    this.write64(0x90, BigInt(CMDQ + commandBits));
    this.write64(0xa0, BigInt(EVENTQ + eventBits));
    this.write(0x2c, 2);
    this.control(0x50, 5);
    this.control(0x20, 0xd);
    return this;
  }

  /** Translate: the physical address, or -1. */
  translate(sid: number, addr: number, isWrite = false, ssid = -1): number {
    const status = this.smmu.translateSubstream(sid, ssid, addr, 4, isWrite, this.#result);
    return status === BusStatus.OK ? this.#result.phys : -1;
  }
  get sizeBytes(): number {
    return this.#result.sizeBytes;
  }
  /** A device behind the unit. */
  master(sid: number): BusMaster {
    let master = this.#masters.get(sid);
    if (master === undefined) {
      master = this.machine.busMaster({ name: `device ${sid}`, requesterId: sid, translator: this.smmu });
      this.#masters.set(sid, master);
    }
    return master;
  }

  /** Put commands of two quadwords into the queue of 2^`bits` entries, and wait until they were consumed. */
  command(commands: readonly (readonly [bigint, bigint])[], bits = 4): void {
    for (const [low, high] of commands) {
      this.set64(CMDQ + 16 * (this.#prod % 2 ** bits), low, high);
      this.#prod = (this.#prod + 1) % 2 ** (bits + 1);
    }
    this.write(0x98, this.#prod);
    this.machine.delay(2000);
  }
  /** The records in the event queue of 2^`bits` entries that were not read yet, as eight words each. */
  events(bits = 3): number[][] {
    const found: number[][] = [];
    let cons = this.read(0x1_00ac) % 2 ** 31;
    const prod = this.read(0x1_00a8) % 2 ** 31;
    for (; cons !== prod; cons = (cons + 1) % 2 ** (bits + 1)) {
      const view = this.#view(EVENTQ + 32 * (cons % 2 ** bits));
      found.push(Array.from({ length: 8 }, (_, i) => view.getUint32(4 * i, true)));
    }
    const acknowledged = (this.read(0x1_00ac) & 0x8000_0000) >>> 0;
    this.write(0x1_00ac, cons + acknowledged);
    this.machine.delay(1000);
    return found;
  }
}
