import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KernelBug, OK } from '../base/errno.ts';
import { List } from '../base/list.ts';
import {
  Completion,
  complete,
  type Kernel,
  msleep,
  spinLockIrqsave,
  spinUnlockIrqrestore,
  waitForCompletion,
} from '../kernel/index.ts';
import { dmaengineDescFree } from './descriptor.ts';
import { DmaDevice } from './dma-device.ts';
import { makeDevice, makeKernel } from './rig.cases.ts';
import { DMA_CTRL_ACK, DMA_CTRL_REUSE, DMA_TRANS_NOERROR, DMA_TRANS_READ_FAILED } from './types.ts';
import {
  VirtDmaChan,
  VirtDmaDesc,
  vchanCookieComplete,
  vchanCyclicCallback,
  vchanDmaDescFreeList,
  vchanFindDesc,
  vchanFreeChanResources,
  vchanGetAllDescriptors,
  vchanInit,
  vchanIssuePending,
  vchanNextDesc,
  vchanSynchronize,
  vchanTerminateVdesc,
  vchanTxPrep,
} from './virt-dma.ts';

class TestChan extends VirtDmaChan {
  readonly freed: VirtDmaDesc[] = [];
  override descFree(vd: VirtDmaDesc): void {
    this.freed.push(vd);
  }
}
interface Set {
  readonly kernel: Kernel;
  readonly vc: TestChan;
  prep(flags?: number): VirtDmaDesc;
  locked<T>(body: () => T): T;
  submit(vd: VirtDmaDesc): number;
  /** Submit all, issue, and take them off the issued list as hardware would. */
  run(...vds: VirtDmaDesc[]): void;
  lists(): number[];
}
function setUp(): Set {
  const kernel = makeKernel();
  const device = new DmaDevice(makeDevice(kernel, 'vdma'));
  device.descriptorReuse = true;
  const vc = new TestChan(kernel, 'test');
  vchanInit(vc, device);
  const locked = <T>(body: () => T): T => {
    const flags = spinLockIrqsave(vc.lock);
    const value = body();
    spinUnlockIrqrestore(vc.lock, flags);
    return value;
  };
  const submit = (vd: VirtDmaDesc): number => vd.txSubmit!(vd);
  return {
    kernel,
    vc,
    locked,
    submit,
    prep: (flags = DMA_CTRL_ACK) => vchanTxPrep(vc, new VirtDmaDesc(), flags) as VirtDmaDesc,
    run: (...vds) => {
      for (const vd of vds) submit(vd);
      locked(() => {
        vchanIssuePending(vc);
        for (const vd of vds) {
          vc.descIssued.remove(vd);
          vchanCookieComplete(vd);
        }
      });
    },
    lists: () =>
      [vc.descAllocated, vc.descSubmitted, vc.descIssued, vc.descCompleted, vc.descTerminated].map(
        ({ length }) => length,
      ),
  };
}

test('init puts the channel on its device, with the first cookie', () => {
  const { vc } = setUp();
  assert.equal(vc.device.channels.first, vc);
  assert.equal(vc.cookie, 1);
});

test('a descriptor moves through the lists: allocated, submitted, issued, completed, freed', async () => {
  const { kernel, vc, prep, locked, submit, lists } = setUp();
  await kernel.run(async () => {
    const vd = prep();
    assert.equal(vd.tx, vd);
    assert.equal(vd.flags, DMA_CTRL_ACK);
    assert.deepEqual(lists(), [1, 0, 0, 0, 0]);
    const cookie = submit(vd);
    assert.equal(cookie, 2);
    assert.deepEqual(lists(), [0, 1, 0, 0, 0]);
    assert.equal(
      locked(() => vchanFindDesc(vc, cookie)),
      null,
      'only issued ones are found',
    );
    assert.equal(
      locked(() => vchanNextDesc(vc)),
      null,
    );
    assert.equal(
      locked(() => vchanIssuePending(vc)),
      true,
    );
    assert.deepEqual(lists(), [0, 0, 1, 0, 0]);
    assert.equal(
      locked(() => vchanNextDesc(vc)),
      vd,
    );
    assert.equal(
      locked(() => vchanFindDesc(vc, cookie)),
      vd,
    );
    assert.equal(
      locked(() => vchanFindDesc(vc, cookie + 1)),
      null,
    );
    locked(() => {
      vc.descIssued.remove(vd);
      vchanCookieComplete(vd);
      assert.deepEqual(lists(), [0, 0, 0, 1, 0]);
    });
    await msleep(kernel, 1);
    assert.deepEqual(lists(), [0, 0, 0, 0, 0]);
    assert.deepEqual(vc.freed, [vd]);
    assert.equal(vc.completedCookie, cookie);
  });
});

test('issue_pending without anything says so', () => {
  const { vc, locked } = setUp();
  assert.equal(
    locked(() => vchanIssuePending(vc)),
    false,
  );
});

test('what needs the lock is a bug without it', () => {
  const { vc, prep, submit } = setUp();
  const vd = prep();
  submit(vd);
  for (const call of [
    () => vchanIssuePending(vc),
    () => vchanCookieComplete(vd),
    () => vchanFindDesc(vc, 2),
    () => vchanNextDesc(vc),
    () => vchanTerminateVdesc(vd),
    () => vchanGetAllDescriptors(vc, new List<VirtDmaDesc>()),
  ]) {
    assert.throws(call, KernelBug);
  }
});

test('submitting twice, or what was not prepared, is a bug', () => {
  const { vc, prep, submit } = setUp();
  const vd = prep();
  submit(vd);
  assert.throws(() => submit(vd), /is on desc_submitted, not prepared/);
  assert.equal(vc.lock.locked, false, 'the lock is released');
});

test('callbacks run in softirq context, without the lock, in order', async () => {
  const { kernel, vc, prep, run } = setUp();
  await kernel.run(async () => {
    const seen: unknown[] = [];
    const vds = [prep(), prep(), prep()];
    for (const vd of vds) {
      vd.callback = (param) => {
        assert.equal(kernel.context.inSoftirq, true);
        assert.equal(vc.lock.locked, false);
        seen.push(param);
      };
      vd.callbackParam = vds.indexOf(vd);
    }
    run(...vds);
    await msleep(kernel, 1);
    assert.deepEqual(seen, [0, 1, 2]);
    assert.equal(vc.freed.length, 3);
  });
});

test('the result goes to callbackResult, which comes before callback', async () => {
  const { kernel, prep, run } = setUp();
  await kernel.run(async () => {
    const seen: unknown[] = [];
    const good = prep();
    const bad = prep();
    for (const vd of [good, bad]) {
      vd.callback = () => assert.fail('callbackResult takes precedence');
      vd.callbackResult = (_param, { result, residue }) => seen.push([result, residue]);
    }
    bad.txResult.result = DMA_TRANS_READ_FAILED;
    bad.txResult.residue = 17;
    run(good, bad);
    await msleep(kernel, 1);
    assert.deepEqual(seen, [
      [DMA_TRANS_NOERROR, 0],
      [DMA_TRANS_READ_FAILED, 17],
    ]);
  });
});

test('a callback may prepare and submit on its own channel', async () => {
  const { kernel, vc, prep, run } = setUp();
  await kernel.run(async () => {
    const done = new Completion(kernel, 'done');
    const first = prep();
    first.callback = () => {
      const second = prep();
      second.callback = () => complete(done);
      run(second);
    };
    run(first);
    await waitForCompletion(done);
    await msleep(kernel, 1);
    assert.equal(vc.freed.length, 2);
  });
});

test('a reusable descriptor is allocated again after its callback, and freed by its client', async () => {
  const { kernel, vc, prep, run, lists } = setUp();
  await kernel.run(async () => {
    const vd = prep(DMA_CTRL_REUSE);
    let called = 0;
    vd.callback = () => called++;
    for (let round = 1; round <= 3; round++) {
      run(vd);
      await msleep(kernel, 1);
      assert.equal(called, round);
      assert.deepEqual(lists(), [1, 0, 0, 0, 0]);
    }
    assert.deepEqual(vc.freed, []);
    assert.equal(dmaengineDescFree(vd), OK);
    assert.deepEqual(vc.freed, [vd]);
    assert.deepEqual(lists(), [0, 0, 0, 0, 0]);
  });
});

test('a period of a cyclic descriptor calls back, and the descriptor stays', async () => {
  const { kernel, vc, prep, locked, submit } = setUp();
  await kernel.run(async () => {
    const vd = prep();
    let periods = 0;
    vd.callback = () => periods++;
    submit(vd);
    locked(() => {
      vchanIssuePending(vc);
      vc.descIssued.remove(vd);
    });
    for (let i = 0; i < 3; i++) {
      locked(() => vchanCyclicCallback(vd));
      await msleep(kernel, 1);
    }
    assert.equal(periods, 3);
    // Terminated after the period ended and before the tasklet ran: no callback.
    locked(() => {
      vchanCyclicCallback(vd);
      vchanTerminateVdesc(vd);
    });
    await vchanSynchronize(vc);
    assert.equal(periods, 3);
    assert.deepEqual(vc.freed, [vd]);
  });
});

test('terminated descriptors wait for synchronize', async () => {
  const { kernel, vc, prep, locked, submit, lists } = setUp();
  await kernel.run(async () => {
    const [running, waiting] = [prep(), prep()];
    submit(running);
    submit(waiting);
    const head = new List<VirtDmaDesc>();
    locked(() => {
      vchanIssuePending(vc);
      vc.descIssued.remove(running);
      vchanGetAllDescriptors(vc, head);
      vchanTerminateVdesc(running);
    });
    assert.deepEqual(lists(), [0, 0, 0, 0, 1]);
    vchanDmaDescFreeList(vc, head);
    assert.deepEqual(vc.freed, [waiting]);
    await vchanSynchronize(vc);
    assert.deepEqual(vc.freed, [waiting, running]);
    assert.deepEqual(lists(), [0, 0, 0, 0, 0]);
  });
});

test('freeing the channel’s resources frees descriptors in every state, reusable ones too', async () => {
  const { kernel, vc, prep, locked, submit, lists } = setUp();
  await kernel.run(() => {
    const [allocated, submitted, issued, terminated] = [prep(DMA_CTRL_REUSE), prep(), prep(), prep()];
    submit(terminated);
    submit(issued);
    locked(() => {
      vchanIssuePending(vc);
      vc.descIssued.remove(terminated);
      vchanTerminateVdesc(terminated);
    });
    submit(submitted);
    assert.deepEqual(lists(), [1, 1, 1, 0, 1]);
    vchanFreeChanResources(vc);
    assert.deepEqual(vc.freed, [allocated, submitted, issued, terminated]);
    assert.deepEqual(lists(), [0, 0, 0, 0, 0]);
  });
});
