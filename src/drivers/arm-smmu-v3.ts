/**
 * Driver of Arm's SMMUv3, found in the device tree ("arm,smmu-v3"). It serves the devices whose nodes, or whose PCI host
 * bridge's, point to it (`iommus`, `iommu-map`). Boot arguments: `arm_smmu_v3.disable_bypass=0` lets streams that nobody
 * has configured through, and those of the IOMMU layer: `iommu.passthrough`, `iommu.strict`, `iommu.forcedac`.
 */
import { addrAdd, dmaBitMask } from '../base/addr.ts';
import { EINVAL, ENODEV, ENOMEM, type Errno, isErr, OK } from '../base/errno.ts';
import {
  flag,
  IOMMU_MMIO,
  IOMMU_NOEXEC,
  IOMMU_WRITE,
  type IommuGroup,
  type IommuOps,
  iommuDeviceRegister,
  iommuDeviceUnregister,
  iommuDmaPrepareMsi,
  iommuGroupAlloc,
  ofIommuSpec,
  type ResvRegion,
} from '../iommu/index.ts';
import {
  type Device,
  type DeviceDriver,
  devErr,
  devGetDrvdata,
  devmIoremapResource,
  devSetDrvdata,
  devWarn,
  ofDmaIsCoherent,
  type PciDev,
  platformBus,
  platformGetResource,
  toPciDev,
} from '../kernel/index.ts';
import { dmaSetMaskAndCoherent } from '../mapping/index.ts';
import { SMMU, SMMU_PAGE_BYTES, SMMU_SIZE_BYTES } from '../regs/smmu-v3.ts';
import { ArmSmmuDevice, Feature } from './arm-smmu-v3-device.ts';
import { ArmSmmuDomain, ArmSmmuIdentityDomain } from './arm-smmu-v3-domain.ts';
import { ENTRY_WORDS, makeAbortSte, makeBypassSte } from './arm-smmu-v3-entry.ts';
import { armSmmuSetupIrqs } from './arm-smmu-v3-irq.ts';
import { ArmSmmuMaster } from './arm-smmu-v3-master.ts';
import { SmmuCmdq, SmmuEvtq } from './arm-smmu-v3-queue.ts';
import { StreamTable } from './arm-smmu-v3-strtab.ts';

/** Where interrupt doorbells are mapped in domains of one's own. @linux MSI_IOVA_BASE, MSI_IOVA_LENGTH */
export const MSI_IOVA_BASE = 0x800_0000;
const MSI_IOVA_LENGTH = 0x10_0000;

/** The driver's state for a unit. */
class ArmSmmuInstance {
  readonly smmu: ArmSmmuDevice;
  readonly ops: IommuOps;
  readonly #masters = new Map<Device, ArmSmmuMaster>();
  readonly #streams = new Map<number, ArmSmmuMaster>();
  /** Groups by PCI slot, for functions that can reach each other. */
  readonly #slotGroups = new Map<number, IommuGroup>();

  constructor(smmu: ArmSmmuDevice) {
    this.smmu = smmu;
    const identityDomain = new ArmSmmuIdentityDomain(smmu, this.masterOf);
    this.ops = {
      name: 'arm-smmu-v3',
      probeDevice: (dev) => this.#probeDevice(dev),
      releaseDevice: (dev) => this.#releaseDevice(dev),
      deviceGroup: (dev) => this.#groupOf(dev),
      domainAllocPaging: (_dev, type) => ArmSmmuDomain.make(smmu, type, this.masterOf),
      identityDomain,
      getResvRegions: () => reservedRegions(),
    };
  }
  readonly masterOf = (dev: Device): ArmSmmuMaster | null => this.#masters.get(dev) ?? null;
  readonly deviceOf = (sid: number): Device | null => this.#streams.get(sid)?.dev ?? null;

  #probeDevice(dev: Device): Errno {
    const spec = ofIommuSpec(dev);
    if (spec === null || spec.node !== this.smmu.dev.ofNode) return ENODEV;
    const master = new ArmSmmuMaster(this.smmu, dev, spec.ids);
    const taken = master.streams.find((sid) => this.#streams.has(sid));
    if (taken !== undefined) {
      devWarn(dev, `stream ${taken} already in tree from dev ${this.#streams.get(taken)!.dev.name}`);
      return EINVAL;
    }
    const error = master.prepare();
    if (error !== OK) return error;
    for (const sid of master.streams) this.#streams.set(sid, master);
    this.#masters.set(dev, master);
    return OK;
  }
  #releaseDevice(dev: Device): void {
    const master = this.#masters.get(dev);
    if (master === undefined) return;
    master.release();
    for (const sid of master.streams) this.#streams.delete(sid);
    this.#masters.delete(dev);
  }

  /** Functions of one device that may reach each other without passing the SMMU share a group. */
  #groupOf(dev: Device): IommuGroup {
    const pdev: PciDev | null = toPciDev(dev);
    if (pdev === null || !pdev.multifunction) return iommuGroupAlloc(this.smmu.kernel);
    const slot = pdev.bdf >>> 3;
    const known = this.#slotGroups.get(slot);
    if (known !== undefined && known.devices.length > 0) return known;
    const group = iommuGroupAlloc(this.smmu.kernel);
    this.#slotGroups.set(slot, group);
    return group;
  }
}

function reservedRegions(): ResvRegion[] {
  const prot = IOMMU_WRITE | IOMMU_NOEXEC | IOMMU_MMIO;
  return [{ start: MSI_IOVA_BASE, sizeBytes: MSI_IOVA_LENGTH, type: 'sw-msi', prot }];
}

async function probe(dev: Device): Promise<Errno> {
  const smmu = mapRegisters(dev);
  if (isErr(smmu)) return smmu;
  if (smmu.isAbsent) {
    devErr(dev, 'nothing answers at its registers');
    return ENODEV;
  }
  const cells = dev.ofNode?.properties.get('#iommu-cells');
  if (cells === undefined) devErr(dev, 'missing #iommu-cells property');
  const coherent = dev.kernel.machine.traits.coherent || (dev.ofNode !== null && ofDmaIsCoherent(dev.ofNode));
  let error = smmu.readFeatures(coherent);
  if (error !== OK) return error;
  if (dmaSetMaskAndCoherent(dev, dmaBitMask(smmu.oas)) !== OK) devWarn(dev, 'failed to set DMA mask for table walker');
  if (!initStructures(smmu)) {
    freeStructures(smmu);
    return ENOMEM;
  }
  const instance = new ArmSmmuInstance(smmu);
  devSetDrvdata(dev, instance);
  error = await smmu.reset(() => armSmmuSetupIrqs(smmu, instance.deviceOf));
  if (error === OK) {
    dev.kernel.msiAddress = iommuDmaPrepareMsi;
    error = iommuDeviceRegister(dev.kernel, instance.ops);
    if (error === OK) return OK;
    devErr(dev, 'Failed to register iommu');
  }
  await smmu.disable();
  freeStructures(smmu);
  return error;
}

function mapRegisters(dev: Device): ArmSmmuDevice | Errno {
  const resource = platformGetResource(dev, 0);
  if (resource === null || resource.sizeBytes < SMMU_SIZE_BYTES) {
    devErr(dev, `MMIO region too small (${resource?.sizeBytes ?? 0} bytes)`);
    return EINVAL;
  }
  const page0 = devmIoremapResource(dev, { ...resource, sizeBytes: SMMU_PAGE_BYTES });
  if (isErr(page0)) return page0;
  const start = addrAdd(page0.phys, SMMU_PAGE_BYTES);
  const page1 = devmIoremapResource(dev, { ...resource, start, sizeBytes: SMMU_PAGE_BYTES });
  return isErr(page1) ? page1 : new ArmSmmuDevice(dev, page0, page1);
}

/** False without memory. */
function initStructures(smmu: ArmSmmuDevice): boolean {
  const { dev, io } = smmu;
  const cmdq = SmmuCmdq.make(dev, io, smmu.commandBits, smmu.msiPoll);
  if (cmdq === null) return false;
  smmu.cmdq = cmdq;
  const evtq = SmmuEvtq.make(dev, io, smmu.page1, smmu.eventBits);
  if (evtq === null) return false;
  smmu.evtq = evtq;
  const initial = new Int32Array(ENTRY_WORDS);
  if (flag(dev.kernel.cmdline.get('arm_smmu_v3.disable_bypass')) ?? true) makeAbortSte(initial);
  else makeBypassSte(initial, smmu.can(Feature.ATTR_TYPES_OVR));
  const strtab = StreamTable.make(dev, smmu.sidBits, smmu.can(Feature.TWO_LEVEL_STRTAB), initial);
  if (strtab === null) return false;
  smmu.strtab = strtab;
  return true;
}
function freeStructures(smmu: Partial<Pick<ArmSmmuDevice, 'cmdq' | 'evtq' | 'strtab'>>): void {
  smmu.cmdq?.free();
  smmu.evtq?.free();
  smmu.strtab?.free();
}

async function remove(dev: Device): Promise<void> {
  const { smmu, ops } = devGetDrvdata<ArmSmmuInstance>(dev);
  iommuDeviceUnregister(dev.kernel, ops);
  if (dev.kernel.msiAddress === iommuDmaPrepareMsi) dev.kernel.msiAddress = null;
  // Devices that are still there reach nothing.
  await smmu.updateGbpa(SMMU.GBPA.ABORT.mask, 0);
  await smmu.disable();
  freeStructures(smmu);
}

/** The driver. */
export const armSmmuV3Driver: DeviceDriver = {
  name: 'arm-smmu-v3',
  bus: platformBus,
  compatible: ['arm,smmu-v3'],
  probe,
  remove,
};
