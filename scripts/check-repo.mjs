// Keeps the repository tidy: node scripts/check-repo.mjs [ROOT]. It speaks of the project alone (no path of a machine,
// no host of a registry), and the simulated levels are deterministic (no clock, no chance of the host, no address in a
// bit operator).
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, realpathSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isMain } from './is-main.mjs';
import { HOST_LEVEL, LAYERS } from './layers.mjs';
import { blank, isTest, lineOf } from './source.mjs';

// Put together from pieces, so that this file does not find itself.
const MACHINE_PATH = new RegExp(`(?<![\\w.~@$}-])/(${['work', 'root', 'home'].join('|')})/`, 'g');
const REGISTRY_HOST = new RegExp(
  ['registry\\.(npmjs|yarnpkg)', '(deb|ftp)\\.debian', 'npm\\.pkg\\.github'].join('|'),
  'g',
);
const HOST_CLOCK = /\bMath\s*\.\s*random\b|\bDate\s*\.\s*now\b|\bnew\s+Date\b|\bperformance\s*\.\s*now\b/g;

/**
 * Files in which a finding is meant, with the reason.
 * @type {{ file: string, text: string, reason: string }[]}
 */
export const EXCEPTIONS = [];

function trackedFiles(root) {
  const { status, stdout, stderr } = spawnSync('git', ['ls-files', '-z', '--cached'], { cwd: root, encoding: 'utf8' });
  if (status !== 0) throw new Error(`git ls-files failed in the tree to check: ${stderr}`);
  return stdout.split('\0').filter((path) => path !== '' && existsSync(join(root, path)));
}

function* findingsOf(file, text) {
  for (const match of text.matchAll(MACHINE_PATH)) yield { match, what: 'the path of a machine' };
  for (const match of text.matchAll(REGISTRY_HOST)) yield { match, what: 'the host of a registry' };
  const [top, folder] = file.split('/');
  if (top !== 'src' || !file.endsWith('.ts') || isTest(file)) return;
  if ((LAYERS[folder]?.level ?? 0) >= HOST_LEVEL) return;
  for (const match of blank(text, { strings: true }).matchAll(HOST_CLOCK)) {
    yield { match, what: `below level ${HOST_LEVEL}, where time is virtual and chance is seeded:` };
  }
}

/** The errors in the tracked text files of a tree. */
export function checkRepo(root, exceptions = EXCEPTIONS) {
  const errors = [];
  for (const file of trackedFiles(root)) {
    const content = readFileSync(join(root, file));
    if (content.subarray(0, 8000).includes(0)) continue; // not a text
    const text = content.toString('utf8');
    for (const { match, what } of findingsOf(file, text)) {
      if (exceptions.some((exception) => exception.file === file && exception.text === match[0])) continue;
      errors.push(`${file}:${lineOf(text, match.index)}: ${what} ${match[0]}`);
    }
  }
  return errors;
}

if (isMain(import.meta.url)) {
  const root = realpathSync(resolve(process.argv[2] ?? join(dirname(fileURLToPath(import.meta.url)), '..')));
  const { addressBits } = await import('./address-bits.mjs');
  const errors = [...checkRepo(root), ...addressBits(root)];
  for (const error of errors) console.error(`error: ${error}`);
  console.log(`tidy: ${errors.length} errors`);
  process.exitCode = errors.length === 0 ? 0 : 1;
}
