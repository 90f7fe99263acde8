/**
 * A simulated run takes the host's event loop for itself: no timer, no Ctrl-C and no progress gets through. A breather
 * is a task that lets the host have a turn at regular simulated times, while the simulation stands still.
 */
import { type Kernel, msleep } from '../kernel/index.ts';

/** Simulated time between two turns. */
const EVERY_MS = 1;

/** Run `body` as part of a task of `kernel`, with a breather beside it. */
export async function withBreather<T>(kernel: Kernel, body: () => Promise<T>): Promise<T> {
  const { scheduler } = kernel.machine;
  let over = false;
  const breather = scheduler.spawn('breather', async () => {
    while (!over) {
      await scheduler.outside(new Promise<void>((resolve) => setImmediate(resolve)));
      await msleep(kernel, EVERY_MS);
    }
  });
  try {
    return await body();
  } finally {
    over = true;
    await scheduler.join(breather);
  }
}
