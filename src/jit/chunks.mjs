// @ts-check
// A WebAssembly function over arrays longer than its memory, chunk by chunk: on the thread that calls, or
// on the native one, which has buffers to fill that were used before, so that none has to be made.

/** @typedef {{ memory: WebAssembly.Memory, run: Record<string, (...args: number[]) => void> }} Kernels */
/**
 * An input, where a chunk of it lies in memory, and how many outputs it has an element for.
 * @typedef {{ data: Uint8Array | Float32Array, place: number, per: number }} ChunkInput
 */
/**
 * A call of a function by its name: `chunk` outputs at a time, in blocks of `block`. The function gets the
 * place of the outputs, MID_PAGE, those of the inputs, how many blocks there are, and `last`.
 * @typedef {{ name: string, chunk: number, block: number, inputs: ChunkInput[], last: number }} ChunkedCall
 */

/**
 * Where what is copied out should lie in its page of 4 KiB. JavaScript's arrays begin 16 bytes into one; copied
 * there from a page's beginning, each load of an x86 processor waits for the store before it, which has the
 * same last 12 bits of address, and copying takes four times as long.
 */
export const MID_PAGE = 2048;

/** The functions of a module, and its memory. @param {WebAssembly.Module} module @returns {Kernels} */
export function instance(module) {
  const { memory, ...run } = /** @type {any} */ (new WebAssembly.Instance(module).exports);
  return { memory, run };
}

/** @param {Kernels} kernels @param {ChunkedCall} call @param {Float32Array} out */
export function runChunks({ memory, run }, { name, chunk, block, inputs, last }, out) {
  const places = inputs.map(({ place }) => place);
  for (let begin = 0; begin < out.length; begin += chunk) {
    const end = Math.min(begin + chunk, out.length);
    for (const { data, place, per } of inputs) {
      const part = data.subarray(begin / per, end / per);
      const bytes = new Uint8Array(part.buffer, part.byteOffset, part.byteLength);
      new Uint8Array(memory.buffer, place).set(bytes);
    }
    run[name]?.(MID_PAGE, ...places, (end - begin) / block, last);
    out.set(new Float32Array(memory.buffer, MID_PAGE, end - begin), begin);
  }
}
