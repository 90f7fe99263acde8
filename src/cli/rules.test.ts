import assert from 'node:assert/strict';
import { test } from 'node:test';
import { rules } from '../checker/index.ts';
import { allRules } from './run-rules.ts';
import { dmakit, dmakitWith } from './testing.cases.ts';

test('without an id every rule has a line with its statement', async () => {
  const { code, stdout, stderr } = await dmakit('rules');
  assert.deepEqual([code, stderr], [0, '']);
  for (const { id, statement } of allRules()) {
    const line = stdout.split('\n').find((text) => text.startsWith(`${id} `));
    assert.ok(line?.endsWith(`  ${statement}`), id);
  }
  assert.match(stdout, new RegExp(`\\n\\n${allRules().length} rules\\. 'dmakit rules [a-z/-]+' explains one\\.\\n$`));
});

test('a group has its own rules alone', async () => {
  for (const name of ['dmaengine', 'dmaengine/']) {
    const { code, stdout } = await dmakit('rules', name);
    assert.equal(code, 0);
    assert.ok(
      stdout
        .split('\n\n')[0]!
        .split('\n')
        .every((line) => line.startsWith('dmaengine/')),
    );
  }
});

test("a rule's page says what, how bad, why, and in the kernel's words", async () => {
  const { code, stdout } = await dmakit('rules', 'dma/unmap-size');
  assert.equal(code, 0);
  assert.match(stdout, /^dma\/unmap-size\n\nA mapping is unmapped with the size it was mapped with\.\n\nerror: /);
  assert.match(stdout, /\n\nThe kernel says: device driver frees DMA memory with different size\n$/);
  const narrow = await dmakitWith({ columns: 40 }, 'rules', 'dma/unmap-size');
  assert.ok(narrow.stdout.split('\n').every((line) => line.length <= 40));
});

test('every rule has a page that says more than its statement', async () => {
  for (const { id, page } of allRules()) {
    const { code, stdout } = await dmakit('rules', id);
    assert.equal(code, 0);
    assert.ok(stdout.startsWith(`${id}\n`) && page.length > 60, id);
  }
});

test('as JSON they are data, one or all', async () => {
  const all = JSON.parse((await dmakit('rules', '--json')).stdout);
  assert.equal(all.schema, 'dmakit/rules/1');
  assert.ok(all.rules.length > rules().length, "the checker's and run's own");
  const one = JSON.parse((await dmakit('rules', 'run/stale-bytes', '--json')).stdout);
  assert.deepEqual(
    one.rules.map(({ id, severity, wording }: { id: string; severity: string; wording: string | null }) => [
      ...[id, severity, wording],
    ]),
    [['run/stale-bytes', 'error', null]],
  );
});

test('an unknown rule is answered with the one that was meant', async () => {
  for (const [given, meant] of [
    ['dma/unmap-sise', 'dma/unmap-size'],
    ['unmap-size', 'dma/unmap-size'],
    ['dma/stale-bytes', 'run/stale-bytes'],
  ] as const) {
    const { code, stdout, stderr } = await dmakit('rules', given);
    assert.deepEqual([code, stdout], [2, '']);
    const first = `dmakit rules: unknown rule '${given}' (did you mean '${meant}'?)`;
    assert.equal(stderr, `${first}\n'dmakit rules' lists them all.\n`);
  }
  assert.match((await dmakit('rules', 'frobnicate')).stderr, /^dmakit rules: unknown rule 'frobnicate'\n/);
});
