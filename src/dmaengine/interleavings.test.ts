import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { DmaAddr } from '../base/addr.ts';
import { OK } from '../base/errno.ts';
import { DMA_BIDIRECTIONAL, GFP_KERNEL, kmalloc, msleep } from '../kernel/index.ts';
import { dmaMapSingle } from '../mapping/index.ts';
import { DMA_MEMCPY, dmaCapMask } from './cap-mask.ts';
import { dmaReleaseChannel, dmaRequestChannel } from './channel-request.ts';
import type { DmaAsyncTxDescriptor } from './descriptor.ts';
import type { FakeChan } from './fake-provider.cases.ts';
import { dmaenginePrepDmaMemcpy } from './prep.ts';
import { makeKernel, makeProvider } from './rig.cases.ts';
import { dmaenginePause, dmaengineResume, dmaengineSynchronize, dmaengineTerminateAsync } from './terminate.ts';
import { dmaAsyncIssuePending, dmaengineSubmit, dmaengineTxStatus } from './tx-status.ts';
import { DMA_COMPLETE, DMA_CTRL_ACK, DMA_PREP_INTERRUPT } from './types.ts';

type Step =
  | { readonly kind: 'prep' | 'issue' | 'terminate' | 'synchronize' | 'pause' | 'resume' }
  | { readonly kind: 'submit'; readonly which: number }
  | { readonly kind: 'wait'; readonly us: number };

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.constant({ kind: 'prep' } as const) },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('submit' as const), which: fc.nat(20) }) },
  { weight: 4, arbitrary: fc.constant({ kind: 'issue' } as const) },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('wait' as const), us: fc.nat(30) }) },
  {
    weight: 1,
    arbitrary: fc.constantFrom<Step[]>(
      { kind: 'terminate' },
      { kind: 'synchronize' },
      { kind: 'pause' },
      { kind: 'resume' },
    ),
  },
);

/** What a client knows of its transfers, kept beside the channel. */
class Client {
  readonly chan: FakeChan;
  prepared: DmaAsyncTxDescriptor[] = [];
  /** In the order of submission: number and whether issued. */
  submitted: { readonly number: number; issued: boolean }[] = [];
  readonly called: number[] = [];
  readonly expected: number[] = [];
  made = 0;
  paused = false;
  readonly #at: DmaAddr;

  constructor(chan: FakeChan, at: DmaAddr) {
    this.chan = chan;
    this.#at = at;
  }
  async take(step: Step): Promise<void> {
    const { chan } = this;
    if (step.kind === 'prep') {
      const tx = dmaenginePrepDmaMemcpy(
        chan,
        (this.#at + 2048) as DmaAddr,
        this.#at,
        1024,
        DMA_PREP_INTERRUPT | DMA_CTRL_ACK,
      )!;
      this.made++;
      this.prepared.push(tx);
    } else if (step.kind === 'submit') {
      this.#submit(step.which);
    } else if (step.kind === 'issue') {
      for (const entry of this.submitted) entry.issued = true;
      dmaAsyncIssuePending(chan);
    } else if (step.kind === 'wait') {
      await msleep(chan.device.kernel, step.us / 1000);
    } else if (step.kind === 'pause' || step.kind === 'resume') {
      this.paused = step.kind === 'pause';
      assert.equal(this.paused ? dmaenginePause(chan) : dmaengineResume(chan), OK);
    } else if (step.kind === 'terminate') {
      this.#terminate();
    } else {
      // Only after terminate: completed ones would be waited for only.
      this.#terminate();
      await dmaengineSynchronize(chan);
      assert.equal(chan.descTerminated.length, 0);
    }
  }
  #submit(which: number): void {
    const tx = this.prepared.splice(which % Math.max(this.prepared.length, 1), 1)[0];
    if (tx === undefined) return;
    const entry = { number: this.made * 1000 + this.submitted.length, issued: false };
    this.submitted.push(entry);
    tx.callback = () => {
      const first = this.submitted.shift();
      assert.equal(first, entry, 'called back in the order of submission, and not when terminated');
      assert.equal(entry.issued, true, 'called back only when issued');
      this.called.push(entry.number);
    };
    assert.ok(dmaengineSubmit(tx) > 0);
  }
  #terminate(): void {
    assert.equal(dmaengineTerminateAsync(this.chan), OK);
    this.submitted = [];
    this.prepared = [];
    this.paused = false;
  }
  /** Everything issued is done in the end. */
  async settle(): Promise<void> {
    if (this.paused) dmaengineResume(this.chan);
    await msleep(this.chan.device.kernel, 10);
    assert.ok(
      this.submitted.every(({ issued }) => !issued),
      'an issued transfer was never called back',
    );
    assert.equal(this.chan.submittedNotIssued, this.submitted.length);
    assert.equal(this.chan.issuedNotCompleted, 0);
    const last = this.submitted.length === 0 ? this.chan.cookie : 0;
    if (this.chan.stoppedCookie !== last && last > 1) assert.equal(dmaengineTxStatus(this.chan, last), DMA_COMPLETE);
  }
}

test('whatever a client does: order is kept, nothing issued is lost, nothing terminated calls back, all is freed', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
      const kernel = makeKernel();
      const device = makeProvider(kernel, { burstBytes: 300, nsPerByte: 5 });
      await kernel.run(async () => {
        const chan = (await dmaRequestChannel(kernel, dmaCapMask(DMA_MEMCPY))) as FakeChan;
        const at = dmaMapSingle(device.dev, kmalloc(kernel, 4096, GFP_KERNEL)!, DMA_BIDIRECTIONAL);
        const client = new Client(chan, at);
        for (const each of steps) await client.take(each);
        await client.settle();
        await dmaReleaseChannel(chan);
        assert.equal(chan.freed, client.made, 'every descriptor was given back once');
      });
      assert.deepEqual(kernel.splats, []);
    }),
    { numRuns: 150 },
  );
});
