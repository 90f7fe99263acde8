/** Physical and bus addresses: through a device's `dma-ranges` windows, or the same number where there are none. */
import { DMA_MAPPING_ERROR, type DmaAddr, type PhysAddr } from '../base/addr.ts';
import type { Device, DmaRange } from '../kernel/device.ts';

const NO_PHYS = -1 as PhysAddr;

/**
 * The bus address under which the device reaches a physical address; `DMA_MAPPING_ERROR` when no window shows it.
 * @linux phys_to_dma
 */
export function physToDma(dev: Device, phys: PhysAddr): DmaAddr {
  const map = dev.dmaRangeMap;
  return map === null ? (phys as number as DmaAddr) : translateToDma(map, phys);
}
function translateToDma(map: readonly DmaRange[], phys: PhysAddr): DmaAddr {
  for (let i = 0; i < map.length; i++) {
    const range = map[i]!;
    const offset = phys - range.cpuStart;
    if (offset >= 0 && offset < range.sizeBytes) return (range.dmaStart + offset) as DmaAddr;
  }
  return DMA_MAPPING_ERROR;
}
/** The physical address behind a bus address; -1 when no window shows it. @linux dma_to_phys */
export function dmaToPhys(dev: Device, addr: DmaAddr): PhysAddr {
  const map = dev.dmaRangeMap;
  return map === null ? (addr as number as PhysAddr) : translateToPhys(map, addr);
}
function translateToPhys(map: readonly DmaRange[], addr: DmaAddr): PhysAddr {
  for (let i = 0; i < map.length; i++) {
    const range = map[i]!;
    const offset = addr - range.dmaStart;
    if (offset >= 0 && offset < range.sizeBytes) return (range.cpuStart + offset) as PhysAddr;
  }
  return NO_PHYS;
}

/** The last bus address that both a mask and the buses above allow; 0 on either side is no limit. @linux min_not_zero */
export function minNotZero(mask: number, busLimit: number): number {
  return busLimit !== 0 && (mask === 0 || busLimit < mask) ? busLimit : mask;
}
/**
 * Whether the device reaches [addr, addr+size) with its streaming mask. @linux dma_capable
 */
export function dmaCapable(dev: Device, addr: DmaAddr, size: number): boolean {
  return addr >= 0 && addr + size - 1 <= minNotZero(dev.dmaMaskLimit, dev.busDmaLimit);
}
/** The same for the coherent mask and physical memory. @linux dma_coherent_ok */
export function dmaCoherentOk(dev: Device, phys: PhysAddr, size: number): boolean {
  const addr = physToDma(dev, phys);
  return addr >= 0 && addr + size - 1 <= minNotZero(dev.coherentDmaMaskLimit, dev.busDmaLimit);
}
