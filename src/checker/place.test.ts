import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  formatPlace,
  isInfrastructure,
  parseStack,
  placeFromText,
  placeHere,
  placeOf,
  relativePath,
  takeTrace,
} from './place.ts';

test('stacks of V8 are read: files, functions, methods, async frames, columns', () => {
  const places = parseStack(`Error: with a line at the end (not.a:1:2
    at DemoDriver.start (file:///srv/my%20driver/demo.ts:23:7)
    at async main (/srv/my driver/demo.ts:40:3)
    at /srv/x.ts:1:2
    at new Ring (C:\\drivers\\ring.ts:5:6)
    at node:internal/process/task_queues:95:5
    at <anonymous>`);
  assert.deepEqual(places, [
    { file: '/srv/my driver/demo.ts', line: 23, column: 7, fn: 'DemoDriver.start' },
    { file: '/srv/my driver/demo.ts', line: 40, column: 3, fn: 'main' },
    { file: '/srv/x.ts', line: 1, column: 2, fn: '' },
    { file: 'C:\\drivers\\ring.ts', line: 5, column: 6, fn: 'Ring' },
  ]);
});
test('stacks of other browsers are read too', () => {
  assert.deepEqual(parseStack('start@https://lab.example/demo.js:23:7\n@https://lab.example/demo.js:40:3'), [
    { file: 'https://lab.example/demo.js', line: 23, column: 7, fn: 'start' },
    { file: 'https://lab.example/demo.js', line: 40, column: 3, fn: '' },
  ]);
});

test('what stands between a driver and the checker is no place; tests and drivers are', () => {
  const here = import.meta.url.replace('file://', '');
  const house = here.replace(/checker\/.*$/, '');
  assert.equal(isInfrastructure(`${house}mapping/streaming.ts`), true);
  assert.equal(isInfrastructure(`${house}kernel/tasklet.js`), true);
  assert.equal(isInfrastructure(`${house}drivers/pl330.ts`), false);
  assert.equal(isInfrastructure(`${house}cli/copy.ts`), false);
  assert.equal(isInfrastructure(here), false);
  assert.equal(isInfrastructure('/srv/mapping/mine.ts'), false);
});

test('a trace is turned into a place when it is asked for, below the function that took it', () => {
  function take() {
    return takeTrace(take);
  }
  function driver() {
    return take();
  }
  const place = placeOf(driver());
  assert.equal(place?.fn, 'driver');
  assert.match(place.file, /place\.test\.ts$/);
  assert.equal(placeOf(null), null);
  function mapCall() {
    return placeHere(mapCall);
  }
  assert.match(mapCall()?.file ?? '', /place\.test\.ts$/);
});
test('taking a trace leaves the limit of stacks as it was', () => {
  const limited = Error as unknown as { stackTraceLimit: number };
  const before = limited.stackTraceLimit;
  takeTrace(null);
  assert.equal(limited.stackTraceLimit, before);
});

test('places are shown relative to a folder, when they lie in it', () => {
  const place = { file: '/srv/driver/demo.ts', line: 3, column: 1, fn: 'start' };
  assert.equal(formatPlace(place, '/srv/driver'), 'demo.ts:3 (start)');
  assert.equal(formatPlace(place, '/srv/other/'), '/srv/driver/demo.ts:3 (start)');
  assert.equal(formatPlace(null), 'an unknown place');
  assert.equal(relativePath('C:\\a\\b.ts', 'C:/a'), 'b.ts');
});

test('places in the reports of the kernel are read, and nothing else', () => {
  assert.deepEqual(placeFromText('/srv/my driver/demo.ts:23'), {
    file: '/srv/my driver/demo.ts',
    line: 23,
    column: 1,
    fn: '',
  });
  for (const text of ['', 'demo.ts', 'demo.ts:x']) assert.equal(placeFromText(text), null);
});
