/**
 * An interpreter of random programs that keep to the rules, with an oracle: at each step the device and the CPU must see
 * exactly the bytes that the rules of the DMA API promise, and addresses must be such as the device can use.
 */
import assert from 'node:assert/strict';
import { lowBits, PAGE_SIZE } from '../base/index.ts';
import { dmaRmb, dmaWmb, GFP_KERNEL, type Mem } from '../kernel/index.ts';
import {
  DMA_BIDIRECTIONAL,
  DMA_FROM_DEVICE,
  type DmaCoherent,
  type DmaPool,
  dmaAllocCoherent,
  dmaFreeCoherent,
  dmaGetMaxSegSize,
  dmaGetMinAlignMask,
  dmaGetSegBoundary,
  dmaMaxMappingSize,
  dmaPoolAlloc,
  dmaPoolCreate,
  dmaPoolDestroy,
  dmaPoolFree,
  ioTlbMemOf,
  physToDma,
} from '../mapping/index.ts';
import { ListMapping, Mapping, NoncoherentMapping, OneMapping, Shared } from './program-mapping.cases.ts';
import { ProgramBuffer, type Source } from './program-memory.cases.ts';
import { MAX_BYTES, type Op, type OpKind } from './program-op.cases.ts';
import type { ProgramRig, RigDevice } from './program-rig.cases.ts';

/** So much is live at most: nothing fails for lack of memory, slots or addresses. */
const MOST_LIVE = 24;
const MOST_BYTES = 2 << 20;
const MOST_COHERENT = 12;
const POOL_BLOCK_BYTES = 96;

/** Coherent memory. */
class Coherent extends Shared {
  readonly memory: DmaCoherent;
  /** Null: it was allocated alone. */
  readonly pool: DmaPool | null;
  constructor(rig: ProgramRig, device: RigDevice, memory: DmaCoherent, size: number, pool: DmaPool | null) {
    super(rig, device, size);
    this.memory = memory;
    this.pool = pool;
    this.addrs.push(memory.handle);
    this.lengths.push(size);
    this.pieces.push(memory.mem as Mem);
  }
  free(): void {
    const { mem, handle } = this.memory;
    if (this.pool !== null) dmaPoolFree(this.pool, mem, handle);
    else dmaFreeCoherent(this.device.dev, this.size, mem, handle);
  }
}

/** See the file's head. */
export class Program {
  readonly rig: ProgramRig;
  readonly live: Mapping[] = [];
  readonly coherent: Coherent[] = [];
  /** How many mappings were refused, since the device does not reach the memory. */
  refused = 0;
  steps = 0;
  readonly #pools = new Map<RigDevice, DmaPool>();
  readonly #pagesBefore: number;
  readonly #rangesBefore: number;
  readonly #translated: boolean;
  #bytes = 0;

  constructor(rig: ProgramRig) {
    this.rig = rig;
    this.#pagesBefore = rig.pagesUsed();
    this.#rangesBefore = rig.iovaRanges();
    this.#translated = rig.devices.some(({ dev }) => rig.isolates(dev));
    assert.equal(rig.slotsUsed(), 0);
  }

  readonly #steps: Readonly<Record<OpKind, (device: RigDevice, op: Op) => void>> = {
    'map-single': (device, op) => this.#mapOne(device, op, 'kmalloc'),
    'map-page': (device, op) => this.#mapOne(device, op, 'pages'),
    'map-vmalloc': (device, op) => this.#mapOne(device, op, 'vmalloc'),
    'map-sg': (device, op) => this.#mapList(device, op),
    'alloc-pages': (device, op) => this.#allocPages(device, op),
    'alloc-coherent': (device, op) => this.#allocCoherent(device, op),
    'alloc-pool': (device) => this.#allocBlock(device),
    'use-coherent': (_, op) => this.#useCoherent(op),
    'free-coherent': (_, op) => this.#freeCoherent(op),
    wait: (_, op) => this.rig.kernel.machine.delay(op.size),
    unmap: (_, op) => this.#use(op),
    sync: (_, op) => this.#use(op),
    'sync-range': (_, op) => this.#use(op),
    'device-write': (_, op) => this.#use(op),
    'device-read': (_, op) => this.#use(op),
    'cpu-write': (_, op) => this.#use(op),
    'cpu-read': (_, op) => this.#use(op),
  };

  step(op: Op): void {
    this.steps++;
    this.#steps[op.kind](this.rig.devices[op.device % this.rig.devices.length]!, op);
  }
  /** Something with one of the mappings; nothing where the rules do not allow it now. */
  #use(op: Op): void {
    if (this.live.length === 0) return;
    const mapping = this.live[op.which % this.live.length]!;
    const from = op.offset % mapping.size;
    const size = Math.min(op.size, mapping.size - from);
    const { kind, value } = op;
    if (kind === 'unmap') this.unmap(mapping, (op.flags & 1) !== 0);
    else if (kind === 'sync') this.#sync(mapping);
    else if (kind === 'sync-range') this.#syncRange(mapping, op);
    else if (kind === 'device-write') {
      if (!mapping.cpuOwns && mapping.deviceMayWrite) mapping.deviceWrites(from, size, value);
    } else if (kind === 'device-read') {
      if (!mapping.cpuOwns && mapping.deviceMayRead) mapping.deviceReads(from, size);
    } else if (kind === 'cpu-write') {
      if (!mapping.cpuOwns) for (const buffer of mapping.buffers) buffer.guard(value);
      else if (mapping.cpuMayWrite) mapping.cpuWrites(from, size, value);
    } else if (mapping.cpuOwns) mapping.cpuReads(from, size);
  }

  /** Lines that the CPU must not share with a device that does not snoop; 0 where it may. */
  #line({ dev }: RigDevice): number {
    return dev.dmaCoherent ? 0 : this.rig.kernel.machine.traits.cacheLineBytes;
  }
  #mapOne(device: RigDevice, op: Op, source: Source): void {
    if (this.#full(op.size)) return;
    const low = (op.flags & 2) !== 0;
    const buffer = ProgramBuffer.make(this.rig.kernel, source, op.size, op.offset, this.#line(device), low);
    if (buffer === null) return;
    this.#start(new OneMapping(this.rig, device, op.dir, buffer, source !== 'kmalloc'), op);
  }
  #mapList(device: RigDevice, op: Op): void {
    if (this.#full(op.size)) return;
    const { kernel } = this.rig;
    const nents = 1 + (op.which % 8);
    const whole = (op.flags & 4) !== 0;
    const buffers: ProgramBuffer[] = [];
    for (let i = 0; i < nents; i++) {
      // Whole pages can become one segment, other pieces not.
      const size = whole ? PAGE_SIZE * (1 + ((op.value + i) % 3)) : 1 + ((op.size + i * (op.value + 1)) % 5000);
      const at = whole ? 0 : op.offset + i;
      const source = whole ? 'pages' : 'kmalloc';
      const buffer = ProgramBuffer.make(kernel, source, size, at, this.#line(device), (op.flags & 2) !== 0);
      if (buffer !== null) buffers.push(buffer);
    }
    if (buffers.length > 0) this.#start(new ListMapping(this.rig, device, op.dir, buffers), op);
  }
  #allocPages(device: RigDevice, op: Op): void {
    const size = 1 + (op.size % 65_536);
    if (this.#full(size)) return;
    const mapping = new NoncoherentMapping(this.rig, device, op.dir, size);
    if (mapping.map()) this.#add(mapping);
    else this.#mustBeBeyondReach(device);
  }
  #full(size: number): boolean {
    return this.live.length >= MOST_LIVE || this.#bytes + size > MOST_BYTES;
  }
  #start(mapping: Mapping, op: Op): void {
    for (const buffer of mapping.buffers) buffer.guard(op.value);
    mapping.cpuWrites(0, mapping.size, op.value);
    if (mapping.map((op.flags & 1) !== 0)) this.#add(mapping);
    else {
      this.#mayBeRefused(mapping);
      this.refused++;
      mapping.release();
    }
  }
  #add(mapping: Mapping): void {
    this.#checkAddresses(mapping);
    this.live.push(mapping);
    this.#bytes += mapping.size;
  }

  /** Within the device's reach, and beside everything else that the device is given. */
  #checkAddresses(shared: Shared): void {
    const { dev } = shared.device;
    const reach = this.rig.reach(dev);
    for (const [i, addr] of shared.addrs.entries()) {
      const length = shared.lengths[i]!;
      assert.ok(addr >= 0 && addr + length - 1 <= reach, `0x${addr.toString(16)}+${length} is beyond the mask`);
      if (shared.addrs.length > 1) assert.ok(length <= Math.max(dmaGetMaxSegSize(dev), PAGE_SIZE * 3));
      if (shared instanceof Mapping) this.#checkShape(shared, i);
      for (const other of this.live) this.#checkDisjoint(shared, addr, length, other);
      for (const other of this.coherent) this.#checkDisjoint(shared, addr, length, other);
    }
  }
  /** What the device asks of its segments. */
  #checkShape(mapping: Mapping, i: number): void {
    const { dev } = mapping.device;
    const addr = mapping.addrs[i]!;
    const piece = mapping.pieces[i]!;
    // Merged, a segment is no longer that of the entry.
    if (mapping.addrs.length === mapping.pieces.length) {
      assert.equal(lowBits(addr, dmaGetMinAlignMask(dev)), lowBits(piece.phys, dmaGetMinAlignMask(dev)), 'low bits');
    }
    if (!this.rig.isolates(dev) || mapping.addrs.length === mapping.pieces.length) return;
    const boundary = dmaGetSegBoundary(dev) + 1;
    const last = addr + mapping.lengths[i]! - 1;
    assert.equal(Math.floor(addr / boundary), Math.floor(last / boundary), 'a merged segment crosses the boundary');
  }
  #checkDisjoint(shared: Shared, addr: number, length: number, other: Shared): void {
    if (other === shared || other.device !== shared.device) return;
    // An IOMMU gives whole pages.
    const unit =
      this.rig.isolates(shared.device.dev) && !(other instanceof Coherent && other.pool !== null) ? PAGE_SIZE : 1;
    const start = addr - (addr % unit);
    const end = addr + length - 1;
    for (const [i, theirs] of other.addrs.entries()) {
      const apart =
        end < theirs - (theirs % unit) || start > Math.floor((theirs + other.lengths[i]! - 1) / unit) * unit + unit - 1;
      if (!apart)
        throw new Error(`0x${addr.toString(16)}+${length} overlaps 0x${theirs.toString(16)}+${other.lengths[i]}`);
    }
  }

  /** Throws when nothing explains why a mapping failed. */
  #mayBeRefused(mapping: Mapping): void {
    const { dev } = mapping.device;
    const tlb = ioTlbMemOf(dev);
    const reach = this.rig.reach(dev);
    const longest = Math.max(...mapping.pieces.map(({ size }) => size));
    if (tlb.active) {
      // A bounce buffer has its bounds, lies within one segment boundary, and has its place.
      if (longest > Math.min(dmaMaxMappingSize(dev), MAX_BYTES - PAGE_SIZE)) return;
      if (longest + dmaGetMinAlignMask(dev) > dmaGetSegBoundary(dev)) return;
      if (physToDma(dev, (tlb.end - 1) as never) > reach) return;
    } else if (!this.rig.isolates(dev)) {
      if (mapping.pieces.some(({ phys, size }) => physToDma(dev, phys) < 0 || physToDma(dev, phys) + size - 1 > reach))
        return;
    }
    assert.fail(`${mapping.size} bytes were not mapped for ${dev.name}`);
  }
  #mustBeBeyondReach({ dev }: RigDevice): void {
    const { ram } = this.rig.kernel.machine;
    const last = ram[ram.length - 1]!;
    const end = last.base + last.sizeBytes - 1;
    this.refused++;
    assert.ok(this.rig.reach(dev) < physToDma(dev, end as never), `no memory for ${dev.name}`);
  }

  unmap(mapping: Mapping, skipSync: boolean): void {
    this.live.splice(this.live.indexOf(mapping), 1);
    this.#bytes -= mapping.size;
    mapping.unmap(skipSync);
    mapping.release();
  }
  #sync(mapping: Mapping): void {
    if (mapping.cpuOwns) mapping.syncForDevice();
    else mapping.syncForCpu();
    mapping.cpuOwns = !mapping.cpuOwns;
  }
  /** The CPU borrows a part, in whole lines where these count, while the device has the rest. */
  #syncRange(mapping: Mapping, op: Op): void {
    if (mapping.cpuOwns) return;
    const line = this.#line(mapping.device) || 1;
    let from = op.offset % mapping.size;
    from -= from % line;
    let end = Math.min(from + op.size, mapping.size);
    end = Math.min(mapping.size, Math.ceil(end / line) * line);
    if (!mapping.syncRange(from, end - from, true)) return;
    mapping.cpuReads(from, end - from);
    if (mapping.cpuMayWrite) mapping.cpuWrites(from, end - from, op.value);
    mapping.syncRange(from, end - from, false);
  }

  #allocCoherent(device: RigDevice, op: Op): void {
    if (this.coherent.length >= MOST_COHERENT) return;
    const size = 1 + (op.size % 20_000);
    const memory = dmaAllocCoherent(device.dev, size, GFP_KERNEL);
    if (memory === null) {
      this.#mustBeBeyondReach(device);
      return;
    }
    const coherent = new Coherent(this.rig, device, memory, size, null);
    this.#checkAddresses(coherent);
    coherent.cpuReads(0, size);
    coherent.deviceReads(0, size);
    this.coherent.push(coherent);
  }
  #allocBlock(device: RigDevice): void {
    if (this.coherent.length >= MOST_COHERENT) return;
    let pool = this.#pools.get(device) ?? null;
    if (pool === null) {
      pool = dmaPoolCreate('program', device.dev, POOL_BLOCK_BYTES, 32, 0)!;
      this.#pools.set(device, pool);
    }
    const memory = dmaPoolAlloc(pool, GFP_KERNEL);
    if (memory === null) {
      this.#mustBeBeyondReach(device);
      return;
    }
    const block = new Coherent(this.rig, device, memory, POOL_BLOCK_BYTES, pool);
    assert.equal(memory.handle % 32, 0);
    block.cpuWrites(0, POOL_BLOCK_BYTES, 0);
    this.coherent.push(block);
  }
  /** The barriers are those of a driver with a ring of descriptors. */
  #useCoherent(op: Op): void {
    if (this.coherent.length === 0) return;
    const coherent = this.coherent[op.which % this.coherent.length]!;
    const from = op.offset % coherent.size;
    const size = Math.min(op.size, coherent.size - from);
    if (op.dir !== DMA_FROM_DEVICE) {
      coherent.cpuWrites(from, size, op.value);
      dmaWmb(this.rig.kernel);
      coherent.deviceReads(from, size);
    }
    if (op.dir === DMA_FROM_DEVICE || op.dir === DMA_BIDIRECTIONAL) {
      dmaWmb(this.rig.kernel);
      coherent.deviceWrites(from, size, op.value + 1);
      dmaRmb(this.rig.kernel);
      coherent.cpuReads(0, coherent.size);
    }
  }
  #freeCoherent(op: Op): void {
    if (this.coherent.length === 0) return;
    const [gone] = this.coherent.splice(op.which % this.coherent.length, 1);
    gone!.free();
  }

  /** Unmap and free all that is left. */
  drain(): void {
    while (this.live.length > 0) this.unmap(this.live[0]!, false);
    for (const coherent of this.coherent.splice(0)) coherent.free();
    for (const pool of this.#pools.values()) dmaPoolDestroy(pool);
    this.#pools.clear();
  }
  /** After the end: everything is as it was before, and nobody has anything to say. */
  finish(): void {
    this.drain();
    assert.equal(this.rig.slotsUsed(), 0, 'slots of bounce buffers');
    assert.equal(this.rig.iovaRanges(), this.#rangesBefore, 'ranges of I/O addresses');
    // Page tables stay with their domain; `ProgramRig.close` looks for them.
    if (!this.#translated) assert.equal(this.rig.pagesUsed(), this.#pagesBefore, 'pages');
    const splats = this.rig.kernel.splats.filter(
      ({ message }) => this.refused === 0 || !/overflow|swiotlb addr/.test(message),
    );
    assert.deepEqual(splats, []);
    const findings = (this.rig.checker?.findings() ?? []).filter(
      ({ rule }) => this.refused === 0 || !['dma/unreachable-memory', 'kernel/warning'].includes(rule),
    );
    assert.deepEqual(findings, []);
  }
}
