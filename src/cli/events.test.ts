import assert from 'node:assert/strict';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { boardsWithChannels } from '../boards/index.ts';
import { dmakit, dmakitProcess, scratchFolder } from './testing.cases.ts';

const dir = scratchFolder();
const at = (name: string): string => join(dir, name);

/** The events of a trace; every line is whole. */
function eventsOf(path: string): { ev: string; [field: string]: unknown }[] {
  const text = readFileSync(path, 'utf8');
  assert.ok(text.endsWith('}\n'), 'the last line is whole');
  return text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
}

/** Two traces with one seed and one with another; they differ in nothing that is no event. */
async function repeats(name: string, args: (seed: string, out: string) => string[]): Promise<void> {
  const traces: string[] = [];
  for (const [i, seed] of ['5', '5', '6'].entries()) {
    const out = at(`${name}-${i}.jsonl`);
    const { code, stderr } = await dmakit(...args(seed, out));
    assert.deepEqual([code, stderr], [0, '']);
    traces.push(readFileSync(out, 'utf8').replaceAll(`"seed":${seed}`, '"seed":0'));
  }
  assert.ok(traces[0]!.length > 1000);
  assert.ok(traces[0] === traces[1], 'the same seed gives the same bytes');
  assert.ok(traces[0] !== traces[2], 'another seed gives others');
}

for (const { name: board } of boardsWithChannels) {
  test(`${board}: the trace of dmatest repeats with the seed, to the byte`, async () => {
    const few = ['--iterations', '3', '--max-channels', '2', '--mode', 'default;coherent'];
    await repeats(`dmatest-${board}`, (seed, out) => [
      ...['dmatest', '--board', board, ...few, '--seed', seed, '--trace', out],
    ]);
  });

  test(`${board}: the trace of a copy repeats with the seed, to the byte`, async () => {
    writeFileSync(at('src'), Buffer.alloc(40_000, 'some bytes '));
    await repeats(`copy-${board}`, (seed, out) => [
      ...['copy', at('src'), at('dst'), '--board', board, '--force'],
      ...['--chunk', '4100', '--seed', seed, '--trace', out],
    ]);
  });
}

test('a trace of several boards has a header for each, and every kind of event between', async () => {
  const out = at('all.jsonl');
  const { code, stdout } = await dmakit(
    'dmatest',
    '--iterations',
    '1',
    '--max-channels',
    '1',
    '--trace',
    out,
    '--json',
  );
  assert.equal(code, 0);
  const events = eventsOf(out);
  const headers = events.filter(({ ev }) => ev === 'header');
  const names = boardsWithChannels.map(({ name }) => name);
  assert.deepEqual(
    headers.map(({ board }) => board),
    names,
  );
  assert.equal(JSON.parse(stdout).total.boards, names.length);
  for (const kind of ['map', 'prep', 'submit', 'issue_pending', 'bus_read', 'bus_write', 'irq', 'callback', 'unmap']) {
    assert.ok(
      events.some(({ ev }) => ev === kind),
      kind,
    );
  }
});

test('the timeline stands before the report; with --json it goes to standard error', async () => {
  const args = ['dmatest', '--board', 'rpi3', '--iterations', '1', '--max-channels', '1', '--timeline'];
  const text = await dmakit(...args);
  assert.match(text.stdout, /^# rpi3, seed 1\n +time \(µs\) {2}context +who +what\n/);
  assert.match(text.stdout, /\n +[\d.]+ {2}process dma0chan0-copy0 +dma0chan0 +submit, cookie 2\n/);
  assert.match(text.stdout, /\n1 board, 1 channel, 1 tests, 0 failures \(seed 1\)\n$/);
  const json = await dmakit(...args, '--json');
  assert.equal(JSON.parse(json.stdout).total.tests, 1);
  assert.match(json.stderr, /^# rpi3, seed 1\n/);
  writeFileSync(at('small'), 'small');
  const copy = await dmakit('copy', at('small'), at('small-copy'), '--board', 'rpi3', '--timeline');
  assert.match(copy.stdout, /^# rpi3, seed 1\n.*\n5 B copied by dma0chan0 of rpi3 in 1 transfer: verified\n/s);
});

test('a trace overwrites no file that the command reads or writes', async () => {
  writeFileSync(at('precious.ts'), 'export default 1;');
  for (const args of [
    ['copy', at('precious.ts'), at('x'), '--board', 'rpi3'],
    ['run', at('precious.ts')],
    ['dmatest', '--board', at('precious.ts')],
  ]) {
    const { code } = await dmakit(...args, '--trace', at('precious.ts'));
    assert.equal(code, 2);
    assert.equal(readFileSync(at('precious.ts'), 'utf8'), 'export default 1;');
  }
  const same = await dmakit('copy', at('precious.ts'), at('x'), '--board', 'rpi3', '--trace', at('precious.ts'));
  assert.match(same.stderr, /^dmakit copy: --trace: '.*precious\.ts' is the file '.*precious\.ts' itself\n/);
  const folder = await dmakit('dmatest', '--trace', dir);
  assert.deepEqual([folder.code, folder.stdout], [2, '']);
  assert.match(folder.stderr, /^dmakit dmatest: --trace: cannot write '.*': is a directory/);
});

test('a trace that the disk has no room for is told at the end, and the report is there', async () => {
  const args = ['dmatest', '--board', 'rpi3', '--iterations', '2', '--max-channels', '1', '--trace', '/dev/full'];
  const { code, stdout, stderr } = await dmakit(...args);
  assert.equal(code, 2);
  assert.match(stdout, /\n1 board, 1 channel, 2 tests, 0 failures \(seed 1\)\n$/);
  assert.match(stderr, /^dmakit dmatest: --trace: cannot write '\/dev\/full': no space left on the device\n/);
  const path = driver('full', '');
  const run = await dmakit('run', path, '--board', 'rpi3', '--trace', '/dev/full');
  assert.equal(run.code, 2);
  assert.match(run.stderr, /^dmakit run: --trace: cannot write '\/dev\/full': no space left on the device\n/);
});

/** A driver whose last kernel calls are 5 reads of one word in a row, then `end`. */
function driver(name: string, end: string): string {
  const path = at(`${name}.ts`);
  writeFileSync(
    path,
    `import { ioremap, readl } from 'dmakit/kernel';
import { physAddr } from 'dmakit/base';
import { defineDriver } from 'dmakit/tools';
export default defineDriver({
  name: '${name}',
  hardware: () => ({ readRegister: () => 0x5a, writeRegister() {} }),
  async main({ kernel, log }) {
    log('now');
    const registers = ioremap(kernel, physAddr(0xa000_0000), 64);
    for (let i = 0; i < 5; i++) readl(registers, 16);
    ${end}
  },
});
`,
  );
  return path;
}
const LAST = /read 32 bits at 0xa0000010: 0x5a, 5 times\n/;

function checkEnd(out: string, stdout: string): void {
  const reads = eventsOf(out).filter(({ ev, addr }) => ev === 'reg_read' && addr === 0xa000_0010);
  assert.equal(reads.length, 5);
  assert.equal(stdout.match(new RegExp(LAST, 'g'))?.length, 1, stdout.slice(-500));
}

test('neither trace nor timeline loses its end to the watchdog', async () => {
  const path = driver('spins', 'for (let i = 0; ; i = (i + 1) % 7) if (i > 7) return;');
  const out = at('watchdog.jsonl');
  const { code, stdout } = await dmakit(
    ...['run', path, '--board', 'rpi3', '--watchdog', '1', '--trace', out, '--timeline'],
  );
  assert.equal(code, 1);
  checkEnd(out, stdout);
});

test('nor to a driver that ends the process', async () => {
  const out = at('exit.jsonl');
  const { code } = await dmakit('run', driver('exits', 'process.exit(3);'), '--board', 'rpi3', '--trace', out);
  assert.equal(code, 1);
  assert.equal(eventsOf(out).filter(({ ev }) => ev === 'reg_read').length >= 5, true);
});

test('nor to Ctrl-C', async () => {
  const path = driver('spins-on', 'for (let i = 0; ; i++) if (i < 0) return;');
  const out = at('interrupt.jsonl');
  const args = ['run', path, '--board', 'rpi3', '--trace', out, '--timeline', '--verbose'];
  const { code, stdout, stderr } = await dmakitProcess(args, (child) => {
    child.stderr?.on('data', (chunk: Buffer) => {
      if (chunk.includes('spins-on: now')) setTimeout(() => child.kill('SIGINT'), 300);
    });
  });
  assert.equal(code, 130, stderr);
  checkEnd(out, stdout);
});

test('nor to a second Ctrl-C, which does not wait', async () => {
  const out = at('twice.jsonl');
  const args = ['dmatest', '--board', 'rpi3', '--iterations', '0', '--trace', out];
  const { code } = await dmakitProcess(args, (child) => {
    const wait = setInterval(() => {
      if (!existsSync(out) || statSync(out).size === 0) return;
      clearInterval(wait);
      child.kill('SIGINT');
      setTimeout(() => child.kill('SIGINT'), 1);
    }, 20);
  });
  assert.equal(code, 130);
  assert.ok(eventsOf(out).length > 100);
});
