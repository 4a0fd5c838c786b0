// Quantization beside its peers: `npm run bench -- quant`.
import { ggufRows } from './quant-gguf.ts';
import { report } from './report.ts';

report(await ggufRows());
process.exit(0);
