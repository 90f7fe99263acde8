/**
 * A VT-d unit in a simulated machine without any kernel: tables are put into memory by hand, word by word as the
 * specification has them, and a device's bus master goes through them.
 */
import { physAddr } from '../base/addr.ts';
import { type BusMaster, BusStatus, SimMachine } from '../machine/index.ts';
import { VtdModel } from './vtd.ts';
import type { VtdOptions } from './vtd-config.ts';

export const BASE = 0xfed9_0000;
export const MSI_BASE = 0xfee0_0000;
export const ROOT = 0x10_0000;
export const QUEUE = 0x20_0000;
export const STATUS_WORD = 0x20_8000;
/** 00:16.0 */
export const SOURCE = 0xb0;
export const DOMAIN_ID = 5;

export const R = 1;
export const W = 2;
export const PS = 0x80;

/** What a device was told: `ok`, `fault` or `nobody` (nothing decodes). */
export type Answer = 'ok' | 'fault' | 'nobody';

export class VtdRig {
  readonly machine: SimMachine;
  readonly unit: VtdModel;
  readonly device: BusMaster;
  readonly other: BusMaster;
  readonly memory32: Int32Array;
  /** Data words of messages that arrived. */
  readonly messages: number[] = [];
  #nextTable = 0x11_0000;

  constructor(options: VtdOptions = {}) {
    this.machine = new SimMachine({
      name: 'vtd-rig',
      coherent: true,
      seed: 1,
      ram: [
        { base: 0, sizeBytes: 64 << 20 },
        { base: 2 ** 32, sizeBytes: 64 << 20 },
      ],
      msiBase: MSI_BASE,
    });
    this.unit = new VtdModel(this.machine, { faultRecords: 8, ...options });
    const behind = (name: string, requesterId: number) =>
      this.machine.busMaster({ name, translator: this.unit, requesterId });
    this.device = behind('device', SOURCE);
    this.other = behind('other', SOURCE + 8);
    this.memory32 = this.machine.ram[0]!.memory32;
    this.machine.setIrqHandler((line) => this.messages.push(line));
  }

  read(offset: number): number {
    return this.machine.read32(physAddr(BASE + offset));
  }
  write(offset: number, value: number): void {
    this.machine.write32(physAddr(BASE + offset), value);
    this.machine.read32(physAddr(BASE)); // so that it has arrived
  }

  /** Store a 64-bit word in memory. */
  poke(phys: number, lo: number, hi = 0): void {
    this.memory32[phys / 4] = lo;
    this.memory32[phys / 4 + 1] = hi;
  }
  /** An empty table. */
  table(): number {
    const at = this.#nextTable;
    this.#nextTable += 4096;
    this.memory32.fill(0, at / 4, at / 4 + 1024);
    return at;
  }

  /** A context entry for a source, made of its fields; its root entry too. */
  context(
    table: number,
    { source = SOURCE, domain = DOMAIN_ID, width = 1, type = 0, present = 1, silent = 0, w0 = 0, w2 = 0, w3 = 0 } = {},
  ): number {
    const root = ROOT + (source >> 8) * 16;
    let contexts = this.memory32[root / 4]! & ~0xfff;
    if (contexts === 0) {
      contexts = this.table();
      this.poke(root, contexts | 1);
    }
    const at = contexts + (source & 0xff) * 16;
    this.poke(at, table | present | (silent << 1) | (type << 2) | w0);
    this.poke(at + 8, width | (domain << 8) | w2, w3);
    return at;
  }
  /** Map a page of 4 KiB below `top`, a table of `levels` levels; tables between are made as needed. Returns its entry. */
  map(top: number, iova: number, phys: number, rights = R | W, levels = 3): number {
    let table = top;
    for (let level = levels; level > 1; level--) {
      const entry = table + 8 * (Math.floor(iova / 2 ** (12 + 9 * (level - 1))) % 512);
      let below = this.memory32[entry / 4]! & ~0xfff;
      if (below === 0) {
        below = this.table();
        this.poke(entry, below | R | W);
      }
      table = below;
    }
    const leaf = table + 8 * (Math.floor(iova / 4096) % 512);
    this.poke(leaf, ((phys % 2 ** 32) | rights) >>> 0, Math.floor(phys / 2 ** 32));
    return leaf;
  }

  /** Root table set and translation enabled, as software does. */
  enable(): void {
    this.write(0x20, ROOT);
    this.write(0x24, 0);
    this.write(0x18, 0x4000_0000);
    this.write(0x18, 0x8000_0000);
  }
  /** Switch the invalidation queue on: 256 descriptors. */
  enableQueue(): void {
    this.write(0x88, 0);
    this.write(0x90, QUEUE);
    this.write(0x94, 0);
    this.write(0x18, 0x8400_0000);
  }
  #tail = 0;
  /** Append descriptors of four words each, and tell the unit. */
  submit(...descriptors: (readonly [number, number, number, number])[]): void {
    for (const [w0, w1, w2, w3] of descriptors) {
      this.poke(QUEUE + this.#tail, w0, w1);
      this.poke(QUEUE + this.#tail + 8, w2, w3);
      this.#tail = (this.#tail + 16) % 4096;
    }
    this.write(0x88, this.#tail);
  }

  answer(status: BusStatus): Answer {
    return status === BusStatus.OK ? 'ok' : status === BusStatus.TRANSLATION_FAULT ? 'fault' : 'nobody';
  }
  reads(addr: number, bytes = 4, device = this.device): Answer {
    return this.answer(device.read(addr, new Uint8Array(bytes), 0, bytes));
  }
  writes(addr: number, bytes = 4, device = this.device): Answer {
    return this.answer(device.write(addr, new Uint8Array(bytes).fill(0xa5), 0, bytes));
  }
  /** The word that the device finds at an address; -1 when it is refused. */
  seen(addr: number): number {
    return this.device.read32(addr) === BusStatus.OK ? this.device.value32 : -1;
  }

  /** The fault records that are set, in order: `reason source read|write page`. */
  faults(): string[] {
    const found: string[] = [];
    for (let i = 0; i < this.unit.config.faultRecords; i++) {
      const at = 0x220 + 16 * i;
      const status = this.read(at + 12);
      if (status < 0x8000_0000) continue;
      const page = this.read(at) + this.read(at + 4) * 2 ** 32;
      const kind = (status & 0x4000_0000) !== 0 ? 'read' : 'write';
      found.push(`${status & 0xff} ${(this.read(at + 8) & 0xffff).toString(16)} ${kind} ${page.toString(16)}`);
    }
    return found;
  }
  /** Clear all fault records and the status, as software does. */
  clearFaults(): void {
    for (let i = 0; i < this.unit.config.faultRecords; i++) this.write(0x220 + 16 * i + 12, 0x8000_0000);
    this.write(0x34, 0x7f);
  }
  /** The one fault there is, which is then cleared. */
  fault(): string {
    const found = this.faults();
    this.clearFaults();
    return found.join(' | ');
  }
  irqOf(vector: { line: number }): number {
    return this.messages.filter((line) => line === vector.line).length;
  }
}

/** A rig with an empty table of 3 levels for the device, enabled. */
export function enabledRig(options: VtdOptions = {}): { rig: VtdRig; top: number } {
  const rig = new VtdRig(options);
  const top = rig.table();
  rig.context(top);
  rig.enable();
  return { rig, top };
}
