// In the place of Ajv, for JupyterLab's settings: checks JSON against a schema by reading the schema, where
// Ajv makes a function of it by `new Function`, which a strict content security policy forbids.
import { type OutputUnit, type Schema, Validator } from '@cfworker/json-schema';

/** An error, with Ajv's names. */
interface SchemaError {
  instancePath: string;
  keyword: string;
  schemaPath: string;
  message: string;
  params: object;
}

/** Tells whether `data` fits; `errors` says why the last one did not. */
interface Validate {
  (data: unknown): boolean;
  errors: SchemaError[] | null;
  schema: Schema;
}

type Tree = Record<string, unknown>;

/** What is used of Ajv's class. */
export class SchemaValidator {
  errors: SchemaError[] | null = null;
  private readonly fillsDefaults: boolean;
  private readonly added = new Map<string, Validate>();

  constructor({ useDefaults = false }: { useDefaults?: boolean } = {}) {
    this.fillsDefaults = useDefaults;
  }

  /** The function that checks against `schema`. */
  compile(schema: Schema): Validate {
    const validator = new Validator(schema, '7', false);
    const validate = ((data: unknown) => {
      if (this.fillsDefaults) fillDefaults(data, schema, schema);
      const { valid, errors } = validator.validate(data);
      validate.errors = valid ? null : errors.map(describeError);
      return valid;
    }) as Validate;
    return Object.assign(validate, { errors: null, schema });
  }

  addSchema(schema: Schema, key: string): this {
    this.added.set(key, this.compile(schema));
    return this;
  }

  getSchema(key: string): Validate | undefined {
    return this.added.get(key);
  }

  removeSchema(key: string): this {
    this.added.delete(key);
    return this;
  }

  /** Schemas come from packages of fixed versions: they are taken as they are. */
  validateSchema(): boolean {
    return true;
  }

  validate(schema: Schema, data: unknown): boolean {
    const validate = this.compile(schema);
    const isValid = validate(data);
    this.errors = validate.errors;
    return isValid;
  }

  addFormat(): this {
    return this;
  }

  addKeyword(): this {
    return this;
  }

  addMetaSchema(): this {
    return this;
  }
}

function describeError({ instanceLocation, keyword, keywordLocation, error }: OutputUnit) {
  const instancePath = instanceLocation.replace(/^#/, '');
  return { instancePath, keyword, schemaPath: keywordLocation, message: error, params: {} };
}

/** Puts the `default` of each absent property into `data`, as Ajv's `useDefaults` does. */
function fillDefaults(data: unknown, schema: unknown, root: Schema): void {
  if (!isTree(schema)) return;
  if (typeof schema.$ref === 'string') return fillDefaults(data, follow(schema.$ref, root), root);
  for (const part of (schema.allOf as unknown[] | undefined) ?? []) fillDefaults(data, part, root);
  if (Array.isArray(data)) {
    for (const item of data) fillDefaults(item, schema.items, root);
    return;
  }
  if (!isTree(data) || !isTree(schema.properties)) return;
  for (const [key, property] of Object.entries(schema.properties)) {
    if (isTree(property) && data[key] === undefined && 'default' in property) {
      data[key] = structuredClone(property.default);
    }
    if (data[key] !== undefined) fillDefaults(data[key], property, root);
  }
}

function follow(ref: string, root: Schema): unknown {
  if (!ref.startsWith('#')) return undefined;
  const keys = ref.slice(1).split('/').filter(Boolean);
  return keys.reduce<unknown>((at, key) => (isTree(at) ? at[key] : undefined), root);
}

function isTree(value: unknown): value is Tree {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

// biome-ignore lint/style/noDefaultExport: packages import it by default
export default SchemaValidator;
