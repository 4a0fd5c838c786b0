// Does it fit: GPUs and their memory, the largest batch that fits one, and the cheapest that takes a run.
// Prices are typical on-demand prices of 2025 in US dollars an hour, for an order of magnitude only.
import { estimateMemory, type MemoryOptions } from './memory.ts';

/** A device; `memory` in bytes (a vendor's GB is 2^30 bytes here). */
export interface Gpu {
  name: string;
  memory: number;
  /** US dollars an hour. */
  price: number;
}

const gib = (count: number) => count * 2 ** 30;

/** Devices that people train on, by memory. */
export const GPUS: readonly Gpu[] = [
  { name: 'RTX 3080', memory: gib(10), price: 0.17 },
  { name: 'T4', memory: gib(16), price: 0.35 },
  { name: 'RTX 4080', memory: gib(16), price: 0.3 },
  { name: 'RTX 3090', memory: gib(24), price: 0.22 },
  { name: 'RTX 4090', memory: gib(24), price: 0.4 },
  { name: 'L4', memory: gib(24), price: 0.7 },
  { name: 'A100 40GB', memory: gib(40), price: 1.3 },
  { name: 'L40S', memory: gib(48), price: 1.1 },
  { name: 'A100 80GB', memory: gib(80), price: 1.7 },
  { name: 'H100 80GB', memory: gib(80), price: 2.6 },
  { name: 'H200', memory: gib(141), price: 3.6 },
];

/** One device's answer. */
export interface Fit {
  gpu: Gpu;
  fits: boolean;
  /** The largest batch that fits, 0 for none. */
  batch: number;
  /** Bytes that are left at the asked batch; negative ones are missing. */
  left: number;
}

/** For each GPU whether the run fits; paged optimizer state counts as moved away where it must. */
export function fitGpus(options: MemoryOptions, gpus: readonly Gpu[] = GPUS): Fit[] {
  const { total, paged } = estimateMemory(options);
  return gpus.map((gpu) => ({
    gpu,
    fits: total - paged <= gpu.memory,
    batch: largestBatch(options, gpu),
    left: gpu.memory - total,
  }));
}

/** The largest batch of which the run fits into `gpu`; 0 if not even one row does. */
export function largestBatch(options: MemoryOptions, gpu: Gpu): number {
  const needed = (batch: number) => {
    const { total, paged } = estimateMemory({ ...options, batch });
    return total - paged;
  };
  // Bytes are a + b * batch.
  const each = needed(2) - needed(1);
  const fixed = needed(1) - each;
  return Math.max(0, Math.floor((gpu.memory - fixed) / each));
}

/** The GPU with the lowest price that the run fits, or undefined. */
export function cheapestGpu(options: MemoryOptions, gpus: readonly Gpu[] = GPUS): Gpu | undefined {
  const fitting = fitGpus(options, gpus).filter(({ fits }) => fits);
  return fitting.sort((a, b) => a.gpu.price - b.gpu.price)[0]?.gpu;
}
