import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Checked, DmakitEvent } from '../checker/index.ts';
import { formatTimeline, registerDecoder, TimelineWriter } from './index.ts';

const main = { ctx: 'process', task: 'main' } as const;
const hardware = { ctx: 'hardware', task: '' } as const;
const CHAN = 'dma0chan1';

const lines: readonly [DmakitEvent, string][] = [
  [
    {
      t: 1015,
      ...main,
      ev: 'map',
      dev: 'dmac',
      kind: 'single',
      phys: 0x1000,
      size: 4096,
      addr: 0xc0001000,
      dir: 1,
      attrs: 0,
    },
    '        1.015  process main             dmac                        map single 4096 bytes to-device at 0xc0001000',
  ],
  [
    { t: 1, ...main, ev: 'map', dev: 'dmac', kind: 'single', phys: 0, size: 1, addr: -1, dir: 2, attrs: 0 },
    '        0.001  process main             dmac                        map single 1 byte from-device at DMA_MAPPING_ERROR',
  ],
  [
    { t: 2_000_000, ...main, ev: 'prep', chan: CHAN, kind: 'memcpy', size: 4096, dst: 0x2000, src: 0x1000, ok: true },
    '     2000.000  process main             dma0chan1                   prep memcpy 4096 bytes 0x1000→0x2000',
  ],
  [
    { t: 3, ctx: 'softirq', task: 'main', ev: 'callback', chan: CHAN, result: 0 },
    '        0.003  softirq                  dma0chan1                   callback, no error',
  ],
  [
    { t: 4, ...hardware, ev: 'irq', line: 46 },
    '        0.004  hardware                 interrupts                  irq 46',
  ],
  [
    { t: 5, ...hardware, ev: 'bus_write', dev: 'dmac', addr: 0xc0001000, phys: 0x1000, size: 64, status: 0 },
    '        0.005  hardware                 dmac                        writes 64 bytes at 0xc0001000 (physical 0x1000)',
  ],
  [
    { t: 6, ...hardware, ev: 'bus_read', dev: 'dmac', addr: 0x10, phys: -1, size: 4, status: 1 },
    '        0.006  hardware                 dmac                        reads 4 bytes at 0x10 → decode error',
  ],
  [
    {
      t: 7,
      ctx: 'hardirq',
      task: 'a task with a very long name',
      ev: 'reg_read',
      addr: 0xf8003028,
      width: 4,
      value: 1,
    },
    '        0.007  hardirq                  registers                   read 32 bits at 0xf8003028: 0x1',
  ],
  [
    {
      t: 8,
      ctx: 'process',
      task: 'a task with a very long name',
      ev: 'sync',
      dev: 'dmac',
      addr: 16,
      size: 8,
      dir: 0,
      for: 'cpu',
    },
    '        0.008  process a task with a …  dmac                        sync for cpu 8 bytes bidirectional at 0x10',
  ],
];
for (const [event, line] of lines) {
  test(`timeline: ${line.slice(67)}`, () => assert.equal(formatTimeline(event), line));
}

function written(events: readonly DmakitEvent[]): string[] {
  const out: string[] = [];
  const writer = new TimelineWriter((line) => out.push(line.slice(40)));
  for (const event of events) writer.event(event);
  writer.end();
  return out;
}
const bus = (ev: 'bus_read' | 'bus_write', addr: number, size: number, t = 0): DmakitEvent => ({
  t,
  ...hardware,
  ev,
  dev: 'dmac',
  addr,
  phys: addr,
  size,
  status: 0,
});

test('a copy in bursts is two lines: what was read and what was written', () => {
  const events: DmakitEvent[] = [];
  for (let i = 0; i < 64; i++) events.push(bus('bus_read', 0x1000 + i * 16, 16), bus('bus_write', 0x8000 + i * 16, 16));
  assert.deepEqual(written(events), [
    'dmac                        reads 1024 bytes at 0x1000, in 64 accesses',
    'dmac                        writes 1024 bytes at 0x8000, in 64 accesses',
  ]);
});
test('an access that goes on elsewhere begins a new line, in the order of time', () => {
  const events = [bus('bus_read', 0, 16), bus('bus_read', 16, 16), bus('bus_read', 4096, 16), bus('bus_write', 0, 4)];
  assert.deepEqual(written(events), [
    'dmac                        reads 32 bytes at 0x0, in 2 accesses',
    'dmac                        reads 16 bytes at 0x1000',
    'dmac                        writes 4 bytes at 0x0',
  ]);
});
test('polling a register is one line, and what comes between is not lost', () => {
  const poll: DmakitEvent = { t: 0, ...main, ev: 'reg_read', addr: 64, width: 4, value: 0 };
  const done: DmakitEvent = { t: 9, ...main, ev: 'reg_read', addr: 64, width: 4, value: 1 };
  const irq: DmakitEvent = { t: 5, ...hardware, ev: 'irq', line: 3 };
  assert.deepEqual(written([poll, poll, irq, poll, done]), [
    'registers                   read 32 bits at 0x40: 0x0, 2 times',
    'interrupts                  irq 3',
    'registers                   read 32 bits at 0x40: 0x0',
    'registers                   read 32 bits at 0x40: 0x1',
  ]);
});

test('register accesses are decoded for the devices that the kernel knows, wherever they lie', () => {
  const property = (text: string) => new TextEncoder().encode(`${text}\0`);
  const device = (name: string, compatible: string, start: number) => ({
    name,
    ofNode: { properties: new Map([['compatible', property(compatible)]]) },
    resources: [{ kind: 'mem', start, sizeBytes: 0x1000 }],
  });
  const devices: unknown[] = [device('3f007000.dma-controller', 'brcm,bcm2835-dma', 0x3f007000)];
  const decode = registerDecoder({ kernel: { devices } } as unknown as Checked);
  const cs = decode(0x3f007100, 1, true);
  assert.equal(cs?.who, '3f007000.dma-controller');
  assert.match(cs.what, /^ch1 CS: ACTIVE=1/);
  assert.equal(decode(0xf8003020, 1, true), null);
  devices.push(device('f8003000.dma-controller', 'arm,pl330', 0xf8003000));
  assert.equal(decode(0xf8003020, 1, true)?.what, 'INTEN: 0x1');
});
