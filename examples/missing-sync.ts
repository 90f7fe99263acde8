// Copies 4 KiB by DMA and reads the result, written by somebody who only ever tried it on a PC.
import { ENOMEM } from 'dmakit/base';
import { transfer } from 'dmakit/dmaengine';
import { DMA_FROM_DEVICE, DMA_TO_DEVICE, GFP_KERNEL, kfree, kmalloc } from 'dmakit/kernel';
import { dmaMappingError, dmaMapSingle, dmaUnmapSingle } from 'dmakit/mapping';
import { defineDriver } from 'dmakit/tools';

export default defineDriver({
  name: 'missing-sync',
  needs: 'memcpy',
  async main({ kernel, dev, chan, expectBytes }) {
    const [source, target] = [kmalloc(kernel, 4096, GFP_KERNEL)!, kmalloc(kernel, 4096, GFP_KERNEL)!];
    source.bytes.fill(0x5a);
    const from = dmaMapSingle(dev, source, DMA_TO_DEVICE);
    const to = dmaMapSingle(dev, target, DMA_FROM_DEVICE);
    if (dmaMappingError(dev, from) || dmaMappingError(dev, to)) return ENOMEM;
    await transfer(chan, { kind: 'copy', dst: to, src: from, len: 4096 });
    expectBytes(target, 0x5a, 'the target');
    dmaUnmapSingle(dev, to, 4096, DMA_FROM_DEVICE);
    dmaUnmapSingle(dev, from, 4096, DMA_TO_DEVICE);
    for (const buffer of [source, target]) kfree(kernel, buffer);
    return 0;
  },
});
