/** Interrupts of the SMMUv3: events, which a thread reads from their queue, and global errors. */
import { fromLoHi } from '../base/addr.ts';
import { type Errno, OK } from '../base/errno.ts';
import { iommuObserver } from '../iommu/index.ts';
import {
  type Device,
  devErr,
  devInfo,
  devmRequestIrq,
  devmRequestThreadedIrq,
  devWarn,
  IRQ_HANDLED,
  IRQ_NONE,
  IRQF_ONESHOT,
  type IrqReturn,
  ofIrqGetByname,
  readlRelaxed,
  writelRelaxed,
} from '../kernel/index.ts';
import { Ratelimit } from '../kernel/ratelimit.ts';
import { SMMU, SMMU_EVENT, SMMU_EVT, SMMU_EVT_BYTES } from '../regs/smmu-v3.ts';
import { type ArmSmmuDevice, Feature } from './arm-smmu-v3-device.ts';
import { hex64 } from './arm-smmu-v3-queue.ts';

const { GERROR, GERRORN, IRQ_CTRL, IRQ_CTRLACK } = SMMU;
const GERROR_ERR_MASK = 0x1fd;
const EVENT_NAMES = Object.fromEntries(Object.entries(SMMU_EVT).map(([name, id]) => [id, name]));

/** Finds the device that has a stream id, or null. */
export type DeviceOfStream = (sid: number) => Device | null;

/** Read and report every event. Runs in a task. */
function eventThread(smmu: ArmSmmuDevice, ratelimit: Ratelimit, deviceOf: DeviceOfStream): IrqReturn {
  const { evtq, dev } = smmu;
  const record = new Uint32Array(SMMU_EVT_BYTES / 4);
  do {
    while (evtq.remove(record)) {
      tellObserver(smmu, record, deviceOf);
      if (!ratelimit.allow()) continue;
      devInfo(dev, `event 0x${SMMU_EVENT.W0.ID.get(record[0]!).toString(16).padStart(2, '0')} received:`);
      for (let i = 0; i < record.length; i += 2) devInfo(dev, `\t0x${hex64(record[i]!, record[i + 1]!)}`);
    }
    if (evtq.lookForMore()) devErr(dev, 'EVTQ overflow detected -- events lost');
  } while (!evtq.isEmpty);
  evtq.acknowledgeOverflow();
  return IRQ_HANDLED;
}
function tellObserver(smmu: ArmSmmuDevice, record: Uint32Array, deviceOf: DeviceOfStream): void {
  const observer = iommuObserver(smmu.kernel);
  if (observer === null) return;
  const id = SMMU_EVENT.W0.ID.get(record[0]!);
  const sid = record[1]!;
  const isWrite = id >= SMMU_EVT.F_WALK_EABT && !SMMU_EVENT.W3.RNW.test(record[3]!);
  const name = EVENT_NAMES[id] ?? `event 0x${id.toString(16)}`;
  // Events of configurations have no address.
  const address = id < SMMU_EVT.F_WALK_EABT ? 0 : fromLoHi(record[4]!, record[5]! & 0xf_ffff);
  observer.fault?.(deviceOf(sid), `stream 0x${sid.toString(16)}`, address, isWrite, name);
}

function gerrorHandler(smmu: ArmSmmuDevice): IrqReturn {
  const { dev, io } = smmu;
  const gerror = readlRelaxed(io, GERROR.offset);
  const active = gerror ^ readlRelaxed(io, GERRORN.offset);
  if ((active & GERROR_ERR_MASK) === 0) return IRQ_NONE;
  const hex = active.toString(16).padStart(8, '0');
  devWarn(dev, `unexpected global error reported (0x${hex}), this could be serious`);
  if (GERROR.SFM_ERR.test(active)) {
    devErr(dev, 'device has entered Service Failure Mode!');
    writelRelaxed(0, io, SMMU.CR0.offset);
  }
  if (GERROR.MSI_GERROR_ABT_ERR.test(active)) devWarn(dev, 'GERROR MSI write aborted');
  if (GERROR.MSI_PRIQ_ABT_ERR.test(active)) devWarn(dev, 'PRIQ MSI write aborted');
  if (GERROR.MSI_EVENTQ_ABT_ERR.test(active)) devWarn(dev, 'EVTQ MSI write aborted');
  if (GERROR.MSI_CMDQ_ABT_ERR.test(active)) devWarn(dev, 'CMDQ MSI write aborted');
  if (GERROR.PRIQ_ABT_ERR.test(active)) devErr(dev, 'PRIQ write aborted -- events may have been lost');
  if (GERROR.EVENTQ_ABT_ERR.test(active)) devErr(dev, 'EVTQ write aborted -- events may have been lost');
  if (GERROR.CMDQ_ERR.test(active)) smmu.cmdq.skipError();
  writelRelaxed(gerror, io, GERRORN.offset);
  return IRQ_HANDLED;
}

/** Request the interrupts that the tree names, and let the unit send them. @linux arm_smmu_setup_irqs, arm_smmu_setup_unique_irqs, arm_smmu_evtq_thread */
export async function armSmmuSetupIrqs(smmu: ArmSmmuDevice, deviceOf: DeviceOfStream): Promise<Errno> {
  const { dev, io } = smmu;
  let error = await smmu.writeAndWait(0, IRQ_CTRL.offset, IRQ_CTRLACK.offset);
  if (error !== OK) {
    devErr(dev, 'failed to disable irqs');
    return error;
  }
  // A message of 0 bytes to nowhere: the wires are used.
  for (const { offset } of [SMMU.GERROR_IRQ_CFG0, SMMU.EVENTQ_IRQ_CFG0]) {
    writelRelaxed(0, io, offset);
    writelRelaxed(0, io, offset + 4);
  }
  if (smmu.can(Feature.MSI)) devInfo(dev, 'msi_domain absent - falling back to wired irqs');
  const irqOf = (name: string) => (dev.ofNode === null ? -1 : ofIrqGetByname(dev.kernel, dev.ofNode, name));
  const eventIrq = irqOf('eventq');
  if (eventIrq < 0) devWarn(dev, 'no evtq irq - events will not be reported!');
  else {
    const ratelimit = new Ratelimit(dev.kernel, 'arm_smmu_evtq_thread');
    const thread = () => eventThread(smmu, ratelimit, deviceOf);
    error = devmRequestThreadedIrq(dev, eventIrq, null, thread, IRQF_ONESHOT, 'arm-smmu-v3-evtq', smmu.evtq);
    if (error !== OK) devWarn(dev, 'failed to enable evtq irq');
  }
  const gerrorIrq = irqOf('gerror');
  if (gerrorIrq < 0) devWarn(dev, 'no gerr irq - errors will not be reported!');
  else {
    error = devmRequestIrq(dev, gerrorIrq, () => gerrorHandler(smmu), 0, 'arm-smmu-v3-gerror', smmu);
    if (error !== OK) devWarn(dev, 'failed to enable gerror irq');
  }
  const wanted = IRQ_CTRL.EVENTQ_IRQEN.mask | IRQ_CTRL.GERROR_IRQEN.mask;
  error = await smmu.writeAndWait(wanted, IRQ_CTRL.offset, IRQ_CTRLACK.offset);
  if (error !== OK) devWarn(dev, 'failed to enable irqs');
  return OK;
}
