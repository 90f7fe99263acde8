/** The process's own streams, Ctrl-C and clean-up. */
import { EXIT_INTERRUPTED, EXIT_USAGE, fileReason } from './errors.ts';
import type { CliIo } from './io.ts';

/** Exit codes of a process ended by SIGTERM and SIGHUP. */
const EXIT_TERMINATED = 143;
const EXIT_HUNG_UP = 129;

/** The real world for `main`. Call once: it takes over the process's signals. */
export function processIo(): CliIo {
  const interrupt = new AbortController();
  const cleanUps = new Set<() => void>();
  const cleanUp = () => {
    for (const action of [...cleanUps].reverse()) action();
    cleanUps.clear();
  };
  process.on('exit', cleanUp);
  const stop = (exitCode: number) => () => {
    // The second time nobody is waited for.
    if (interrupt.signal.aborted) process.exit(exitCode);
    interrupt.abort(exitCode);
  };
  process.on('SIGINT', stop(EXIT_INTERRUPTED));
  process.on('SIGTERM', stop(EXIT_TERMINATED));
  process.on('SIGHUP', stop(EXIT_HUNG_UP));
  // A reader that has seen enough (`dmakit … | head`) is no error.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit();
    process.stderr.write(`dmakit: cannot write to standard output: ${fileReason(error)}\n`);
    process.exit(EXIT_USAGE);
  });
  return {
    stdout: process.stdout,
    stderr: process.stderr,
    env: process.env,
    signal: interrupt.signal,
    onExit: (action) => {
      cleanUps.add(action);
      return () => cleanUps.delete(action);
    },
  };
}
