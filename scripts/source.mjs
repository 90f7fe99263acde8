// What several checks need to know about a TypeScript source without compiling it.
import { readdirSync } from 'node:fs';
import { join, relative, sep } from 'node:path';

// A slash after one of these begins a regular expression, not a division.
const beforeRegExp =
  /(^|[=(,;:!&|?{}[+\-*%<>~^]|\b(return|typeof|case|in|of|do|else|void|delete|throw|await|yield))\s*$/;

/**
 * The source with its comments blanked out (and with `strings: true` the content of strings, templates and regular
 * expressions too), every character at its place and every line break kept. Code within `${}` stays.
 */
export function blank(source, { strings = false } = {}) {
  const out = [];
  const open = []; // for each template we are inside of: the depth of braces at its ${
  let depth = 0;
  let i = 0;
  let kept = 0; // start of the text since the last blanked piece, for looking back
  const hide = (end) => {
    out.push(source.slice(i, end).replace(/[^\n]/g, ' '));
    i = end;
  };
  const show = (end, hidden) => {
    if (strings && hidden) {
      out.push(source[i], source.slice(i + 1, end - 1).replace(/[^\n]/g, ' '), end - 1 > i ? source[end - 1] : '');
    } else out.push(source.slice(i, end));
    i = end;
  };
  const template = (from) => {
    // From just inside of a template to behind its closing quote or its next ${.
    let j = from;
    while (j < source.length && source[j] !== '`' && !(source[j] === '$' && source[j + 1] === '{')) {
      j += source[j] === '\\' ? 2 : 1;
    }
    if (source[j] === '$') {
      show(j + 2, true);
      out[out.length - 1] = strings ? '{' : out[out.length - 1];
      open.push(depth++);
    } else show(Math.min(j + 1, source.length), true);
  };
  while (i < source.length) {
    const c = source[i];
    const next = source[i + 1];
    if (c === '/' && next === '/') {
      const end = source.indexOf('\n', i);
      hide(end < 0 ? source.length : end);
    } else if (c === '/' && next === '*') {
      const end = source.indexOf('*/', i + 2);
      hide(end < 0 ? source.length : end + 2);
    } else if (c === '/' && beforeRegExp.test(out.slice(kept).join('').slice(-40))) {
      const match = /^\/(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n[])+\/[a-z]*/.exec(source.slice(i, i + 2000));
      show(match === null ? i + 1 : i + match[0].length, match !== null);
    } else if (c === "'" || c === '"') {
      let end = i + 1;
      while (end < source.length && source[end] !== c && source[end] !== '\n') end += source[end] === '\\' ? 2 : 1;
      show(Math.min(end + 1, source.length), true);
    } else if (c === '`') template(i + 1);
    else if (c === '}' && open.length > 0 && depth === open[open.length - 1] + 1) {
      depth = open.pop();
      template(i + 1);
    } else {
      if (c === '{') depth++;
      if (c === '}') depth--;
      show(i + 1, false);
      kept = Math.max(0, out.length - 40);
    }
  }
  return out.join('');
}

/** The 1-based line of an offset. */
export function lineOf(source, offset) {
  let line = 1;
  for (let at = source.indexOf('\n'); at >= 0 && at < offset; at = source.indexOf('\n', at + 1)) line++;
  return line;
}

/** Every file under root/folder, as sorted paths relative to root, with slashes. */
export function listFiles(root, folder) {
  const found = [];
  const walk = (dir) => {
    let entries = [];
    try {
      entries = readdirSync(dir, { withFileTypes: true });
    } catch {
      return; // no such folder
    }
    for (const entry of entries) {
      const path = join(dir, entry.name);
      if (entry.isDirectory()) walk(path);
      else found.push(relative(root, path).split(sep).join('/'));
    }
  };
  walk(join(root, folder));
  return found.sort();
}

/** Tests and the suites that several tests share; neither is published. */
export const isTest = (path) => /\.(test|cases)\.ts$/.test(path);
