// TensorFlow.js kernels that work on one element after another, as ONNX operators.
import type { ElementType, Graph, Value } from './graph.ts';
import { binary, cast, multiply, power, scalar, unary, where } from './operators.ts';

/** Inputs of a kernel by their TensorFlow.js names. */
export type Inputs = Record<string, Value>;

/** Attributes of a kernel by their TensorFlow.js names. */
// biome-ignore lint/suspicious/noExplicitAny: TensorFlow.js types attributes by kernel, loosely.
export type Attributes = Record<string, any>;

/** Writes one TensorFlow.js kernel into the graph. */
export type Lowering = (g: Graph, inputs: Inputs, attributes: Attributes) => Value | Value[];

const two =
  (op: string, dtype?: ElementType): Lowering =>
  (g, { a, b }) =>
    binary(g, op, a!, b!, dtype ?? a!.dtype);

const one =
  (op: string, dtype?: ElementType): Lowering =>
  (g, { x }) =>
    unary(g, op, x!, dtype ?? x!.dtype);

const comparison =
  (op: string): Lowering =>
  (g, { a, b }) => {
    const isBool = a!.dtype === 'bool' && op !== 'Equal';
    return isBool
      ? binary(g, op, cast(g, a!, 'int32'), cast(g, b!, 'int32'), 'bool')
      : binary(g, op, a!, b!, 'bool');
  };

const not = (g: Graph, x: Value) => unary(g, 'Not', x);

/** As TensorFlow.js' floor: a floored quotient for int32, which ONNX cuts towards zero. */
const floorDiv: Lowering = (g, { a, b }) => {
  if (a!.dtype !== 'int32') return unary(g, 'Floor', binary(g, 'Div', a!, b!));
  const remainder = binary(g, 'Mod', a!, b!);
  return binary(g, 'Div', binary(g, 'Sub', a!, remainder), b!);
};

/** The remainder with the sign of the divisor; ONNX' own for floats has that of the dividend. */
const mod: Lowering = (g, { a, b }) => {
  if (a!.dtype !== 'float32') return binary(g, 'Mod', a!, b!);
  const { shape } = binary(g, 'Add', a!, b!);
  const fmod = (x: Value, y: Value) => g.emit('Mod', [x, y], shape, 'float32', { fmod: 1 });
  return fmod(binary(g, 'Add', fmod(a!, b!), b!), b!);
};

const step: Lowering = (g, { x }, { alpha = 0 }) => {
  const isPositive = binary(g, 'Greater', x!, scalar(g, 0, x!.dtype), 'bool');
  if (!alpha) return cast(g, isPositive, 'float32');
  return where(g, isPositive, scalar(g, 1), scalar(g, alpha));
};

const clip: Lowering = (g, { x }, { clipValueMin, clipValueMax }) => {
  const bounds = [scalar(g, clipValueMin, x!.dtype), scalar(g, clipValueMax, x!.dtype)];
  return g.emit('Clip', [x!, ...bounds], x!.shape, x!.dtype);
};

const leakyRelu: Lowering = (g, { x }, { alpha }) =>
  where(g, binary(g, 'Less', x!, scalar(g, 0), 'bool'), multiply(g, x!, scalar(g, alpha)), x!);

/** x where it is positive, else alpha x. */
const prelu: Lowering = (g, { x, alpha }) =>
  where(g, binary(g, 'Less', x!, scalar(g, 0), 'bool'), multiply(g, x!, alpha!), x!);

/** log(1 + x), exact for small x: x - (u - 1 - x)/u with u = 1 + x, as Kahan has it. */
const log1p: Lowering = (g, { x }) => {
  const u = binary(g, 'Add', x!, scalar(g, 1));
  const lost = binary(g, 'Sub', binary(g, 'Sub', u, scalar(g, 1)), x!);
  const exact = binary(g, 'Sub', unary(g, 'Log', u), binary(g, 'Div', lost, u));
  const isWhole = binary(g, 'Equal', u, scalar(g, Number.POSITIVE_INFINITY), 'bool');
  return where(g, isWhole, unary(g, 'Log', u), exact);
};

/** e^x - 1, exact for small x: tanh(x/2) (e^x + 1). */
const expm1: Lowering = (g, { x }) => {
  const half = unary(g, 'Tanh', multiply(g, x!, scalar(g, 0.5)));
  const e = unary(g, 'Exp', x!);
  const isSmall = binary(g, 'Less', unary(g, 'Abs', x!), scalar(g, 1), 'bool');
  const near = multiply(g, half, binary(g, 'Add', e, scalar(g, 1)));
  return where(g, isSmall, near, binary(g, 'Sub', e, scalar(g, 1)));
};

/** max(x, 0) + log1p(e^-|x|). */
const softplus: Lowering = (g, { x }) => {
  const tail = unary(g, 'Exp', unary(g, 'Neg', unary(g, 'Abs', x!)));
  return binary(g, 'Add', unary(g, 'Relu', x!), log1p(g, { x: tail }, {}) as Value);
};

const addN: Lowering = (g, inputs) =>
  Object.values(inputs).reduce((a, b) => binary(g, 'Add', a, b, a.dtype));

/** Kernels by their TensorFlow.js names. */
export const ELEMENTWISE: Record<string, Lowering> = {
  Add: two('Add'),
  AddN: addN,
  Sub: two('Sub'),
  Multiply: two('Mul'),
  RealDiv: (g, { a, b }) => binary(g, 'Div', cast(g, a!, 'float32'), cast(g, b!, 'float32')),
  FloorDiv: floorDiv,
  Mod: mod,
  Maximum: two('Max'),
  Minimum: two('Min'),
  Pow: (g, { a, b }) => power(g, a!, b!),
  SquaredDifference: (g, { a, b }) => {
    const difference = binary(g, 'Sub', a!, b!);
    return multiply(g, difference, difference);
  },
  Equal: comparison('Equal'),
  NotEqual: (g, { a, b }) => not(g, binary(g, 'Equal', a!, b!, 'bool')),
  Greater: comparison('Greater'),
  GreaterEqual: comparison('GreaterOrEqual'),
  Less: comparison('Less'),
  LessEqual: comparison('LessOrEqual'),
  LogicalAnd: two('And', 'bool'),
  LogicalOr: two('Or', 'bool'),
  LogicalNot: one('Not', 'bool'),
  Exp: one('Exp'),
  Expm1: expm1,
  Log: one('Log'),
  Log1p: log1p,
  Neg: one('Neg'),
  Abs: one('Abs'),
  Sqrt: one('Sqrt'),
  Rsqrt: (g, { x }) => unary(g, 'Reciprocal', unary(g, 'Sqrt', x!)),
  Square: (g, { x }) => multiply(g, x!, x!),
  Reciprocal: one('Reciprocal'),
  Sigmoid: one('Sigmoid'),
  Tanh: one('Tanh'),
  Sin: one('Sin'),
  Cos: one('Cos'),
  Tan: one('Tan'),
  Asin: one('Asin'),
  Acos: one('Acos'),
  Atan: one('Atan'),
  Sinh: one('Sinh'),
  Cosh: one('Cosh'),
  Erf: one('Erf'),
  Sign: one('Sign'),
  Floor: one('Floor'),
  Ceil: one('Ceil'),
  Round: one('Round'),
  IsNan: one('IsNaN', 'bool'),
  IsInf: one('IsInf', 'bool'),
  IsFinite: (g, { x }) =>
    not(
      g,
      binary(
        g,
        'Or',
        g.emit('IsNaN', [x!], x!.shape, 'bool'),
        g.emit('IsInf', [x!], x!.shape, 'bool'),
        'bool',
      ),
    ),
  Relu: one('Relu'),
  Relu6: (g, { x }) => clip(g, { x: x! }, { clipValueMin: 0, clipValueMax: 6 }),
  LeakyRelu: leakyRelu,
  Prelu: prelu,
  Elu: (g, { x }) =>
    where(g, binary(g, 'Less', x!, scalar(g, 0), 'bool'), expm1(g, { x: x! }, {}) as Value, x!),
  EluGrad: (g, { dy, y }) =>
    where(
      g,
      binary(g, 'Less', y!, scalar(g, 0), 'bool'),
      multiply(g, dy!, binary(g, 'Add', y!, scalar(g, 1))),
      dy!,
    ),
  Selu: one('Selu'),
  Softplus: softplus,
  Step: step,
  ClipByValue: clip,
};
