/** In which modes of a board random programs are run. */
import type { Board } from './board.ts';
import type { RigOptions } from './program-rig.cases.ts';

/** Every term that the board has, and the pairs in which one changes what the other does. */
export function modesOf(board: Board): string[] {
  const has = (term: (typeof board.modes)[number]): boolean => board.modes.includes(term);
  const other = board.coherent ? 'noncoherent' : 'coherent';
  const modes = [''];
  if (has(other)) modes.push(other);
  if (has('swiotlb')) modes.push('swiotlb=force');
  if (has('swiotlb') && has(other)) modes.push(`${other},swiotlb=force`);
  // What devices reach begins at different bus addresses.
  if (has('mask')) modes.push(board.name === 'rpi3' ? 'mask=32' : 'mask=26');
  if (has('iommu')) {
    modes.push('iommu=off', 'iommu=strict', 'iommu=lazy', 'iommu=pt');
    if (has(other)) modes.push(`${other},iommu=strict`, `${other},iommu=lazy`);
    // Devices from outside: what is not whole pages bounces.
    if (has('swiotlb')) modes.push('swiotlb=force,iommu=strict', 'swiotlb=force,iommu=lazy');
  }
  return modes;
}
/** Behind an IOMMU, bounce buffers are for devices that are not trusted. */
export function settingOf(mode: string): RigOptions {
  return { mode, untrusted: mode.includes('swiotlb=force,iommu') };
}
