import { expect } from 'chai';
import {
  f32,
  f32x4,
  i32,
  instantiate,
  local,
  v128,
  when,
  whileLoop,
} from '../../src/quant/simd.ts';

describe('SIMD modules', () => {
  it('runs loops over memory, four numbers at a time', () => {
    const [from, count, sum] = [0, 1, 2];
    const { memory, run } = instantiate(
      [
        {
          name: 'total',
          parameters: 2,
          variables: ['v128'],
          body: [
            ...whileLoop(local.get(count), [
              ...local.set(sum, f32x4.add(local.get(sum), v128.load(local.get(from), 0))),
              ...local.set(from, i32.add(local.get(from), i32.const(16))),
              ...local.set(count, i32.sub(local.get(count), i32.const(1))),
            ]),
            ...v128.store(local.get(from), local.get(sum), 0),
          ],
        },
      ],
      1,
    );
    const numbers = new Float32Array(memory.buffer);
    for (let i = 0; i < 4000; i++) numbers[i] = i % 7;
    run.total!(0, 1000);
    const lanes = [0, 1, 2, 3].map((lane) => {
      let sum = 0;
      for (let i = lane; i < 4000; i += 4) sum += i % 7;
      return sum;
    });
    expect([...numbers.subarray(4000, 4004)]).to.deep.equal(lanes);
  });

  it('encodes constants of any size and sign', () => {
    for (const value of [
      0,
      1,
      -1,
      63,
      64,
      -64,
      -65,
      127,
      128,
      8191,
      -8192,
      2 ** 31 - 1,
      -(2 ** 31),
    ]) {
      const body = f32.store(i32.const(8), f32.const(value), 0);
      const { memory, run } = instantiate(
        [
          {
            name: 'put',
            parameters: 1,
            variables: [],
            body: when(i32.ltU(local.get(0), i32.const(5)), body),
          },
        ],
        1,
      );
      run.put!(9);
      expect(new Float32Array(memory.buffer)[2]).to.equal(0);
      run.put!(4);
      expect(new Float32Array(memory.buffer)[2]).to.equal(Math.fround(value));
      const integer = instantiate(
        [
          {
            name: 'same',
            parameters: 1,
            variables: [],
            body: when(i32.ltU(i32.sub(local.get(0), i32.const(value)), i32.const(1)), body),
          },
        ],
        1,
      );
      integer.run.same!(value);
      expect(new Float32Array(integer.memory.buffer)[2], `${value}`).to.equal(Math.fround(value));
    }
  });
});
