/**
 * Users' driver and board files are TypeScript, and Node 20 runs neither types nor `using`: the file and what it imports
 * are bundled into one module with a source map. `dmakit/…` stays outside the bundle and is this very installation, so
 * that the file and the tool share classes and state.
 */
import { existsSync, readdirSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { extname, join, relative, resolve, sep } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import type { BuildFailure, Message, Plugin } from 'esbuild';
import { CliError, fileReason } from './errors.ts';

/** src/ or dist/ of this installation, and how its modules end. */
export const installation = fileURLToPath(new URL('..', import.meta.url));
const moduleExtension = extname(import.meta.url);

/** How names of users' files end. */
export const ENDINGS = ['.ts', '.mts', '.js', '.mjs'];

/** What a user's file is to be, with an example that is one. */
const KINDS = { driver: 'examples/missing-sync.ts', board: 'examples/my-board.ts' } as const;
type Kind = keyof typeof KINDS;

/** The user's file as one module. */
export interface Bundle {
  /** Absolute path of the user's file. */
  readonly file: string;
  /** ES module with its source map inside. */
  readonly code: string;
}

/** Bundle a driver's file. Throws a `CliError` that names file, line and column. */
export function bundleDriver(file: string): Promise<Bundle> {
  return bundle('driver', file);
}
/** The same for a board's. */
export function bundleBoard(file: string): Promise<Bundle> {
  return bundle('board', file);
}

async function bundle(kind: Kind, file: string): Promise<Bundle> {
  const path = resolve(file);
  await checkFile(kind, file, path);
  const { build } = await import('esbuild');
  try {
    const result = await build({
      entryPoints: [path],
      bundle: true,
      write: false,
      // Beside the user's file, so that the paths in the source map are plain names.
      outfile: `${path}.bundle.mjs`,
      format: 'esm',
      platform: 'node',
      target: 'node20',
      supported: { using: false },
      sourcemap: 'inline',
      sourceRoot: `${pathToFileURL(resolve(path, '..')).href}/`,
      keepNames: true,
      logLevel: 'silent',
      plugins: [thisInstallation],
    });
    return { file: path, code: result.outputFiles[0]!.text };
  } catch (error) {
    const errors = (error as BuildFailure).errors;
    if (!Array.isArray(errors) || errors.length === 0) throw error;
    throw syntaxError(file, errors);
  }
}

async function checkFile(kind: Kind, file: string, path: string): Promise<void> {
  const hint = `Give a ${kind} file, such as ${KINDS[kind]}.`;
  let stats: Awaited<ReturnType<typeof stat>>;
  try {
    stats = await stat(path);
  } catch (error) {
    throw new CliError(`cannot read '${file}': ${fileReason(error)}`, { hint });
  }
  if (stats.isDirectory()) throw new CliError(`cannot read '${file}': is a directory (expected a file)`, { hint });
  if (!ENDINGS.includes(extname(path))) {
    throw new CliError(`'${file}' is no ${kind} file: expected a name ending in ${ENDINGS.join(', ')}`, { hint });
  }
}

function syntaxError(file: string, errors: readonly Message[]): CliError {
  const shown = errors.slice(0, 3).map(({ text, location }) => {
    if (location === null) return { head: `${file}: ${text}`, frame: '' };
    const number = String(location.line);
    const caret = ' '.repeat(number.length + 3 + location.column) + '^'.repeat(Math.max(1, location.length));
    const at = relative(process.cwd(), resolve(location.file)) || location.file;
    return {
      head: `${at}:${location.line}:${location.column + 1}: ${text}`,
      frame: `${number} | ${location.lineText}\n${caret}`,
    };
  });
  const [first, ...others] = shown;
  const rest = others.flatMap(({ head, frame }) => [head, frame]);
  if (errors.length > shown.length) rest.push(`and ${errors.length - shown.length} more`);
  return new CliError(first!.head, { hint: [first!.frame, ...rest].filter((text) => text !== '').join('\n') });
}

const thisInstallation: Plugin = {
  name: 'dmakit',
  setup(build) {
    build.onResolve({ filter: /^dmakit(\/|$)/ }, ({ path }) => {
      const name = path.slice('dmakit/'.length);
      const module = join(installation, name, `index${moduleExtension}`);
      if (/^[a-z]+$/.test(name) && existsSync(module)) return { path: pathToFileURL(module).href, external: true };
      return { errors: [{ text: `dmakit has no part '${name}': import from ${parts().join(', ')}` }] };
    });
    // A file within this repository may name the sources by path; bundling them would make a second dmakit.
    build.onResolve({ filter: /^(\.\.?[\\/]|\/|[A-Za-z]:[\\/])/ }, ({ path, resolveDir, kind }) => {
      if (kind === 'entry-point') return undefined;
      const module = resolve(resolveDir, path);
      if (!module.startsWith(installation)) return undefined;
      return { path: pathToFileURL(module).href, external: true };
    });
  },
};

function parts(): string[] {
  const folders = readdirSync(installation, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  const has = (name: string) => existsSync(`${installation}${sep}${name}${sep}index${moduleExtension}`);
  return folders
    .map((entry) => entry.name)
    .filter(has)
    .sort()
    .map((name) => `dmakit/${name}`);
}
