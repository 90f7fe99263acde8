import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { Prng } from '../base/prng.ts';
import { FdtError, readFdt } from './fdt.ts';
import {
  ofAllNodes,
  ofDeviceIsAvailable,
  ofFindCompatibleNode,
  ofFindNodeByPath,
  ofParsePhandleWithArgs,
  ofPropertyReadString,
  ofPropertyReadU32,
} from './of.ts';
import { ofAddressToResource, ofDmaGetRange, ofMemory, ofReservedMemory } from './of-address.ts';
import { ofIrqCount, ofIrqGet } from './of-irq.ts';
import { ofDeviceName, ofPlatformPopulate } from './platform.ts';
import { rig } from './rig.cases.ts';

const fixtures = new URL('../../fixtures/dtb/', import.meta.url);
const load = (name: string) => new Uint8Array(readFileSync(new URL(name, fixtures)));

/** A blob by hand: tokens of the structure block, strings, and fields of the header to change. */
function blob(tokens: number[], strings = '', header: Record<number, number> = {}): Uint8Array {
  const structStart = 40 + 16;
  const stringsStart = structStart + 4 * tokens.length;
  const bytes = new Uint8Array(stringsStart + strings.length);
  const view = new DataView(bytes.buffer);
  const fields = [
    0xd00dfeed,
    bytes.length,
    structStart,
    stringsStart,
    40,
    17,
    16,
    0,
    strings.length,
    4 * tokens.length,
  ];
  for (const [i, value] of fields.entries()) view.setUint32(4 * i, header[4 * i] ?? value);
  for (const [i, token] of tokens.entries()) view.setUint32(structStart + 4 * i, token);
  for (let i = 0; i < strings.length; i++) bytes[stringsStart + i] = strings.charCodeAt(i);
  return bytes;
}
const A = 0x6100_0000; // "a" with its terminator and padding

test('the tree of the Raspberry Pi 3: DMA controller, windows and interrupts', () => {
  const { kernel } = rig();
  const { root, version } = readFdt(load('bcm2837-rpi-3-b.dtb'));
  assert.equal(version, 17);
  assert.equal(ofPropertyReadString(root, 'model'), 'Raspberry Pi 3 Model B');
  const dma = ofFindCompatibleNode(root, 'brcm,bcm2835-dma');
  assert.ok(dma !== null);
  assert.equal(dma.path, '/soc/dma@7e007000');
  assert.deepEqual(ofAddressToResource(dma, 0), { start: 0x3f00_7000, sizeBytes: 0xf00 });
  assert.equal(ofDeviceName(dma), '3f007000.dma');
  assert.deepEqual(ofDmaGetRange(dma.parent), [{ cpuStart: 0, dmaStart: 0xc000_0000, sizeBytes: 0x3f00_0000 }]);
  assert.equal(ofIrqCount(dma), 16);
  assert.equal(ofIrqGet(kernel, dma, 0), 32 + 16);
  assert.equal(ofPropertyReadU32(dma, '#dma-cells'), 1);
  const mmc = ofFindNodeByPath(root, '/soc/mmc@7e202000');
  assert.ok(mmc !== null);
  const channel = ofParsePhandleWithArgs(mmc, 'dmas', '#dma-cells', 0);
  assert.deepEqual([channel?.node, channel?.args], [dma, [13]]);
});

test('the tree of the ZCU102: 64-bit addresses and GIC lines', () => {
  const { kernel } = rig();
  const { root } = readFdt(load('zynqmp-zcu102-rev1.0.dtb'));
  const dma = ofFindCompatibleNode(root, 'xlnx,zynqmp-dma-1.0');
  assert.ok(dma !== null);
  assert.deepEqual(ofAddressToResource(dma, 0), { start: 0xfd50_0000, sizeBytes: 0x1000 });
  assert.equal(ofIrqGet(kernel, dma, 0), 32 + 124);
  assert.deepEqual(ofMemory(root), [
    { start: 0, sizeBytes: 0x8000_0000 },
    { start: 0x8_0000_0000, sizeBytes: 0x8000_0000 },
  ]);
});

test('the tree of the Juno: devices behind three buses, interrupts through a map', () => {
  const { kernel } = rig();
  const { root } = readFdt(load('juno-r2.dtb'));
  const nodes = [...ofAllNodes(root)];
  const rtc = nodes.find((node) => node.fullName === 'rtc@170000');
  assert.ok(rtc !== undefined);
  assert.deepEqual(ofAddressToResource(rtc, 0), { start: 0x1c17_0000, sizeBytes: 0x1_0000 });
  assert.equal(ofIrqGet(kernel, rtc, 0), 32 + 68, 'through the interrupt-map of its bus');
  const dma = ofFindCompatibleNode(root, 'arm,pl330');
  assert.ok(dma !== null);
  assert.deepEqual(ofAddressToResource(dma, 0)?.start, 0x7ff0_0000);
  assert.equal(ofIrqGet(kernel, dma, 0), 32 + 88);
});

test('every tree becomes devices with their own names, and disabled nodes none', async () => {
  for (const name of readdirSync(fixtures)) {
    const { kernel, splats } = rig();
    const { root } = readFdt(load(name));
    const devices = await kernel.run(() => ofPlatformPopulate(kernel, root));
    assert.ok(devices.length > 20, `${name}: ${devices.length}`);
    assert.ok(devices.every((dev) => dev.ofNode !== null && ofDeviceIsAvailable(dev.ofNode)));
    assert.deepEqual(splats(), []);
  }
});

test('a tree by hand: properties, nested nodes, padding, reservations', () => {
  const bytes = blob([1, 0, 3, 5, 0, 0x01020304, 0x05000000, 4, 1, A, 3, 0, 2, 2, 2, 9], 'p\0q\0');
  const { root } = readFdt(bytes);
  assert.deepEqual([...(root.properties.get('p') ?? [])], [1, 2, 3, 4, 5]);
  assert.equal(root.children[0]?.path, '/a');
  assert.equal(root.children[0]?.properties.get('q')?.length, 0);
  bytes.fill(0xff);
  assert.deepEqual([...(root.properties.get('p') ?? [])], [1, 2, 3, 4, 5], 'values are copies');
});

test('each way to be wrong is named, with its place', () => {
  const good = [1, 0, 2, 9];
  const cases: [Uint8Array, RegExp, number?][] = [
    [new Uint8Array(12), /expected a header of 40 bytes, found 12/, 0],
    [blob(good, '', { 0: 0x12345678 }), /expected the magic number 0xd00dfeed, found 0x12345678/, 0],
    [blob(good, '', { 4: 4096 }), /the header says 4096 bytes, the blob has 72: truncated\?/, 4],
    [blob(good, '', { 4: 12 }), /the header says 12 bytes/, 4],
    [blob(good, '', { 20: 3 }), /expected format version 16 or 17, found 3/, 20],
    [blob(good, '', { 24: 18 }), /expected format version/, 20],
    [blob(good, '', { 8: 0xffff_fff0 }), /the structure block .* lies outside/, 8],
    [blob(good, '', { 8: 57 }), /outside|not aligned/, 8],
    [blob(good, '', { 32: 0xffff_ffff }), /the strings block .* lies outside/, 12],
    [blob(good, '', { 16: 64 }), /the memory reservations are not ended/, 64],
    [blob([9]), /the tree has no root node/, 56],
    [blob([1, 0, 2, 1, 0, 2, 9]), /a second root node/, 68],
    [blob([1, 0, 9]), /the tree ends inside of node \//, 64],
    [blob([2, 9]), /the end of a node, but none is open/, 56],
    [blob([3, 0, 0, 9], 'p\0'), /a property outside of any node/, 56],
    [blob([1, 0, 7]), /expected a token \(1, 2, 3, 4 or 9\), found 0x7/, 64],
    [blob([1, 0, 2]), /the structure block ends without its END token/, 68],
    [blob([1, 0x61616161]), /a node name is not terminated/, 60],
    [blob([1, 0, 1, 0, 2, 2, 9]), /expected a node name, found ''/, 64],
    [blob([1, 0, 3, 0xffff_ffff, 0, 2, 9], 'p\0'), /a property of 4294967295 bytes reaches past/, 64],
    [blob([1, 0, 3, 0, 2, 2, 9], 'p\0'), /a property's name lies outside of the strings block, at 2/, 64],
    [blob([1, 0, 3, 0, 0, 2, 9], 'pp'), /a property name is not terminated/],
    [blob([1, 0, 3, 0, 0, 2, 9], `${'p'.repeat(300)}\0`), /a property name is longer than 255 characters/],
    [blob([...Array(65).fill([1, A]).flat()]), /nodes are nested deeper than 64/],
    [blob([1, 0, 3, 0]), /a property is cut off/, 64],
  ];
  for (const [bytes, message, offset] of cases) {
    assert.throws(
      () => readFdt(bytes),
      (error: Error) => {
        assert.ok(error instanceof FdtError);
        assert.match(error.message, message);
        if (offset !== undefined) assert.equal(error.offset, offset, error.message);
        assert.match(error.message, /^device tree blob, offset 0x[0-9a-f]+: /);
        return true;
      },
    );
  }
});

test('a blob cut off at any length is refused', () => {
  const bytes = load('bcm2837-rpi-3-b.dtb');
  const { totalSize } = readFdt(bytes);
  for (let length = 0; length < totalSize; length++) {
    assert.throws(() => readFdt(bytes.subarray(0, length)), FdtError, `length ${length}`);
  }
});

/** Ask a tree everything, as `dmakit board` would. */
function interrogate(bytes: Uint8Array, kernel: ReturnType<typeof rig>['kernel']): void {
  const { root } = readFdt(bytes);
  ofMemory(root);
  ofReservedMemory(root);
  for (const node of ofAllNodes(root)) {
    ofDeviceName(node);
    ofDmaGetRange(node);
    ofIrqGet(kernel, node, 0);
    ofParsePhandleWithArgs(node, 'dmas', '#dma-cells', 0);
  }
}

test('random corruption gives a tree or an FdtError, and no question about the tree fails: 10,000 seeds', () => {
  const original = load('bcm2837-rpi-3-b.dtb');
  const { kernel } = rig();
  let trees = 0;
  for (let seed = 0; seed < 10_000; seed++) {
    const prng = new Prng(seed);
    const bytes = original.slice();
    // Few changes leave the structure readable and corrupt its meaning; some go for the header.
    const changes = prng.between(1, 8);
    for (let i = 0; i < changes; i++) {
      bytes[prng.below(prng.chance(1, 8) ? 40 : bytes.length)] = prng.chance(1, 2) ? prng.below(256) : 0xff;
    }
    try {
      // Reading is fast, asking is not: one in twenty is asked everything.
      if (seed % 20 === 0) interrogate(bytes, kernel);
      else readFdt(bytes);
      trees++;
    } catch (error) {
      assert.ok(error instanceof FdtError, `seed ${seed}: ${(error as Error).stack}`);
      assert.ok(error.offset >= 0 && error.offset <= bytes.length, `seed ${seed}`);
    }
  }
  assert.ok(trees > 1000 && trees < 9900, `${trees} trees`);
});
