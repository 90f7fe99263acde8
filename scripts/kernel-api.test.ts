import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { parseSymbols, render, tagsOf } from './kernel-api.mjs';

const source = `
/** Maps. @linux dma_map_single, dma_map_single_attrs */
export function dmaMapSingle() {}

/**
 * A long story.
 * @linux struct virt_dma_chan, of:dma-names,
 *   DMA_TO_DEVICE
 */
export abstract class VirtDmaChan<T = {}> extends DmaChan {
  readonly descIssued: string[] = [];
  /** @linux vchan_init */
  init(): void {}
  /** @linux vchan_hidden */
  private hidden = 1;
}

/** @linux not_exported */
function local() {}

const text = '/** @linux in_a_string */ export const no = 1';
/** Ends in a sentence. @linux PAGE_SIZE. Then more words. */
export const PAGE_SIZE = 4096;
`;

test('tags are found on exports and their public members', () => {
  const { tags, misplaced } = tagsOf(source);
  const found = tags.map(({ symbol, name }) => `${symbol} → ${name}`);
  assert.deepEqual(found, [
    'dma_map_single → dmaMapSingle',
    'dma_map_single_attrs → dmaMapSingle',
    'struct virt_dma_chan → VirtDmaChan',
    'of:dma-names → VirtDmaChan',
    'DMA_TO_DEVICE → VirtDmaChan',
    'vchan_init → VirtDmaChan.init',
    'PAGE_SIZE → PAGE_SIZE',
  ]);
  const lost = misplaced.map(({ symbols, line }) => `${line} ${symbols.join()}`);
  assert.deepEqual(lost, ['14 vchan_hidden', '18 not_exported', '21 in_a_string']);
});

test('the page counts what is present, fields of a tagged struct too', () => {
  const groups = parseSymbols(
    '; comment\n# Lists\nstruct virt_dma_chan\nvirt_dma_chan.desc_issued\nvirt_dma_chan.desc_lost\n\n# More\nabsent\n',
  );
  const places = new Map();
  const bodies = [];
  for (const { symbol, name, body } of tagsOf(source).tags) {
    const key = symbol.replace('struct ', '');
    places.set(key, [{ name, file: 'src/a.ts' }]);
    if (body) bodies.push({ struct: key, name, file: 'src/a.ts', body });
  }
  const { page, present, total } = render(groups, { places, bodies });
  assert.deepEqual({ present, total }, { present: 2, total: 4 });
  assert.match(page, /\| `virt_dma_chan\.desc_issued` \| `VirtDmaChan\.descIssued` \| .*src\/a\.ts.* \| present \|/);
  assert.match(page, /\| `virt_dma_chan\.desc_lost` \| – \| – \| missing \|/);
  assert.match(page, /\| Lists \| 2 \| 3 \|/);
  assert.match(page, /## Beyond the list[\s\S]*`PAGE_SIZE`/);
});

test('a symbol listed twice, or before any heading, is an error that names the line', () => {
  assert.throws(() => parseSymbols('# A\nx\nstruct x\n'), /kernel-symbols\.txt:3: struct x stands in line 2 already/);
  assert.throws(() => parseSymbols('x\n'), /kernel-symbols\.txt:1: expected a heading/);
});

test('the list in this repository is well-formed', () => {
  const groups = parseSymbols(readFileSync(new URL('../docs/kernel-symbols.txt', import.meta.url), 'utf8'));
  assert.ok(groups.every(({ symbols }) => symbols.length > 0));
});
