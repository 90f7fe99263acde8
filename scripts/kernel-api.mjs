// Writes docs/kernel-api.md: which symbols of the kernel (docs/kernel-symbols.txt) dmakit has, under which name and
// where. A declaration says so itself, in its doc comment: @linux symbol[, symbol…]. Exported declarations count, and
// members of exported classes and interfaces; `struct.field` also counts when the declaration of that struct has a
// member of the field's name in camelCase.
//
//   node scripts/kernel-api.mjs            writes the table
//   node scripts/kernel-api.mjs --check    fails when the table on disk is stale
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isMain } from './is-main.mjs';
import { blank, isTest, lineOf, listFiles } from './source.mjs';

const SYMBOL = String.raw`(?:(?:struct|union|enum)\s+)?[A-Za-z_][\w.:#/-]*[\w]`;
const GAP = String.raw`(?:[ \t]|\r?\n[ \t]*\*(?!/))`; // a tag may go on in the next line of its comment
const TAG = new RegExp(`@linux${GAP}+(${SYMBOL}(?:${GAP}*,${GAP}*${SYMBOL})*)`, 'g');
const EXPORTED =
  /^\s*export\s+(?:declare\s+)?(?:abstract\s+)?(?:async\s+)?(function\*?|class|interface|type|const|let|enum)\s+([A-Za-z_$][\w$]*)/;
const MEMBER =
  /^\s*(?:(?:public|static|readonly|abstract|override|declare|async|get|set)\s+)*\*?([A-Za-z_$][\w$]*|\[[^\]\n]*\])\s*[?!]?\s*[(<:=;,]/;
const PRIVATE = /^\s*(?:private|protected)\b|^\s*#/;

/** `struct dma_chan` and `dma_chan` are the same symbol. */
const plain = (symbol) => symbol.replace(/^(struct|union|enum)\s+/, '');
const camel = (name) => name.replace(/(?<=[a-z0-9])_([a-z0-9])/g, (_, letter) => letter.toUpperCase());

/** The brace that opens the block of a class or interface, behind its type parameters and arguments. */
function blockStart(code, from) {
  let angles = 0;
  for (let i = from; i < code.length; i++) {
    if (code[i] === '<') angles++;
    else if (code[i] === '>' && code[i - 1] !== '=') angles--;
    else if (code[i] === '{' && angles === 0) return i;
  }
  return code.length;
}

function blockEnd(code, start) {
  let depth = 0;
  for (let i = start; i < code.length; i++) {
    if (code[i] === '{') depth++;
    else if (code[i] === '}' && --depth === 0) return i;
  }
  return code.length;
}

/** Exported classes and interfaces of a source: name, and where their block begins and ends. */
function blocksOf(code) {
  const pattern = /^export\s+(?:declare\s+)?(?:abstract\s+)?(?:class|interface)\s+([A-Za-z_$][\w$]*)/gm;
  return [...code.matchAll(pattern)].map((match) => {
    const start = blockStart(code, match.index);
    return { name: match[1], start, end: blockEnd(code, start) };
  });
}

/**
 * Every tag of a source; a tag on something unexported is in `misplaced`.
 * @param {string} source
 * @returns {{ tags: { symbol: string, name: string, line: number, body: string }[],
 *   misplaced: { symbols: string[], line: number }[] }}
 */
export function tagsOf(source) {
  const code = blank(source, { strings: true });
  const blocks = blocksOf(code);
  const tags = [];
  const misplaced = [];
  for (const comment of source.matchAll(/\/\*\*[\s\S]*?\*\//g)) {
    const symbols = [...comment[0].matchAll(TAG)].flatMap((tag) => tag[1].split(',').map(clean));
    if (symbols.length === 0) continue;
    const behind = comment.index + comment[0].length;
    const line = lineOf(source, comment.index);
    const next = code.slice(behind).replace(/^\s*(?:@[\w.]+(?:\([^)]*\))?\s*)*/, '');
    const at = code.length - next.length;
    const exported = EXPORTED.exec(next);
    const block = blocks.find(({ start, end }) => start < at && at < end);
    const member = block && !PRIVATE.test(next) ? MEMBER.exec(next) : null;
    if (exported === null && member === null) {
      misplaced.push({ symbols, line });
      continue;
    }
    const name = exported !== null ? exported[2] : `${block.name}.${member[1]}`;
    const own = exported && blocks.find((candidate) => candidate.name === name && candidate.start > at);
    const body = own ? code.slice(own.start, own.end) : '';
    for (const symbol of symbols) tags.push({ symbol, name, line, body });
  }
  return { tags, misplaced };
}

const clean = (symbol) =>
  symbol
    .replace(/\s*\n\s*\*\s*/g, ' ')
    .trim()
    .replace(/\s+/g, ' ');

/** The headings of docs/kernel-symbols.txt with their symbols. */
export function parseSymbols(text) {
  const groups = [];
  const seen = new Map();
  for (const [i, raw] of text.split('\n').entries()) {
    const line = raw.trim();
    if (line === '' || line.startsWith(';')) continue;
    if (line.startsWith('# ')) {
      groups.push({ heading: line.slice(2), symbols: [] });
      continue;
    }
    if (groups.length === 0) throw new Error(`kernel-symbols.txt:${i + 1}: expected a heading, found ${line}`);
    if (seen.has(plain(line))) {
      throw new Error(`kernel-symbols.txt:${i + 1}: ${line} stands in line ${seen.get(plain(line))} already`);
    }
    seen.set(plain(line), i + 1);
    groups[groups.length - 1].symbols.push(line);
  }
  return groups;
}

/** Collects the tags of src/: symbol → places, and the complaints. */
export function collect(root) {
  const places = new Map();
  const complaints = [];
  const bodies = [];
  for (const file of listFiles(root, 'src')) {
    if (!file.endsWith('.ts') || file.endsWith('.d.ts') || isTest(file)) continue;
    const { tags, misplaced } = tagsOf(readFileSync(join(root, file), 'utf8'));
    for (const { symbols, line } of misplaced) {
      complaints.push(`${file}:${line}: @linux ${symbols.join(', ')} stands on nothing exported`);
    }
    for (const { symbol, name, body } of tags) {
      const key = plain(symbol);
      places.set(key, [...(places.get(key) ?? []), { name, file }]);
      if (body !== '') bodies.push({ struct: key, name, file, body });
    }
  }
  return { places, bodies, complaints };
}

function fieldOf(symbol, bodies) {
  const dot = symbol.indexOf('.');
  if (dot < 0) return undefined;
  const field = camel(symbol.slice(dot + 1));
  const declared = new RegExp(
    `^\\s*(?:(?:readonly|declare|override|abstract|get|set)\\s+)*${field}\\s*[?!]?\\s*[:(=;<]`,
    'm',
  );
  const found = bodies.find(({ struct, body }) => struct === symbol.slice(0, dot) && declared.test(body));
  return found && [{ name: `${found.name}.${field}`, file: found.file }];
}

function row(symbol, places) {
  const unique = [...new Map((places ?? []).map((place) => [`${place.name} ${place.file}`, place])).values()];
  const names = unique.map(({ name }) => `\`${name}\``).join(', ');
  const files = [...new Set(unique.map(({ file }) => file))].map((file) => `[${file}](../${file})`).join(', ');
  return `| \`${symbol}\` | ${names || '–'} | ${files || '–'} | ${unique.length > 0 ? 'present' : 'missing'} |`;
}

/** The page, and how many of the listed symbols are present. */
export function render(groups, { places, bodies }) {
  const listed = new Set(groups.flatMap(({ symbols }) => symbols.map(plain)));
  const head = ['| kernel | dmakit | file | status |', '|---|---|---|---|'];
  const summary = [];
  const parts = [];
  let present = 0;
  for (const { heading, symbols } of groups) {
    const found = symbols.map((symbol) => places.get(plain(symbol)) ?? fieldOf(symbol, bodies));
    const count = found.filter((place) => place !== undefined).length;
    present += count;
    summary.push(`| ${heading} | ${count} | ${symbols.length} |`);
    parts.push('', `## ${heading}`, '', ...head, ...symbols.map((symbol, i) => row(symbol, found[i])));
  }
  const beyond = [...places.keys()].filter((symbol) => !listed.has(symbol)).sort();
  if (beyond.length > 0) {
    parts.push('', '## Beyond the list', '', ...head, ...beyond.map((symbol) => row(symbol, places.get(symbol))));
  }
  const page = [
    '# The kernel’s API in dmakit',
    '',
    'Written by `npm run kernel-api` from the `@linux` tags in the sources and from kernel-symbols.txt; do not edit.',
    '',
    `**${present} of ${listed.size} symbols are present, ${listed.size - present} missing**; ${beyond.length} more are offered beyond the list.`,
    '',
    '| group | present | listed |',
    '|---|---:|---:|',
    ...summary,
    ...parts,
    '',
  ].join('\n');
  return { page, present, total: listed.size };
}

function main() {
  const root = fileURLToPath(new URL('..', import.meta.url));
  const target = join(root, 'docs', 'kernel-api.md');
  const groups = parseSymbols(readFileSync(join(root, 'docs', 'kernel-symbols.txt'), 'utf8'));
  const collected = collect(root);
  const { page, present, total } = render(groups, collected);
  for (const complaint of collected.complaints) console.error(`error: ${complaint}`);
  const check = process.argv.includes('--check');
  const stale = !existsSync(target) || readFileSync(target, 'utf8') !== page;
  if (check && stale) console.error('error: docs/kernel-api.md is stale: npm run kernel-api');
  if (!check && stale) writeFileSync(target, page);
  console.log(`kernel-api: ${present} of ${total} symbols present`);
  return collected.complaints.length > 0 || (check && stale) ? 1 : 0;
}

if (isMain(import.meta.url)) process.exitCode = main();
