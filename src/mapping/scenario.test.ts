import assert from 'node:assert/strict';
import { test } from 'node:test';
import { directRig } from './direct-rig.cases.ts';
import { playScenario, ScenarioError } from './scenario.ts';

function fails(text: string, message: RegExp): void {
  assert.throws(
    () => playScenario(directRig(), text),
    (error) => {
      assert.ok(error instanceof ScenarioError);
      assert.match(error.message, message);
      return true;
    },
  );
}

test('a scenario says what CPU and device see, and fails at the first step that differs', () => {
  playScenario(
    directRig(),
    'cpu-read 0+16384 = 0; cpu-write 0+64 A; map 0+64 to-device; dev-read 32+32 = A; wait 5; unmap',
  );
  fails('cpu-write 0+64 A\ncpu-read 0+64 = B', /^cpu-read 0\+64 = B: bytes \[0, 64\) of 64 are 'A'…, expected 'B'$/);
  fails('map 0+64 bidirectional; dev-read 0+64 = Q; unmap', /expected 'Q'/);
  fails('map 0+64 bidirectional; dev-write 0+64 B = refused; unmap', /the device could write/);
  fails('map 0+64 bidirectional; dev-read 0+64 = refused; unmap', /the device could read/);
  fails('map 0+64 bidirectional; dev-read 4294967295+64', /the device was refused/);
});

test('a wrong scenario is told as such', () => {
  fails('map 0+64 to-device', /mapping it is never unmapped/);
  fails('jump', /no such step; there are cpu-write/);
  fails('map 0+64 sideways', /no such direction/);
  fails('map 0+64 to-device; map 0+64 to-device', /it is mapped already/);
  fails('map 64 to-device', /OFFSET\+LENGTH is expected, found 64/);
  fails('cpu-write 0+64 AB', /a letter is expected/);
  fails('cpu-write 0+64', /something is missing/);
  fails('cpu-write 0+64 A B', /'B' is not understood/);
  fails('unmap', /no mapping it/);
  fails('wait long', /a number is expected/);
  fails('map 0+64 to-device as', /as what\?/);
  fails('cpu-read 0+99999', /slice .* lies outside/);
});
