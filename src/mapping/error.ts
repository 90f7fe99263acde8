/** Whether a mapping failed. */
import { DMA_MAPPING_ERROR, type DmaAddr } from '../base/addr.ts';
import { ENOMEM, type Errno, OK } from '../base/errno.ts';
import type { Device } from '../kernel/device.ts';
import { mappingObserver } from './observer.ts';

/**
 * 0 for an address that a map function returned for good, ENOMEM for a failed mapping. To be asked after every map.
 * Any context. @linux dma_mapping_error
 */
export function dmaMappingError(dev: Device, addr: DmaAddr): Errno {
  const observer = mappingObserver(dev.kernel);
  if (observer !== null) observer.mappingError?.(dev, addr);
  return addr === DMA_MAPPING_ERROR ? ENOMEM : OK;
}
