/** Boards and modes as the command line names them. */
import { type Board, boards, boardsWithChannels, parseMode, type System } from '../boards/index.ts';
import { channelNames } from '../tools/channels.ts';
import { CliError, EXIT_FINDINGS, missing } from './errors.ts';
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
    hint: `The boards are ${boardNames('and')}.`,
  });
}

/** The same for what needs a DMA engine; `command` is what it is needed for. */
export function engineBoardNamed(name: string, command: string): Board {
  const board = boardNamed(name);
  if (board.hasChannels !== false) return board;
  throw new CliError(`${name} has no DMA engine with channels: there is nothing for ${command} to use`, {
    exitCode: EXIT_FINDINGS,
    hint:
      `Its devices bring their own DMA: run a driver on it, such as 'dmakit run examples/edu.ts --board ${name}'. ` +
      `Channels have ${boardNames('and', boardsWithChannels)}.`,
  });
}
/** `--board B|all` for what needs a DMA engine: all that have one. */
export function engineBoardsNamed(name: string, command: string): readonly Board[] {
  return name === 'all' ? boardsWithChannels : [engineBoardNamed(name, command)];
}

/** `--board B|all`. */
export function boardsNamed(name: string): readonly Board[] {
  return name === 'all' ? boards : [boardNamed(name)];
}

/** A board in a mode; `mode` is `default` or the mode's text in its usual order. */
export interface Variant {
  readonly board: Board;
  readonly mode: string;
}

/** Every board in every mode of repeated `--mode` options, each a list separated by `;`. */
export function matrix(boardList: readonly Board[], given: readonly string[] = [DEFAULT_MODE]): Variant[] {
  const texts = given.flatMap((text) => text.split(';')).map((text) => text.trim());
  return boardList.flatMap((board) => {
    const modes = new Set(texts.map((text) => modeOf(board, text)));
    return [...modes].map((mode) => ({ board, mode }));
  });
}

/** The board in the mode of one `--mode` option. */
export function variant(board: Board, text: string = DEFAULT_MODE): Variant {
  return { board, mode: modeOf(board, text) };
}

function modeOf(board: Board, text: string): string {
  if (text === DEFAULT_MODE) return text;
  try {
    return parseMode(text, board.modes).text || DEFAULT_MODE;
  } catch (error) {
    throw new CliError(`--mode '${text}': ${board.name}: ${(error as Error).message}`, {
      hint: "Several modes run as a matrix: --mode 'coherent;noncoherent'.",
    });
  }
}

/** Boot a board. The error of a mode that it cannot have, such as a mask without memory below it, is the user's. */
export async function bootBoard({ board, mode }: Variant, seed: number): Promise<System> {
  try {
    return await board.boot({ mode: mode === DEFAULT_MODE ? '' : mode, seed });
  } catch (error) {
    throw new CliError(`${board.name}: ${(error as Error).message}`, { hint: `See 'dmakit board ${board.name}'.` });
  }
}

/** The channels of a booted board that can copy memory, for errors. */
export function channelsHint(system: System): string {
  const names = channelNames(system.kernel);
  return names.length === 0 ? '' : `Its channels are ${listOf(names, 'and')}.`;
}
