// `npm start`: sets up what is missing, then does the main job, which is dist/cli/start.js.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { root, setup } from './setup.mjs';

const entry = join(root, 'dist', 'cli', 'start.js');

if (!setup()) {
  process.exitCode = 1;
} else if (!existsSync(entry)) {
  console.error('npm start has nothing to run yet: src/cli/start.ts does not exist');
  process.exitCode = 1;
} else {
  const child = spawn(process.execPath, ['--enable-source-maps', entry, ...process.argv.slice(2)], {
    stdio: 'inherit',
  });
  // Ctrl-C reaches the whole group: the child ends in its own way, and we pass on how it did.
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => signal === 'SIGTERM' && child.kill(signal));
  child.on('exit', (code, signal) => {
    process.exitCode = code ?? (signal === 'SIGINT' ? 130 : 1);
  });
}
