import { expect } from 'chai';
import { KNOWN_MODELS } from '../../src/peft/known-models.ts';
import { LoraConfig } from '../../src/peft/lora-config.ts';
import { cheapestGpu, fitGpus, GPUS, largestBatch } from '../../src/train/gpu-fit.ts';
import { estimateMemory, formatBytes, type MemoryOptions } from '../../src/train/memory.ts';

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
});
