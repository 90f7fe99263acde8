import assert from 'node:assert/strict';
import { test } from 'node:test';
import { dmaBitMask } from '../base/addr.ts';
import { EBUSY, EEXIST, EINVAL, ENODEV, EPROBE_DEFER, KernelBug, OK } from '../base/errno.ts';
import {
  Device,
  type DeviceDriver,
  devErrProbe,
  devGetDrvdata,
  deviceAdd,
  deviceDel,
  devSetDrvdata,
  driverRegister,
  driverUnregister,
} from './device.ts';
import { devmAddAction, devmReleaseAction, devmRemoveAction } from './devres.ts';
import { deferredDevices } from './driver-core.ts';
import { dt, ofTree } from './dt.ts';
import { readl } from './io.ts';
import { devmPlatformIoremapResource, PlatformDevice, platformGetIrq, platformGetResource } from './platform.ts';
import { RIG_REGS, rig } from './rig.cases.ts';
import { msleep } from './wait.ts';

test('a driver is bound to the devices that match, whichever came first, in the order of the devices', async () => {
  const { kernel } = rig();
  const probed: string[] = [];
  const tree = ofTree(
    dt('/', {}, [dt('a@1', { compatible: ['acme,dma-2', 'Acme,DMA'] }), dt('b@2', { compatible: 'acme,other' })]),
  );
  const driver: DeviceDriver = {
    name: 'acme-dma',
    compatible: ['acme,dma'],
    probe: (dev) => {
      probed.push(dev.name);
      return OK;
    },
  };
  await kernel.run(async () => {
    const [a, b] = tree.children.map((ofNode) => new PlatformDevice(kernel, ofNode.fullName, { ofNode }));
    assert.ok(a && b);
    assert.equal(await deviceAdd(a), OK);
    assert.equal(await driverRegister(kernel, driver), OK);
    assert.equal(await deviceAdd(b), OK);
    const late = new PlatformDevice(kernel, 'acme-dma');
    await deviceAdd(late);
    assert.deepEqual(probed, ['a@1', 'acme-dma']);
    assert.equal(a.driver, driver);
    assert.equal(b.driver, null);
    assert.equal(await driverRegister(kernel, driver), EBUSY);
    await driverUnregister(kernel, driver);
    assert.equal(a.driver, null);
  });
  assert.match(kernel.log.toString(), /Error: Driver 'acme-dma' is already registered, aborting\.\.\./);
});

test('the same device, or one of its name on its bus, cannot be added twice', async () => {
  const { kernel, splats } = rig();
  await kernel.run(async () => {
    const dev = new PlatformDevice(kernel, 'uart');
    assert.equal(await deviceAdd(dev), OK);
    assert.equal(await deviceAdd(dev), EEXIST);
    assert.equal(await deviceAdd(new PlatformDevice(kernel, 'uart')), EEXIST);
    assert.equal(await deviceAdd(new Device(kernel, 'uart')), OK, 'on no bus');
    assert.equal(kernel.devices.length, 2);
    await deviceDel(dev);
    await deviceDel(dev);
    assert.equal(kernel.devices.length, 1);
  });
  assert.deepEqual(splats(), Array(2).fill("sysfs: cannot create duplicate filename '/bus/platform/devices/uart'"));
});

test('a deferred probe is tried again when another device was bound, and the caller finds it bound', async () => {
  const { kernel } = rig();
  let clock = false;
  const attempts: string[] = [];
  await kernel.run(async () => {
    const uart = new PlatformDevice(kernel, 'uart');
    await deviceAdd(uart);
    await driverRegister(kernel, {
      name: 'uart',
      probe: async (dev) => {
        attempts.push(dev.name);
        await msleep(kernel, 1);
        return clock ? OK : devErrProbe(dev, EPROBE_DEFER, 'no clock');
      },
    });
    assert.deepEqual(deferredDevices(kernel), [uart]);
    assert.equal(uart.deferReason, 'no clock');
    await driverRegister(kernel, {
      name: 'clock',
      probe: () => {
        clock = true;
        return OK;
      },
    });
    assert.deepEqual(attempts, ['uart']);
    await deviceAdd(new PlatformDevice(kernel, 'clock'));
    assert.deepEqual(attempts, ['uart', 'uart']);
    assert.notEqual(uart.driver, null);
    assert.deepEqual(deferredDevices(kernel), []);
  });
});

test('a chain of deferrals resolves in any order of registration', async () => {
  for (const order of [
    [0, 1, 2, 3],
    [3, 2, 1, 0],
    [2, 0, 3, 1],
  ]) {
    const { kernel } = rig();
    const bound = new Set<number>();
    await kernel.run(async () => {
      for (const i of order) await deviceAdd(new PlatformDevice(kernel, `d${i}`));
      for (const i of order.slice().reverse()) {
        await driverRegister(kernel, {
          name: `d${i}`,
          probe: () => {
            if (i > 0 && !bound.has(i - 1)) return EPROBE_DEFER;
            bound.add(i);
            return OK;
          },
        });
      }
    });
    assert.equal(bound.size, 4);
  }
});

test('a probe that adds a device on which it does not wait does not deadlock', async () => {
  const { kernel } = rig();
  const order: string[] = [];
  await kernel.run(async () => {
    await driverRegister(kernel, {
      name: 'child',
      probe: () => {
        order.push('child');
        return OK;
      },
    });
    let deferred = true;
    await driverRegister(kernel, {
      name: 'late',
      probe: () => {
        order.push('late');
        if (!deferred) return OK;
        deferred = false;
        return EPROBE_DEFER;
      },
    });
    await driverRegister(kernel, {
      name: 'parent',
      probe: async (dev) => {
        await deviceAdd(new PlatformDevice(kernel, 'child', { parent: dev }));
        order.push('parent');
        return OK;
      },
    });
    await deviceAdd(new PlatformDevice(kernel, 'late'));
    await deviceAdd(new PlatformDevice(kernel, 'parent'));
  });
  assert.deepEqual(order.slice(0, 3), ['late', 'child', 'parent']);
  assert.ok(order.length > 3 && order.slice(3).every((name) => name === 'late'));
});

test('unbinding calls remove, then releases what was managed, newest first, then the hooks', async () => {
  const { kernel } = rig();
  const order: string[] = [];
  kernel.unbindHooks.push((dev) => order.push(`hook ${dev.name} ${dev.driver} ${dev.driverData}`));
  await kernel.run(async () => {
    const dev = new PlatformDevice(kernel, 'dev');
    await deviceAdd(dev);
    const driver: DeviceDriver = {
      name: 'dev',
      probe: (dev) => {
        devSetDrvdata(dev, 'data');
        devmAddAction(dev, () => void order.push('first'));
        devmAddAction(dev, async () => {
          await msleep(kernel, 1);
          order.push('second');
        });
        const never = () => void order.push('never');
        devmAddAction(dev, never);
        devmAddAction(dev, () => void order.push('third'));
        assert.equal(devmRemoveAction(dev, never), true);
        assert.equal(devmRemoveAction(dev, never), false);
        return OK;
      },
      remove: (dev) => void order.push(`remove ${devGetDrvdata<string>(dev)}`),
    };
    await driverRegister(kernel, driver);
    await driverUnregister(kernel, driver);
    assert.equal(dev.devres, null);
  });
  assert.deepEqual(order, ['remove data', 'third', 'second', 'first', 'hook dev null null']);
});

test('a failed probe releases what it had got, and is logged with driver, device and error', async () => {
  const { kernel } = rig();
  const released: string[] = [];
  await kernel.run(async () => {
    const dev = new PlatformDevice(kernel, 'dev');
    await deviceAdd(dev);
    for (const [name, error] of [
      ['bad', EINVAL],
      ['picky', ENODEV],
    ] as const) {
      await driverRegister(kernel, {
        name,
        match: () => true,
        probe: (dev) => {
          devmAddAction(dev, () => void released.push(name));
          return error;
        },
      });
    }
    assert.equal(dev.driver, null);
    await driverRegister(kernel, { name: 'good', match: () => true, probe: () => OK });
    assert.equal((dev.driver as DeviceDriver | null)?.name, 'good');
  });
  assert.deepEqual(released, ['bad', 'picky']);
  const errors = kernel.log.lines.filter((line) => line.level === 3).map((line) => line.text);
  assert.deepEqual(errors, ['platform dev: probe with driver bad failed with error -22']);
});

test('a probe that throws has failed, with a clear report; a kernel bug in it ends the run', async () => {
  const { kernel, splats } = rig();
  await kernel.run(async () => {
    const dev = new PlatformDevice(kernel, 'dev');
    await deviceAdd(dev);
    const probe = () => {
      throw new TypeError('regs is undefined');
    };
    await driverRegister(kernel, { name: 'dev', probe });
    assert.equal(dev.driver, null);
  });
  assert.deepEqual(splats(), ['dev dev: probe threw TypeError: regs is undefined']);
  assert.equal(kernel.splats[0]?.kind, 'oops');
  const other = rig();
  const run = other.kernel.run(async () => {
    await deviceAdd(new PlatformDevice(other.kernel, 'dev'));
    const probe = () => {
      throw new KernelBug('DMA_NONE');
    };
    await driverRegister(other.kernel, { name: 'dev', probe });
  });
  await assert.rejects(run, KernelBug);
});

test('a remove that throws is reported, and the resources are released all the same', async () => {
  const { kernel, splats } = rig();
  let released = 0;
  await kernel.run(async () => {
    const dev = new PlatformDevice(kernel, 'dev');
    await deviceAdd(dev);
    const driver: DeviceDriver = {
      name: 'dev',
      probe: (dev) => {
        devmAddAction(dev, () => void released++);
        return OK;
      },
      remove: () => {
        throw new Error('busy');
      },
    };
    await driverRegister(kernel, driver);
    await deviceDel(dev);
    assert.equal(dev.driver, null);
  });
  assert.equal(released, 1);
  assert.deepEqual(splats(), ['dev dev: remove threw Error: busy']);
});

test('a managed action can be run early; one that throws does not keep the others', async () => {
  const { kernel, splats } = rig();
  const order: string[] = [];
  await kernel.run(async () => {
    const dev = new Device(kernel, 'dev');
    const early = () => void order.push('early');
    devmAddAction(dev, early);
    await devmReleaseAction(dev, early);
    await devmReleaseAction(dev, early);
    await deviceAdd(dev);
    const driver: DeviceDriver = {
      name: 'dev',
      probe: (dev) => {
        devmAddAction(dev, () => void order.push('first'));
        devmAddAction(dev, () => {
          throw new Error('stuck');
        });
        return OK;
      },
    };
    await driverRegister(kernel, driver);
    await driverUnregister(kernel, driver);
  });
  assert.deepEqual(order, ['early', 'first']);
  assert.match(splats()[0] as string, /devm_release_action of an action that was never added/);
  assert.match(splats()[1] as string, /dev: a managed resource could not be released: Error: stuck/);
});

test('masks are kept with a limit to compare addresses with', () => {
  const { kernel } = rig();
  const dev = new Device(kernel, 'dev');
  assert.deepEqual([dev.dmaMask, dev.dmaMaskLimit, dev.coherentDmaMask, dev.coherentDmaMaskLimit], [null, 0, 0n, 0]);
  dev.dmaMask = dmaBitMask(64);
  dev.coherentDmaMask = dmaBitMask(24);
  assert.deepEqual([dev.dmaMaskLimit, dev.coherentDmaMaskLimit], [2 ** 52 - 1, 0xff_ffff]);
  const platform = new PlatformDevice(kernel, 'p');
  assert.deepEqual([platform.dmaMaskLimit, platform.coherentDmaMask], [0xffff_ffff, dmaBitMask(32)]);
});

test('a platform device claims, maps and gives back its registers', async () => {
  const { kernel } = rig();
  const resources = [
    { kind: 'mem', start: RIG_REGS, sizeBytes: 0x100, name: 'regs' },
    { kind: 'irq', start: 40, sizeBytes: 1, name: 'irq' },
  ] as const;
  await kernel.run(async () => {
    const results: unknown[] = [];
    const driver: DeviceDriver = {
      name: 'rig',
      match: () => true,
      probe: (dev) => {
        results.push(platformGetIrq(dev, 0), platformGetResource(dev, 1));
        const io = devmPlatformIoremapResource(dev, 0);
        results.push(typeof io === 'number' ? io : readl(io, 0));
        return typeof io === 'number' ? io : OK;
      },
    };
    await driverRegister(kernel, driver);
    const first = new PlatformDevice(kernel, 'first', { resources });
    await deviceAdd(first);
    const second = new PlatformDevice(kernel, 'second', { resources });
    await deviceAdd(second);
    assert.deepEqual(results, [40, null, 0, 40, null, EBUSY]);
    await deviceDel(first);
    await deviceDel(second);
    await deviceAdd(second);
    assert.equal(results.at(-1), 0);
    assert.ok(platformGetIrq(second, 1) < 0);
  });
  assert.match(kernel.log.toString(), /rig second: can't request region for resource \[mem 0x10000000-0x100000ff\]/);
  assert.match(kernel.log.toString(), /rig second: IRQ index 1 not found/);
});
