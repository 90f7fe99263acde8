import assert from 'node:assert/strict';
import { test } from 'node:test';
import { emptyBody, mutantsOf } from './kernel-api-mutate.mjs';

const source = `
/** Maps. @linux dma_map_single, dma_map_single_attrs */
export function dmaMapSingle<T>(dev: { name: string }, mem: T = { a: '}' } as T): DmaAddr {
  if (dev.name === '{') return 1 as DmaAddr;
  return 2 as DmaAddr;
}
/** @linux struct iova_domain */
export class IovaDomain {
  /** @linux init_iova_domain */
  constructor() {}
  /** @linux free_iova */
  free(pfn: number): { readonly pfn: number } | null {
    return { pfn };
  }
  /** @linux a_field */
  field = 1;
}
/** @linux dma_sync */
export async function dmaSync(): Promise<void> {
  await 1;
}
/** @linux overloaded */
export function overloaded(): void;
`;

test('functions and methods with a tag are emptied, everything else is left alone', () => {
  const emptied = mutantsOf(source).map(({ name, symbols, line, open, close, body }) => {
    return { name, symbols, line, was: source.slice(open, close), body };
  });
  assert.deepEqual(
    emptied.map(({ name, symbols, line, body }) => [name, symbols.join(), line, body]),
    [
      ['dmaMapSingle', 'dma_map_single,dma_map_single_attrs', 3, '{ return 0; }'],
      ['IovaDomain.free', 'free_iova', 12, '{ return null; }'],
      ['dmaSync', 'dma_sync', 19, '{ return Promise.resolve(); }'],
    ],
  );
  assert.match(emptied[0]!.was, /^\{\s+if[\s\S]*return 2 as DmaAddr;\s+\}$/);
  assert.equal(emptied[1]!.was.replace(/\s+/g, ' '), '{ return { pfn }; }');
});

test('an emptied function returns what says least', () => {
  assert.equal(emptyBody(''), '{}');
  assert.equal(emptyBody(': void '), '{}');
  assert.equal(emptyBody(': boolean '), '{ return false; }');
  assert.equal(emptyBody(': string[] '), '{ return []; }');
  assert.equal(emptyBody(': bigint '), '{ return 0n; }');
  assert.equal(emptyBody(': Mem | null '), '{ return null; }');
  assert.equal(emptyBody(': SgTable '), '{ return undefined; }');
  assert.equal(emptyBody(': Promise<Errno> '), '{ return Promise.resolve(0); }');
});
