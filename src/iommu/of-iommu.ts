/** Which IOMMU the device tree puts in front of a device, and under which ids that knows it. */
import { type Device, devErr } from '../kernel/device.ts';
import {
  type OfNode,
  ofCountPhandleWithArgs,
  ofFindNodeByPhandle,
  ofParsePhandleWithArgs,
  ofPropertyReadU32,
  ofPropertyReadU32Array,
} from '../kernel/of.ts';
import { toPciDev } from '../kernel/pci-dev.ts';
import { pciHostBridgeOf } from '../kernel/pci-host-bridge.ts';

/** @linux struct iommu_fwspec */
export interface IommuFwspec {
  /** The IOMMU's node. */
  readonly node: OfNode;
  readonly ids: readonly number[];
}

/** Cells of an entry of `iommu-map`: requester id, IOMMU, id there, how many. */
const MAP_CELLS = 4;

/**
 * The id that `map` (`iommu-map`) gives a requester id, and its IOMMU; null when it names none for it.
 * @linux of_map_id
 */
export function ofMapId(node: OfNode, rid: number, map: string, maskName: string): IommuFwspec | null {
  const cells = ofPropertyReadU32Array(node, map);
  if (cells === null) return null;
  const masked = (rid & (ofPropertyReadU32(node, maskName) ?? 0xffff_ffff)) >>> 0;
  for (let at = 0; at + MAP_CELLS <= cells.length; at += MAP_CELLS) {
    const [first, phandle, base, length] = cells.slice(at, at + MAP_CELLS) as [number, number, number, number];
    if (masked < first || masked - first >= length) continue;
    const target = ofFindNodeByPhandle(node.root, phandle);
    return target === null ? null : { node: target, ids: [base + masked - first] };
  }
  return null;
}

/** What the tree says of a device: PCI functions by their host bridge, others by their own node. @linux of_iommu_configure */
export function ofIommuSpec(dev: Device): IommuFwspec | null {
  const pdev = toPciDev(dev);
  if (pdev !== null) {
    const node = pciHostBridgeOf(pdev)?.ofNode ?? null;
    return node === null ? null : ofMapId(node, pdev.bdf, 'iommu-map', 'iommu-map-mask');
  }
  const node = dev.ofNode;
  if (node === null) return null;
  const count = ofCountPhandleWithArgs(node, 'iommus', '#iommu-cells');
  if (count <= 0) return null;
  let iommu: OfNode | null = null;
  const ids: number[] = [];
  for (let index = 0; index < count; index++) {
    const entry = ofParsePhandleWithArgs(node, 'iommus', '#iommu-cells', index);
    if (entry === null) continue;
    if (iommu !== null && entry.node !== iommu) {
      devErr(dev, `IOMMUs ${iommu.path} and ${entry.node.path}: a device is behind one at most`);
      return null;
    }
    iommu = entry.node;
    ids.push(entry.args[0] ?? 0);
  }
  return iommu === null ? null : { node: iommu, ids };
}
