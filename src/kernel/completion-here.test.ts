import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Completion, complete, waitForCompletionHere, waitForCompletionTimeout } from './completion.ts';
import { SpinLock, spinLock, spinUnlock } from './locks.ts';
import { rig } from './rig.cases.ts';
import { MAX_SCHEDULE_TIMEOUT } from './waiter.ts';

test('a completion is waited for in place again and again: done, timed out, without limit, by promise', async () => {
  const { kernel, machine } = rig();
  await kernel.run(async () => {
    const done = new Completion(kernel, 'thing');
    for (let round = 0; round < 3; round++) {
      const start = machine.now();
      machine.after(400, () => complete(done));
      assert.equal(waitForCompletionHere(done, 1000), 600);
      assert.equal(machine.now() - start, 400);
      assert.equal(waitForCompletionHere(done, 1000), 0, 'the timeout of the wait before does not count');
      assert.equal(machine.now() - start, 1400);
      machine.after(5000, () => complete(done));
      assert.equal(waitForCompletionHere(done, MAX_SCHEDULE_TIMEOUT), Number.POSITIVE_INFINITY);
      assert.equal(machine.now() - start, 6400);
      machine.after(1, () => complete(done));
      assert.equal(await waitForCompletionTimeout(done, 10), 9);
    }
    complete(done);
    assert.equal(waitForCompletionHere(done, 1000), 1000, 'what is done already takes no time');
    assert.equal(waitForCompletionHere(done, 0), 0);
  });
});

test('waiting in place under a spin lock is reported as any wait', async () => {
  const { kernel, machine } = rig();
  const done = new Completion(kernel, 'thing');
  const lock = new SpinLock(kernel, 'lock');
  await kernel.run(() => {
    spinLock(lock);
    machine.after(10, () => complete(done));
    waitForCompletionHere(done, 100);
    spinUnlock(lock);
  });
  const log = kernel.log.lines.map(({ text }) => text).join('\n');
  assert.match(log, /sleeping function called from invalid context at wait_for_completion_timeout/);
  assert.match(log, /scheduling while atomic/);
});
