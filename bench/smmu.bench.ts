// What a mapping costs behind an SMMUv3: the driver's tables and command queue, and the unit's own work.
import { dmaBitMask } from '../src/base/addr.ts';
import { type SmmuSystem, type SmmuSystemOptions, smmuSystem } from '../src/boards/smmu-rig.cases.ts';
import { DMA_TO_DEVICE, pageToPhys } from '../src/kernel/index.ts';
import {
  dmaMapPage,
  dmaMapSg,
  dmaSetMask,
  dmaUnmapPage,
  dmaUnmapSg,
  sgAlloc,
  sgNext,
  sgSetPage,
} from '../src/mapping/index.ts';
import { bench, type Case } from './harness.ts';

const LAZY = 'iommu.strict=0';
const HIGH = 'iommu.strict=1 iommu.forcedac=1';
const SG_PAGES = 16;

async function system(options: SmmuSystemOptions, live = 0): Promise<SmmuSystem> {
  const made = await smmuSystem({
    ramBytes: 128 << 20,
    unit: { commandQueueBits: 16, eventQueueBits: 15 },
    ...options,
  });
  dmaSetMask(made.dev, dmaBitMask(48));
  const page = made.page();
  for (let i = 0; i < live; i++) dmaMapPage(made.dev, page, 0, 4096, DMA_TO_DEVICE);
  return made;
}
function pair(made: SmmuSystem): Case {
  const { dev } = made;
  const page = made.page();
  return (n) => {
    for (let i = 0; i < n; i++) {
      const addr = dmaMapPage(dev, page, 0, 4096, DMA_TO_DEVICE);
      dmaUnmapPage(dev, addr, 4096, DMA_TO_DEVICE);
    }
  };
}
function scattered(made: SmmuSystem): Case {
  const { dev } = made;
  const sgl = sgAlloc(SG_PAGES);
  let sg: ReturnType<typeof sgNext> = sgl;
  for (let i = 0; i < SG_PAGES; i++, sg = sgNext(sg!)) {
    made.page(); // so that no two are neighbours
    sgSetPage(sg!, made.page(), 4096, 0);
  }
  return (n) => {
    for (let i = 0; i < n; i++) {
      dmaMapSg(dev, sgl, SG_PAGES, DMA_TO_DEVICE);
      dmaUnmapSg(dev, sgl, SG_PAGES, DMA_TO_DEVICE);
    }
  };
}
function access(made: SmmuSystem, translated: boolean): Case {
  const page = made.page();
  const addr = translated ? dmaMapPage(made.dev, page, 0, 4096, DMA_TO_DEVICE) : pageToPhys(page);
  const master = translated ? made.master : made.machine.busMaster({ name: 'untranslated' });
  return (n) => {
    for (let i = 0; i < n; i++) master.read32(addr + 4 * (i & 1023));
  };
}

const strict = await system({});
bench('smmu', {
  'map + unmap, strict': pair(strict),
  'map + unmap, strict, completion by register': pair(await system({ unit: { msi: false } })),
  'map + unmap, strict, stage 2': pair(await system({ unit: { stage1: false } })),
  'map + unmap, lazy': pair(await system({ cmdline: LAZY })),
  'map_sg + unmap of 16 pages, strict': scattered(strict),
  'map_sg + unmap of 16 pages, lazy': scattered(await system({ cmdline: LAZY })),
  'map + unmap, strict, above 4 GiB': pair(await system({ cmdline: HIGH })),
  'the same with 100,000 live': pair(await system({ cmdline: HIGH }, 100_000)),
  'the same with 1,000,000 live': pair(await system({ cmdline: HIGH }, 1_000_000)),
  'device reads a word, translated': access(strict, true),
  'device reads a word, not translated': access(strict, false),
});
