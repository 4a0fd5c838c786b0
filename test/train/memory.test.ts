import { expect } from 'chai';
import { setBackend } from '../../src/jit/backend.ts';
import type { CausalLM } from '../../src/models/causal-lm.ts';
import { llamaConfig } from '../../src/models/config.ts';
import { fromConfig } from '../../src/models/pretrained.ts';
import { KNOWN_MODELS } from '../../src/peft/known-models.ts';
import { LoraConfig } from '../../src/peft/lora-config.ts';
import { getPeftModel } from '../../src/peft/peft-model.ts';
import { VeraConfig } from '../../src/peft/vera.ts';
import { cheapestGpu, fitGpus, GPUS, largestBatch } from '../../src/train/gpu-fit.ts';
import { estimateMemory, formatBytes, type MemoryOptions } from '../../src/train/memory.ts';
import { Trainer } from '../../src/train/trainer.ts';

const model = KNOWN_MODELS['Llama-3-8B'];
const PARAMETERS = 8_030_261_248;
const bytesOf = (options: MemoryOptions, name: string) =>
  estimateMemory(options).parts.find((part) => part.name === name)?.bytes ?? 0;

describe('estimateMemory', () => {
  it('gives 16, 16 and 32 GB of weights, gradients and AdamW for 8B in bfloat16', () => {
    expect(bytesOf({ model }, 'weights')).to.equal(2 * PARAMETERS);
    expect(bytesOf({ model }, 'gradients')).to.equal(2 * PARAMETERS);
    expect(bytesOf({ model }, 'optimizer')).to.equal(4 * PARAMETERS);
  });

  it('gives 16 bytes a parameter for mixed precision, 12 of them with the optimizer', () => {
    const mixed: MemoryOptions = { model, trainedDtype: 'float32' };
    expect(bytesOf(mixed, 'weights')).to.equal(2 * PARAMETERS);
    expect(bytesOf(mixed, 'gradients')).to.equal(2 * PARAMETERS);
    expect(bytesOf(mixed, 'optimizer')).to.equal(12 * PARAMETERS);
    expect(bytesOf(mixed, 'adapter')).to.equal(0);
  });

  it('divides by ZeRO stages what each of them shards', () => {
    const on = (zeroStage: 0 | 1 | 2 | 3, name: string) =>
      bytesOf({ model }, name) / bytesOf({ model, devices: 4, zeroStage }, name);
    expect([0, 1, 2, 3].map((stage) => on(stage as 0, 'optimizer'))).to.deep.equal([1, 4, 4, 4]);
    expect([0, 1, 2, 3].map((stage) => on(stage as 0, 'gradients'))).to.deep.equal([1, 1, 4, 4]);
    expect([0, 1, 2, 3].map((stage) => on(stage as 0, 'weights'))).to.deep.equal([1, 1, 1, 4]);
  });

  it('counts 4.127 bits for quantized numbers, and 4.5 without double quantization', () => {
    const linear = 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336);
    const bits = (doubleQuantization: boolean) => {
      const bytes = bytesOf({ model, quantized: 4, doubleQuantization }, 'weights');
      return ((bytes - 2 * (PARAMETERS - linear)) * 8) / linear;
    };
    expect(bits(true)).to.be.closeTo(4 + 8 / 64 + 32 / (64 * 256), 1e-9);
    expect(bits(false)).to.be.closeTo(4.5, 1e-9);
  });

  it('estimates a cache of keys and values by its closed formula', () => {
    const cache = bytesOf({ model, train: false, batch: 2, sequence: 100 }, 'kvCache');
    expect(cache).to.equal(2 * 100 * 2 * 32 * 8 * 128 * 2);
  });

  it('finds what fits, with the largest batch and the cheapest device', () => {
    const options: MemoryOptions = {
      model,
      method: new LoraConfig({ r: 16 }),
      quantized: 4,
      checkpointing: true,
      optimizer: 'paged_adamw_8bit',
    };
    const card = GPUS.find(({ name }) => name === 'RTX 4090')!;
    const batch = largestBatch(options, card);
    const needed = (rows: number) => {
      const { total, paged } = estimateMemory({ ...options, batch: rows });
      return total - paged;
    };
    expect(needed(batch)).to.be.at.most(card.memory);
    expect(needed(batch + 1)).to.be.above(card.memory);
    expect(fitGpus({ model }).every(({ fits }, i) => fits === GPUS[i]!.memory >= 66e9)).to.equal(
      true,
    );
    const cheapest = cheapestGpu(options)!;
    for (const { gpu, fits } of fitGpus(options)) {
      if (fits) expect(gpu.price).to.be.at.least(cheapest.price);
    }
  });

  it('shows each part with its formula, and refuses counts that are not positive', () => {
    const shown = estimateMemory({ model })[Symbol.for('Jupyter.display') as never] as unknown;
    expect((shown as () => Record<string, string>)()['text/plain']).to.match(
      /^weights +16\.1 GB {2}8,030,261,248 x 2 B$/m,
    );
    expect(formatBytes(1234)).to.equal('1.23 kB');
    expect(() => estimateMemory({ model, batch: 0 })).to.throw(
      'MemoryOptions.batch must be a positive integer, got 0',
    );
  });

  it("comes within 10 % of the peaks that PEFT's benchmark measured on Llama-3.2-3B", () => {
    // method_comparison/MetaMathQA: bfloat16, batches of 4 rows of at most 768 tokens; GiB.
    const qv = ['q_proj', 'v_proj'];
    const mlp = ['gate_proj', 'up_proj', 'down_proj'];
    const published: [MemoryOptions['method'], number][] = [
      ['full', 36.2],
      [new LoraConfig({ r: 32, targetModules: qv }), 20.8],
      [new LoraConfig({ r: 64, targetModules: qv }), 21.0],
      [new LoraConfig({ r: 32, targetModules: qv, useDora: true }), 22.8],
      [new LoraConfig({ r: 10, targetModules: mlp }), 23.0],
      [new VeraConfig({ r: 256, targetModules: qv }), 20.1],
    ];
    for (const [method, peak] of published) {
      const model = KNOWN_MODELS['Llama-3.2-3B'];
      const own = estimateMemory({ model, method: method!, batch: 4, sequence: 768 }).peak;
      expect(own / 2 ** 30, String(peak)).to.be.closeTo(peak, 0.1 * peak);
    }
  });

  for (const checkpointing of [false, true]) {
    const tolerance = checkpointing ? 0.15 : 0.05;
    const what = `${100 * tolerance} % of what real steps hold${checkpointing ? ' with gradient checkpointing' : ''}`;
    it(`comes within ${what}`, async function () {
      // Sizes of the benchmark's model A.
      const sizes = { vocabSize: 1024, hiddenSize: 128, intermediateSize: 344 };
      const config = llamaConfig({ ...sizes, numHiddenLayers: 4, numAttentionHeads: 4 });
      if ((await setBackend('auto')) !== 'native') this.skip();
      const lora = new LoraConfig({ r: 8, targetModules: 'all-linear' });
      for (const method of ['full', lora] as const) {
        const base = fromConfig(config);
        const model = (method === 'full' ? base : getPeftModel(base, method)) as CausalLM;
        const held = await measureStep(model, checkpointing);
        const run = { model: config, method, batch: 16, sequence: 64, checkpointing };
        const own = estimateMemory({ ...run, dtype: 'float32', flashAttention: false });
        expect(own.peak).to.be.closeTo(held, tolerance * held);
        model.dispose();
      }
    });
  }
});

/** Bytes that one step on 16 rows of 64 tokens reads, and holds in between. */
async function measureStep(model: CausalLM, gradientCheckpointing: boolean): Promise<number> {
  const rows = Array.from({ length: 16 }, (_, row) => {
    const inputIds = Array.from({ length: 64 }, (_, i) => (row * 31 + i * 17) % 1024);
    return { inputIds, labels: inputIds };
  });
  const args = { maxSteps: 1, perDeviceTrainBatchSize: 16, gradientCheckpointing };
  const trainer = new Trainer({ model, trainDataset: rows, args });
  await trainer.train();
  trainer.dispose();
  const { arguments: read, temporaries } = trainer.stepMemory!;
  return read + temporaries;
}
