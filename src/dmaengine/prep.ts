/** What clients call to prepare a descriptor. Each gives null when the provider cannot or does not offer it. Any context. */
import type { DmaAddr } from '../base/addr.ts';
import { type Scatterlist, sgAlloc, sgNext } from '../mapping/scatterlist.ts';
import { DMA_REPEAT, dmaHasCap } from './cap-mask.ts';
import type { DmaAsyncTxDescriptor } from './descriptor.ts';
import type { DmaChan } from './dma-chan.ts';
import type { DmaPrepKind } from './observer.ts';
import type { DmaInterleavedTemplate, DmaVec } from './slave-config.ts';
import { DMA_MEM_TO_DEV, DMA_PREP_REPEAT, type DmaTransferDirection } from './types.ts';

type Prepared = DmaAsyncTxDescriptor | null;

function observe(chan: DmaChan, kind: DmaPrepKind, tx: Prepared, len: number, dst = -1, src = -1): Prepared {
  chan.device.observer?.prep?.(chan, kind, tx, len, dst, src);
  return tx;
}

/** The one-entry list of `dmaenginePrepSlaveSingle`: providers may not keep it, as the kernel's is on the stack. */
let single: Scatterlist | null = null;

/** A transfer between one mapped buffer (`dmaMapSingle`) and the configured peripheral. @linux dmaengine_prep_slave_single */
export function dmaenginePrepSlaveSingle(
  chan: DmaChan,
  buf: DmaAddr,
  len: number,
  direction: DmaTransferDirection,
  flags: number,
): Prepared {
  const { device } = chan;
  if (device.devicePrepSlaveSg === undefined) return null;
  single ??= sgAlloc(1);
  single.dmaAddress = buf;
  single.dmaLength = len;
  single.length = len;
  const tx = device.devicePrepSlaveSg(chan, single, 1, direction, flags, null);
  const isSource = direction === DMA_MEM_TO_DEV;
  return observe(chan, 'slave_sg', tx, len, isSource ? -1 : buf, isSource ? buf : -1);
}

/** A transfer between a mapped scatterlist (`sgLen` is what `dmaMapSg` returned) and the configured peripheral. @linux dmaengine_prep_slave_sg */
export function dmaenginePrepSlaveSg(
  chan: DmaChan,
  sgl: Scatterlist,
  sgLen: number,
  direction: DmaTransferDirection,
  flags: number,
): Prepared {
  const { device } = chan;
  if (device.devicePrepSlaveSg === undefined) return null;
  const tx = device.devicePrepSlaveSg(chan, sgl, sgLen, direction, flags, null);
  if (device.observer === null) return tx;
  let len = 0;
  let sg: Scatterlist | null = sgl;
  for (let i = 0; i < sgLen && sg !== null; i++, sg = sgNext(sg)) len += sg.dmaLength;
  return observe(chan, 'slave_sg', tx, len);
}

/** A transfer between pieces of bus address space and the configured peripheral. @linux dmaengine_prep_peripheral_dma_vec */
export function dmaenginePrepPeripheralDmaVec(
  chan: DmaChan,
  vecs: readonly DmaVec[],
  direction: DmaTransferDirection,
  flags: number,
): Prepared {
  const { device } = chan;
  if (device.devicePrepPeripheralDmaVec === undefined) return null;
  const tx = device.devicePrepPeripheralDmaVec(chan, vecs, direction, flags);
  if (device.observer === null) return tx;
  let len = 0;
  for (const vec of vecs) len += vec.len;
  return observe(chan, 'peripheral_dma_vec', tx, len);
}

/**
 * A transfer that goes round and round in a buffer, with a callback after each period, until terminated.
 * @param bufLen a multiple of `periodLen`
 * @linux dmaengine_prep_dma_cyclic
 */
export function dmaenginePrepDmaCyclic(
  chan: DmaChan,
  bufAddr: DmaAddr,
  bufLen: number,
  periodLen: number,
  direction: DmaTransferDirection,
  flags: number,
): Prepared {
  const { device } = chan;
  if (device.devicePrepDmaCyclic === undefined) return null;
  const tx = device.devicePrepDmaCyclic(chan, bufAddr, bufLen, periodLen, direction, flags);
  const isSource = direction === DMA_MEM_TO_DEV;
  return observe(chan, 'cyclic', tx, bufLen, isSource ? -1 : bufAddr, isSource ? bufAddr : -1);
}

/** A two-dimensional transfer. DMA_PREP_REPEAT needs a device with DMA_REPEAT. @linux dmaengine_prep_interleaved_dma */
export function dmaenginePrepInterleavedDma(chan: DmaChan, template: DmaInterleavedTemplate, flags: number): Prepared {
  const { device } = chan;
  if (device.devicePrepInterleavedDma === undefined) return null;
  if ((flags & DMA_PREP_REPEAT) !== 0 && !dmaHasCap(DMA_REPEAT, device.capMask)) return null;
  let frame = 0;
  for (const chunk of template.sgl) frame += chunk.size;
  return observe(chan, 'interleaved', device.devicePrepInterleavedDma(chan, template, flags), frame * template.numf);
}

/** Copy `len` bytes between mapped buffers. @linux dmaengine_prep_dma_memcpy */
export function dmaenginePrepDmaMemcpy(
  chan: DmaChan,
  dst: DmaAddr,
  src: DmaAddr,
  len: number,
  flags: number,
): Prepared {
  const { device } = chan;
  if (device.devicePrepDmaMemcpy === undefined) return null;
  const tx = device.devicePrepDmaMemcpy(chan, dst, src, len, flags);
  if (tx !== null) tx.copyBytes = len;
  return observe(chan, 'memcpy', tx, len, dst, src);
}

/** Fill `len` bytes with `value` (its low byte). @linux dmaengine_prep_dma_memset */
export function dmaenginePrepDmaMemset(
  chan: DmaChan,
  dst: DmaAddr,
  value: number,
  len: number,
  flags: number,
): Prepared {
  const { device } = chan;
  if (device.devicePrepDmaMemset === undefined) return null;
  return observe(chan, 'memset', device.devicePrepDmaMemset(chan, dst, value, len, flags), len, dst);
}
