import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { boards, boardsWithChannels } from '../boards/index.ts';
import { dmakit, dmakitProcess, type Result, scratchFolder } from './testing.cases.ts';

const dir = scratchFolder();

/** A driver file with this `main`; what it imports is everything that the cases here use. */
function driver(name: string, main: string, more = ''): string {
  const path = join(dir, `${name}.ts`);
  writeFileSync(
    path,
    `import { ENODEV, KernelBug } from 'dmakit/base';
import { dmaAsyncIssuePending, dmaenginePrepDmaMemcpy, dmaengineSubmit, DMA_PREP_INTERRUPT, describeOutstanding, transfer } from 'dmakit/dmaengine';
import { Completion, complete, cpuRelax, DMA_FROM_DEVICE, DMA_TO_DEVICE, GFP_KERNEL, kmalloc, localIrqDisable, msleep, SpinLock, spinLock, waitForCompletion } from 'dmakit/kernel';
import { dmaMappingError, dmaMapSingle, dmaUnmapSingle } from 'dmakit/mapping';
import { defineDriver } from 'dmakit/tools';
export default defineDriver({
  name: '${name}',
  needs: 'memcpy',${more}
  async main({ kernel, dev, chan, expect, expectBytes, log }) {
    const [source, target] = [kmalloc(kernel, 256, GFP_KERNEL)!, kmalloc(kernel, 256, GFP_KERNEL)!];
    source.bytes.fill(7);
    const from = dmaMapSingle(dev, source, DMA_TO_DEVICE);
    const to = dmaMapSingle(dev, target, DMA_FROM_DEVICE);
    if (dmaMappingError(dev, from) || dmaMappingError(dev, to)) return;
    const unmap = () => {
      dmaUnmapSingle(dev, to, 256, DMA_FROM_DEVICE);
      dmaUnmapSingle(dev, from, 256, DMA_TO_DEVICE);
    };
    const done = new Completion(kernel, 'copy done');
    const prepare = () => dmaenginePrepDmaMemcpy(chan, to, from, 256, DMA_PREP_INTERRUPT)!;
    ${main}
  },
});
`,
  );
  return path;
}

interface Run {
  board: string;
  mode: string;
  seed: number;
  outcome: string;
  message: string;
  at: string | null;
  findings: { rule: string; message: string; at: string | null; mappedAt: string | null; fix: string }[];
  waits: { task: string; waitsFor: string; at: string | null }[];
}
/** Run it on one board, and give the only run of the report. */
async function runOf(path: string, ...args: string[]): Promise<Run & Result> {
  const result = await dmakit('run', path, '--board', 'rpi3', '--json', ...args);
  assert.doesNotMatch(result.stderr, /internal error/);
  const document = JSON.parse(result.stdout);
  assert.equal(document.schema, 'dmakit/run/1');
  assert.equal(document.runs.length, 1);
  assert.equal(result.code, document.runs[0].outcome === 'ok' && document.runs[0].findings.length === 0 ? 0 : 1);
  return { ...document.runs[0], ...result };
}
/** Line and column of `text` in the file. */
function placeIn(path: string, text: string): string {
  const lines = readFileSync(path, 'utf8').split('\n');
  const line = lines.findIndex((candidate) => candidate.includes(text));
  return `${path}:${line + 1}:${lines[line]!.indexOf(text) + 1}`;
}

test('a correct driver is ok, and the exit code is 0', async () => {
  const path = driver(
    'correct',
    "await transfer(chan, { kind: 'copy', dst: to, src: from, len: 256 }); unmap(); expectBytes(target, 7);",
  );
  const run = await runOf(path);
  assert.deepEqual([run.outcome, run.message, run.findings], ['ok', '', []]);
});

test('a driver that never calls issue_pending hangs, and the report says what it waits for', async () => {
  const path = driver(
    'no-issue',
    `done.waitsFor = () => describeOutstanding(chan);
    for (let i = 0; i < 3; i++) dmaengineSubmit(prepare());
    await waitForCompletion(done);`,
  );
  const run = await runOf(path);
  assert.equal(run.outcome, 'hung');
  assert.match(run.message, /3 descriptors submitted on dma0chan0, issue_pending never called/);
  assert.ok(run.waits.some(({ waitsFor }) => /issue_pending never called/.test(waitsFor)));
  const place = placeIn(path, 'waitForCompletion(done)');
  assert.deepEqual([run.at, run.waits[0]?.at], [place, place], 'the line of the wait');
  assert.equal(run.findings.find(({ rule }) => rule === 'kernel/hung-task')?.at, place);
  const { stdout } = await dmakit('run', path, '--board', 'rpi3');
  assert.match(stdout, /> \d+ \| +await waitForCompletion\(done\);\n/);
  assert.equal(stdout.match(/waits since/g)?.length, 1, 'told once');
});

test('a driver that polls for a bit which never comes is a lockup, not an endless run', async () => {
  const run = await runOf(driver('poll', 'let bit = 0; while (bit === 0) cpuRelax(kernel);'));
  assert.equal(run.outcome, 'lockup');
});

test('a driver that sleeps and looks again for a bit which never comes is a lockup, with the line of its sleep', async () => {
  const path = driver('sleepy-poll', 'let bit = 0; while (bit === 0) await msleep(kernel, 1);');
  const run = await runOf(path);
  assert.equal(run.outcome, 'lockup');
  assert.match(run.message, /sleeps \(msleep\(1\)\) and looks again without end/);
  assert.equal(run.at, placeIn(path, 'msleep(kernel, 1)'));
});

test('a promise that is rejected while nobody awaits it fails the run, with its place', async () => {
  const path = driver(
    'floating',
    "const step = async () => { await msleep(kernel, 1); throw new Error('no such queue'); };\n    void step(); await msleep(kernel, 5); unmap();",
  );
  const run = await runOf(path);
  assert.deepEqual([run.outcome, run.message], ['failed', 'nobody handles a rejected promise: Error: no such queue']);
  assert.equal(run.at, placeIn(path, "new Error('no such queue')"));
  const late = driver(
    'late',
    "const step = Promise.reject(new Error('x')); await msleep(kernel, 1); await step.catch(() => {}); unmap();",
  );
  assert.equal((await runOf(late)).outcome, 'ok', 'somebody does, later');
});

test('a driver that awaits something foreign is told so', async () => {
  const run = await runOf(driver('foreign', 'await new Promise((resolve) => setTimeout(resolve, 5));'));
  assert.equal(run.outcome, 'foreign-await');
  assert.match(run.message, /scheduler\.outside/);
});

test('what a driver throws fails the run, whatever it is', async () => {
  for (const thrown of ['null', 'undefined', "'no such queue'"]) {
    const run = await runOf(driver('throws', `unmap(); throw ${thrown};`));
    assert.deepEqual([run.outcome, run.message], ['failed', `main threw ${thrown.replaceAll("'", '')}`]);
  }
});

test('a result that is no error number is a mistake, not success', async () => {
  for (const [value, found] of [
    ["'junk'", '"junk"'],
    ['false', 'false'],
    ['7', '7'],
  ]) {
    const run = await runOf(driver('junk', `unmap(); return ${value} as never;`));
    assert.deepEqual(
      [run.outcome, run.message],
      ['failed', `main returned ${found}: expected 0 or a negative error number`],
    );
  }
});

test('a lock that is still held at the end is named, once, and nothing else is blamed for it', async () => {
  const run = await runOf(driver('held', "unmap(); spinLock(new SpinLock(kernel, 'ring lock'));"));
  assert.deepEqual(
    run.findings.map(({ rule, message }) => `${rule}: ${message}`),
    ["kernel/warning: BUG: main returned with lock 'ring lock' held"],
  );
});

test('interrupts that are still disabled at the end are reported, and come back', async () => {
  const run = await runOf(driver('irqs-off', 'unmap(); localIrqDisable(kernel);'));
  assert.deepEqual(
    run.findings.map(({ rule, message }) => `${rule}: ${message}`),
    ['kernel/warning: BUG: main returned with interrupts disabled'],
  );
});

test('a callback that throws is a panic at its own line', async () => {
  const path = driver(
    'throwing-callback',
    `const tx = prepare();
    tx.callback = () => {
      throw new TypeError('no such queue');
    };
    dmaengineSubmit(tx);
    dmaAsyncIssuePending(chan);
    await waitForCompletion(done);`,
  );
  const run = await runOf(path);
  assert.equal(run.outcome, 'panic');
  assert.match(run.message, /TypeError: no such queue/);
  assert.equal(run.at, placeIn(path, 'new TypeError'));
});

test('a main that throws has failed at its line', async () => {
  const path = driver('throwing', "unmap(); null!.x; throw new RangeError('never');".replace('null!.x; ', ''));
  const run = await runOf(path);
  assert.equal(run.outcome, 'failed');
  assert.equal(run.message, 'main threw RangeError: never');
  assert.equal(run.at, placeIn(path, 'new RangeError'));
});

test('a BUG is a panic, a lock taken twice a deadlock', async () => {
  const bug = await runOf(driver('bug', "throw new KernelBug('ring is corrupt');"));
  assert.equal(bug.outcome, 'panic');
  assert.match(bug.message, /kernel BUG: ring is corrupt/);
  const locked = await runOf(
    driver('deadlock', "const lock = new SpinLock(kernel, 'ring'); spinLock(lock); spinLock(lock);"),
  );
  assert.equal(locked.outcome, 'deadlock');
  assert.match(locked.message, /ring/);
});

test('a probe that fails is reported with its error', async () => {
  const run = await runOf(driver('no-device', '', '\n  probe: () => ENODEV,'));
  assert.deepEqual([run.outcome, run.message], ['failed', 'probe returned -ENODEV']);
});

test('stale bytes name the line, the mapping and what to add', async () => {
  const path = driver(
    'stale',
    "await transfer(chan, { kind: 'copy', dst: to, src: from, len: 256 });\n    expectBytes(target, 7);\n    unmap();",
  );
  const run = await runOf(path);
  assert.equal(run.outcome, 'failed');
  const finding = run.findings.find(({ rule }) => rule === 'dma/missing-sync-for-cpu');
  assert.ok(finding, JSON.stringify(run.findings));
  assert.equal(finding.at, placeIn(path, 'expectBytes(target'));
  assert.equal(finding.mappedAt, placeIn(path, 'dmaMapSingle(dev, target'));
  assert.match(finding.fix, /dmaSyncSingleForCpu/);
  const coherent = await runOf(path, '--mode', 'coherent');
  assert.equal(coherent.outcome, 'ok');
});

test('wrong bytes and failed conditions are findings at their lines', async () => {
  const path = driver(
    'wrong',
    "unmap();\n    expectBytes(source, 8, 'the source');\n    expect(1 > 2, 'one exceeds two');",
  );
  const run = await runOf(path);
  assert.equal(run.outcome, 'failed');
  assert.match(run.message, /^256 of 256 bytes of the source are wrong$/);
  assert.deepEqual(
    run.findings.map(({ rule, at }) => [rule, at]),
    [
      ['run/wrong-bytes', placeIn(path, 'expectBytes(source')],
      ['run/expectation', placeIn(path, 'expect(1')],
    ],
  );
});

test('a loop without any kernel call is ended by the watchdog, at its line, and later runs go on', async () => {
  const path = driver(
    'endless',
    "if (kernel.machine.now() >= 0 && expect(true, '')) for (let i = 0; ; i = (i + 1) % 7) if (i > 7) return;",
  );
  const before = new Set(readdirSync(tmpdir()));
  const { code, stdout } = await dmakit('run', path, '--board', 'all', '--watchdog', '1', '--json');
  assert.equal(code, 1);
  const { runs } = JSON.parse(stdout) as { runs: Run[] };
  assert.deepEqual(
    runs.map(({ board, outcome }) => [board, outcome]),
    boards.map(({ name, hasChannels }) => [name, hasChannels === false ? 'skipped' : 'lockup']),
  );
  for (const { message, at } of runs.filter(({ outcome }) => outcome === 'lockup')) {
    assert.match(message, /has kept the CPU for 1 s without any kernel call/);
    assert.equal(at?.replace(/:\d+$/, ''), placeIn(path, 'for (let i').replace(/:\d+$/, ''));
  }
  const left = readdirSync(tmpdir()).filter((name) => name.startsWith('dmakit-run-') && !before.has(name));
  assert.deepEqual(
    left.filter((name) => name.includes(`-${process.pid}-`)),
    [],
  );
});

test('a driver that ends the process ends its own run alone', async () => {
  const run = await runOf(driver('exit', 'process.exit(0);'));
  assert.equal(run.outcome, 'panic');
  assert.match(run.message, /ended its thread/);
});

test('what the driver prints goes to standard error, so that the report stays whole', async () => {
  const run = await runOf(
    driver('chatty', "unmap(); console.log('hello from the driver'); log('a line');"),
    '--verbose',
  );
  assert.equal(run.outcome, 'ok');
  assert.match(run.stderr, /hello from the driver/);
  assert.match(run.stderr, /\] chatty: a line/);
});

test('a file that is no driver is refused with what was expected, exit code 2', async () => {
  const cases: [string, string, RegExp][] = [
    [
      'nothing.ts',
      'export const x = 1;',
      /nothing\.ts: it has no default export; expected: export default defineDriver/,
    ],
    ['number.ts', 'export default 42;', /its default export is a number/],
    ['named.ts', "export default { name: 'No Good', main() {} };", /'name': expected lower-case letters/],
    ['idle.ts', "export default { name: 'idle' };", /it does nothing: expected 'probe' or 'main'/],
    ['typo.ts', "export default { name: 'typo', mian() {}, main() {} };", /'mian' is unknown; a driver has name/],
    [
      'needs.ts',
      "export default { name: 'needs', needs: 'magic', main() {} };",
      /'needs': expected memcpy, memset, slave/,
    ],
    ['throws.ts', '\n\nthrow new Error("at load");', /throws\.ts:3:7: loading it threw Error: at load/],
    ['syntax.ts', 'const a = {;', /syntax\.ts:1:12: Expected identifier but found ";"/],
    ['broken-import.ts', "import 'dmakit/nope';", /broken-import\.ts:1:8: dmakit has no part 'nope'/],
  ];
  for (const [name, text, message] of cases) {
    writeFileSync(join(dir, name), text);
    const { code, stdout, stderr } = await dmakit('run', join(dir, name), '--json');
    assert.deepEqual([code, stdout], [2, ''], name);
    assert.match(stderr, /^dmakit run: /);
    assert.match(stderr, message);
    assert.doesNotMatch(stderr, /\n {4}at /);
  }
});

test('a board without what the driver needs is skipped; when all are, nothing was shown', async () => {
  const path = driver('slave', '').replace('.ts', '2.ts');
  writeFileSync(path, "export default { name: 'absent', compatible: ['acme,none'], main() {} };");
  const run = await runOf(path);
  assert.equal(run.outcome, 'skipped');
  assert.match(run.message, /no free device to bind: expected a device compatible with acme,none/);
});

test('seeds and modes make a matrix, in the order given', async () => {
  const path = driver('matrix', 'unmap();');
  const { code, stdout } = await dmakit('run', path, '--mode', 'coherent;noncoherent', '--seeds', '3..4', '--json');
  const { runs, total } = JSON.parse(stdout) as { runs: Run[]; total: object };
  assert.equal(code, 0);
  assert.deepEqual(
    runs.map(({ board, mode, seed }) => `${board} ${mode} ${seed}`),
    boards.flatMap(({ name }) =>
      ['coherent', 'noncoherent'].flatMap((mode) => [3, 4].map((seed) => `${name} ${mode} ${seed}`)),
    ),
  );
  assert.deepEqual(total, { runs: 4 * boards.length, failed: 0, findings: 0 });
  const both = await dmakit('run', path, '--seed', '1', '--seeds', '1..2');
  assert.deepEqual(
    [both.code, both.stderr.split('\n')[0]],
    [2, 'dmakit run: --seed and --seeds contradict each other'],
  );
});

test('of all boards, those that lack a mode are skipped with the reason; a mode of none is wrong usage', async () => {
  const path = driver('modes', 'unmap();');
  const args = ['run', path, '--mode', 'iommu=off;default', '--seeds', '1..2'];
  const { code, stdout } = await dmakit(...args, '--json');
  assert.equal(code, 0);
  const { runs } = JSON.parse(stdout) as { runs: Run[] };
  const rpi3 = runs.filter(({ board }) => board === 'rpi3');
  assert.deepEqual(
    rpi3.map(({ mode, seed, outcome }) => [mode, seed, outcome]),
    [
      ['default', 1, 'ok'],
      ['default', 2, 'ok'],
      ['iommu=off', 1, 'skipped'],
    ],
  );
  assert.match(rpi3[2]!.message, /^it has no mode 'iommu=off'; its modes are coherent, /);
  assert.match((await dmakit(...args)).stdout, /\nrpi3 iommu=off: skipped: it has no mode 'iommu=off'; its modes are /);
  const alone = await dmakit('run', path, '--board', 'rpi3', '--mode', 'iommu=off');
  assert.deepEqual([alone.code, alone.stdout], [2, '']);
  assert.match(alone.stderr, /^dmakit run: --mode 'iommu=off': rpi3: it has no mode 'iommu=off'; its modes are /);
});

test('no run sees what an earlier one left in the variables of the file', async () => {
  const path = join(dir, 'stateful.ts');
  writeFileSync(
    path,
    `import { defineDriver } from 'dmakit/tools';
let runs = 0;
export default defineDriver({ name: 'stateful', main: ({ expect }) => void expect(++runs === 1, 'state was left') });`,
  );
  const { code } = await dmakit('run', path, '--seeds', '1..3');
  assert.equal(code, 0);
});

test('the text report is short when all is well, and quotes the line when not', async () => {
  const good = driver('good', 'unmap();');
  assert.equal(
    (await dmakit('run', good, '--seeds', '1..5')).stdout,
    [
      ...boards.map(({ name, hasChannels }) =>
        hasChannels === false
          ? `${name}: skipped: ${name} has no free channel that offers memcpy\n`
          : `${name}, seeds 1 to 5: ok\n`,
      ),
      `\n${boards.length} boards, ${5 * boards.length} runs, 0 failed, `,
      `${5 * (boards.length - boardsWithChannels.length)} skipped, 0 findings\n`,
    ].join(''),
  );
  const bad = driver('bad', "unmap();\n    throw new Error('oh no');");
  const { code, stdout } = await dmakit('run', bad, '--board', 'rpi3');
  assert.equal(code, 1);
  assert.match(stdout, /^rpi3: failed\n\n {2}main threw Error: oh no\n/);
  assert.match(stdout, /\n {4}> \d+ \| {5}throw new Error\('oh no'\);\n {9}\| {11}\^\n/);
  assert.match(stdout, /\n1 board, 1 run, 1 failed, 0 findings\ntry: dmakit run .*bad\.ts --board rpi3 --timeline\n$/);
});

test('the trace is one JSON object a line, the timeline one event a line; both repeat with the seed', async () => {
  const path = driver(
    'traced',
    "await transfer(chan, { kind: 'copy', dst: to, src: from, len: 256 }); unmap(); expectBytes(target, 7);",
  );
  const traces: string[] = [];
  for (const seed of ['5', '5', '6']) {
    const out = join(dir, `trace-${traces.length}.jsonl`);
    const { code, stdout, stderr } = await dmakit(
      'run',
      path,
      '--board',
      'rpi3',
      '--seed',
      seed,
      '--trace',
      out,
      '--timeline',
    );
    assert.deepEqual([code, stderr], [0, '']);
    assert.match(stdout, /^ +[\d.]+ {2}process main +3f007000\.dma-controller +map single 256 bytes to-device at 0x/m);
    assert.match(stdout, /\n1 board, 1 run, 0 failed, 0 findings\n$/);
    traces.push(readFileSync(out, 'utf8'));
  }
  const events = traces[0]!
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  assert.deepEqual(events[0], { ev: 'header', schema: 'dmakit/events/1', board: 'rpi3', mode: '', seed: 5 });
  const kinds = new Set(events.map(({ ev }) => ev));
  for (const kind of ['map', 'prep', 'submit', 'issue_pending', 'bus_read', 'bus_write', 'irq', 'callback', 'unmap']) {
    assert.ok(kinds.has(kind), kind);
  }
  assert.equal(traces[0], traces[1]);
  assert.notEqual(traces[0], traces[2]!.replace('"seed":6', '"seed":5'));
  const refused = await dmakit('run', path, '--trace', dir);
  assert.equal(refused.code, 2);
  assert.match(refused.stderr, /^dmakit run: --trace: cannot write '.*': is a directory/);
});

test('JUnit and SARIF reports hold every run and every finding', async () => {
  const path = driver('reported', 'unmap();\n    expectBytes(source, 8, \'a < b & "c"\');');
  const junit = await dmakit('run', path, '--board', 'rpi3', '--seeds', '1..2', '--report', 'junit');
  assert.equal(junit.code, 1);
  assert.match(
    junit.stdout,
    /^<\?xml version="1\.0" encoding="UTF-8"\?>\n<testsuites name="dmakit" tests="2" failures="2"/,
  );
  assert.match(
    junit.stdout,
    /<failure type="run\/wrong-bytes" message="256 of 256 bytes of a &lt; b &amp; &quot;c&quot; are wrong/,
  );
  const sarif = JSON.parse((await dmakit('run', path, '--board', 'rpi3', '--report', 'sarif')).stdout);
  assert.equal(sarif.version, '2.1.0');
  const [result] = sarif.runs[0].results;
  assert.equal(result.ruleId, 'run/wrong-bytes');
  assert.deepEqual(
    sarif.runs[0].tool.driver.rules.map(({ id }: { id: string }) => id),
    ['run/wrong-bytes'],
  );
  assert.equal(sarif.runs[0].tool.driver.rules[0].shortDescription.text, 'What arrives is what the driver expects.');
  const { region } = result.locations[0].physicalLocation;
  assert.equal(`${path}:${region.startLine}:${region.startColumn}`, placeIn(path, 'expectBytes(source'));
});

test('Ctrl-C ends it with what was done so far, and leaves no file behind', async () => {
  const path = driver('endless-process', 'for (let i = 0; ; i++) if (i < 0) return;');
  let pid = 0;
  const { code, stdout, stderr } = await dmakitProcess(['run', path, '--board', 'rpi3'], (child) => {
    pid = child.pid!;
    const wait = setInterval(() => {
      if (!readdirSync(tmpdir()).some((name) => name.startsWith(`dmakit-run-${pid}-`))) return;
      clearInterval(wait);
      setTimeout(() => child.kill('SIGINT'), 300);
    }, 50);
  });
  assert.equal(code, 130, stderr);
  assert.match(stderr, /dmakit run: interrupted after 0 of 1 runs\n/);
  assert.match(stdout, /0 runs, 0 failed, 0 findings, 1 not run\n/);
  assert.deepEqual(
    readdirSync(tmpdir()).filter((name) => name.startsWith(`dmakit-run-${pid}-`)),
    [],
  );
});

test('a run without a channel says why its controller has none', async () => {
  const { stdout } = await dmakit('run', driver('no-probe', 'unmap();'), '--board', 'zynq-a9', '--mode', 'mask=12');
  assert.match(
    stdout,
    /skipped: .* no free channel that offers memcpy; .*Can't allocate memory!; .* failed with error -12\n/,
  );
});

test('what the checker found stands before the bytes that it may explain', async () => {
  const run = await runOf(
    driver('unsubmitted', 'prepare(); dmaAsyncIssuePending(chan); unmap(); expectBytes(target, 7);'),
  );
  assert.deepEqual(
    run.findings.map(({ rule }) => rule),
    ['dmaengine/not-submitted', 'run/wrong-bytes'],
  );
  assert.match(run.findings[1]!.fix, /findings before this one/);
});

test('hardware that is none fails the run', async () => {
  const path = join(dir, 'no-hardware.ts');
  writeFileSync(
    path,
    "import { defineDriver } from 'dmakit/tools';\nexport default defineDriver({ name: 'no-hardware', hardware: () => 5 as never, main() {} });\n",
  );
  const run = await runOf(path);
  assert.equal(run.outcome, 'failed');
  assert.equal(run.message, 'hardware returned 5: expected an object with readRegister and writeRegister');
});
