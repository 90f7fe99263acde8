// The correct twin of missing-sync.ts: right on every board, with every seed.
import { ENOMEM } from 'dmakit/base';
import { transfer } from 'dmakit/dmaengine';
import { DMA_FROM_DEVICE, DMA_TO_DEVICE, GFP_KERNEL, kfree, kmalloc } from 'dmakit/kernel';
import { dmaMappingError, dmaMapSingle, dmaSyncSingleForCpu, dmaUnmapSingle } from 'dmakit/mapping';
import { defineDriver } from 'dmakit/tools';

const SIZE = 4096;

export default defineDriver({
  name: 'with-sync',
  needs: 'memcpy',
  async main({ kernel, dev, chan, expectBytes }) {
    const source = kmalloc(kernel, SIZE, GFP_KERNEL);
    const target = kmalloc(kernel, SIZE, GFP_KERNEL);
    if (source === null || target === null) return ENOMEM;
    source.bytes.fill(0x5a);
    const from = dmaMapSingle(dev, source, DMA_TO_DEVICE);
    const to = dmaMapSingle(dev, target, DMA_FROM_DEVICE);
    if (dmaMappingError(dev, from) || dmaMappingError(dev, to)) return ENOMEM;

    await transfer(chan, { kind: 'copy', dst: to, src: from, len: SIZE });
    dmaSyncSingleForCpu(dev, to, SIZE, DMA_FROM_DEVICE); // the target is the CPU's from here on
    expectBytes(target, 0x5a, 'the target');

    dmaUnmapSingle(dev, to, SIZE, DMA_FROM_DEVICE);
    dmaUnmapSingle(dev, from, SIZE, DMA_TO_DEVICE);
    kfree(kernel, source);
    kfree(kernel, target);
    return 0;
  },
});
