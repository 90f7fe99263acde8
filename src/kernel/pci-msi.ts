/** Interrupts of PCI functions: message-signalled ones, and the pins that came before. */
import { hi32, lo32 } from '../base/addr.ts';
import { EINVAL, ENOSPC, type Errno, OK } from '../base/errno.ts';
import type { MsiVector } from '../machine/contract.ts';
import { splat } from './panic.ts';
import { type PciDev, pciReadConfigWord, pciWriteConfigDword, pciWriteConfigWord } from './pci-dev.ts';
import {
  PCI_COMMAND,
  PCI_COMMAND_INTX_DISABLE,
  PCI_MSI_ADDRESS_HI,
  PCI_MSI_ADDRESS_LO,
  PCI_MSI_DATA_32,
  PCI_MSI_DATA_64,
  PCI_MSI_FLAGS,
  PCI_MSI_FLAGS_64BIT,
  PCI_MSI_FLAGS_ENABLE,
  PCI_MSI_FLAGS_MASKBIT,
  PCI_MSI_FLAGS_QMASK,
  PCI_MSI_FLAGS_QSIZE,
  PCI_MSI_MASK_32,
  PCI_MSI_MASK_64,
} from './pci-regs.ts';

/** The pin may be used. @linux PCI_IRQ_INTX, PCI_IRQ_LEGACY */
export const PCI_IRQ_INTX = 1;
/** Messages may be used. @linux PCI_IRQ_MSI */
export const PCI_IRQ_MSI = 2;
/** Both. (MSI-X is not offered: functions that have it are served by MSI.) @linux PCI_IRQ_ALL_TYPES */
export const PCI_IRQ_ALL_TYPES = PCI_IRQ_INTX | PCI_IRQ_MSI;

/** Switch the pin on or off. @linux pci_intx */
export function pciIntx(dev: PciDev, enable: boolean): void {
  const command = pciReadConfigWord(dev, PCI_COMMAND);
  const wanted = enable ? command & ~PCI_COMMAND_INTX_DISABLE : command | PCI_COMMAND_INTX_DISABLE;
  if (wanted !== command) pciWriteConfigWord(dev, PCI_COMMAND, wanted);
}

/** How many messages the function could send, a power of two; EINVAL without the capability. @linux pci_msi_vec_count */
export function pciMsiVecCount(dev: PciDev): number | Errno {
  if (dev.msiCap === 0) return EINVAL;
  const flags = pciReadConfigWord(dev, dev.msiCap + PCI_MSI_FLAGS);
  return 1 << ((flags & PCI_MSI_FLAGS_QMASK) >>> 1);
}

/**
 * Get at least `min` and at most `max` interrupt vectors: messages when `flags` has PCI_IRQ_MSI and the function offers
 * them, otherwise its pin when `flags` has PCI_IRQ_INTX and one vector is enough. Returns how many. ENOSPC when there
 * are not enough, EINVAL when it has messages already. As on x86 without interrupt remapping, a function gets one
 * message at most. `pci=nomsi` switches messages off. May sleep. @linux pci_alloc_irq_vectors
 */
export function pciAllocIrqVectors(dev: PciDev, min: number, max: number, flags: number): number | Errno {
  if (min < 1 || max < min) return EINVAL;
  if ((flags & PCI_IRQ_MSI) !== 0 && dev.msiCap !== 0 && !noMsi(dev)) {
    if (dev.msiEnabled) return EINVAL;
    if (min === 1 && enableMsi(dev) === OK) return 1;
  }
  if ((flags & PCI_IRQ_INTX) !== 0 && min === 1 && dev.irq >= 0) {
    pciIntx(dev, true);
    return 1;
  }
  return ENOSPC;
}
function noMsi(dev: PciDev): boolean {
  return (dev.kernel.cmdline.get('pci') ?? '').split(',').includes('nomsi');
}

/** As msi_capability_init does. */
function enableMsi(dev: PciDev): Errno {
  let vector: MsiVector;
  try {
    vector = dev.kernel.machine.allocateMsi();
  } catch {
    return ENOSPC; // the machine has none, or none left
  }
  const address = dev.kernel.msiAddress === null ? vector.address : dev.kernel.msiAddress(dev, vector.address);
  if (address < 0) {
    dev.kernel.machine.freeMsi(vector);
    return address as Errno;
  }
  const cap = dev.msiCap;
  const flags = pciReadConfigWord(dev, cap + PCI_MSI_FLAGS) & ~(PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE);
  pciWriteConfigWord(dev, cap + PCI_MSI_FLAGS, flags);
  pciWriteConfigDword(dev, cap + PCI_MSI_ADDRESS_LO, lo32(address));
  const is64 = (flags & PCI_MSI_FLAGS_64BIT) !== 0;
  if (is64) pciWriteConfigDword(dev, cap + PCI_MSI_ADDRESS_HI, hi32(address));
  else if (hi32(address) !== 0) {
    dev.kernel.machine.freeMsi(vector);
    return ENOSPC;
  }
  pciWriteConfigWord(dev, cap + (is64 ? PCI_MSI_DATA_64 : PCI_MSI_DATA_32), vector.data);
  if ((flags & PCI_MSI_FLAGS_MASKBIT) !== 0) {
    pciWriteConfigDword(dev, cap + (is64 ? PCI_MSI_MASK_64 : PCI_MSI_MASK_32), 0);
  }
  pciIntx(dev, false);
  pciWriteConfigWord(dev, cap + PCI_MSI_FLAGS, flags | PCI_MSI_FLAGS_ENABLE);
  dev.msiVectors = [vector];
  dev.msiEnabled = true;
  return OK;
}

/** Give the vectors back; their handlers must be freed before. @linux pci_free_irq_vectors */
export function pciFreeIrqVectors(dev: PciDev): void {
  if (!dev.msiEnabled) return;
  const flags = pciReadConfigWord(dev, dev.msiCap + PCI_MSI_FLAGS);
  pciWriteConfigWord(dev, dev.msiCap + PCI_MSI_FLAGS, flags & ~PCI_MSI_FLAGS_ENABLE);
  pciIntx(dev, true);
  for (const vector of dev.msiVectors) {
    const actions = dev.kernel.irqs.descs.get(vector.line)?.actions.length ?? 0;
    if (actions > 0) {
      splat(dev.kernel, 'irq', `WARNING: ${dev.name}: freeing the vector of irq ${vector.line}, which has a handler`);
    }
    dev.kernel.machine.freeMsi(vector);
  }
  dev.msiVectors = [];
  dev.msiEnabled = false;
}

/** The line of vector `nr`, to request; EINVAL when there is none. @linux pci_irq_vector */
export function pciIrqVector(dev: PciDev, nr: number): number | Errno {
  if (dev.msiEnabled) return dev.msiVectors[nr]?.line ?? EINVAL;
  return nr === 0 && dev.irq >= 0 ? dev.irq : EINVAL;
}

/** One message, as drivers asked before vectors: then `pciIrqVector(dev, 0)` is its line. @linux pci_enable_msi */
export function pciEnableMsi(dev: PciDev): Errno {
  const vectors = pciAllocIrqVectors(dev, 1, 1, PCI_IRQ_MSI);
  return vectors < 0 ? (vectors as Errno) : OK;
}
/** @linux pci_disable_msi */
export function pciDisableMsi(dev: PciDev): void {
  pciFreeIrqVectors(dev);
}
