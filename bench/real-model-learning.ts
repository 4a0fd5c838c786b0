// What SmolLM2 learns of coding and forgets of capitals: by LoRA and by full fine-tuning, plain and with
// a fifth of its own earlier answers among the rows.
import {
  type CausalLM,
  chatAnswers,
  exactMatch,
  LoraConfig,
  type SFTConfig,
  SFTTrainer,
  type Tokenizer,
  withReplay,
} from 'peftlab';
import {
  capitals,
  codingRows,
  codingTests,
  fenced,
  isRight,
  ownAnswers,
} from './real-model-rows.ts';

const TARGETS = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'];

interface Setting {
  name: string;
  learningRate: number;
  isLora: boolean;
  /** Share of general rows. */
  share: number;
}

const SETTINGS: Setting[] = [
  { name: 'lora', isLora: true, learningRate: 3e-4, share: 0 },
  { name: 'lora, 20 % of its own answers', isLora: true, learningRate: 3e-4, share: 0.2 },
  { name: 'full', isLora: false, learningRate: 5e-5, share: 0 },
  { name: 'full, 20 % of its own answers', isLora: false, learningRate: 5e-5, share: 0.2 },
];

/** What the model can do, as shares, and what a run cost. */
export interface Result {
  setting: string;
  /** New tasks whose code gives the right result. */
  code: number;
  /** Those of them whose answer is that code and nothing else. */
  bare: number;
  /** Capitals in the answer to a question. */
  named: number;
  /** Capitals that are the likeliest word where the answer is begun. */
  known: number;
  steps: number;
  seconds: number;
  tokensPerSecond: number;
}

type Scores = Pick<Result, 'code' | 'bare' | 'named' | 'known'>;

async function measure(model: CausalLM, tokenizer: Tokenizer): Promise<Scores> {
  const asks = codingTests.map(({ instruction }) => instruction);
  const code = await chatAnswers(model, tokenizer, asks, { maxNewTokens: 64 });
  const questions = capitals.map(({ question }) => question);
  const names = await chatAnswers(model, tokenizer, questions, { maxNewTokens: 12 });
  const begun = capitals.map(({ question, subject, answer }) => {
    const chat = [{ role: 'user', content: question }];
    const prompt = tokenizer.applyChatTemplate(chat, { addGenerationPrompt: true });
    return { prompt: `${prompt}The capital of ${subject} is`, completion: ` ${answer}` };
  });
  const share = (holds: boolean[]) => holds.filter(Boolean).length / holds.length;
  return {
    code: share(code.map((answer, i) => isRight(fenced(answer), codingTests[i]!))),
    bare: share(code.map((answer, i) => isRight(answer, codingTests[i]!))),
    named: share(names.map((text, i) => text.includes(capitals[i]!.answer))),
    known: await exactMatch(model, tokenizer, begun, { batchSize: 12 }),
  };
}

/** The model as it is and after each setting whose name begins with `kind`. */
export async function learn(
  load: () => Promise<CausalLM>,
  tokenizer: Tokenizer,
  kind: string,
): Promise<Result[]> {
  const base = await load();
  const general = await ownAnswers(base, tokenizer);
  const nothing = { steps: 0, seconds: 0, tokensPerSecond: 0 };
  const results = [{ setting: 'as it came', ...(await measure(base, tokenizer)), ...nothing }];
  console.log(results[0]);
  base.dispose();
  for (const { name, isLora, learningRate, share } of SETTINGS) {
    if (!name.startsWith(kind)) continue;
    const args: SFTConfig = {
      learningRate,
      numTrainEpochs: 1,
      perDeviceTrainBatchSize: 8,
      lrSchedulerType: 'cosine',
      warmupSteps: 0.1,
      padToMultipleOf: 32,
    };
    const config = new LoraConfig({ r: 16, loraAlpha: 32, targetModules: TARGETS });
    const trainer = new SFTTrainer({
      model: await load(),
      processingClass: tokenizer,
      trainDataset: share ? withReplay(codingRows, general, { share }) : codingRows,
      args,
      ...(isLora && { peftConfig: config }),
    });
    const start = performance.now();
    const { numTokens, globalStep: steps } = await trainer.train();
    const seconds = (performance.now() - start) / 1000;
    const cost = { steps, seconds, tokensPerSecond: numTokens / seconds };
    results.push({ setting: name, ...(await measure(trainer.model, tokenizer)), ...cost });
    console.log(results.at(-1));
    trainer.dispose();
    trainer.model.dispose();
  }
  return results;
}
