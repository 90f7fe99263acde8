/** The checker over whole boards: what correct drivers do breaks no rule, and what a client does wrong is found. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isErr } from '../base/index.ts';
import { attachChecker, type Checker, renderFindings } from '../checker/index.ts';
import {
  DMA_MEMCPY,
  DMA_PREP_INTERRUPT,
  type DmaChan,
  dmaAsyncIssuePending,
  dmaCapMask,
  dmaenginePrepDmaMemcpy,
  dmaengineSubmit,
  dmaengineTerminateAsync,
  dmaReleaseChannel,
  dmaRequestChanByMask,
} from '../dmaengine/index.ts';
import { dmatest } from '../drivers/dmatest.ts';
import {
  Completion,
  complete,
  DMA_FROM_DEVICE,
  DMA_TO_DEVICE,
  GFP_KERNEL,
  type Kernel,
  kfree,
  kmalloc,
  type Mem,
  waitForCompletion,
} from '../kernel/index.ts';
import { dmaMappingError, dmaMapSingle, dmaSyncSingleForCpu, dmaUnmapSingle } from '../mapping/index.ts';
import type { Board, BootOptions } from './board.ts';
import { boardsWithChannels as boards } from './index.ts';

const SMALL = { ramBytes: 64 * 2 ** 20 };

async function checked(board: Board, options: BootOptions, main: (kernel: Kernel, checker: Checker) => Promise<void>) {
  const system = await board.boot({ ...SMALL, ...options });
  const checker = attachChecker(system);
  try {
    await system.run((kernel) => main(kernel, checker));
    checker.runEnded();
  } catch (error) {
    checker.runEnded(error);
  }
  await system.close();
  checker.close();
  return checker.findings();
}

for (const board of boards) {
  for (const mode of ['', board.coherent ? 'noncoherent' : 'coherent']) {
    test(`dmatest on ${board.name}${mode === '' ? '' : `, ${mode}`}: no findings`, async () => {
      const findings = await checked(board, { mode }, async (kernel) => {
        const result = await dmatest(kernel, { iterations: 5, threadsPerChan: 2, maxChannels: 3 });
        assert.equal(result.failures, 0);
      });
      assert.equal(renderFindings(findings, 'text'), 'no findings\n');
    });
  }
}

async function channelOf(kernel: Kernel): Promise<DmaChan> {
  const chan = await dmaRequestChanByMask(kernel, dmaCapMask(DMA_MEMCPY));
  if (isErr(chan)) throw new Error('no channel');
  return chan;
}
const must = (mem: Mem | null): Mem => mem ?? assert.fail('out of memory');

type Mistake =
  | 'none'
  | 'no sync'
  | 'no issue'
  | 'no submit'
  | 'short mapping'
  | 'leak'
  | 'keep channel'
  | 'callback throws'
  | 'terminate async'
  | 'early unmap';

/** Copy 4 KiB through the engine, with at most one mistake. */
async function copyOnce(kernel: Kernel, checker: Checker, mistake: Mistake): Promise<void> {
  const chan = await channelOf(kernel);
  const { dev } = chan.device;
  const src = must(kmalloc(kernel, 4096, GFP_KERNEL));
  const dst = must(kmalloc(kernel, 4096, GFP_KERNEL));
  src.bytes.fill(0x5a);
  dst.bytes.fill(0);
  const mappedDst = mistake === 'short mapping' ? dst.slice(0, 4000) : dst;
  const from = dmaMapSingle(dev, src, DMA_TO_DEVICE);
  const to = dmaMapSingle(dev, mappedDst, DMA_FROM_DEVICE);
  assert.equal(dmaMappingError(dev, from), 0);
  assert.equal(dmaMappingError(dev, to), 0);
  const done = new Completion(kernel, 'copy');
  const tx = dmaenginePrepDmaMemcpy(chan, to, from, 4096, DMA_PREP_INTERRUPT) ?? assert.fail('not prepared');
  tx.callback = () => {
    if (mistake === 'callback throws') throw new TypeError('buffer is undefined');
    complete(done);
  };
  if (mistake !== 'no submit') dmaengineSubmit(tx);
  if (mistake !== 'no issue') dmaAsyncIssuePending(chan);
  if (mistake === 'early unmap') dmaUnmapSingle(dev, to, 4096, DMA_FROM_DEVICE);
  if (mistake === 'terminate async') dmaengineTerminateAsync(chan);
  else await waitForCompletion(done);
  if (mistake === 'no sync') {
    if (dst.bytes[0] !== 0x5a) checker.driverFailed('the copy differs', dst);
  } else if (mistake !== 'early unmap') dmaSyncSingleForCpu(dev, to, mappedDst.size, DMA_FROM_DEVICE);
  dmaUnmapSingle(dev, from, 4096, DMA_TO_DEVICE);
  if (mistake !== 'leak' && mistake !== 'early unmap') dmaUnmapSingle(dev, to, mappedDst.size, DMA_FROM_DEVICE);
  kfree(kernel, src);
  if (mistake !== 'leak') kfree(kernel, dst);
  if (mistake !== 'keep channel') await dmaReleaseChannel(chan);
}

const expected: readonly [Mistake, string, readonly string[]][] = [
  ['none', '', []],
  ['none', 'coherent', []],
  ['no sync', '', ['dma/missing-sync-for-cpu']],
  ['no sync', 'coherent', []],
  ['no issue', '', ['dmaengine/no-issue-pending', 'kernel/hung-task']],
  ['no submit', '', ['dmaengine/not-submitted', 'kernel/hung-task']],
  ['short mapping', '', ['dma/device-access-outside']],
  ['leak', '', ['dma/leak']],
  ['keep channel', '', ['dmaengine/channel-leak']],
  ['callback throws', '', ['dmaengine/callback-threw']],
  ['terminate async', '', ['dmaengine/terminate-without-synchronize']],
  ['early unmap', '', ['dma/device-access-outside']],
];
for (const board of boards) {
  for (const [mistake, mode, rules] of expected) {
    test(`a copy on ${board.name}${mode === '' ? '' : `, ${mode}`}, mistake: ${mistake}`, async () => {
      const findings = await checked(board, { mode, cacheNoise: 'off' }, (kernel, checker) =>
        copyOnce(kernel, checker, mistake),
      );
      assert.deepEqual(findings.map(({ rule }) => rule).sort(), rules, renderFindings(findings, 'text'));
      for (const { rule, at, mappedAt } of findings) {
        if (rule === 'dmaengine/callback-threw') assert.match(at?.file ?? 'no place', /checker\.test\.ts$/);
        if (mappedAt !== null) assert.match(mappedAt.file, /checker\.test\.ts$/);
      }
    });
  }
}
