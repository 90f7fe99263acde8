/** Replays `iova32`, `iova64` and `fill…`: in which order addresses are handed out, and how many there are. */
import { DMA_TO_DEVICE, GFP_KERNEL, msleep, type Page } from '../../kernel/index.ts';
import {
  DMA_MAPPING_ERROR,
  type DmaAddr,
  dmaAllocCoherent,
  dmaBitMask,
  dmaFreeCoherent,
  dmaMapPage,
  dmaSetMaskAndCoherent,
  dmaUnmapPage,
} from '../../mapping/index.ts';
import { type Fields, GoldenError } from './golden.ts';
import { type HiddenEvent, passHistory, withOtherBouncers } from './history.ts';
import {
  type AddressKind,
  addressPart,
  type BouncePlace,
  type CaseOutcome,
  hex,
  isAddress,
  NULL_HANDLE,
  SlotNumbers,
} from './outcome.ts';
import type { Rig } from './rig.ts';

const MAX_MAPPINGS = 2 ** 17;
const BUFFER_ORDER = 7;

interface Mapped {
  addr: DmaAddr;
  readonly size: number;
}

/** The mappings of a script, and the words of its steps: `map 20x4096`, `unmap all first-to-last`, `sleep 50 ms` … */
export class MappingScript {
  readonly #rig: Rig;
  readonly #page: Page;
  #live: Mapped[] = [];

  constructor(rig: Rig) {
    this.#rig = rig;
    this.#page = rig.pages(BUFFER_ORDER);
  }
  #map(size: number, offset = 0): DmaAddr {
    return dmaMapPage(this.#rig.dev, this.#page, offset, size, DMA_TO_DEVICE);
  }
  #unmap({ addr, size }: Mapped): void {
    if (addr !== DMA_MAPPING_ERROR) dmaUnmapPage(this.#rig.dev, addr, size, DMA_TO_DEVICE);
  }
  #unmapAll(): void {
    for (const mapped of this.#live) this.#unmap(mapped);
    this.#live = [];
  }
  #take(sizes: readonly number[]): void {
    this.#live = sizes.map((size) => ({ addr: this.#map(size), size }));
  }

  /** Carry out a step; returns the addresses that it lists. Each step but an `unmap …` starts with nothing mapped. */
  async step(text: string, where: string): Promise<number[]> {
    const many = /^map (\d+)x(\d+)\b/.exec(text);
    if (many !== null) {
      this.#unmapAll();
      this.#take(new Array<number>(count(many[1], where)).fill(bytes(many[2], where)));
    } else if (/^map sizes( \d+)+$/.test(text)) {
      this.#unmapAll();
      this.#take(numbers(text).map((size) => bytes(String(size), where)));
    } else if (/^map off \d+ len \d+/.test(text)) {
      this.#unmapAll();
      const pairs = [...text.matchAll(/off (\d+) len (\d+)/g)];
      this.#live = pairs.map(([, offset, size]) => {
        const length = bytes(size, where);
        return { addr: this.#map(length, Math.min(Number(offset), 65536)), size: length };
      });
    } else if (/^unmap (all|those)\b/.test(text)) await this.#again(text);
    else if (/^unmap even\b/.test(text)) {
      for (let i = 0; i < this.#live.length; i += 2) this.#unmap(this.#live[i]!);
      for (let i = 0; i < this.#live.length; i += 2) {
        const { size } = this.#live[i]!;
        this.#live[i] = { addr: this.#map(size), size };
      }
    } else if (/^alloc_coherent \d+x\d+$/.test(text)) {
      this.#unmapAll();
      return this.#coherent(text, where);
    } else throw new GoldenError(`${where}: a step that is not known: '${text}'`);
    return this.#live.map(({ addr }) => addr);
  }

  async #again(text: string): Promise<void> {
    const sizes = this.#live.map(({ size }) => size);
    const order = text.includes('last-to-first') ? [...this.#live].reverse() : this.#live;
    for (const mapped of order) this.#unmap(mapped);
    const sleep = /sleep (\d+) ms/.exec(text);
    if (sleep !== null) await msleep(this.#rig.kernel, Math.min(Number(sleep[1]), 60_000));
    this.#take(sizes);
  }

  #coherent(text: string, where: string): number[] {
    const [amount, size] = numbers(text) as [number, number];
    const { dev } = this.#rig;
    const taken = Array.from({ length: count(String(amount), where) }, () =>
      dmaAllocCoherent(dev, bytes(String(size), where), GFP_KERNEL),
    );
    const addrs = taken.map((memory) => memory?.handle ?? -2);
    for (const memory of taken) if (memory !== null) dmaFreeCoherent(dev, size, memory.mem, memory.handle);
    return addrs;
  }

  /** Unmap what the last step left. */
  end(): void {
    this.#unmapAll();
  }
}

function numbers(text: string): number[] {
  return (text.match(/\d+/g) ?? []).map(Number);
}
function count(text: string | undefined, where: string): number {
  return within(text, 1, 4096, where, 'mappings');
}
function bytes(text: string | undefined, where: string): number {
  return within(text, 1, 4096 << BUFFER_ORDER, where, 'bytes');
}
function within(text: string | undefined, low: number, high: number, where: string, what: string): number {
  const number = Number(text);
  if (number >= low && number <= high) return number;
  throw new GoldenError(`${where}: expected ${low} to ${high} ${what}, found ${text}`);
}

/** Compares addresses; slots of bounce buffers are counted from the first one that was seen. */
export class AddressLists {
  readonly #expected = new SlotNumbers();
  readonly #got = new SlotNumbers();
  #seen = false;

  /** No bounce has been compared yet. */
  get isFirst(): boolean {
    return !this.#seen;
  }
  /** Forget the first bounce that came out here: it is tried again elsewhere. */
  forget(): void {
    this.#got.forget();
  }
  /** Both lists, reduced to what must be equal. */
  reduce(
    rig: Rig,
    expected: readonly string[],
    got: readonly number[],
  ): { expected: string[]; got: string[]; bounce?: BouncePlace } {
    const kinds: AddressKind[] = got.map((addr) => rig.kindOf(addr));
    const poolStart = rig.poolStart;
    let bounce: BouncePlace | undefined;
    const parts = expected.map((text, i) => {
      const kind = kinds[i] ?? 'iova';
      return addressPart(text, kind, kind === 'slot' && isAddress(text) ? this.#expected.of(Number(text)) : 0);
    });
    const own = got.map((addr, i) => {
      const text = addr === -2 ? NULL_HANDLE : hex(addr);
      if (kinds[i] !== 'slot' || addr < 0) return addressPart(text, kinds[i]!, 0);
      const slot = this.#got.of(addr - poolStart);
      if (bounce === undefined && isAddress(expected[i] ?? '')) {
        const recorded = this.#expected.of(Number(expected[i]));
        bounce = { slot: Math.floor((addr - poolStart) / 2048), slotsBehind: recorded - slot };
      }
      return addressPart(text, 'slot', slot);
    });
    if (bounce === undefined) return { expected: parts, got: own };
    return { expected: parts, got: own, bounce };
  }
  /** A case with bounces has been counted. */
  settle(): void {
    this.#seen = true;
  }
}

/** @internal `iova32`, `iova64`: a case for each step. */
export async function replayIova(
  rig: Rig,
  result: Fields,
  history: readonly HiddenEvent[],
  last: number,
): Promise<CaseOutcome[]> {
  const rc = dmaSetMaskAndCoherent(rig.dev, dmaBitMask(result.number('mask', 0, 64)));
  const outcomes: CaseOutcome[] = [{ name: 'set mask', expected: result.raw('set_mask_rc'), got: rc }];
  const script = new MappingScript(rig);
  const lists = new AddressLists();
  for (const [i, step] of result.objects('steps').entries()) {
    if (i + 1 > last) return outcomes;
    await passHistory(rig, history, i + 1);
    outcomes.push(await replayStep(rig, script, step, lists));
  }
  script.end();
  return outcomes;
}

/** @internal One step; it is tried again elsewhere in the pool only when it is the first one that bounces. */
export async function replayStep(
  rig: Rig,
  script: MappingScript,
  step: Fields,
  lists: AddressLists,
): Promise<CaseOutcome> {
  const text = step.text('step');
  const once = async (): Promise<CaseOutcome> => ({
    name: text,
    ...lists.reduce(rig, step.texts('addrs'), await script.step(text, step.where)),
  });
  const outcome = await once();
  if (outcome.bounce === undefined || !lists.isFirst) return outcome;
  return withOtherBouncers(rig, outcome, lists, once);
}

/** @internal `fill24`, `fill28`: one case. */
export async function replayFill(rig: Rig, result: Fields): Promise<CaseOutcome[]> {
  const { dev } = rig;
  const size = result.number('size', 1, 65536);
  const rc = dmaSetMaskAndCoherent(dev, dmaBitMask(result.number('mask', 0, 64)));
  const page = rig.pages(BUFFER_ORDER);
  const addrs: DmaAddr[] = [];
  for (;;) {
    const addr = dmaMapPage(dev, page, 0, size, DMA_TO_DEVICE);
    if (addr === DMA_MAPPING_ERROR || addrs.push(addr) === MAX_MAPPINGS) break;
  }
  const limit = (pick: (a: number, b: number) => number) =>
    hex(addrs.reduce((a, b) => pick(a, b) as DmaAddr, addrs[0]!));
  const got =
    addrs.length === 0
      ? { set_mask_rc: rc, mapped_until_failure: 0 }
      : {
          set_mask_rc: rc,
          mapped_until_failure: addrs.length,
          lowest: limit(Math.min),
          highest: limit(Math.max),
          first: hex(addrs[0]!),
          last: hex(addrs.at(-1)!),
        };
  const expected = Object.fromEntries(Object.keys(got).map((key) => [key, result.raw(key)]));
  for (const addr of addrs) dmaUnmapPage(dev, addr, size, DMA_TO_DEVICE);
  return [{ name: `fill ${result.raw('mask')} bits`, expected, got }];
}
