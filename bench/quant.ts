// Quantization beside its peers: `npm run bench -- quant`. `--only qlora` or `--only formats` runs a part.
import { parseArgs } from 'node:util';
import { ggufRows } from './quant-gguf.ts';
import { qloraRows } from './quant-qlora.ts';
import { report } from './report.ts';

const { values } = parseArgs({ options: { only: { type: 'string' } }, strict: false });
const formats = values.only === 'qlora' ? [] : await ggufRows();
const steps = values.only === 'formats' ? [] : await qloraRows();
report([...formats, ...steps]);
process.exit(0);
