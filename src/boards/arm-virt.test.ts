import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ETIMEDOUT, OK, Prng } from '../base/index.ts';
import { attachChecker } from '../checker/index.ts';
import { eduCheckAlive, eduDmaFromDevice, eduDmaToDevice, eduFactorial } from '../drivers/index.ts';
import { iommuGetDomainForDev } from '../iommu/index.ts';
import {
  DMA_FROM_DEVICE,
  DMA_TO_DEVICE,
  GFP_KERNEL,
  type Kernel,
  kfree,
  kmalloc,
  msleep,
  PCI_MSI_ADDRESS_LO,
  type PciDev,
  pciDevices,
  pciHostBridgeOf,
  pciReadConfigDword,
} from '../kernel/index.ts';
import type { MachineObserver } from '../machine/index.ts';
import { dmaAllocCoherent, dmaFreeCoherent, dmaMappingError, dmaMapSingle, dmaUnmapSingle } from '../mapping/index.ts';
import { armVirt } from './arm-virt.ts';
import type { BootOptions } from './board.ts';
import { describeBoard } from './describe.ts';
import type { System } from './system.ts';

const MIB = 2 ** 20;
const SMALL = { ramBytes: 64 * MIB };
const MODES = [
  '',
  'iommu=off',
  'iommu=strict',
  'iommu=lazy',
  'iommu=pt',
  'noncoherent',
  'noncoherent,iommu=off',
  'noncoherent,iommu=lazy',
  'noncoherent,iommu=pt',
  'mask=27',
  'mask=32,iommu=off',
  'mask=27,iommu=lazy',
];

async function onBoard<T>(options: BootOptions, body: (kernel: Kernel, system: System) => Promise<T> | T): Promise<T> {
  const system = await armVirt.boot({ ...SMALL, ...options });
  return system.run((kernel) => body(kernel, system));
}
const edus = (kernel: Kernel): PciDev[] => pciDevices(kernel).filter(({ driver }) => driver?.name === 'edu');
const log = (kernel: Kernel): string[] => kernel.log.lines.map(({ text }) => text);

/** A page there and back, at odd offsets and lengths, and through coherent memory. */
async function thereAndBack(kernel: Kernel, dev: PciDev, rounds: number): Promise<void> {
  const prng = new Prng(5);
  const out = kmalloc(kernel, 4096, GFP_KERNEL)!;
  const back = kmalloc(kernel, 4096, GFP_KERNEL)!;
  for (let round = 0; round < rounds; round++) {
    const bytes = round === 0 ? 4096 : 1 + prng.below(4096);
    const offset = prng.below(4096 - bytes + 1);
    for (let i = 0; i < 4096; i++) [out.bytes[i], back.bytes[i]] = [prng.below(256), 0xcc];
    const source = dmaMapSingle(dev, out.slice(offset, bytes), DMA_TO_DEVICE);
    assert.equal(dmaMappingError(dev, source), OK);
    assert.equal(await eduDmaToDevice(dev, source, offset, bytes), OK);
    dmaUnmapSingle(dev, source, bytes, DMA_TO_DEVICE);
    const destination = dmaMapSingle(dev, back, DMA_FROM_DEVICE);
    assert.equal(dmaMappingError(dev, destination), OK);
    assert.equal(await eduDmaFromDevice(dev, destination + offset, offset, bytes), OK);
    dmaUnmapSingle(dev, destination, 4096, DMA_FROM_DEVICE);
    assert.deepEqual(back.bytes.slice(offset, offset + bytes), out.bytes.slice(offset, offset + bytes));
  }
  const ring = dmaAllocCoherent(dev, 4096, GFP_KERNEL)!;
  for (let i = 0; i < 4096; i++) ring.mem.bytes[i] = i * 3;
  assert.equal(await eduDmaToDevice(dev, ring.handle, 0, 4096), OK);
  ring.mem.bytes.fill(0);
  assert.equal(await eduDmaFromDevice(dev, ring.handle, 0, 4096), OK);
  assert.equal(
    ring.mem.bytes.every((byte, i) => byte === ((i * 3) & 0xff)),
    true,
  );
  dmaFreeCoherent(dev, 4096, ring.mem, ring.handle);
  kfree(kernel, out);
  kfree(kernel, back);
}

for (const mode of MODES) {
  test(`mode '${mode}': every edu moves bytes both ways, nothing is found, and nothing is left`, async () => {
    const system = await armVirt.boot({ ...SMALL, mode, seed: 3 });
    const checker = attachChecker(system);
    await system.run(async (kernel) => {
      assert.equal(edus(kernel).length, 4);
      for (const dev of edus(kernel)) {
        assert.equal(eduCheckAlive(dev, 0x1234_5678), OK);
        assert.equal(await eduFactorial(dev, 6), 720);
        await thereAndBack(kernel, dev, 4);
        assert.equal(dev.msiEnabled, true);
      }
      assert.deepEqual(
        log(kernel).filter((line) => /event 0x|timeout|failed/.test(line)),
        [],
      );
    });
    checker.close();
    assert.deepEqual(checker.findings(), []);
    assert.deepEqual(await system.close(), { leaks: [], splats: [] });
  });
}

test('a mode stands for boot arguments and a tree; those that are given explicitly hold', async () => {
  const domainOf = (options: BootOptions) =>
    onBoard(options, (kernel) => iommuGetDomainForDev(edus(kernel)[0]!)?.type ?? 'none');
  assert.equal(await domainOf({}), 'dma', 'strict, as on arm64');
  assert.equal(await domainOf({ mode: 'iommu=off' }), 'none');
  assert.equal(await domainOf({ mode: 'iommu=strict' }), 'dma');
  assert.equal(await domainOf({ mode: 'iommu=lazy' }), 'dma-fq');
  assert.equal(await domainOf({ mode: 'iommu=pt' }), 'identity');
  assert.equal(await domainOf({ mode: 'iommu=lazy', cmdline: 'iommu.strict=1' }), 'dma');
  await assert.rejects(armVirt.boot({ mode: 'mask=30,iommu=off' }), /would reach no memory: it begins at bus address/);
  await assert.rejects(armVirt.boot({ ramBytes: 8 * MIB }), /arm-virt has 16 MiB to 255 GiB of RAM, found 8 MiB/);
});

test('without an IOMMU the edu driver finds no memory below 2^28, and gives up', async () => {
  await onBoard({ mode: 'iommu=off', cmdline: 'edu.dma_bits=28' }, (kernel) => {
    assert.equal(edus(kernel).length, 0);
    assert.ok(log(kernel).some((line) => /0000:00:02.0: probe with driver edu failed with error -5/.test(line)));
  });
});

test('what the device is not given it does not reach, and the log tells of it in the kernel’s words', async () => {
  await onBoard({}, async (kernel) => {
    const dev = edus(kernel)[1]!;
    const mem = kmalloc(kernel, 4096, GFP_KERNEL)!;
    mem.bytes.fill(0x5a);
    const addr = dmaMapSingle(dev, mem, DMA_TO_DEVICE);
    const before = log(kernel).length;
    assert.equal(await eduDmaFromDevice(dev, addr, 0, 64), OK, 'the device knows nothing of it');
    await msleep(kernel, 1);
    // A write, by stream 0x18, at the address; the table's entry is read only.
    assert.deepEqual(log(kernel).slice(before), [
      'arm-smmu-v3 9050000.smmuv3: event 0x13 received:',
      'arm-smmu-v3 9050000.smmuv3: \t0x0000001800000013',
      'arm-smmu-v3 9050000.smmuv3: \t0x0000020000000000',
      `arm-smmu-v3 9050000.smmuv3: \t0x${addr.toString(16).padStart(16, '0')}`,
      'arm-smmu-v3 9050000.smmuv3: \t0x0000000000000000',
    ]);
    assert.equal(
      mem.bytes.every((byte) => byte === 0x5a),
      true,
    );
    dmaUnmapSingle(dev, addr, 4096, DMA_TO_DEVICE);
    assert.equal(await eduDmaToDevice(dev, addr, 0, 64), OK);
    await msleep(kernel, 1);
    assert.equal(log(kernel).at(-5), 'arm-smmu-v3 9050000.smmuv3: event 0x10 received:');
    assert.equal(log(kernel).at(-3), 'arm-smmu-v3 9050000.smmuv3: \t0x0000020800000000');
  });
});

test('interrupts go through the mapped doorbell: without its entry none comes, and an event tells why', async () => {
  await onBoard({}, async (kernel) => {
    const dev = edus(kernel)[0]!;
    const address = pciReadConfigDword(dev, dev.msiCap + PCI_MSI_ADDRESS_LO);
    const domain = iommuGetDomainForDev(dev)!;
    assert.equal(domain.iovaToPhys(address), 0x0802_0040);
    assert.notEqual(address, 0x0802_0040);
    assert.equal(await eduFactorial(dev, 5), 120);
    const other = edus(kernel)[1]!;
    assert.notEqual(iommuGetDomainForDev(other), domain, 'each has a domain and a doorbell of its own');
    assert.equal(iommuGetDomainForDev(other)!.iovaToPhys(address), 0x0802_0040);
    // Take the page away behind the kernel's back.
    const gather = { start: 0, end: -1, pgsize: 0, queued: true, init() {}, addRange() {}, addPage() {} };
    assert.equal(domain.unmapPages(address - (address % 4096), 4096, 1, gather as never), 4096);
    domain.flushIotlbAll();
    assert.equal(await eduFactorial(dev, 4), ETIMEDOUT);
    assert.ok(log(kernel).includes(`arm-smmu-v3 9050000.smmuv3: \t0x${address.toString(16).padStart(16, '0')}`));
    assert.equal(await eduFactorial(other, 4), 24);
  });
});

test('pins serve where messages are off, by the tree’s interrupt map', async () => {
  await onBoard({ cmdline: 'pci=nomsi' }, async (kernel) => {
    // SPI 3 to 6, rotated by slot: slots 2 to 5.
    assert.deepEqual(
      edus(kernel).map(({ irq }) => irq),
      [37, 38, 35, 36],
    );
    for (const dev of edus(kernel)) {
      assert.equal(dev.msiEnabled, false);
      await thereAndBack(kernel, dev, 1);
    }
  });
});

test('addresses for devices leave out the bridge’s windows', async () => {
  await onBoard({ cmdline: 'edu.dma_bits=30' }, (kernel) => {
    const dev = edus(kernel)[0]!;
    const windows = pciHostBridgeOf(dev)!.windows.filter(({ type }) => type === 'mem');
    assert.deepEqual(
      windows.map(({ start, end }) => [start, end]),
      [
        [0x1000_0000, 0x3efe_ffff],
        [0x80_0000_0000, 0xff_ffff_ffff],
      ],
    );
    const mem = kmalloc(kernel, 4096, GFP_KERNEL)!;
    for (let i = 0; i < 6000; i++) {
      const addr = dmaMapSingle(dev, mem, DMA_TO_DEVICE);
      assert.equal(dmaMappingError(dev, addr), OK);
      assert.ok(addr > 0x3efe_ffff || addr + 4096 <= 0x1000_0000, addr.toString(16));
    }
  });
});

test('one seed gives one log, to the byte; another seed gives another', async () => {
  const logOf = async (seed: number): Promise<string> => {
    const lines: string[] = [];
    const note =
      (what: string) =>
      (...values: unknown[]): void => {
        lines.push(`${what} ${values.join(' ')}`);
      };
    const machine: MachineObserver = {
      deviceAccess: note('access'),
      registerAccess: note('register'),
      interrupt: note('interrupt'),
      cacheOp: note('cache'),
    };
    const mode = 'noncoherent,iommu=lazy';
    await onBoard({ mode, seed, observers: { machine } }, (kernel) => thereAndBack(kernel, edus(kernel)[0]!, 3));
    return lines.join('\n');
  };
  const [first, second, other] = [await logOf(7), await logOf(7), await logOf(8)];
  assert.ok(first.length > 10_000, 'something happens');
  assert.ok(first === second, 'the same seed');
  assert.ok(first !== other, 'another seed');
});

test('a description tells of functions, groups, reserved addresses and reach', async () => {
  const system = await armVirt.boot(SMALL);
  await system.run(() => {});
  const { devices } = describeBoard(system);
  const edu = devices.find(({ name }) => name === '0000:00:02.0')!;
  assert.deepEqual(edu.pci?.bars, [{ index: 0, base: 0x1000_0000, sizeBytes: MIB }]);
  assert.deepEqual(edu.iommu, {
    group: 1,
    domain: 'dma',
    reserved: [{ base: 0x800_0000, sizeBytes: MIB, type: 'sw-msi' }],
  });
  assert.deepEqual([edu.driver, edu.maskBits, edu.reach?.translatedBytes], ['edu', 28, 64 * MIB]);
  const smmu = devices.find(({ name }) => name === '9050000.smmuv3')!;
  assert.deepEqual([smmu.driver, smmu.coherent, smmu.interrupts], ['arm-smmu-v3', true, [106, 107, 108, 109]]);
});
