import { dmaBitMask } from '../base/addr.ts';
import { DMA_TO_DEVICE } from '../kernel/index.ts';
import { dmaMapPage, dmaUnmapPage } from '../mapping/index.ts';
import { type MappingRig, type MappingRigOptions, mappingOpsCases } from '../mapping/ops.cases.ts';
import { type SmmuSystemOptions, smmuSystem } from './smmu-rig.cases.ts';

const RAM_BYTES = 4 << 20;

async function rig(options: MappingRigOptions, system: SmmuSystemOptions): Promise<MappingRig> {
  const made = await smmuSystem({ ramBytes: RAM_BYTES, seed: options.seed, cacheNoise: options.cacheNoise, ...system });
  const { kernel, dev, master } = made;
  dev.dmaMask = dmaBitMask(32);
  dev.coherentDmaMask = dmaBitMask(32);
  // The first mapping makes tables, which stay: nobody takes them for what the suite's own mappings keep.
  await kernel.run(() => {
    dmaUnmapPage(dev, dmaMapPage(dev, made.page(), 0, 4096, DMA_TO_DEVICE), 4096, DMA_TO_DEVICE);
  });
  return {
    kernel,
    dev,
    ramBytes: RAM_BYTES,
    deviceRead(addr, sizeBytes) {
      const bytes = new Uint8Array(sizeBytes);
      return master.read(addr, bytes, 0, sizeBytes) === 0 ? bytes : null;
    },
    deviceWrite: (addr, bytes) => master.write(addr, bytes, 0, bytes.length) === 0,
  };
}
const SKIPS = {
  'memory without kernel mapping is reached by the device alone':
    'dma-iommu maps it for the CPU nevertheless, as in Linux 6.12',
};
const COHERENT = { seesMemory: true, cached: false };
const LINEAR = { twoLevelStreams: false, streamIdBits: 9 };

mappingOpsCases({
  name: 'SMMUv3, strict',
  skips: SKIPS,
  ...COHERENT,
  isolates: true,
  make: (options) => rig(options, {}),
});
mappingOpsCases({
  name: 'SMMUv3, lazy',
  skips: SKIPS,
  ...COHERENT,
  isolates: false,
  make: (options) => rig(options, { cmdline: 'iommu.strict=0' }),
});
mappingOpsCases({
  name: 'SMMUv3, passthrough',
  ...COHERENT,
  isolates: false,
  make: (options) => rig(options, { cmdline: 'iommu.passthrough=1' }),
});
mappingOpsCases({
  name: 'SMMUv3, stage 2, linear stream table, without ranges and messages',
  skips: SKIPS,
  ...COHERENT,
  isolates: true,
  make: (options) =>
    rig(options, { unit: { stage1: false, addressBits: 40, rangeInvalidation: false, msi: false, ...LINEAR } }),
});
mappingOpsCases({
  name: 'SMMUv3, nothing coherent: neither device nor walker',
  skips: SKIPS,
  seesMemory: false,
  cached: true,
  isolates: true,
  make: (options) => rig(options, { coherent: false }),
});
