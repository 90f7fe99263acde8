/** Rules of the DMA engine's clients. */

import type { Cookie, DmaAsyncTxDescriptor, DmaChan, DmaPrepKind } from '../dmaengine/index.ts';
import type { Device } from '../kernel/device.ts';
import { type Place, placeOf, type Trace } from './place.ts';
import type { CheckState } from './state.ts';

/** What is known of a channel that has a client. */
interface ChannelFacts {
  readonly chan: DmaChan;
  requested: Trace | null;
  /** The client's device, '' for a general one; null: nobody has it, or its leak was told. */
  client: string | null;
  /** Requested and not released. */
  taken: boolean;
  /** Requested in the probe of a driver that is still bound. */
  heldByDriver: boolean;
  /** Descriptors that were prepared and not submitted, the oldest first. */
  readonly prepared: Prepared[];
  /** The first descriptor since the last issue_pending: its cookie (0: none) and where it was submitted. */
  firstCookie: Cookie;
  firstSubmitted: Trace | null;
  /** Where it was terminated without waiting; null where all is quiet. */
  terminated: Trace | null;
  terminatedBy: unknown;
  notSynchronized: boolean;
}

/** A descriptor, and where it was prepared. */
interface Prepared {
  readonly tx: DmaAsyncTxDescriptor;
  readonly kind: DmaPrepKind;
  readonly trace: Trace | null;
}

/** See the file's head. */
export class EngineChecks {
  readonly #state: CheckState;
  readonly #channels = new Map<DmaChan, ChannelFacts>();
  /** How many channels were terminated and not synchronised: the hot paths ask only this. */
  #terminated = 0;
  /** The callback that runs, as far as is known. */
  #callback: { readonly chan: DmaChan; readonly cookie: Cookie; readonly submitted: Trace | null } | null = null;

  constructor(state: CheckState) {
    this.#state = state;
  }

  #facts(chan: DmaChan): ChannelFacts {
    let facts = this.#channels.get(chan);
    if (facts === undefined) {
      facts = {
        chan,
        requested: null,
        client: null,
        taken: false,
        heldByDriver: false,
        prepared: [],
        firstCookie: 0,
        firstSubmitted: null,
        terminated: null,
        terminatedBy: null,
        notSynchronized: false,
      };
      this.#channels.set(chan, facts);
    }
    return facts;
  }

  request(chan: DmaChan, client: string | null): void {
    const facts = this.#facts(chan);
    facts.requested = this.#state.trace();
    facts.client = client ?? '';
    facts.taken = true;
    facts.heldByDriver = false;
  }
  release(chan: DmaChan): void {
    const facts = this.#facts(chan);
    this.#reportUnissued(facts);
    this.#reportUnsubmitted(facts);
    facts.client = null;
    facts.taken = false;
    facts.requested = null;
    // Releasing waits for the hardware and the callbacks.
    this.#quiet(facts);
  }
  prep(chan: DmaChan, kind: DmaPrepKind, tx: DmaAsyncTxDescriptor | null): void {
    if (tx === null) return;
    const { prepared } = this.#facts(chan);
    // A provider that hands out a descriptor again had it back.
    const known = prepared.findIndex((one) => one.tx === tx);
    if (known >= 0) prepared.splice(known, 1);
    prepared.push({ tx, kind, trace: this.#state.trace() });
  }
  submit(chan: DmaChan, tx: DmaAsyncTxDescriptor, cookie: Cookie): void {
    const facts = this.#facts(chan);
    const { prepared } = facts;
    if (prepared.length > 0) {
      const known = prepared.findIndex((one) => one.tx === tx);
      if (known >= 0) prepared.splice(known, 1);
    }
    if (cookie < 0) return;
    if (facts.firstCookie !== 0) return;
    facts.firstCookie = cookie;
    facts.firstSubmitted = this.#state.trace();
  }
  issuePending(chan: DmaChan): void {
    this.#facts(chan).firstCookie = 0;
  }
  complete(chan: DmaChan, cookie: Cookie): void {
    const facts = this.#facts(chan);
    // Some providers start at submit: nobody waits then.
    if (cookie >= facts.firstCookie) facts.firstCookie = 0;
  }
  terminate(chan: DmaChan): void {
    const facts = this.#facts(chan);
    facts.firstCookie = 0;
    facts.prepared.length = 0;
    facts.terminated = this.#state.trace();
    facts.terminatedBy = this.#state.kernel.context.current;
    if (!facts.notSynchronized) this.#terminated++;
    facts.notSynchronized = true;
  }
  synchronize(chan: DmaChan): void {
    this.#quiet(this.#facts(chan));
  }
  #quiet(facts: ChannelFacts): void {
    if (facts.notSynchronized) this.#terminated--;
    facts.notSynchronized = false;
    facts.terminated = null;
  }

  /** Memory is given back: does a terminated channel of that device still use it, perhaps? */
  givenBack(dev: Device, what: string): void {
    if (this.#terminated === 0) return;
    const state = this.#state;
    const task = state.kernel.context.current;
    for (const facts of this.#channels.values()) {
      if (!facts.notSynchronized || facts.terminatedBy !== task || facts.chan.device.dev !== dev) continue;
      const { name } = facts.chan;
      const at = state.here();
      const values = { channel: name, freed: what };
      state.report('dmaengine/terminate-without-synchronize', dev, at, placeOf(facts.terminated), values, name);
      this.#quiet(facts);
    }
  }

  callback(chan: DmaChan, tx: DmaAsyncTxDescriptor): void {
    // The cookie is cleared when the descriptor completes: the channel knows it.
    const cookie = tx.cookie > 0 ? tx.cookie : chan.completedCookie;
    this.#callback = { chan, cookie, submitted: null };
  }
  /** Other code runs now. */
  callbackOver(): void {
    this.#callback = null;
  }
  /** Something threw where nobody awaits. Returns whether it was a callback, which is reported then. */
  threw(what: string, at: Place | null): boolean {
    const running = this.#callback;
    if (running === null || !this.#state.kernel.context.inSoftirq) return false;
    this.#callback = null;
    const { chan, cookie } = running;
    const values = { channel: chan.name, cookie, what };
    const { dev } = chan.device;
    this.#state.report('dmaengine/callback-threw', dev, at, placeOf(running.submitted), values, chan.name);
    return true;
  }

  /** A driver's probe succeeded: what it requested it holds until it is unbound. */
  bound(dev: Device): void {
    for (const facts of this.#channels.values()) if (facts.client === dev.name) facts.heldByDriver = true;
  }
  /** Whether a channel of the controller is taken: then it cannot give back what belongs to the channel. */
  isTaken(controller: Device): boolean {
    for (const { taken, chan } of this.#channels.values()) if (taken && chan.device.dev === controller) return true;
    return false;
  }
  unbound(dev: Device): void {
    for (const facts of this.#channels.values()) if (facts.client === dev.name) this.#reportLeak(facts);
  }
  /**
   * No code will run any more.
   * @param orderly whether the run came to its own end
   * @param settled whether nothing was broken off in its middle, where it may have been about to submit
   */
  runEnded(orderly: boolean, settled: boolean): void {
    for (const facts of this.#channels.values()) {
      this.#reportUnissued(facts);
      if (settled) this.#reportUnsubmitted(facts);
      if (orderly && facts.client !== null && !facts.heldByDriver) this.#reportLeak(facts);
    }
  }

  #reportUnissued(facts: ChannelFacts): void {
    if (facts.firstCookie === 0) return;
    const { chan } = facts;
    const values = {
      channel: chan.name,
      descriptors: Math.max(1, chan.submittedNotIssued),
      firstCookie: facts.firstCookie,
    };
    facts.firstCookie = 0;
    const submitted = placeOf(facts.firstSubmitted);
    this.#state.report('dmaengine/no-issue-pending', chan.device.dev, null, submitted, values, chan.name);
  }
  #reportUnsubmitted(facts: ChannelFacts): void {
    const { chan, prepared } = facts;
    const [first] = prepared;
    if (first === undefined) return;
    const values = { channel: chan.name, descriptors: prepared.length, kind: first.kind };
    prepared.length = 0;
    this.#state.report('dmaengine/not-submitted', chan.device.dev, null, placeOf(first.trace), values, chan.name);
  }
  #reportLeak(facts: ChannelFacts): void {
    const { chan, client } = facts;
    const values = { channel: chan.name, client: client ?? '' };
    facts.client = null;
    this.#state.report('dmaengine/channel-leak', chan.device.dev, null, placeOf(facts.requested), values, chan.name);
  }
}
