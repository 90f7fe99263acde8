import assert from 'node:assert/strict';
import { test } from 'node:test';
import { dmaBitMask } from '../base/addr.ts';
import { EINVAL, ENODEV, ENOENT, ENXIO, OK } from '../base/errno.ts';
import { dt, ofTree } from './dt.ts';
import {
  ofAllNodes,
  ofCountPhandleWithArgs,
  ofDeviceIsAvailable,
  ofFindNodeByPath,
  ofFindNodeByPhandle,
  ofParsePhandle,
  ofParsePhandleWithArgs,
  ofPropertyMatchString,
  ofPropertyReadBool,
  ofPropertyReadString,
  ofPropertyReadStringArray,
  ofPropertyReadU32,
  ofPropertyReadU32Array,
  ofPropertyReadU64,
} from './of.ts';
import {
  ofAddressToResource,
  ofDmaConfigure,
  ofDmaGetRange,
  ofDmaIsCoherent,
  ofMemory,
  ofReservedMemory,
  ofTranslateAddress,
} from './of-address.ts';
import { irqDomainAdd, ofIrqCount, ofIrqGet, ofIrqGetByname } from './of-irq.ts';
import { ofDeviceName, ofPlatformDepopulate, ofPlatformPopulate, PlatformDevice } from './platform.ts';
import { rig } from './rig.cases.ts';

const cells11 = { '#address-cells': 1, '#size-cells': 1 };

test('properties are read as cells, strings and flags, and what does not fit is null', () => {
  const node = ofTree(
    dt('/', {
      one: 0xfedcba98,
      two: [1, 2],
      big: 0x1_2345_6789_abcdn,
      text: ['a', 'bc'],
      flag: true,
      off: false,
      odd: new Uint8Array(3),
    }),
  );
  assert.equal(ofPropertyReadU32(node, 'one'), 0xfedcba98);
  assert.equal(ofPropertyReadU32(node, 'two', 1), 2);
  assert.equal(ofPropertyReadU32(node, 'two', 2), null);
  assert.equal(ofPropertyReadU32(node, 'odd'), null);
  assert.deepEqual(ofPropertyReadU32Array(node, 'two'), [1, 2]);
  assert.equal(ofPropertyReadU32Array(node, 'odd'), null);
  assert.equal(ofPropertyReadU64(node, 'big'), 0x1_2345_6789_abcd);
  assert.equal(ofPropertyReadU64(node, 'one'), null);
  assert.deepEqual(ofPropertyReadStringArray(node, 'text'), ['a', 'bc']);
  assert.equal(ofPropertyReadString(node, 'one'), null, 'not terminated');
  assert.equal(ofPropertyMatchString(node, 'text', 'bc'), 1);
  assert.equal(ofPropertyMatchString(node, 'text', 'b'), ENOENT);
  assert.equal(ofPropertyMatchString(node, 'none', 'b'), EINVAL);
  assert.deepEqual([ofPropertyReadBool(node, 'flag'), ofPropertyReadBool(node, 'off')], [true, false]);
});

test('nodes are found by path, alias and reference', () => {
  const root = ofTree(
    dt('/', {}, [
      dt('aliases', { serial0: '/soc/serial@1000' }),
      dt('soc', {}, [dt('uart: serial@1000', { clocks: ['&clk', 3, 0, '&clk', 4, '&fixed'] }), dt('serial@2000')]),
      dt('clk: clock', { '#clock-cells': 1 }),
      dt('fixed: fixed', { '#clock-cells': 0 }),
    ]),
  );
  const uart = ofFindNodeByPath(root, '/soc/serial@1000');
  assert.ok(uart !== null);
  assert.equal(uart.path, '/soc/serial@1000');
  assert.equal(ofFindNodeByPath(root, '/soc/serial'), uart);
  assert.equal(ofFindNodeByPath(root, 'serial0'), uart);
  assert.equal(ofFindNodeByPath(root, '/soc/none'), null);
  assert.equal(ofFindNodeByPath(root, '/'), root);
  assert.equal(ofFindNodeByPhandle(root, uart.phandle), uart);
  assert.equal(ofFindNodeByPhandle(root, 99), null);
  const clock = (index: number) => {
    const found = ofParsePhandleWithArgs(uart, 'clocks', '#clock-cells', index);
    return found === null ? null : [found.node.name, ...found.args];
  };
  assert.deepEqual([0, 1, 2, 3, 4].map(clock), [['clock', 3], null, ['clock', 4], ['fixed'], null]);
  assert.equal(ofCountPhandleWithArgs(uart, 'clocks', '#clock-cells'), 4);
  assert.equal(ofCountPhandleWithArgs(uart, 'resets', '#reset-cells'), ENOENT);
  assert.equal(ofParsePhandle(uart, 'clocks', 0)?.name, 'clock');
  uart.properties.set('clocks', new Uint8Array([0, 0, 0, 77]));
  assert.equal(ofParsePhandleWithArgs(uart, 'clocks', '#clock-cells', 0), null);
  assert.equal(ofCountPhandleWithArgs(uart, 'clocks', '#clock-cells'), EINVAL);
  assert.equal([...ofAllNodes(root)].map((node) => node.name).join(), ',aliases,soc,serial,serial,clock,fixed');
});

test('a tree in code that cannot be is refused, with the place', () => {
  assert.throws(() => dt('no spaces'), /expected 'name', 'name@unit' or 'label: name', found 'no spaces'/);
  assert.throws(
    () => ofTree(dt('/', { clocks: ['&none', 1] })),
    /\/: clocks: expected a cell or a known '&label', found '&none'/,
  );
  assert.throws(() => ofTree(dt('/', { reg: [1.5] })), /\/: reg: expected a cell of 32 bits .* found 1\.5/);
  assert.throws(() => ofTree(dt('/', {}, [dt('x: a'), dt('x: b')])), /label 'x' is given twice/);
});

test('reg is translated through the ranges of every bus above', () => {
  const root = ofTree(
    dt('/', { '#address-cells': 2, '#size-cells': 2 }, [
      dt('soc', { ...cells11, ranges: [0x7e00_0000, 0, 0x3f00_0000, 0x0100_0000, 0x4000_0000, 1, 0, 0x1000] }, [
        dt('dma@7e007000', { reg: [0x7e00_7000, 0xf00, 0x4000_0010, 4] }),
        dt('same', { ...cells11, ranges: true }, [dt('x@7e200000', { reg: [0x7e20_0000, 4] })]),
        dt('opaque', { ...cells11 }, [dt('y@1', { reg: [1, 4] })]),
        dt('outside@10', { reg: [0x10, 4] }),
      ]),
      dt('wide@1', { reg: [1, 0x8000_0000, 0, 0x2000] }),
      dt('huge@f', { reg: [0xffff_0000, 0, 0, 0x2000] }),
      dt('cpus', { '#address-cells': 1, '#size-cells': 0 }, [dt('cpu@0', { reg: 0 })]),
    ]),
  );
  const at = (path: string, index = 0) => ofTranslateAddress(ofFindNodeByPath(root, path) ?? root, index);
  assert.equal(at('/soc/dma'), 0x3f00_7000);
  assert.equal(at('/soc/dma', 1), 0x1_0000_0010);
  assert.equal(at('/soc/dma', 2), null);
  assert.equal(at('/soc/same/x'), 0x3f20_0000);
  assert.equal(at('/soc/opaque/y'), null, 'no ranges: no way up');
  assert.equal(at('/soc/outside'), null);
  assert.equal(at('/wide'), 0x1_8000_0000);
  assert.equal(at('/huge'), null);
  assert.equal(at('/cpus/cpu'), null);
  const dma = ofFindNodeByPath(root, '/soc/dma');
  assert.deepEqual(dma && ofAddressToResource(dma, 0), { start: 0x3f00_7000, sizeBytes: 0xf00 });
  assert.equal(dma && ofDeviceName(dma), '3f007000.dma');
  const y = ofFindNodeByPath(root, '/soc/opaque/y');
  assert.equal(y && ofDeviceName(y), 'soc:opaque:y@1');
});

test('PCI addresses carry their space in front', () => {
  const root = ofTree(
    dt('/', { '#address-cells': 2, '#size-cells': 1 }, [
      dt(
        'pcie@fd500000',
        {
          device_type: 'pci',
          '#address-cells': 3,
          '#size-cells': 2,
          ranges: [0x0200_0000, 0, 0xf800_0000, 6, 0, 0, 0x400_0000],
          'dma-ranges': [0x0200_0000, 0, 0, 0, 0, 0, 0xc000_0000],
        },
        [dt('dev@0', { reg: [0x0200_0000, 0, 0xf800_1000, 0, 0x10, 0x0100_0000, 0, 0xf800_1000, 0, 0x10] })],
      ),
    ]),
  );
  const dev = ofFindNodeByPath(root, '/pcie/dev');
  assert.ok(dev !== null);
  assert.equal(ofTranslateAddress(dev, 0), 0x6_0000_1000);
  assert.equal(ofTranslateAddress(dev, 1), null, 'I/O space is not memory');
  assert.deepEqual(ofDmaGetRange(dev.parent), [{ cpuStart: 0, dmaStart: 0, sizeBytes: 0xc000_0000 }]);
});

test('dma-ranges: several windows, joined where they touch, composed through the buses above', () => {
  const root = ofTree(
    dt('/', { '#address-cells': 2, '#size-cells': 2 }, [
      dt(
        'outer',
        {
          ...cells11,
          ranges: true,
          // Bus 0…1 GiB is memory from 4 GiB on; the next GiB is the second, at 2 GiB.
          'dma-ranges': [0, 1, 0, 0x4000_0000, 0x4000_0000, 0, 0x8000_0000, 0x4000_0000],
        },
        [
          dt('inner', {
            ...cells11,
            ranges: true,
            'dma-ranges': [
              0xc000_0000, 0, 0x2000_0000, 0xe000_0000, 0x2000_0000, 0x2000_0000, 0, 0x4000_0000, 0x1000_0000,
            ],
          }),
          dt('lost', { ...cells11, 'dma-ranges': [0, 0xf000_0000, 0x1000] }),
          dt('empty', { ...cells11, 'dma-ranges': true }),
        ],
      ),
      dt('none', { ...cells11 }, [dt('deep', { ...cells11 })]),
    ]),
  );
  const range = (path: string) => ofDmaGetRange(ofFindNodeByPath(root, path));
  assert.deepEqual(range('/outer/inner'), [
    { cpuStart: 0x1_0000_0000, dmaStart: 0xc000_0000, sizeBytes: 0x4000_0000 },
    { cpuStart: 0x8000_0000, dmaStart: 0, sizeBytes: 0x1000_0000 },
  ]);
  assert.equal(range('/outer/lost'), EINVAL);
  assert.deepEqual(range('/outer/empty'), range('/outer'));
  assert.equal(range('/none/deep'), ENODEV);
  assert.equal(range('/none'), ENODEV);
});

test('ofDmaConfigure cuts the masks to what the bus passes, and takes over windows and coherence', () => {
  const root = ofTree(
    dt('/', { '#address-cells': 1, '#size-cells': 1 }, [
      dt('soc', { ...cells11, ranges: true, 'dma-ranges': [0xc000_0000, 0, 0x3f00_0000], 'dma-coherent': true }, [
        dt('dma@0', {}),
        dt('odd@1', { 'dma-noncoherent': true }),
      ]),
      dt('free@2', {}),
    ]),
  );
  for (const coherent of [true, false]) {
    const { kernel } = rig({ coherent });
    const configured = (path: string) => {
      const dev = new PlatformDevice(kernel, path, { ofNode: ofFindNodeByPath(root, path) });
      assert.equal(ofDmaConfigure(dev), OK);
      return dev;
    };
    const dma = configured('/soc/dma');
    assert.deepEqual(dma.dmaRangeMap, [{ cpuStart: 0, dmaStart: 0xc000_0000, sizeBytes: 0x3f00_0000 }]);
    assert.equal(dma.busDmaLimit, 0xfeff_ffff);
    assert.equal(dma.dmaMask, dmaBitMask(32));
    assert.equal(dma.dmaCoherent, true);
    assert.equal(configured('/soc/odd').dmaCoherent, coherent);
    const free = configured('/free');
    assert.deepEqual([free.dmaRangeMap, free.busDmaLimit, free.dmaCoherent], [null, 0, coherent]);
  }
  const soc = ofFindNodeByPath(root, '/soc');
  assert.equal(soc && ofDmaIsCoherent(soc), true);
});

test('a window below 1 GiB leaves a 30-bit mask', () => {
  const root = ofTree(dt('/', cells11, [dt('soc', { ...cells11, 'dma-ranges': [0, 0, 0x4000_0000] }, [dt('dma@0')])]));
  const { kernel } = rig();
  const dev = new PlatformDevice(kernel, 'dma', { ofNode: ofFindNodeByPath(root, '/soc/dma') });
  ofDmaConfigure(dev);
  assert.deepEqual([dev.dmaMask, dev.coherentDmaMask, dev.busDmaLimit], [dmaBitMask(30), dmaBitMask(30), 0x3fff_ffff]);
});

test('interrupts become lines: GIC, banks, maps, and translators of one’s own', () => {
  const root = ofTree(
    dt('/', { 'interrupt-parent': '&gic', ...cells11 }, [
      dt('gic: gic@1', { 'interrupt-controller': true, '#interrupt-cells': 3, '#address-cells': 0 }),
      dt('armctrl: intc@2', {
        'interrupt-controller': true,
        '#interrupt-cells': 2,
        compatible: 'brcm,bcm2836-armctrl-ic',
      }),
      dt('own: intc@3', { 'interrupt-controller': true, '#interrupt-cells': 1 }),
      dt('a', { interrupts: [0, 13, 4, 1, 9, 4], 'interrupt-names': ['abort', 'timer'] }),
      dt('b', { 'interrupt-parent': '&armctrl', interrupts: [1, 16] }),
      dt('c', { 'interrupts-extended': ['&own', 5, '&gic', 0, 1, 4] }),
      dt('d', { interrupts: [7, 13, 4] }),
      dt(
        'bus',
        {
          '#interrupt-cells': 1,
          '#address-cells': 1,
          '#size-cells': 1,
          'interrupt-map-mask': [0, 63],
          'interrupt-map': [0, 0, '&gic', 0, 68, 4, 0, 1, '&gic', 0, 69, 1],
        },
        [dt('e@0', { 'interrupt-parent': false, reg: [4, 4], interrupts: 1 })],
      ),
    ]),
  );
  const bus = ofFindNodeByPath(root, '/bus/e');
  const { kernel } = rig();
  const irq = (path: string, index = 0) => ofIrqGet(kernel, ofFindNodeByPath(root, path) ?? root, index);
  assert.deepEqual([irq('/a'), irq('/a', 1), irq('/a', 2)], [45, 25, ENXIO]);
  assert.equal(irq('/b'), 48);
  assert.deepEqual([irq('/c'), irq('/c', 1)], [5, 33]);
  assert.equal(irq('/d'), EINVAL);
  assert.ok(bus !== null);
  bus.properties.set('interrupt-parent', new Uint8Array([0, 0, 0, 0]));
  assert.equal(irq('/bus/e'), ENXIO, 'a parent that does not exist');
  bus.properties.delete('interrupt-parent');
  assert.equal(irq('/bus/e'), 101);
  const a = ofFindNodeByPath(root, '/a');
  assert.ok(a !== null);
  assert.deepEqual([ofIrqCount(a), ofIrqGetByname(kernel, a, 'timer'), ofIrqGetByname(kernel, a, 'x')], [2, 25, ENXIO]);
  const own = ofFindNodeByPath(root, '/intc@3');
  assert.ok(own !== null);
  irqDomainAdd(kernel, own, (args) => 100 + (args[0] as number));
  assert.equal(irq('/c'), 105);
});

test('populating makes devices of available nodes, below buses too, and depopulating takes them away', async () => {
  const root = ofTree(
    dt('/', cells11, [
      dt('soc', { ...cells11, compatible: 'simple-bus', ranges: true }, [
        dt('dma@1000', { compatible: 'acme,dma', reg: [0x1000, 0x100], 'reg-names': 'ctl' }),
        dt('dead@2000', { compatible: 'acme,dma', status: 'disabled' }),
        dt('okay@3000', { compatible: 'acme,x', status: 'okay', reg: [0x3000, 4] }, [dt('not@1', { compatible: 'y' })]),
        dt('plain@4000', {}),
      ]),
      dt('chosen'),
    ]),
  );
  const { kernel } = rig();
  await kernel.run(async () => {
    const devices = await ofPlatformPopulate(kernel, root);
    assert.deepEqual(
      devices.map((dev) => dev.name),
      ['soc', '1000.dma', '3000.okay'],
    );
    assert.deepEqual(devices[1]?.resources, [{ kind: 'mem', start: 0x1000, sizeBytes: 0x100, name: 'ctl' }]);
    assert.equal(devices[1]?.parent, devices[0]);
    assert.ok(devices[0]);
    await ofPlatformDepopulate(devices[0]);
    assert.deepEqual(
      kernel.devices.map((dev) => dev.name),
      ['soc'],
    );
  });
});

test('memory and what is set aside in it', () => {
  const root = ofTree(
    dt('/', { '#address-cells': 2, '#size-cells': 1 }, [
      dt('memory@80000000', { device_type: 'memory', reg: [8, 0, 0x1000, 0, 0x8000_0000, 0x4000_0000, 0, 0, 0] }),
      dt('reserved-memory', { '#address-cells': 2, '#size-cells': 1, ranges: true }, [
        dt('fw@80000000', { reg: [0, 0x8000_0000, 0x10_0000] }),
        dt('cma', { size: 0x100 }),
      ]),
    ]),
  );
  assert.deepEqual(ofMemory(root), [
    { start: 0x8000_0000, sizeBytes: 0x4000_0000 },
    { start: 0x8_0000_0000, sizeBytes: 0x1000 },
  ]);
  assert.deepEqual(ofReservedMemory(root), [{ start: 0x8000_0000, sizeBytes: 0x10_0000 }]);
  assert.equal(ofDeviceIsAvailable(root), true);
});

test('a tree whose references go round in circles ends all the same', () => {
  const root = ofTree(
    dt('/', cells11, [
      dt('a: a', {
        'interrupt-parent': '&b',
        interrupts: 1,
        interconnects: ['&b'],
        'interconnect-names': 'dma-mem',
        '#interconnect-cells': 0,
      }),
      dt('b: b', {
        'interrupt-parent': '&a',
        interconnects: ['&a'],
        'interconnect-names': 'dma-mem',
        '#interconnect-cells': 0,
      }),
    ]),
  );
  const { kernel } = rig();
  const [a] = root.children;
  assert.ok(a);
  assert.equal(ofIrqGet(kernel, a, 0), ENXIO);
  assert.equal(ofDmaGetRange(a), ENODEV);
  assert.equal(ofDmaIsCoherent(a), false);
});
