/** Progress on a terminal's standard error; silence in a pipe. */
import type { CliIo } from './io.ts';

/** One bar. */
export interface Progress {
  update(done: number, note?: string): void;
  /** How much there is to do turns out to be this. */
  setTotal(total: number): void;
  stop(): void;
}

const silent: Progress = { update() {}, setTotal() {}, stop() {} };

/** A bar from 0 to `total` labelled `label`. */
export async function startProgress(io: CliIo, label: string, total: number): Promise<Progress> {
  if (io.stderr.isTTY !== true || total <= 0) return silent;
  const { SingleBar } = await import('cli-progress');
  const bar = new SingleBar({
    format: `${label} [{bar}] {percentage} % {note}`,
    stream: io.stderr as unknown as NodeJS.WritableStream,
    hideCursor: true,
    clearOnComplete: true,
    barsize: 28,
    fps: 8,
    barCompleteChar: '=',
    barIncompleteChar: ' ',
  });
  let most = total;
  bar.start(total, 0, { note: '' });
  const forget = io.onExit(() => bar.stop());
  return {
    update: (done, note = '') => bar.update(Math.min(done, most), { note }),
    setTotal: (value) => {
      most = value;
      bar.setTotal(value);
    },
    stop: () => {
      forget();
      bar.stop();
    },
  };
}
