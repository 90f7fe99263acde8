/** Directions, states, flags and widths of the DMA engine, with the kernel's numbers. */

/** Where a transfer goes; not to be mixed up with the mapping's DmaDataDirection. @linux enum dma_transfer_direction */
export type DmaTransferDirection = 0 | 1 | 2 | 3 | 4;
/** @linux DMA_MEM_TO_MEM */
export const DMA_MEM_TO_MEM = 0;
/** From memory to a peripheral's register. @linux DMA_MEM_TO_DEV */
export const DMA_MEM_TO_DEV = 1;
/** From a peripheral's register to memory. @linux DMA_DEV_TO_MEM */
export const DMA_DEV_TO_MEM = 2;
/** From one peripheral to another. @linux DMA_DEV_TO_DEV */
export const DMA_DEV_TO_DEV = 3;
/** Not chosen yet. @linux DMA_TRANS_NONE */
export const DMA_TRANS_NONE = 4;

const directionNames = ['mem to mem', 'mem to dev', 'dev to mem', 'dev to dev', 'none'] as const;
/** For messages: `mem to dev`. */
export function dmaTransferDirectionName(direction: DmaTransferDirection): string {
  return directionNames[direction];
}
/** Whether a direction involves a peripheral. @linux is_slave_direction */
export function isSlaveDirection(direction: DmaTransferDirection): boolean {
  return direction === DMA_MEM_TO_DEV || direction === DMA_DEV_TO_MEM || direction === DMA_DEV_TO_DEV;
}

/** What became of the descriptor of a cookie. @linux enum dma_status */
export type DmaStatus = 0 | 1 | 2 | 3 | 4;
/** @linux DMA_COMPLETE */
export const DMA_COMPLETE = 0;
/** @linux DMA_IN_PROGRESS */
export const DMA_IN_PROGRESS = 1;
/** @linux DMA_PAUSED */
export const DMA_PAUSED = 2;
/** @linux DMA_ERROR */
export const DMA_ERROR = 3;
/** The provider completes out of order, so that cookies say nothing. @linux DMA_OUT_OF_ORDER */
export const DMA_OUT_OF_ORDER = 4;

const statusNames = ['complete', 'in progress', 'paused', 'error', 'out of order'] as const;
/** For messages: `in progress`. */
export function dmaStatusName(status: DmaStatus): string {
  return statusNames[status];
}

/** Flags of a descriptor, given to the prep functions; bits. @linux enum dma_ctrl_flags */
export type DmaCtrlFlags = number;
/** Call back when done. @linux DMA_PREP_INTERRUPT */
export const DMA_PREP_INTERRUPT = 1 << 0;
/** The descriptor may be reused by the provider once it completed; without it the client acknowledges later. @linux DMA_CTRL_ACK */
export const DMA_CTRL_ACK = 1 << 1;
/** @linux DMA_PREP_PQ_DISABLE_P */
export const DMA_PREP_PQ_DISABLE_P = 1 << 2;
/** @linux DMA_PREP_PQ_DISABLE_Q */
export const DMA_PREP_PQ_DISABLE_Q = 1 << 3;
/** The operation goes on from the result of an earlier one. @linux DMA_PREP_CONTINUE */
export const DMA_PREP_CONTINUE = 1 << 4;
/** Later operations depend on this one's result. @linux DMA_PREP_FENCE */
export const DMA_PREP_FENCE = 1 << 5;
/** The client may submit the descriptor again after completion. @linux DMA_CTRL_REUSE */
export const DMA_CTRL_REUSE = 1 << 6;
/** The data are a command for the peripheral, not payload. @linux DMA_PREP_CMD */
export const DMA_PREP_CMD = 1 << 7;
/** Repeat until another descriptor is queued (interleaved transfers). @linux DMA_PREP_REPEAT */
export const DMA_PREP_REPEAT = 1 << 8;
/** Replace a repeating transfer at its end. @linux DMA_PREP_LOAD_EOT */
export const DMA_PREP_LOAD_EOT = 1 << 9;

/** How fine `residue` is. @linux enum dma_residue_granularity */
export type DmaResidueGranularity = 0 | 1 | 2;
/** Whole descriptors only: residue is the length until done. @linux DMA_RESIDUE_GRANULARITY_DESCRIPTOR */
export const DMA_RESIDUE_GRANULARITY_DESCRIPTOR = 0;
/** After each segment or period. @linux DMA_RESIDUE_GRANULARITY_SEGMENT */
export const DMA_RESIDUE_GRANULARITY_SEGMENT = 1;
/** After each burst. @linux DMA_RESIDUE_GRANULARITY_BURST */
export const DMA_RESIDUE_GRANULARITY_BURST = 2;

/** How a transfer ended, told to `callbackResult`. @linux enum dmaengine_tx_result */
export type DmaengineTxResult = 0 | 1 | 2 | 3;
/** @linux DMA_TRANS_NOERROR */
export const DMA_TRANS_NOERROR = 0;
/** The source could not be read. @linux DMA_TRANS_READ_FAILED */
export const DMA_TRANS_READ_FAILED = 1;
/** The destination could not be written. @linux DMA_TRANS_WRITE_FAILED */
export const DMA_TRANS_WRITE_FAILED = 2;
/** It was never run, or stopped halfway. @linux DMA_TRANS_ABORTED */
export const DMA_TRANS_ABORTED = 3;

const resultNames = ['no error', 'read failed', 'write failed', 'aborted'] as const;
/** For messages: `read failed`. */
export function dmaengineTxResultName(result: DmaengineTxResult): string {
  return resultNames[result];
}

/** Outcome of one descriptor: its result, and how many bytes were not transferred. @linux struct dmaengine_result */
export interface DmaengineResult {
  result: DmaengineTxResult;
  residue: number;
}

/** Width of a peripheral's data register in bytes. @linux enum dma_slave_buswidth */
export type DmaSlaveBuswidth = 0 | 1 | 2 | 3 | 4 | 8 | 16 | 32 | 64 | 128;
/** @linux DMA_SLAVE_BUSWIDTH_UNDEFINED */
export const DMA_SLAVE_BUSWIDTH_UNDEFINED = 0;
/** @linux DMA_SLAVE_BUSWIDTH_1_BYTE */
export const DMA_SLAVE_BUSWIDTH_1_BYTE = 1;
/** @linux DMA_SLAVE_BUSWIDTH_2_BYTES */
export const DMA_SLAVE_BUSWIDTH_2_BYTES = 2;
/** @linux DMA_SLAVE_BUSWIDTH_3_BYTES */
export const DMA_SLAVE_BUSWIDTH_3_BYTES = 3;
/** @linux DMA_SLAVE_BUSWIDTH_4_BYTES */
export const DMA_SLAVE_BUSWIDTH_4_BYTES = 4;
/** @linux DMA_SLAVE_BUSWIDTH_8_BYTES */
export const DMA_SLAVE_BUSWIDTH_8_BYTES = 8;
/** @linux DMA_SLAVE_BUSWIDTH_16_BYTES */
export const DMA_SLAVE_BUSWIDTH_16_BYTES = 16;
/** @linux DMA_SLAVE_BUSWIDTH_32_BYTES */
export const DMA_SLAVE_BUSWIDTH_32_BYTES = 32;
/** @linux DMA_SLAVE_BUSWIDTH_64_BYTES */
export const DMA_SLAVE_BUSWIDTH_64_BYTES = 64;
/** @linux DMA_SLAVE_BUSWIDTH_128_BYTES */
export const DMA_SLAVE_BUSWIDTH_128_BYTES = 128;

/**
 * The bits of `srcAddrWidths` and `dstAddrWidths` for some widths in bytes, one bit a width as BIT(DMA_SLAVE_BUSWIDTH_…)
 * in the kernel; widths of 32 bytes and more have no bit there either.
 */
export function dmaBuswidths(...widths: DmaSlaveBuswidth[]): number {
  let bits = 0;
  for (const width of widths) bits += width < 32 ? 2 ** width : 0;
  return bits;
}
