/** What all checks of one run share. */
import type { Device } from '../kernel/device.ts';
import { devDriverString } from '../kernel/device.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Machine } from '../machine/contract.ts';
import type { FindingOf, RuleId, ValuesOf } from './finding.ts';
import { FindingLog } from './finding-log.ts';
import { History } from './history.ts';
import { Ledger } from './ledger.ts';
import { type Place, placeHere, placeOf, type Trace, takeTrace } from './place.ts';

/** See the file's head. */
export class CheckState {
  readonly machine: Machine;
  readonly kernel: Kernel;
  readonly ledger = new Ledger();
  readonly history = new History();
  readonly log = new FindingLog();
  /** By the number that the ledger knows them by. */
  readonly devices: Device[] = [];
  readonly #numbers = new Map<Device, number>();
  readonly #places: boolean;
  // Most runs of calls are for one device.
  #lastDevice: Device | null = null;
  #lastNumber = -1;

  constructor(machine: Machine, kernel: Kernel, places: boolean) {
    this.machine = machine;
    this.kernel = kernel;
    this.#places = places;
  }

  /** A device's number in the ledger. */
  deviceNumber(dev: Device): number {
    if (dev === this.#lastDevice) return this.#lastNumber;
    let number = this.#numbers.get(dev);
    if (number === undefined) {
      number = this.devices.length;
      this.devices.push(dev);
      this.#numbers.set(dev, number);
    }
    this.#lastDevice = dev;
    this.#lastNumber = number;
    return number;
  }

  /** The stack of what runs now, or null when places are not wanted. */
  trace(): Trace | null {
    return this.#places ? takeTrace(CheckState.prototype.trace) : null;
  }
  /** Where a driver called, that is where it runs now. */
  here(): Place | null {
    return this.#places ? placeHere(CheckState.prototype.here) : null;
  }
  /** Where an entry was made. */
  madeAt(entry: number): Place | null {
    return placeOf(this.ledger.traces[entry] ?? null);
  }

  /** Report a broken rule. `distinct` tells it from others of the rule where no place is known. */
  report<R extends RuleId>(
    rule: R,
    dev: Device | null,
    at: Place | null,
    mappedAt: Place | null,
    values: ValuesOf<R>,
    distinct: number | string,
    deviceName = dev?.name ?? '',
    context = this.kernel.context.describe(),
  ): FindingOf<R> {
    const owner = dev === null ? '' : devDriverString(dev);
    const circumstances = {
      device: deviceName,
      deviceString: owner === '' ? deviceName : `${owner} ${deviceName}`,
      timeNs: this.machine.now(),
      context,
      at,
      mappedAt,
    };
    return this.log.add(rule, circumstances, values, distinct);
  }
}
