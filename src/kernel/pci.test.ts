import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EBUSY, EINVAL, ENOSPC, OK } from '../base/errno.ts';
import { deviceReleaseDriver, driverRegister } from './device.ts';
import { requestIrq } from './irq.ts';
import type { Kernel, KernelOptions } from './kernel.ts';
import { logText, splatMessages } from './memory-rig.cases.ts';
import {
  pciClearMaster,
  pciDisableDevice,
  pciEnableDevice,
  pciIomap,
  pciIoremapBar,
  pciIsEnabled,
  pcimEnableDevice,
  pcimIomapRegion,
  pciReleaseRegions,
  pciRequestRegions,
  pciResourceEnd,
  pciResourceLen,
  pciResourceStart,
  pciSetMaster,
} from './pci.ts';
import { PCI_ANY_ID, type PciDriver, pciBus, pciMatchId, pciRegisterDriver, pciUnregisterDriver } from './pci-bus.ts';
import {
  type PciDev,
  pciReadConfigDword,
  pciReadConfigWord,
  pciWriteConfigByte,
  pciWriteConfigDword,
} from './pci-dev.ts';
import {
  PCI_IRQ_ALL_TYPES,
  PCI_IRQ_INTX,
  PCI_IRQ_MSI,
  pciAllocIrqVectors,
  pciDisableMsi,
  pciEnableMsi,
  pciFreeIrqVectors,
  pciIrqVector,
  pciMsiVecCount,
} from './pci-msi.ts';
import { pciDevices, pciHostProbe } from './pci-probe.ts';
import { PCI_COMMAND_INTX_DISABLE, PCI_COMMAND_MASTER } from './pci-regs.ts';
import { FakeFunction, pciRig, RIG_WINDOWS } from './pci-rig.cases.ts';
import { requestMemRegion } from './resource.ts';

const MIB = 2 ** 20;
const MSI_AT = 0x50;

/** With a BAR of 1 MiB, INTA on line 11, and MSI of up to four messages. */
function full(slot: number): FakeFunction {
  const fn = new FakeFunction(slot << 3, 0x1234, 0x11e8, 0xff00).capabilities([MSI_AT, 5, 0]);
  fn.set(MSI_AT, 0x0084_0005, 0x0071_0000)
    .set(MSI_AT + 4, 0, 0xffff_fffc)
    .set(MSI_AT + 8, 0, 0xffff_ffff);
  return fn
    .set(MSI_AT + 12, 0, 0xffff)
    .bar(0, MIB)
    .set(0x3c, 0x010b, 0xff);
}

async function withDevice(
  body: (dev: PciDev, fn: FakeFunction, kernel: Kernel) => Promise<void> | void,
  options: { fn?: FakeFunction; kernel?: KernelOptions; msiBase?: number } = {},
): Promise<void> {
  const fn = options.fn ?? full(1);
  const kernel = pciRig([fn], options.kernel, options.msiBase);
  await kernel.run(async () => {
    await pciHostProbe(kernel, { windows: RIG_WINDOWS });
    await body(pciDevices(kernel)[0]!, fn, kernel);
  });
}

test('enabling switches decoding on once; what has no address cannot be enabled', async () => {
  await withDevice((dev, fn, kernel) => {
    assert.equal(pciEnableDevice(dev), OK);
    assert.equal(pciEnableDevice(dev), OK);
    assert.equal(fn.command, 2);
    assert.match(logText(kernel), /pci 0000:00:01\.0: enabling device \(0000 -> 0002\)/);
    pciDisableDevice(dev);
    assert.equal(pciIsEnabled(dev), true);
    pciDisableDevice(dev);
    assert.equal(pciIsEnabled(dev), false);
    pciDisableDevice(dev);
    assert.deepEqual(splatMessages(kernel), ['WARNING: 0000:00:01.0: disabling already-disabled device']);
  });
  await withDevice(
    (dev, _fn, kernel) => {
      assert.equal(pciEnableDevice(dev), EINVAL);
      assert.equal(pciIsEnabled(dev), false);
      assert.match(logText(kernel), /BAR 0 \[mem size 0x40000000\]: not assigned; can't enable device/);
    },
    { fn: full(1).bar(0, 2 ** 30) },
  );
});

test('mastering the bus is a bit of the command register, and ends when the device is disabled', async () => {
  await withDevice((dev, fn) => {
    pciEnableDevice(dev);
    pciSetMaster(dev);
    assert.equal(fn.command & PCI_COMMAND_MASTER, PCI_COMMAND_MASTER);
    pciClearMaster(dev);
    assert.equal(fn.command & PCI_COMMAND_MASTER, 0);
    pciSetMaster(dev);
    pciDisableDevice(dev);
    assert.equal(fn.command & PCI_COMMAND_MASTER, 0);
    assert.equal(dev.isBusmaster, false);
  });
});

test('BARs are claimed all or none', async () => {
  await withDevice((dev, _fn, kernel) => {
    assert.deepEqual(
      [pciResourceStart(dev, 0), pciResourceLen(dev, 0), pciResourceEnd(dev, 0)],
      [0xc000_0000, MIB, 0xc00f_ffff],
    );
    assert.deepEqual([pciResourceStart(dev, 3), pciResourceLen(dev, 3), pciResourceEnd(dev, 3)], [0, 0, 0]);
    assert.equal(pciRequestRegions(dev, 'one'), OK);
    assert.equal(pciRequestRegions(dev, 'two'), EBUSY);
    assert.match(logText(kernel), /BAR 0: can't reserve \[mem 0xc0000000-0xc00fffff\]/);
    pciReleaseRegions(dev);
    assert.equal(requestMemRegion(kernel, 0xc000_0000, MIB, 'third'), OK);
  });
});

test('a BAR is mapped whole or in part; one that is not there is null', async () => {
  await withDevice((dev, _fn, kernel) => {
    assert.equal(pciIomap(dev, 0)?.size, MIB);
    assert.equal(pciIomap(dev, 0, 4096)?.size, 4096);
    assert.equal(pciIomap(dev, 1), null);
    assert.equal(pciIoremapBar(dev, 0)?.phys, 0xc000_0000);
    assert.equal(pciIoremapBar(dev, 2), null);
    assert.match(logText(kernel), /can't ioremap BAR 2/);
  });
});

test('configuration accesses that cannot be give all ones, or EINVAL', async () => {
  await withDevice((dev) => {
    assert.equal(pciReadConfigWord(dev, 1), 0xffff);
    assert.equal(pciReadConfigDword(dev, 4096), 0xffff_ffff);
    assert.equal(pciWriteConfigDword(dev, 2, 0), EINVAL);
    assert.equal(pciWriteConfigByte(dev, -1, 0), EINVAL);
  });
});

test('a message vector: address and data are written, the pin is off, and all is undone', async () => {
  await withDevice((dev, fn, kernel) => {
    assert.equal(pciMsiVecCount(dev), 4);
    assert.equal(pciAllocIrqVectors(dev, 1, 4, PCI_IRQ_ALL_TYPES), 1);
    assert.equal(fn.at(MSI_AT + 4), 0xfee0_0000);
    assert.equal(fn.at(MSI_AT) >>> 16, 0x85, 'on, for one message');
    assert.equal(fn.command & PCI_COMMAND_INTX_DISABLE, PCI_COMMAND_INTX_DISABLE);
    const line = pciIrqVector(dev, 0);
    assert.ok(line >= 1024);
    assert.equal(pciIrqVector(dev, 1), EINVAL);
    assert.equal(pciAllocIrqVectors(dev, 1, 1, PCI_IRQ_MSI), EINVAL, 'it has one already');
    pciFreeIrqVectors(dev);
    assert.equal(fn.at(MSI_AT) >>> 16, 0x84);
    assert.equal(fn.command & PCI_COMMAND_INTX_DISABLE, 0);
    assert.equal(pciEnableMsi(dev), OK);
    assert.equal(pciIrqVector(dev, 0), line, 'the vector was given back');
    requestIrq(kernel, line, () => 1, 0, 'late', dev);
    pciDisableMsi(dev);
    assert.match(splatMessages(kernel)[0]!, /freeing the vector of irq 1024, which has a handler/);
  });
});

test('without messages the pin serves, where it is allowed and one vector is enough', async () => {
  for (const options of [{ kernel: { cmdline: 'pci=nomsi' } }, { msiBase: -1 }]) {
    await withDevice((dev) => {
      assert.equal(pciAllocIrqVectors(dev, 1, 8, PCI_IRQ_ALL_TYPES), 1);
      assert.equal(pciIrqVector(dev, 0), 11);
      assert.equal(pciAllocIrqVectors(dev, 1, 1, PCI_IRQ_MSI), ENOSPC);
      assert.equal(pciAllocIrqVectors(dev, 2, 2, PCI_IRQ_ALL_TYPES), ENOSPC);
    }, options);
  }
  await withDevice(
    (dev) => {
      assert.equal(pciAllocIrqVectors(dev, 1, 1, PCI_IRQ_INTX), ENOSPC);
      assert.equal(pciIrqVector(dev, 0), EINVAL);
      assert.equal(pciAllocIrqVectors(dev, 2, 1, PCI_IRQ_INTX), EINVAL);
    },
    { fn: full(1).set(0x3c, 0, 0xff) },
  );
});

test('an IOMMU may say where the device sees the message register', async () => {
  await withDevice((dev, fn, kernel) => {
    kernel.msiAddress = (asker, doorbell) => (asker === dev ? doorbell - 0xf000_0000 : -1);
    assert.equal(pciAllocIrqVectors(dev, 1, 1, PCI_IRQ_MSI), 1);
    assert.equal(fn.at(MSI_AT + 4), 0x0ee0_0000);
    pciFreeIrqVectors(dev);
    kernel.msiAddress = () => ENOSPC;
    assert.equal(pciAllocIrqVectors(dev, 1, 1, PCI_IRQ_MSI), ENOSPC);
  });
});

test('tables match by numbers, by subsystem, and by class under a mask', async () => {
  await withDevice((dev) => {
    dev.class = 0x01_0802;
    assert.equal(pciMatchId([{ vendor: 0x1234, device: 0x11e8 }], dev)?.device, 0x11e8);
    assert.equal(pciMatchId([{ vendor: 0x1234, device: 1 }], dev), null);
    assert.equal(pciMatchId([{ vendor: PCI_ANY_ID, subvendor: 1 }], dev), null);
    assert.notEqual(pciMatchId([{ class: 0x01_0800, classMask: 0xff_ff00 }], dev), null);
    assert.equal(pciMatchId([{ class: 0x01_0800 }], dev), null);
  });
});

test('a driver is bound by its table, and what it manages is given back when it goes', async () => {
  await withDevice(async (dev, fn, kernel) => {
    const seen: string[] = [];
    const driver: PciDriver = {
      name: 'probe-me',
      bus: pciBus,
      idTable: [{ vendor: 0x1234, device: 0x11e8 }],
      probe(dev) {
        seen.push(dev.name);
        assert.equal(pcimEnableDevice(dev), OK);
        assert.equal(typeof pcimIomapRegion(dev, 0, 'probe-me'), 'object');
        assert.equal(pcimIomapRegion(dev, 0, 'again'), EBUSY);
        pciSetMaster(dev);
        return pciAllocIrqVectors(dev, 1, 1, PCI_IRQ_MSI) === 1 ? OK : ENOSPC;
      },
    };
    const other: PciDriver = { ...driver, name: 'other', idTable: [{ vendor: 0x8086 }] };
    await pciRegisterDriver(kernel, other);
    assert.equal(dev.driver, null);
    // A driver of another bus does not get PCI functions, even of the right name.
    await driverRegister(kernel, { name: dev.name, probe: () => OK });
    assert.equal(dev.driver, null);
    await pciRegisterDriver(kernel, driver);
    assert.deepEqual(seen, ['0000:00:01.0']);
    assert.equal(dev.msiEnabled, true);
    await deviceReleaseDriver(dev);
    assert.equal(dev.driver, null);
    assert.deepEqual([dev.msiEnabled, pciIsEnabled(dev), fn.command & PCI_COMMAND_MASTER], [false, false, 0]);
    assert.equal(pciRequestRegions(dev, 'next'), OK);
    await pciUnregisterDriver(kernel, driver);
  });
});

test('the host bridge sets up addressing before the probe; its error fails that', async () => {
  const fn = full(1);
  const kernel = pciRig([fn]);
  const order: string[] = [];
  await kernel.run(async () => {
    const bridge = await pciHostProbe(kernel, {
      windows: RIG_WINDOWS,
      busDmaLimit: 0xfff_ffff,
      dmaConfigure: (dev) => {
        order.push(`configure ${dev.name}`);
        return OK;
      },
    });
    const driver: PciDriver = {
      name: 'x',
      bus: pciBus,
      idTable: [{}],
      probe: () => {
        order.push('probe');
        return OK;
      },
    };
    await pciRegisterDriver(kernel, driver);
    assert.deepEqual(order, ['configure 0000:00:01.0', 'probe']);
    const [dev] = pciDevices(kernel);
    assert.equal(dev!.busDmaLimit, 0xfff_ffff);
    await pciUnregisterDriver(kernel, driver);
    bridge.dmaConfigure = () => EINVAL;
    await pciRegisterDriver(kernel, driver);
    assert.equal(dev!.driver, null);
  });
});
