// The PL330 on the Zynq board: copies through driver and model, and through the model alone, against a plain copy of the
// same bytes. Polling keeps everything synchronous: interrupts are served meanwhile, as on the board.

import { type DmaAddr, isErr, physAddr } from '../src/base/index.ts';
import { zynqA9 } from '../src/boards/zynq-a9.ts';
import {
  DMA_CTRL_ACK,
  DMA_MEMCPY,
  DMA_PREP_INTERRUPT,
  type DmaChan,
  dmaAsyncIssuePending,
  dmaCapMask,
  dmaenginePrepDmaMemcpy,
  dmaengineSubmit,
  dmaRequestChanByMask,
} from '../src/dmaengine/index.ts';
import { GFP_KERNEL, getFreePages } from '../src/kernel/index.ts';
import { DMA_FROM_DEVICE, DMA_TO_DEVICE, dmaMapSingle } from '../src/mapping/index.ts';
import { bench, type Case } from './harness.ts';

const SIZE = 65_536;
const DMAC = 0xf800_3000;
/** A channel that the driver does not use when only one is requested. */
const CHANNEL = 7;

interface Copies {
  driver: Case;
  model: Case;
}
async function copies(mode: string, size: number): Promise<Copies> {
  const system = await zynqA9.boot({ mode, ramBytes: 64 << 20, cacheNoise: 'off' });
  const { machine, kernel } = system;
  let chan: DmaChan | null = null;
  let program = 0;
  let [src, dst] = [0 as DmaAddr, 0 as DmaAddr];
  await system.run(async () => {
    const found = await dmaRequestChanByMask(kernel, dmaCapMask(DMA_MEMCPY));
    if (isErr(found)) throw new Error('no channel');
    chan = found;
    const [from, to, code] = [0, 0, 0].map(() => getFreePages(kernel, GFP_KERNEL, 4)!);
    const { dev } = chan.device;
    src = dmaMapSingle(dev, from!, DMA_TO_DEVICE);
    dst = dmaMapSingle(dev, to!, DMA_FROM_DEVICE);
    program = dmaMapSingle(dev, code!, DMA_TO_DEVICE);
    const word = (value: number): number[] => [0, 8, 16, 24].map((shift) => (value >>> shift) & 0xff);
    // DMAMOV CCR (16 beats of 8 bytes), SAR, DAR; DMALP 2 x 256: DMALD, DMAST; DMAEND
    const moves = [0xbc, 1, ...word(0x003d_c0f7 | (3 << 15)), 0xbc, 0, ...word(src), 0xbc, 2, ...word(dst)];
    code!.bytes.set([...moves, 0x22, size / 32_768 - 1, 0x20, 255, 4, 8, 0x38, 2, 0x3c, 6, 0]);
    machine.cacheClean(code!.phys, 4096);
  });
  let done = false;
  const finished = (): void => {
    done = true;
  };
  return {
    driver: (n) => {
      for (let i = 0; i < n; i++) {
        done = false;
        const tx = dmaenginePrepDmaMemcpy(chan!, dst, src, size, DMA_PREP_INTERRUPT | DMA_CTRL_ACK)!;
        tx.callback = finished;
        dmaengineSubmit(tx);
        dmaAsyncIssuePending(chan!);
        while (!done) machine.delay(5000);
      }
    },
    model: (n) => {
      for (let i = 0; i < n; i++) {
        machine.write32(physAddr(DMAC + 0xd08), 0x00a0_0000 | (CHANNEL << 24));
        machine.write32(physAddr(DMAC + 0xd0c), program);
        machine.write32(physAddr(DMAC + 0xd04), 0);
        do machine.delay(10_000);
        while ((machine.read32(physAddr(DMAC + 0x100 + 8 * CHANNEL)) & 15) !== 0);
      }
    },
  };
}

const coherent = await copies('coherent', SIZE);
const nonCoherent = await copies('noncoherent', SIZE);
// The way through kernel, driver and model is long: it takes a while until all of it is compiled.
for (const { driver, model } of [coherent, nonCoherent]) {
  driver(3000);
  model(3000);
}
const bytes = new Uint8Array(64 << 20).fill(1);
let at = 0;
const reference: Case = (n) => {
  for (let i = 0; i < n; i++) {
    at = (at + 17 * SIZE) % (bytes.length - 2 * SIZE);
    bytes.copyWithin(at + SIZE, at, at + SIZE);
  }
};
const { rows } = bench(
  'pl330',
  {
    'driver + model, coherent': coherent.driver,
    'model alone, coherent': coherent.model,
    'driver + model, not coherent': nonCoherent.driver,
    'model alone, not coherent': nonCoherent.model,
  },
  { reference: { name: '64 KiB copyWithin', run: reference } },
);
for (const { name, nsPerOp } of rows) console.error(`${name}: ${((SIZE / nsPerOp) * 1000).toFixed(0)} MB/s`);
