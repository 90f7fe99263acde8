import { dmaAddr, physAddr } from '../base/addr.ts';
import { directRig } from './direct-rig.cases.ts';
import { mappingOpsCases } from './ops.cases.ts';

mappingOpsCases({
  name: 'direct, coherent',
  seesMemory: true,
  cached: false,
  isolates: false,
  make: (options) => directRig({ ...options, coherent: true }),
});
mappingOpsCases({
  name: 'direct, non-coherent',
  seesMemory: false,
  cached: true,
  isolates: false,
  make: (options) => directRig({ ...options, coherent: false, cacheLineBytes: 32 }),
});
mappingOpsCases({
  name: 'direct, non-coherent, weakly ordered, at a bus offset',
  seesMemory: false,
  cached: true,
  isolates: false,
  make: (options) =>
    directRig({
      ...options,
      coherent: false,
      cacheLineBytes: 64,
      weaklyOrdered: true,
      busOffset: 0xc000_0000,
      dmaRangeMap: [{ cpuStart: physAddr(0), dmaStart: dmaAddr(0xc000_0000), sizeBytes: 0x3f00_0000 }],
    }),
});
