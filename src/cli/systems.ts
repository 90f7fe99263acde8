/** Boards and modes as the command line names them. */
import { type Board, boards, modeTerms, modeTermUsage, parseMode, type System } from '../boards/index.ts';
import { channelNames } from '../tools/channels.ts';
import type { SourcePlace } from '../tools/finding.ts';
import { isBoardFile, loadBoardFile } from './board-file.ts';
import { CliError, EXIT_FINDINGS, missing } from './errors.ts';
import { type Bundle, installation } from './loader.ts';
import { placeText, quoteSource, userPlace } from './source-place.ts';
import { listOf, nearest, oneOf } from './values.ts';

const BACKENDS = ['sim', 'qemu', 'vfio'] as const;

/** The board as it is, without `--mode`. */
export const DEFAULT_MODE = 'default';

/** Only the simulated boards are there; the other machines are refused with exit code 3. */
export function checkBackend(options: Record<string, unknown>): void {
  if (options.backend === undefined) return;
  const backend = oneOf('--backend', String(options.backend), BACKENDS);
  if (backend !== 'sim')
    throw missing(`--backend ${backend} is not there yet`, 'Use --backend sim: the simulated boards.');
}

/** The known boards, or some of them: `zynq-a9 or rpi3`. */
export function boardNames(word: 'and' | 'or', list: readonly Board[] = boards): string {
  return listOf(
    list.map((board) => board.name),
    word,
  );
}

/** The board called `name`. The error lists the known ones. */
export function boardNamed(name: string): Board {
  const board = boards.find((candidate) => candidate.name === name);
  if (board !== undefined) return board;
  const known = boards.map((candidate) => candidate.name);
  const meant = nearest(name, known);
  throw new CliError(`unknown board '${name}'${meant === undefined ? '' : ` (did you mean '${meant}'?)`}`, {
    hint: `The boards are ${boardNames('and')}; or give a file of your own (./my-board.ts).`,
  });
}

/** A board that was left out, and why; `mode` is '' when it is left out whatever the mode. */
export interface Skipped {
  readonly board: string;
  readonly mode: string;
  readonly reason: string;
}

/** What `--board` chose. */
export interface Chosen {
  readonly boards: readonly Board[];
  /** Left out of `all`. */
  readonly skipped: readonly Skipped[];
  /** `--board all`: what one of them does not have is no mistake. */
  readonly isAll: boolean;
  /** The user's board file, for threads that load it themselves. */
  readonly bundle: Bundle | undefined;
}

const hasEngine = (board: Board): boolean => board.hasChannels !== false;
const NO_ENGINE = 'no DMA engine whose channels others can use; its devices bring their own DMA';

/** `--board B|all|FILE`. `needsEngine` is what a DMA engine is needed for, if one is. */
export async function chooseBoards(text: string, needsEngine?: string): Promise<Chosen> {
  const chosen = { skipped: [], isAll: false, bundle: undefined };
  if (text === 'all') {
    const out = needsEngine === undefined ? [] : boards.filter((board) => !hasEngine(board));
    return {
      ...chosen,
      boards: boards.filter((board) => !out.includes(board)),
      skipped: out.map(({ name }) => ({ board: name, mode: '', reason: NO_ENGINE })),
      isAll: true,
    };
  }
  if (isBoardFile(text)) {
    const { board, bundle } = await loadBoardFile(text);
    if (needsEngine !== undefined) checkEngine(board, needsEngine);
    return { ...chosen, boards: [board], bundle };
  }
  const board = boardNamed(text);
  if (needsEngine !== undefined) checkEngine(board, needsEngine);
  return { ...chosen, boards: [board] };
}

/** `--board B|FILE` where one is needed. `needsEngine` as above. */
export async function chooseBoard(text: string, needsEngine?: string): Promise<Board> {
  if (text === 'all') {
    const list = needsEngine === undefined ? boards : boards.filter(hasEngine);
    throw new CliError("expected one board, found 'all'", { hint: `Give ${boardNames('or', list)}.` });
  }
  return (await chooseBoards(text, needsEngine)).boards[0]!;
}

function checkEngine(board: Board, command: string): void {
  if (hasEngine(board)) return;
  throw new CliError(`${board.name} has no DMA engine with channels: there is nothing for ${command} to use`, {
    hint:
      `Its devices bring their own DMA: run a driver on it, such as 'dmakit run examples/edu.ts --board ${board.name}'. ` +
      `Channels have ${boardNames('and', boards.filter(hasEngine))}.`,
  });
}

/** A board in a mode; `mode` is `default` or the mode's text in its usual order. */
export interface Variant {
  readonly board: Board;
  readonly mode: string;
}

/** Variants to run, and what was left out. */
export interface Matrix {
  readonly variants: readonly Variant[];
  readonly skipped: readonly Skipped[];
}

/**
 * Every board in every mode of repeated `--mode` options, each a list separated by `;`. Of `all`, boards that lack a mode
 * are left out; a mode that none of the boards has is an error.
 */
export function matrix(chosen: Chosen, given: readonly string[] = [DEFAULT_MODE]): Matrix {
  const texts = [...new Set(given.flatMap((text) => text.split(';')).map((text) => text.trim()))];
  for (const text of texts) checkTerms(text);
  const skipped: Skipped[] = [...chosen.skipped];
  const variants: Variant[] = [];
  for (const board of chosen.boards) {
    const modes = new Set<string>();
    for (const text of texts) {
      try {
        modes.add(modeOf(board, text));
      } catch (error) {
        if (!chosen.isAll) throw modeError(text, board, error, MATRIX_HINT);
        skipped.push({ board: board.name, mode: text, reason: (error as Error).message });
      }
    }
    for (const mode of modes) variants.push({ board, mode });
  }
  const nowhere = texts.find((text) => skipped.filter(({ mode }) => mode === text).length === chosen.boards.length);
  if (nowhere !== undefined && chosen.boards.length > 0) throw noBoardHas(nowhere, skipped);
  return { variants, skipped };
}

/** What no board at all would understand is told as such. */
function checkTerms(text: string): void {
  if (text === DEFAULT_MODE) return;
  try {
    parseMode(text, modeTerms);
  } catch (error) {
    throw new CliError(`--mode '${text}': ${(error as Error).message}`, { hint: MATRIX_HINT });
  }
}
const MATRIX_HINT = "Several modes run as a matrix: --mode 'coherent;noncoherent'.";

function noBoardHas(mode: string, skipped: readonly Skipped[]): CliError {
  const reasons = skipped
    .filter((one) => one.mode === mode || one.mode === '')
    .map(({ board, reason }) => `${board}: ${reason}`);
  return new CliError(`--mode '${mode}': none of the boards has it`, { hint: reasons.join('\n') });
}

/** The board in the mode of one `--mode` option. */
export function variant(board: Board, text: string = DEFAULT_MODE): Variant {
  try {
    return { board, mode: modeOf(board, text) };
  } catch (error) {
    throw modeError(text, board, error, text.includes(';') ? ONE_MODE_HINT : '');
  }
}
const ONE_MODE_HINT = 'This command takes one mode; dmatest and run take several.';

function modeOf(board: Board, text: string): string {
  if (text === DEFAULT_MODE) return text;
  const lacking = parseMode(text)
    .text.split(',')
    .find((term) => term !== '' && !(board.modes as readonly string[]).includes(term.replace(/=.*/, '')));
  if (lacking === undefined) return parseMode(text, board.modes).text || DEFAULT_MODE;
  throw new Error(`it has no mode '${lacking}'; its modes are ${board.modes.map(modeTermUsage).join(', ')}`);
}
function modeError(text: string, board: Board, error: unknown, hint: string): CliError {
  return new CliError(`--mode '${text}': ${board.name}: ${(error as Error).message}`, { hint });
}

/** A board that does not boot: a mode that it cannot have, such as a mask without memory below it, or its own fault. */
export class BootError extends CliError {
  override name = 'BootError';
  /** What is wrong, without the board's name. */
  readonly reason: string;
  /** Where in the user's board file; null for boards of dmakit. */
  readonly place: SourcePlace | null;
  constructor(board: Board, error: Error) {
    const place = userPlace(error.stack, installation) ?? null;
    const where = place === null ? '' : `${placeText(place)}: `;
    const hint = place === null ? `See 'dmakit board ${board.name}'.` : quoteSource(place).trimEnd();
    super(`${where}${board.name}: ${error.message}`, { hint });
    this.reason = error.message;
    this.place = place;
  }
}

/** Boot a board. Throws BootError. */
export async function bootBoard({ board, mode }: Variant, seed: number): Promise<System> {
  try {
    return await board.boot({ mode: mode === DEFAULT_MODE ? '' : mode, seed });
  } catch (error) {
    throw new BootError(board, error as Error);
  }
}

/** The channels of a booted board that can copy memory, for errors. */
export function channelsHint(system: System): string {
  const names = channelNames(system.kernel);
  return names.length === 0 ? '' : `Its channels are ${listOf(names, 'and')}.`;
}

/**
 * What ended a run early, told as the board's: for commands whose own code is right, so that it lies with a driver or a
 * model of the board.
 */
export function endOfRun(error: unknown, { board }: Variant): unknown {
  if (error instanceof CliError || !(error instanceof Error)) return error;
  const cause = error.cause instanceof Error ? error.cause : error;
  const place = userPlace(cause.stack, installation);
  if (place === undefined && !ENDS_OF_RUNS.includes(error.name)) return error;
  const where = place === undefined ? '' : `${placeText(place)}: `;
  return new CliError(`${where}${board.name}: ${error.message}`, {
    hint: place === undefined ? '' : quoteSource(place).trimEnd(),
    exitCode: EXIT_FINDINGS,
  });
}
const ENDS_OF_RUNS = ['HungTaskError', 'LockupError', 'ForeignAwaitError', 'DeadlockError', 'KernelPanic', 'KernelBug'];
