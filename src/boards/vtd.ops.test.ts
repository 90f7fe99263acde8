import { dmaBitMask } from '../base/addr.ts';
import { DMA_TO_DEVICE } from '../kernel/index.ts';
import { dmaMapPage, dmaUnmapPage } from '../mapping/index.ts';
import { type MappingRig, type MappingRigOptions, mappingOpsCases } from '../mapping/ops.cases.ts';
import { type VtdSystemOptions, vtdSystem } from './vtd-rig.cases.ts';

const RAM_BYTES = 4 << 20;

function rig(options: MappingRigOptions, system: VtdSystemOptions): MappingRig {
  const made = vtdSystem({ ramBytes: RAM_BYTES, seed: options.seed, cacheNoise: options.cacheNoise, ...system });
  const { kernel, dev, master } = made;
  dev.dmaMask = dmaBitMask(32);
  dev.coherentDmaMask = dmaBitMask(32);
  // The first mapping makes page tables, which stay: nobody takes them for what the suite's own mappings keep.
  dmaUnmapPage(dev, dmaMapPage(dev, made.page(), 0, 4096, DMA_TO_DEVICE), 4096, DMA_TO_DEVICE);
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
const STRICT = 'intel_iommu=on iommu.strict=1';
const SKIPS = {
  'memory without kernel mapping is reached by the device alone':
    'dma-iommu maps it for the CPU nevertheless, as in Linux 6.12',
};
const COHERENT = { seesMemory: true, cached: false };

mappingOpsCases({
  name: 'VT-d, strict',
  skips: SKIPS,
  ...COHERENT,
  isolates: true,
  make: (options) => rig(options, { cmdline: STRICT }),
});
mappingOpsCases({
  name: 'VT-d, lazy',
  skips: SKIPS,
  ...COHERENT,
  isolates: false,
  make: (options) => rig(options, { cmdline: 'intel_iommu=on iommu.strict=0' }),
});
mappingOpsCases({
  name: 'VT-d, passthrough',
  ...COHERENT,
  isolates: false,
  make: (options) => rig(options, { cmdline: 'intel_iommu=on iommu=pt' }),
});
mappingOpsCases({
  name: 'VT-d, 48 bits, in caching mode, by registers',
  skips: SKIPS,
  ...COHERENT,
  isolates: true,
  make: (options) =>
    rig(options, { cmdline: STRICT, unit: { awBits: 48, cachingMode: true, queuedInvalidation: false } }),
});
mappingOpsCases({
  name: 'VT-d, nothing coherent: neither device nor walker',
  skips: SKIPS,
  seesMemory: false,
  cached: true,
  isolates: true,
  make: (options) => rig(options, { cmdline: STRICT, coherent: false, unit: { coherent: false } }),
});
