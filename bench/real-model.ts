// Fine-tuning SmolLM2-135M on coding rows: what it learns, what it forgets ("capital of X"), what keeps
// it, and how fast beside PEFT + TRL from the same weights and rows. `--only learn` or `--only speed`,
// `--kind lora` or `--kind full`.
import { mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import {
  AutoModelForCausalLM,
  AutoTokenizer,
  obtainSmollm2,
  savePretrained,
  setBackend,
} from 'peftlab';
import { peersPython } from '../test/peers-live/python.ts';
import { learn } from './real-model-learning.ts';
import { ours, theirs } from './real-model-speed.ts';
import { median, type Row, report, row } from './report.ts';

const { values } = parseArgs({
  options: { only: { type: 'string' }, kind: { type: 'string', default: '' } },
  strict: false,
});
const kind = String(values.kind);
const wants = (name: string) => values.only === undefined || values.only === name;
await setBackend('auto');
const path = await obtainSmollm2({ onMessage: console.log });
const tokenizer = await AutoTokenizer.fromPretrained(path);
const load = () => AutoModelForCausalLM.fromPretrained(path);
const found: Row[] = [];

if (wants('learn')) console.table(await learn(load, tokenizer, kind));

if (wants('speed')) {
  const python = peersPython();
  if (!python) console.log('PEFT + TRL is left out: no python3');
  const threads = availableParallelism();
  const folder = mkdtempSync(join(tmpdir(), 'bench-real-model-'));
  const base = await load();
  savePretrained(base, folder);
  tokenizer.savePretrained(folder);
  base.dispose();
  for (const method of ['lora', 'full'] as const) {
    if (!method.startsWith(kind)) continue;
    const own = await ours(await load(), tokenizer, method);
    const peer = python ? theirs(python, folder, method, threads) : undefined;
    const time = (times: number[]) => median(times.slice(2));
    const figures = peer ? { theirs: time(peer.times), peer: 'PEFT + TRL', target: 0.5 } : {};
    found.push(row(`${method}: step`, 'ms', time(own.times), figures));
    const used = peer ? { theirs: time(peer.cpu), peer: 'PEFT + TRL' } : {};
    found.push(row(`${method}: step, time of processors`, 'ms', time(own.cpu), used));
    const speed = { ...(peer && { theirs: peer.tokens / peer.seconds, peer: 'PEFT + TRL' }) };
    found.push(row(`${method}: rate`, 'tokens/s', own.tokens / own.seconds, speed));
    if (!peer) continue;
    const gaps = own.losses.map((loss, i) => Math.abs(loss - peer.losses[i]!));
    // An adapter's first values are random; with full fine-tuning both do the same.
    const target = method === 'full' ? { target: 1e-3 } : {};
    found.push(row(`${method}: largest difference of losses`, '', Math.max(...gaps), target));
  }
  rmSync(folder, { recursive: true });
  report(found);
}
