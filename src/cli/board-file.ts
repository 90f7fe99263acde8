/** A user's board file: `--board ./my-board.ts`. See examples/README.md. */
import { randomBytes } from 'node:crypto';
import { rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { extname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type Board, checkBoard } from '../boards/index.ts';
import type { SourcePlace } from '../tools/finding.ts';
import { CliError } from './errors.ts';
import { type Bundle, bundleBoard, ENDINGS, installation } from './loader.ts';
import { placeText, quoteSource, userPlace } from './source-place.ts';

/** Whether `--board TEXT` means a file: no board's name has a separator or such an ending. */
export function isBoardFile(text: string): boolean {
  return /[/\\]/.test(text) || ENDINGS.includes(extname(text));
}

/** What a module is not, or why it could not be loaded; `at` is the place in the user's source. */
export class BoardFileError extends Error {
  override name = 'BoardFileError';
  readonly at: SourcePlace | null;
  constructor(message: string, at: SourcePlace | null) {
    super(message);
    this.at = at;
  }
}

/** The board of a bundled file that lies at `url`. Throws BoardFileError. */
export async function importBoard(url: string): Promise<Board> {
  let exported: unknown;
  try {
    exported = ((await import(url)) as { default?: unknown }).default;
    refuseDriver(exported);
    return checkBoard(exported);
  } catch (error) {
    if (error instanceof BoardFileError) throw error;
    const { name, message, stack } = error instanceof Error ? error : new Error(`it throws ${String(error)}`);
    throw new BoardFileError(
      name === 'Error' ? message : `${name}: ${message}`,
      userPlace(stack, installation) ?? null,
    );
  }
}

/** Who mixes up the two gets told so, and not which of a board's fields a driver lacks. */
function refuseDriver(exported: unknown): void {
  if (typeof exported !== 'object' || exported === null || 'deviceTree' in exported) return;
  if ('main' in exported || 'probe' in exported) {
    throw new BoardFileError("it is a driver, not a board: give it to 'dmakit run'", null);
  }
}

/** Bundle and load `file`. Throws CliError with file, line and column. */
export async function loadBoardFile(file: string): Promise<{ board: Board; bundle: Bundle }> {
  const bundle = await bundleBoard(file);
  const module = join(tmpdir(), `dmakit-board-${process.pid}-${randomBytes(4).toString('hex')}.mjs`);
  process.setSourceMapsEnabled(true);
  writeFileSync(module, bundle.code, { flag: 'wx', mode: 0o600 });
  try {
    return { board: await importBoard(pathToFileURL(module).href), bundle };
  } catch (error) {
    if (!(error instanceof BoardFileError)) throw error;
    throw boardFileError(error, file);
  } finally {
    rmSync(module, { force: true });
  }
}

/** The same as the command line tells it. */
export function boardFileError({ message, at }: BoardFileError, file: string): CliError {
  if (at === null) {
    return new CliError(`${file}: ${message}`, { hint: 'examples/README.md shows the shape of a board file.' });
  }
  return new CliError(`${placeText(at)}: ${message}`, { hint: quoteSource(at).trimEnd() });
}
