/**
 * The machine contract's conformance suite: every implementation runs it. What one cannot show it skips, with a reason.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addrAdd, type PhysAddr } from '../base/addr.ts';
import { LOCAL_IRQ, type Machine } from './contract.ts';
import { Mem } from './mem.ts';
import { ForeignAwaitError, HungTaskError, LockupError } from './scheduler.ts';

/** A machine with what the suite needs around it. */
export interface MachineUnderTest {
  readonly machine: Machine;
  /** 64 KiB of RAM, page-aligned, that nothing else uses. */
  readonly scratchRam: PhysAddr;
  /** A 32-bit register that keeps what is written to it, and does nothing else. */
  readonly scratchRegister: PhysAddr;
  /** Where nothing answers. */
  readonly hole: PhysAddr;
  /** A device that copies memory, and then holds `line` high until `acknowledge`. Both are register accesses. */
  readonly copier: {
    readonly line: number;
    start(dst: PhysAddr, src: PhysAddr, sizeBytes: number): void;
    acknowledge(): void;
  };
  close(): void | Promise<void>;
}

/** Titles of cases that an implementation cannot run, and why not. */
export type Skips = Readonly<Record<string, string>>;

type Case = (under: MachineUnderTest) => void | Promise<void>;

/** Register the suite for one implementation. `make` makes a fresh machine for each case. */
export function machineCases(
  name: string,
  make: () => MachineUnderTest | Promise<MachineUnderTest>,
  skips: Skips = {},
): void {
  for (const title of Object.keys(skips)) {
    if (!(title in cases)) throw new Error(`${name}: skips '${title}', which is no case of the machine's suite`);
  }
  for (const [title, body] of Object.entries(cases)) {
    const reason = skips[title];
    test(`${name}: ${title}`, { skip: reason ?? false }, async () => {
      const under = await make();
      try {
        await body(under);
      } finally {
        await under.close();
      }
    });
  }
}

/** The CPU's pointer to scratch RAM. */
function scratch(under: MachineUnderTest, offset: number, size: number, uncached = false): Mem {
  const bank = under.machine.bankAt(under.scratchRam);
  assert.ok(bank !== null);
  const phys = addrAdd(under.scratchRam, offset);
  const start = phys - bank.base;
  return new Mem(bank, phys, size, (uncached ? bank.memory : bank.cpu).subarray(start, start + size), true);
}

/** Handle the copier's interrupt: acknowledge it, count it, and wake who waits. */
function serveCopier(under: MachineUnderTest): { count: number; arm(): Promise<void> } {
  const { machine, copier } = under;
  let wake: (() => void) | null = null;
  const service = {
    count: 0,
    arm(): Promise<void> {
      const wait = machine.scheduler.wait<void>(() => 'the copier');
      wake = () => wait.wake();
      return wait.promise;
    },
  };
  machine.setIrqHandler((line) => {
    if (line !== copier.line) return;
    copier.acknowledge();
    // The acknowledgement is posted: without reading it back, the level would be high when the handler returns.
    machine.read32(under.scratchRegister);
    service.count++;
    wake?.();
  });
  machine.enableIrqLine(copier.line);
  return service;
}

const cases: Record<string, Case> = {
  'RAM banks ascend, are disjoint, and are found by address'({ machine, scratchRam }) {
    let end = 0;
    for (const bank of machine.ram) {
      assert.ok(bank.base >= end);
      assert.equal(machine.bankAt(bank.base), bank);
      end = bank.base + bank.sizeBytes;
      assert.equal(machine.bankAt(end - 1), bank);
      assert.notEqual(machine.bankAt(end), bank);
    }
    assert.ok(machine.bankAt(scratchRam)?.contains(scratchRam, 65536));
  },
  'a register keeps what is written, unsigned'({ machine, scratchRegister }) {
    for (const value of [0, 1, 0x12345678, 0x80000000, 0xffffffff, 0xdeadbeef]) {
      machine.write32(scratchRegister, value);
      assert.equal(machine.read32(scratchRegister), value);
    }
  },
  'an address that nothing decodes reads all ones and swallows writes'({ machine, hole }) {
    machine.write32(hole, 0x1234);
    assert.equal(machine.read32(hole), 0xffffffff);
    assert.equal(machine.read16(hole), 0xffff);
    assert.equal(machine.read8(hole), 0xff);
  },
  'a PCI function that is not there reads all ones'({ machine }) {
    assert.equal(machine.pciConfigRead(0xfff8, 0, 4), 0xffffffff);
    assert.equal(machine.pciConfigRead(0xfff8, 0, 2), 0xffff);
  },
  'time never goes back, and a delay lasts at least as long as asked'({ machine, scratchRegister }) {
    let last = machine.now();
    for (let i = 0; i < 20; i++) {
      machine.read32(scratchRegister);
      machine.cpuRelax();
      machine.timePoint();
      assert.ok(machine.now() >= last);
      last = machine.now();
    }
    machine.delay(5000);
    assert.ok(machine.now() >= last + 5000);
  },
  'timers run at time points, in order of time, and first in first out at equal times'({ machine }) {
    const ran: string[] = [];
    machine.after(2000, () => ran.push('late'));
    machine.after(1000, () => ran.push('a'));
    machine.after(1000, () => ran.push('b'));
    machine.after(1000, () => ran.push('c'));
    const cancelled = machine.after(1500, () => ran.push('cancelled'));
    machine.cancel(cancelled);
    assert.deepEqual(ran, []);
    machine.delay(10_000_000);
    assert.deepEqual(ran, ['a', 'b', 'c', 'late']);
    machine.cancel(cancelled);
  },
  async 'a device copies memory that was cleaned for it, and the CPU sees it after invalidating'(under) {
    const { machine, copier } = under;
    const service = serveCopier(under);
    const src = scratch(under, 0, 4096);
    const dst = scratch(under, 8192, 4096);
    await machine.scheduler.run('copy', async () => {
      for (let round = 1; round <= 3; round++) {
        for (let i = 0; i < src.size; i++) src.bytes[i] = i * round;
        dst.bytes.fill(0xee);
        machine.cacheClean(src.phys, src.size);
        machine.cacheClean(dst.phys, dst.size);
        machine.barrier('dma_wmb');
        const done = service.arm();
        copier.start(dst.phys, src.phys, src.size);
        await done;
        machine.barrier('dma_rmb');
        machine.cacheInvalidate(dst.phys, dst.size);
        assert.deepEqual(dst.bytes, src.bytes);
      }
    });
    assert.equal(service.count, 3);
  },
  async 'uncached memory needs barriers only'(under) {
    const { machine, copier } = under;
    const service = serveCopier(under);
    machine.setUncached(under.scratchRam, 16384, true);
    const src = scratch(under, 0, 256, true);
    const dst = scratch(under, 8192, 256, true);
    await machine.scheduler.run('copy', async () => {
      for (let round = 1; round <= 5; round++) {
        src.bytes.fill(round);
        machine.barrier('wmb');
        const done = service.arm();
        copier.start(dst.phys, src.phys, src.size);
        await done;
        machine.barrier('dma_rmb');
        assert.deepEqual(dst.bytes, src.bytes, `round ${round}`);
      }
    });
    machine.setUncached(under.scratchRam, 16384, false);
    assert.equal(scratch(under, 8192, 1).bytes[0], 5);
  },
  async 'memory that was uncached is ordinary again afterwards'(under) {
    const { machine } = under;
    const cached = scratch(under, 0, 64);
    cached.bytes.fill(1);
    machine.setUncached(under.scratchRam, 4096, true);
    const uncached = scratch(under, 0, 64, true);
    assert.equal(uncached.bytes[63], 1);
    uncached.bytes.fill(2);
    machine.setUncached(under.scratchRam, 4096, false);
    assert.equal(cached.bytes[0], 2);
  },
  async 'an interrupt waits while interrupts are disabled, and comes when they are enabled'(under) {
    const { machine, copier, scratchRam } = under;
    const service = serveCopier(under);
    await machine.scheduler.run('main', () => {
      assert.equal(machine.setInterruptsEnabled(false), true);
      copier.start(addrAdd(scratchRam, 4096), scratchRam, 64);
      machine.delay(50_000_000);
      assert.equal(service.count, 0);
      assert.equal(machine.setInterruptsEnabled(true), false);
      assert.equal(service.count, 1);
      machine.delay(1_000_000);
      assert.equal(service.count, 1);
    });
  },
  async 'a line that is not enabled stays pending'(under) {
    const { machine, copier, scratchRam } = under;
    const service = serveCopier(under);
    machine.disableIrqLine(copier.line);
    await machine.scheduler.run('main', () => {
      copier.start(addrAdd(scratchRam, 4096), scratchRam, 64);
      machine.delay(50_000_000);
      assert.equal(service.count, 0);
      machine.enableIrqLine(copier.line);
      machine.timePoint();
      assert.equal(service.count, 1);
    });
  },
  async 'interrupts are disabled while a handler runs'({ machine }) {
    const seen: boolean[] = [];
    machine.setIrqHandler(() => {
      seen.push(machine.setInterruptsEnabled(false));
    });
    machine.raiseLocalIrq();
    machine.timePoint();
    assert.deepEqual(seen, [false]);
    assert.equal(machine.setInterruptsEnabled(true), true);
  },
  async "the CPU's own interrupt is delivered once, at the next time point, and wakes an idle machine"({ machine }) {
    const lines: number[] = [];
    let wake = () => {};
    machine.setIrqHandler((line) => {
      lines.push(line);
      wake();
    });
    machine.raiseLocalIrq();
    machine.raiseLocalIrq();
    assert.deepEqual(lines, []);
    machine.timePoint();
    assert.deepEqual(lines, [LOCAL_IRQ]);
    await machine.scheduler.run('main', async () => {
      const wait = machine.scheduler.wait<void>(() => 'itself');
      wake = () => wait.wake();
      machine.raiseLocalIrq();
      await wait.promise;
    });
    assert.equal(lines.length, 2);
  },
  async 'tasks take turns when they wait, in the order in which they were woken'({ machine }) {
    const { scheduler } = machine;
    const ran: string[] = [];
    const sleep = (ns: number) => {
      const wait = scheduler.wait<void>(() => 'a timer', true);
      machine.after(ns, () => wait.wake());
      return wait.promise;
    };
    const value = await scheduler.run('main', async () => {
      const other = scheduler.spawn('other', async () => {
        ran.push(`${scheduler.current?.name} begins`);
        await sleep(3000);
        ran.push(`${scheduler.current?.name} ends`);
      });
      ran.push('main goes first');
      await sleep(1000);
      ran.push(`${scheduler.current?.name} again`);
      await scheduler.join(other);
      ran.push(`${scheduler.current?.name} ends`);
      return 42;
    });
    assert.equal(value, 42);
    assert.deepEqual(ran, ['main goes first', 'other begins', 'main again', 'other ends', 'main ends']);
    assert.equal(scheduler.current, null);
  },
  async 'a run fails with what its main task threw'({ machine }) {
    await assert.rejects(
      machine.scheduler.run('main', async () => {
        throw new RangeError('mine');
      }),
      { name: 'RangeError', message: 'mine' },
    );
    assert.equal(await machine.scheduler.run('again', () => 1), 1);
  },
  async 'an error in an interrupt handler ends the run'({ machine }) {
    machine.setIrqHandler(() => {
      throw new Error('in the handler');
    });
    const run = machine.scheduler.run('main', () => {
      machine.raiseLocalIrq();
      try {
        machine.timePoint();
      } catch {
        // A driver's catch-all must not hide it.
      }
      return 1;
    });
    await assert.rejects(run, { message: 'in the handler' });
  },
  async 'a wait that nothing will end is reported, with what everyone waits for'({ machine }) {
    const { scheduler } = machine;
    const run = scheduler.run('main', async () => {
      scheduler.spawn('helper', () => scheduler.wait(() => 'Godot').promise);
      await scheduler.wait(() => '3 descriptors on dma0chan1').promise;
    });
    await assert.rejects(run, (error: HungTaskError) => {
      assert.ok(error instanceof HungTaskError);
      assert.deepEqual(
        error.waits.map((wait) => [wait.task, wait.waitsFor]),
        [
          ['main', '3 descriptors on dma0chan1'],
          ['helper', 'Godot'],
        ],
      );
      assert.match(error.message, /main.*3 descriptors on dma0chan1/);
      return true;
    });
  },
  async 'an await on something foreign is reported, with the task and the remedy'({ machine }) {
    const run = machine.scheduler.run('reader', () => new Promise(() => {}));
    await assert.rejects(run, (error: Error) => {
      assert.ok(error instanceof ForeignAwaitError);
      assert.match(error.message, /'reader'.*scheduler\.outside/s);
      return true;
    });
  },
  async 'waiting for the host is allowed, and stops the machine meanwhile'({ machine }) {
    const { scheduler } = machine;
    const fires: number[] = [];
    await scheduler.run('main', async () => {
      machine.after(1000, () => fires.push(machine.now()));
      const before = machine.now();
      const value = await scheduler.outside(new Promise((resolve) => setTimeout(() => resolve('data'), 5)));
      assert.equal(value, 'data');
      assert.equal(scheduler.current?.name, 'main');
      if (machine.traits.observable.deviceAccess) assert.equal(machine.now(), before);
    });
  },
  async 'a task that polls for what never comes is reported, with the register'({ machine, scratchRegister }) {
    const run = machine.scheduler.run('poller', () => {
      machine.write32(scratchRegister, 0);
      while (machine.read32(scratchRegister) !== 1) machine.cpuRelax();
    });
    await assert.rejects(run, (error: Error) => {
      assert.ok(error instanceof LockupError);
      assert.ok(error.message.includes(`'poller'`) && error.message.includes(scratchRegister.toString(16)));
      return true;
    });
  },
};
