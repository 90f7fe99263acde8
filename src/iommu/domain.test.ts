import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OK } from '../base/errno.ts';
import { GFP_KERNEL } from '../kernel/gfp.ts';
import { devIommu } from './dev-iommu.ts';
import {
  IOMMU_READ,
  IotlbGather,
  iommuIotlbSync,
  iommuIovaToPhys,
  iommuMap,
  iommuSetFaultHandler,
  iommuUnmap,
  iommuUnmapFast,
  reportIommuFault,
} from './domain.ts';
import { iommuDeviceUnregister } from './iommu.ts';
import { type SoftwareDomain, softwareIommu } from './test-support.cases.ts';

function newDomain() {
  const { newDevice } = softwareIommu('iommu.strict=1');
  const dev = newDevice();
  return { dev, domain: devIommu(dev)!.domain as SoftwareDomain };
}

test('several ranges are unmapped fast, and invalidated by one sync', () => {
  const { domain } = newDomain();
  assert.equal(iommuMap(domain, 0x10_0000, 0x20_0000, 0x3000, IOMMU_READ, GFP_KERNEL), OK);
  assert.equal(iommuIovaToPhys(domain, 0x10_2004), 0x20_2004);
  const gather = new IotlbGather();
  gather.init(false);
  assert.equal(iommuUnmapFast(domain, 0x10_0000, 0x1000, gather), 0x1000);
  assert.equal(iommuUnmapFast(domain, 0x10_1000, 0x1000, gather), 0x1000);
  assert.equal(domain.syncs, 0);
  iommuIotlbSync(domain, gather);
  assert.equal(domain.syncs, 1);
  assert.equal(iommuUnmap(domain, 0x10_2000, 0x1000), 0x1000);
  assert.equal(domain.syncs, 2);
  assert.equal(iommuUnmap(domain, 0x10_2000, 0x1000), 0);
  assert.equal(iommuIovaToPhys(domain, 0x10_2000), -1);
});

test('a fault goes to the handler of the domain, which says whether it took it', () => {
  const { dev, domain } = newDomain();
  assert.equal(reportIommuFault(domain, dev, 0x5000, true), false);
  const told: unknown[] = [];
  iommuSetFaultHandler(domain, (device, iova, isWrite) => {
    told.push([device.name, iova, isWrite]);
    return isWrite;
  });
  assert.equal(reportIommuFault(domain, dev, 0x5000, true), true);
  assert.equal(reportIommuFault(domain, dev, 0x6000, false), false);
  assert.deepEqual(told, [
    [dev.name, 0x5000, true],
    [dev.name, 0x6000, false],
  ]);
  iommuSetFaultHandler(domain, null);
  assert.equal(reportIommuFault(domain, dev, 0x5000, true), false);
});

test('devices that come after an IOMMU is gone are behind none', () => {
  const { kernel, newDevice } = softwareIommu('iommu.strict=1');
  const { ops } = devIommu(newDevice())!;
  iommuDeviceUnregister(kernel, ops);
  const late = newDevice();
  assert.equal(devIommu(late), null);
  assert.equal(late.dmaOps, null);
});
