// The public library, one line per file, in the order of the course.

export { Dataset, loadDataset } from './data/dataset.ts';
export {
  type BarSeries,
  barChart,
  type Chart,
  type ChartOptions,
  type LineSeries,
  lineChart,
} from './eval/chart.ts';
export { type BackendName, setBackend } from './tensor/backend.ts';
export { RandomState, randomNormal, randomUniform } from './tensor/random.ts';
export { type Svd, singularValues, svd } from './tensor/svd.ts';
