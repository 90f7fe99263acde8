/** Memory barriers. On a strongly ordered machine they only mark time points. */
import type { Kernel } from './kernel.ts';

/** Orders all loads and stores. @linux mb */
export function mb(kernel: Kernel): void {
  kernel.machine.barrier('mb');
}
/** Orders stores, to memory and to devices. @linux wmb */
export function wmb(kernel: Kernel): void {
  kernel.machine.barrier('wmb');
}
/** Orders loads. @linux rmb */
export function rmb(kernel: Kernel): void {
  kernel.machine.barrier('rmb');
}
/** Orders all accesses to coherent memory that a device also uses. @linux dma_mb */
export function dmaMb(kernel: Kernel): void {
  kernel.machine.barrier('mb');
}
/** Orders stores to coherent memory: a descriptor's body before the word that hands it over. @linux dma_wmb */
export function dmaWmb(kernel: Kernel): void {
  kernel.machine.barrier('dma_wmb');
}
/** Orders loads from coherent memory: the word that hands it over before the descriptor's body. @linux dma_rmb */
export function dmaRmb(kernel: Kernel): void {
  kernel.machine.barrier('dma_rmb');
}
