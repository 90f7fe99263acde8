/** Runs one driver on one booted board, to its end or to the report of why it has none. */

import { physAddr } from '../base/addr.ts';
import { EFAULT, EINVAL, type Errno, errnoName, KernelBug, OK } from '../base/errno.ts';
import type { System } from '../boards/index.ts';
import {
  DMA_MEMCPY,
  DMA_MEMSET,
  DMA_SLAVE,
  type DmaChan,
  dmaCapMask,
  dmaReleaseChannel,
  dmaRequestChannel,
} from '../dmaengine/index.ts';
import {
  DeadlockError,
  type Device,
  type DeviceDriver,
  deviceAdd,
  deviceDel,
  deviceReleaseDriver,
  driverRegister,
  driverUnregister,
  type Kernel,
  KernelPanic,
  localIrqEnable,
  msleep,
  type PciDeviceId,
  PlatformDevice,
  pciBus,
  pciDevices,
  pciMatchId,
  prInfo,
  type Resource,
  spinUnlock,
  splat,
} from '../kernel/index.ts';
import { type RegisterBlock, SimMachine } from '../machine/index.ts';
import type { Mem } from '../machine/mem.ts';
import { ForeignAwaitError, HungTaskError, LockupError, type WaitReport } from '../machine/scheduler.ts';
import { probeErrors } from './channels.ts';
import { compareBytes, type Difference, type Expected } from './compare.ts';
import type { Capability, DriverContext, DriverDefinition, DriverResult, PciDriverDefinition } from './driver.ts';

/** How a run ended. */
export type Outcome =
  | 'ok'
  /** An expectation, a hook or the probe failed; the kernel lived on. */
  | 'failed'
  /** A task waits for what will never happen. */
  | 'hung'
  /** A task kept the CPU without end. */
  | 'lockup'
  | 'deadlock'
  /** The kernel stopped: a BUG, or an exception in an interrupt handler, a tasklet or a callback. */
  | 'panic'
  | 'foreign-await'
  /** The board does not have what the driver needs. */
  | 'skipped';

/** An expectation of the driver that did not hold. */
export interface FailedExpectation {
  readonly message: string;
  /** What differs, where bytes were compared. */
  readonly difference: Difference | null;
  /** A stack in whose innermost foreign frame the expectation stands. */
  readonly stack: string;
  /** The device that the buffers are mapped for. */
  readonly device: string;
  /** Whether a watcher's findings explain it better. */
  readonly explained: boolean;
  readonly timeNs: number;
}

/** Told what the driver itself notices, while everything is still mapped; and the end. */
export interface RunWatcher {
  /** Returns whether its findings explain the failure. */
  driverFailed(message: string, mem: Mem | null, thrown: Error): boolean;
  /** With what ended the run, unless it came to its end. */
  ended(error?: unknown): void;
}

/** A run's result. */
export interface DriverRun {
  readonly outcome: Outcome;
  /** Why the outcome is not ok; '' when it is. Several lines for a report of who waits for what. */
  readonly message: string;
  /** Stack of the error that ended the run, '' without one. */
  readonly stack: string;
  readonly failures: readonly FailedExpectation[];
  readonly waits: readonly WaitReport[];
  readonly simulatedNs: number;
}

/** Where hardware of a driver file answers: neither RAM nor registers on any board. */
const HARDWARE_BASE = physAddr(0xa000_0000);
const HARDWARE_BYTES = 0x1_0000;
const HARDWARE_IRQ = 240;

/** After everything is removed, late interrupts and transfers may still show what the driver left behind. */
const GRACE_MS = 10;

/** Run `driver` on `system`: request its channel, bind it, `main`, unbind it. Never throws for what the driver did. */
export async function runDriver(
  system: System,
  driver: DriverDefinition | PciDriverDefinition,
  watcher?: RunWatcher,
): Promise<DriverRun> {
  // Which kind of device its hooks are given follows from the same definition.
  const run = new Run(system, driver as DriverDefinition, watcher);
  let end: { outcome: Outcome; message: string; stack: string; waits: readonly WaitReport[] };
  try {
    await system.run(() => run.lifeCycle());
    watcher?.ended();
    const [first] = run.failures;
    const message = run.reason !== '' ? run.reason : first === undefined ? '' : first.message;
    const outcome = run.skipped ? 'skipped' : message === '' ? 'ok' : 'failed';
    end = { outcome, message, stack: run.reasonStack, waits: [] };
  } catch (error) {
    watcher?.ended(error);
    end = { ...classify(error), waits: error instanceof HungTaskError ? error.waits : [] };
  }
  return { ...end, failures: run.failures, simulatedNs: system.machine.now() };
}

function classify(error: unknown): { outcome: Outcome; message: string; stack: string } {
  const { message, stack = '' } = error instanceof Error ? error : new Error(`thrown value ${String(error)}`);
  if (error instanceof KernelPanic && error.cause instanceof Error) {
    return { outcome: 'panic', message, stack: error.cause.stack ?? '' };
  }
  const outcome =
    error instanceof HungTaskError
      ? 'hung'
      : error instanceof LockupError
        ? 'lockup'
        : error instanceof DeadlockError
          ? 'deadlock'
          : error instanceof ForeignAwaitError
            ? 'foreign-await'
            : 'panic';
  return { outcome, message: error instanceof KernelBug ? `kernel BUG: ${message}` : message, stack };
}

/** What ends a machine, and not just the driver that threw it. */
const FATAL = [KernelBug, KernelPanic, LockupError, DeadlockError, HungTaskError, ForeignAwaitError];

/** `1234:11e8`, or the class. */
function pciIdText(id: PciDeviceId): string {
  const hex = (n: number | undefined, digits: number) => (n === undefined ? '*' : n.toString(16).padStart(digits, '0'));
  return id.vendor === undefined && id.class !== undefined
    ? `of class ${hex(id.class, 6)}`
    : `${hex(id.vendor, 4)}:${hex(id.device, 4)}`;
}

/** What a driver file's `hardware` gives is not checked by types alone. */
function isRegisterBlock(block: unknown): block is RegisterBlock {
  if (typeof block !== 'object' || block === null) return false;
  const { readRegister, writeRegister } = block as Partial<RegisterBlock>;
  return typeof readRegister === 'function' && typeof writeRegister === 'function';
}

const capabilities: Record<Capability, number> = {
  memcpy: dmaCapMask(DMA_MEMCPY),
  memset: dmaCapMask(DMA_MEMSET),
  slave: dmaCapMask(DMA_SLAVE),
};

class Run {
  readonly failures: FailedExpectation[] = [];
  /** Why the run failed although the kernel lived on. */
  reason = '';
  reasonStack = '';
  skipped = false;
  /** The machine has come to its end: nothing can be taken down any more. */
  #dead = false;
  readonly #system: System;
  readonly #kernel: Kernel;
  readonly #driver: DriverDefinition;
  readonly #watcher: RunWatcher | undefined;
  #chan: DmaChan | null = null;
  #bound: PlatformDevice | null = null;

  constructor(system: System, driver: DriverDefinition, watcher: RunWatcher | undefined) {
    this.#system = system;
    this.#watcher = watcher;
    this.#kernel = system.kernel;
    this.#driver = driver;
  }

  async lifeCycle(): Promise<void> {
    const { needs } = this.#driver;
    if (needs !== undefined) {
      this.#chan = await dmaRequestChannel(this.#kernel, capabilities[needs]);
      if (this.#chan === null) return this.#skip(this.#noChannel(needs));
    }
    try {
      await this.#bindAndRun();
    } finally {
      if (this.#chan !== null && !this.#dead) await dmaReleaseChannel(this.#chan);
    }
    await msleep(this.#kernel, GRACE_MS);
  }

  /** A controller that could not be set up has no channels either: then its error is the reason. */
  #noChannel(needs: Capability): string {
    const what = `${this.#system.board} has no free channel that offers ${needs}`;
    return [what, ...probeErrors(this.#kernel)].join('; ');
  }

  async #bindAndRun(): Promise<void> {
    const { compatible, pci, name, main } = this.#driver;
    const isOwn = compatible === undefined && pci === undefined;
    const own = isOwn ? this.#makeDevice() : null;
    if (isOwn && own === null) return;
    const deviceDriver: DeviceDriver = {
      name,
      ...(own !== null ? { match: (dev: Device) => dev === own } : {}),
      ...(compatible !== undefined ? { compatible } : {}),
      ...(pci !== undefined ? { bus: pciBus, idTable: pci } : {}),
      probe: (dev) => this.#probe(dev as PlatformDevice),
      remove: (dev) => this.#remove(dev as PlatformDevice),
    };
    if (pci !== undefined) await this.#freeFunction(pci);
    await driverRegister(this.#kernel, deviceDriver);
    if (own !== null) await deviceAdd(own);
    if (this.#bound === null && this.reason === '') {
      const wanted =
        pci !== undefined
          ? `a PCI function ${pci.map(pciIdText).join(' or ')}`
          : compatible === undefined
            ? 'its own device'
            : `a device compatible with ${compatible.join(', ')}`;
      this.#skip(`${this.#system.board} has no free device to bind: expected ${wanted}`);
    }
    if (this.#bound !== null && main !== undefined) await this.#call('main', main, this.#bound);
    if (own !== null) await deviceDel(own);
    await driverUnregister(this.#kernel, deviceDriver);
  }

  /** Where the board's driver has every function that the table names, it gives up the last one. */
  async #freeFunction(table: readonly PciDeviceId[]): Promise<void> {
    const matching = pciDevices(this.#kernel).filter((dev) => pciMatchId(table, dev) !== null);
    if (matching.some((dev) => dev.driver === null)) return;
    const last = matching.at(-1);
    if (last !== undefined) await deviceReleaseDriver(last);
  }

  /** The driver's own device, and its hardware where it brings some along; null when that is none. */
  #makeDevice(): PlatformDevice | null {
    const { name, hardware } = this.#driver;
    if (hardware === undefined) return new PlatformDevice(this.#kernel, name);
    const { machine } = this.#system;
    if (!(machine instanceof SimMachine)) throw new Error("'hardware' needs a simulated machine");
    const sizeBytes = HARDWARE_BYTES;
    const irq = machine.irqLine(HARDWARE_IRQ);
    const block: unknown = hardware(machine, { base: HARDWARE_BASE, sizeBytes, irq });
    if (!isRegisterBlock(block)) {
      this.#fail(`hardware returned ${String(block)}: expected an object with readRegister and writeRegister`, '');
      return null;
    }
    machine.mapRegisters(HARDWARE_BASE, sizeBytes, name, block);
    const resources: Resource[] = [
      { kind: 'mem', start: HARDWARE_BASE, sizeBytes, name },
      { kind: 'irq', start: HARDWARE_IRQ, sizeBytes: 1, name },
    ];
    return new PlatformDevice(this.#kernel, name, { resources });
  }

  async #probe(device: PlatformDevice): Promise<Errno> {
    const { probe } = this.#driver;
    const error = probe === undefined ? OK : await this.#call('probe', probe, device);
    if (error === OK) this.#bound ??= device;
    return error;
  }

  async #remove(device: PlatformDevice): Promise<void> {
    const { remove } = this.#driver;
    if (remove !== undefined) await this.#call('remove', remove, device);
  }

  /** Call a hook; what it throws or returns becomes the reason of a failed run. Errors that end the machine pass. */
  async #call(name: string, hook: (ctx: DriverContext) => DriverResult, device: PlatformDevice): Promise<Errno> {
    const { context } = this.#kernel;
    const { preemptCount } = context;
    const heldLocks = context.held.length;
    try {
      const returned: unknown = (await hook(this.#context(device))) ?? OK;
      if (returned === OK) return OK;
      if (typeof returned === 'number' && returned < 0) {
        this.#fail(`${name} returned -${errnoName(returned as Errno)}`, '');
        return returned as Errno;
      }
      this.#fail(`${name} returned ${JSON.stringify(returned)}: expected 0 or a negative error number`, '');
      return EINVAL;
    } catch (error) {
      const { dead } = this.#kernel;
      if ((dead !== null && error === dead) || FATAL.some((type) => error instanceof type)) {
        this.#dead = true;
        throw error;
      }
      const thrown = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
      if (error instanceof Error) this.#watcher?.driverFailed(`${name} threw ${thrown}`, null, error);
      this.#fail(`${name} threw ${thrown}`, error instanceof Error ? (error.stack ?? '') : '');
      return EFAULT;
    } finally {
      if (!this.#dead) this.#takeBack(name, preemptCount, heldLocks);
    }
  }
  /** What a hook leaves locked or disabled is its own fault, and not that of what runs next. */
  #takeBack(name: string, preemptCount: number, heldLocks: number): void {
    const { context } = this.#kernel;
    if (context.irqsDisabled) {
      splat(this.#kernel, 'context-imbalance', `BUG: ${name} returned with interrupts disabled`);
      localIrqEnable(this.#kernel);
    }
    while (context.held.length > heldLocks) {
      const lock = context.held.at(-1)!;
      splat(this.#kernel, 'context-imbalance', `BUG: ${name} returned with lock '${lock.name}' held`);
      spinUnlock(lock);
    }
    context.checkBalance(name, preemptCount, heldLocks);
  }

  #fail(reason: string, stack: string): void {
    if (this.reason !== '') return;
    this.reason = reason;
    this.reasonStack = stack;
  }
  #skip(reason: string): void {
    this.reason = reason;
    this.skipped = true;
  }

  #context(device: PlatformDevice): DriverContext {
    const system = this.#system;
    const chan = this.#chan;
    const context: DriverContext = {
      kernel: this.#kernel,
      device,
      dev: chan === null ? device : chan.device.dev,
      get chan() {
        if (chan === null) throw new Error("ctx.chan: the driver did not ask for a channel; add needs: 'memcpy'");
        return chan;
      },
      board: system.board,
      mode: system.mode,
      seed: system.seed,
      log: (text) => prInfo(this.#kernel, `${this.#driver.name}: ${text}`),
      expectBytes: (actual, expected, what = 'the buffer') => this.#expectBytes(context, actual, expected, what),
      expect: (condition, message) => {
        if (!condition) this.#failed(message, message, null, null, context.expect);
        return condition;
      },
    };
    return context;
  }

  #expectBytes(context: DriverContext, actual: Mem, expected: Expected, what: string): boolean {
    const difference = compareBytes(actual, expected, this.#kernel.machine.traits.cacheLineBytes);
    if (difference === null) return true;
    const words = { stale: 'are stale', unwritten: 'never left the CPU cache', wrong: 'are wrong' }[difference.cause];
    const message = `${difference.bytes} of ${difference.sizeBytes} bytes of ${what} ${words}`;
    this.#failed(message, `the driver reads ${what}`, difference, actual, context.expectBytes);
    return false;
  }

  /** @param above what the driver called: its caller is where the expectation stands */
  #failed(message: string, doing: string, difference: Difference | null, mem: Mem | null, above: unknown): void {
    const thrown = new Error(message);
    Error.captureStackTrace(thrown, above as () => void);
    const explained = this.#watcher?.driverFailed(doing, mem, thrown) ?? false;
    const { name } = this.#chan?.device.dev ?? this.#bound ?? { name: this.#driver.name };
    this.failures.push({
      message,
      difference,
      stack: thrown.stack ?? '',
      device: name,
      explained,
      timeNs: this.#kernel.machine.now(),
    });
  }
}
