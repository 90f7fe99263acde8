#!/usr/bin/env node
/** `dmakit`: the command. */
import { realpathSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { CommanderError } from 'commander';
import { kebabOptions } from './dmatest-parameters.ts';
import { describeError, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, exitCodeOf, exitCodeOfSignal } from './errors.ts';
import type { CliIo } from './io.ts';
import { processIo } from './process-io.ts';
import { buildProgram } from './program.ts';
import { nearest } from './values.ts';

/** Run one command line (without node and script). Returns the exit code; never throws. */
export async function main(argv: readonly string[], io: CliIo): Promise<number> {
  let exitCode = EXIT_OK;
  const program = buildProgram(io, (code) => {
    exitCode = code;
  });
  const commands = program.commands.map((command) => command.name());
  try {
    const word = argv.find((arg) => !arg.startsWith('-'));
    if (word === undefined && !argv.some((arg) => /^(-h|--help|-V|--version)$/.test(arg))) {
      if (argv.length === 0) {
        io.stderr.write(program.helpInformation());
        return EXIT_USAGE;
      }
    }
    await program.parseAsync(kebabOptions(argv), { from: 'user' });
    return exitCode === EXIT_INTERRUPTED ? exitCodeOfSignal(io.signal) : exitCode;
  } catch (error) {
    if (error instanceof CommanderError) return usageError(error, argv, commands, io);
    const name = argv.find((arg) => commands.includes(arg));
    const prefix = name === undefined ? 'dmakit' : `dmakit ${name}`;
    io.stderr.write(describeError(error, prefix, io.env.DMAKIT_DEBUG === '1'));
    return exitCodeOf(error);
  }
}

/** Commander's errors in our form: one line, then what to do. */
function usageError(error: CommanderError, argv: readonly string[], commands: readonly string[], io: CliIo): number {
  if (error.exitCode === 0) return EXIT_OK; // help and version
  const name = argv.find((arg) => !arg.startsWith('-'));
  const known = name !== undefined && commands.includes(name);
  const [first = '', suggestion] = error.message.replace(/^error: /, '').split('\n');
  const where = known ? `dmakit ${name}` : 'dmakit';
  const meant = known || name === undefined ? undefined : nearest(name, commands);
  const hint = meant !== undefined ? `(did you mean '${meant}'?)` : suggestion?.replace('Did', 'did');
  io.stderr.write(`${where}: ${first}${hint ? ` ${hint}` : ''}\nSee '${where} --help'.\n`);
  return EXIT_USAGE;
}

// npm's bin is a symbolic link to this file.
if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  process.exitCode = await main(process.argv.slice(2), processIo());
}
