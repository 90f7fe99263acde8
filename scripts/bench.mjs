// Runs the benches: node scripts/bench.mjs [NAME…] [--json] [--rounds=N]. A NAME selects the files that contain it.
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { root, setup } from './setup.mjs';

function main() {
  const args = process.argv.slice(2);
  const names = args.filter((arg) => !arg.startsWith('-'));
  const options = args.filter((arg) => arg.startsWith('-'));
  const files = readdirSync(join(root, 'bench')).filter((file) => file.endsWith('.bench.ts'));
  const chosen = files.filter((file) => names.length === 0 || names.some((name) => file.includes(name))).sort();
  if (chosen.length === 0) {
    console.error(`no bench matches ${names.join(' ')}; there are ${files.join(', ')}`);
    return 1;
  }
  if (!setup({ dist: false })) return 1;
  for (const file of chosen) {
    const command = ['--expose-gc', '--import', 'tsx', join(root, 'bench', file), ...options];
    const { status } = spawnSync(process.execPath, command, { cwd: root, stdio: 'inherit' });
    if (status !== 0) return status ?? 1;
  }
  return 0;
}

process.exitCode = main();
