/**
 * A small language for tests of mappings: one line says what CPU and device do with a buffer, and what they must see.
 *
 *     cpu-write 0+4096 A; map 0+4096 to-device; dev-read 0+64 = A; unmap
 *
 * Steps are separated by `;` or line ends. Ranges are `OFFSET+LENGTH` in bytes: in the buffer for the CPU and for `map`, in
 * the mapping for the device and for syncs. Bytes are named by a letter that fills them.
 *
 *     cpu-write RANGE LETTER            the CPU writes
 *     cpu-read RANGE [= LETTER]         the CPU reads
 *     map RANGE DIRECTION [as NAME] [skip-sync]    directions: to-device, from-device, bidirectional
 *     unmap [NAME] [skip-sync]
 *     sync-cpu [RANGE] [of NAME]        dma_sync_single_for_cpu; without a range: all
 *     sync-dev [RANGE] [of NAME]        dma_sync_single_for_device
 *     dev-write RANGE LETTER [of NAME]  the device writes
 *     dev-read RANGE [= LETTER] [of NAME]
 *     wait NANOSECONDS
 */
import { addrAdd, type DmaAddr, offsetInPage, PAGE_SIZE } from '../base/addr.ts';
import { getOrder } from '../base/bits.ts';
import type { Device } from '../kernel/device.ts';
import { DMA_BIDIRECTIONAL, DMA_FROM_DEVICE, DMA_TO_DEVICE, type DmaDataDirection } from '../kernel/dma-direction.ts';
import { GFP_KERNEL } from '../kernel/gfp.ts';
import type { Kernel, Mem } from '../kernel/index.ts';
import { freePages, getFreePages, virtToPage } from '../kernel/page-alloc.ts';
import { DMA_ATTR_SKIP_CPU_SYNC } from './attrs.ts';
import { dmaMappingError } from './error.ts';
import { type Scatterlist, sgAlloc, sgSetBuf } from './scatterlist.ts';
import { dmaMapSgAttrs, dmaUnmapSgAttrs } from './sg.ts';
import { dmaMapPageAttrs, dmaMapSingleAttrs, dmaUnmapPageAttrs, dmaUnmapSingleAttrs } from './streaming.ts';
import { dmaSyncSingleForCpu, dmaSyncSingleForDevice } from './sync.ts';

/** On whom a scenario is played. */
export interface ScenarioTarget {
  readonly kernel: Kernel;
  readonly dev: Device;
  /** What the device reads there; null when it is refused. */
  deviceRead(addr: DmaAddr, sizeBytes: number): Uint8Array | null;
  /** False when it is refused. */
  deviceWrite(addr: DmaAddr, bytes: Uint8Array): boolean;
}
/** By which family of calls a scenario maps. */
export type MapVia = 'single' | 'page' | 'sg';

/** How a scenario is played. */
export interface ScenarioOptions {
  readonly via?: MapVia;
  /** Size of the buffer, which is filled with zeros; default 16 KiB. */
  readonly bufferBytes?: number;
  /** Time that passes after each step, in nanoseconds, so that caches can do what they do by themselves; default 0. */
  readonly pauseNs?: number;
}

/** Something was not as the scenario says, or the scenario itself is wrong. */
export class ScenarioError extends Error {
  override name = 'ScenarioError';
}

interface Mapping {
  readonly addr: DmaAddr;
  readonly offset: number;
  readonly size: number;
  readonly dir: DmaDataDirection;
  readonly sg: Scatterlist | null;
}
const DIRECTIONS: Readonly<Record<string, DmaDataDirection>> = {
  'to-device': DMA_TO_DEVICE,
  'from-device': DMA_FROM_DEVICE,
  bidirectional: DMA_BIDIRECTIONAL,
};

/** Play a scenario. Throws `ScenarioError` naming the step at the first thing that is not as it says. */
export function playScenario(target: ScenarioTarget, text: string, options: ScenarioOptions = {}): void {
  const order = getOrder(options.bufferBytes ?? 4 * PAGE_SIZE);
  const buffer = getFreePages(target.kernel, GFP_KERNEL, order);
  if (buffer === null) throw new ScenarioError('no memory for the buffer');
  buffer.bytes.fill(0);
  const player = new Player(target, buffer, options.via ?? 'single');
  for (const line of text.split(/[;\n]/)) {
    const step = line.trim();
    if (step === '') continue;
    try {
      player.play(step.split(/\s+/));
    } catch (error) {
      throw new ScenarioError(`${step}: ${error instanceof Error ? error.message : String(error)}`);
    }
    if (options.pauseNs !== undefined) target.kernel.machine.delay(options.pauseNs);
  }
  player.finish();
  freePages(target.kernel, buffer, order);
}

class Player {
  readonly #target: ScenarioTarget;
  readonly #buffer: Mem;
  readonly #via: MapVia;
  readonly #live = new Map<string, Mapping>();
  #last = 'it';

  constructor(target: ScenarioTarget, buffer: Mem, via: MapVia) {
    this.#target = target;
    this.#buffer = buffer;
    this.#via = via;
  }
  play(words: string[]): void {
    const [verb, ...rest] = words;
    const step = new Step(rest);
    if (verb === 'cpu-write') this.#cpuWrite(step);
    else if (verb === 'cpu-read') this.#cpuRead(step);
    else if (verb === 'map') this.#map(step);
    else if (verb === 'unmap') this.#unmap(step);
    else if (verb === 'sync-cpu' || verb === 'sync-dev') this.#sync(step, verb === 'sync-cpu');
    else if (verb === 'dev-write') this.#devWrite(step);
    else if (verb === 'dev-read') this.#devRead(step);
    else if (verb === 'wait') this.#target.kernel.machine.delay(step.number());
    else
      throw new Error(
        `no such step; there are cpu-write, cpu-read, map, unmap, sync-cpu, sync-dev, dev-write, dev-read, wait`,
      );
    step.end();
  }
  finish(): void {
    const [name] = this.#live.keys();
    if (name !== undefined) throw new ScenarioError(`mapping ${name} is never unmapped`);
  }
  #cpuWrite(step: Step): void {
    const { offset, size } = step.range();
    this.#buffer.slice(offset, size).bytes.fill(step.letter());
  }
  #cpuRead(step: Step): void {
    const { offset, size } = step.range();
    const { bytes } = this.#buffer.slice(offset, size);
    const expected = step.expected();
    if (expected !== null) compare(bytes, expected);
  }
  #map(step: Step): void {
    const { offset, size } = step.range();
    const direction = step.word();
    const dir = DIRECTIONS[direction];
    if (dir === undefined) throw new Error(`no such direction: ${direction}`);
    const name = step.option('as') ?? 'it';
    if (this.#live.has(name)) throw new Error(`${name} is mapped already`);
    const attrs = step.flag('skip-sync') ? DMA_ATTR_SKIP_CPU_SYNC : 0;
    const mem = this.#buffer.slice(offset, size);
    const { dev } = this.#target;
    let addr: DmaAddr;
    let sg: Scatterlist | null = null;
    if (this.#via === 'single') addr = dmaMapSingleAttrs(dev, mem, dir, attrs);
    else if (this.#via === 'page') {
      addr = dmaMapPageAttrs(dev, virtToPage(mem), offsetInPage(mem.phys), size, dir, attrs);
    } else {
      sg = sgAlloc(1);
      sgSetBuf(sg, mem);
      if (dmaMapSgAttrs(dev, sg, 1, dir, attrs) !== 1) throw new Error('map_sg failed');
      addr = sg.dmaAddress;
    }
    if (dmaMappingError(dev, addr) !== 0) throw new Error('mapping failed');
    this.#live.set(name, { addr, offset, size, dir, sg });
    this.#last = name;
  }
  #unmap(step: Step): void {
    const attrs = step.flag('skip-sync') ? DMA_ATTR_SKIP_CPU_SYNC : 0;
    const name = step.optionalWord() ?? this.#last;
    const { addr, size, dir, sg } = this.#mapping(name);
    const { dev } = this.#target;
    if (sg !== null) dmaUnmapSgAttrs(dev, sg, 1, dir, attrs);
    else if (this.#via === 'page') dmaUnmapPageAttrs(dev, addr, size, dir, attrs);
    else dmaUnmapSingleAttrs(dev, addr, size, dir, attrs);
    this.#live.delete(name);
  }
  #sync(step: Step, forCpu: boolean): void {
    const mapping = this.#mapping(step.option('of') ?? this.#last);
    const { offset, size } = step.optionalRange() ?? { offset: 0, size: mapping.size };
    const sync = forCpu ? dmaSyncSingleForCpu : dmaSyncSingleForDevice;
    sync(this.#target.dev, addrAdd(mapping.addr, offset), size, mapping.dir);
  }
  #devWrite(step: Step): void {
    const mapping = this.#mapping(step.option('of') ?? this.#last);
    const { offset, size } = step.range();
    const bytes = new Uint8Array(size).fill(step.letter());
    const done = this.#target.deviceWrite(addrAdd(mapping.addr, offset), bytes);
    const refusal = step.refusalExpected();
    if (done === refusal) throw new Error(done ? 'the device could write' : 'the device was refused');
  }
  #devRead(step: Step): void {
    const mapping = this.#mapping(step.option('of') ?? this.#last);
    const { offset, size } = step.range();
    const bytes = this.#target.deviceRead(addrAdd(mapping.addr, offset), size);
    const refusal = step.refusalExpected();
    if ((bytes === null) !== refusal) throw new Error(refusal ? 'the device could read' : 'the device was refused');
    const expected = step.expected();
    if (expected !== null && bytes !== null) compare(bytes, expected);
  }
  #mapping(name: string): Mapping {
    const mapping = this.#live.get(name);
    if (mapping === undefined) throw new Error(`no mapping ${name}`);
    return mapping;
  }
}

/** The words of a step, taken one by one. */
class Step {
  readonly #words: string[];
  constructor(words: string[]) {
    this.#words = words;
  }
  word(): string {
    const word = this.#words.shift();
    if (word === undefined) throw new Error('something is missing');
    return word;
  }
  optionalWord(): string | null {
    return this.#words.length === 0 ? null : this.word();
  }
  number(): number {
    const word = this.word();
    if (!/^\d+$/.test(word)) throw new Error(`a number is expected, found ${word}`);
    return Number(word);
  }
  range(): { offset: number; size: number } {
    const word = this.word();
    const match = /^(\d+)\+(\d+)$/.exec(word);
    if (match === null) throw new Error(`OFFSET+LENGTH is expected, found ${word}`);
    return { offset: Number(match[1]), size: Number(match[2]) };
  }
  optionalRange(): { offset: number; size: number } | null {
    return this.#words.length === 0 ? null : this.range();
  }
  letter(): number {
    const word = this.word();
    if (word.length !== 1) throw new Error(`a letter is expected, found ${word}`);
    return word === '0' ? 0 : word.charCodeAt(0);
  }
  /** `= LETTER`; `0` is a zero byte. */
  expected(): number | null {
    if (this.#words[0] !== '=') return null;
    this.word();
    return this.letter();
  }
  /** `= refused`. */
  refusalExpected(): boolean {
    if (this.#words[0] !== '=' || this.#words[1] !== 'refused') return false;
    this.#words.splice(0, 2);
    return true;
  }
  /** `NAME value`, anywhere. */
  option(name: string): string | null {
    const at = this.#words.indexOf(name);
    if (at < 0) return null;
    const [, value] = this.#words.splice(at, 2);
    if (value === undefined) throw new Error(`${name} what?`);
    return value;
  }
  flag(name: string): boolean {
    const at = this.#words.indexOf(name);
    if (at >= 0) this.#words.splice(at, 1);
    return at >= 0;
  }
  end(): void {
    if (this.#words.length > 0) throw new Error(`'${this.#words.join(' ')}' is not understood`);
  }
}

function compare(bytes: Uint8Array, expected: number): void {
  const at = bytes.findIndex((byte) => byte !== expected);
  if (at < 0) return;
  let end = at;
  while (end < bytes.length && bytes[end] !== expected) end++;
  const show = (byte: number): string => (byte > 32 && byte < 127 ? `'${String.fromCharCode(byte)}'` : `${byte}`);
  throw new Error(`bytes [${at}, ${end}) of ${bytes.length} are ${show(bytes[at]!)}…, expected ${show(expected)}`);
}
