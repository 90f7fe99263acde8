import assert from 'node:assert/strict';
import { test } from 'node:test';
import { markedBlocks } from './check-readme.mjs';

test('marked blocks are found with their line and exit code, others are not', () => {
  const text = [
    '```sh',
    'not marked',
    '```',
    '<!-- ci -->',
    '```sh',
    'one',
    'two',
    '```',
    '<!-- ci exit=1 -->',
    '',
    '```sh',
    'three',
    '```',
  ];
  assert.deepEqual(markedBlocks(text.join('\n')), [
    { line: 5, script: 'one\ntwo', exit: 0 },
    { line: 11, script: 'three', exit: 1 },
  ]);
});

for (const [text, expected] of [
  ['<!-- ci -->\ntext', /line 1: expected a ```sh block behind the marker, found text/],
  ['<!-- ci exit=x -->\n```sh\n```', /line 1: expected <!-- ci -->/],
  ['<!-- ci -->\n```sh\nno end', /line 2: the block does not end/],
] as const) {
  test(`a marker that would check nothing is an error: ${JSON.stringify(text)}`, () => {
    assert.throws(() => markedBlocks(text), expected);
  });
}
