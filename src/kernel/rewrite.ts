// Rewrites a TypeScript cell so that its top-level names live in boxes which all cells share:
//   let n = 0; const f = () => n   ->   __$n.v = 0; __$f.v = ({ f: () => __$n.v }).f
// Closures therefore see later assignments, and names declared before a throw survive. Only
// expressions are touched; types stay for the compiler to strip.
import MagicString from 'magic-string';
import ts from 'typescript';
import {
  bindingNames,
  type Declarations,
  isAmbient,
  listKind,
  scopeOf,
  topLevelDeclarations,
} from './bindings.ts';
import { isAnonymousFunction, isCallee, isReference, startsStatement } from './syntax.ts';

/** What the rewriter must know of the session. */
export interface RewriteOptions {
  /** True for names that earlier cells declared. */
  known: (name: string) => boolean;
  /** True for names of the JavaScript environment, which are left alone. */
  isGlobal: (name: string) => boolean;
  /** Imported names that are only types: left out of the import. */
  typeOnly?: ReadonlySet<string>;
}

/** The rewritten cell: an async function body in `text`, and the boxes that it needs. */
export interface Rewritten {
  text: MagicString;
  boxes: string[];
  declares: Declarations;
  /** The cell holds JSX. */
  hasJsx: boolean;
}

/** Name of the variable that holds the box of `name`. */
export function boxName(name: string): string {
  return `__$${name}`;
}

/** Rewrites one parsed cell (parents set). */
export function rewriteCell(file: ts.SourceFile, options: RewriteOptions): Rewritten {
  return new Rewriter(file, options).run();
}

class Rewriter {
  private readonly file: ts.SourceFile;
  private readonly options: RewriteOptions;
  private readonly text: MagicString;
  private readonly boxes = new Set<string>();
  private readonly declares: Declarations;
  private readonly scopes: Set<string>[] = [];
  private hasJsx = false;

  constructor(file: ts.SourceFile, options: RewriteOptions) {
    this.file = file;
    this.options = options;
    this.text = new MagicString(file.text);
    this.declares = topLevelDeclarations(file);
  }

  run(): Rewritten {
    const statements = this.file.statements;
    for (const statement of statements) this.statement(statement);
    const last = statements.at(-1);
    if (last && ts.isExpressionStatement(last)) {
      this.text.appendLeft(last.getStart(), ';return (');
      this.text.appendLeft(last.expression.getEnd(), ')');
    } else if (last && ts.isExportAssignment(last)) {
      this.text.appendLeft(last.expression.getStart(), ';return (');
      this.text.appendLeft(last.expression.getEnd(), ')');
    }
    this.text.prepend(this.hoisted());
    const { text, boxes, declares, hasJsx } = this;
    return { text, boxes: [...boxes], declares, hasJsx };
  }

  /** Functions and `var` exist from the start of the cell. */
  private hoisted(): string {
    let out = '';
    for (const [name, kind] of this.declares) {
      if (kind === 'function') out += `${this.box(name)} = ${name};`;
      if (kind === 'var') out += `${this.box(name)} = void 0;`;
    }
    return out;
  }

  /** The expression that reads or writes the box of `name`. */
  private box(name: string): string {
    this.boxes.add(name);
    return `${boxName(name)}.v`;
  }

  private statement(node: ts.Statement): void {
    if (this.isErased(node)) {
      this.text.remove(node.getStart(), node.getEnd());
    } else if (ts.isImportDeclaration(node)) {
      this.importDeclaration(node);
    } else if (ts.isExportDeclaration(node)) {
      const from = node.moduleSpecifier;
      this.replace(node, from ? `;await __$import(${from.getText()});` : ';');
    } else if (ts.isExportAssignment(node)) {
      this.text.remove(node.getStart(), node.expression.getStart());
      if (node !== this.file.statements.at(-1))
        this.text.appendLeft(node.expression.getStart(), ';');
      this.visit(node.expression);
    } else if (ts.isImportEqualsDeclaration(node)) {
      const from = node.moduleReference;
      const value = ts.isExternalModuleReference(from)
        ? `require(${from.expression.getText()})`
        : from.getText();
      this.replace(node, `;${this.box(node.name.text)} = ${value};`);
    } else {
      this.removeExport(node);
      this.visit(node);
      this.publish(node);
    }
  }

  /** Interfaces, type aliases, `declare` and type-only imports leave nothing behind. */
  private isErased(node: ts.Statement): boolean {
    if (ts.isInterfaceDeclaration(node) || ts.isTypeAliasDeclaration(node)) return true;
    if (isAmbient(node)) return true;
    if (ts.isImportDeclaration(node)) return node.importClause?.isTypeOnly ?? false;
    if (ts.isImportEqualsDeclaration(node)) return node.isTypeOnly;
    if (ts.isExportDeclaration(node)) return node.isTypeOnly;
    if (ts.isFunctionDeclaration(node)) return node.body === undefined;
    if (ts.isModuleDeclaration(node)) {
      return ts.isIdentifier(node.name) && this.declares.get(node.name.text) === 'type';
    }
    return false;
  }

  private removeExport(node: ts.Statement): void {
    if (!ts.canHaveModifiers(node)) return;
    for (const modifier of ts.getModifiers(node) ?? []) {
      if (
        modifier.kind === ts.SyntaxKind.ExportKeyword ||
        modifier.kind === ts.SyntaxKind.DefaultKeyword
      ) {
        this.text.remove(modifier.getStart(), modifier.getEnd());
      }
    }
    const unnamed =
      (ts.isFunctionDeclaration(node) || ts.isClassDeclaration(node)) && node.name === undefined;
    if (unnamed) {
      this.text.appendLeft(node.getStart(), ';(');
      this.text.appendLeft(node.getEnd(), ');');
    }
  }

  /** Class, enum, namespace and `using` keep their declaration; their value is boxed after it. */
  private publish(node: ts.Statement): void {
    let names: string[] = [];
    if (ts.isClassDeclaration(node) || ts.isEnumDeclaration(node) || ts.isModuleDeclaration(node)) {
      if (node.name) names = [node.name.text];
    } else if (ts.isVariableStatement(node) && listKind(node.declarationList) === 'using') {
      names = node.declarationList.declarations.flatMap((d) =>
        bindingNames(d.name).map((id) => id.text),
      );
    }
    for (const name of names) {
      this.text.appendLeft(node.getEnd(), `;${this.box(name)} = ${name};`);
    }
  }

  private importDeclaration(node: ts.ImportDeclaration): void {
    const specifier = node.moduleSpecifier.getText();
    const clause = node.importClause;
    const pairs: string[] = [];
    const add = (imported: string, local: string): void => {
      if (this.options.typeOnly?.has(local)) return;
      this.boxes.add(local);
      pairs.push(`[${JSON.stringify(imported)}, ${boxName(local)}]`);
    };
    if (clause?.name) add('default', clause.name.text);
    const bindings = clause?.namedBindings;
    if (bindings && ts.isNamespaceImport(bindings)) add('*', bindings.name.text);
    if (bindings && ts.isNamedImports(bindings)) {
      for (const element of bindings.elements) {
        if (!element.isTypeOnly)
          add((element.propertyName ?? element.name).text, element.name.text);
      }
    }
    if (clause && pairs.length === 0) return this.replace(node, ';');
    const attributes = node.attributes
      ? `, {${node.attributes.elements.map((e) => e.getText()).join(', ')}}`
      : '';
    const load = `await __$import(${specifier}${attributes})`;
    this.replace(
      node,
      clause ? `;__$bind(${specifier}, ${load}, ${pairs.join(', ')});` : `;${load};`,
    );
  }

  private replace(node: ts.Node, by: string): void {
    this.text.update(node.getStart(), node.getEnd(), by);
  }

  private visit = (node: ts.Node): void => {
    if (ts.isTypeNode(node) && !ts.isExpressionWithTypeArguments(node)) return;
    if (ts.isInterfaceDeclaration(node) || ts.isTypeAliasDeclaration(node)) return;
    if (ts.isTypeParameterDeclaration(node)) return;
    if (ts.isJsxElement(node) || ts.isJsxSelfClosingElement(node) || ts.isJsxFragment(node)) {
      this.hasJsx = true;
    }
    if (ts.isHeritageClause(node) && node.token === ts.SyntaxKind.ImplementsKeyword) return;
    if (ts.isIdentifier(node)) return this.identifier(node);
    if (ts.isMetaProperty(node)) return this.metaProperty(node);
    if (ts.isShorthandPropertyAssignment(node)) return this.shorthand(node);
    if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
      this.text.update(node.expression.getStart(), node.expression.getEnd(), '__$import');
      return node.arguments.forEach(this.visit);
    }
    if (ts.isVariableDeclarationList(node) && this.isBoxed(node)) return this.variables(node);
    if (ts.isBinaryExpression(node)) this.nameFunction(node);
    const scope = scopeOf(node);
    if (scope) this.scopes.push(scope);
    ts.forEachChild(node, this.visit);
    if (scope) this.scopes.pop();
  };

  /** True for declarations whose names are the cell's own, not a block's or a function's. */
  private isBoxed(list: ts.VariableDeclarationList): boolean {
    const kind = listKind(list);
    if (kind === 'var') {
      const names = list.declarations.flatMap((d) => bindingNames(d.name));
      return names.every((id) => !this.isLocal(id.text));
    }
    return (
      kind !== 'using' && ts.isVariableStatement(list.parent) && list.parent.parent === this.file
    );
  }

  private isLocal(name: string): boolean {
    return this.scopes.some((scope) => scope.has(name));
  }

  /** `let a: T = 1, { b } = o` -> `;__$a.v = 1, ({ b: __$b.v } = o)`. */
  private variables(list: ts.VariableDeclarationList): void {
    const parent = list.parent;
    const inLoopHead = !ts.isVariableStatement(parent);
    const isIteration = ts.isForInStatement(parent) || ts.isForOfStatement(parent);
    const first = list.declarations[0];
    if (!first) return;
    const inList =
      !inLoopHead &&
      (ts.isBlock(parent.parent) ||
        ts.isSourceFile(parent.parent) ||
        ts.isCaseOrDefaultClause(parent.parent));
    this.text.update(list.getStart(), first.getStart(), inList ? ';' : '');
    for (const declaration of list.declarations) {
      this.bindingTarget(declaration.name);
      this.dropType(declaration);
      const initializer = declaration.initializer;
      if (isIteration) continue;
      if (initializer) {
        const pattern = !ts.isIdentifier(declaration.name);
        if (pattern) this.text.appendLeft(declaration.name.getStart(), '(');
        this.visit(initializer);
        if (pattern) this.text.appendLeft(initializer.getEnd(), ')');
        else this.wrapNamed(initializer, declaration.name.getText());
      } else {
        this.withoutInitializer(declaration, listKind(list) === 'var');
      }
    }
    // `(…)` before a line that begins with `{` would be read as parameters of a function.
    if (inList) this.text.appendLeft(list.getEnd(), ';');
  }

  private withoutInitializer(declaration: ts.VariableDeclaration, isVar: boolean): void {
    if (!isVar) this.text.appendLeft(declaration.getEnd(), ' = void 0');
  }

  /** A type annotation (or `!`) has no place in an assignment. */
  private dropType(declaration: ts.VariableDeclaration): void {
    const end = declaration.type?.getEnd() ?? declaration.exclamationToken?.getEnd();
    if (end !== undefined) this.text.remove(declaration.name.getEnd(), end);
  }

  private bindingTarget(name: ts.BindingName): void {
    if (ts.isIdentifier(name)) {
      return void this.text.update(name.getStart(), name.getEnd(), this.box(name.text));
    }
    for (const element of name.elements) {
      if (ts.isOmittedExpression(element)) continue;
      const isShorthand =
        ts.isObjectBindingPattern(name) &&
        !element.propertyName &&
        !element.dotDotDotToken &&
        ts.isIdentifier(element.name);
      if (element.propertyName && ts.isComputedPropertyName(element.propertyName)) {
        this.visit(element.propertyName.expression);
      }
      this.bindingTarget(element.name);
      if (isShorthand) {
        this.text.appendLeft(element.name.getStart(), `${element.name.getText()}: `);
      }
      if (element.initializer) {
        this.visit(element.initializer);
        if (ts.isIdentifier(element.name)) this.wrapNamed(element.initializer, element.name.text);
      }
    }
  }

  /** An anonymous function takes its variable's name: `({ f: () => 1 }).f`. */
  private wrapNamed(value: ts.Expression, name: string): void {
    if (!isAnonymousFunction(value)) return;
    const key = JSON.stringify(name);
    this.text.appendLeft(value.getStart(), `({ [${key}]: `);
    this.text.appendLeft(value.getEnd(), ` })[${key}]`);
  }

  private nameFunction(node: ts.BinaryExpression): void {
    const isAssignment = node.operatorToken.kind === ts.SyntaxKind.EqualsToken;
    if (!isAssignment || !ts.isIdentifier(node.left) || !this.isRewritten(node.left.text)) return;
    this.wrapNamed(node.right, node.left.text);
  }

  private metaProperty(node: ts.MetaProperty): void {
    if (node.keywordToken === ts.SyntaxKind.ImportKeyword) this.replace(node, '__$meta');
  }

  private shorthand(node: ts.ShorthandPropertyAssignment): void {
    const name = node.name.text;
    if (this.isRewritten(name)) {
      this.text.update(node.name.getStart(), node.name.getEnd(), `${name}: ${this.box(name)}`);
    }
    if (node.objectAssignmentInitializer) this.visit(node.objectAssignmentInitializer);
  }

  private identifier(node: ts.Identifier): void {
    const name = node.text;
    if (!isReference(node) || !this.isRewritten(name)) return;
    const unresolved = !this.declares.has(name) && !this.options.known(name);
    if (unresolved && ts.isTypeOfExpression(node.parent)) return;
    const box = this.box(name);
    const called = isCallee(node);
    this.text.update(node.getStart(), node.getEnd(), called ? `(0, ${box})` : box);
    if (called && startsStatement(node) && !this.isResult(node)) {
      this.text.appendLeft(node.getStart(), ';');
    }
  }

  private isResult(node: ts.Node): boolean {
    const last = this.file.statements.at(-1);
    return (
      last !== undefined && ts.isExpressionStatement(last) && last.getStart() === node.getStart()
    );
  }

  /** True for names that live in a box: the cell's own, earlier cells', and unknown ones. */
  private isRewritten(name: string): boolean {
    if (this.isLocal(name) || name === 'undefined' || name === 'arguments') return false;
    const kind = this.declares.get(name);
    if (kind === 'using' || kind === 'ambient') return false;
    if (kind !== undefined && kind !== 'type') return true;
    return this.options.known(name) || !this.options.isGlobal(name);
  }
}
