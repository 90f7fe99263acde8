import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, test } from 'node:test';
import { Prng } from '../base/prng.ts';
import { dmakit, dmakitProcess, dmakitWith, scratchFolder } from './testing.cases.ts';

const dir = scratchFolder();
const at = (name: string) => join(dir, name);
afterEach(() => {
  for (const name of readdirSync(dir)) rmSync(at(name), { recursive: true, force: true });
});

function file(name: string, sizeBytes: number, seed = 1): Buffer {
  const bytes = Buffer.alloc(sizeBytes);
  new Prng(seed).fill(bytes);
  writeFileSync(at(name), bytes);
  return bytes;
}
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

for (const board of ['zynq-a9', 'rpi3']) {
  test(`${board}: a file arrives byte by byte, and the report says how`, async () => {
    const bytes = file('src', 1_234_567);
    const { code, stdout, stderr } = await dmakit('copy', at('src'), at('dst'), '--board', board, '--json');
    assert.deepEqual([code, stderr], [0, '']);
    assert.ok(bytes.equals(readFileSync(at('dst'))));
    const report = JSON.parse(stdout);
    assert.equal(report.schema, 'dmakit/copy/1');
    assert.deepEqual(
      [report.board, report.mode, report.bytes, report.verified, report.sha256, report.transfers],
      [board, 'default', bytes.length, true, sha256(bytes), Math.ceil(bytes.length / (256 << 10))],
    );
    assert.match(report.channel, /^dma0chan\d+$/);
    assert.ok(report.simulatedS > 0 && report.wallS > 0);
    assert.deepEqual(readdirSync(dir).sort(), ['dst', 'src']);
  });

  test(`${board}: files of every small size, and chunks that begin anywhere`, async () => {
    for (const [sizeBytes, chunk] of [
      [0, '64'],
      [1, '64'],
      [63, '64'],
      [64, '64'],
      [65, '64'],
      [1000, '1'],
      [5000, '7'],
      [20_011, '333'],
      [300_001, '100001'],
      [2_097_152, '1M'],
      [3_000_001, '2M'],
    ] as const) {
      const bytes = file('src', sizeBytes, sizeBytes + 1);
      const { code, stderr } = await dmakit(
        'copy',
        at('src'),
        at('dst'),
        '--board',
        board,
        '--chunk',
        chunk,
        '--force',
      );
      assert.deepEqual([code, stderr], [0, ''], `${sizeBytes} bytes in chunks of ${chunk}`);
      assert.ok(bytes.equals(readFileSync(at('dst'))), `${sizeBytes} bytes in chunks of ${chunk}`);
    }
  });

  test(`${board}: coherent or not, with any seed, the bytes are the same`, async () => {
    const bytes = file('src', 200_003);
    for (const mode of ['coherent', 'noncoherent']) {
      for (const seed of ['2', '3']) {
        const args = ['copy', at('src'), at('dst'), '--board', board, '--mode', mode, '--seed', seed, '--force'];
        assert.equal((await dmakit(...args, '--chunk', '10001')).code, 0);
        assert.ok(bytes.equals(readFileSync(at('dst'))));
      }
    }
  });
}

test('the text report has the size, the channel, the digest and both rates', async () => {
  const bytes = file('src', 100_000);
  const { code, stdout } = await dmakit('copy', at('src'), at('dst'), '--board', 'rpi3', '--channel', 'dma0chan2');
  assert.equal(code, 0);
  const [first, second, third, ...rest] = stdout.split('\n');
  assert.equal(first, '100.0 KB copied by dma0chan2 of rpi3 in 1 transfer: verified');
  assert.equal(second, `sha256 ${sha256(bytes)}`);
  assert.match(third!, /^[\d.]+ [KMG]B\/s of simulated time, [\d.]+ [KMG]?B\/s of wall time$/);
  assert.deepEqual(rest, ['']);
});

test('sources and destinations that cannot be used are refused in one line, and nothing is touched', async () => {
  const bytes = file('src', 10);
  file('there', 5);
  mkdirSync(at('folder'));
  const cases: [string[], RegExp][] = [
    [[at('nope'), at('dst')], /^dmakit copy: cannot read '.*nope': no such file\n/],
    [[at('folder'), at('dst')], /^dmakit copy: cannot read '.*folder': is a directory \(expected a file\)\n/],
    [[at('src'), at('folder')], /is a directory \(expected a file\)\nGive a file name, such as '.*folder\/src'\.\n/],
    [
      [at('src'), at('there')],
      /^dmakit copy: '.*there' exists already\nGive --force to replace it, or another name\.\n/,
    ],
    [[at('src'), at('src'), '--force'], /^dmakit copy: '.*src' and '.*src' are the same file\n/],
    [[at('src'), at('none/dst')], /^dmakit copy: cannot write '.*dst': the directory '.*none' does not exist\n/],
    [
      [at('src'), '/proc/dmakit-test'],
      /^dmakit copy: cannot write '\/proc\/dmakit-test': no file can be made in '\/proc'\n/,
    ],
    [[at('src'), at('dst'), '--chunk', '0'], /^dmakit copy: --chunk: expected 1 to 2097152 bytes/],
    [[at('src'), at('dst'), '--chunk', '3M'], /^dmakit copy: --chunk: expected 1 to 2097152 bytes/],
    [[at('src'), at('dst'), '--seed', '-1'], /^dmakit copy: --seed: expected a whole number/],
    [
      [at('src'), at('dst'), '--channel', 'dma7chan9'],
      /no free channel 'dma7chan9' can copy memory\nIts channels are dma0chan0, /,
    ],
    [
      [at('src'), at('dst'), '--mode', 'weird'],
      /^dmakit copy: --mode 'weird': rpi3: mode 'weird' is unknown; known are coherent, /,
    ],
  ];
  for (const [args, message] of cases) {
    const { code, stdout, stderr } = await dmakit('copy', ...args, '--board', 'rpi3');
    assert.deepEqual([code, stdout], [2, ''], args.join(' '));
    assert.match(stderr, message);
  }
  const unknown = await dmakit('copy', at('src'), at('dst'), '--board', 'rpi4');
  assert.match(
    unknown.stderr,
    /^dmakit copy: unknown board 'rpi4' \(did you mean 'rpi3'\?\)\nThe boards are zynq-a9, rpi3,? .*\.\n$/,
  );
  const none = await dmakit('copy', at('src'), at('dst'));
  assert.match(none.stderr, /^dmakit copy: whose DMA engine is to move the bytes\?\nGive --board zynq-a9 or rpi3\.\n$/);
  assert.deepEqual(readdirSync(dir).sort(), ['folder', 'src', 'there']);
  assert.ok(bytes.equals(readFileSync(at('src'))));
});

test('with a narrow mask the buffers lie where the engine reaches them', async () => {
  const bytes = file('src', 700_001);
  const { code, stderr } = await dmakit('copy', at('src'), at('dst'), '--board', 'zynq-a9', '--mode', 'mask=24');
  assert.deepEqual([code, stderr], [0, '']);
  assert.ok(bytes.equals(readFileSync(at('dst'))));
});

test('an engine that reaches too little memory fails with exit code 1, and the destination is not made', async () => {
  file('src', 100);
  for (const bits of ['12', '16']) {
    const args = ['copy', at('src'), at('dst'), '--board', 'zynq-a9', '--mode', `mask=${bits}`];
    const { code, stdout, stderr } = await dmakit(...args);
    assert.deepEqual([code, stdout], [1, ''], stderr);
    assert.match(stderr, /^dmakit copy: zynq-a9: no (free channel|\d+ bytes of free memory)/);
  }
  assert.deepEqual(readdirSync(dir), ['src']);
});

test('Ctrl-C between two chunks: the destination is not made, the report says how far it came', async () => {
  file('src', 3_000_000);
  const interrupt = new AbortController();
  const signal = interrupt.signal;
  setTimeout(() => interrupt.abort(), 30);
  const args = ['copy', at('src'), at('dst'), '--board', 'rpi3', '--chunk', '64', '--json'];
  const { code, stdout, stderr } = await dmakitWith({ signal }, ...args);
  assert.equal(code, 130);
  const report = JSON.parse(stdout);
  assert.deepEqual([report.interrupted, report.verified], [true, false]);
  assert.ok(report.bytes < 3_000_000);
  assert.match(stderr, /^dmakit copy: interrupted after [\d.]+ [KM]?B; '.*dst' was not made\n$/);
  assert.deepEqual(readdirSync(dir), ['src']);
});

test('Ctrl-C at a process: exit code 130, and no temporary file is left', async () => {
  // A sparse file, so that there is enough to do.
  writeFileSync(at('src'), '');
  truncateSync(at('src'), 2 ** 32);
  const { code, stdout, stderr } = await dmakitProcess(['copy', at('src'), at('dst'), '--board', 'rpi3'], (child) => {
    const wait = setInterval(() => {
      if (!readdirSync(dir).some((name) => name.startsWith('.dmakit-'))) return;
      clearInterval(wait);
      setTimeout(() => child.kill('SIGINT'), 200);
    }, 20);
  });
  assert.deepEqual([code, stdout], [130, ''], stderr);
  assert.match(stderr, /dmakit copy: interrupted after [\d.]+ [KM]B/);
  assert.deepEqual(readdirSync(dir), ['src']);
});

test('on a terminal progress goes to standard error, in a pipe there is none', async () => {
  file('src', 600_000);
  const args = ['copy', at('src'), at('dst'), '--board', 'rpi3', '--force', '--chunk', '1000'];
  const piped = await dmakit(...args);
  assert.equal(piped.stderr, '');
  assert.ok(!piped.stdout.includes('\u001b'));
  const terminal = await dmakitWith({ isTTY: true }, ...args);
  assert.match(terminal.stdout, /.\[32mverified/);
  const plain = await dmakitWith({ isTTY: true, env: { NO_COLOR: '1' } }, ...args);
  assert.ok(!plain.stdout.includes('\u001b'));
});

test('a copy without a channel says why; a mode that is unknown suggests nothing that copy does not take', async () => {
  file('src', 100);
  const none = await dmakit('copy', at('src'), at('none'), '--board', 'zynq-a9', '--mode', 'mask=12');
  assert.equal(none.code, 1);
  assert.match(none.stderr, /no free channel can copy memory\n.*Can't allocate memory!\n.* failed with error -12\n$/);
  const unknown = await dmakit('copy', at('src'), at('none'), '--board', 'zynq-a9', '--mode', 'swiftly');
  assert.equal(unknown.code, 2);
  assert.doesNotMatch(unknown.stderr, /matrix/);
});
