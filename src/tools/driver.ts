/**
 * The shape of a driver file for `dmakit run`: `export default defineDriver({ name, … })`. The kernel's own life cycle
 * (probe, remove) with one addition, `main`: what a test or a user space program would do with the bound device.
 */

import type { PhysAddr } from '../base/addr.ts';
import type { Errno } from '../base/errno.ts';
import type { DmaChan } from '../dmaengine/index.ts';
import type { Device, Kernel, PciDev, PciDeviceId, PlatformDevice } from '../kernel/index.ts';
import type { Mem } from '../machine/mem.ts';
import type { IrqLine, ModelHost, RegisterBlock } from '../machine/model.ts';

/** What the board's DMA engine must offer for the driver. */
export type Capability = 'memcpy' | 'memset' | 'slave';

/** What `probe`, `main` and `remove` are given. Functions need no `this`: take what you use apart. */
export interface DriverContext<D extends Device = PlatformDevice> {
  readonly kernel: Kernel;
  /** The driver's own device, bound to it. */
  readonly device: D;
  /** The device to map buffers for: the channel's DMA engine where the driver needs one, else its own device. */
  readonly dev: Device;
  /** The channel asked for by `needs`; without `needs` reading it throws. */
  readonly chan: DmaChan;
  readonly board: string;
  readonly mode: string;
  readonly seed: number;
  /** Write a line to the kernel's log, under the driver's name. */
  log(text: string): void;
  /**
   * The CPU reads `actual` and must find `expected`. What differs is explained (stale lines of the cache, stores that
   * never reached memory, wrong data) and fails the run, which goes on. Returns whether all bytes are right.
   */
  expectBytes(actual: Mem, expected: Mem | Uint8Array | number, what?: string): boolean;
  /** Fail the run with `message` unless `condition` holds; the run goes on. Returns `condition`. */
  expect(condition: boolean, message: string): boolean;
}

/** Where the hardware that a driver file brings along sits; its device's first resource and interrupt say the same. */
export interface HardwarePlace {
  readonly base: PhysAddr;
  readonly sizeBytes: number;
  readonly irq: IrqLine;
}

/** What a hook may return: nothing, or the kernel's 0 or negative error number. */
// biome-ignore lint/suspicious/noConfusingVoidType: a function that returns nothing is one of the forms
export type DriverResult = Errno | 0 | void | Promise<Errno | 0 | void>;

/** A driver file's default export. */
export interface DriverDefinition<D extends Device = PlatformDevice> {
  /** Shown in reports and in the kernel's log; `[a-z0-9-]+`. */
  readonly name: string;
  /**
   * Binds to the board's device-tree nodes with one of these, as `of_match_table` does. Without it a platform device is
   * made for the driver.
   */
  readonly compatible?: readonly string[];
  /**
   * Binds to a PCI function of the board in this table, which the board's own driver has to give up if it has all of
   * them: the last one then.
   */
  readonly pci?: readonly PciDeviceId[];
  /** A DMA channel with this capability is requested before `probe`, and released after `remove`. */
  readonly needs?: Capability;
  /**
   * A model of the driver's hardware, where the board has none: plugged into the simulated machine before `probe`. It
   * answers at `place.base`, drives `place.irq`, and reaches memory by `host.busMaster`.
   */
  hardware?(host: ModelHost, place: HardwarePlace): RegisterBlock;
  probe?(ctx: DriverContext<D>): DriverResult;
  main?(ctx: DriverContext<D>): DriverResult;
  remove?(ctx: DriverContext<D>): void | Promise<void>;
}
/** The default export of a PCI driver's file. */
export interface PciDriverDefinition extends DriverDefinition<PciDev> {
  readonly pci: readonly PciDeviceId[];
}

/** What is wrong with a driver file's default export. */
export class DriverDefinitionError extends Error {
  override name = 'DriverDefinitionError';
}

/** Declare a driver; checks it, so that mistakes are told when the file is loaded. */
export function defineDriver(definition: PciDriverDefinition): PciDriverDefinition;
export function defineDriver(definition: DriverDefinition): DriverDefinition;
export function defineDriver(
  definition: DriverDefinition | PciDriverDefinition,
): DriverDefinition | PciDriverDefinition {
  return checkDriver(definition);
}

const HOOKS = ['hardware', 'probe', 'main', 'remove'] as const;
const CAPABILITIES: readonly Capability[] = ['memcpy', 'memset', 'slave'];
const KNOWN = ['name', 'compatible', 'pci', 'needs', ...HOOKS];
const PCI_FIELDS = ['vendor', 'device', 'subvendor', 'subdevice', 'class', 'classMask'] as const;

function isPciTable(value: unknown): boolean {
  return (
    Array.isArray(value) &&
    value.length > 0 &&
    value.every(
      (id) =>
        typeof id === 'object' &&
        id !== null &&
        PCI_FIELDS.some((field) => id[field] !== undefined) &&
        PCI_FIELDS.every((field) => id[field] === undefined || Number.isInteger(id[field])),
    )
  );
}

/** The definition in a module's default export. Throws `DriverDefinitionError` saying what was expected and found. */
export function checkDriver(exported: unknown): DriverDefinition {
  const fail = (what: string): never => {
    throw new DriverDefinitionError(what);
  };
  if (exported === undefined) fail('it has no default export; expected: export default defineDriver({ name, main })');
  if (typeof exported !== 'object' || exported === null) {
    fail(
      `its default export is ${exported === null ? 'null' : `a ${typeof exported}`}; expected defineDriver({ name, main })`,
    );
  }
  const driver = exported as Record<string, unknown>;
  if (typeof driver.name !== 'string' || !/^[a-z0-9][a-z0-9-]*$/.test(driver.name)) {
    fail(`'name': expected lower-case letters, digits and '-', found ${JSON.stringify(driver.name)}`);
  }
  for (const hook of HOOKS) {
    if (driver[hook] !== undefined && typeof driver[hook] !== 'function') {
      fail(`'${hook}': expected a function, found a ${typeof driver[hook]}`);
    }
  }
  if (driver.probe === undefined && driver.main === undefined) fail("it does nothing: expected 'probe' or 'main'");
  const { compatible, needs, pci } = driver;
  if (pci !== undefined && !isPciTable(pci)) {
    fail("'pci': expected a list of ids, such as [{ vendor: 0x1234, device: 0x11e8 }]");
  }
  if (pci !== undefined && compatible !== undefined) {
    fail("'pci' binds to a PCI function, 'compatible' to a device-tree node: expected one of them");
  }
  if (
    compatible !== undefined &&
    !(Array.isArray(compatible) && compatible.every((text) => typeof text === 'string'))
  ) {
    fail("'compatible': expected a list of strings, such as ['arm,pl330']");
  }
  if (needs !== undefined && !CAPABILITIES.includes(needs as Capability)) {
    fail(`'needs': expected ${CAPABILITIES.join(', ')}, found ${JSON.stringify(needs)}`);
  }
  if ((compatible ?? pci) !== undefined && driver.hardware !== undefined) {
    const name = pci === undefined ? 'compatible' : 'pci';
    fail(`'${name}' binds to the board's hardware, 'hardware' brings one's own: expected one of them`);
  }
  const unknown = Object.keys(driver).find((key) => !KNOWN.includes(key));
  if (unknown !== undefined) fail(`'${unknown}' is unknown; a driver has ${KNOWN.join(', ')}`);
  return exported as DriverDefinition;
}
