// A reporter for node:test that counts: its only output, at the end, is one JSON document.
import { relative, sep } from 'node:path';

const posix = (path) =>
  relative(process.cwd(), path ?? '')
    .split(sep)
    .join('/');

export default async function* count(events) {
  const counts = { executed: 0, failed: 0, skipped: [], empty: [] };
  for await (const { type, data } of events) {
    if (type !== 'test:pass' && type !== 'test:fail') continue;
    // The runner reports a file without any test as if the file were a test.
    if (data.nesting === 0 && data.file && posix(data.name) === posix(data.file)) {
      if (type === 'test:pass') counts.empty.push(posix(data.file));
      else counts.failed++;
      continue;
    }
    if (data.skip !== undefined && data.skip !== false) {
      const reason = typeof data.skip === 'string' && data.skip !== '' ? data.skip : 'no reason given';
      counts.skipped.push({ name: data.name, file: posix(data.file), reason });
      continue;
    }
    if (data.details?.type === 'suite') continue;
    if (type === 'test:fail') counts.failed++;
    counts.executed++;
  }
  yield JSON.stringify(counts);
}
