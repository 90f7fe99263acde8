/** What a DMA device can do: transaction types, and sets of them. */

/** A kind of transaction or a property of the provider. @linux enum dma_transaction_type */
export type DmaTransactionType = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 | 11 | 12 | 13 | 14 | 15;
/** @linux DMA_MEMCPY */
export const DMA_MEMCPY = 0;
/** @linux DMA_XOR */
export const DMA_XOR = 1;
/** @linux DMA_PQ */
export const DMA_PQ = 2;
/** @linux DMA_XOR_VAL */
export const DMA_XOR_VAL = 3;
/** @linux DMA_PQ_VAL */
export const DMA_PQ_VAL = 4;
/** @linux DMA_MEMSET */
export const DMA_MEMSET = 5;
/** @linux DMA_MEMSET_SG */
export const DMA_MEMSET_SG = 6;
/** @linux DMA_INTERRUPT */
export const DMA_INTERRUPT = 7;
/** The channels are for slave use: never handed out by capability to the general pool. @linux DMA_PRIVATE */
export const DMA_PRIVATE = 8;
/** @linux DMA_ASYNC_TX */
export const DMA_ASYNC_TX = 9;
/** @linux DMA_SLAVE */
export const DMA_SLAVE = 10;
/** @linux DMA_CYCLIC */
export const DMA_CYCLIC = 11;
/** @linux DMA_INTERLEAVE */
export const DMA_INTERLEAVE = 12;
/** Descriptors may complete out of order. @linux DMA_COMPLETION_NO_ORDER */
export const DMA_COMPLETION_NO_ORDER = 13;
/** @linux DMA_REPEAT */
export const DMA_REPEAT = 14;
/** @linux DMA_LOAD_EOT */
export const DMA_LOAD_EOT = 15;
/** One past the last transaction type. @linux DMA_TX_TYPE_END */
export const DMA_TX_TYPE_END = 16;

const names = [
  ...['DMA_MEMCPY', 'DMA_XOR', 'DMA_PQ', 'DMA_XOR_VAL', 'DMA_PQ_VAL', 'DMA_MEMSET', 'DMA_MEMSET_SG', 'DMA_INTERRUPT'],
  ...['DMA_PRIVATE', 'DMA_ASYNC_TX', 'DMA_SLAVE', 'DMA_CYCLIC', 'DMA_INTERLEAVE', 'DMA_COMPLETION_NO_ORDER'],
  ...['DMA_REPEAT', 'DMA_LOAD_EOT'],
];
/** For messages: `DMA_MEMCPY`. */
export function dmaTransactionTypeName(type: DmaTransactionType): string {
  return names[type] as string;
}

/** A set of transaction types, one bit each. @linux dma_cap_mask_t, dma_cap_zero */
export type DmaCapMask = number;

/** The set of some types: `dmaCapMask(DMA_MEMCPY, DMA_PRIVATE)`; of none it is empty. */
export function dmaCapMask(...types: DmaTransactionType[]): DmaCapMask {
  let mask = 0;
  for (const type of types) mask |= 1 << type;
  return mask;
}
/** The set with one type more. @linux dma_cap_set */
export function dmaCapSet(type: DmaTransactionType, mask: DmaCapMask): DmaCapMask {
  return mask | (1 << type);
}
/** The set without a type. @linux dma_cap_clear */
export function dmaCapClear(type: DmaTransactionType, mask: DmaCapMask): DmaCapMask {
  return mask & ~(1 << type);
}
/** Whether the set holds a type. @linux dma_has_cap */
export function dmaHasCap(type: DmaTransactionType, mask: DmaCapMask): boolean {
  return (mask & (1 << type)) !== 0;
}
/** Whether the set holds all of `want`. @linux __dma_device_satisfies_mask */
export function dmaCapsSatisfy(have: DmaCapMask, want: DmaCapMask): boolean {
  return (have & want) === want;
}
