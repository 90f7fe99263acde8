/**
 * Boards: where models meet drivers. A board is data (memory map, device tree, drivers, models to bind when it is
 * simulated) in one file; a user's own has the same shape:
 *
 *     export default defineBoard({ name: 'my-board', … });
 */
import type { DmaengineObserver } from '../dmaengine/index.ts';
import type { IommuObserver } from '../iommu/index.ts';
import type { DeviceDriver, Kernel, KernelObserver, KernelOptions, OfNode, ReservedMemory } from '../kernel/index.ts';
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
  /**
   * Where other amounts of RAM are, and what of it is reserved, for `BootOptions.ramBytes`. Throws an Error for an amount
   * that it cannot have. Absent: `ram` is cut off at its end.
   */
  ramOf?(bytes: number): RamLayout;
  /** The boot arguments that a mode stands for, where they are this kind of machine's own. */
  cmdlineOf?(mode: Mode): string;
  /** Whether it has a DMA engine whose channels others can use; default true. Without, dmatest and copy pass it by. */
  readonly hasChannels?: boolean;
  /** Where devices write interrupt messages; absent: it has none. */
  readonly msiBase?: number;
  /** The tree that the kernel boots with; a new one at each call. Boards whose tree is the same in every mode ignore it. */
  deviceTree(mode?: Mode): OfNode;
  readonly drivers: readonly DeviceDriver[];
  /** Make the models of its devices, for the simulated machine. */
  bind(host: ModelHost, mode: Mode): void;
  /** What its kernel does before any driver is there: scan its PCI buses, start its IOMMU. */
  start?(kernel: Kernel, config: StartConfig): Promise<void>;
}

/** See `BoardDefinition.ramOf`. */
export interface RamLayout {
  readonly ram: readonly RamRange[];
  readonly reserved: readonly ReservedMemory[];
}
/** What `BoardDefinition.start` is told. */
export interface StartConfig {
  readonly mode: Mode;
  /** Firmware says that the board's slots lead outside of the machine: what is plugged in there is not trusted. */
  readonly untrusted: boolean;
}

/** Who is told what happens; all from the first moment on. */
export interface BootObservers {
  readonly machine?: MachineObserver;
  readonly kernel?: KernelObserver;
  readonly mapping?: MappingObserver;
  readonly dmaengine?: DmaengineObserver;
  readonly iommu?: IommuObserver;
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
  /** Less RAM than the board has, for runs that need little, or more where it can have more. Whole MiB. */
  readonly ramBytes?: number;
  /** Boot arguments for the kernel, behind those of the board and of the mode: the last of several holds. */
  readonly cmdline?: string;
  /** What is in the board's slots comes from outside, and is not trusted. Default false; boards without slots ignore it. */
  readonly untrusted?: boolean;
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
  const { ram, reserved } = ramLayout(board, options.ramBytes);
  const machine = new SimMachine({
    name: board.name,
    coherent: mode.coherent ?? board.coherent,
    cacheLineBytes: board.cacheLineBytes,
    weaklyOrdered: board.weaklyOrdered,
    seed: options.seed ?? 1,
    ram,
    ...(board.msiBase === undefined ? {} : { msiBase: board.msiBase }),
    cacheNoise: options.cacheNoise ?? 'on',
  });
  machine.observer = options.observers?.machine ?? null;
  board.bind(machine, mode);
  const tree = treeFor(board.deviceTree(mode), mode);
  const kernel = kernelOptionsFor(board.kernel ?? {}, mode);
  const cmdline = [kernel.cmdline, board.cmdlineOf?.(mode), options.cmdline].filter(Boolean).join(' ');
  return new System(board, mode, machine, machine.seed, { ...kernel, reserved, cmdline }, tree, options);
}

const MIB = 2 ** 20;
function ramLayout(board: Board, bytes: number | undefined): RamLayout {
  const reserved = board.kernel?.reserved ?? [];
  if (bytes === undefined) return { ram: board.ram, reserved };
  if (!(bytes > 0) || bytes % MIB !== 0) throw new Error(`ramBytes: expected whole MiB, found ${bytes}`);
  return board.ramOf?.(bytes) ?? { ram: cutRam(board.ram, bytes), reserved };
}
function cutRam(ram: readonly RamRange[], bytes: number): RamRange[] {
  const kept: RamRange[] = [];
  let left = bytes;
  for (const { base, sizeBytes } of ram) {
    if (left <= 0) break;
    kept.push({ base, sizeBytes: Math.min(sizeBytes, left) });
    left -= sizeBytes;
  }
  return kept;
}
