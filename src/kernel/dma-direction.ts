/** Which way a mapping moves bytes. The numbers are the kernel's. */

/** The CPU and the device both write. @linux DMA_BIDIRECTIONAL */
export const DMA_BIDIRECTIONAL = 0 as const;
/** The device reads what the CPU wrote. @linux DMA_TO_DEVICE */
export const DMA_TO_DEVICE = 1 as const;
/** The CPU reads what the device wrote. @linux DMA_FROM_DEVICE */
export const DMA_FROM_DEVICE = 2 as const;
/** No direction: for debugging; mapping with it is a bug. @linux DMA_NONE */
export const DMA_NONE = 3 as const;

/** One of the four directions. @linux enum dma_data_direction */
export type DmaDataDirection =
  | typeof DMA_BIDIRECTIONAL
  | typeof DMA_TO_DEVICE
  | typeof DMA_FROM_DEVICE
  | typeof DMA_NONE;

const names = ['DMA_BIDIRECTIONAL', 'DMA_TO_DEVICE', 'DMA_FROM_DEVICE', 'DMA_NONE'] as const;

/** For messages: `dmaDirectionName(1)` is `DMA_TO_DEVICE`; other numbers print as themselves. */
export function dmaDirectionName(direction: number): string {
  return names[direction] ?? `direction ${direction}`;
}
/** Whether it is a direction that can be mapped: any but `DMA_NONE`. @linux valid_dma_direction */
export function validDmaDirection(direction: number): boolean {
  return direction === DMA_BIDIRECTIONAL || direction === DMA_TO_DEVICE || direction === DMA_FROM_DEVICE;
}
