import { isErr } from '../base/errno.ts';
import { DMA_SLAVE, dmaCapMask } from './cap-mask.ts';
import { type ControllerRig, controllerCases } from './controller.cases.ts';
import type { FakeFifo } from './fake-provider.cases.ts';
import { dmaRequestChanByMask } from './index.ts';
import { makeKernel, makeProvider } from './rig.cases.ts';

const FIFO = 0x4000_0000;

function rig(coherent: boolean): ControllerRig {
  const kernel = makeKernel({ coherent });
  const fifo: FakeFifo = { address: FIFO, received: [], toSend: [] };
  makeProvider(kernel, { channels: 2, fifos: [fifo] });
  return {
    kernel,
    badAddress: 0x9000_0000,
    longCopyBytes: 200_000,
    peripheral: {
      config: { srcAddr: FIFO as never, dstAddr: FIFO as never, srcAddrWidth: 1, dstAddrWidth: 1 },
      request: async () => {
        const chan = await dmaRequestChanByMask(kernel, dmaCapMask(DMA_SLAVE));
        if (isErr(chan)) throw new Error('no slave channel');
        return chan;
      },
      received: () => Uint8Array.from(fifo.received),
      feed: (bytes) => void fifo.toSend.push(...bytes),
    },
  };
}

controllerCases('software controller, coherent', () => rig(true));
controllerCases('software controller, non-coherent', () => rig(false));
