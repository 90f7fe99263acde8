/**
 * Boards: where models meet drivers. A board is data (memory map, device tree, drivers, models to bind when it is
 * simulated) in one file; a user's own has the same shape:
 *
 *     export default defineBoard({ name: 'my-board', … });
 */
import type { DmaengineObserver } from '../dmaengine/index.ts';
import type { DeviceDriver, KernelObserver, KernelOptions, OfNode } from '../kernel/index.ts';
import type { MachineObserver, ModelHost } from '../machine/index.ts';
import { SimMachine } from '../machine/index.ts';
import type { MappingObserver } from '../mapping/index.ts';
import { checkMode, type Mode, type ModeTerm, modeTerms, parseMode } from './mode.ts';
import { kernelOptionsFor, treeFor } from './mode-apply.ts';
import { System } from './system.ts';

/** A range of RAM: whole pages, at most 2 GiB each. */
export interface RamRange {
  readonly base: number;
  readonly sizeBytes: number;
}

/** What a board file exports, made into a `Board` by `defineBoard`. */
export interface BoardDefinition {
  /** `[a-z0-9][a-z0-9-]*`. */
  readonly name: string;
  /** The product's name. */
  readonly title: string;
  /** What is special about it, in one sentence. */
  readonly description: string;
  readonly ram: readonly RamRange[];
  /** Devices snoop the CPU's caches. */
  readonly coherent: boolean;
  /** 32, 64, 128 or 256. */
  readonly cacheLineBytes: number;
  readonly weaklyOrdered: boolean;
  /** Terms of `--mode` that it has. */
  readonly modes: readonly ModeTerm[];
  /** Zones, reserved memory, command line. */
  readonly kernel?: KernelOptions;
  /** Where devices write interrupt messages; absent: it has none. */
  readonly msiBase?: number;
  /** The tree that the kernel boots with; a new one at each call. */
  deviceTree(): OfNode;
  readonly drivers: readonly DeviceDriver[];
  /** Make the models of its devices, for the simulated machine. */
  bind(host: ModelHost): void;
}

/** Who is told what happens; all from the first moment on. */
export interface BootObservers {
  readonly machine?: MachineObserver;
  readonly kernel?: KernelObserver;
  readonly mapping?: MappingObserver;
  readonly dmaengine?: DmaengineObserver;
}

/** How a board is booted. */
export interface BootOptions {
  /** As `parseMode` gives it, or its text. Default: the board as it is. */
  readonly mode?: Mode | string;
  /** Decides everything that hardware leaves open; an integer in [0, 2^32). Default 1. */
  readonly seed?: number;
  /** Whether caches evict and prefetch by themselves. Default 'on'. */
  readonly cacheNoise?: 'on' | 'off';
  readonly observers?: BootObservers;
  /** Less RAM than the board has, for runs that need little: the banks' ends are cut off. Whole MiB. */
  readonly ramBytes?: number;
}

/** A board that can be booted. */
export interface Board extends BoardDefinition {
  /** A new simulated machine with a kernel on it. Throws an Error when the board does not have the mode. */
  boot(options?: BootOptions): Promise<System>;
}

const NAME = /^[a-z0-9][a-z0-9-]*$/;

/** Make a board of its definition. Throws an Error that says what is wrong with it. */
export function defineBoard(definition: BoardDefinition): Board {
  checkDefinition(definition);
  const board: Board = { ...definition, boot: async (options = {}) => bootSimulated(board, options) };
  return board;
}

function checkDefinition(definition: BoardDefinition): void {
  const fail = (what: string): never => {
    throw new Error(`board ${JSON.stringify(definition.name ?? '')}: ${what}`);
  };
  if (typeof definition.name !== 'string' || !NAME.test(definition.name)) {
    fail("'name': expected lower-case letters, digits and '-'");
  }
  for (const field of ['title', 'description'] as const) {
    if (typeof definition[field] !== 'string') fail(`'${field}': expected a text`);
  }
  for (const field of ['ram', 'drivers', 'modes'] as const) {
    if (!Array.isArray(definition[field])) fail(`'${field}': expected a list`);
  }
  if (definition.ram.length === 0) fail("'ram': expected at least one range { base, sizeBytes }");
  for (const field of ['deviceTree', 'bind'] as const) {
    if (typeof definition[field] !== 'function') fail(`'${field}': expected a function`);
  }
  for (const field of ['coherent', 'weaklyOrdered'] as const) {
    if (typeof definition[field] !== 'boolean') fail(`'${field}': expected true or false`);
  }
  const unknown = definition.modes.find((term) => !modeTerms.includes(term));
  if (unknown !== undefined) fail(`'modes': '${unknown}' is unknown; known are ${modeTerms.join(', ')}`);
}

/** The board in a module's default export. Throws an Error that says what was expected and found. */
export function checkBoard(exported: unknown): Board {
  if (typeof exported !== 'object' || exported === null) {
    const found = exported === undefined ? 'no default export' : `a ${exported === null ? 'null' : typeof exported}`;
    throw new Error(`it is no board: expected export default defineBoard({ name, … }), found ${found}`);
  }
  const { boot } = exported as Partial<Board>;
  return typeof boot === 'function' ? (exported as Board) : defineBoard(exported as BoardDefinition);
}

function bootSimulated(board: Board, options: BootOptions): System {
  const asked = options.mode ?? '';
  const mode = checkMode(typeof asked === 'string' ? parseMode(asked, board.modes) : asked, board.modes, board.name);
  const machine = new SimMachine({
    name: board.name,
    coherent: mode.coherent ?? board.coherent,
    cacheLineBytes: board.cacheLineBytes,
    weaklyOrdered: board.weaklyOrdered,
    seed: options.seed ?? 1,
    ram: options.ramBytes === undefined ? board.ram : cutRam(board.ram, options.ramBytes),
    ...(board.msiBase === undefined ? {} : { msiBase: board.msiBase }),
    cacheNoise: options.cacheNoise ?? 'on',
  });
  machine.observer = options.observers?.machine ?? null;
  board.bind(machine);
  const tree = treeFor(board.deviceTree(), mode);
  return new System(board, mode, machine, machine.seed, kernelOptionsFor(board.kernel ?? {}, mode), tree, options);
}

const MIB = 2 ** 20;
function cutRam(ram: readonly RamRange[], bytes: number): RamRange[] {
  if (!(bytes > 0) || bytes % MIB !== 0) throw new Error(`ramBytes: expected whole MiB, found ${bytes}`);
  const kept: RamRange[] = [];
  let left = bytes;
  for (const { base, sizeBytes } of ram) {
    if (left <= 0) break;
    kept.push({ base, sizeBytes: Math.min(sizeBytes, left) });
    left -= sizeBytes;
  }
  return kept;
}
