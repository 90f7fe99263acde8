import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OK } from '../base/index.ts';
import { q35, rpi3 } from '../boards/index.ts';
import { pciDevices } from '../kernel/index.ts';
import { checkDriver, defineDriver } from './driver.ts';
import { runDriver } from './run-driver.ts';

const SMALL = { ramBytes: 128 * 2 ** 20 };
const EDU = { vendor: 0x1234, device: 0x11e8 };

test('a PCI table is a list of ids, and stands alone', () => {
  const main = () => OK;
  for (const [definition, message] of [
    [{ pci: [] }, /'pci': expected a list of ids, such as/],
    [{ pci: [{}] }, /'pci': expected a list of ids/],
    [{ pci: [{ vendor: '1234' }] }, /'pci': expected a list of ids/],
    [{ pci: EDU }, /'pci': expected a list of ids/],
    [{ pci: [EDU], compatible: ['a,b'] }, /'pci' binds to a PCI function, 'compatible' to a device-tree node/],
    [{ pci: [EDU], hardware: main }, /'pci' binds to the board's hardware, 'hardware' brings one's own/],
  ] as const) {
    assert.throws(() => checkDriver({ name: 'x', main, ...definition }), message);
  }
});

test('the board’s driver gives up one function, and takes the others', async () => {
  const system = await q35.boot(SMALL);
  let bound = '';
  const driver = defineDriver({
    name: 'mine',
    pci: [EDU],
    main({ kernel, device, expect }) {
      bound = device.name;
      const owners = pciDevices(kernel).map((dev) => `${dev.driver?.name ?? '-'}`);
      expect(owners.join(' ') === '- edu edu edu edu edu edu edu mine -', owners.join(' '));
      return OK;
    },
  });
  const run = await runDriver(system, driver);
  assert.deepEqual([run.outcome, run.message, bound], ['ok', '', '0000:00:17.0']);
});

test('without such a function a run is skipped, and says what was looked for', async () => {
  const driver = defineDriver({ name: 'mine', pci: [EDU, { class: 0x01_0802 }], main: () => OK });
  const run = await runDriver(await rpi3.boot(SMALL), driver);
  assert.equal(run.outcome, 'skipped');
  assert.equal(run.message, 'rpi3 has no free device to bind: expected a PCI function 1234:11e8 or of class 010802');
});
