/** Rules of contexts, locks and waiting. */
import { rule } from '../rule.ts';

export const kernelRules = {
  'kernel/sleep-in-atomic': rule<{ what: string }>({
    severity: 'error',
    statement: 'Code that holds a spin lock, has interrupts disabled or runs in an interrupt does not sleep.',
    wording: 'BUG: sleeping function called from invalid context, BUG: scheduling while atomic',
    page: `A function that may sleep gives the CPU to another task. In an interrupt handler, a tasklet, a DMA callback or under a spin lock there
is nobody to come back to, and whoever waits for the lock waits for ever. Allocate with GFP_ATOMIC there, or do the work in a
workqueue or thread. dmaAllocCoherent with GFP_KERNEL, mutexLock, waitForCompletion and dmaengineTerminateSync may sleep; mapping and
unmapping never do.`,
    message: ({ values: v }) => v.what,
    kernel: ({ values: v }) => v.what,
    fix: () => 'use a form that does not sleep, or move the work to a workqueue',
  }),
  'kernel/deadlock': rule<{ what: string }>({
    severity: 'error',
    statement: 'A spin lock that an interrupt handler takes is taken with interrupts disabled elsewhere.',
    wording: 'BUG: spinlock recursion',
    page: `While a lock is held, an interrupt can come on the same CPU. When its handler takes the lock too, it spins for ever: the holder
cannot go on. Take the lock with spinLockIrqsave wherever an interrupt handler or a DMA callback takes it as well. The same happens to code
that takes a lock it holds already, such as a submit called from a callback that runs under the channel's lock.`,
    message: ({ values: v }) => v.what,
    kernel: () => 'BUG: spinlock recursion',
    fix: () => 'take the lock with spinLockIrqsave where it is held, or release it before',
  }),
  'kernel/hung-task': rule<{ waits: readonly { task: string; waitsFor: string; sinceNs: number }[]; what: string }>({
    severity: 'error',
    statement: 'What a task waits for must be going to happen.',
    wording: 'INFO: task blocked for more than 120 seconds',
    page: `Nothing more can happen in the machine: no timer runs, no device works, no interrupt is pending, and still tasks wait. On a real
machine the driver would hang, and "task blocked for more than 120 seconds" would appear in the log. Look at what each task waits for: a
completion that no callback completes, a descriptor that was submitted and never issued, an interrupt that is not enabled at the device.`,
    message: ({ values: v }) =>
      v.waits.length === 0 ? v.what : v.waits.map((wait) => `${wait.task} waits for ${wait.waitsFor}`).join('; '),
    kernel: ({ values: v }) =>
      v.waits[0] === undefined ? null : `INFO: task ${v.waits[0].task} blocked for more than 120 seconds.`,
    fix: () => null,
  }),
  'kernel/oops': rule<{ what: string }>({
    severity: 'error',
    statement: 'Driver code that nobody awaits (handlers, tasklets, callbacks, works) does not throw.',
    wording: 'Internal error: Oops',
    page: `An exception in such code is what an oops is in the kernel: the interrupted code is in an unknown state, and the machine stops.`,
    message: ({ values: v }) => v.what,
    kernel: ({ values: v }) => v.what,
    fix: () => null,
  }),
  'kernel/warning': rule<{ what: string; kind: string }>({
    severity: 'error',
    statement: 'The kernel has nothing to warn of.',
    wording: 'WARNING',
    page: `The kernel prints a WARNING where it was called in a way that its authors hold for a bug: a coherent buffer freed with interrupts
disabled, a scatterlist of no entries, a device without DMA mask, an interrupt that nobody handles. The message says which.`,
    message: ({ values: v }) => v.what,
    kernel: ({ values: v }) => v.what,
    fix: () => null,
  }),
};
