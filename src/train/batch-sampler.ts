// Which rows a step takes: epoch after epoch, each in an order of its own that its seed gives, so that a run
// that is resumed goes on with the rows that it would have had.
import { RandomState } from '../tensor/random.ts';
import type { ResolvedArguments } from './training-arguments.ts';

/** Rows by number: a list, a Dataset, or rows on disk. */
export interface Rows<Row> {
  readonly length: number;
  at(index: number): Row | undefined;
}

/** Rows in the batches of a run. */
export class BatchSampler<Row> {
  private readonly rows: Rows<Row>;
  private readonly args: ResolvedArguments;
  /** The epoch that was asked for last, and its rows by number. */
  private known: { epoch: number; order: number[] } | undefined;

  constructor(rows: Rows<Row>, args: ResolvedArguments) {
    this.rows = rows;
    this.args = args;
  }

  /** Optimizer steps of an epoch, the last with fewer rows. */
  get stepsPerEpoch(): number {
    const { perDeviceTrainBatchSize: batch, gradientAccumulationSteps: micro } = this.args;
    return Math.ceil(Math.ceil(this.rows.length / batch) / micro);
  }

  /** The micro-batches of step `step`, counted from 0. */
  microBatches(step: number): Row[][] {
    const { perDeviceTrainBatchSize: size, gradientAccumulationSteps: micro } = this.args;
    const from = (step % this.stepsPerEpoch) * size * micro;
    const order = this.order(Math.floor(step / this.stepsPerEpoch)).slice(
      from,
      from + size * micro,
    );
    const rows = order.map((i) => this.rows.at(i)!);
    const starts = Array.from({ length: Math.ceil(rows.length / size) }, (_, i) => i * size);
    return starts.map((start) => rows.slice(start, start + size));
  }

  /** Numbers of rows in the order of an epoch. */
  private order(epoch: number): number[] {
    if (this.known?.epoch === epoch) return this.known.order;
    const { seed, trainSamplingStrategy } = this.args;
    const numbers = Array.from({ length: this.rows.length }, (_, i) => i);
    const isSequential = trainSamplingStrategy === 'sequential';
    const order = isSequential ? numbers : new RandomState(seed + epoch).permutation(numbers);
    this.known = { epoch, order };
    return order;
  }
}
