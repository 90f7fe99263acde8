// Sets up what is missing: the locked dependencies and dist/. Needs nothing but Node and npm; says nothing when
// there is nothing to do. `npm start` and `npm test` begin with it.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build, distIsStale } from './build.mjs';
import { isMain } from './is-main.mjs';

export const root = fileURLToPath(new URL('..', import.meta.url));

/** What differs between the lockfile and what npm recorded as installed, or undefined when they agree. */
export function missingDependency(dir = root) {
  const lock = readLock(join(dir, 'package-lock.json'));
  const installed = readLock(join(dir, 'node_modules', '.package-lock.json'));
  if (lock === undefined) return undefined;
  if (installed === undefined) return 'node_modules is absent';
  for (const [path, entry] of Object.entries(lock)) {
    if (path === '') continue;
    const have = installed[path];
    if (have === undefined && entry.optional) continue; // built for another platform
    if (have === undefined) return `${path} is not installed`;
    if (have.version !== entry.version) return `${path} is ${have.version}, locked is ${entry.version}`;
  }
  return undefined;
}

function readLock(file) {
  if (!existsSync(file)) return undefined;
  try {
    return JSON.parse(readFileSync(file, 'utf8')).packages;
  } catch {
    return undefined;
  }
}

/** Runs npm by the same installation that started us, else the one on PATH. Output goes to standard error. */
function npm(args) {
  const own = process.env.npm_execpath;
  const stdio = ['ignore', process.stderr, process.stderr];
  const options = { cwd: root, stdio };
  const result = own?.endsWith('.js')
    ? spawnSync(process.execPath, [own, ...args], options)
    : spawnSync('npm', args, { ...options, shell: process.platform === 'win32' });
  return result.status ?? 1;
}

/**
 * True when everything is in place; false, after saying why, when it could not be put there. With `dist: false` only
 * the dependencies are looked at.
 */
export function setup({ dist = true } = {}) {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major < 20 || (major === 20 && minor < 19)) {
    console.error(`dmakit needs Node 20.19 or later; this is ${process.version}`);
    return false;
  }
  const missing = missingDependency();
  if (missing !== undefined) {
    console.error(`setup: ${missing}: npm ci`);
    if (npm(['ci', '--include=dev', '--no-audit', '--no-fund', '--loglevel=error']) !== 0) {
      console.error('setup: npm ci failed (see above)');
      return false;
    }
  }
  const stale = dist ? distIsStale() : undefined;
  if (stale !== undefined) {
    console.error(`setup: ${stale}: building`);
    if (!build()) {
      console.error('setup: the build failed (see above)');
      return false;
    }
  }
  return true;
}

if (isMain(import.meta.url)) process.exitCode = setup() ? 0 : 1;
