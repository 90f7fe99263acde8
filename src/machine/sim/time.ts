import type { ModelTimer } from '../model.ts';

/**
 * A timer of a model: made once, started any number of times without making garbage. Its callback runs in hardware
 * time.
 */
export class Timer implements ModelTimer {
  /** When it is due; meaningless while it is not pending. */
  dueNs = 0;
  /** Orders timers that are due at the same time: first started, first run. @internal */
  sequence = 0;
  /** Whether hardware set it: started by a model, and no time-out of the CPU's. @internal */
  ofModel = false;
  /** Where it is in the queue's heap, or -1. @internal */
  place = -1;
  /** @internal */
  readonly callback: () => void;
  readonly #queue: EventQueue;

  /** @internal Use `ModelHost.timer`. */
  constructor(queue: EventQueue, callback: () => void) {
    this.#queue = queue;
    this.callback = callback;
  }
  get pending(): boolean {
    return this.place >= 0;
  }
  /** Run the callback `delayNs` from now; a pending timer is moved. */
  start(delayNs: number): void {
    this.#queue.start(this, delayNs);
  }
  /** Do not run; without effect when it is not pending. */
  stop(): void {
    this.#queue.cancel(this);
  }
}

/** Virtual time: the clock and what is to happen, ordered by (time, sequence). A binary heap. */
export class EventQueue {
  now = 0;
  /** When the first event is due; Infinity when there is none. */
  nextDue = Number.POSITIVE_INFINITY;
  /** Delays are multiplied by this when `scaled` is true (slow hardware). */
  factor = 1;
  /** Set while models run: theirs are the delays that `factor` stretches. */
  scaled = false;
  readonly #heap: Timer[] = [];
  #sequence = 0;

  get length(): number {
    return this.#heap.length;
  }

  start(timer: Timer, delayNs: number): void {
    if (!(delayNs >= 0)) throw new RangeError(`a delay is a number of nanoseconds from 0 on, found ${delayNs}`);
    if (timer.place >= 0) this.cancel(timer);
    timer.dueNs = this.now + Math.round(this.factor !== 1 && this.scaled === true ? delayNs * this.factor : delayNs);
    timer.sequence = this.#sequence++;
    timer.ofModel = this.scaled;
    const heap = this.#heap;
    heap.push(timer);
    this.#up(timer, heap.length - 1);
    this.nextDue = (heap[0] as Timer).dueNs;
  }

  cancel(timer: Timer): void {
    const place = timer.place;
    if (place < 0) return;
    timer.place = -1;
    const heap = this.#heap;
    const last = heap.pop() as Timer;
    if (last !== timer) {
      this.#up(last, place);
      if (last.place === place) this.#down(last, place);
    }
    const first = heap[0];
    this.nextDue = first === undefined ? Number.POSITIVE_INFINITY : first.dueNs;
  }

  /** Take the first event, which must exist, and move the clock to it. */
  take(): Timer {
    const timer = this.#heap[0] as Timer;
    this.cancel(timer);
    if (timer.dueNs > this.now) this.now = timer.dueNs;
    return timer;
  }

  #up(timer: Timer, from: number): void {
    const heap = this.#heap;
    let place = from;
    while (place > 0) {
      const above = (place - 1) >> 1;
      const other = heap[above] as Timer;
      if (!before(timer, other)) break;
      heap[place] = other;
      other.place = place;
      place = above;
    }
    heap[place] = timer;
    timer.place = place;
  }
  #down(timer: Timer, from: number): void {
    const heap = this.#heap;
    const length = heap.length;
    let place = from;
    for (;;) {
      let below = 2 * place + 1;
      if (below >= length) break;
      if (below + 1 < length && before(heap[below + 1] as Timer, heap[below] as Timer)) below++;
      const other = heap[below] as Timer;
      if (!before(other, timer)) break;
      heap[place] = other;
      other.place = place;
      place = below;
    }
    heap[place] = timer;
    timer.place = place;
  }
}

function before(a: Timer, b: Timer): boolean {
  return a.dueNs < b.dueNs || (a.dueNs === b.dueNs && a.sequence < b.sequence);
}
