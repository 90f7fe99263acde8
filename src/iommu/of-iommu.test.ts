import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  Device,
  dt,
  Kernel,
  type OfNode,
  ofFindNodeByPath,
  ofTree,
  PCI_DEVFN,
  PciBus,
  PciDev,
  PciHostBridge,
  pciBus,
} from '../kernel/index.ts';
import { SimMachine } from '../machine/index.ts';
import { ofIommuSpec, ofMapId } from './of-iommu.ts';

const machine = new SimMachine({ name: 'of', coherent: true, seed: 1, ram: [{ base: 0, sizeBytes: 16 << 20 }] });
const kernel = new Kernel(machine, {});
const tree = ofTree(
  dt('/', { '#address-cells': 1, '#size-cells': 1 }, [
    dt('first: iommu@1000', { '#iommu-cells': 1 }),
    dt('second: iommu@2000', { '#iommu-cells': 1 }),
    dt('pcie', {
      'iommu-map': [0x0, '&first', 0x10000, 0x100, 0x100, '&second', 0x0, 0x200],
      'iommu-map-mask': 0xfff8,
    }),
    dt('one', { iommus: ['&first', 5] }),
    dt('several', { iommus: ['&first', 5, '&first', 7] }),
    dt('torn', { iommus: ['&first', 5, '&second', 7] }),
    dt('none'),
  ]),
);
const at = (path: string): OfNode => ofFindNodeByPath(tree, path)!;
const told = (path: string) => {
  const spec = ofIommuSpec(new Device(kernel, path, { ofNode: at(path) }));
  return spec && [spec.node.fullName, ...spec.ids];
};

test('a device’s node names its IOMMU and its ids', () => {
  assert.deepEqual(told('/one'), ['iommu@1000', 5]);
  assert.deepEqual(told('/several'), ['iommu@1000', 5, 7]);
  assert.equal(told('/none'), null);
  assert.equal(told('/torn'), null, 'of two IOMMUs');
  assert.equal(ofIommuSpec(new Device(kernel, 'without node')), null);
});

test('a PCI function’s id is mapped by its host bridge', () => {
  const bridge = new PciHostBridge(kernel, 'pci0000:00', { ofNode: at('/pcie') });
  const specOf = (busNumber: number, slot: number, fn = 0) => {
    const spec = ofIommuSpec(
      new PciDev(new PciBus(bridge, busNumber, null, null), PCI_DEVFN(slot, fn), pciBus, bridge),
    );
    return spec && [spec.node.fullName, ...spec.ids];
  };
  assert.deepEqual(specOf(0, 2), ['iommu@1000', 0x10010]);
  assert.deepEqual(specOf(0, 2, 5), ['iommu@1000', 0x10010], 'the mask leaves functions out');
  assert.deepEqual(specOf(2, 31), ['iommu@2000', 0x1f8]);
  assert.equal(specOf(3, 0), null);
  assert.equal(ofMapId(at('/none'), 0, 'iommu-map', 'iommu-map-mask'), null);
  bridge.ofNode = null;
  assert.equal(specOf(0, 2), null);
});
