// node --import tsx test/parity.ts DIR: compares the library with every golden case below DIR.
// A case is a folder with a manifest.json, whose `case` names the kind of check; one row a case,
// then 'N passed, M failed'. A kind that nobody knows has failed.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { setBackend } from '../src/jit/backend.ts';
import { checkAwq } from './parity/awq.ts';
import { checkBnb } from './parity/bnb.ts';
import { checkDpoLoss, checkDpoRun } from './parity/dpo.ts';
import { checkFormats } from './parity/formats.ts';
import { checkGguf } from './parity/gguf.ts';
import { checkGptq } from './parity/gptq.ts';
import { type Check, type Manifest, type Measure, passes, worstOf } from './parity/measure.ts';
import { checkMergekit, checkPeftMerge } from './parity/merging.ts';
import { checkModel } from './parity/models.ts';
import { checkBottleneck, checkPeft } from './parity/peft.ts';
import { checkQlora } from './parity/qlora.ts';
import { checkSchedules } from './parity/schedules.ts';
import { checkPacking, checkSftLabels, checkSftRun } from './parity/sft.ts';
import { checkTokenizer } from './parity/tokenizers.ts';
import { checkTraining } from './parity/training.ts';

const CHECKS: Record<string, Check> = {
  '01_models': checkModel,
  '02_adapters': checkBottleneck,
  '02_peft': checkPeft,
  '02_train': checkTraining,
  '03_bnb': checkBnb,
  '03_qlora_model': checkQlora,
  '04_gguf': checkGguf,
  '05_awq': checkAwq,
  '05_gptq': checkGptq,
  '06_dpo_loss': checkDpoLoss,
  '06_dpo_run': checkDpoRun,
  '06_packing': checkPacking,
  '06_sft_labels': checkSftLabels,
  '06_sft_run': checkSftRun,
  '07_mergekit': checkMergekit,
  '07_peft_merge': checkPeftMerge,
  '08_schedules': checkSchedules,
  '08_tokenizer': checkTokenizer,
  '09_formats': checkFormats,
};

/** Folders at or below `folder` that hold a case, in the order of their paths. */
export function findCases(folder: string): string[] {
  const here = existsSync(join(folder, 'manifest.json')) ? [folder] : [];
  const inner = readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => join(folder, name));
  return [...here, ...inner.sort().flatMap(findCases)];
}

/** All comparisons of one case; throws if its kind is unknown. */
export async function runCase(folder: string): Promise<Measure[]> {
  const manifest = JSON.parse(readFileSync(join(folder, 'manifest.json'), 'utf8')) as Manifest;
  const check = Object.hasOwn(CHECKS, manifest.case) ? CHECKS[manifest.case] : undefined;
  if (!check) throw new Error(`Unknown kind of case '${manifest.case}'`);
  const measures = await check(folder, manifest);
  if (measures.length === 0) throw new Error('The case compares nothing');
  return measures;
}

async function main(folder: string | undefined): Promise<void> {
  if (!folder) throw new Error('Name a folder of cases: npm run parity -- DIR');
  await setBackend('auto');
  const cases = findCases(resolve(folder));
  let failed = 0;
  for (const path of cases) {
    const name = relative(resolve(folder), path) || path;
    const { row, ok } = await report(path);
    console.log(`${name.padEnd(40)} ${row}`);
    if (!ok) failed++;
  }
  console.log(`${cases.length - failed} passed, ${failed} failed`);
  process.exitCode = failed > 0 || cases.length === 0 ? 1 : 0;
}

async function report(path: string): Promise<{ row: string; ok: boolean }> {
  try {
    const measures = await runCase(path);
    const worst = worstOf(measures);
    const ok = measures.every(passes);
    const row = `${number(worst.error)} ${number(worst.tolerance)} ${ok ? 'pass' : 'fail'}`;
    const bad = measures.filter((measure) => !passes(measure));
    const more = bad
      .slice(0, 5)
      .map(({ what, error }) => `\n    ${what} (${number(error).trim()})`);
    return { row: row + more.join(''), ok };
  } catch (error) {
    return {
      row: `${'-'.padStart(10)} ${'-'.padStart(10)} fail\n    ${(error as Error).message}`,
      ok: false,
    };
  }
}

const number = (x: number) => (x === 0 ? '0' : x.toExponential(2)).padStart(10);

if (process.argv[1] === import.meta.filename) await main(process.argv[2]);
