// Which names a piece of TypeScript declares, scope by scope, from the syntax tree alone.
// `var` reaches up to the function (or cell); let, const, class and function stay in their block.
import ts from 'typescript';

/** How a name of a cell was declared; `type` names exist for the type checker only. */
export type Kind =
  | 'let'
  | 'const'
  | 'var'
  | 'using'
  | 'function'
  | 'class'
  | 'enum'
  | 'import'
  | 'type'
  | 'ambient';

/** Names declared at the top level of a cell. */
export type Declarations = Map<string, Kind>;

/** All identifiers of a binding name or pattern. */
export function bindingNames(name: ts.BindingName): ts.Identifier[] {
  if (ts.isIdentifier(name)) return [name];
  return name.elements.flatMap((element) =>
    ts.isOmittedExpression(element) ? [] : bindingNames(element.name),
  );
}

/** let, const, var or using: the keyword of a declaration list. */
export function listKind(list: ts.VariableDeclarationList): 'let' | 'const' | 'var' | 'using' {
  const flags = list.flags & ts.NodeFlags.BlockScoped;
  if (flags === ts.NodeFlags.Using || flags === ts.NodeFlags.AwaitUsing) return 'using';
  if (flags === ts.NodeFlags.Const) return 'const';
  return flags === ts.NodeFlags.Let ? 'let' : 'var';
}

/** True for a declaration that leaves nothing at run time (`declare const x: T`). */
export function isAmbient(node: ts.Node): boolean {
  return (
    ts.canHaveModifiers(node) &&
    (ts.getModifiers(node)?.some((m) => m.kind === ts.SyntaxKind.DeclareKeyword) ?? false)
  );
}

/** Names that the statements of a cell declare at its top level, nested `var` included. */
export function topLevelDeclarations(file: ts.SourceFile): Declarations {
  const names: Declarations = new Map();
  for (const statement of file.statements) {
    for (const [name, kind] of statementNames(statement)) {
      if (!(kind === 'type' && names.has(name))) names.set(name, kind);
    }
    for (const name of varNames(statement)) if (!names.has(name)) names.set(name, 'var');
  }
  return names;
}

function statementNames(statement: ts.Statement): [string, Kind][] {
  const kind = (real: Kind): Kind => (isAmbient(statement) ? 'ambient' : real);
  if (ts.isVariableStatement(statement)) {
    const list = statement.declarationList;
    return list.declarations
      .flatMap((d) => bindingNames(d.name))
      .map((id) => [id.text, kind(listKind(list))]);
  }
  if (ts.isFunctionDeclaration(statement) && statement.name) {
    return [[statement.name.text, kind('function')]];
  }
  if (ts.isClassDeclaration(statement) && statement.name) {
    return [[statement.name.text, kind('class')]];
  }
  if (ts.isEnumDeclaration(statement)) return [[statement.name.text, kind('enum')]];
  if (ts.isModuleDeclaration(statement) && ts.isIdentifier(statement.name)) {
    if (statement.flags & ts.NodeFlags.GlobalAugmentation) return [];
    return [[statement.name.text, kind(hasValues(statement) ? 'enum' : 'type')]];
  }
  if (ts.isInterfaceDeclaration(statement) || ts.isTypeAliasDeclaration(statement)) {
    return [[statement.name.text, 'type']];
  }
  if (ts.isImportEqualsDeclaration(statement)) return [[statement.name.text, 'import']];
  if (ts.isImportDeclaration(statement)) {
    return importedNames(statement).map((name) => [name, 'import']);
  }
  return [];
}

/** True if a namespace holds anything but types. */
function hasValues(node: ts.ModuleDeclaration): boolean {
  const body = node.body;
  if (!body || !ts.isModuleBlock(body)) return true;
  return body.statements.some(
    (s) => !ts.isInterfaceDeclaration(s) && !ts.isTypeAliasDeclaration(s) && !isAmbient(s),
  );
}

/** Local names that an import statement brings. */
export function importedNames(node: ts.ImportDeclaration): string[] {
  const clause = node.importClause;
  if (!clause) return [];
  const names = clause.name ? [clause.name.text] : [];
  const bindings = clause.namedBindings;
  if (bindings && ts.isNamespaceImport(bindings)) names.push(bindings.name.text);
  if (bindings && ts.isNamedImports(bindings)) {
    names.push(...bindings.elements.map((element) => element.name.text));
  }
  return names;
}

/** Names declared by `var` in `node`, functions inside it left out. */
export function varNames(node: ts.Node): string[] {
  const names: string[] = [];
  const visit = (child: ts.Node): void => {
    if (ts.isFunctionLike(child) || ts.isClassLike(child) || ts.isModuleDeclaration(child)) return;
    if (ts.isVariableDeclarationList(child) && listKind(child) === 'var') {
      if (isAmbient(child.parent)) return;
      for (const d of child.declarations) names.push(...bindingNames(d.name).map((id) => id.text));
    }
    ts.forEachChild(child, visit);
  };
  visit(node);
  return names;
}

/** Names that `node` itself puts into scope for what is inside it; null if it opens no scope. */
export function scopeOf(node: ts.Node): Set<string> | null {
  if (ts.isFunctionLike(node)) return functionScope(node);
  if (ts.isClassLike(node)) return new Set(node.name ? [node.name.text] : []);
  if (ts.isEnumDeclaration(node)) {
    return new Set(
      node.members.flatMap((m) =>
        ts.isIdentifier(m.name) || ts.isStringLiteral(m.name) ? [m.name.text] : [],
      ),
    );
  }
  if (ts.isModuleBlock(node)) {
    return new Set([...blockScope(node.statements), ...node.statements.flatMap(varNames)]);
  }
  if (ts.isBlock(node)) return blockScope(node.statements);
  if (ts.isCaseBlock(node)) return blockScope(node.clauses.flatMap((c) => [...c.statements]));
  if (ts.isCatchClause(node)) {
    const name = node.variableDeclaration?.name;
    return new Set(name ? bindingNames(name).map((id) => id.text) : []);
  }
  if (ts.isClassStaticBlockDeclaration(node)) return new Set(varNames(node.body));
  if (ts.isForStatement(node) || ts.isForInStatement(node) || ts.isForOfStatement(node)) {
    const list = node.initializer;
    if (!list || !ts.isVariableDeclarationList(list) || listKind(list) === 'var') return null;
    return new Set(list.declarations.flatMap((d) => bindingNames(d.name).map((id) => id.text)));
  }
  return null;
}

function functionScope(node: ts.SignatureDeclaration): Set<string> {
  const names = new Set<string>();
  if (!ts.isArrowFunction(node)) names.add('arguments');
  if (ts.isFunctionExpression(node) && node.name) names.add(node.name.text);
  for (const parameter of node.parameters) {
    for (const id of bindingNames(parameter.name)) names.add(id.text);
  }
  const body = (node as ts.FunctionLikeDeclaration).body;
  if (body && ts.isBlock(body)) for (const name of varNames(body)) names.add(name);
  return names;
}

function blockScope(statements: readonly ts.Statement[]): Set<string> {
  const names = new Set<string>();
  for (const statement of statements) {
    for (const [name, kind] of statementNames(statement)) {
      if (kind !== 'type' && kind !== 'ambient' && kind !== 'var') names.add(name);
    }
  }
  return names;
}
