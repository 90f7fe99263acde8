/** Rules of the DMA engine's clients. */
import { lineText, rule } from '../rule.ts';

export const dmaengineRules = {
  'dmaengine/no-issue-pending': rule<{ channel: string; descriptors: number; firstCookie: number }>({
    severity: 'error',
    statement: 'After dmaengineSubmit comes dmaAsyncIssuePending.',
    wording: null,
    page: `dmaengineSubmit only queues a descriptor: so that a driver can put together a batch. The hardware starts with
dmaAsyncIssuePending. Some controllers start at submit and hide the mistake; on the others the driver waits for ever.`,
    message: ({ values: v }) =>
      `${v.descriptors} ${v.descriptors === 1 ? 'descriptor' : 'descriptors'} submitted on ${v.channel} (from cookie ${v.firstCookie}), dmaAsyncIssuePending never called`,
    kernel: () => null,
    fix: ({ mappedAt }) => `add dmaAsyncIssuePending(chan)${lineText('after', mappedAt)}`,
  }),
  'dmaengine/not-submitted': rule<{ channel: string; descriptors: number; kind: string }>({
    severity: 'error',
    statement: 'A descriptor that was prepared is submitted.',
    wording: null,
    page: `A prepared descriptor does nothing: dmaengineSubmit gives it to the channel, and dmaAsyncIssuePending starts it. There is no call
that takes a descriptor back: some providers hold a lock, or a place in their ring, from preparing to submitting. Do what can fail
before preparing; a channel that is terminated gives its descriptors up.`,
    message: ({ values: v }) =>
      `${v.descriptors} ${v.descriptors === 1 ? 'descriptor' : 'descriptors'} prepared on ${v.channel} (${v.kind}), dmaengineSubmit never called`,
    kernel: () => null,
    fix: ({ mappedAt }) => `add dmaengineSubmit(tx) and dmaAsyncIssuePending(chan)${lineText('after', mappedAt)}`,
  }),
  'dmaengine/callback-threw': rule<{ channel: string; cookie: number; what: string }>({
    severity: 'error',
    statement: 'A descriptor callback does not throw.',
    wording: null,
    page: `Callbacks run in a tasklet. There is nobody above them who could handle an exception: the machine stops, as after an oops in
interrupt context. Handle errors in the callback, and tell the waiting code through a variable and a completion.`,
    message: ({ values: v }) => `the callback of cookie ${v.cookie} on ${v.channel} threw: ${v.what}`,
    kernel: () => 'Kernel panic - not syncing: Fatal exception in interrupt',
    fix: () => 'catch it in the callback and pass the error to the code that waits',
  }),
  'dmaengine/channel-leak': rule<{ channel: string; client: string }>({
    severity: 'error',
    statement: 'A requested channel is released.',
    wording: null,
    page: `A channel that is not released stays taken until the next boot: probing the driver again fails, and the controller's module cannot
be unloaded. Error paths of probe forget it most.`,
    message: ({ values: v }) =>
      `${v.channel} was requested${v.client === '' ? '' : ` for ${v.client}`} and never released`,
    kernel: () => null,
    fix: ({ mappedAt }) =>
      `call dmaReleaseChannel(chan) on every path behind${lineText('', mappedAt) || ' the request'}`,
  }),
  'dmaengine/terminate-without-synchronize': rule<{ channel: string; freed: string }>({
    severity: 'note',
    statement: 'Between dmaengineTerminateAsync and giving buffers back comes dmaengineSynchronize.',
    wording: null,
    page: `dmaengineTerminateAsync may be called anywhere and so cannot wait: a callback may still run, and the hardware may still finish a
burst. Before memory that the transfer uses is unmapped or freed, dmaengineSynchronize has to wait for both; dmaengineTerminateSync
does both at once, where sleeping is allowed.`,
    message: ({ values: v }) => `${v.channel} was terminated and not synchronised before ${v.freed}`,
    kernel: () => null,
    fix: ({ at }) => `add await dmaengineSynchronize(chan)${lineText('before', at)}`,
  }),
};
