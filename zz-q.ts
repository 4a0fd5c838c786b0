import { pack4bit, unpack4bit } from './src/quant/four-bit.ts';
import { quantizeBlockwise, dequantizeBlockwise } from './src/quant/blockwise.ts';
import { RandomState } from './src/tensor/random.ts';
const n = 4096*4096; const r = new RandomState(0);
const x = Float32Array.from({length:n},()=>r.normal());
const t=(name:string,f:()=>unknown)=>{const ts=[];for(let i=0;i<6;i++){const s=performance.now();f();ts.push(performance.now()-s)} console.log(name,ts.map(v=>v.toFixed(0)).join(' '))};
for (const quantType of ['nf4','fp4'] as const) for (const compressStatistics of [false,true]) {
 const opts={quantType,compressStatistics};
 t('q '+quantType+compressStatistics,()=>pack4bit(x,[4096,4096],opts));
 const {packed,quantState}=pack4bit(x,[4096,4096],opts);
 t('d',()=>unpack4bit(packed,quantState));
}
t('8q',()=>quantizeBlockwise(x)); const b=quantizeBlockwise(x); t('8d',()=>dequantizeBlockwise(b));
