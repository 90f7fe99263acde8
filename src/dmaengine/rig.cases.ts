/** What the tests of this folder, and of clients, stand on: a kernel, devices, and a software controller. */
import { dmaBitMask } from '../base/addr.ts';
import { Device } from '../kernel/device.ts';
import { Kernel } from '../kernel/kernel.ts';
import { SimMachine } from '../machine/sim/sim-machine.ts';
import { dmaSetMaskAndCoherent } from '../mapping/index.ts';
import { dmaAsyncDeviceRegister } from './dmaengine.ts';
import { FakeDmaDevice, type FakeOptions } from './fake-provider.cases.ts';

/** A kernel on a machine with 32 MiB of RAM from 1 MiB on. */
export function makeKernel(options: { coherent?: boolean; seed?: number } = {}): Kernel {
  const machine = new SimMachine({
    name: 'rig',
    coherent: options.coherent ?? true,
    cacheLineBytes: 32,
    seed: options.seed ?? 1,
    ram: [{ base: 0x10_0000, sizeBytes: 32 << 20 }],
  });
  return new Kernel(machine);
}

/** A device that can address everything. */
export function makeDevice(kernel: Kernel, name: string): Device {
  const dev = new Device(kernel, name);
  dev.dmaMask = dmaBitMask(64);
  dmaSetMaskAndCoherent(dev, dmaBitMask(64));
  return dev;
}

/** A registered software controller, `labdmac` unless named. */
export function makeProvider(kernel: Kernel, options: FakeOptions & { name?: string } = {}): FakeDmaDevice {
  const device = new FakeDmaDevice(makeDevice(kernel, options.name ?? 'labdmac'), options);
  const error = dmaAsyncDeviceRegister(device);
  if (error !== 0) throw new Error(`dmaAsyncDeviceRegister gave ${error}`);
  return device;
}
