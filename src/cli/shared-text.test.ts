import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SharedText } from './shared-text.ts';

test('lines come out in order, each byte once, whatever their length', () => {
  const pieces: string[] = [];
  let expectedAt = 0;
  const text = new SharedText((bytes, position) => {
    assert.equal(position, expectedAt);
    expectedAt += bytes.length;
    pieces.push(bytes.toString('utf8'));
  });
  const lines = Array.from({ length: 400 }, (_, i) => `${i} ${'ü'.repeat((i * 37) % 2000)}`);
  for (const line of lines) text.line(line);
  text.flush();
  text.flush();
  assert.equal(pieces.join(''), lines.map((line) => `${line}\n`).join(''));
  assert.ok(pieces.length > 1);
});

test('a line longer than the memory comes out whole, and no character is split', () => {
  const pieces: string[] = [];
  const text = new SharedText((bytes) => pieces.push(bytes.toString('utf8')));
  const line = `x${'😀'.repeat(200_000)}`;
  text.line('before');
  text.line(line);
  text.flush();
  assert.equal(pieces.join(''), `before\n${line}\n`);
});

test('what one thread has not handed on, another finds', () => {
  const first: string[] = [];
  const writer = new SharedText((bytes) => first.push(bytes.toString('utf8')), 100);
  writer.line('one');
  writer.flush();
  writer.line('two');
  const rest: [string, number][] = [];
  const reader = new SharedText((bytes, position) => rest.push([bytes.toString('utf8'), position]), writer.memory);
  reader.flush();
  assert.deepEqual([first, rest], [['one\n'], [['two\n', 104]]]);
});
