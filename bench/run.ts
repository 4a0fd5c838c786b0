// `npm run bench -- NAME [--json FILE]`: runs bench/NAME.ts.
import { existsSync, readdirSync } from 'node:fs';

const [name = '', ...args] = process.argv.slice(2);
const script = new URL(`./${name}.ts`, import.meta.url);
const names = readdirSync(new URL('.', import.meta.url))
  .filter((file) => /^[a-z-]+\.ts$/.test(file) && !['run.ts', 'report.ts'].includes(file))
  .map((file) => file.replace('.ts', ''));

if (!names.includes(name) || !existsSync(script)) {
  console.error(`There is no bench '${name}'; have ${names.join(', ')}`);
  process.exit(2);
}
process.argv.splice(2, process.argv.length, ...args);
await import(script.href);
