import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { kebabOptions } from './dmatest-parameters.ts';
import { colorsFor } from './io.ts';
import { dmakit, dmakitProcess, dmakitWith } from './testing.cases.ts';

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));

test('--version prints the version of the package', async () => {
  assert.deepEqual(await dmakit('--version'), { code: 0, stdout: `${version}\n`, stderr: '' });
});

test('--help lists the commands and shows examples, each command too', async () => {
  const { code, stdout, stderr } = await dmakit('--help');
  assert.deepEqual([code, stderr], [0, '']);
  for (const command of ['dmatest', 'copy', 'run', 'board', 'conform', 'rules']) {
    assert.match(stdout, new RegExp(`^ {2}${command} `, 'm'));
    const help = await dmakit(command, '--help');
    assert.deepEqual([help.code, help.stderr], [0, '']);
    assert.match(help.stdout, new RegExp(`Examples:\n {2}\\$ dmakit ${command}`));
    assert.deepEqual(await dmakit('help', command), help);
  }
});

test('without a command the help goes to standard error, and the usage is wrong', async () => {
  const { code, stdout, stderr } = await dmakit();
  assert.deepEqual([code, stdout], [2, '']);
  assert.match(stderr, /^Usage: dmakit/);
});

test('an unknown command is answered with the one that was meant', async () => {
  assert.deepEqual(await dmakit('dmatets'), {
    code: 2,
    stdout: '',
    stderr: "dmakit: unknown command 'dmatets' (did you mean 'dmatest'?)\nSee 'dmakit --help'.\n",
  });
  assert.match((await dmakit('frobnicate')).stderr, /^dmakit: unknown command 'frobnicate'\n/);
});

test('wrong usage is one line and a pointer to the help, on standard error, with exit code 2', async () => {
  const cases: [string[], RegExp][] = [
    [['copy', 'a'], /^dmakit copy: missing required argument 'DST'\n/],
    [['copy', 'a', 'b', 'c'], /^dmakit copy: too many arguments/],
    [
      ['dmatest', '--iteration', '5'],
      /^dmakit dmatest: unknown option '--iteration' \(did you mean --iterations\?\)\n/,
    ],
    [['dmatest', '--iterations'], /^dmakit dmatest: option '--iterations <N>' argument missing\n/],
    [['dmatest', 'extra'], /^dmakit dmatest: too many arguments/],
    [['run'], /^dmakit run: missing required argument 'DRIVER.ts'\n/],
    [['--frob'], /^dmakit: unknown option '--frob'\n/],
  ];
  for (const [args, message] of cases) {
    const { code, stdout, stderr } = await dmakit(...args);
    assert.deepEqual([code, stdout], [2, ''], args.join(' '));
    assert.match(stderr, message);
    assert.match(stderr, /\nSee 'dmakit[a-z ]* --help'\.\n$/);
  }
});

test("options may be spelt as the kernel's module spells them", () => {
  assert.deepEqual(kebabOptions(['dmatest', '--test_buf_size=64', '--threads_per_chan', '4_4', 'a_b', '--', '--x_y']), [
    ...['dmatest', '--test-buf-size=64', '--threads-per-chan', '4_4', 'a_b', '--', '--x_y'],
  ]);
  assert.deepEqual(kebabOptions(['--mode=a_b']), ['--mode=a_b']);
});

test('colours are for terminals, unless NO_COLOR or FORCE_COLOR says otherwise', () => {
  const painted = (isTTY: boolean, env: Record<string, string>) =>
    colorsFor({ write() {}, isTTY }, env).red('x') !== 'x';
  assert.equal(painted(true, {}), true);
  assert.equal(painted(false, {}), false);
  assert.equal(painted(true, { NO_COLOR: '1' }), false);
  assert.equal(painted(true, { NO_COLOR: '' }), true);
  assert.equal(painted(true, { TERM: 'dumb' }), false);
  assert.equal(painted(false, { FORCE_COLOR: '1' }), true);
  assert.equal(painted(false, { FORCE_COLOR: '1', NO_COLOR: '1' }), false);
});

test('an unknown board, backend or report form names the known ones', async () => {
  const unknownBoard = await dmakitWith({}, 'dmatest', '--board', 'zync-a9');
  assert.equal(unknownBoard.code, 2);
  assert.match(
    unknownBoard.stderr,
    /^dmakit dmatest: unknown board 'zync-a9' \(did you mean 'zynq-a9'\?\)\nThe boards are zynq-a9, rpi3.*\.\n$/,
  );
  const qemu = await dmakit('dmatest', '--backend', 'qemu');
  assert.deepEqual([qemu.code, qemu.stdout], [3, '']);
  assert.match(qemu.stderr, /^dmakit dmatest: --backend qemu is not there yet\n/);
  assert.match((await dmakit('dmatest', '--backend', 'vmware')).stderr, /expected sim, qemu or vfio, found 'vmware'/);
  assert.match(
    (await dmakit('run', 'x.ts', '--report', 'xml')).stderr,
    /expected text, json, junit or sarif, found 'xml'/,
  );
});

test('as a process it ends with the same codes, and shows no stack', async () => {
  const { code, stdout, stderr } = await dmakitProcess(['copy', '/', 'x', '--board', 'rpi3']);
  assert.deepEqual([code, stdout], [2, '']);
  assert.equal(stderr, "dmakit copy: cannot read '/': is a directory (expected a file)\n");
});

test('standard output that takes nothing is told in a line, without a stack', {
  skip: !existsSync('/dev/full'),
}, async () => {
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const full = openSync('/dev/full', 'w');
  const main = fileURLToPath(new URL('./main.ts', import.meta.url));
  const args = ['--import', import.meta.resolve('tsx'), main, 'board'];
  const { status, stderr } = spawnSync(process.execPath, args, { env, stdio: ['ignore', full, 'pipe'] });
  closeSync(full);
  assert.equal(status, 2);
  assert.equal(stderr.toString(), 'dmakit: cannot write to standard output: no space left on the device\n');
});
