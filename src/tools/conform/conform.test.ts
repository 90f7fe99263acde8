import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { conformFile } from './conform.ts';

const folder = new URL('../../../fixtures/golden/', import.meta.url);
const names = readdirSync(folder).filter((name) => name.endsWith('.json'));
const textOf = (name: string) => readFileSync(new URL(name, folder), 'utf8');

for (const name of names) {
  test(`every case of ${name} comes out as on the real kernel`, async () => {
    const { passed, failed, firstFailures } = await conformFile(name, textOf(name));
    assert.deepEqual(firstFailures, []);
    assert.equal(failed, 0);
    assert.ok(passed > 0);
  });
}

/** Change one value of the result, wherever `path` leads (`*`: the middle one of a list). */
function corrupt(name: string, path: readonly string[], change: (value: unknown) => unknown): string {
  const file = JSON.parse(textOf(name));
  let at = file.result as Record<string, unknown>;
  const last = path.at(-1)!;
  const step = (value: unknown, key: string) =>
    key === '*'
      ? (value as unknown[])[Math.floor((value as unknown[]).length / 2)]
      : (value as Record<string, unknown>)[key];
  for (const key of path.slice(0, -1)) at = step(at, key) as Record<string, unknown>;
  const key = last === '*' ? Math.floor((at as unknown as unknown[]).length / 2) : last;
  (at as Record<string | number, unknown>)[key] = change((at as Record<string | number, unknown>)[key]);
  return JSON.stringify(file);
}
const plus = (n: number) => (value: unknown) =>
  typeof value === 'string' ? `0x${(Number(value) + n).toString(16)}` : (value as number) + n;

const corruptions: [string, string[], (value: unknown) => unknown][] = [
  ['map_sg.none.json', ['cases', '*', 'ret'], plus(1)],
  ['map_sg.none.json', ['cases', '*', 'first_addr'], plus(1)],
  ['map_sg.none.json', ['cases', '*', 'out', '*', 'len'], plus(4096)],
  ['map_sg.none.json', ['max_mapping_size'], () => '0x40000'],
  ['map_sg.intel-strict.json', ['cases', '*', 'first_addr'], plus(4096)],
  ['map_sg.intel-strict.json', ['cases', '*', 'out', '*', 'rel'], plus(4096)],
  ['iova32.intel-strict.json', ['steps', '*', 'addrs', '*'], plus(4096)],
  ['iova64.intel-strict.json', ['steps', '*', 'addrs', '*'], plus(-4096)],
  ['iova32.swiotlb-force.json', ['steps', '*', 'addrs', '*'], plus(2048)],
  ['iova32.none.json', ['steps', '*', 'addrs', '*'], plus(1)],
  ['fill24.intel-strict.json', ['mapped_until_failure'], plus(1)],
  ['fill28.intel-strict.json', ['lowest'], plus(4096)],
  ['dma_mask.none.json', ['cases', '*', 'set_mask'], () => -5],
  ['dma_mask.none.json', ['cases', '*', 'map4k'], () => 'FAIL 0xffffffffffffffff'],
  ['dma_mask.intel-strict.json', ['cases', '*', 'coherent4k'], plus(4096)],
  ['dma_pool.none.json', ['cases', '*', 'alloc_page_off', '*'], () => [0, 8]],
  ['dma_pool.none.json', ['cases', '*', 'after_free_even_0_38_ascending_alloc20', '*'], plus(1)],
  ['swiotlb.swiotlb-force.json', ['cases', '*', 'maps', '*', 'in_slot'], plus(1)],
  ['swiotlb.swiotlb-force.json', ['cases', '*', 'maps', '*', 'addr'], plus(2048)],
  ['swiotlb.swiotlb-force.json', ['cases', '*', 'max_mapping_size'], plus(2048)],
  ['swiotlb.swiotlb-force.json', ['content', '*', 'after_sync_cpu_128_64_orig'], () => 'AAAB'],
  ['swiotlb.intel-untrusted.json', ['cases', '*', 'maps', '*', 'addr'], plus(4096)],
  ['swiotlb.intel-untrusted.json', ['order', '*', 'addrs', '*'], plus(4096)],
];
for (const [name, path, change] of corruptions) {
  test(`${name} with another ${path.join('.')} fails`, async () => {
    const { failed, firstFailures } = await conformFile(name, corrupt(name, path, change));
    assert.ok(failed >= 1, JSON.stringify(firstFailures));
  });
}

test('what is no golden file is refused with the place and what was expected', async () => {
  const refused = (text: string, message: RegExp) => assert.rejects(conformFile('x.none.json', text), message);
  await refused('{', /not JSON/);
  await refused('[]', /file: expected an object, found \[\]/);
  await refused('{"cmdline":""}', /result: expected an object, found nothing/);
  await refused('{"cmdline":"","result":{"cases":[]}}', /result.cases: expected at least one case/);
  await refused(
    '{"cmdline":"","result":{"cases":[{"in":5,"max_seg":1,"boundary":1}]}}',
    /cases\[0\].in: expected a list/,
  );
  const huge =
    '{"cmdline":"","result":{"cases":[{"in":[[0,1e12]],"max_seg":65536,"boundary":"0xfff","ret":1,"out":[]}]}}';
  await refused(huge, /in\[0\]: expected \[offset, length\]/);
  await refused('{"cmdline":"","result":{"mask":32,"steps":[{"step":"fly","addrs":[]}]}}', /not known: 'fly'/);
});
