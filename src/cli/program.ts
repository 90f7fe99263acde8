/** The command line: commands, options, help. What a command does is imported when it is called. */
import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import { modeTerms, modeTermUsage } from '../boards/mode.ts';
import { optionName, parameters } from './dmatest-parameters.ts';
import type { CliIo } from './io.ts';

/** What a command returns: its exit code. */
export type Action = (io: CliIo, args: string[], options: Record<string, unknown>) => Promise<number>;

const collect = (value: string, before: string[] = []) => [...before, value];
const BACKEND_HELP = 'sim, the simulated board (default); qemu; vfio';
const ONE_MODE_HELP = `behave like another kind of machine: ${modeTerms.map(modeTermUsage).join(', ')}`;
const BOARD_HELP = 'the board, all, or a board file of your own (./my-board.ts)';
const TRACE_HELP = 'write every event, one JSON object a line';
const TIMELINE_HELP = 'print the events for people: time, context, who, what';
const MODE_HELP = `${ONE_MODE_HELP}; several run as a matrix ('a;b')`;

/** The command line. `done` receives the exit code of the command that ran. */
export function buildProgram(io: CliIo, done: (exitCode: number) => void): Command {
  const program = new Command('dmakit')
    .description('Write, run and check DMA drivers on simulated boards')
    .version(version(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'show this help')
    .helpCommand('help [COMMAND]', 'show the help of a command')
    .configureOutput({
      writeOut: (text) => io.stdout.write(text),
      writeErr: (text) => io.stderr.write(text),
      outputError: () => {}, // main.ts tells errors in one form
      getOutHelpWidth: () => io.stdout.columns ?? 100,
      getOutHasColors: () => false,
    })
    .exitOverride()
    .addHelpText(
      'after',
      examples([
        'dmakit dmatest --board all',
        'dmakit copy photo.raw copy.raw --board rpi3',
        'dmakit run examples/missing-sync.ts',
        'dmakit board zynq-a9',
      ]),
    );
  const add = (name: string, load: () => Promise<{ command: Action }>) =>
    // exitOverride and the output settings are inherited by commands made this way.
    program.command(name).action(async (...call: unknown[]) => {
      const args = call.slice(0, -2).filter((arg) => arg !== undefined) as string[];
      done(await (await load()).command(io, args, call.at(-2) as Record<string, unknown>));
    });
  addDmatest(add('dmatest', () => import('./dmatest-command.ts')));
  addCopy(add('copy', () => import('./copy-command.ts')));
  addRun(add('run', () => import('./run-command.ts')));
  addBoard(add('board', () => import('./board-command.ts')));
  addConform(add('conform', () => import('./conform-command.ts')));
  addRules(add('rules', () => import('./rules-command.ts')));
  return program;
}

const VALUES = { switch: '[Y|N]', number: '<N>', text: '<NAME>' };

function addDmatest(command: Command): void {
  command
    .description("run the kernel's dmatest on a board's DMA channels")
    .option('--board <NAME>', BOARD_HELP, 'all')
    .option('--mode <MODE>', MODE_HELP, collect)
    .option('--backend <NAME>', BACKEND_HELP)
    .option('--channel <NAME>', 'only this channel, such as dma0chan1 (repeatable)', collect);
  for (const { name, kind, help } of parameters) {
    command.option(`${optionName(name)} ${VALUES[kind]}`, help);
  }
  command
    .option('--seed <N>', 'repeat this run', '1')
    .option('--trace <OUT>', `${TRACE_HELP} (much for many iterations)`)
    .option('--timeline', TIMELINE_HELP)
    .option('--verbose', "show the kernel's log, with a line for each transfer")
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      examples([
        'dmakit dmatest',
        'dmakit dmatest --board rpi3 --channel dma0chan0 --iterations 5 --verbose',
        "dmakit dmatest --board zynq-a9 --mode 'coherent;noncoherent;mask=28'",
        'dmakit dmatest --test_buf_size=65536 --threads_per_chan=4 --json',
        'dmakit dmatest --board ./my-board.ts --iterations 2 --timeline',
      ]),
    );
}

function addCopy(command: Command): void {
  command
    .description('copy a file through a DMA engine and verify it')
    .argument('<SRC>', 'the file to copy')
    .argument('<DST>', 'the file to write')
    .option('--board <NAME>', 'the board whose engine moves the bytes, or a board file of your own')
    .option('--mode <MODE>', ONE_MODE_HELP)
    .option('--backend <NAME>', BACKEND_HELP)
    .option('--channel <NAME>', 'the channel, such as dma0chan1 (default: the first free one)')
    .option('--chunk <BYTES>', 'the size of one transfer, such as 64K (default 256K)')
    .option('--force', 'replace DST when it exists')
    .option('--seed <N>', 'repeat this run', '1')
    .option('--trace <OUT>', TRACE_HELP)
    .option('--timeline', TIMELINE_HELP)
    .option('--verbose', "show the kernel's log")
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      examples([
        'dmakit copy photo.raw copy.raw --board rpi3',
        'dmakit copy disk.img copy.img --board zynq-a9 --chunk 1M --force',
        'dmakit copy odd.bin copy.bin --board rpi3 --chunk 1001 --json',
        'dmakit copy photo.raw copy.raw --board ./my-board.ts --trace copy.jsonl',
      ]),
    );
}

function addRun(command: Command): void {
  command
    .description('run and check a driver of your own')
    .argument('<DRIVER.ts>', 'a file whose default export is defineDriver({…}): see examples/README.md')
    .option('--board <NAME>', BOARD_HELP, 'all')
    .option('--mode <MODE>', MODE_HELP, collect)
    .option('--backend <NAME>', BACKEND_HELP)
    .option('--seed <N>', 'repeat this run (default 1)')
    .option('--seeds <A..B>', 'run once with each of these seeds')
    .option('--report <FORM>', 'text, json, junit or sarif', 'text')
    .option('--json', 'the same as --report json')
    .option('--trace <OUT>', TRACE_HELP)
    .option('--timeline', TIMELINE_HELP)
    .option('--watchdog <SECONDS>', 'give up when the driver keeps the CPU without any kernel call (default 30)')
    .option('--verbose', "show the kernel's log")
    .addHelpText(
      'after',
      examples([
        'dmakit run examples/missing-sync.ts',
        'dmakit run my-driver.ts --board zynq-a9 --seeds 1..100',
        "dmakit run my-driver.ts --mode 'coherent;noncoherent' --report junit > report.xml",
        'dmakit run my-driver.ts --board rpi3 --timeline',
        'dmakit run my-driver.ts --board ./my-board.ts',
      ]),
    );
}

function addBoard(command: Command): void {
  command
    .description("what a board's devices can reach; without a name, the boards")
    .argument('[NAME]', 'a board, or a board file of your own')
    .option('--mode <MODE>', ONE_MODE_HELP)
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      examples(['dmakit board', 'dmakit board rpi3', 'dmakit board zynq-a9 --json', 'dmakit board ./my-board.ts']),
    );
}

function addConform(command: Command): void {
  command
    .description('replay what a real kernel was seen to decide, and count what comes out the same')
    .argument('<FACTS.json...>', 'golden files; their form is in fixtures/golden')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      examples([
        'dmakit conform fixtures/golden/*.json',
        'dmakit conform fixtures/golden/map_sg.intel-strict.json --json',
      ]),
    );
}

function addRules(command: Command): void {
  command
    .description('the rules that drivers are held against, explained')
    .argument('[ID]', 'a rule, such as dma/unmap-size, or a group of them: dma, dmaengine, kernel, run')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      examples(['dmakit rules', 'dmakit rules dma/missing-sync-for-cpu', 'dmakit rules dmaengine']),
    );
}

function examples(lines: readonly string[]): string {
  return `\nExamples:\n${lines.map((line) => `  $ ${line}`).join('\n')}\n`;
}

function version(): string {
  // package.json lies two folders up from src/cli and from dist/cli alike.
  return JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')).version;
}
