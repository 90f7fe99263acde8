/** Managed resources: what a driver got by a devm function is released, newest first, when it is unbound. */
import { KernelBug } from '../base/errno.ts';
import type { Device } from './device.ts';
import { splat } from './panic.ts';

/** @internal One managed resource of a device. */
export interface DevresNode {
  readonly release: () => void | Promise<void>;
  older: DevresNode | null;
}

/**
 * Have `release` called when the device's driver is unbound, or when its probe fails. Releases run in reverse order, in
 * process context; they may sleep. @linux devm_add_action, devres_add
 */
export function devmAddAction(dev: Device, release: () => void | Promise<void>): void {
  dev.devres = { release, older: dev.devres };
}
/** Forget an action without running it. Returns whether it was there. @linux devm_remove_action */
export function devmRemoveAction(dev: Device, release: () => void | Promise<void>): boolean {
  let newer: DevresNode | null = null;
  for (let node = dev.devres; node !== null; newer = node, node = node.older) {
    if (node.release !== release) continue;
    if (newer === null) dev.devres = node.older;
    else newer.older = node.older;
    return true;
  }
  return false;
}
/** Run an action now and forget it; one that is not there is reported. May sleep. @linux devm_release_action */
export async function devmReleaseAction(dev: Device, release: () => void | Promise<void>): Promise<void> {
  if (devmRemoveAction(dev, release)) await release();
  else splat(dev.kernel, 'devres', `WARNING: ${dev.name}: devm_release_action of an action that was never added`);
}

/** @internal Release everything, newest first. A release that throws is reported, and the others still run. @linux devres_release_all */
export async function devresReleaseAll(dev: Device): Promise<void> {
  for (let node = dev.devres; node !== null; node = dev.devres) {
    dev.devres = node.older;
    try {
      await node.release();
    } catch (error) {
      if (dev.kernel.dead !== null || error instanceof KernelBug) throw error;
      splat(dev.kernel, 'devres', `WARNING: ${dev.name}: a managed resource could not be released: ${String(error)}`);
    }
  }
}
