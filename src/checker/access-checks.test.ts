import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GFP_KERNEL } from '../kernel/index.ts';
import { BusStatus } from '../machine/index.ts';
import type { Mem } from '../machine/mem.ts';
import {
  DMA_ATTR_SKIP_CPU_SYNC,
  DMA_BIDIRECTIONAL,
  DMA_FROM_DEVICE,
  DMA_TO_DEVICE,
  type DmaAddr,
  type DmaDataDirection,
  dmaAllocCoherent,
  dmaFreeCoherent,
  dmaMappingError,
  dmaMapSingle,
  dmaMapSingleAttrs,
  dmaSyncSingleForCpu,
  dmaSyncSingleForDevice,
  dmaUnmapSingle,
} from '../mapping/index.ts';
import { fixOf, messageOf } from './finding.ts';
import { makeRig, type Rig } from './rig.cases.ts';

function map(rig: Rig, mem: Mem, dir: DmaDataDirection): DmaAddr {
  const addr = dmaMapSingle(rig.a.dev, mem, dir);
  assert.equal(dmaMappingError(rig.a.dev, addr), 0);
  return addr;
}

for (const coherent of [true, false]) {
  const kind = coherent ? 'coherent' : 'non-coherent';

  test(`a device that stays within its mappings breaks no rule (${kind})`, () => {
    const rig = makeRig({ coherent });
    const tx = rig.kmalloc(4096);
    tx.bytes.fill(0x11);
    const rx = rig.kmalloc(4096);
    const txAddr = map(rig, tx, DMA_TO_DEVICE);
    const rxAddr = map(rig, rx, DMA_FROM_DEVICE);
    assert.equal(rig.a.read(txAddr, 4096)[4095], 0x11);
    rig.a.write(rxAddr, 4096);
    rig.a.bus.copy(rxAddr, txAddr, 4096);
    dmaUnmapSingle(rig.a.dev, txAddr, 4096, DMA_TO_DEVICE);
    dmaUnmapSingle(rig.a.dev, rxAddr, 4096, DMA_FROM_DEVICE);
    rig.checker.runEnded();
    assert.deepEqual(rig.found(), []);
  });

  test(`a write 2 KiB past a 64-byte mapping is found to the byte (${kind})`, () => {
    const rig = makeRig({ coherent });
    const addr = map(rig, rig.pages(0).slice(0, 64), DMA_FROM_DEVICE);
    assert.equal(rig.a.write(addr + 64 + 2048, 4), BusStatus.OK);
    const [finding, ...rest] = rig.findings();
    assert.equal(rest.length, 0);
    assert.equal(finding?.rule, 'dma/device-access-outside');
    assert.deepEqual(finding.values, {
      address: addr + 2112,
      bytes: 4,
      write: true,
      status: 'ok',
      nearAddress: addr,
      nearBytes: 64,
      unmapped: false,
      otherDevice: '',
    });
    assert.match(
      messageOf(finding),
      /labdma wrote 4 bytes at 0x[0-9a-f]+, 2048 bytes past the end of a 64-byte mapping/,
    );
    assert.equal(finding.context, 'hardware');
  });

  test(`a device may not touch what another device mapped (${kind})`, () => {
    const rig = makeRig({ coherent });
    const addr = map(rig, rig.kmalloc(4096), DMA_BIDIRECTIONAL);
    rig.b.read(addr, 16);
    assert.deepEqual(rig.found(), ['dma/device-access-outside']);
    const finding = rig.findings()[0]!;
    assert.equal(finding.device, 'labdma2');
    assert.match(messageOf(finding), /which is mapped for labdma$/);
    assert.match(fixOf(finding) ?? '', /map it for labdma2, the device that does the DMA .*, in line \d+/);
  });
}

test('an access that runs out of its mapping is one finding about the bytes outside, however it is cut', () => {
  const rig = makeRig();
  const addr = map(rig, rig.pages(0).slice(0, 100), DMA_FROM_DEVICE);
  for (let at = 0; at < 160; at += 8) rig.a.write(addr + at, 8);
  const [finding, ...rest] = rig.findings();
  assert.deepEqual(rest, []);
  assert.equal(finding?.rule, 'dma/device-access-outside');
  assert.deepEqual([finding.values.address, finding.values.bytes], [addr + 100, 60]);
});

test('an access that spans two mappings of neighbouring memory is within them', () => {
  const rig = makeRig();
  const mem = rig.pages(1);
  const addr = map(rig, mem.slice(0, 4096), DMA_TO_DEVICE);
  map(rig, mem.slice(4096, 4096), DMA_TO_DEVICE);
  rig.a.read(addr, 8192);
  assert.deepEqual(rig.found(), []);
});

test('a device that goes on after the unmap is told as that, with the places of map and unmap', () => {
  const rig = makeRig();
  const mem = rig.kmalloc(4096);
  const addr = map(rig, mem, DMA_FROM_DEVICE);
  dmaUnmapSingle(rig.a.dev, addr, 4096, DMA_FROM_DEVICE);
  rig.a.write(addr, 64);
  const [finding] = rig.findings();
  assert.equal(finding?.rule, 'dma/device-access-outside');
  assert.equal(finding.values.unmapped, true);
  assert.equal(finding.mappedAt?.fn, 'map');
  assert.match(finding.at?.file ?? '', /access-checks\.test\.ts$/);
});

test('an access that the bus refuses is a finding too, unless what was refused is mapped', () => {
  const rig = makeRig();
  rig.a.write(0x7_0000_0000, 16);
  assert.deepEqual(rig.found(), ['dma/device-access-outside']);
  const [finding] = rig.findings();
  assert.equal(finding?.rule === 'dma/device-access-outside' && finding.values.status, 'decode error');
  const addr = map(rig, rig.kmalloc(64), DMA_FROM_DEVICE);
  rig.machine.faults.failBusAccess('labdma', addr + 8);
  assert.equal(rig.a.write(addr, 64), BusStatus.SLAVE_ERROR);
  assert.equal(rig.findings().length, 1);
});

test('a million wild addresses make few findings', () => {
  const rig = makeRig();
  for (let i = 0; i < 2000; i++) rig.a.write(0x50_0000 + i * 4099, 4);
  assert.ok(rig.findings().length < 5);
});

test('coherent memory is open to the device from allocation to free', () => {
  const rig = makeRig();
  const ring = dmaAllocCoherent(rig.a.dev, 8192, GFP_KERNEL)!;
  ring.mem.writeU32(0, 42);
  rig.a.read(ring.handle, 8192);
  rig.a.write(ring.handle + 4096, 4096);
  assert.deepEqual(rig.found(), []);
  dmaFreeCoherent(rig.a.dev, 8192, ring.mem, ring.handle);
  rig.a.read(ring.handle, 4);
  assert.deepEqual(rig.found(), ['dma/device-access-outside']);
});

test('writing to a DMA_TO_DEVICE mapping is an error, reading a DMA_FROM_DEVICE one a matter of portability', () => {
  const rig = makeRig();
  rig.a.write(map(rig, rig.kmalloc(4096), DMA_TO_DEVICE) + 16, 32);
  rig.a.read(map(rig, rig.kmalloc(4096), DMA_FROM_DEVICE), 8);
  assert.deepEqual(
    rig.findings().map(({ rule, severity }) => [rule, severity]),
    [
      ['dma/device-write-to-device-mapping', 'error'],
      ['dma/device-read-from-device-mapping', 'portability'],
    ],
  );
});

test('one buffer mapped both ways may be read and written', () => {
  const rig = makeRig();
  const mem = rig.kmalloc(4096);
  const to = map(rig, mem, DMA_TO_DEVICE);
  map(rig, mem, DMA_FROM_DEVICE);
  rig.a.read(to, 64);
  rig.a.write(to, 64);
  assert.deepEqual(rig.found(), []);
});

test('bytes that the CPU wrote after mapping are stale for the device until the sync: which ones is told', () => {
  const rig = makeRig();
  const mem = rig.kmalloc(4096);
  const addr = map(rig, mem, DMA_TO_DEVICE);
  mem.bytes.fill(0xaa, 100, 130);
  mem.bytes.fill(0xaa, 1000, 1004);
  rig.a.read(addr, 4096);
  const [finding, ...rest] = rig.findings();
  assert.deepEqual(rest, []);
  assert.equal(finding?.rule, 'dma/missing-sync-for-device');
  assert.deepEqual(finding.values.stale, [
    { offset: 100, bytes: 30 },
    { offset: 1000, bytes: 4 },
  ]);
  assert.match(messageOf(finding), /labdma read stale bytes 100–129, 1000–1003 \(34 in all\)/);
});

test('the stale bytes of a transfer in many accesses are one finding', () => {
  const rig = makeRig();
  const mem = rig.kmalloc(4096);
  const addr = map(rig, mem, DMA_TO_DEVICE);
  mem.bytes.fill(0xaa, 64, 2048);
  for (let at = 0; at < 4096; at += 128) rig.a.read(addr + at, 128);
  rig.a.read(addr, 256);
  const [finding, ...rest] = rig.findings();
  assert.deepEqual(rest, []);
  assert.deepEqual(finding?.rule === 'dma/missing-sync-for-device' && finding.values.stale, [
    { offset: 64, bytes: 1984 },
  ]);
});

test('after dmaSyncSingleForDevice nothing is stale, and on a coherent machine nothing ever is', () => {
  for (const coherent of [false, true]) {
    const rig = makeRig({ coherent });
    const mem = rig.kmalloc(4096);
    const addr = map(rig, mem, DMA_TO_DEVICE);
    if (!coherent) dmaSyncSingleForCpu(rig.a.dev, addr, 4096, DMA_TO_DEVICE);
    mem.bytes.fill(0xaa);
    if (!coherent) dmaSyncSingleForDevice(rig.a.dev, addr, 4096, DMA_TO_DEVICE);
    assert.equal(rig.a.read(addr, 4096)[7], 0xaa);
    assert.deepEqual(rig.found(), []);
  }
});

test('a map that skips the sync leaves the device with stale bytes', () => {
  const rig = makeRig();
  const mem = rig.kmalloc(64);
  mem.bytes.fill(0x77);
  const addr = dmaMapSingleAttrs(rig.a.dev, mem, DMA_TO_DEVICE, DMA_ATTR_SKIP_CPU_SYNC);
  dmaMappingError(rig.a.dev, addr);
  rig.a.read(addr, 64);
  assert.deepEqual(rig.found(), ['dma/missing-sync-for-device']);
});

test('a driver that looks before it synchronises is told which bytes it sees wrongly, and where to mend it', () => {
  const rig = makeRig();
  const mem = rig.kmalloc(4096);
  const addr = map(rig, mem, DMA_FROM_DEVICE);
  rig.a.write(addr + 512, 256);
  assert.notEqual(mem.readU8(512), 0xd7);
  assert.equal(rig.checker.driverFailed('first byte differs', mem), true);
  const [finding, ...rest] = rig.findings();
  assert.deepEqual(rest, []);
  assert.equal(finding?.rule, 'dma/missing-sync-for-cpu');
  assert.deepEqual(finding.values.stale, [{ offset: 512, bytes: 256 }]);
  assert.match(finding.at?.file ?? '', /access-checks\.test\.ts$/);
  dmaUnmapSingle(rig.a.dev, addr, 4096, DMA_FROM_DEVICE);
  rig.checker.runEnded();
  assert.equal(rig.findings().length, 1);
});

test('a failure of another kind is not blamed on a missing sync', () => {
  const rig = makeRig();
  const mem = rig.kmalloc(4096);
  const addr = map(rig, mem, DMA_FROM_DEVICE);
  rig.a.write(addr, 4096);
  dmaSyncSingleForCpu(rig.a.dev, addr, 4096, DMA_FROM_DEVICE);
  mem.bytes.fill(0);
  assert.equal(rig.checker.driverFailed('the checksum is wrong', mem), false);
  rig.checker.driverFailed('something else');
  dmaUnmapSingle(rig.a.dev, addr, 4096, DMA_FROM_DEVICE);
  rig.checker.runEnded();
  assert.deepEqual(rig.found(), []);
});

test('a run that ends with a written and never synchronised mapping tells the stale bytes and the leak', () => {
  const rig = makeRig();
  const mem = rig.kmalloc(64);
  const addr = map(rig, mem, DMA_FROM_DEVICE);
  rig.a.write(addr, 64);
  rig.checker.runEnded();
  assert.deepEqual(rig.found(), ['dma/missing-sync-for-cpu', 'dma/leak']);
});

test('a correct driver breaks no rule for 200 seeds of eviction and prefetch', () => {
  for (let seed = 1; seed <= 200; seed++) {
    const rig = makeRig({ seed, cacheNoise: 'on', places: false });
    const tx = rig.kmalloc(256);
    const rx = rig.kmalloc(256);
    const txAddr = map(rig, tx, DMA_TO_DEVICE);
    const rxAddr = map(rig, rx, DMA_FROM_DEVICE);
    for (let round = 0; round < 4; round++) {
      dmaSyncSingleForCpu(rig.a.dev, txAddr, 256, DMA_TO_DEVICE);
      tx.bytes.fill(round + 1);
      dmaSyncSingleForDevice(rig.a.dev, txAddr, 256, DMA_TO_DEVICE);
      dmaSyncSingleForDevice(rig.a.dev, rxAddr, 256, DMA_FROM_DEVICE);
      rig.a.bus.copy(rxAddr, txAddr, 256);
      for (let spin = 0; spin < 20; spin++) rig.machine.cpuRelax();
      dmaSyncSingleForCpu(rig.a.dev, rxAddr, 256, DMA_FROM_DEVICE);
      assert.equal(rx.readU8(255), round + 1, `seed ${seed}`);
    }
    dmaUnmapSingle(rig.a.dev, txAddr, 256, DMA_TO_DEVICE);
    dmaUnmapSingle(rig.a.dev, rxAddr, 256, DMA_FROM_DEVICE);
    rig.checker.runEnded();
    assert.deepEqual(rig.found(), [], `seed ${seed}`);
  }
});
