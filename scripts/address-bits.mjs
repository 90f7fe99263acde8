// Finds bit operators applied to addresses: they truncate to 32 bits silently, so only src/base/addr.ts may.
// It asks the compiler for the operands' types. The compiler's API is still called unstable; the version is locked.
import { join } from 'node:path';
import { SyntaxKind } from 'typescript/unstable/ast';
import { API } from 'typescript/unstable/sync';

const ADDRESS = /\b(PhysAddr|DmaAddr|Iova|Addr)\b/;
const ALLOWED = 'src/base/addr.ts';

const BIT_OPERATORS = new Map(
  Object.entries({
    AmpersandToken: '&',
    BarToken: '|',
    CaretToken: '^',
    LessThanLessThanToken: '<<',
    GreaterThanGreaterThanToken: '>>',
    GreaterThanGreaterThanGreaterThanToken: '>>>',
    AmpersandEqualsToken: '&=',
    BarEqualsToken: '|=',
    CaretEqualsToken: '^=',
    LessThanLessThanEqualsToken: '<<=',
    GreaterThanGreaterThanEqualsToken: '>>=',
    GreaterThanGreaterThanGreaterThanEqualsToken: '>>>=',
  }).map(([name, text]) => [SyntaxKind[name], text]),
);

/** The operands of bit operators below a node, as { operand, operator }. */
function bitOperands(sourceFile) {
  const found = [];
  const visit = (node) => {
    if (node.kind === SyntaxKind.BinaryExpression) {
      const operator = BIT_OPERATORS.get(node.operatorToken.kind);
      if (operator !== undefined) found.push({ operand: node.left, operator }, { operand: node.right, operator });
    } else if (node.kind === SyntaxKind.PrefixUnaryExpression && node.operator === SyntaxKind.TildeToken) {
      found.push({ operand: node.operand, operator: '~' });
    }
    node.forEachChild(visit);
  };
  visit(sourceFile);
  return found;
}

/** One line for each bit operator on an address in the project's src/, tests included. */
export function addressBits(root, config = 'tsconfig.json') {
  const api = new API({ cwd: root });
  try {
    const snapshot = api.updateSnapshot({ openProjects: [join(root, config)] });
    const [project] = snapshot.getProjects();
    const errors = [];
    for (const name of project.program.getSourceFileNames()) {
      const path = name.startsWith(root) ? name.slice(root.length).replace(/^\//, '') : '';
      if (!path.startsWith('src/') || path === ALLOWED) continue;
      const sourceFile = project.program.getSourceFile(name);
      const uses = bitOperands(sourceFile);
      if (uses.length === 0) continue;
      const types = project.checker.getTypeAtLocation(uses.map(({ operand }) => operand));
      const texts = new Map(); // by type: most operands are plain numbers
      for (const [i, { operand, operator }] of uses.entries()) {
        const type = types[i];
        if (type === undefined) continue;
        if (!texts.has(type)) texts.set(type, project.checker.typeToString(type));
        const text = texts.get(type);
        if (!ADDRESS.test(text)) continue;
        const start = operand.getStart(sourceFile);
        const line = sourceFile.text.slice(0, start).split('\n').length;
        const what = sourceFile.text.slice(start, operand.end);
        errors.push(`${path}:${line}: '${operator}' on ${what}, a ${text}: use the helpers of ${ALLOWED}`);
      }
    }
    return errors;
  } finally {
    api.close();
  }
}
