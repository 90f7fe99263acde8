import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { createDestination, openSource, type Source } from './copy-files.ts';
import { CliError } from './errors.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'dmakit-copy-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const refusal = (message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof CliError, String(error));
  assert.match(error.message, message);
  assert.equal(error.exitCode, 2);
  return true;
};

/** Root may read and write everything: such a test steps down to an ordinary user for a moment. */
async function asOrdinaryUser(body: () => Promise<void>): Promise<void> {
  if (process.getuid?.() !== 0) return body();
  chmodSync(dir, 0o777);
  process.seteuid?.(65534);
  try {
    await body();
  } finally {
    process.seteuid?.(0);
  }
}

async function withSource<T>(content: string, use: (source: Source) => Promise<T>): Promise<T> {
  writeFileSync(join(dir, 'src'), content, { mode: 0o640 });
  const source = await openSource(join(dir, 'src'));
  try {
    return await use(source);
  } finally {
    await source.handle.close();
  }
}

test('a source that is missing, a directory, a FIFO or a device is refused in words', async () => {
  await assert.rejects(openSource(join(dir, 'nope')), refusal(/^cannot read '.*nope': no such file$/));
  await assert.rejects(openSource(dir), refusal(/is a directory \(expected a file\)$/));
  await assert.rejects(openSource('/dev/null'), refusal(/is a character device \(expected a file\)$/));
  execFileSync('mkfifo', [join(dir, 'fifo')]);
  await assert.rejects(openSource(join(dir, 'fifo')), refusal(/is a FIFO \(expected a file\)$/));
  writeFileSync(join(dir, 'file'), '');
  await assert.rejects(openSource(join(dir, 'file', 'x')), refusal(/a part of its path is not a directory/));
  symlinkSync('loop', join(dir, 'loop'));
  await assert.rejects(openSource(join(dir, 'loop')), refusal(/too many symbolic links/));
});

test('an unreadable source is refused', async () => {
  writeFileSync(join(dir, 'secret'), 'x', { mode: 0 });
  await asOrdinaryUser(() => assert.rejects(openSource(join(dir, 'secret')), refusal(/permission denied/)));
});

test('the destination appears whole, at commit, with the mode of the source', async () => {
  await withSource('hello', async (source) => {
    const destination = await createDestination(join(dir, 'dst'), source, false);
    await destination.write(Buffer.from('lo'), 3);
    await destination.write(Buffer.from('hel'), 0);
    assert.ok(!readdirSync(dir).includes('dst'));
    assert.equal(await destination.digest(), createHash('sha256').update('hello').digest('hex'));
    await destination.commit();
    assert.equal(source.sizeBytes, 5);
    assert.equal(statSync(join(dir, 'dst')).mode & 0o777, 0o640);
    assert.deepEqual(readdirSync(dir).sort(), ['dst', 'src']);
    assert.equal(readFileSync(join(dir, 'dst'), 'utf8'), 'hello');
  });
});

test('a discarded destination leaves nothing behind, and what was there stays', async () => {
  await withSource('hello', async (source) => {
    writeFileSync(join(dir, 'dst'), 'old');
    for (const end of ['discard', 'discardNow'] as const) {
      const destination = await createDestination(join(dir, 'dst'), source, true);
      await destination.write(Buffer.from('new'), 0);
      await destination[end]();
      assert.deepEqual(readdirSync(dir).sort(), ['dst', 'src']);
      assert.equal(readFileSync(join(dir, 'dst'), 'utf8'), 'old');
    }
  });
});

test('what exists is replaced by force alone; a symbolic link stays one', async () => {
  await withSource('hello', async (source) => {
    writeFileSync(join(dir, 'real'), 'old');
    symlinkSync('real', join(dir, 'link'));
    await assert.rejects(createDestination(join(dir, 'link'), source, false), refusal(/'.*link' exists already$/));
    const destination = await createDestination(join(dir, 'link'), source, true);
    await destination.write(Buffer.from('new'), 0);
    await destination.commit();
    assert.equal(readFileSync(join(dir, 'real'), 'utf8'), 'new');
  });
});

test('a file that appears while the copy runs is not replaced without force', async () => {
  await withSource('hello', async (source) => {
    const destination = await createDestination(join(dir, 'dst'), source, false);
    writeFileSync(join(dir, 'dst'), "somebody else's");
    await assert.rejects(destination.commit(), refusal(/exists already/));
    assert.equal(readFileSync(join(dir, 'dst'), 'utf8'), "somebody else's");
    assert.deepEqual(readdirSync(dir).sort(), ['dst', 'src']);
  });
});

test('the source itself, by any name, is no destination', async () => {
  await withSource('hello', async (source) => {
    linkSync(join(dir, 'src'), join(dir, 'hard'));
    symlinkSync('src', join(dir, 'soft'));
    for (const name of ['src', 'hard', 'soft', './src']) {
      await assert.rejects(createDestination(join(dir, name), source, true), refusal(/are the same file$/));
    }
  });
});

test('directories, devices and places that do not exist are no destination', async () => {
  await withSource('hello', async (source) => {
    mkdirSync(join(dir, 'sub'));
    writeFileSync(join(dir, 'file'), '');
    const cases: [string, RegExp][] = [
      [join(dir, 'sub'), /is a directory \(expected a file\)/],
      [join(dir, 'none', 'dst'), /the directory '.*none' does not exist/],
      [`${join(dir, 'none')}/`, /the directory does not exist/],
      [join(dir, 'file', 'dst'), /a part of its path is not a directory/],
      ['/dev/null', /is a character device/],
      [join(dir, 'n'.repeat(300)), /the name is too long/],
      ['', /^cannot write ''/],
    ];
    for (const [path, message] of cases) {
      await assert.rejects(createDestination(path, source, true), refusal(message), path);
    }
    assert.deepEqual(readdirSync(dir).sort(), ['file', 'src', 'sub']);
  });
});

test('a destination where nobody may write is refused', async () => {
  await withSource('hello', async (source) => {
    mkdirSync(join(dir, 'locked'), { mode: 0o555 });
    const attempt = () => createDestination(join(dir, 'locked', 'dst'), source, true);
    await asOrdinaryUser(() => assert.rejects(attempt(), refusal(/permission denied/)));
  });
});

test('a full disk is told in words', { skip: process.platform !== 'linux' && 'needs /dev/full' }, async () => {
  const handle = await import('node:fs/promises').then(({ open }) => open('/dev/full', 'w'));
  const { Destination } = await import('./copy-files.ts');
  const full = new Destination('dst', '/dev/full', join(dir, 'none'), true, handle);
  await assert.rejects(full.write(Buffer.from('x'), 0), refusal(/^cannot write 'dst': no space left on the device$/));
  await full.discard();
});
