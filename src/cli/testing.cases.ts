/** For tests: run the command in this process, or as a process of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { CliIo } from './io.ts';
import { main } from './main.ts';

/** What a command did. */
export interface Result {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Run `dmakit ARGS…` in this process. */
export async function dmakit(...args: string[]): Promise<Result> {
  return dmakitWith({}, ...args);
}

/** The same with an environment, a signal, or terminals. */
export async function dmakitWith(
  world: { env?: CliIo['env']; signal?: AbortSignal; isTTY?: boolean; columns?: number },
  ...args: string[]
): Promise<Result> {
  const out = { stdout: '', stderr: '' };
  const writer = (name: 'stdout' | 'stderr') => ({
    isTTY: world.isTTY ?? false,
    columns: world.columns,
    write: (text: string) => {
      out[name] += text;
    },
  });
  const cleanUps = new Set<() => void>();
  const code = await main(args, {
    stdout: writer('stdout'),
    stderr: writer('stderr'),
    env: world.env ?? {},
    signal: world.signal ?? new AbortController().signal,
    onExit: (action) => {
      cleanUps.add(action);
      return () => cleanUps.delete(action);
    },
  });
  if (cleanUps.size > 0) throw new Error(`${args.join(' ')}: ${cleanUps.size} clean-ups were not taken back`);
  return { code, ...out };
}

const mainFile = fileURLToPath(new URL('./main.ts', import.meta.url));

/** `dmakit ARGS…` as a process of its own; `during` may watch it and send signals. */
export function dmakitProcess(args: readonly string[], during?: (child: ChildProcess) => void): Promise<Result> {
  return runScript(mainFile, args, during);
}

/** The same for another script. */
export function runScript(
  script: string,
  args: readonly string[],
  during?: (child: ChildProcess) => void,
): Promise<Result> {
  // A run of the command within a test must not report to the test runner.
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const child = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), script, ...args], { env });
  const out = { stdout: '', stderr: '' };
  child.stdout.on('data', (chunk) => {
    out.stdout += chunk;
  });
  child.stderr.on('data', (chunk) => {
    out.stderr += chunk;
  });
  during?.(child);
  return new Promise((resolve) =>
    child.on('close', (code, signal) => resolve({ code: code ?? (signal ? -1 : 0), ...out })),
  );
}

/** A folder of its own for one test file, removed at the end. */
export function scratchFolder(): string {
  const dir = mkdtempSync(join(tmpdir(), 'dmakit-test-'));
  after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}
