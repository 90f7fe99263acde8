import assert from 'node:assert/strict';
import { test } from 'node:test';
import { boards as allBoards, boardsWithChannels } from '../boards/index.ts';
import { dmakit, dmakitProcess, dmakitWith } from './testing.cases.ts';

const few = ['--iterations', '20'];

test('every channel of every board passes, and the document has the promised fields', async () => {
  const { code, stdout, stderr } = await dmakit('dmatest', ...few, '--json');
  assert.deepEqual([code, stderr], [0, '']);
  const document = JSON.parse(stdout);
  assert.deepEqual([document.schema, document.seed], ['dmakit/dmatest/1', 1]);
  const boards = new Set<string>();
  for (const { board, mode, channel, test: kind, iterations, failures, iops, kBps, wallS } of document.results) {
    boards.add(board);
    assert.deepEqual([mode, kind, iterations, failures], ['default', 'copy', 20, 0]);
    assert.match(channel, /^dma0chan\d+$/);
    assert.ok(iops > 0 && kBps > 0 && wallS > 0);
  }
  const names = boardsWithChannels.map(({ name }) => name);
  assert.deepEqual([...boards], names);
  const out: { board: string; mode: string }[] = document.skipped;
  assert.deepEqual(
    [...names, ...out.map(({ board }) => board)].sort(),
    allBoards.map(({ name }) => name).sort(),
    'every board is tested, or told to be left out',
  );
  const channels = document.results.length;
  assert.ok(channels >= 10);
  assert.deepEqual(document.total, { boards: names.length, channels, tests: 20 * channels, failures: 0, findings: 0 });
});

test('the table has a row for each channel, and the last line is the sum', async () => {
  const args = ['dmatest', '--board', 'rpi3', '--channel', 'dma0chan1', '--channel', 'dma0chan3', ...few];
  const { code, stdout } = await dmakit(...args, '--seed', '7');
  assert.equal(code, 0);
  const lines = stdout.split('\n');
  assert.match(lines[0]!, /^board +mode +channel +test +tests +failures +iops +KB\/s +wall s$/);
  assert.match(lines[1]!, /^rpi3 +default +dma0chan1 +copy +20 +0 +[\d.]+ +[\d,]+ +\d+\.\d\d$/);
  assert.match(lines[2]!, /^rpi3 +default +dma0chan3 +copy +20 +0 /);
  assert.deepEqual(lines.slice(3), ['', '1 board, 2 channels, 40 tests, 0 failures (seed 7)', '']);
});

test('modes make a matrix, given apart or as a list', async () => {
  const one = ['--board', 'zynq-a9', '--max-channels', '1', ...few, '--json'];
  const list = JSON.parse(
    (await dmakit('dmatest', ...one, '--mode', 'coherent; noncoherent', '--mode', 'mask=28')).stdout,
  );
  assert.deepEqual(
    list.results.map(({ mode }: { mode: string }) => mode),
    ['coherent', 'noncoherent', 'mask=28'],
  );
  assert.equal(list.total.tests, 60);
});

test("the module's parameters reach it, in either spelling", async () => {
  const args = ['--board', 'rpi3', '--max_channels=2', '--threads_per_chan=3', '--test-buf-size', '4096', '--norandom'];
  const { code, stdout, stderr } = await dmakit('dmatest', ...args, '--iterations=4', '--verbose', '--json');
  assert.equal(code, 0);
  const { results } = JSON.parse(stdout);
  assert.deepEqual(
    results.map(({ threads, iterations }: { threads: number; iterations: number }) => [threads, iterations]),
    [
      [3, 12],
      [3, 12],
    ],
  );
  assert.match(stderr, /dmatest: Added 3 threads using dma0chan0\n/);
  assert.match(stderr, /dma0chan1-copy2: result #4: 'test passed' with src_off=0x0 dst_off=0x0 len=0x1000 \(0\)\n/);
});

test('parameters that only act do what they do to the module', async () => {
  const one = ['dmatest', '--board', 'rpi3', '--iterations', '3'];
  const listed = await dmakit(...one, '--max-channels', '2', '--threads-per-chan', '2', '--test_list');
  assert.equal(listed.code, 0);
  assert.match(listed.stdout, /^dmatest: 2 threads using dma0chan0\ndmatest: 2 threads using dma0chan1\n\nboard /);
  const chosen = [...one, '--channel', 'dma0chan3', '--test-list', '--json'];
  const idle = await dmakit(...chosen, '--run', 'N');
  assert.equal(idle.code, 0, 'nothing was to be started');
  const document = JSON.parse(idle.stdout);
  assert.deepEqual(document.testList, [{ board: 'rpi3', mode: 'default', channel: 'dma0chan3', threads: 1 }]);
  assert.equal(document.total.tests, 0);
  const hasty = JSON.parse((await dmakit(...chosen, '--iterations', '1000', '--wait', 'N')).stdout);
  assert.ok(hasty.total.tests < 1000, `${hasty.total.tests} before the module was unloaded`);
  assert.equal(hasty.total.failures, 0);
});

test('device and nobounce reach the module', async () => {
  const args = ['dmatest', '--board', 'rpi3', '--iterations', '3', '--max-channels', '1', '--json'];
  const named = JSON.parse((await dmakit(...args, '--device', '3f007000.dma-controller')).stdout);
  assert.equal(named.total.tests, 3);
  const unknown = await dmakit(...args, '--device', 'dma-controller');
  assert.deepEqual([unknown.code, unknown.stdout], [2, '']);
  assert.equal(
    unknown.stderr,
    "dmakit dmatest: rpi3 has no DMA controller 'dma-controller'\nIts DMA controllers are 3f007000.dma-controller.\n",
  );
  const long = await dmakit(...args, '--device', 'x'.repeat(32));
  assert.match(long.stderr, /^dmakit dmatest: --device: expected at most 31 characters, found 'x+'\n/);
  // Behind a narrow mask buffers bounce, unless they are taken from the zone that it reaches.
  const bounced = async (...more: string[]) => {
    const run = ['dmatest', '--board', 'zynq-a9', '--mode', 'mask=28', '--max-channels', '1', '--iterations', '1'];
    return (await dmakit(...run, '--seed', '1', '--timeline', ...more)).stdout;
  };
  const address = (text: string) => Number(/ map page 16384 bytes to-device at (0x[0-9a-f]+)/.exec(text)?.[1]);
  assert.ok(address(await bounced('--nobounce')) < 2 ** 28);
});

test('the wall time of a channel is its own', async () => {
  const args = ['dmatest', '--board', 'rpi3', '--max-channels', '3', '--json'];
  const startMs = performance.now();
  const { results } = JSON.parse((await dmakit(...args, '--iterations', '40')).stdout) as {
    results: { wallS: number }[];
  };
  const allS = (performance.now() - startMs) / 1000;
  assert.equal(new Set(results.map(({ wallS }) => wallS)).size, 3);
  for (const { wallS } of results) assert.ok(wallS > 0 && wallS < allS);
});

test('of all boards, those that lack a mode are left out, with the reason', async () => {
  const args = ['dmatest', '--max-channels', '1', '--iterations', '2', '--mode', 'default;mask=20', '--json'];
  const { stdout } = await dmakit(...args);
  const { results, skipped } = JSON.parse(stdout);
  const ran = results.map(({ board, mode }: { board: string; mode: string }) => `${board} ${mode}`);
  assert.ok(ran.includes('zynq-a9 mask=20') && ran.includes('rpi3 default') && !ran.includes('rpi3 mask=20'));
  const reason = skipped.find(({ board }: { board: string }) => board === 'rpi3');
  assert.equal(reason.mode, 'mask=20');
  assert.match(reason.reason, /would reach no memory: it begins at bus address 0xc0000000/);
  const text = await dmakit(...args.slice(0, -1));
  assert.match(text.stdout, /\nskipped rpi3 mask=20: mode 'mask=20': devices on \/soc would reach no memory/);
  assert.match(text.stdout, /\nskipped q35: no DMA engine whose channels others can use/);
  const nowhere = await dmakit('dmatest', '--mode', 'iommu=strict');
  assert.deepEqual([nowhere.code, nowhere.stdout], [2, '']);
  assert.match(
    nowhere.stderr,
    /^dmakit dmatest: --mode 'iommu=strict': none of the boards has it\n.*rpi3: it has no mode 'iommu=strict'; its modes are coherent, /s,
  );
});

test('a board without channels is refused with those that have some', async () => {
  const { code, stdout, stderr } = await dmakit('dmatest', '--board', 'q35');
  assert.deepEqual([code, stdout], [2, '']);
  assert.match(stderr, /^dmakit dmatest: q35 has no DMA engine with channels: .*\n.*Channels have zynq-a9, rpi3| and/);
});

test('the same seed gives the same document, another seed another', async () => {
  const run = async (seed: string) => {
    const { stdout } = await dmakit(
      'dmatest',
      '--board',
      'zynq-a9',
      '--max-channels',
      '2',
      ...few,
      '--seed',
      seed,
      '--json',
    );
    return stdout.replace(/"wallS": [\d.]+/g, '').replace(/"seed": \d+/, '');
  };
  assert.equal(await run('3'), await run('3'));
  assert.notEqual(await run('3'), await run('4'));
});

test('failures are shown with the lines of the module, and the exit code is 1', async () => {
  const args = [
    'dmatest',
    '--board',
    'zynq-a9',
    '--mode',
    'mask=22,swiotlb=noforce',
    '--max-channels',
    '1',
    '--iterations',
    '3',
  ];
  const { code, stdout } = await dmakit(...args);
  assert.equal(code, 1);
  assert.match(stdout, /dmatest: dma0chan0-copy0: result #1: 'src mapping error' with src_off=/);
  assert.match(stdout, /\n1 board, 1 channel, 3 tests, 3 failures, /);
});

test('what cannot be done is refused in one line', async () => {
  const cases: [string[], number, RegExp][] = [
    [
      ['--board', 'rpi3', '--channel', 'dma0chan99'],
      2,
      /^dmakit dmatest: rpi3 has no channel 'dma0chan99'\nIts channels are dma0chan0, /,
    ],
    [['--iterations', 'many'], 2, /--iterations: expected a whole number from 0 to 4294967295, found 'many'\n/],
    [['--noverify', 'perhaps'], 2, /--noverify: expected Y or N, found 'perhaps'\n/],
    [['--test-buf-size', '0'], 2, /--test-buf-size: expected a whole number from 1 to /],
    [['--mode', 'swiftly'], 2, /--mode 'swiftly': mode 'swiftly' is unknown; known are coherent/],
    [['--board', 'rpi3', '--mode', 'mask=20'], 2, /^dmakit dmatest: rpi3: mode 'mask=20'/],
    [['--seed', '4294967296'], 2, /--seed: expected a whole number from 0 to 4294967295/],
    [['--board', 'rpi3', '--dmatest', '1', '--iterations', '1'], 1, /nothing was tested: no channel offers it\n/],
    [
      ['--board', 'rpi3', '--transfer-size', '16384', '--iterations', '3'],
      1,
      /^dmakit dmatest: rpi3: nothing was tested: 16384-byte transfer size must be lower than 16384-buffer size\n/,
    ],
    [
      ['--board', 'rpi3', '--test-buf-size', '8', '--alignment', '4'],
      1,
      /nothing was tested: 8-byte buffer too small for 16-byte alignment\n/,
    ],
    [
      ['--board', 'zynq-a9', '--mode', 'mask=12'],
      1,
      /no channel offers it\n.*f8003000\.dma-controller: Can't allocate memory!\n.*: probe with driver dma-pl330 failed/,
    ],
  ];
  for (const [args, expected, message] of cases) {
    const { code, stderr } = await dmakit('dmatest', ...args);
    assert.equal(code, expected, args.join(' '));
    assert.match(stderr, message);
  }
});

test('Ctrl-C ends even an endless test, and reports what was done', async () => {
  const interrupt = new AbortController();
  setTimeout(() => interrupt.abort(), 300);
  const args = ['dmatest', '--board', 'all', '--iterations', '0', '--json'];
  const { code, stdout, stderr } = await dmakitWith({ signal: interrupt.signal }, ...args);
  assert.equal(code, 130);
  const { interrupted, total } = JSON.parse(stdout);
  assert.equal(interrupted, true);
  assert.deepEqual([total.boards, total.failures], [1, 0]);
  assert.ok(total.tests > 0);
  assert.match(stderr, /^dmakit dmatest: interrupted after [\d,]+ tests\n$/);
});

test('a controller that could not be set up is told beside the results of other modes', async () => {
  const args = ['dmatest', '--board', 'zynq-a9', '--mode', 'mask=12;mask=32', '--iterations', '2'];
  const { stdout } = await dmakit(...args);
  assert.match(stdout, /\nzynq-a9 mask=12:\n.*Can't allocate memory!\n.* failed with error -12\n/);
  const { probeErrors } = JSON.parse((await dmakit(...args, '--json')).stdout);
  assert.deepEqual(
    probeErrors.map(({ board, mode }: { board: string; mode: string }) => [board, mode]),
    [
      ['zynq-a9', 'mask=12'],
      ['zynq-a9', 'mask=12'],
    ],
  );
});

test('SIGTERM ends it the same way, with its own exit code', async () => {
  const { code, stdout } = await dmakitProcess(['dmatest', '--iterations', '0', '--verbose'], (child) => {
    child.stderr?.once('data', () => setTimeout(() => child.kill('SIGTERM'), 200));
  });
  assert.equal(code, 143);
  assert.match(stdout, /\n1 board, /);
});

test('Ctrl-C at a process, too', async () => {
  const { code, stdout } = await dmakitProcess(['dmatest', '--iterations', '0', '--verbose'], (child) => {
    child.stderr?.once('data', () => setTimeout(() => child.kill('SIGINT'), 200));
  });
  assert.equal(code, 130);
  assert.match(stdout, /\n1 board, \d+ channels, \d+ tests, 0 failures \(seed 1\)\n$/);
});

test('on a narrow terminal the table is told row by row, and no line is longer', async () => {
  const args = ['dmatest', '--board', 'rpi3', '--max-channels', '2', '--iterations', '2'];
  const { stdout } = await dmakitWith({ isTTY: true, columns: 40, env: { NO_COLOR: '1' } }, ...args);
  const [rows = ''] = stdout.split('\n\n');
  assert.match(rows, /^board rpi3 {2}mode default\n {2}channel dma0chan0 {2}test copy {2}tests 2\n/);
  for (const line of rows.split('\n')) assert.ok(line.length <= 40, line);
});
