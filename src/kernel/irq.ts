/**
 * Interrupts: handlers by line, shared ones among them, threads, and the interrupt path itself. The handlers run in
 * hardirq context with interrupts disabled; when the outermost interrupt is over, softirqs are served.
 */
import { EBUSY, EINVAL, type Errno, OK } from '../base/errno.ts';
import { IRQ_LINES, LOCAL_IRQ } from '../machine/contract.ts';
import type { Task, Wait } from '../machine/scheduler.ts';
import { mightSleep } from './context.ts';
import type { Device } from './device.ts';
import { devmAddAction } from './devres.ts';
import type { Kernel } from './kernel.ts';
import { oops, splat } from './panic.ts';
import { LogLevel, prErr, printk } from './printk.ts';

/** What a handler says. @linux irqreturn_t */
export type IrqReturn = typeof IRQ_NONE | typeof IRQ_HANDLED | typeof IRQ_WAKE_THREAD | 3;
/** It was not this device. @linux IRQ_NONE */
export const IRQ_NONE = 0 as const;
/** @linux IRQ_HANDLED */
export const IRQ_HANDLED = 1 as const;
/** Run the thread function. @linux IRQ_WAKE_THREAD */
export const IRQ_WAKE_THREAD = 2 as const;
/** Several devices share the line, each with its own `devId`. @linux IRQF_SHARED */
export const IRQF_SHARED = 0x80 as const;
/** The line stays masked until the thread function has ended. @linux IRQF_ONESHOT */
export const IRQF_ONESHOT = 0x2000 as const;
/** Requested disabled; `enableIrq` enables it. @linux IRQF_NO_AUTOEN */
export const IRQF_NO_AUTOEN = 0x80000 as const;

/** A handler: plain code in hardirq context. @linux irq_handler_t */
export type IrqHandler = (irq: number, devId: unknown) => IrqReturn;
/** Runs in a task of its own; may sleep. */
export type IrqThreadFn = (irq: number, devId: unknown) => Promise<IrqReturn> | IrqReturn;

/** Of so many interrupts of a line, this many unhandled ones disable it. */
const WATCHED_INTERRUPTS = 100_000;
const TOLERATED_UNHANDLED = 99_900;
/** Unhandled ones further apart than this do not add up. */
const SPURIOUS_APART_NS = 100e6;

interface IrqAction {
  readonly handler: IrqHandler | null;
  readonly threadFn: IrqThreadFn | null;
  readonly flags: number;
  readonly name: string;
  readonly label: string;
  readonly devId: unknown;
  /** The thread is to run (once more). */
  threadWanted: boolean;
  threadTask: Task | null;
  removed: boolean;
}
interface IrqDesc {
  readonly irq: number;
  readonly actions: IrqAction[];
  /** How often it was disabled more than enabled. */
  depth: number;
  count: number;
  unhandled: number;
  lastUnhandledNs: number;
  /** Threads that run while the line is masked for them. */
  oneshotThreads: number;
  readonly synchronizers: Wait<void>[];
}

/** @internal */
export class IrqCore {
  readonly descs = new Map<number, IrqDesc>();
  readonly #kernel: Kernel;

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
    kernel.machine.setIrqHandler((line) => this.#interrupt(line));
  }

  /** The machine has disabled interrupts, and enables them when this returns. */
  #interrupt(line: number): void {
    const kernel = this.#kernel;
    if (kernel.dead !== null) return;
    const context = kernel.context;
    const softirqs = kernel.softirqs;
    const count = context.preemptCount;
    context.irqsDisabled = true;
    try {
      context.enterHardirq();
      if (line !== LOCAL_IRQ) this.#dispatch(line);
      context.leaveHardirq();
      if (softirqs.pending !== 0 && !context.softirqBlocked) softirqs.serve();
    } finally {
      // Also when the run is aborted: the interrupted code still unwinds.
      context.preemptCount = count;
      context.irqsDisabled = false;
    }
  }

  #dispatch(line: number): void {
    const kernel = this.#kernel;
    const desc = this.descs.get(line);
    if (desc === undefined || desc.actions.length === 0) {
      printk(kernel, LogLevel.CRIT, `unexpected IRQ trap at vector ${line}`);
      return;
    }
    let result = 0;
    for (let i = 0; i < desc.actions.length && kernel.dead === null; i++) {
      result |= this.#callHandler(desc, desc.actions[i] as IrqAction);
    }
    this.#note(desc, result !== IRQ_NONE);
  }

  #callHandler(desc: IrqDesc, action: IrqAction): number {
    const kernel = this.#kernel;
    const context = kernel.context;
    const count = context.preemptCount;
    const held = context.held.length;
    const observer = kernel.observer;
    let result: number = IRQ_HANDLED;
    context.serving.push(action.label);
    observer?.enter?.(kernel.machine.now(), 'hardirq', action.label);
    try {
      const returned: unknown = action.handler === null ? IRQ_WAKE_THREAD : action.handler(desc.irq, action.devId);
      if (returned instanceof Promise) throw new TypeError(`${action.label}: the handler is async: it may not sleep`);
      if (typeof returned !== 'number' || returned < 0 || returned > 3) {
        splat(kernel, 'irq', `irq event ${desc.irq}: bogus return value ${String(returned)} of '${action.name}'`);
      } else result = returned;
    } catch (error) {
      oops(kernel, action.label, error);
    }
    observer?.leave?.(kernel.machine.now(), 'hardirq', action.label);
    if (context.irqsDisabled === false) {
      splat(kernel, 'irq', `WARNING: irq ${desc.irq} handler '${action.name}' enabled interrupts`);
      context.setIrqsDisabled(true);
    }
    if (context.preemptCount !== count || context.held.length !== held) context.checkBalance(action.label, count, held);
    context.serving.pop();
    if ((result & IRQ_WAKE_THREAD) !== 0 && kernel.dead === null) this.#wakeThread(desc, action);
    return result;
  }

  /** Count; a line that nobody handles would take the CPU for ever. */
  #note(desc: IrqDesc, handled: boolean): void {
    if (!handled) {
      const now = this.#kernel.machine.now();
      if (now - desc.lastUnhandledNs > SPURIOUS_APART_NS) desc.unhandled = 1;
      else desc.unhandled++;
      desc.lastUnhandledNs = now;
    }
    if (++desc.count < WATCHED_INTERRUPTS) return;
    desc.count = 0;
    if (desc.unhandled >= TOLERATED_UNHANDLED) {
      splat(this.#kernel, 'nobody-cared', `irq ${desc.irq}: nobody cared (try booting with the "irqpoll" option)`, [
        'handlers:',
        ...desc.actions.map((action) => `[${action.name}]`),
        `Disabling IRQ #${desc.irq}`,
      ]);
      this.disable(desc);
    }
    desc.unhandled = 0;
  }

  disable(desc: IrqDesc): void {
    if (desc.depth++ === 0) this.#kernel.machine.disableIrqLine(desc.irq);
  }
  enable(desc: IrqDesc): void {
    if (desc.depth === 0) {
      splat(this.#kernel, 'irq', `WARNING: Unbalanced enable for IRQ ${desc.irq}`);
      return;
    }
    if (--desc.depth === 0 && desc.oneshotThreads === 0) this.#kernel.machine.enableIrqLine(desc.irq);
  }

  #wakeThread(desc: IrqDesc, action: IrqAction): void {
    if (action.threadFn === null) {
      splat(
        this.#kernel,
        'irq',
        `IRQ ${desc.irq} device ${action.name} returned IRQ_WAKE_THREAD but no thread function available.`,
      );
      return;
    }
    if (action.threadWanted) return;
    action.threadWanted = true;
    if (action.threadTask !== null) return;
    if ((action.flags & IRQF_ONESHOT) !== 0 && desc.oneshotThreads++ === 0) {
      this.#kernel.machine.disableIrqLine(desc.irq);
    }
    action.threadTask = this.#kernel.machine.scheduler.spawn(`irq/${desc.irq}-${action.name}`, () =>
      this.#runThread(desc, action),
    );
  }
  async #runThread(desc: IrqDesc, action: IrqAction): Promise<void> {
    const kernel = this.#kernel;
    try {
      while (action.threadWanted && !action.removed) {
        action.threadWanted = false;
        await action.threadFn?.(desc.irq, action.devId);
      }
    } catch (error) {
      oops(kernel, `irq thread '${action.name}'`, error);
    }
    action.threadTask = null;
    if (
      (action.flags & IRQF_ONESHOT) !== 0 &&
      --desc.oneshotThreads === 0 &&
      desc.depth === 0 &&
      desc.actions.length > 0
    ) {
      kernel.machine.enableIrqLine(desc.irq);
    }
    for (let wait = desc.synchronizers.shift(); wait !== undefined; wait = desc.synchronizers.shift()) wait.wake();
  }
}

/**
 * Have `handler` called when the line interrupts. EINVAL for a bad line or no handler, or a shared request without
 * `devId`; EBUSY when the line is taken and not shared by both. `devId` tells sharers apart. May sleep. @linux request_irq
 */
export function requestIrq(
  kernel: Kernel,
  irq: number,
  handler: IrqHandler,
  flags: number,
  name: string,
  devId: unknown,
): Errno {
  return requestThreadedIrq(kernel, irq, handler, null, flags, name, devId);
}
/**
 * As `requestIrq`; when the handler says IRQ_WAKE_THREAD, or is null, `threadFn` runs in a task and may sleep. Without
 * handler, IRQF_ONESHOT is needed, lest a level-triggered line interrupts for ever. @linux request_threaded_irq
 */
export function requestThreadedIrq(
  kernel: Kernel,
  irq: number,
  handler: IrqHandler | null,
  threadFn: IrqThreadFn | null,
  flags: number,
  name: string,
  devId: unknown,
): Errno {
  mightSleep(kernel, 'request_irq');
  const shared = (flags & IRQF_SHARED) !== 0;
  if (!Number.isInteger(irq) || irq < 0 || irq >= IRQ_LINES || (handler === null && threadFn === null)) return EINVAL;
  if (shared && (devId === null || devId === undefined)) return EINVAL;
  if (handler === null && (flags & IRQF_ONESHOT) === 0) {
    prErr(kernel, `genirq: Threaded irq requested with handler=NULL and !ONESHOT for ${name} (irq ${irq})`);
    return EINVAL;
  }
  let desc = kernel.irqs.descs.get(irq);
  if (desc === undefined) {
    desc = {
      irq,
      actions: [],
      depth: 0,
      count: 0,
      unhandled: 0,
      lastUnhandledNs: 0,
      oneshotThreads: 0,
      synchronizers: [],
    };
    kernel.irqs.descs.set(irq, desc);
  }
  const other = desc.actions[0];
  if (other !== undefined && (!shared || (other.flags & IRQF_SHARED) === 0)) {
    const hex = (n: number) => n.toString(16).padStart(8, '0');
    prErr(kernel, `genirq: Flags mismatch irq ${irq}. ${hex(flags)} (${name}) vs. ${hex(other.flags)} (${other.name})`);
    return EBUSY;
  }
  desc.actions.push({
    handler,
    threadFn,
    flags,
    name,
    label: `irq ${irq} '${name}'`,
    devId,
    threadWanted: false,
    threadTask: null,
    removed: false,
  });
  if (other === undefined) {
    desc.count = desc.unhandled = 0;
    desc.depth = (flags & IRQF_NO_AUTOEN) !== 0 ? 1 : 0;
    if (desc.depth === 0) kernel.machine.enableIrqLine(irq);
  }
  return OK;
}
/** Take a handler off; the line is disabled with the last. Not from interrupts. @linux free_irq */
export function freeIrq(kernel: Kernel, irq: number, devId: unknown): void {
  if (!kernel.context.inTask) splat(kernel, 'irq', `WARNING: Trying to free IRQ ${irq} from IRQ context!`);
  const desc = kernel.irqs.descs.get(irq);
  const at = desc === undefined ? -1 : desc.actions.findIndex((action) => action.devId === devId);
  if (desc === undefined || at < 0) {
    splat(kernel, 'irq', `WARNING: Trying to free already-free IRQ ${irq}`);
    return;
  }
  const [action] = desc.actions.splice(at, 1);
  if (action !== undefined) action.removed = true;
  if (desc.actions.length === 0 && desc.depth === 0) {
    desc.depth = 1;
    kernel.machine.disableIrqLine(irq);
  }
}
/** `requestIrq` for a driver's device: freed when it is unbound. `devId` null: the device. @linux devm_request_irq */
export function devmRequestIrq(
  dev: Device,
  irq: number,
  handler: IrqHandler,
  flags: number,
  name: string | null,
  devId: unknown,
): Errno {
  return devmRequestThreadedIrq(dev, irq, handler, null, flags, name, devId);
}
/** @linux devm_request_threaded_irq */
export function devmRequestThreadedIrq(
  dev: Device,
  irq: number,
  handler: IrqHandler | null,
  threadFn: IrqThreadFn | null,
  flags: number,
  name: string | null,
  devId: unknown,
): Errno {
  const id = devId ?? dev;
  const error = requestThreadedIrq(dev.kernel, irq, handler, threadFn, flags, name ?? dev.name, id);
  if (error === OK) devmAddAction(dev, () => freeIrq(dev.kernel, irq, id));
  return error;
}

/** Mask a line; nests. Handlers of it do not run when this returns; threads may, see `synchronizeIrq`. @linux disable_irq, disable_irq_nosync */
export function disableIrq(kernel: Kernel, irq: number): void {
  const desc = kernel.irqs.descs.get(irq);
  if (desc !== undefined) kernel.irqs.disable(desc);
}
/** Undo one `disableIrq`. What became pending meanwhile is delivered at the next time point. @linux enable_irq */
export function enableIrq(kernel: Kernel, irq: number): void {
  const desc = kernel.irqs.descs.get(irq);
  if (desc !== undefined) kernel.irqs.enable(desc);
}
/** Wait until no thread of the line runs. Sleeps. @linux synchronize_irq */
export async function synchronizeIrq(kernel: Kernel, irq: number): Promise<void> {
  mightSleep(kernel, 'synchronize_irq');
  const desc = kernel.irqs.descs.get(irq);
  while (desc?.actions.some((action) => action.threadTask !== null)) {
    const wait = kernel.context.wait<void>(() => `the threads of irq ${irq}`);
    desc.synchronizers.push(wait);
    await wait.promise;
  }
}
