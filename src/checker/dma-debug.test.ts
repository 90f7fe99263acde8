/**
 * The cases of misuse that were tried on a real kernel with dma-debug (fixtures/dma-debug, variant `none`), done here:
 * what dma-debug reports is found, in its words; what it says nothing of is found where a rule knows better.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { DMA_MAPPING_ERROR, KernelBug } from '../base/index.ts';
import {
  type Device,
  GFP_KERNEL,
  kernelImage,
  kfree,
  localIrqRestore,
  localIrqSave,
  moduleData,
  taskStack,
  virtToPage,
  vmalloc,
  vmallocToPage,
} from '../kernel/index.ts';
import type { Mem } from '../machine/mem.ts';
import {
  DMA_ATTR_SKIP_CPU_SYNC,
  DMA_BIDIRECTIONAL,
  DMA_FROM_DEVICE,
  DMA_NONE,
  DMA_TO_DEVICE,
  type DmaAddr,
  type DmaDataDirection,
  dmaAllocCoherent,
  dmaFreeCoherent,
  dmaMapPage,
  dmaMappingError,
  dmaMapSg,
  dmaMapSingle,
  dmaMapSingleAttrs,
  dmaSyncSgForCpu,
  dmaSyncSingleForCpu,
  dmaSyncSingleForDevice,
  dmaSyncSingleRangeForCpu,
  dmaUnmapPage,
  dmaUnmapResource,
  dmaUnmapSg,
  dmaUnmapSingle,
  sgAlloc,
  sgNext,
  sgSetBuf,
} from '../mapping/index.ts';
import { kernelLineOf, type RuleId } from './finding.ts';
import { makeRig, NOWHERE, type Rig } from './rig.cases.ts';

type Facts = Record<string, { none: string[] }>;
const facts: Facts = JSON.parse(
  readFileSync(new URL('../../fixtures/dma-debug/summary.json', import.meta.url), 'utf8'),
);

/** dma-debug's line without addresses and the device: `device driver frees … [map size=4096 bytes] …`. */
function normal(line: string): string {
  return line
    .replace(/^DMA-API: \S+ [^ ]+?: /, '')
    .replace(/^DMA-API: \S+?: /, '')
    .replace(/(0x)+[0-9a-f]{16}/g, 'X')
    .replace(/ \[(probable )?addr=[0-9a-fX]+\]( \[len=\d+\])?/, '');
}
const reported = (name: string): string[] =>
  facts[name]!.none.filter((line) => line.startsWith('DMA-API: ') && !line.includes('Mapped at:')).map(normal);

interface Case {
  readonly name: string;
  readonly rules: readonly RuleId[];
  run(rig: Rig): void;
  /** Lines of dma-debug that say the same thing again, in other words. */
  readonly alsoSays?: RegExp;
}

function map(dev: Device, mem: Mem, dir: DmaDataDirection): DmaAddr {
  const addr = dmaMapSingle(dev, mem, dir);
  assert.equal(dmaMappingError(dev, addr), 0);
  return addr;
}
function list(rig: Rig, count: number) {
  const sg = sgAlloc(count);
  for (let at: typeof sg | null = sg; at !== null; at = sgNext(at)) sgSetBuf(at, rig.kmalloc(4096));
  return sg;
}
const bugs = (action: () => void) => assert.throws(action, KernelBug);

const cases: readonly Case[] = [
  {
    name: 'ok_reference',
    rules: [],
    run: (rig) => dmaUnmapSingle(rig.a.dev, map(rig.a.dev, rig.kmalloc(4096), DMA_TO_DEVICE), 4096, DMA_TO_DEVICE),
  },
  {
    name: 'unmap_never_mapped',
    rules: ['dma/unmap-unknown'],
    run: (rig) => dmaUnmapSingle(rig.a.dev, NOWHERE, 4096, DMA_TO_DEVICE),
  },
  {
    name: 'double_unmap',
    rules: ['dma/unmap-unknown'],
    run(rig) {
      const addr = map(rig.a.dev, rig.kmalloc(4096), DMA_TO_DEVICE);
      for (let i = 0; i < 2; i++) dmaUnmapSingle(rig.a.dev, addr, 4096, DMA_TO_DEVICE);
    },
  },
  {
    name: 'unmap_wrong_size_smaller',
    rules: ['dma/unmap-size'],
    run: (rig) => dmaUnmapSingle(rig.a.dev, map(rig.a.dev, rig.kmalloc(4096), DMA_TO_DEVICE), 2048, DMA_TO_DEVICE),
  },
  {
    name: 'unmap_wrong_size_larger',
    rules: ['dma/unmap-size'],
    run: (rig) => dmaUnmapSingle(rig.a.dev, map(rig.a.dev, rig.kmalloc(2048), DMA_TO_DEVICE), 4096, DMA_TO_DEVICE),
  },
  {
    name: 'unmap_wrong_offset',
    rules: ['dma/unmap-unknown'],
    run(rig) {
      const addr = map(rig.a.dev, rig.kmalloc(4096), DMA_TO_DEVICE);
      dmaUnmapSingle(rig.a.dev, (addr + 64) as DmaAddr, 4032, DMA_TO_DEVICE);
    },
  },
  {
    name: 'unmap_wrong_direction',
    rules: ['dma/unmap-direction'],
    run: (rig) => dmaUnmapSingle(rig.a.dev, map(rig.a.dev, rig.kmalloc(4096), DMA_TO_DEVICE), 4096, DMA_FROM_DEVICE),
  },
  {
    name: 'unmap_bidir_as_to',
    rules: ['dma/unmap-direction'],
    run: (rig) => dmaUnmapSingle(rig.a.dev, map(rig.a.dev, rig.kmalloc(4096), DMA_BIDIRECTIONAL), 4096, DMA_TO_DEVICE),
  },
  {
    name: 'single_unmapped_as_page',
    rules: [],
    run: (rig) => dmaUnmapPage(rig.a.dev, map(rig.a.dev, rig.kmalloc(4096), DMA_TO_DEVICE), 4096, DMA_TO_DEVICE),
  },
  {
    name: 'single_unmapped_as_resource',
    rules: ['dma/unmap-function'],
    run: (rig) => dmaUnmapResource(rig.a.dev, map(rig.a.dev, rig.kmalloc(4096), DMA_TO_DEVICE), 4096, DMA_TO_DEVICE, 0),
  },
  {
    name: 'single_unmapped_as_sg',
    rules: ['dma/unmap-function'],
    alsoSays: /different entry count/,
    run(rig) {
      const sg = list(rig, 1);
      sg.dmaAddress = map(rig.a.dev, rig.kmalloc(4096), DMA_TO_DEVICE);
      sg.dmaLength = 4096;
      dmaUnmapSg(rig.a.dev, sg, 1, DMA_TO_DEVICE);
    },
  },
  {
    name: 'sg_unmapped_as_single',
    rules: ['dma/unmap-function'],
    run(rig) {
      const sg = list(rig, 1);
      dmaMapSg(rig.a.dev, sg, 1, DMA_TO_DEVICE);
      dmaUnmapSingle(rig.a.dev, sg.dmaAddress, 4096, DMA_TO_DEVICE);
    },
  },
  {
    name: 'sg_unmap_fewer_nents',
    rules: ['dma/sg-nents'],
    run(rig) {
      const sg = list(rig, 4);
      dmaMapSg(rig.a.dev, sg, 4, DMA_TO_DEVICE);
      dmaUnmapSg(rig.a.dev, sg, 3, DMA_TO_DEVICE);
    },
  },
  {
    name: 'sg_unmap_returned_count',
    rules: [],
    run(rig) {
      const sg = list(rig, 4);
      dmaUnmapSg(rig.a.dev, sg, dmaMapSg(rig.a.dev, sg, 4, DMA_TO_DEVICE), DMA_TO_DEVICE);
    },
  },
  {
    name: 'sg_sync_fewer_nents',
    rules: [],
    run(rig) {
      const sg = list(rig, 4);
      dmaMapSg(rig.a.dev, sg, 4, DMA_FROM_DEVICE);
      dmaSyncSgForCpu(rig.a.dev, sg, 3, DMA_FROM_DEVICE);
      dmaUnmapSg(rig.a.dev, sg, 4, DMA_FROM_DEVICE);
    },
  },
  {
    name: 'free_coherent_wrong_size',
    rules: ['dma/free-size'],
    run(rig) {
      const ring = dmaAllocCoherent(rig.a.dev, 4096, GFP_KERNEL)!;
      dmaFreeCoherent(rig.a.dev, 2048, ring.mem, ring.handle);
    },
  },
  {
    // The page allocator notices the page that was left.
    name: 'free_coherent_wrong_size_pages',
    rules: ['dma/free-size', 'kernel/warning'],
    run(rig) {
      const ring = dmaAllocCoherent(rig.a.dev, 8192, GFP_KERNEL)!;
      dmaFreeCoherent(rig.a.dev, 4096, ring.mem, ring.handle);
    },
  },
  {
    name: 'free_coherent_wrong_cpu_addr',
    rules: ['dma/free-address', 'dma/free-address'],
    run(rig) {
      const one = dmaAllocCoherent(rig.a.dev, 4096, GFP_KERNEL)!;
      const two = dmaAllocCoherent(rig.a.dev, 4096, GFP_KERNEL)!;
      dmaFreeCoherent(rig.a.dev, 4096, two.mem, one.handle);
      dmaFreeCoherent(rig.a.dev, 4096, one.mem, two.handle);
    },
  },
  {
    name: 'free_coherent_never_allocated',
    rules: ['dma/free-address'],
    run(rig) {
      const page = rig.pages(0);
      dmaFreeCoherent(rig.a.dev, 4096, page, page.phys as unknown as DmaAddr);
    },
  },
  {
    name: 'map_single_freed_as_coherent',
    rules: ['dma/unmap-function'],
    run(rig) {
      const page = rig.pages(0);
      dmaFreeCoherent(rig.a.dev, 4096, page, map(rig.a.dev, page, DMA_BIDIRECTIONAL));
    },
  },
  {
    name: 'coherent_unmapped_as_single',
    rules: ['dma/unmap-function'],
    run(rig) {
      const ring = dmaAllocCoherent(rig.a.dev, 4096, GFP_KERNEL)!;
      dmaUnmapSingle(rig.a.dev, ring.handle, 4096, DMA_BIDIRECTIONAL);
    },
  },
  {
    name: 'no_mapping_error_check',
    rules: ['dma/mapping-error-unchecked'],
    run(rig) {
      const addr = dmaMapSingle(rig.a.dev, rig.kmalloc(4096), DMA_TO_DEVICE);
      dmaUnmapSingle(rig.a.dev, addr, 4096, DMA_TO_DEVICE);
    },
  },
  {
    name: 'no_mapping_error_check_never_unmapped',
    rules: ['dma/mapping-error-unchecked', 'dma/leak'],
    run(rig) {
      dmaMapSingle(rig.a.dev, rig.kmalloc(4096), DMA_TO_DEVICE);
      rig.checker.runEnded();
    },
  },
  {
    name: 'unmap_DMA_MAPPING_ERROR',
    rules: ['dma/unmap-invalid-address'],
    run: (rig) => dmaUnmapSingle(rig.a.dev, DMA_MAPPING_ERROR, 4096, DMA_TO_DEVICE),
  },
  {
    name: 'sync_cpu_wrong_direction',
    rules: ['dma/sync-direction'],
    alsoSays: /device read-only DMA memory for cpu/,
    run: (rig) =>
      dmaSyncSingleForCpu(rig.a.dev, map(rig.a.dev, rig.kmalloc(4096), DMA_TO_DEVICE), 4096, DMA_FROM_DEVICE),
  },
  {
    name: 'sync_device_wrong_direction',
    rules: ['dma/sync-direction'],
    alsoSays: /device write-only DMA memory to device/,
    run: (rig) =>
      dmaSyncSingleForDevice(rig.a.dev, map(rig.a.dev, rig.kmalloc(4096), DMA_FROM_DEVICE), 4096, DMA_TO_DEVICE),
  },
  {
    name: 'sync_bidir_as_from',
    rules: [],
    run: (rig) =>
      dmaSyncSingleForCpu(rig.a.dev, map(rig.a.dev, rig.kmalloc(4096), DMA_BIDIRECTIONAL), 4096, DMA_FROM_DEVICE),
  },
  {
    name: 'sync_to_for_cpu',
    rules: [],
    run: (rig) => dmaSyncSingleForCpu(rig.a.dev, map(rig.a.dev, rig.kmalloc(4096), DMA_TO_DEVICE), 4096, DMA_TO_DEVICE),
  },
  {
    name: 'sync_from_for_device',
    rules: [],
    run: (rig) =>
      dmaSyncSingleForDevice(rig.a.dev, map(rig.a.dev, rig.kmalloc(4096), DMA_FROM_DEVICE), 4096, DMA_FROM_DEVICE),
  },
  {
    name: 'sync_size_too_large',
    rules: ['dma/sync-outside'],
    run: (rig) =>
      dmaSyncSingleForCpu(rig.a.dev, map(rig.a.dev, rig.kmalloc(2048), DMA_FROM_DEVICE), 4096, DMA_FROM_DEVICE),
  },
  {
    name: 'sync_start_outside',
    rules: ['dma/sync-unknown'],
    run(rig) {
      const addr = map(rig.a.dev, rig.kmalloc(4096), DMA_FROM_DEVICE);
      dmaSyncSingleForCpu(rig.a.dev, (addr + 4096) as DmaAddr, 64, DMA_FROM_DEVICE);
    },
  },
  {
    name: 'sync_range_tail_outside',
    rules: ['dma/sync-outside'],
    run: (rig) =>
      dmaSyncSingleRangeForCpu(
        rig.a.dev,
        map(rig.a.dev, rig.kmalloc(2048), DMA_FROM_DEVICE),
        2000,
        100,
        DMA_FROM_DEVICE,
      ),
  },
  {
    name: 'sync_after_unmap',
    rules: ['dma/sync-unknown'],
    run(rig) {
      const addr = map(rig.a.dev, rig.kmalloc(4096), DMA_FROM_DEVICE);
      dmaUnmapSingle(rig.a.dev, addr, 4096, DMA_FROM_DEVICE);
      dmaSyncSingleForCpu(rig.a.dev, addr, 4096, DMA_FROM_DEVICE);
    },
  },
  {
    name: 'sync_never_mapped',
    rules: ['dma/sync-unknown'],
    run: (rig) => dmaSyncSingleForCpu(rig.a.dev, NOWHERE, 64, DMA_FROM_DEVICE),
  },
  {
    name: 'sync_other_device',
    rules: ['dma/sync-unknown'],
    run: (rig) =>
      dmaSyncSingleForCpu(rig.b.dev, map(rig.a.dev, rig.kmalloc(4096), DMA_FROM_DEVICE), 4096, DMA_FROM_DEVICE),
  },
  {
    name: 'unmap_other_device',
    rules: ['dma/unmap-unknown'],
    run: (rig) => dmaUnmapSingle(rig.b.dev, map(rig.a.dev, rig.kmalloc(4096), DMA_TO_DEVICE), 4096, DMA_TO_DEVICE),
  },
  {
    name: 'map_stack_single',
    rules: ['dma/stack-or-vmalloc'],
    run: (rig) => {
      dmaMapSingle(rig.a.dev, taskStack(rig.kernel, 4096).slice(0, 64), DMA_TO_DEVICE);
    },
  },
  {
    name: 'map_stack_page',
    rules: ['dma/stack-or-vmalloc'],
    run(rig) {
      const stack = taskStack(rig.kernel, 4096);
      dmaMappingError(rig.a.dev, dmaMapPage(rig.a.dev, virtToPage(stack), 0, 64, DMA_TO_DEVICE));
    },
  },
  {
    name: 'map_vmalloc_single',
    rules: ['dma/stack-or-vmalloc'],
    run: (rig) => {
      dmaMapSingle(rig.a.dev, vmalloc(rig.kernel, 8192)!.at(0, 4096), DMA_TO_DEVICE);
    },
  },
  {
    name: 'map_vmalloc_page',
    rules: [],
    run(rig) {
      const page = vmallocToPage(vmalloc(rig.kernel, 8192)!, 0);
      dmaMappingError(rig.a.dev, dmaMapPage(rig.a.dev, page, 0, 4096, DMA_TO_DEVICE));
    },
  },
  {
    name: 'map_kernel_text',
    rules: ['dma/kernel-image'],
    run: (rig) => {
      map(rig.a.dev, kernelImage(rig.kernel).text.slice(0, 64), DMA_TO_DEVICE);
    },
  },
  {
    name: 'map_kernel_rodata',
    rules: ['dma/kernel-image'],
    run: (rig) => {
      map(rig.a.dev, kernelImage(rig.kernel).rodata.slice(0, 16), DMA_TO_DEVICE);
    },
  },
  {
    name: 'map_module_data',
    rules: ['dma/stack-or-vmalloc'],
    run: (rig) => {
      map(rig.a.dev, moduleData(rig.kernel, 4096).slice(0, 64), DMA_TO_DEVICE);
    },
  },
  {
    name: 'map_freed_memory',
    rules: ['dma/freed-memory'],
    run(rig) {
      const mem = rig.kmalloc(256);
      kfree(rig.kernel, mem);
      map(rig.a.dev, mem, DMA_TO_DEVICE);
    },
  },
  {
    name: 'free_while_mapped',
    rules: ['dma/freed-memory'],
    run(rig) {
      const mem = rig.kmalloc(256);
      map(rig.a.dev, mem, DMA_TO_DEVICE);
      kfree(rig.kernel, mem);
    },
  },
  {
    name: 'cacheline_overlap_from_from',
    rules: ['dma/cacheline-overlap'],
    run(rig) {
      const mem = rig.kmalloc(4096);
      for (let i = 0; i < 2; i++) map(rig.a.dev, mem, DMA_FROM_DEVICE);
    },
  },
  {
    name: 'cacheline_overlap_halves_from',
    rules: ['dma/cacheline-overlap'],
    run(rig) {
      const mem = rig.kmalloc(32);
      map(rig.a.dev, mem.slice(0, 16), DMA_FROM_DEVICE);
      map(rig.a.dev, mem.slice(16, 16), DMA_FROM_DEVICE);
    },
  },
  {
    name: 'cacheline_overlap_to_to',
    rules: [],
    run(rig) {
      const mem = rig.kmalloc(4096);
      for (let i = 0; i < 2; i++) map(rig.a.dev, mem, DMA_TO_DEVICE);
    },
  },
  {
    name: 'cacheline_overlap_bidir_to',
    rules: [],
    run(rig) {
      const mem = rig.kmalloc(4096);
      map(rig.a.dev, mem, DMA_BIDIRECTIONAL);
      map(rig.a.dev, mem, DMA_TO_DEVICE);
    },
  },
  {
    // dma-debug looks at the first line of a mapping only.
    name: 'cacheline_overlap_second_line_from',
    rules: ['dma/cacheline-overlap'],
    run(rig) {
      const mem = rig.kmalloc(4096);
      map(rig.a.dev, mem.slice(0, 48), DMA_FROM_DEVICE);
      map(rig.a.dev, mem.slice(48, 16), DMA_FROM_DEVICE);
    },
  },
  {
    name: 'cacheline_overlap_skip_sync',
    rules: [],
    run(rig) {
      const mem = rig.kmalloc(4096);
      map(rig.a.dev, mem, DMA_FROM_DEVICE);
      dmaMappingError(rig.a.dev, dmaMapSingleAttrs(rig.a.dev, mem, DMA_FROM_DEVICE, DMA_ATTR_SKIP_CPU_SYNC));
    },
  },
  {
    name: 'cacheline_overlap_to_x10',
    rules: [],
    run(rig) {
      const mem = rig.kmalloc(4096);
      for (let i = 0; i < 10; i++) map(rig.a.dev, mem, DMA_TO_DEVICE);
    },
  },
  {
    name: 'cacheline_overlap_two_devices',
    rules: ['dma/cacheline-overlap'],
    run(rig) {
      const mem = rig.kmalloc(4096);
      map(rig.a.dev, mem, DMA_FROM_DEVICE);
      map(rig.b.dev, mem, DMA_FROM_DEVICE);
    },
  },
  {
    name: 'direction_none_map',
    rules: ['dma/direction-none'],
    run: (rig) => bugs(() => dmaMapSingle(rig.a.dev, rig.kmalloc(64), DMA_NONE)),
  },
  {
    name: 'direction_none_unmap',
    rules: ['dma/direction-none'],
    run: (rig) => bugs(() => dmaUnmapSingle(rig.a.dev, NOWHERE, 64, DMA_NONE)),
  },
  {
    name: 'direction_none_map_sg',
    rules: ['dma/direction-none'],
    run: (rig) => bugs(() => dmaMapSg(rig.a.dev, list(rig, 1), 1, DMA_NONE)),
  },
  {
    name: 'direction_none_sync',
    rules: ['dma/direction-none'],
    run: (rig) => bugs(() => dmaSyncSingleForCpu(rig.a.dev, NOWHERE, 64, DMA_NONE)),
  },
  {
    name: 'direction_invalid_7',
    rules: ['dma/direction-none'],
    run: (rig) => bugs(() => dmaMapSingle(rig.a.dev, rig.kmalloc(64), 7 as DmaDataDirection)),
  },
  {
    name: 'map_no_dma_mask',
    rules: ['kernel/warning'],
    run(rig) {
      rig.a.dev.dmaMask = null;
      dmaMapSingle(rig.a.dev, rig.kmalloc(64), DMA_TO_DEVICE);
    },
  },
  {
    name: 'free_coherent_irqs_off',
    rules: ['kernel/warning'],
    run(rig) {
      const ring = dmaAllocCoherent(rig.a.dev, 4096, GFP_KERNEL)!;
      const flags = localIrqSave(rig.kernel);
      dmaFreeCoherent(rig.a.dev, 4096, ring.mem, ring.handle);
      localIrqRestore(rig.kernel, flags);
    },
  },
  {
    name: 'sg_nents_zero',
    rules: ['kernel/warning'],
    run: (rig) => {
      assert.equal(dmaMapSg(rig.a.dev, list(rig, 1), 0, DMA_TO_DEVICE), 0);
    },
  },
  {
    name: 'dev_read_ok',
    rules: [],
    run: (rig) => {
      rig.a.read(map(rig.a.dev, rig.kmalloc(4096), DMA_TO_DEVICE), 4096);
    },
  },
  {
    name: 'dev_write_ok',
    rules: [],
    run(rig) {
      const addr = map(rig.a.dev, rig.kmalloc(4096), DMA_FROM_DEVICE);
      rig.a.write(addr, 4096);
      dmaUnmapSingle(rig.a.dev, addr, 4096, DMA_FROM_DEVICE);
    },
  },
  {
    name: 'dev_write_to_TO_DEVICE',
    rules: ['dma/device-write-to-device-mapping'],
    run: (rig) => {
      rig.a.write(map(rig.a.dev, rig.kmalloc(4096), DMA_TO_DEVICE), 64);
    },
  },
  {
    name: 'dev_read_of_FROM_DEVICE',
    rules: ['dma/device-read-from-device-mapping'],
    run: (rig) => {
      rig.a.read(map(rig.a.dev, rig.kmalloc(4096), DMA_FROM_DEVICE), 64);
    },
  },
  {
    name: 'dev_read_after_unmap',
    rules: ['dma/device-access-outside'],
    run(rig) {
      const addr = map(rig.a.dev, rig.kmalloc(4096), DMA_TO_DEVICE);
      dmaUnmapSingle(rig.a.dev, addr, 4096, DMA_TO_DEVICE);
      rig.a.read(addr, 64);
    },
  },
  {
    name: 'dev_write_after_unmap',
    rules: ['dma/device-access-outside'],
    run(rig) {
      const addr = map(rig.a.dev, rig.kmalloc(4096), DMA_FROM_DEVICE);
      dmaUnmapSingle(rig.a.dev, addr, 4096, DMA_FROM_DEVICE);
      rig.a.write(addr, 64);
    },
  },
  {
    name: 'dev_write_beyond_length_same_page',
    rules: ['dma/device-access-outside'],
    run: (rig) => {
      rig.a.write(map(rig.a.dev, rig.pages(0).slice(0, 64), DMA_FROM_DEVICE) + 2048, 64);
    },
  },
  {
    name: 'dev_write_next_page',
    rules: ['dma/device-access-outside'],
    run: (rig) => {
      rig.a.write(map(rig.a.dev, rig.pages(1).slice(0, 4096), DMA_FROM_DEVICE) + 4096, 64);
    },
  },
  {
    name: 'dev_write_physical_address',
    rules: ['dma/device-access-outside'],
    run: (rig) => {
      rig.a.write(rig.pages(0).phys, 64);
    },
  },
  {
    name: 'dev_read_address_zero',
    rules: ['dma/device-access-outside'],
    run: (rig) => {
      rig.a.read(0, 64);
    },
  },
  {
    name: 'cpu_read_without_sync',
    rules: ['dma/missing-sync-for-cpu'],
    run(rig) {
      const mem = rig.kmalloc(4096);
      rig.a.write(map(rig.a.dev, mem, DMA_FROM_DEVICE), 64);
      rig.checker.driverFailed('the data did not arrive', mem);
    },
  },
  {
    name: 'device_view_without_sync_for_device',
    rules: ['dma/missing-sync-for-device'],
    run(rig) {
      const mem = rig.kmalloc(4096);
      const addr = map(rig.a.dev, mem, DMA_TO_DEVICE);
      mem.bytes.fill(1);
      rig.a.read(addr, 64);
    },
  },
];

for (const { name, rules, run, alsoSays } of cases) {
  test(`dma-debug: ${name}`, () => {
    assert.ok(name in facts, `there are no facts for ${name}`);
    const rig = makeRig();
    run(rig);
    assert.deepEqual(rig.found(), rules);
    const kernelSays = reported(name).filter((line) => alsoSays?.test(line) !== true);
    const weSay = rig.findings().flatMap((finding) => kernelLineOf(finding) ?? []);
    for (const line of new Set(kernelSays)) {
      assert.ok(weSay.map(normal).includes(line), `dma-debug said: ${line}\nhere: ${weSay.map(normal).join('\n')}`);
    }
  });
}

test('most of the recorded cases are tried here', () => {
  assert.ok(cases.length >= 65, `${cases.length} cases`);
  assert.equal(new Set(cases.map(({ name }) => name)).size, cases.length);
});
