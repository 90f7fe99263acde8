import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type DmaAddr, dmaAddr, PAGE_SIZE, physAddr } from '../base/addr.ts';
import { EBUSY, EINVAL, ENXIO, OK } from '../base/errno.ts';
import { FrameKind, GFP_ATOMIC, GFP_KERNEL, memblockReserve } from '../kernel/index.ts';
import { allocSources } from './alloc-sources.ts';
import { dmaAllocCoherent, dmaFreeCoherent, dmaMmapCoherent } from './coherent.ts';
import {
  DmaCoherentMem,
  dmaAllocFromDevCoherent,
  dmaDeclareCoherentMemory,
  dmaInitGlobalCoherent,
  dmaReleaseCoherentMemory,
} from './coherent-pool.ts';
import { type DirectRigOptions, directRig } from './direct-rig.cases.ts';
import { UserMapping } from './user-mapping.ts';

const AT = physAddr(0x80000);
const SIZE = 0x10000;

/** A device whose own memory of 16 pages, at 512 KiB, it sees at 0x1000_0000. */
function rigWithMemory(options: DirectRigOptions = {}) {
  const rig = directRig(options);
  assert.equal(memblockReserve(rig.kernel, AT, SIZE), true);
  assert.equal(dmaDeclareCoherentMemory(rig.dev, AT, dmaAddr(0x1000_0000), SIZE), OK);
  return rig;
}

test('a device with memory of its own allocates from there, in powers of two, and from nowhere else', () => {
  const { kernel, dev } = rigWithMemory();
  const sizes = [100, 3 * PAGE_SIZE, PAGE_SIZE, 8 * PAGE_SIZE];
  const got = sizes.map((size) => dmaAllocCoherent(dev, size, GFP_KERNEL));
  assert.deepEqual(
    got.map((memory) => memory!.handle),
    [0x1000_0000, 0x1000_4000, 0x1000_1000, 0x1000_8000],
  );
  assert.deepEqual(
    got.map((memory) => memory!.mem.phys - AT),
    [0, 0x4000, 0x1000, 0x8000],
  );
  assert.equal(kernel.machine.ram[0]!.kindAt(AT), FrameKind.COHERENT);
  assert.equal(dmaAllocCoherent(dev, 3 * PAGE_SIZE, GFP_KERNEL), null, 'it is full');
  assert.equal(dmaAllocCoherent(dev, 2 * SIZE, GFP_KERNEL), null);
  assert.equal(dmaAllocFromDevCoherent(dev, 2 * PAGE_SIZE)!.handle, 0x1000_2000);
  const { mem, handle } = got[1]!;
  dmaFreeCoherent(dev, 3 * PAGE_SIZE, mem, handle);
  assert.equal(mem.freed, true);
  assert.equal(dmaAllocCoherent(dev, 4 * PAGE_SIZE, GFP_ATOMIC)!.handle, 0x1000_4000);
  assert.equal(kernel.pages.freePages, kernel.pages.managedPages);
  assert.equal((dev.dmaMem as DmaCoherentMem).usedPages, 16);
});
test('it is zeroed, and seen by both sides at once', () => {
  const rig = directRig({ coherent: false, busOffset: 0x1000_0000 - AT });
  memblockReserve(rig.kernel, AT, SIZE);
  rig.kernel.machine.ram[0]!.cpu.fill(7, AT, AT + SIZE);
  dmaDeclareCoherentMemory(rig.dev, AT, dmaAddr(0x1000_0000), SIZE);
  const { mem, handle } = dmaAllocCoherent(rig.dev, 64, GFP_KERNEL)!;
  assert.ok(mem.bytes.every((byte) => byte === 0));
  mem.bytes.fill(9);
  assert.equal(rig.deviceRead(handle, 64)?.[63], 9);
  rig.deviceWrite(handle, new Uint8Array(64).fill(8));
  assert.equal(mem.bytes[0], 8);
});
test('a device has one such memory, over RAM', () => {
  const { kernel, dev } = rigWithMemory();
  assert.equal(dmaDeclareCoherentMemory(dev, AT, dmaAddr(0), SIZE), EBUSY);
  dmaReleaseCoherentMemory(dev);
  assert.equal(dev.dmaMem, null);
  assert.equal(dmaAllocFromDevCoherent(dev, 1), null);
  assert.notEqual(dmaAllocCoherent(dev, 64, GFP_KERNEL)!.mem.phys, AT);
  assert.equal(dmaDeclareCoherentMemory(dev, AT, dmaAddr(0), 0), EINVAL);
  assert.equal(dmaDeclareCoherentMemory(dev, physAddr(2 ** 30), dmaAddr(0), SIZE), EINVAL);
  assert.equal(kernel.splats.length, 0);
});
test('user space is shown the device’s own memory', () => {
  const { dev } = rigWithMemory();
  const { mem, handle } = dmaAllocCoherent(dev, 2 * PAGE_SIZE, GFP_KERNEL)!;
  const user = new UserMapping(PAGE_SIZE, 1);
  assert.equal(dmaMmapCoherent(dev, user, mem, handle, 2 * PAGE_SIZE), OK);
  assert.equal(user.mem!.phys, mem.phys + PAGE_SIZE);
  assert.equal(dmaMmapCoherent(dev, new UserMapping(PAGE_SIZE, 2), mem, handle, 2 * PAGE_SIZE), ENXIO);
});

test('a global pool serves all devices that do not snoop, atomic allocations too', () => {
  const { kernel, dev } = directRig({ coherent: false });
  memblockReserve(kernel, AT, SIZE);
  assert.equal(dmaInitGlobalCoherent(kernel, AT, SIZE), OK);
  const a = dmaAllocCoherent(dev, PAGE_SIZE, GFP_ATOMIC)!;
  const b = dmaAllocCoherent(dev, PAGE_SIZE, GFP_KERNEL)!;
  assert.deepEqual([a.handle, b.handle], [AT as number, AT + PAGE_SIZE]);
  assert.equal(dmaAllocCoherent(dev, SIZE, GFP_KERNEL), null);
  dmaFreeCoherent(dev, PAGE_SIZE, a.mem, a.handle);
  assert.equal(dmaAllocCoherent(dev, 10, GFP_KERNEL)!.handle, a.handle);
  assert.ok(allocSources(kernel).globalCoherent instanceof DmaCoherentMem);
  dev.dmaCoherent = true;
  assert.ok((dmaAllocCoherent(dev, 10, GFP_KERNEL)!.handle as DmaAddr) !== ((AT + 2 * PAGE_SIZE) as number));
});
