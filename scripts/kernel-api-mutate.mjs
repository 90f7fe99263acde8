// Which functions with a @linux tag would nobody miss? Empties the body of each exported function and each method of
// an exported class that carries a tag, one at a time, and runs the tests; a symbol whose tests still pass is a survivor.
// Works on a copy of the tree, one test process at a time; takes minutes: used by hand.
//
//   node scripts/kernel-api-mutate.mjs src/mapping [--only TEXT] [--tests PATH …]
//
// Runs the tests of the folder and those whose path begins with a PATH; --only takes functions and files that contain TEXT.
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isMain } from './is-main.mjs';
import { tagsOf } from './kernel-api.mjs';
import { blank, isTest, lineOf, listFiles } from './source.mjs';
import { findTests } from './test.mjs';

/** A test file that takes longer hangs, as an emptied body can make it: it counts as failed. */
const TIMEOUT_MS = 180_000;
const COPIED = ['src', 'scripts', 'fixtures', 'docs', 'examples', 'package.json', 'tsconfig.json'];

/** The index behind the bracket that closes the one at `open`. */
function behindBracket(code, open) {
  const close = { '(': ')', '{': '}', '<': '>', '[': ']' }[code[open]];
  let depth = 0;
  for (let i = open; i < code.length; i++) {
    if (code[i] === code[open]) depth++;
    else if (code[i] === close && code[i - 1] !== '=' && --depth === 0) return i + 1;
  }
  return -1;
}

/** Where a function's body begins, `from` being behind its name: { type, open }, or null for a declaration without body. */
function bodyOf(code, from) {
  let at = from + /^\s*/.exec(code.slice(from))[0].length;
  if (code[at] === '<') at = behindBracket(code, at);
  at += /^\s*/.exec(code.slice(at))[0].length;
  if (code[at] !== '(') return null;
  at = behindBracket(code, at);
  const type = at;
  while (at < code.length) {
    const c = code[at];
    if (c === ';') return null;
    if (c === '{') {
      // A brace behind one of these belongs to the type of the result.
      if (!/[:|&<,(]\s*$|=>\s*$/.test(code.slice(type, at))) return { type: code.slice(type, at), open: at };
      at = behindBracket(code, at);
    } else if (c === '<' || c === '(' || c === '[') at = behindBracket(code, at);
    else at++;
  }
  return null;
}

/** The statement that an emptied function is left with. */
export function emptyBody(type) {
  const result = type.replace(/^\s*:\s*/, '').trim();
  const promised = /^Promise<(.*)>$/s.exec(result);
  if (promised !== null) return `{ return Promise.resolve(${leastOf(promised[1].trim())}); }`;
  const value = leastOf(result);
  return value === '' ? '{}' : `{ return ${value}; }`;
}
function leastOf(type) {
  if (type === '' || type === 'void' || type === 'never') return '';
  if (/(^|\|\s*)null\b/.test(type)) return 'null';
  if (type === 'boolean' || / is /.test(type)) return 'false';
  if (type === 'string') return "''";
  if (type === 'bigint') return '0n';
  if (/\[\]$/.test(type)) return '[]';
  return /^(number|Errno|DmaAddr|PhysAddr|Page|Gfp|Cookie|Iova)\b/.test(type) ? '0' : 'undefined';
}

/**
 * The functions and methods of a source that carry a tag.
 * @param {string} source
 * @returns {{ name: string, symbols: string[], line: number, open: number, close: number, body: string }[]}
 */
export function mutantsOf(source) {
  const code = blank(source, { strings: true });
  const found = new Map();
  for (const { symbol, name, line } of tagsOf(source).tags) {
    const comment = offsetOfLine(source, line);
    const behind = source.indexOf('*/', comment) + 2;
    const own = name.slice(name.lastIndexOf('.') + 1);
    const declared = new RegExp(
      `^\\s*(?:export\\s+|async\\s+|function\\*?\\s+|static\\s+|override\\s+|public\\s+)*${own}(?=\\s*[<(])`,
    );
    const match = declared.exec(code.slice(behind));
    if (match === null || own === 'constructor') continue;
    const body = bodyOf(code, behind + match[0].length);
    if (body === null) continue;
    const known = found.get(body.open);
    if (known !== undefined) known.symbols.push(symbol);
    else {
      const close = behindBracket(code, body.open);
      const at = lineOf(source, behind + match[0].length);
      found.set(body.open, { name, symbols: [symbol], line: at, open: body.open, close, body: emptyBody(body.type) });
    }
  }
  return [...found.values()];
}
function offsetOfLine(source, line) {
  let at = 0;
  for (let i = 1; i < line; i++) at = source.indexOf('\n', at) + 1;
  return at;
}

/** Runs one test file; true when it passes. */
function passes(root, file) {
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const args = ['--import', import.meta.resolve('tsx'), '--test', '--test-reporter=dot', file];
  return spawnSync(process.execPath, args, { cwd: root, env, stdio: 'ignore', timeout: TIMEOUT_MS }).status === 0;
}

/** The test that stands beside the source first, then those that name the function, then the others; quick ones first. */
function inOrder(root, tests, durations, file, name) {
  const beside = file.replace(/\.ts$/, '.test.ts');
  const word = new RegExp(`\\b${name.slice(name.lastIndexOf('.') + 1)}\\b`);
  const rank = (test) => {
    if (test === beside) return 0;
    const text = readFileSync(join(root, test), 'utf8');
    if (word.test(text)) return 1;
    const suites = [...text.matchAll(/from '(\.[^']*\.cases\.ts)'/g)].map((match) => join(dirname(test), match[1]));
    return suites.some((suite) => word.test(readFileSync(join(root, suite), 'utf8'))) ? 2 : 3;
  };
  return tests
    .map((test) => ({ test, rank: rank(test) }))
    .sort((a, b) => a.rank - b.rank || durations.get(a.test) - durations.get(b.test));
}

function copyTree(root) {
  const copy = mkdtempSync(join(tmpdir(), 'dmakit-mutate-'));
  for (const part of COPIED) {
    if (existsSync(join(root, part))) cpSync(join(root, part), join(copy, part), { recursive: true });
  }
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
  return copy;
}

function parseArguments(args) {
  const parsed = { folder: '', only: '', tests: [] };
  let into = '';
  for (const arg of args) {
    if (arg === '--only' || arg === '--tests') into = arg;
    else if (into === '--only') {
      parsed.only = arg;
      into = '';
    } else if (into === '--tests') parsed.tests.push(arg);
    else parsed.folder = arg.replace(/^\.\//, '').replace(/\/$/, '');
  }
  return parsed;
}

function main() {
  const root = fileURLToPath(new URL('..', import.meta.url));
  const { folder, only, tests: more } = parseArguments(process.argv.slice(2));
  if (folder === '' || !existsSync(join(root, folder))) {
    console.error('usage: node scripts/kernel-api-mutate.mjs FOLDER [--only TEXT] [--tests PATH …]');
    return 2;
  }
  const copy = copyTree(root);
  process.on('exit', () => rmSync(copy, { recursive: true, force: true }));
  process.on('SIGINT', () => process.exit(130));
  const wanted = [`${folder}/`, ...more];
  const chosen = findTests(copy).filter((file) => wanted.some((path) => file.startsWith(path)));
  const durations = new Map();
  const tests = chosen.filter((file) => {
    const begin = performance.now();
    const good = passes(copy, file);
    durations.set(file, performance.now() - begin);
    if (!good) console.log(`${file} fails as it is, and is left out`);
    return good;
  });
  const survivors = [];
  let count = 0;
  for (const file of listFiles(copy, folder)) {
    if (!file.endsWith('.ts') || isTest(file)) continue;
    const source = readFileSync(join(copy, file), 'utf8');
    for (const mutant of mutantsOf(source)) {
      if (only !== '' && !mutant.name.includes(only) && !basename(file).includes(only)) continue;
      count++;
      writeFileSync(join(copy, file), source.slice(0, mutant.open) + mutant.body + source.slice(mutant.close));
      const killer = inOrder(copy, tests, durations, file, mutant.name).find(({ test }) => !passes(copy, test));
      writeFileSync(join(copy, file), source);
      const place = `${file}:${mutant.line} ${mutant.name} (${mutant.symbols.join(', ')})`;
      if (killer === undefined) survivors.push(place);
      console.log(killer === undefined ? `SURVIVES ${place}` : `missed   ${place}: ${killer.test}`);
    }
  }
  console.log(`${count} functions emptied, ${survivors.length} of them missed by no test of ${wanted.join(', ')}`);
  for (const survivor of survivors) console.log(`  ${survivor}`);
  return survivors.length > 0 ? 1 : 0;
}

if (isMain(import.meta.url)) process.exitCode = main();
