// Holds every import in src/ against the table of layers.mjs: node scripts/check-imports.mjs [ROOT]
// Long files are reported as warnings (long functions are, by the linter).
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, posix, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isMain } from './is-main.mjs';
import { EXCEPTIONS, HOST_LEVEL, LAYERS, TEST_FOLDERS, TEST_MODULES } from './layers.mjs';
import { blank, isTest, lineOf, listFiles } from './source.mjs';

const FILE_LINES = 500;

// from '…' (import and export), import '…', import('…'), require('…'), and import types.
const SPECIFIER = /(?:\bfrom\s*|\bimport\s*\(?\s*|\brequire\s*\(\s*)(['"])([^'"\n]+)\1/g;

/** The module specifiers of a source and their lines. */
export function importsOf(source) {
  const code = blank(source);
  const outsideStrings = blank(source, { strings: true });
  const found = [...code.matchAll(SPECIFIER)].filter(({ index }) => outsideStrings[index] === code[index]);
  return found.map((match) => ({ specifier: match[2], line: lineOf(code, match.index) }));
}

const packageOf = (specifier) => specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/');

/** Why this file may not import that module, or undefined when it may. */
function whyNot(file, specifier, tree) {
  const folder = file.split('/')[1];
  const { level, mayImport } = LAYERS[folder];
  if (!specifier.startsWith('.')) return whyNotModule(file, specifier, level, tree);
  const target = posix.join(posix.dirname(file), specifier);
  const [top, to] = target.split('/');
  if (top !== 'src') return 'reaches outside src/';
  if (!target.endsWith('.ts')) return 'must name the file with its .ts ending';
  if (!tree.files.has(target)) return 'does not exist';
  if (isTest(target) && !isTest(file)) return 'is a test, which only tests may import';
  if (to === folder) return undefined;
  if (mayImport.includes(to)) return undefined;
  if (isTest(file) && level >= 2 && TEST_FOLDERS.includes(to)) return undefined;
  return `${folder} (level ${level}) may import ${mayImport.length > 0 ? mayImport.join(', ') : 'no other folder'}`;
}

function whyNotModule(file, specifier, level, tree) {
  if (isTest(file) && TEST_MODULES.includes(specifier)) return undefined;
  if (level < HOST_LEVEL) {
    return isTest(file)
      ? `tests below level ${HOST_LEVEL} may import ${TEST_MODULES.join(', ')}`
      : `levels below ${HOST_LEVEL} run in a browser: no node: module and no package`;
  }
  if (specifier.startsWith('node:')) return undefined;
  const name = packageOf(specifier);
  if (tree.dependencies.has(name) || (isTest(file) && tree.devDependencies.has(name))) return undefined;
  return `${name} is no ${isTest(file) ? 'locked' : 'runtime'} dependency in package.json`;
}

/** The errors and warnings of a tree; `exceptions` as in layers.mjs. */
export function checkImports(root, exceptions = EXCEPTIONS) {
  const errors = [];
  const warnings = [];
  const files = listFiles(root, 'src').filter((path) => /\.[cm]?[jt]sx?$/.test(path));
  const manifest = existsSync(join(root, 'package.json'))
    ? JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
    : {};
  const tree = {
    files: new Set(files),
    dependencies: new Set(Object.keys(manifest.dependencies ?? {})),
    devDependencies: new Set(Object.keys(manifest.devDependencies ?? {})),
  };
  const unused = new Set(exceptions);
  for (const exception of exceptions)
    if (!exception.reason) errors.push(`${exception.from}: exception without a reason`);
  for (const file of files) {
    const folder = file.split('/')[1];
    if (!Object.hasOwn(LAYERS, folder)) {
      errors.push(`${file}: ${folder} is no folder of the table in scripts/layers.mjs`);
      continue;
    }
    const source = readFileSync(join(root, file), 'utf8');
    const lines = source.split('\n').length - 1;
    if (lines > FILE_LINES) warnings.push(`${file}: ${lines} lines; over ${FILE_LINES} is a sign to split`);
    for (const { specifier, line } of importsOf(source)) {
      const reason = whyNot(file, specifier, tree);
      if (reason === undefined) continue;
      const target = specifier.startsWith('.') ? posix.join(posix.dirname(file), specifier) : specifier;
      const exception = exceptions.find(({ from, to }) => from === file && to === target);
      if (exception === undefined) errors.push(`${file}:${line}: '${specifier}': ${reason}`);
      else unused.delete(exception);
    }
  }
  for (const { from, to } of unused) errors.push(`exception ${from} → ${to} is no longer needed: remove it`);
  return { errors, warnings, files: files.length };
}

if (isMain(import.meta.url)) {
  const root = resolve(process.argv[2] ?? join(dirname(fileURLToPath(import.meta.url)), '..'));
  const { errors, warnings, files } = checkImports(root);
  if (files === 0) errors.push(`there is no source in ${join(root, 'src')}`);
  for (const warning of warnings) console.error(`warning: ${warning}`);
  for (const error of errors) console.error(`error: ${error}`);
  console.log(`imports: ${files} files, ${errors.length} errors, ${warnings.length} warnings`);
  process.exitCode = errors.length === 0 ? 0 : 1;
}
