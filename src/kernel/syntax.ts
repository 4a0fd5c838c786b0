// What role a node of the syntax tree plays, as far as the rewriter (rewrite.ts) must know.
import ts from 'typescript';

/** An arrow function, or a function or class expression, without a name of its own. */
export function isAnonymousFunction(node: ts.Expression): boolean {
  if (ts.isParenthesizedExpression(node)) return isAnonymousFunction(node.expression);
  if (ts.isArrowFunction(node)) return true;
  return (ts.isFunctionExpression(node) || ts.isClassExpression(node)) && node.name === undefined;
}

/** `f()`, `f!()` and tagged templates, where the box must not become `this`. */
export function isCallee(node: ts.Node): boolean {
  const parent = node.parent;
  if (ts.isNonNullExpression(parent)) return isCallee(parent);
  if (ts.isTaggedTemplateExpression(parent)) return parent.tag === node;
  return ts.isCallExpression(parent) && parent.expression === node && !inDecorator(parent);
}

function inDecorator(call: ts.CallExpression): boolean {
  return ts.isDecorator(call.parent) && call.parent.expression === call;
}

/** True if `node` is the first token of an expression statement: `(` would then continue the line before. */
export function startsStatement(node: ts.Node): boolean {
  const start = node.getStart();
  let at: ts.Node = node;
  while (at.parent && at.parent.getStart() === start && !ts.isStatement(at)) at = at.parent;
  if (!ts.isExpressionStatement(at) || at.getStart() !== start) return false;
  const list = at.parent;
  return ts.isBlock(list) || ts.isSourceFile(list) || ts.isCaseOrDefaultClause(list);
}

/** False for identifiers that name a property, a label, a declaration or a type. */
export function isReference(node: ts.Identifier): boolean {
  const parent = node.parent;
  if (ts.isPropertyAccessExpression(parent)) return parent.name !== node;
  if (ts.isPropertyAssignment(parent)) return parent.initializer === node;
  if (ts.isBindingElement(parent)) return parent.initializer === node;
  if (ts.isVariableDeclaration(parent) || ts.isParameter(parent))
    return parent.initializer === node;
  if (ts.isPropertyDeclaration(parent) || ts.isEnumMember(parent)) {
    return parent.initializer === node;
  }
  if (ts.isJsxAttribute(parent)) return false;
  if (ts.isJsxOpeningLikeElement(parent) || ts.isJsxClosingElement(parent)) {
    return !/^[a-z]/.test(node.text);
  }
  if (ts.isExpressionWithTypeArguments(parent)) return true;
  return !(
    ts.isQualifiedName(parent) ||
    ts.isLabeledStatement(parent) ||
    ts.isBreakOrContinueStatement(parent) ||
    ts.isModuleDeclaration(parent) ||
    ts.isEnumDeclaration(parent) ||
    ts.isImportEqualsDeclaration(parent) ||
    ts.isImportAttribute(parent) ||
    ts.isExportSpecifier(parent) ||
    ts.isNamespaceExport(parent) ||
    (ts.isFunctionLike(parent) && parent.name === node) ||
    (ts.isClassLike(parent) && parent.name === node)
  );
}
