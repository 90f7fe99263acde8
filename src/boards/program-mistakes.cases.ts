/** Mistakes that drivers make, each in the middle of a program that is right otherwise. */
import type { DmaAddr } from '../base/index.ts';
import {
  DMA_BIDIRECTIONAL,
  DMA_FROM_DEVICE,
  DMA_TO_DEVICE,
  type DmaDataDirection,
  GFP_KERNEL,
  kfree,
  kmalloc,
} from '../kernel/index.ts';
import {
  DMA_ATTR_SKIP_CPU_SYNC,
  dmaAllocCoherent,
  dmaFreeCoherent,
  dmaMappingError,
  dmaMapSingle,
  dmaMapSingleAttrs,
  dmaNeedSync,
  dmaSyncSingleForCpu,
  dmaSyncSingleForDevice,
  dmaUnmapSg,
  dmaUnmapSingle,
  sgAlloc,
} from '../mapping/index.ts';
import { mustEqual, writePattern } from './program-mapping.cases.ts';
import type { ProgramRig, RigDevice } from './program-rig.cases.ts';

/** A mapped buffer in the hands of a driver that is about to go wrong. */
interface Scene {
  readonly rig: ProgramRig;
  readonly device: RigDevice;
  readonly other: RigDevice;
  readonly bytes: Uint8Array;
  readonly addr: DmaAddr;
  readonly size: number;
  readonly dir: DmaDataDirection;
  free(): void;
}
/** One of them. It is found when the checker names one of `rules`, or when CPU or device see wrong bytes (an Error). */
export interface Mistake {
  readonly dir: DmaDataDirection;
  /** Without effect where CPU and device share memory: there neither the bytes nor the checker can show it. */
  readonly needsSync?: boolean;
  readonly rules: readonly string[];
  /** By hand instead of `dmaMapSingle`. */
  readonly map?: (dev: RigDevice['dev'], mem: Parameters<typeof dmaMapSingle>[1], dir: DmaDataDirection) => DmaAddr;
  make(scene: Scene): void;
}

const pattern = (size: number, value: number): Uint8Array => {
  const bytes = new Uint8Array(size);
  writePattern(bytes, 0, size, value);
  return bytes;
};
const unmap = ({ device, addr, size, dir }: Scene): void => dmaUnmapSingle(device.dev, addr, size, dir);
function deviceMustRead({ rig, device, addr, size }: Scene, expected: Uint8Array): void {
  const seen = new Uint8Array(size);
  rig.read(device, addr, seen, size);
  mustEqual(seen, expected, 'the device', 0);
}
const deviceWrites = ({ rig, device, addr }: Scene, bytes: Uint8Array): void =>
  rig.write(device, addr, bytes, 0, bytes.length);

export const MISTAKES: Readonly<Record<string, Mistake>> = {
  'no sync for the CPU': {
    dir: DMA_FROM_DEVICE,
    needsSync: true,
    rules: ['dma/missing-sync-for-cpu'],
    make(scene) {
      const bytes = pattern(scene.size, 99);
      deviceWrites(scene, bytes);
      mustEqual(scene.bytes, bytes, 'the CPU', 0);
    },
  },
  'no sync for the device': {
    dir: DMA_TO_DEVICE,
    needsSync: true,
    rules: ['dma/missing-sync-for-device'],
    make(scene) {
      dmaSyncSingleForCpu(scene.device.dev, scene.addr, scene.size, scene.dir);
      const bytes = pattern(scene.size, 99);
      scene.bytes.set(bytes);
      deviceMustRead(scene, bytes);
    },
  },
  'no sync at mapping': {
    dir: DMA_TO_DEVICE,
    needsSync: true,
    rules: ['dma/missing-sync-for-device'],
    map: (dev, mem, dir) => {
      const addr = dmaMapSingleAttrs(dev, mem, dir, DMA_ATTR_SKIP_CPU_SYNC);
      mem.bytes.set(pattern(mem.size, 99));
      return addr;
    },
    make: (scene) => deviceMustRead(scene, pattern(scene.size, 99)),
  },
  'wrong direction at unmapping': {
    dir: DMA_FROM_DEVICE,
    rules: ['dma/unmap-direction'],
    make: (scene) => unmap({ ...scene, dir: DMA_TO_DEVICE }),
  },
  'unmapped twice': {
    dir: DMA_BIDIRECTIONAL,
    rules: ['dma/unmap-unknown'],
    make(scene) {
      unmap(scene);
      unmap(scene);
    },
  },
  'unmapped with another size': {
    dir: DMA_TO_DEVICE,
    rules: ['dma/unmap-size'],
    make: (scene) => unmap({ ...scene, size: scene.size + 1 }),
  },
  'unmapped for another device': {
    dir: DMA_TO_DEVICE,
    // Where the other device has a mapping at that address, it loses that.
    rules: ['dma/unmap-unknown', 'dma/unmap-size', 'dma/unmap-direction', 'dma/leak'],
    make(scene) {
      dmaUnmapSingle(scene.other.dev, scene.addr, scene.size, scene.dir);
    },
  },
  'unmapped as a list': {
    dir: DMA_TO_DEVICE,
    rules: ['dma/unmap-function'],
    make({ device, addr, size, dir }) {
      const sgl = sgAlloc(1);
      sgl.dmaAddress = addr;
      sgl.dmaLength = size;
      sgl.length = size;
      dmaUnmapSg(device.dev, sgl, 1, dir);
    },
  },
  'never unmapped': { dir: DMA_BIDIRECTIONAL, rules: ['dma/leak'], make: () => {} },
  'freed while mapped': { dir: DMA_TO_DEVICE, rules: ['dma/freed-memory'], make: (scene) => scene.free() },
  'used by the device after unmapping': {
    dir: DMA_BIDIRECTIONAL,
    rules: ['dma/device-access-outside'],
    make(scene) {
      unmap(scene);
      deviceWrites(scene, pattern(scene.size, 3));
    },
  },
  'too long for the mapping': {
    dir: DMA_FROM_DEVICE,
    rules: ['dma/device-access-outside'],
    make: (scene) => deviceWrites(scene, pattern(scene.size + 64, 3)),
  },
  'written by the device, mapped for reading': {
    dir: DMA_TO_DEVICE,
    rules: ['dma/device-write-to-device-mapping'],
    make: (scene) => deviceWrites(scene, pattern(scene.size, 3)),
  },
  'error of mapping not checked': {
    dir: DMA_TO_DEVICE,
    rules: ['dma/mapping-error-unchecked'],
    make(scene) {
      unmap(scene);
      const mem = kmalloc(scene.rig.kernel, scene.size, GFP_KERNEL)!;
      const addr = dmaMapSingle(scene.device.dev, mem, scene.dir);
      dmaUnmapSingle(scene.device.dev, addr, scene.size, scene.dir);
    },
  },
  'sync in another direction': {
    dir: DMA_FROM_DEVICE,
    rules: ['dma/sync-direction'],
    make: ({ device, addr, size }) => dmaSyncSingleForCpu(device.dev, addr, size, DMA_TO_DEVICE),
  },
  'sync beyond the mapping': {
    dir: DMA_FROM_DEVICE,
    rules: ['dma/sync-outside'],
    make: ({ device, addr, size, dir }) => dmaSyncSingleForDevice(device.dev, addr, size + 1, dir),
  },
  'coherent memory freed with another size': {
    dir: DMA_TO_DEVICE,
    rules: ['dma/free-size'],
    make(scene) {
      unmap(scene);
      const { mem, handle } = dmaAllocCoherent(scene.device.dev, 5000, GFP_KERNEL)!;
      dmaFreeCoherent(scene.device.dev, 8000, mem, handle);
    },
  },
};

/** Whether the mistake can be shown for the mapping at `addr`. */
function shows(mistake: Mistake, device: RigDevice, addr: DmaAddr): boolean {
  return mistake.needsSync !== true || dmaNeedSync(device.dev, addr);
}

/** Make it. Returns what was seen of it: wrong bytes or a refused access (an Error), nothing, or null: not to be shown here. */
export function makeMistake(rig: ProgramRig, mistake: Mistake, size: number, which: number): Error | undefined | null {
  const device = rig.devices[which % rig.devices.length]!;
  const other = rig.devices[(which + 1) % rig.devices.length]!;
  const mem = kmalloc(rig.kernel, size, GFP_KERNEL)!;
  mem.bytes.set(pattern(size, 7));
  const addr = (mistake.map ?? dmaMapSingle)(device.dev, mem, mistake.dir);
  if (dmaMappingError(device.dev, addr) !== 0) throw new Error('the buffer was not mapped');
  if (!shows(mistake, device, addr)) return null;
  const free = (): void => kfree(rig.kernel, mem);
  try {
    mistake.make({ rig, device, other, bytes: mem.bytes, addr, size, dir: mistake.dir, free });
  } catch (error) {
    return error as Error;
  }
  return undefined;
}
