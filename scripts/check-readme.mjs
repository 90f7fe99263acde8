// Runs the examples of README.md: every ```sh block behind a line `<!-- ci -->`, or `<!-- ci exit=N -->` when it is
// to exit with N. Each runs in a fresh copy of the tracked files, with `dmakit` on PATH; dist/ must be built.
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isMain } from './is-main.mjs';

const MINUTES = 10;

/** The marked blocks of a Markdown text, as { line, script, exit }. A marker without a sh block is an error. */
export function markedBlocks(text) {
  const lines = text.split(/\r?\n/);
  const blocks = [];
  for (const [i, line] of lines.entries()) {
    if (!/^\s*<!--\s*ci\b/.test(line)) continue;
    const marker = /^\s*<!--\s*ci(?:\s+exit=(\d+))?\s*-->\s*$/.exec(line);
    if (marker === null)
      throw new Error(`line ${i + 1}: expected <!-- ci --> or <!-- ci exit=N -->, found ${line.trim()}`);
    let start = i + 1;
    while (lines[start]?.trim() === '') start++;
    if (!/^\s*```(sh|bash|shell)\s*$/.test(lines[start] ?? '')) {
      throw new Error(`line ${i + 1}: expected a \`\`\`sh block behind the marker, found ${lines[start] ?? 'the end'}`);
    }
    const end = lines.findIndex((other, at) => at > start && /^\s*```\s*$/.test(other));
    if (end < 0) throw new Error(`line ${start + 1}: the block does not end`);
    blocks.push({ line: start + 1, script: lines.slice(start + 1, end).join('\n'), exit: Number(marker[1] ?? 0) });
  }
  return blocks;
}

/** A copy of the tracked files with the same dependencies and dist/, and a `dmakit` in bin/. */
function copyTree(root, to) {
  const { stdout } = spawnSync('git', ['ls-files', '-z', '--cached'], { cwd: root, encoding: 'utf8' });
  for (const file of stdout.split('\0')) {
    if (file === '' || !existsSync(join(root, file))) continue;
    mkdirSync(dirname(join(to, file)), { recursive: true });
    cpSync(join(root, file), join(to, file));
  }
  for (const shared of ['node_modules', 'dist']) symlinkSync(join(root, shared), join(to, shared), 'dir');
}

function runBlock(root, { script }) {
  const scratch = mkdtempSync(join(tmpdir(), 'dmakit-readme-'));
  try {
    const tree = join(scratch, 'dmakit');
    const bin = join(scratch, 'bin');
    mkdirSync(bin);
    copyTree(root, tree);
    const dmakit = join(bin, 'dmakit');
    writeFileSync(dmakit, `#!/bin/sh\nexec "${process.execPath}" "${join(root, 'dist/cli/main.js')}" "$@"\n`);
    chmodSync(dmakit, 0o755);
    return spawnSync('bash', ['-eu', '-o', 'pipefail', '-c', script], {
      cwd: tree,
      env: { ...process.env, PATH: `${bin}${delimiter}${process.env.PATH}` },
      stdio: ['ignore', 'pipe', 'pipe'],
      encoding: 'utf8',
      timeout: MINUTES * 60_000,
      maxBuffer: 1 << 28,
    });
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function main() {
  const root = fileURLToPath(new URL('..', import.meta.url));
  const readme = join(root, 'README.md');
  if (!existsSync(readme)) {
    console.log('readme: there is no README.md yet');
    return 0;
  }
  let failed = 0;
  const blocks = markedBlocks(readFileSync(readme, 'utf8'));
  for (const block of blocks) {
    const { status, signal, stdout, stderr, error } = runBlock(root, block);
    if (status === block.exit) continue;
    failed++;
    const how = signal !== null ? `ended by ${signal}` : (error?.message ?? `exited with ${status}`);
    console.error(`README.md:${block.line}: expected exit ${block.exit}, ${how}\n${block.script}\n${stdout}${stderr}`);
  }
  console.log(`readme: ${blocks.length} examples run, ${failed} failed`);
  return failed === 0 ? 0 : 1;
}

if (isMain(import.meta.url)) process.exitCode = main();
