/**
 * The suite of mapping back ends for the devices of booted boards: there, masks, windows, IOMMU and bounce buffers are
 * what the board and its firmware make of them.
 */
import { dmaBitMask } from '../base/index.ts';
import { DMA_TO_DEVICE, GFP_KERNEL, getFreePages } from '../kernel/index.ts';
import { BusStatus } from '../machine/index.ts';
import { dmaMapSingle, dmaSetMaskAndCoherent, dmaUnmapSingle } from '../mapping/index.ts';
import { type MappingRig, type MappingRigOptions, mappingOpsCases } from '../mapping/ops.cases.ts';
import type { Board } from './board.ts';
import { boards } from './index.ts';
import { modesOf, settingOf } from './program-modes.cases.ts';
import { ProgramRig } from './program-rig.cases.ts';

const RAM_BYTES = 64 << 20;

async function rigOf(board: Board, mode: string, options: MappingRigOptions): Promise<MappingRig> {
  const rig = await ProgramRig.boot(board, { ...settingOf(mode), ...options, ramBytes: RAM_BYTES });
  await rig.system.run(() => {
    rig.findDevices({});
    const { dev } = rig.devices[0]!;
    dmaSetMaskAndCoherent(dev, dmaBitMask(32));
    // The first mapping makes page tables, which stay.
    const mem = getFreePages(rig.kernel, GFP_KERNEL, 0)!;
    dmaUnmapSingle(dev, dmaMapSingle(dev, mem, DMA_TO_DEVICE), 4096, DMA_TO_DEVICE);
  });
  const { dev, bus } = rig.devices[0]!;
  return {
    kernel: rig.kernel,
    dev,
    ramBytes: RAM_BYTES,
    deviceRead(addr, sizeBytes) {
      const bytes = new Uint8Array(sizeBytes);
      return bus.read(addr, bytes, 0, sizeBytes) === BusStatus.OK ? bytes : null;
    },
    deviceWrite: (addr, bytes) => bus.write(addr, bytes, 0, bytes.length) === BusStatus.OK,
  };
}

const SLOW = 'a board takes too long to boot for every seed: properties.test.ts runs random programs on it';
const EVERYWHERE = {
  'correct use is right for 1,000 seeds with cache noise': SLOW,
  'random programs of map, sync, access and unmap leave exactly the bytes the rules promise': SLOW,
};
const TRANSLATED = {
  'memory without kernel mapping is reached by the device alone':
    'dma-iommu maps it for the CPU nevertheless, as in Linux 6.12',
};
const UNTRUSTED = {
  'an address keeps the offset in its page': 'what bounces for a device that is not trusted begins at a page',
};

const BUS_LIMIT = {
  'a coherent mask of 0 is warned of, and gets no memory without IOMMU':
    'where the bus has a limit, that counts instead of a mask of 0: min_not_zero()',
};

for (const board of boards) {
  // The suite's own tests have bounce buffers and caches; those of the IOMMUs have the other modes.
  for (const mode of modesOf(board).filter((text) => text === '' || text.includes('iommu=strict'))) {
    const { dev } = await rigOf(board, mode, { seed: 1, cacheNoise: 'off' });
    const translated = dev.dmaOps !== null;
    mappingOpsCases({
      name: `${board.name}${mode === '' ? '' : `, ${mode}`}`,
      seesMemory: dev.dmaCoherent,
      cached: !dev.dmaCoherent,
      isolates: translated,
      make: (options) => rigOf(board, mode, options),
      skips: {
        ...EVERYWHERE,
        ...(translated ? TRANSLATED : {}),
        ...(dev.untrusted ? UNTRUSTED : {}),
        ...(!translated && dev.busDmaLimit !== 0 ? BUS_LIMIT : {}),
      },
    });
  }
}
