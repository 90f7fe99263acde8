/** Mappings of random programs, each with the bytes that CPU and device must see, and who may look at them now. */
import assert from 'node:assert/strict';
import type { DmaAddr } from '../base/index.ts';
import { DMA_FROM_DEVICE, DMA_TO_DEVICE, type DmaDataDirection, GFP_KERNEL, type Mem } from '../kernel/index.ts';
import {
  DMA_ATTR_SKIP_CPU_SYNC,
  DMA_MAPPING_ERROR,
  dmaAllocNoncoherent,
  dmaFreeNoncoherent,
  dmaMapPageAttrs,
  dmaMappingError,
  dmaMapSgAttrs,
  dmaMapSingleAttrs,
  dmaSyncSgForCpu,
  dmaSyncSgForDevice,
  dmaSyncSingleForCpu,
  dmaSyncSingleForDevice,
  dmaSyncSingleRangeForCpu,
  dmaSyncSingleRangeForDevice,
  dmaUnmapPageAttrs,
  dmaUnmapSgAttrs,
  dmaUnmapSingleAttrs,
  type Scatterlist,
  sgAlloc,
  sgNext,
  sgSetPage,
} from '../mapping/index.ts';
import type { ProgramBuffer } from './program-memory.cases.ts';
import type { ProgramRig, RigDevice } from './program-rig.cases.ts';

const scratch = new Uint8Array(1 << 20);

/** The pattern that a step writes: no two offsets nearby have the same byte. */
export function writePattern(into: Uint8Array, from: number, size: number, value: number): void {
  for (let i = from, byte = value; i < from + size; i++, byte += 37) into[i] = byte;
}
/** Throws when they differ, and says where. */
export function mustEqual(seen: Uint8Array, expected: Uint8Array, who: string, from: number): void {
  if (Buffer.compare(seen, expected) === 0) return;
  const at = seen.findIndex((byte, i) => byte !== expected[i]);
  throw new Error(`${who} sees ${seen[at]} at byte ${from + at}, expected ${expected[at]}`);
}

/** Bytes that a device reaches at some addresses, and the CPU in some memory. */
export abstract class Shared {
  readonly rig: ProgramRig;
  readonly device: RigDevice;
  /** What whoever may look must see. */
  readonly content: Uint8Array;
  /** Ranges of bus addresses, in the order of the content. */
  readonly addrs: number[] = [];
  readonly lengths: number[] = [];
  /** What the CPU reads and writes, in the same order. */
  readonly pieces: Mem[] = [];

  constructor(rig: ProgramRig, device: RigDevice, size: number) {
    this.rig = rig;
    this.device = device;
    this.content = new Uint8Array(size);
  }
  get size(): number {
    return this.content.length;
  }

  deviceWrites(from: number, size: number, value: number): void {
    writePattern(this.content, from, size, value);
    this.#segments(from, size, (addr, at, bytes) => this.rig.write(this.device, addr, this.content, at, bytes));
  }
  deviceReads(from: number, size: number): void {
    this.#segments(from, size, (addr, at, bytes) => {
      this.rig.read(this.device, addr, scratch, bytes);
      mustEqual(scratch.subarray(0, bytes), this.content.subarray(at, at + bytes), 'the device', at);
    });
  }
  cpuWrites(from: number, size: number, value: number): void {
    writePattern(this.content, from, size, value);
    this.#memory(from, size, (mem, offset, at, bytes) => mem.bytes.set(this.content.subarray(at, at + bytes), offset));
  }
  cpuReads(from: number, size: number): void {
    this.#memory(from, size, (mem, offset, at, bytes) => {
      mustEqual(mem.bytes.subarray(offset, offset + bytes), this.content.subarray(at, at + bytes), 'the CPU', at);
    });
  }
  #segments(from: number, size: number, use: (addr: number, at: number, bytes: number) => void): void {
    let start = 0;
    for (let i = 0; i < this.addrs.length && start < from + size; i++) {
      const end = start + this.lengths[i]!;
      const at = Math.max(from, start);
      const bytes = Math.min(from + size, end) - at;
      if (bytes > 0) use(this.addrs[i]! + at - start, at, bytes);
      start = end;
    }
  }
  #memory(from: number, size: number, use: (mem: Mem, offset: number, at: number, bytes: number) => void): void {
    let start = 0;
    for (const mem of this.pieces) {
      const at = Math.max(from, start);
      const bytes = Math.min(from + size, start + mem.size) - at;
      if (bytes > 0) use(mem, at - start, at, bytes);
      start += mem.size;
      if (start >= from + size) return;
    }
  }
}

/** A streaming mapping. */
export abstract class Mapping extends Shared {
  readonly dir: DmaDataDirection;
  readonly buffers: readonly ProgramBuffer[];
  cpuOwns = false;

  constructor(
    rig: ProgramRig,
    device: RigDevice,
    dir: DmaDataDirection,
    buffers: readonly ProgramBuffer[],
    size: number,
  ) {
    super(rig, device, size);
    this.dir = dir;
    this.buffers = buffers;
    for (const { part } of buffers) this.pieces.push(part);
  }
  get deviceMayRead(): boolean {
    return this.dir !== DMA_FROM_DEVICE;
  }
  get deviceMayWrite(): boolean {
    return this.dir !== DMA_TO_DEVICE;
  }
  /** Whether the bytes that the CPU writes between the syncs come to the device. */
  get cpuMayWrite(): boolean {
    return this.dir !== DMA_FROM_DEVICE;
  }

  /** Map it, without the implicit sync when told so; false when that fails. */
  map(skipSync: boolean): boolean {
    if (!this.mapAttrs(skipSync ? DMA_ATTR_SKIP_CPU_SYNC : 0)) return false;
    if (skipSync) this.syncForDevice();
    return true;
  }
  /**
   * The CPU has it again, and finds what it must. What it wrote before, while it had the buffer, has to go to the device:
   * unmapping takes back what the device sees.
   */
  unmap(skipSync: boolean): void {
    if (skipSync && !this.cpuOwns) this.syncForCpu();
    if (!skipSync && this.cpuOwns) this.syncForDevice();
    this.unmapAttrs(skipSync ? DMA_ATTR_SKIP_CPU_SYNC : 0);
    this.cpuReads(0, this.size);
  }
  release(): void {
    for (const buffer of this.buffers) buffer.free();
  }
  protected abstract mapAttrs(attrs: number): boolean;
  protected abstract unmapAttrs(attrs: number): void;
  abstract syncForCpu(): void;
  abstract syncForDevice(): void;
  /** The same for a part; false where the calls do not have that. */
  abstract syncRange(from: number, size: number, forCpu: boolean): boolean;
}

/** By `dmaMapSingle` or `dmaMapPage`. */
export class OneMapping extends Mapping {
  readonly #viaPage: boolean;
  constructor(rig: ProgramRig, device: RigDevice, dir: DmaDataDirection, buffer: ProgramBuffer, viaPage: boolean) {
    super(rig, device, dir, [buffer], buffer.part.size);
    this.#viaPage = viaPage;
  }
  get addr(): DmaAddr {
    return this.addrs[0] as DmaAddr;
  }
  protected override mapAttrs(attrs: number): boolean {
    const { part, page, offset } = this.buffers[0]!;
    const { dev } = this.device;
    const addr = this.#viaPage
      ? dmaMapPageAttrs(dev, page, offset, part.size, this.dir, attrs)
      : dmaMapSingleAttrs(dev, part, this.dir, attrs);
    if (dmaMappingError(dev, addr) !== 0) {
      assert.equal(addr, DMA_MAPPING_ERROR);
      return false;
    }
    this.addrs.push(addr);
    this.lengths.push(part.size);
    return true;
  }
  protected override unmapAttrs(attrs: number): void {
    const unmap = this.#viaPage ? dmaUnmapPageAttrs : dmaUnmapSingleAttrs;
    unmap(this.device.dev, this.addr, this.size, this.dir, attrs);
  }
  override syncForCpu(): void {
    dmaSyncSingleForCpu(this.device.dev, this.addr, this.size, this.dir);
  }
  override syncForDevice(): void {
    dmaSyncSingleForDevice(this.device.dev, this.addr, this.size, this.dir);
  }
  override syncRange(from: number, size: number, forCpu: boolean): boolean {
    const sync = forCpu ? dmaSyncSingleRangeForCpu : dmaSyncSingleRangeForDevice;
    sync(this.device.dev, this.addr, from, size, this.dir);
    return true;
  }
}

/** By `dmaMapSg`. */
export class ListMapping extends Mapping {
  readonly #sgl: Scatterlist;
  constructor(rig: ProgramRig, device: RigDevice, dir: DmaDataDirection, buffers: readonly ProgramBuffer[]) {
    super(
      rig,
      device,
      dir,
      buffers,
      buffers.reduce((sum, { part }) => sum + part.size, 0),
    );
    this.#sgl = sgAlloc(buffers.length);
    let sg: Scatterlist | null = this.#sgl;
    for (const { page, offset, part } of buffers) {
      sgSetPage(sg!, page, part.size, offset);
      sg = sgNext(sg!);
    }
  }
  protected override mapAttrs(attrs: number): boolean {
    const nents = this.buffers.length;
    const count = dmaMapSgAttrs(this.device.dev, this.#sgl, nents, this.dir, attrs);
    if (count === 0) return false;
    assert.ok(count <= nents, `${count} segments of ${nents} entries`);
    let total = 0;
    let sg: Scatterlist | null = this.#sgl;
    for (let i = 0; i < count; i++, sg = sgNext(sg!)) {
      this.addrs.push(sg!.dmaAddress);
      this.lengths.push(sg!.dmaLength);
      total += sg!.dmaLength;
    }
    assert.equal(total, this.size, 'the segments together');
    return true;
  }
  protected override unmapAttrs(attrs: number): void {
    dmaUnmapSgAttrs(this.device.dev, this.#sgl, this.buffers.length, this.dir, attrs);
  }
  override syncForCpu(): void {
    dmaSyncSgForCpu(this.device.dev, this.#sgl, this.buffers.length, this.dir);
  }
  override syncForDevice(): void {
    dmaSyncSgForDevice(this.device.dev, this.#sgl, this.buffers.length, this.dir);
  }
  override syncRange(): boolean {
    return false;
  }
}

/** By `dmaAllocNoncoherent`: memory that is mapped for as long as it lives. */
export class NoncoherentMapping extends Mapping {
  #addr = DMA_MAPPING_ERROR;
  constructor(rig: ProgramRig, device: RigDevice, dir: DmaDataDirection, size: number) {
    super(rig, device, dir, [], size);
  }
  protected override mapAttrs(): boolean {
    const memory = dmaAllocNoncoherent(this.device.dev, this.size, this.dir, GFP_KERNEL);
    if (memory === null) return false;
    this.#addr = memory.handle;
    this.addrs.push(memory.handle);
    this.lengths.push(this.size);
    this.pieces.push(memory.mem);
    this.cpuOwns = true;
    this.cpuReads(0, this.size);
    return true;
  }
  override map(): boolean {
    return this.mapAttrs();
  }
  override unmap(): void {
    if (!this.cpuOwns) this.syncForCpu();
    this.cpuReads(0, this.size);
    this.unmapAttrs();
  }
  protected override unmapAttrs(): void {
    dmaFreeNoncoherent(this.device.dev, this.size, this.pieces[0]!, this.#addr, this.dir);
  }
  override syncForCpu(): void {
    dmaSyncSingleForCpu(this.device.dev, this.#addr, this.size, this.dir);
  }
  override syncForDevice(): void {
    dmaSyncSingleForDevice(this.device.dev, this.#addr, this.size, this.dir);
  }
  override syncRange(from: number, size: number, forCpu: boolean): boolean {
    const sync = forCpu ? dmaSyncSingleRangeForCpu : dmaSyncSingleRangeForDevice;
    sync(this.device.dev, this.#addr, from, size, this.dir);
    return true;
  }
}
