/** The checker: listens to a machine and its kernel, and holds what drivers do against the rules of the DMA API. */
import type { Kernel } from '../kernel/index.ts';
import type { Machine } from '../machine/contract.ts';
import type { Mem } from '../machine/mem.ts';
import { HungTaskError, LockupError } from '../machine/scheduler.ts';
import { AccessChecks } from './access-checks.ts';
import { CoherentChecks } from './coherent-checks.ts';
import { EndChecks } from './end-checks.ts';
import { EngineChecks } from './engine-checks.ts';
import type { Finding } from './finding.ts';
import { KernelChecks } from './kernel-checks.ts';
import { dmaengineListener, kernelListener, machineListener, mappingListener } from './listeners.ts';
import { MemoryChecks } from './memory-checks.ts';
import { addObserver, DMAENGINE_METHODS, KERNEL_METHODS, MACHINE_METHODS, MAPPING_METHODS } from './observers.ts';
import { isInfrastructure, type Place, parseStack } from './place.ts';
import { CheckState } from './state.ts';
import { StreamingChecks } from './streaming-checks.ts';
import { SyncChecks } from './sync-checks.ts';

/** What is checked: a system, or whatever has its machine and kernel. */
export interface Checked {
  readonly machine: Machine;
  readonly kernel: Kernel;
}
/** How to check. */
export interface CheckerOptions {
  /**
   * Take the place in the driver's source of every call, so that findings can name it. Default true. It costs a few
   * microseconds a call; without it a checked map and unmap cost little more than the two.
   */
  readonly places?: boolean;
}

/** A checker at work. */
export interface Checker {
  /** All findings so far, in the order in which they were made. */
  findings(): Finding[];
  /**
   * The driver (or its test) saw wrong data or gave up: say so at once, before it unmaps anything. Names the mapped
   * bytes that the CPU sees wrongly at this moment; `mem` limits that to a buffer. `thrown` is the error that says where;
   * without it the caller's place counts. Returns whether a finding explains the failure.
   */
  driverFailed(message: string, mem?: Mem | null, thrown?: unknown): boolean;
  /**
   * The run ended, with the `error` that ended it when there is one: what is left over is reported. Call it before the
   * board is taken down; what its drivers leave behind when they are unbound is reported then.
   */
  runEnded(error?: unknown): void;
  /** Stop listening. Ends the run first, when nobody said so. */
  close(): void;
  /** What this machine does not show, and the rules that cannot be checked for it: `rule: reason`. */
  readonly notObservable: readonly string[];
}

/** Rules that need the machine to show every device access. */
const NEED_ACCESSES = [
  'dma/device-access-outside',
  'dma/device-write-to-device-mapping',
  'dma/device-read-from-device-mapping',
  'dma/missing-sync-for-device',
  'dma/missing-sync-for-cpu',
] as const;

/**
 * Check everything that happens from now on. Attach after `board.boot()` and before its first `run`, when the drivers
 * are not bound yet: mappings made earlier are unknown to the ledger.
 */
export function attachChecker(checked: Checked, options: CheckerOptions = {}): Checker {
  const { machine, kernel } = checked;
  const state = new CheckState(machine, kernel, options.places ?? true);
  const memory = new MemoryChecks(state);
  const streaming = new StreamingChecks(state, memory);
  const sync = new SyncChecks(state, memory);
  const coherent = new CoherentChecks(state);
  const access = new AccessChecks(state);
  const engine = new EngineChecks(state);
  const kernelChecks = new KernelChecks(state, engine);
  const end = new EndChecks(state, streaming, engine);
  const detach = [
    addObserver(machine, 'observer', machineListener(access), MACHINE_METHODS),
    addObserver(kernel, 'observer', kernelListener(memory, kernelChecks, engine, end), KERNEL_METHODS),
    addObserver(kernel, 'mappingObserver', mappingListener(streaming, sync, coherent, engine), MAPPING_METHODS),
    addObserver(kernel, 'dmaengineObserver', dmaengineListener(engine), DMAENGINE_METHODS),
  ];
  let ended = false;
  const stop = (): void => {
    for (const off of detach.splice(0)) off();
  };
  const { deviceAccess } = machine.traits.observable;
  const checker: Checker = {
    notObservable: deviceAccess
      ? []
      : NEED_ACCESSES.map((rule) => `${rule}: ${machine.name} does not show device accesses`),
    findings: () => state.log.all.slice(),
    driverFailed(message, mem = null, thrown = undefined) {
      return end.driverFailed(message, mem, placeOfError(thrown) ?? state.here());
    },
    runEnded(error) {
      if (ended) return;
      ended = true;
      const orderly = error === undefined && kernel.dead === null;
      engine.runEnded(orderly, orderly || error instanceof HungTaskError || error instanceof LockupError);
      kernelChecks.ended(error);
      if (orderly) end.runEnded();
      // What is left of a run that broke off is no mistake of its own.
      else stop();
    },
    close() {
      checker.runEnded();
      stop();
    },
  };
  return checker;
}

function placeOfError(thrown: unknown): Place | null {
  if (!(thrown instanceof Error) || thrown.stack === undefined) return null;
  return parseStack(thrown.stack).find(({ file }) => !isInfrastructure(file)) ?? null;
}
