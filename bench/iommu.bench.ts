// What a mapping costs behind a VT-d unit: the driver's page tables and invalidation queue, and the unit's own work.
import { dmaBitMask } from '../src/base/addr.ts';
import { type VtdSystem, vtdSystem } from '../src/boards/vtd-rig.cases.ts';
import { DMA_TO_DEVICE } from '../src/kernel/index.ts';
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

const STRICT = 'intel_iommu=on iommu.strict=1';
const SG_PAGES = 16;

function system(cmdline: string, live = 0): VtdSystem {
  const made = vtdSystem({ cmdline, ramBytes: 128 << 20 });
  dmaSetMask(made.dev, dmaBitMask(64));
  const page = made.page();
  for (let i = 0; i < live; i++) dmaMapPage(made.dev, page, 0, 4096, DMA_TO_DEVICE);
  return made;
}
function pair(made: VtdSystem): Case {
  const { dev } = made;
  const page = made.page();
  return (n) => {
    for (let i = 0; i < n; i++) {
      const addr = dmaMapPage(dev, page, 0, 4096, DMA_TO_DEVICE);
      dmaUnmapPage(dev, addr, 4096, DMA_TO_DEVICE);
    }
  };
}
function scattered(made: VtdSystem): Case {
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
function access(made: VtdSystem, translated: boolean): Case {
  const page = made.page();
  const addr = translated ? dmaMapPage(made.dev, page, 0, 4096, DMA_TO_DEVICE) : made.phys(page);
  const master = translated ? made.master : made.machine.busMaster({ name: 'untranslated' });
  return (n) => {
    for (let i = 0; i < n; i++) master.read32(addr + 4 * (i & 1023));
  };
}

const strict = system(STRICT);
const high = `${STRICT} iommu.forcedac=1`;
bench('iommu', {
  'map + unmap, strict': pair(strict),
  'map + unmap, lazy': pair(system('intel_iommu=on iommu.strict=0')),
  'map_sg + unmap of 16 pages, strict': scattered(strict),
  'map_sg + unmap of 16 pages, lazy': scattered(system('intel_iommu=on iommu.strict=0')),
  'map + unmap, strict, above 4 GiB': pair(system(high)),
  'the same with 100,000 live': pair(system(high, 100_000)),
  'the same with 1,000,000 live': pair(system(high, 1_000_000)),
  'device reads a word, translated': access(strict, true),
  'device reads a word, not translated': access(strict, false),
});
