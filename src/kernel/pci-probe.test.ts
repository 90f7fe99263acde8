import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Prng } from '../base/prng.ts';
import { logText } from './memory-rig.cases.ts';
import { type PciDev, pciFindCapability, pciFindNextCapability } from './pci-dev.ts';
import { pciDevices, pciGetDevice, pciGetDomainBusAndSlot, pciHostProbe } from './pci-probe.ts';
import { behind, FakeFunction, fakeBridge, pciRig, RIG_WINDOWS } from './pci-rig.cases.ts';

const KIB = 2 ** 10;
const MIB = 2 ** 20;
const at = (slot: number, fn = 0, bus = 0) => (bus << 8) | (slot << 3) | fn;
const plain = (slot: number, fn = 0, header = 0) => new FakeFunction(at(slot, fn), 0x1234, 0x11e8, 0xff00, header);

async function scan(functions: readonly FakeFunction[], options: Partial<Parameters<typeof pciHostProbe>[1]> = {}) {
  const kernel = pciRig(functions);
  const bridge = await kernel.run(() => pciHostProbe(kernel, { windows: RIG_WINDOWS, ...options }));
  return { kernel, bridge, devices: pciDevices(kernel), names: pciDevices(kernel).map(({ name }) => name) };
}

test('functions are found in order of bus, slot and function, with what they say of themselves', async () => {
  const edu = plain(0x10).set(0x2c, 0x1100_1af4).set(0x08, 0x00ff_0010);
  const { devices, names, kernel } = await scan([plain(0x1f, 2), plain(0x1f, 0, 0x80), edu]);
  assert.deepEqual(names, ['0000:00:10.0', '0000:00:1f.0', '0000:00:1f.2']);
  const [first] = devices;
  const { vendor, device, class: classCode, revision, subsystemVendor, subsystemDevice } = first!;
  assert.deepEqual(
    [vendor, device, classCode, revision, subsystemVendor, subsystemDevice],
    [0x1234, 0x11e8, 0xff00, 0x10, 0x1af4, 0x1100],
  );
  assert.match(logText(kernel), /pci 0000:00:10\.0: \[1234:11e8\] type 00 class 0x00ff00 conventional PCI endpoint/);
  assert.equal(pciGetDevice(kernel, 0x1234, 0x11e8), first);
  assert.equal(pciGetDevice(kernel, 0x1234, 0x11e8, first)?.name, '0000:00:1f.0');
  assert.equal(pciGetDevice(kernel, 0x1234, 0x9999), null);
  assert.equal(pciGetDomainBusAndSlot(kernel, 0, 0, at(0x1f, 2))?.name, '0000:00:1f.2');
});

test('a device starts with masks of 32 bits, segments of 64 KiB, and coherent as its machine', async () => {
  const { devices } = await scan([plain(1)]);
  const [dev] = devices;
  assert.equal(dev!.dmaMask, 0xffff_ffffn);
  assert.equal(dev!.coherentDmaMask, 0xffff_ffffn);
  assert.deepEqual(dev!.dmaParms, { maxSegmentSize: 65536, segmentBoundaryMask: 0xffff_ffff, minAlignMask: 0 });
  assert.equal(dev!.dmaCoherent, true);
});

test('further functions of a slot are looked for only where the first one says that there are some', async () => {
  const { names } = await scan([plain(3), plain(3, 1), plain(4, 1)]);
  assert.deepEqual(names, ['0000:00:03.0']);
});

test('BARs are sized with decoding off, and what firmware assigned is kept', async () => {
  const fn = plain(2).bar(0, MIB, 0xc010_0000).set(0x04, 0x2, 0x547);
  const { devices } = await scan([fn]);
  assert.deepEqual(devices[0]!.resources[0], {
    kind: 'mem',
    start: 0xc010_0000,
    sizeBytes: MIB,
    is64: false,
    prefetchable: false,
  });
  assert.deepEqual(fn.commands, [0, 2], 'off while it is sized, then as it was');
  assert.equal(fn.at(0x10), 0xc010_0000);
});

test('BARs without address get one: the largest first, lowest address first, 64-bit ones above 4 GiB', async () => {
  const small = plain(1).bar(0, 4 * KIB);
  const large = plain(2)
    .bar(0, 4 * MIB)
    .bar(2, 16 * MIB, 0, true);
  const { devices, kernel } = await scan([small, large]);
  const [first, second] = devices;
  assert.equal(second!.resources[0]!.start, 0xc000_0000);
  assert.equal(first!.resources[0]!.start, 0xc040_0000);
  assert.equal(second!.resources[2]!.start, 0x10_0000_0000);
  assert.deepEqual([large.at(0x10), large.at(0x18), large.at(0x1c)], [0xc000_0000, 4, 0x10]);
  assert.match(logText(kernel), /pci 0000:00:01\.0: BAR 0 \[mem 0xc0400000-0xc0400fff\]: assigned/);
});

test('two BARs at one address: the one that answers keeps it, the other moves', async () => {
  const asleep = plain(1).bar(0, MIB, 0xc000_0000);
  const awake = plain(2).bar(0, MIB, 0xc000_0000).set(0x04, 0x2, 0x547);
  const { devices, kernel } = await scan([asleep, awake]);
  assert.equal(devices[1]!.resources[0]!.start, 0xc000_0000);
  assert.equal(devices[0]!.resources[0]!.start, 0xc010_0000);
  assert.match(logText(kernel), /00:01\.0: BAR 0 \[mem 0xc0000000-0xc00fffff\]: can't claim; address conflict/);
});

test('an address outside of every window is not believed', async () => {
  const { devices, kernel } = await scan([plain(1).bar(0, MIB, 0x4000_0000)]);
  assert.equal(devices[0]!.resources[0]!.start, 0xc000_0000);
  assert.match(logText(kernel), /can't claim; no compatible bridge window/);
});

test('what does not fit anywhere has no address, and the log says so', async () => {
  const { devices, kernel } = await scan([plain(1).bar(0, 64 * MIB)]);
  assert.equal(devices[0]!.resources[0]!.start, -1);
  assert.match(logText(kernel), /BAR 0 \[mem size 0x04000000\]: failed to assign/);
});

test('windows with an offset: the register holds the bus address', async () => {
  const windows = [{ start: 0x1_c000_0000, end: 0x1_c0ff_ffff, offset: 0x1_0000_0000, type: 'mem' as const }];
  const fn = plain(1).bar(0, MIB);
  const set = plain(2).bar(0, MIB, 0xc080_0000);
  const { devices } = await scan([fn, set], { windows });
  assert.equal(devices[0]!.resources[0]!.start, 0x1_c000_0000);
  assert.equal(fn.at(0x10), 0xc000_0000);
  assert.equal(devices[1]!.resources[0]!.start, 0x1_c080_0000);
});

test('bridges that firmware has set up keep their numbers; the others get what is left', async () => {
  const configured = fakeBridge(at(2), 0x0004_0200);
  const deep = behind(configured, fakeBridge(at(0, 0, 2)));
  const blank = fakeBridge(at(1));
  const { names, bridge } = await scan([
    blank,
    configured,
    deep,
    behind(deep, new FakeFunction(at(0, 0, 3), 0x1234, 1, 0xff00)),
    behind(blank, new FakeFunction(at(5, 0, 5), 0x1234, 2, 0xff00)),
  ]);
  assert.deepEqual(names, ['0000:00:01.0', '0000:00:02.0', '0000:02:00.0', '0000:03:00.0', '0000:05:05.0']);
  assert.equal(configured.at(0x18), 0x0004_0200);
  assert.equal(blank.at(0x18), 0x0005_0500);
  assert.deepEqual(
    bridge.root!.children.map(({ number, subordinate }) => [number, subordinate]),
    [
      [2, 4],
      [5, 5],
    ],
  );
});

test('bridges that claim the bus they sit on, overlap or go backwards are set up anew', async () => {
  const loop = fakeBridge(at(1), 0x0000_0000 | (0 << 8) | (9 << 16));
  const good = fakeBridge(at(2), 0x0006_0400);
  const overlap = fakeBridge(at(3), 0x0007_0500);
  const backwards = fakeBridge(at(4), 0x0002_0900);
  const { kernel, bridge } = await scan([loop, good, overlap, backwards]);
  assert.equal(logText(kernel).match(/bridge configuration invalid/g)?.length, 3);
  assert.deepEqual(
    bridge.root!.children.map(({ number }) => number),
    [4, 7, 8, 9],
  );
});

test('what is behind an external port, however deep, is not trusted; the port itself is', async () => {
  const port = fakeBridge(at(1), 0x0002_0100);
  const inner = behind(port, fakeBridge(at(0, 0, 1), 0x0002_0201));
  const guest = behind(inner, new FakeFunction(at(0, 0, 2), 0x1234, 1, 0xff00));
  const { devices } = await scan([port, inner, guest, plain(2)], { externalFacing: (bdf) => bdf === at(1) });
  const untrusted = Object.fromEntries(devices.map(({ name, untrusted }) => [name, untrusted]));
  assert.deepEqual(untrusted, {
    '0000:00:01.0': false,
    '0000:00:02.0': false,
    '0000:01:00.0': true,
    '0000:02:00.0': true,
  });
});

test('pins of a bridge are wired on rotated by slot, and the line is written down', async () => {
  const port = fakeBridge(at(3), 0x0001_0100);
  const below = behind(port, new FakeFunction(at(2, 0, 1), 0x1234, 1, 0xff00)).set(0x3c, 0x0100, 0xff);
  const direct = plain(2).set(0x3c, 0x0200, 0xff);
  const { devices } = await scan([direct, port, below], { mapIrq: (slot, pin) => 16 + ((slot + pin - 1) % 4) });
  const irqs = Object.fromEntries(devices.map(({ name, irq }) => [name, irq]));
  // INTB of slot 2 is line 16 + 3; INTA of slot 2 below slot 3 comes out as INTC there, line 16 + (3 + 2) % 4.
  assert.deepEqual(irqs, { '0000:00:02.0': 19, '0000:00:03.0': -1, '0000:01:02.0': 17 });
  assert.equal(direct.at(0x3c) & 0xff, 19);
});

test('without wiring known, the line is what firmware wrote down', async () => {
  const { devices } = await scan([plain(1).set(0x3c, 0x010b, 0xff), plain(2).set(0x3c, 0x01ff, 0xff)]);
  assert.deepEqual(
    devices.map(({ irq }) => irq),
    [11, -1],
  );
});

test('capabilities are found in their list; a ring or a wild pointer ends it', async () => {
  const good = plain(1).capabilities([0x40, 1, 0x50], [0x50, 5, 0x60], [0x60, 9, 0x70], [0x70, 9, 0]);
  const ring = plain(2).capabilities([0x40, 1, 0x50], [0x50, 2, 0x40]);
  const wild = plain(3).capabilities([0x40, 1, 0x04]);
  const { devices } = await scan([good, ring, wild]);
  const [a, b, c] = devices as [PciDev, PciDev, PciDev];
  assert.equal(pciFindCapability(a, 5), 0x50);
  assert.equal(pciFindNextCapability(a, 0x60, 9), 0x70);
  assert.equal(pciFindCapability(a, 0x10), 0);
  assert.equal(pciFindCapability(b, 5), 0);
  assert.equal(pciFindCapability(c, 5), 0);
});

test('headers and BARs that make no sense are left out, and the rest is used', async () => {
  const odd = plain(1, 0, 0x22);
  const holes = plain(2).set(0x10, 0, 0xfff0_f000).bar(1, MIB);
  const last64 = plain(3).set(0x24, 4, 0xfff0_0000);
  const mismatch = plain(4).set(0x08, 0x0604_0000);
  const { names, devices, kernel } = await scan([odd, holes, last64, mismatch]);
  assert.deepEqual(names, ['0000:00:02.0', '0000:00:03.0', '0000:00:04.0']);
  assert.equal(devices[0]!.resources[0], null);
  assert.equal(devices[0]!.resources[1]!.sizeBytes, MIB);
  assert.equal(devices[1]!.resources[5], null);
  assert.equal(devices[2]!.class, 0);
  const log = logText(kernel);
  assert.match(log, /00:01\.0: unknown header type 22, ignoring device/);
  assert.match(log, /00:02\.0: BAR 0: reg 0x10 has invalid size; ignoring it/);
  assert.match(log, /00:04\.0: ignoring class 0x060400 \(doesn't match header type 00\)/);
});

test('configuration spaces of random bytes neither hang nor stop the scan', async () => {
  for (let seed = 1; seed <= 60; seed++) {
    const prng = new Prng(seed);
    const functions = Array.from({ length: 12 }, (_, slot) => {
      const fn = new FakeFunction(at(slot, 0, 0), 1 + prng.below(0xfffe), 1, 0);
      for (let offset = 4; offset < 256; offset += 4) fn.set(offset, prng.below(2 ** 32), prng.below(2 ** 32));
      if (slot % 3 === 0) fn.set(0x0c, 1 << 16, 0).set(0x18, prng.below(2 ** 24), 0xff_ffff);
      return fn;
    });
    const { devices } = await scan(functions);
    for (const dev of devices) {
      for (const resource of dev.resources) {
        if (resource === null) continue;
        assert.ok(Number.isInteger(Math.log2(resource.sizeBytes)), `seed ${seed}: ${resource.sizeBytes}`);
        assert.ok(resource.start === -1 || resource.start % resource.sizeBytes === 0, `seed ${seed}`);
      }
    }
  }
});
