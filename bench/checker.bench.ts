// What checking costs: the same mapping calls without an observer, with a checker, and the ledger by itself.

import { dmaBitMask } from '../src/base/addr.ts';
import { attachChecker } from '../src/checker/index.ts';
import { Ledger } from '../src/checker/ledger.ts';
import { Device, GFP_KERNEL, Kernel, kmalloc } from '../src/kernel/index.ts';
import { SimMachine } from '../src/machine/index.ts';
import {
  DMA_TO_DEVICE,
  dmaMappingError,
  dmaMapSingle,
  dmaSyncSingleForCpu,
  dmaSyncSingleForDevice,
  dmaUnmapSingle,
} from '../src/mapping/index.ts';
import { bench } from './harness.ts';

function setUp(checked: boolean, places: boolean, live = 0) {
  const ram = [{ base: 0, sizeBytes: 512 << 20 }];
  const machine = new SimMachine({ name: 'bench', coherent: true, seed: 1, ram });
  const kernel = new Kernel(machine);
  if (checked) attachChecker({ machine, kernel }, { places });
  const dev = new Device(kernel, 'bench0');
  dev.dmaMask = dmaBitMask(64);
  kernel.devices.push(dev);
  for (let i = 0; i < live; i++) dmaMapSingle(dev, kmalloc(kernel, 2048, GFP_KERNEL)!, DMA_TO_DEVICE);
  const mem = kmalloc(kernel, 4096, GFP_KERNEL)!;
  const master = machine.busMaster({ name: 'bench0' });
  return { dev, mem, master };
}

function pair(checked: boolean, places: boolean, live = 0) {
  const { dev, mem } = setUp(checked, places, live);
  return (n: number) => {
    for (let i = 0; i < n; i++) {
      const addr = dmaMapSingle(dev, mem, DMA_TO_DEVICE);
      if (dmaMappingError(dev, addr) !== 0) throw new Error('the mapping failed');
      dmaUnmapSingle(dev, addr, 4096, DMA_TO_DEVICE);
    }
  };
}
function syncs() {
  const { dev, mem } = setUp(true, false);
  const addr = dmaMapSingle(dev, mem, DMA_TO_DEVICE);
  return (n: number) => {
    for (let i = 0; i < n; i++) {
      dmaSyncSingleForCpu(dev, addr, 4096, DMA_TO_DEVICE);
      dmaSyncSingleForDevice(dev, addr, 4096, DMA_TO_DEVICE);
    }
  };
}
function reads(checked: boolean) {
  const { dev, mem, master } = setUp(checked, false);
  const addr = dmaMapSingle(dev, mem, DMA_TO_DEVICE);
  const into = new Uint8Array(64);
  return (n: number) => {
    for (let i = 0; i < n; i++) master.read(addr + (i & 63) * 64, into, 0, 64);
  };
}
const ledger = new Ledger();

bench('checker', {
  'map + check + unmap, no checker': pair(false, false),
  'the same, checked, without places': pair(true, false),
  'the same, checked, with places': pair(true, true),
  'the same, without places, 100,000 other mappings': pair(true, false, 100_000),
  'the ledger alone: add + find + remove': (n) => {
    for (let i = 0; i < n; i++) {
      const at = 0x1000_0000 + (i & 1023) * 4096;
      ledger.add(1, 0, at, at, 4096, 1, 0, 0, i);
      ledger.remove(ledger.find(1, at, 4096, 0, 1));
    }
  },
  'sync for cpu + for device, checked': syncs(),
  'device reads 64 bytes, no checker': reads(false),
  'device reads 64 bytes, checked': reads(true),
});
