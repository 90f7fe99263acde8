/** `dmakit rules [ID]`: the rules that drivers are held against, or one of them explained. */
import { formatRule, type RuleInfo } from '../checker/index.ts';
import { CliError, EXIT_OK } from './errors.ts';
import { type CliIo, type Colors, colorsFor, writeJson } from './io.ts';
import { type AnyRule, allRules, ruleOf } from './run-rules.ts';
import { nearest } from './values.ts';

/** Where text has no terminal to fit. */
const WIDTH = 100;

/** See program.ts for the options. */
export async function command(io: CliIo, args: string[], options: Record<string, unknown>): Promise<number> {
  const [wanted] = args;
  if (wanted !== undefined && ruleOf(wanted) !== undefined) {
    const rule = ruleOf(wanted)!;
    if (options.json === true) writeJson(io, { schema: 'dmakit/rules/1', rules: [rule] });
    else io.stdout.write(formatRule(rule as RuleInfo, Math.min(io.stdout.columns ?? WIDTH, WIDTH)));
    return EXIT_OK;
  }
  const list = wanted === undefined ? allRules() : group(wanted);
  if (options.json === true) writeJson(io, { schema: 'dmakit/rules/1', rules: list });
  else io.stdout.write(textOf(list, colorsFor(io.stdout, io.env)));
  return EXIT_OK;
}

const groupOf = ({ id }: AnyRule): string => id.slice(0, id.indexOf('/'));
const groups = (): string[] => [...new Set(allRules().map(groupOf))];

/** The rules of a group: what stands before the slash. */
function group(name: string): AnyRule[] {
  const list = allRules().filter((rule) => groupOf(rule) === name.replace(/\/$/, ''));
  if (list.length > 0) return list;
  const ids = allRules().map(({ id }) => id);
  // Whoever leaves the group out, or mistakes it, means the rule.
  const plain = (id: string): string => id.slice(id.indexOf('/') + 1);
  const meant = nearest(name, ids) ?? ids.find((id) => plain(id) === nearest(plain(name), ids.map(plain)));
  throw new CliError(`unknown rule '${name}'${meant === undefined ? '' : ` (did you mean '${meant}'?)`}`, {
    hint: "'dmakit rules' lists them all.",
  });
}

function textOf(list: readonly AnyRule[], colors: Colors): string {
  const paint = { error: colors.red, portability: colors.yellow, note: colors.blue };
  const width = Math.max(...list.map(({ id }) => id.length));
  const blocks = groups().map((name) => {
    const rows = list.filter((rule) => groupOf(rule) === name);
    return rows.map(({ id, severity, statement }) => `${paint[severity](id.padEnd(width))}  ${statement}\n`).join('');
  });
  const shown = list.length === 1 ? '1 rule' : `${list.length} rules`;
  return `${blocks.filter((block) => block !== '').join('\n')}\n${shown}. 'dmakit rules ${list[0]!.id}' explains one.\n`;
}
