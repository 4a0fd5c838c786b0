// What a router did: how the rows that it saw are shared among the experts, how sure it was, and which
// expert serves which task. Entropy is in nats: 0 when sure, ln E when it knows nothing.
import type * as tf from '@tensorflow/tfjs';
import type { Routing } from './router.ts';

/** Statistics over all rows that were added. */
export interface RoutingReport {
  /** Rows (tokens, or sequences) that were counted. */
  rows: number;
  /** Of each expert the share of choices; they add up to 1. */
  share: number[];
  /** Of each expert the mean probability. */
  probability: number[];
  /** Mean entropy of the probabilities of a row. */
  entropy: number;
  /** Entropy of `share`, as the number of experts in even use that would have it. */
  effectiveExperts: number;
  /** E sum_e f_e P_e with f_e = share: 1 when even. */
  balance: number;
  /** The share of each expert by task, where tasks were told. */
  byTask: Map<string, number[]>;
  /** Share of rows whose likeliest expert has the name of their task; undefined without tasks. */
  accuracy: number | undefined;
}

/** Collects routings. */
export class RoutingStatistics {
  private readonly experts: readonly string[];
  private readonly chosen: number[];
  private readonly probabilities: number[];
  private readonly tasks = new Map<string, number[]>();
  private rows = 0;
  private entropies = 0;
  private right = 0;
  private judged = 0;

  constructor(experts: readonly string[]) {
    this.experts = experts;
    this.chosen = experts.map(() => 0);
    this.probabilities = experts.map(() => 0);
  }

  /** Adds a batch: `tasks` names each sequence's task, `mask` [B, S] has 0 on padding. */
  add(routing: Routing, { tasks, mask }: { tasks?: readonly string[]; mask?: tf.Tensor2D } = {}) {
    const [batch, steps, size] = routing.probabilities.shape;
    if (size !== this.experts.length || (tasks && tasks.length !== batch)) {
      throw new RangeError(
        `Statistics of ${this.experts.length} experts got ${size} experts and ` +
          `${tasks?.length ?? 'no'} tasks for ${batch} rows`,
      );
    }
    const probabilities = routing.probabilities.dataSync();
    const selected = routing.selected.dataSync();
    const counted = mask?.dataSync();
    for (let row = 0; row < batch * steps; row++) {
      if (counted && counted[row] === 0) continue;
      const at = (values: ArrayLike<number>) =>
        Array.from({ length: size }, (_, e) => values[row * size + e]!);
      this.addRow(at(probabilities), at(selected), tasks?.[Math.floor(row / steps)]);
    }
  }

  /** The statistics so far. */
  report(): RoutingReport {
    const { rows, chosen, tasks, judged } = this;
    const normalized = (counts: number[]) => {
      const total = counts.reduce((sum, count) => sum + count, 0) || 1;
      return counts.map((count) => count / total);
    };
    const share = normalized(chosen);
    const probability = this.probabilities.map((sum) => sum / (rows || 1));
    return {
      rows,
      share,
      probability,
      entropy: this.entropies / (rows || 1),
      effectiveExperts: Math.exp(entropyOf(share)),
      balance: share.length * share.reduce((sum, f, e) => sum + f * probability[e]!, 0),
      byTask: new Map([...tasks].map(([task, counts]) => [task, normalized(counts)])),
      accuracy: judged > 0 ? this.right / judged : undefined,
    };
  }

  private addRow(probabilities: number[], selected: number[], task: string | undefined): void {
    const working = selected.reduce((sum, one) => sum + one, 0);
    // Soft routing selects all; its choice is its probabilities.
    const isSoft = working === selected.length;
    const parts = isSoft ? probabilities : selected.map((one) => one / working);
    this.rows++;
    this.entropies += entropyOf(probabilities);
    const counts = task === undefined ? undefined : (this.tasks.get(task) ?? parts.map(() => 0));
    for (const [e, part] of parts.entries()) {
      this.chosen[e]! += part;
      this.probabilities[e]! += probabilities[e]!;
      if (counts) counts[e]! += part;
    }
    if (task === undefined || !counts) return;
    this.tasks.set(task, counts);
    this.judged++;
    const best = probabilities.indexOf(Math.max(...probabilities));
    if (this.experts[best] === task) this.right++;
  }
}

const entropyOf = (shares: readonly number[]) =>
  shares.reduce((sum, p) => sum - (p > 0 ? p * Math.log(p) : 0), 0);
