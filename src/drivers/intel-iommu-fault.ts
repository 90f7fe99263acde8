/** Faults that a VT-d unit has recorded: read on its fault event, and told in the kernel's words. */
import { fromLoHi } from '../base/addr.ts';
import { type Errno, OK } from '../base/errno.ts';
import { iommuObserver } from '../iommu/index.ts';
import type { Device } from '../kernel/device.ts';
import {
  IRQ_HANDLED,
  type IrqReturn,
  type Kernel,
  PCI_FUNC,
  PCI_SLOT,
  prErr,
  readl,
  requestIrq,
  spinLockIrqsave,
  spinUnlockIrqrestore,
  writel,
} from '../kernel/index.ts';
import { Ratelimit } from '../kernel/ratelimit.ts';
import { VTD, VTD_FRCD } from '../regs/vtd.ts';
import type { IntelIommu } from './intel-iommu-unit.ts';

const { PFO, PPF, PRO, FRI } = VTD.FSTS;
const { F, FR, T } = VTD_FRCD.STATUS;
/** From one record to the next. */
const RECORD_BYTES = 16;

/** In the kernel: dma_remap_fault_reasons. */
const REASONS: readonly string[] = [
  'Software',
  'Present bit in root entry is clear',
  'Present bit in context entry is clear',
  'Invalid context entry',
  'Access beyond MGAW',
  'PTE Write access is not set',
  'PTE Read access is not set',
  'Next page table ptr is invalid',
  'Root table address invalid',
  'Context table ptr is invalid',
  'non-zero reserved fields in RTP',
  'non-zero reserved fields in CTP',
  'non-zero reserved fields in PTE',
  'PCE for translation request specifies blocking',
];

/** @linux dmar_get_fault_reason */
export function dmarFaultReason(reason: number): string {
  return REASONS[reason] ?? 'Unknown';
}

const KEY = {};
/** One for all units. */
function ratelimitOf(kernel: Kernel): Ratelimit {
  return kernel.subsystem(KEY, () => new Ratelimit(kernel, 'dmar_fault'));
}

/** Who is told besides the log: finds the device behind a source id, or null. */
export type DeviceOf = (unit: IntelIommu, source: number) => Device | null;

/** In the kernel: dmar_fault_do_one. */
function report(unit: IntelIommu, isRead: boolean, reason: number, source: number, addr: number): void {
  const kind = isRead ? 'DMA Read' : 'DMA Write';
  const code = reason.toString(16).padStart(2, '0');
  prErr(
    unit.kernel,
    `DMAR: [${kind} NO_PASID] Request device [${requester(source)}] fault addr 0x${addr.toString(16)} ` +
      `[fault reason 0x${code}] ${dmarFaultReason(reason)}`,
  );
}
/** `00:16.0` */
function requester(source: number): string {
  const hex = (n: number) => n.toString(16).padStart(2, '0');
  return `${hex(source >>> 8)}:${hex(PCI_SLOT(source & 0xff))}.${PCI_FUNC(source & 0xff)}`;
}

/** Read, clear and report everything that is recorded. Any context. @linux dmar_fault */
export function dmarFault(unit: IntelIommu, deviceOf: DeviceOf): IrqReturn {
  const { kernel, io } = unit;
  const ratelimit = ratelimitOf(kernel);
  const records = 16 * (VTD.CAP.FRO.get(unit.cap) + 256 * VTD.CAP_HI.FRO.get(unit.capHi));
  const count = VTD.CAP_HI.NFR.get(unit.capHi) + 1;
  let flags = spinLockIrqsave(unit.registerLock);
  const status = readl(io, VTD.FSTS.offset);
  if (status !== 0 && ratelimit.allow()) {
    prErr(kernel, `DMAR: DRHD: handling fault status reg ${status.toString(16)}`);
  }
  if (!PPF.test(status)) {
    spinUnlockIrqrestore(unit.registerLock, flags);
    return IRQ_HANDLED;
  }
  for (let index = FRI.get(status); ; index = (index + 1) % count) {
    const record = records + index * RECORD_BYTES;
    const last = readl(io, record + VTD_FRCD.STATUS.offset);
    if (!F.test(last)) break;
    const isPrinted = ratelimit.allow();
    const observer = iommuObserver(kernel);
    let source = 0;
    let addr = 0;
    if (isPrinted || observer !== null) {
      source = readl(io, record + VTD_FRCD.SOURCE.offset) & 0xffff;
      const page = VTD_FRCD.FI.FI.mask & readl(io, record + VTD_FRCD.FI.offset);
      addr = fromLoHi(page, readl(io, record + VTD_FRCD.FI_HI.offset));
    }
    writel(F.mask, io, record + VTD_FRCD.STATUS.offset);
    spinUnlockIrqrestore(unit.registerLock, flags);
    if (isPrinted) report(unit, T.test(last), FR.get(last), source, addr);
    if (observer !== null) {
      const reason = dmarFaultReason(FR.get(last));
      observer.fault?.(deviceOf(unit, source), requester(source), addr, !T.test(last), reason);
    }
    flags = spinLockIrqsave(unit.registerLock);
  }
  writel(PFO.mask | PPF.mask | PRO.mask, io, VTD.FSTS.offset);
  spinUnlockIrqrestore(unit.registerLock, flags);
  return IRQ_HANDLED;
}

/** Have the unit interrupt when it has recorded something. May sleep. @linux dmar_set_interrupt, dmar_msi_write */
export function dmarSetInterrupt(unit: IntelIommu, deviceOf: DeviceOf): Errno {
  const { kernel, io } = unit;
  if (unit.vector !== null) return OK;
  const vector = kernel.machine.allocateMsi();
  unit.vector = vector;
  const error = requestIrq(kernel, vector.line, () => dmarFault(unit, deviceOf), 0, unit.name, unit);
  if (error !== OK) {
    prErr(kernel, "DMAR: Can't request irq");
    return error;
  }
  writel(vector.data, io, VTD.FEDATA.offset);
  writel(vector.address, io, VTD.FEADDR.offset);
  writel(0, io, VTD.FEUADDR.offset);
  writel(0, io, VTD.FECTL.offset);
  readl(io, VTD.FECTL.offset);
  return OK;
}
