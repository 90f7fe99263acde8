// Builds dist/ from src/ with tsc, beside the old dist/ and swapped in when ready, so that a running program never
// sees half a build. dist/.built holds a hash of the sources, by which a stale dist/ is recognised.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isMain } from './is-main.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const stamp = join(root, 'dist', '.built');

function* sources(dir) {
  for (const entry of readdirSync(dir, { withFileTypes: true })) {
    const path = join(dir, entry.name);
    if (entry.isDirectory()) yield* sources(path);
    else if (!/\.(test|cases)\.ts$/.test(entry.name)) yield path;
  }
}

function fingerprint() {
  const hash = createHash('sha256');
  const settings = ['package.json', 'tsconfig.base.json', 'tsconfig.build.json'].map((name) => join(root, name));
  const files = existsSync(join(root, 'src')) ? [...sources(join(root, 'src'))] : [];
  for (const file of [...settings, ...files.sort()]) {
    hash.update(`${file.slice(root.length)}\n`).update(readFileSync(file));
  }
  return hash.digest('hex');
}

/** Why dist/ must be built, or undefined when it is up to date. */
export function distIsStale() {
  if (!existsSync(stamp)) return 'dist is absent';
  return readFileSync(stamp, 'utf8') === fingerprint() ? undefined : 'dist is older than src';
}

/** Runs tsc; true when it found no error. With errors dist/ is still replaced, but stays marked as stale. */
export function build() {
  const print = fingerprint();
  const fresh = join(root, `dist.new-${process.pid}`);
  const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
  const stdio = ['ignore', process.stderr, process.stderr];
  const { status } = spawnSync(process.execPath, [tsc, '-p', 'tsconfig.build.json', '--outDir', fresh], {
    cwd: root,
    stdio,
  });
  if (existsSync(fresh)) {
    if (status === 0) writeFileSync(join(fresh, '.built'), print);
    rmSync(join(root, 'dist'), { recursive: true, force: true });
    renameSync(fresh, join(root, 'dist'));
  }
  return status === 0;
}

if (isMain(import.meta.url)) process.exitCode = build() ? 0 : 1;
