/** `dmakit copy SRC DST`: a file through the DMA engine, verified. */
import { boardsWithChannels } from '../boards/index.ts';
import { type CopyReport, copyFile, DEFAULT_CHUNK_BYTES, MAX_CHUNK_BYTES } from './copy-file.ts';
import { CliError, EXIT_FINDINGS, EXIT_INTERRUPTED, EXIT_OK } from './errors.ts';
import { EventRecorder } from './event-output.ts';
import { textOfFinding, textOfSplat, untoldSplats } from './finding-text.ts';
import { type CliIo, colorsFor, writeJson } from './io.ts';
import { boardNames, checkBackend, chooseBoard, variant } from './systems.ts';
import { formatBytes, plural } from './table.ts';
import { byteCount, seedValue } from './values.ts';

/** See program.ts for the options. */
export async function command(io: CliIo, args: string[], options: Record<string, unknown>): Promise<number> {
  const [source = '', destination = ''] = args;
  checkBackend(options);
  if (options.board === undefined) {
    throw new CliError('whose DMA engine is to move the bytes?', {
      hint: `Give --board ${boardNames('or', boardsWithChannels)}.`,
    });
  }
  const board = await chooseBoard(String(options.board), 'copy');
  const job = {
    source,
    destination,
    ...variant(board, options.mode as string | undefined),
    channel: options.channel as string | undefined,
    chunkBytes:
      options.chunk === undefined
        ? DEFAULT_CHUNK_BYTES
        : byteCount('--chunk', String(options.chunk), 1, MAX_CHUNK_BYTES),
    force: options.force === true,
    seed: seedValue('--seed', String(options.seed)),
    verbose: options.verbose === true,
  };
  const inputs = [source, destination, String(options.board)];
  const recorder = new EventRecorder(io, options, inputs, options.json === true ? io.stderr : io.stdout);
  let report: CopyReport;
  try {
    report = await copyFile(io, { ...job, recorder });
  } finally {
    recorder.close();
  }
  const exitCode = tell(io, report, options.json === true);
  recorder.check();
  return exitCode;
}

function tell(io: CliIo, report: CopyReport, json: boolean): number {
  const { destination } = report;
  if (json) writeJson(io, report);
  else io.stdout.write(`${troublesOf(report, io)}${report.verified ? textOf(report, io) : ''}`);
  if (report.interrupted) {
    io.stderr.write(`dmakit copy: interrupted after ${formatBytes(report.bytes)}; '${destination}' was not made\n`);
    return EXIT_INTERRUPTED;
  }
  if (!report.verified) {
    io.stderr.write(
      `dmakit copy: what arrived is not what was sent (SHA-256 differs); '${destination}' was not made\n` +
        `Try another machine, such as --mode coherent, and --verbose to see the kernel's log.\n`,
    );
    return EXIT_FINDINGS;
  }
  const broken = report.findings.filter(({ severity }) => severity !== 'note').length + report.splats.length;
  return broken === 0 ? EXIT_OK : EXIT_FINDINGS;
}

/** What the checker and the kernel have to say; '' when all is well. */
function troublesOf({ findings, splats }: CopyReport, io: CliIo): string {
  const colors = colorsFor(io.stdout, io.env);
  const lines = [
    ...untoldSplats(splats, findings).map((splat) => textOfSplat(splat, colors)),
    ...findings.map((finding) => textOfFinding(finding, colors)),
  ];
  return lines.length === 0 ? '' : `${lines.join('').replace(/^\n/, '')}\n`;
}

function textOf(report: CopyReport, io: CliIo): string {
  const colors = colorsFor(io.stdout, io.env);
  const { bytes, channel, board, transfers, sha256, simulatedS, wallS } = report;
  const rate = (seconds: number) => (seconds > 0 && bytes > 0 ? `${formatBytes(bytes / seconds)}/s` : '-');
  return (
    `${formatBytes(bytes)} copied by ${channel} of ${board} in ${plural(transfers, 'transfer')}: ${colors.green('verified')}\n` +
    `sha256 ${sha256}\n` +
    `${rate(simulatedS)} of simulated time, ${rate(wallS)} of wall time\n`
  );
}
