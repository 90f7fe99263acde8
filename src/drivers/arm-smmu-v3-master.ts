/** A device behind an SMMUv3: its streams, and the context descriptor that its entries in the stream table point to. */
import type { DmaAddr } from '../base/addr.ts';
import { ENOMEM, ERANGE, type Errno, OK } from '../base/errno.ts';
import { type Device, devWarn, GFP_KERNEL } from '../kernel/index.ts';
import { dmaAllocCoherent, dmaFreeCoherent } from '../mapping/index.ts';
import type { ArmSmmuDevice } from './arm-smmu-v3-device.ts';
import {
  cdUsed,
  ENTRY_BYTES,
  ENTRY_WORDS,
  type EntryWords,
  EntryWriter,
  makeAbortSte,
  steUsed,
} from './arm-smmu-v3-entry.ts';
import type { SharedMemory } from './arm-smmu-v3-strtab.ts';

/** @linux struct arm_smmu_master */
export class ArmSmmuMaster {
  readonly smmu: ArmSmmuDevice;
  readonly dev: Device;
  /** Stream ids, each once. */
  readonly streams: readonly number[];
  readonly #writer = new EntryWriter();
  #contexts: SharedMemory | null = null;

  constructor(smmu: ArmSmmuDevice, dev: Device, ids: readonly number[]) {
    this.smmu = smmu;
    this.dev = dev;
    this.streams = [...new Set(ids)];
  }

  /** Make sure that there are entries for the streams. ERANGE for one that the table cannot have, ENOMEM. @linux arm_smmu_insert_master */
  prepare(): Errno {
    const { strtab } = this.smmu;
    for (const sid of this.streams) {
      if (!strtab.has(sid)) {
        devWarn(this.dev, `stream ${sid} is beyond the stream table`);
        return ERANGE;
      }
      const error = strtab.prepare(sid);
      if (error !== OK) return error;
    }
    return OK;
  }
  /** Make the streams' entries what `target` says. @linux arm_smmu_install_ste_for_dev, arm_smmu_write_ste */
  install(target: EntryWords): void {
    const { smmu } = this;
    for (const sid of this.streams) {
      const mem = smmu.strtab.memOf(sid);
      this.#writer.write(mem, smmu.strtab.offsetOf(sid), target, steUsed, () => smmu.syncSte(sid));
    }
  }

  /** A table of one context descriptor; no device here has substreams. ENOMEM. @linux arm_smmu_alloc_cd_tables */
  allocContextTable(): Errno {
    if (this.#contexts !== null) return OK;
    this.#contexts = dmaAllocCoherent(this.smmu.dev, ENTRY_BYTES, GFP_KERNEL);
    return this.#contexts === null ? ENOMEM : OK;
  }
  /** Bus address of the table, which must be there. */
  get contextHandle(): DmaAddr {
    return this.#contexts!.handle;
  }
  /** Make the context descriptor what `target` says. @linux arm_smmu_write_cd_entry */
  writeContext(target: EntryWords): void {
    this.#writer.write(this.#contexts!.mem, 0, target, cdUsed, () => {
      for (const sid of this.streams) this.smmu.syncCd(sid);
    });
  }
  /** @linux arm_smmu_clear_cd */
  clearContext(): void {
    if (this.#contexts !== null) this.writeContext(new Int32Array(ENTRY_WORDS));
  }

  /** The device is gone: nothing of it passes any more. @linux arm_smmu_release_device, arm_smmu_remove_master */
  release(): void {
    const abort = new Int32Array(ENTRY_WORDS);
    makeAbortSte(abort);
    this.install(abort);
    if (this.#contexts === null) return;
    dmaFreeCoherent(this.smmu.dev, this.#contexts.mem.size, this.#contexts.mem, this.#contexts.handle);
    this.#contexts = null;
  }
}
