/** Binding drivers to devices: matching, probing, deferred probing, unbinding. */
import { EBUSY, EEXIST, EFAULT, ENODEV, ENXIO, EPROBE_DEFER, type Errno, KernelBug, OK } from '../base/errno.ts';
import type { Task } from '../machine/scheduler.ts';
import { mightSleep } from './context.ts';
import { type Device, type DeviceDriver, devDbg, devErr } from './device.ts';
import { devresReleaseAll } from './devres.ts';
import type { Kernel } from './kernel.ts';
import { mutexLock, mutexUnlock } from './mutex.ts';
import { ofDeviceIsCompatible } from './of.ts';
import { DeadlockError, describeError, splat } from './panic.ts';
import { prErr } from './printk.ts';
import { flushWork, scheduleWork, Work } from './workqueue.ts';

/** @internal What the driver core of one kernel knows. */
export class DriverCore {
  readonly kernel: Kernel;
  readonly drivers: DeviceDriver[] = [];
  /** Devices whose probe was deferred, in order: waiting for another device to be bound. */
  readonly deferred: Device[] = [];
  /** Deferred devices that are to be probed again. */
  readonly #retry: Device[] = [];
  readonly retryWork: Work;
  /** How often deferred devices were woken: one that defers while another is bound must not be forgotten. */
  #triggers = 0;
  readonly #probing = new Map<Task | null, number>();

  constructor(kernel: Kernel) {
    this.kernel = kernel;
    this.retryWork = new Work(kernel, () => this.#retryDeferred(), 'deferred_probe');
  }

  /** Bind the first of the drivers that matches and probes well. The device must be unbound. */
  async attach(dev: Device): Promise<void> {
    await mutexLock(dev.lock);
    try {
      for (const driver of this.drivers.slice()) {
        if (dev.driver !== null || !dev.added) return;
        if (matches(dev, driver)) await this.#probe(dev, driver);
      }
    } finally {
      mutexUnlock(dev.lock);
    }
  }
  /** Offer a new driver one device. */
  async offer(dev: Device, driver: DeviceDriver): Promise<void> {
    if (dev.driver !== null || !matches(dev, driver)) return;
    await mutexLock(dev.lock);
    try {
      if (dev.driver === null && dev.added) await this.#probe(dev, driver);
    } finally {
      mutexUnlock(dev.lock);
    }
  }

  async #probe(dev: Device, driver: DeviceDriver): Promise<void> {
    if (dev.devres !== null) {
      splat(this.kernel, 'devres', `WARNING: ${dev.name}: Resources present before probing`);
      return;
    }
    this.#dropDeferred(dev);
    const triggers = this.#triggers;
    const task = this.kernel.context.current;
    this.#probing.set(task, (this.#probing.get(task) ?? 0) + 1);
    let error: Errno;
    try {
      error = await this.#callProbe(dev, driver);
    } finally {
      const depth = (this.#probing.get(task) ?? 1) - 1;
      if (depth === 0) this.#probing.delete(task);
      else this.#probing.set(task, depth);
    }
    if (error === OK) {
      this.kernel.observer?.bound?.(this.kernel.machine.now(), dev, driver);
      this.#trigger();
    } else if (error === EPROBE_DEFER) {
      devDbg(
        dev,
        `driver ${driver.name} requests probe deferral${dev.deferReason === '' ? '' : `: ${dev.deferReason}`}`,
      );
      if (!this.deferred.includes(dev)) this.deferred.push(dev);
      if (triggers !== this.#triggers) this.#trigger();
    } else if (error === ENODEV || error === ENXIO) {
      devDbg(dev, `probe with driver ${driver.name} rejects match ${error}`);
    } else devErr(dev, `probe with driver ${driver.name} failed with error ${error}`);
  }

  async #callProbe(dev: Device, driver: DeviceDriver): Promise<Errno> {
    dev.driver = driver;
    dev.deferReason = '';
    let error: Errno;
    try {
      error = dev.bus?.dmaConfigure?.(dev) ?? OK;
      if (error === OK) error = await driver.probe(dev);
      // A driver's `probe` that returns a positive number or nothing means success, as in the kernel.
      if (!(error < 0)) return OK;
    } catch (thrown) {
      await this.#release(dev, driver);
      this.#reportThrown(dev, driver, 'probe', thrown);
      return EFAULT;
    }
    await this.#release(dev, driver);
    return error;
  }

  /** A driver's function threw: the device goes without. What ends the run is thrown on. */
  #reportThrown(dev: Device, driver: DeviceDriver, what: string, thrown: unknown): void {
    if (this.kernel.dead !== null || thrown instanceof KernelBug || thrown instanceof DeadlockError) throw thrown;
    const stack = thrown instanceof Error ? (thrown.stack ?? '').split('\n').slice(1, 4) : [];
    splat(this.kernel, 'oops', `${driver.name} ${dev.name}: ${what} threw ${describeError(thrown)}`, stack);
  }

  /** What is common to a failed probe and an unbinding. */
  async #release(dev: Device, driver: DeviceDriver): Promise<void> {
    await devresReleaseAll(dev);
    dev.bus?.dmaCleanup?.(dev);
    dev.dmaRangeMap = null;
    dev.driver = null;
    dev.driverData = null;
    this.kernel.observer?.unbound?.(this.kernel.machine.now(), dev, driver);
    for (const hook of this.kernel.unbindHooks) hook(dev);
  }

  /** Take the driver off the device: `remove`, then managed resources, then the hooks. */
  async unbind(dev: Device): Promise<void> {
    await mutexLock(dev.lock);
    try {
      const driver = dev.driver;
      if (driver === null) return;
      try {
        await driver.remove?.(dev);
      } catch (thrown) {
        this.#reportThrown(dev, driver, 'remove', thrown);
      }
      await this.#release(dev, driver);
    } finally {
      mutexUnlock(dev.lock);
    }
  }

  #dropDeferred(dev: Device): void {
    const at = this.deferred.indexOf(dev);
    if (at >= 0) this.deferred.splice(at, 1);
  }
  forget(dev: Device): void {
    this.#dropDeferred(dev);
    const at = this.#retry.indexOf(dev);
    if (at >= 0) this.#retry.splice(at, 1);
  }
  /** A device was bound: what waits may find its resources now. */
  #trigger(): void {
    this.#triggers++;
    if (this.deferred.length === 0) return;
    for (const dev of this.deferred) if (!this.#retry.includes(dev)) this.#retry.push(dev);
    this.deferred.length = 0;
    scheduleWork(this.retryWork);
  }
  async #retryDeferred(): Promise<void> {
    for (let dev = this.#retry.shift(); dev !== undefined; dev = this.#retry.shift()) {
      if (dev.added && dev.driver === null) await this.attach(dev);
    }
  }

  /**
   * After a binding from outside of any probe: let the deferred devices have their turn first, so that the caller finds
   * everything bound that can be.
   */
  async settle(): Promise<void> {
    const task = this.kernel.context.current;
    if (task === null || this.#probing.has(task)) return;
    await flushWork(this.retryWork);
  }
}

function matches(dev: Device, driver: DeviceDriver): boolean {
  if (driver.bus !== undefined && driver.bus !== dev.bus) return false;
  if (driver.match !== undefined) return driver.match(dev);
  if (dev.bus?.match !== undefined) return dev.bus.match(dev, driver);
  return matchesByTree(dev, driver) || driver.name === dev.name;
}
/** Whether the device's node is compatible with one of the driver's strings. @linux of_driver_match_device */
export function matchesByTree(dev: Device, driver: DeviceDriver): boolean {
  const node = dev.ofNode;
  return node !== null && (driver.compatible?.some((compatible) => ofDeviceIsCompatible(node, compatible)) ?? false);
}

/**
 * Add a device and bind a driver, when one is registered that matches. EEXIST when it was added already, or one of its
 * name on its bus. A failing probe is logged and no error here. May sleep. @linux device_add, device_register
 */
export async function deviceAdd(dev: Device): Promise<Errno> {
  const kernel = dev.kernel;
  mightSleep(kernel, 'device_add');
  const twin = dev.added ? dev : kernel.devices.find((other) => other.name === dev.name && other.bus === dev.bus);
  if (twin !== undefined) {
    const path = `/bus/${dev.bus?.name ?? 'none'}/devices/${dev.name}`;
    splat(kernel, 'warn', `sysfs: cannot create duplicate filename '${path}'`);
    return EEXIST;
  }
  dev.added = true;
  kernel.devices.push(dev);
  for (const hook of kernel.addHooks) hook(dev);
  await kernel.driverCore.attach(dev);
  await kernel.driverCore.settle();
  return OK;
}
/** Unbind a device's driver and take the device away; one that is not there is ignored. May sleep. @linux device_del, device_unregister */
export async function deviceDel(dev: Device): Promise<void> {
  const kernel = dev.kernel;
  mightSleep(kernel, 'device_del');
  if (!dev.added) return;
  dev.added = false;
  kernel.devices.splice(kernel.devices.indexOf(dev), 1);
  kernel.driverCore.forget(dev);
  await kernel.driverCore.unbind(dev);
  for (const hook of kernel.removeHooks) hook(dev);
}
/** Unbind a device's driver; the device stays, for another driver. May sleep. @linux device_release_driver */
export async function deviceReleaseDriver(dev: Device): Promise<void> {
  mightSleep(dev.kernel, 'device_release_driver');
  dev.kernel.driverCore.forget(dev);
  await dev.kernel.driverCore.unbind(dev);
}

/**
 * Register a driver and bind it to every device that matches and has none, in the order in which they were added. When
 * called from outside of a probe, deferred devices had their turn when it returns. EBUSY when one of its name is
 * registered. May sleep. @linux driver_register, platform_driver_register
 */
export async function driverRegister(kernel: Kernel, driver: DeviceDriver): Promise<Errno> {
  mightSleep(kernel, 'driver_register');
  const core = kernel.driverCore;
  if (core.drivers.some((other) => other.name === driver.name && other.bus === driver.bus)) {
    prErr(kernel, `Error: Driver '${driver.name}' is already registered, aborting...`);
    return EBUSY;
  }
  core.drivers.push(driver);
  for (const dev of kernel.devices.slice()) await core.offer(dev, driver);
  await core.settle();
  return OK;
}
/** Unbind the driver from all its devices, newest first, and forget it. May sleep. @linux driver_unregister, platform_driver_unregister */
export async function driverUnregister(kernel: Kernel, driver: DeviceDriver): Promise<void> {
  mightSleep(kernel, 'driver_unregister');
  const core = kernel.driverCore;
  const at = core.drivers.indexOf(driver);
  if (at < 0) {
    splat(kernel, 'warn', `WARNING: Unexpected driver unregister! (${driver.name})`);
    return;
  }
  core.drivers.splice(at, 1);
  for (const dev of kernel.devices.slice().reverse()) if (dev.driver === driver) await core.unbind(dev);
}
/** Wait until no device is being probed again. Devices may still be deferred: see `deferredDevices`. May sleep. @linux wait_for_device_probe */
export async function waitForDeviceProbe(kernel: Kernel): Promise<void> {
  mightSleep(kernel, 'wait_for_device_probe');
  await flushWork(kernel.driverCore.retryWork);
}
/** Devices whose probe waits for something that is not there (debugfs: devices_deferred), each with its `deferReason`. */
export function deferredDevices(kernel: Kernel): readonly Device[] {
  return kernel.driverCore.deferred;
}
