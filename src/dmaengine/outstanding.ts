/** What channels still owe, in words, for hung-task reports. */
import type { DmaChan } from './dma-chan.ts';
import type { DmaDevice } from './dma-device.ts';

const plural = (n: number): string => `${n} descriptor${n === 1 ? '' : 's'}`;

/** What was submitted on a channel and not issued: `3 descriptors submitted on dma0chan1, issue_pending never called`; or ''. */
export function describeUnissuedOn(chan: DmaChan): string {
  const submitted = chan.submittedNotIssued;
  if (submitted === 0) return '';
  const issue = chan.everIssued ? 'issue_pending not called since' : 'issue_pending never called';
  return `${plural(submitted)} submitted on ${chan.name}, ${issue}`;
}

/** Everything outstanding on a channel, for a wait's `waitsFor`. */
export function describeOutstanding(chan: DmaChan): string {
  const unissued = describeUnissuedOn(chan);
  const issued = chan.issuedNotCompleted;
  const running = issued === 0 ? '' : `${plural(issued)} issued on ${chan.name}, not complete`;
  if (unissued !== '' && running !== '') return `${unissued}; ${running}`;
  return unissued || running || `nothing outstanding on ${chan.name}`;
}

/** @internal One line for each channel of the devices with something submitted and not issued. */
export function describeUnissued(devices: readonly DmaDevice[]): string[] {
  const lines: string[] = [];
  for (const device of devices) {
    for (const chan of device.channels) {
      const line = describeUnissuedOn(chan);
      if (line !== '') lines.push(line);
    }
  }
  return lines;
}
