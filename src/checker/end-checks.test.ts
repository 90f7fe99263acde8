import assert from 'node:assert/strict';
import { test } from 'node:test';
import { dmaBitMask } from '../base/addr.ts';
import { OK } from '../base/index.ts';
import {
  Completion,
  Device,
  type DeviceDriver,
  deviceAdd,
  deviceDel,
  driverRegister,
  GFP_KERNEL,
  kmalloc,
  mightSleep,
  msleep,
  SpinLock,
  spinLock,
  spinLockIrqsave,
  spinUnlock,
  spinUnlockIrqrestore,
  waitForCompletion,
} from '../kernel/index.ts';
import {
  DMA_TO_DEVICE,
  type DmaAddr,
  type DmaCoherent,
  dmaAllocCoherent,
  dmaFreeCoherent,
  dmaMappingError,
  dmaMapSingle,
  dmaSetMaskAndCoherent,
  dmaUnmapSingle,
} from '../mapping/index.ts';
import { kernelLineOf } from './finding.ts';
import { makeRig, type Rig } from './rig.cases.ts';

/** A driver that maps a buffer and allocates a ring in probe, and gives back what it is told to. */
class RingDriver implements DeviceDriver {
  readonly name = 'ring';
  readonly givesBack: boolean;
  ring: DmaCoherent | null = null;
  addr = -1 as DmaAddr;
  constructor(givesBack: boolean) {
    this.givesBack = givesBack;
  }
  match(dev: Device): boolean {
    return dev.name === 'ring0';
  }
  probe(dev: Device) {
    dev.dmaMask = dmaBitMask(64);
    dmaSetMaskAndCoherent(dev, dmaBitMask(64));
    this.ring = dmaAllocCoherent(dev, 4096, GFP_KERNEL);
    this.addr = dmaMapSingle(dev, kmalloc(dev.kernel, 256, GFP_KERNEL)!, DMA_TO_DEVICE);
    return dmaMappingError(dev, this.addr);
  }
  remove(dev: Device): void {
    if (!this.givesBack) return;
    dmaUnmapSingle(dev, this.addr, 256, DMA_TO_DEVICE);
    dmaFreeCoherent(dev, 4096, this.ring!.mem, this.ring!.handle);
  }
}
async function bind(rig: Rig, driver: DeviceDriver): Promise<Device> {
  await driverRegister(rig.kernel, driver);
  const dev = new Device(rig.kernel, 'ring0');
  assert.equal(await deviceAdd(dev), OK);
  assert.equal(dev.driver, driver);
  return dev;
}

test('what a bound driver holds is no leak when the run ends, and none when it gives it back', async () => {
  const rig = makeRig();
  await rig.kernel.run(async () => {
    const dev = await bind(rig, new RingDriver(true));
    rig.checker.runEnded();
    await deviceDel(dev);
  });
  rig.checker.close();
  assert.deepEqual(rig.found(), []);
});

test('what a driver leaves when it is unbound is told, each with the place that made it and the count', async () => {
  const rig = makeRig();
  await rig.kernel.run(async () => {
    await deviceDel(await bind(rig, new RingDriver(false)));
  });
  const findings = rig.findings();
  assert.deepEqual(
    findings.map(({ rule }) => rule),
    ['dma/leak', 'dma/leak'],
  );
  for (const finding of findings) {
    assert.equal(finding.mappedAt?.fn, 'RingDriver.probe');
    assert.match(kernelLineOf(finding) ?? '', /pending DMA allocations while released from device \[count=2\]/);
  }
});

test('a probe that fails and leaves a mapping leaks', async () => {
  const rig = makeRig();
  class Failing extends RingDriver {
    override probe(dev: Device) {
      super.probe(dev);
      return -5 as never;
    }
  }
  await rig.kernel.run(async () => {
    await driverRegister(rig.kernel, new Failing(true));
    await deviceAdd(new Device(rig.kernel, 'ring0'));
  });
  assert.deepEqual(rig.found(), ['dma/leak', 'dma/leak']);
});

test('a leak is told once, though the driver is unbound after the run ended', async () => {
  const rig = makeRig();
  dmaMappingError(rig.a.dev, dmaMapSingle(rig.a.dev, rig.kmalloc(64), DMA_TO_DEVICE));
  rig.checker.runEnded();
  await rig.kernel.run(() => deviceDel(rig.a.dev));
  rig.checker.close();
  assert.deepEqual(
    rig.findings().map(({ rule, times }) => [rule, times]),
    [['dma/leak', 1]],
  );
});

test('a run that hangs says who waits for what, and nothing of what it could not give back', async () => {
  const rig = makeRig();
  dmaMappingError(rig.a.dev, dmaMapSingle(rig.a.dev, rig.kmalloc(64), DMA_TO_DEVICE));
  const done = new Completion(rig.kernel, 'transfer');
  const error = await rig.kernel.run(() => waitForCompletion(done)).catch((thrown: unknown) => thrown);
  rig.checker.runEnded(error);
  rig.checker.close();
  const [finding, ...rest] = rig.findings();
  assert.deepEqual(rest, []);
  assert.equal(finding?.rule, 'kernel/hung-task');
  assert.match(finding.values.waits[0]?.waitsFor ?? '', /transfer/);
});

test('sleeping under a spin lock is found, sleeping in a task is not', async () => {
  const rig = makeRig();
  const lock = new SpinLock(rig.kernel, 'ring');
  await rig.kernel.run(async (kernel) => {
    await msleep(kernel, 1);
    mightSleep(kernel, 'allocation');
    assert.deepEqual(rig.found(), []);
    const flags = spinLockIrqsave(lock);
    mightSleep(kernel, 'allocation');
    spinUnlockIrqrestore(lock, flags);
  });
  assert.deepEqual(rig.found(), ['kernel/sleep-in-atomic']);
  assert.match(rig.findings()[0]!.at?.file ?? '', /end-checks\.test\.ts$/);
});

test('taking a lock twice is a deadlock', async () => {
  const rig = makeRig();
  const lock = new SpinLock(rig.kernel, 'ring');
  const error = await rig.kernel
    .run(() => {
      spinLock(lock);
      spinLock(lock);
    })
    .catch((thrown: unknown) => thrown);
  rig.checker.runEnded(error);
  assert.deepEqual(rig.found(), ['kernel/deadlock']);
});

test('locks that are taken and given back are silent', async () => {
  const rig = makeRig();
  const lock = new SpinLock(rig.kernel, 'ring');
  await rig.kernel.run(() => {
    spinLock(lock);
    spinUnlock(lock);
  });
  rig.checker.close();
  assert.deepEqual(rig.found(), []);
});

test('a checker that is closed hears nothing any more', () => {
  const rig = makeRig();
  rig.checker.close();
  rig.checker.close();
  dmaMapSingle(rig.a.dev, rig.kmalloc(64), DMA_TO_DEVICE);
  rig.a.write(0, 4);
  assert.deepEqual(rig.found(), []);
  assert.equal(rig.machine.observer, null);
  assert.equal(rig.kernel.mappingObserver, null);
});

test('memory that the device cannot reach is a matter of portability', () => {
  const rig = makeRig();
  dmaSetMaskAndCoherent(rig.a.dev, dmaBitMask(32));
  rig.a.dev.busDmaLimit = 0xffff;
  assert.ok(dmaMapSingle(rig.a.dev, rig.kmalloc(64), DMA_TO_DEVICE) < 0);
  assert.deepEqual(
    rig.findings().map(({ rule, severity }) => [rule, severity]),
    [['dma/unreachable-memory', 'portability']],
  );
});
