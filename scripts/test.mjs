// Finds and runs the tests: node scripts/test.mjs [PATH…] [--node-test-option…]
// A PATH selects the test files whose path begins with it or contains it. Fails when a test fails, when nothing was
// selected, and when a file or the whole run executed no test. Skips are listed with their reasons at the end.
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative, resolve, sep } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { isMain } from './is-main.mjs';

const here = fileURLToPath(new URL('.', import.meta.url));

/** Every *.test.ts under the given folders of root, as sorted relative paths with slashes. */
export function findTests(root, folders = ['src', 'scripts', 'examples', 'ui', 'bench']) {
  const found = [];
  const walk = (dir) => {
    let entries = [];
    try {
      entries = readdirSync(dir, { withFileTypes: true });
    } catch {
      return; // this folder does not exist (yet)
    }
    for (const entry of entries) {
      const path = join(dir, entry.name);
      if (entry.isDirectory() && entry.name !== 'node_modules' && entry.name !== 'dist') walk(path);
      else if (entry.isFile() && entry.name.endsWith('.test.ts')) found.push(relative(root, path).split(sep).join('/'));
    }
  };
  for (const folder of folders) walk(join(root, folder));
  return found.sort();
}

/** The files which a filter names; a leading ./ and a trailing / do not matter. */
export function selectTests(files, filters) {
  if (filters.length === 0) return files;
  const wanted = filters.map((filter) => filter.replaceAll('\\', '/').replace(/^\.\//, ''));
  return files.filter((file) => wanted.some((part) => file.startsWith(part) || file.includes(part)));
}

/** Runs the files and resolves to { status, executed, failed, skipped, empty } (see test-counter.mjs). */
export function runTests(root, files, options = []) {
  const scratch = mkdtempSync(join(tmpdir(), 'dmakit-test-'));
  const result = join(scratch, 'counts.json');
  const counter = pathToFileURL(join(here, 'test-counter.mjs')).href;
  const args = ['--import', import.meta.resolve('tsx'), '--enable-source-maps', '--test', '--test-concurrency=2'];
  args.push('--test-reporter=spec', '--test-reporter-destination=stdout');
  args.push(`--test-reporter=${counter}`, `--test-reporter-destination=${result}`);
  // A run of tests within a test must not report to the outer runner.
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const child = spawn(process.execPath, [...args, ...options, ...files], { cwd: root, env, stdio: 'inherit' });
  return new Promise((done) => {
    child.on('exit', (code, signal) => {
      let counts = { executed: 0, failed: 0, skipped: [], empty: [] };
      try {
        counts = JSON.parse(readFileSync(result, 'utf8'));
      } catch {} // the runner died before it counted: nothing was executed
      rmSync(scratch, { recursive: true, force: true });
      done({ status: code ?? (signal ? 130 : 1), ...counts });
    });
  });
}

async function main() {
  const rootAt = process.env.DMAKIT_TEST_ROOT;
  const root = rootAt ? resolve(rootAt) : join(here, '..');
  const args = process.argv.slice(2);
  const filters = args.filter((arg) => !arg.startsWith('-'));
  const files = selectTests(findTests(root), filters);
  if (files.length === 0) {
    console.error(filters.length === 0 ? 'no test was found' : `no test file matches ${filters.join(' ')}`);
    return 1;
  }
  const run = await runTests(
    root,
    files,
    args.filter((arg) => arg.startsWith('-')),
  );
  if (run.skipped.length > 0) {
    console.log(`\n${run.skipped.length} skipped:`);
    for (const { name, file, reason } of run.skipped) console.log(`  ${file}: ${name}: ${reason}`);
  }
  for (const file of run.empty) console.error(`${file} holds no test`);
  if (run.executed === 0) console.error('no test was executed');
  return run.status !== 0 ? run.status : run.executed === 0 || run.empty.length > 0 ? 1 : 0;
}

if (isMain(import.meta.url)) process.exitCode = await main();
