// The public library, one line per file, in the order of the course.

export { type BpeTrainerOptions, trainBpe } from './data/bpe-trainer.ts';
export { type ChatStyle, chatTurns, encodeChatTurns } from './data/chat-styles.ts';
export {
  applyChatTemplate,
  type ChatMessage,
  type ChatTemplateOptions,
} from './data/chat-template.ts';
export { Dataset, loadDataset } from './data/dataset.ts';
export { deduplicate, splitWithoutLeaks } from './data/duplicates.ts';
export { type ConvertOptions, convertRows, type RowFormat } from './data/formats.ts';
export { type GgufMetadata, tokenizerFromGguf } from './data/gguf-tokenizer.ts';
export { JsonLinesFile } from './data/json-lines-file.ts';
export { curriculum, mixRows, ReplayBuffer, withReplay } from './data/mix-rows.ts';
export { allPaths, bestPaths, type OasstMessage, rankedPairs } from './data/oasst.ts';
export { packRows, type TokenRow } from './data/packing.ts';
export { convertPreferences, type PreferenceFormat } from './data/preference-formats.ts';
export { type PreferenceRow, tokenizePreferences } from './data/preference-rows.ts';
export { preparePairs } from './data/prepare-pairs.ts';
export { type AlpacaRow, alpacaPrompt, type PromptStyle } from './data/prompt-styles.ts';
export { type ReadOptions, type ReadRows, readRows } from './data/read-rows.ts';
export {
  type SftRow,
  type TokenizeOptions,
  tokenizeRow,
  tokenizeRows,
} from './data/tokenize-rows.ts';
export { type Encoding, Tokenizer, type TokenizerConfig } from './data/tokenizer.ts';
export { labelTurns, type TurnLabelOptions } from './data/turn-labels.ts';
export {
  type BarSeries,
  barChart,
  type Chart,
  type ChartOptions,
  type LineSeries,
  lineChart,
} from './eval/chart.ts';
export {
  effectiveRank,
  energyRank,
  matricesOf,
  type UpdateRank,
  updateRanks,
} from './eval/effective-rank.ts';
export {
  type Completion,
  type ExactMatchOptions,
  exactMatch,
  exactMatches,
} from './eval/exact-match.ts';
export {
  type ForgettingCurve,
  forgotten,
  measureForgetting,
  measureWhileTraining,
  type Scores,
} from './eval/forgetting.ts';
export {
  FORGETTING_SETTINGS,
  type ForgettingExperiment,
  type ForgettingRun,
  runForgettingExperiment,
  type Setting,
} from './eval/forgetting-experiment.ts';
export { type HeatMap, type HeatMapOptions, heatMap } from './eval/heat-map.ts';
export {
  type BinOptions,
  type Histogram,
  type HistogramSeries,
  histogram,
  histogramChart,
} from './eval/histogram.ts';
export { type LearningForgetting, paretoFront } from './eval/pareto.ts';
export {
  benchLayer,
  benchModel,
  type ModelBenchOptions,
  type ModelScore,
  modelScore,
  paretoRows,
  type QuantModelRow,
  type QuantRow,
  quantChart,
} from './eval/quant-bench.ts';
export {
  awqMethod,
  dynamic8Method,
  fourBitMethod,
  ggufMethod,
  gptqMethod,
  halfMethod,
  hqqMethod,
  integerMethod,
  llmInt8Method,
  type QuantMethod,
} from './eval/quant-methods.ts';
export { factsSuite, formatSuite, perplexitySuite, type Suite } from './eval/suites.ts';
export { type BackendName, setBackend } from './jit/backend.ts';
export { type BackendReport, type Diagnosis, diagnose } from './jit/doctor.ts';
export { type JitOptions, type Jitted, jit } from './jit/jit.ts';
export type { GraphMemory } from './jit/memory-analysis.ts';
export type { NativeOptions } from './jit/native.ts';
export { seededUniform } from './jit/random.ts';
export { AutoModelForCausalLM, AutoTokenizer } from './models/auto.ts';
export {
  type CausalLM,
  type CausalLMOutput,
  causalLMLoss,
  type ForwardOptions,
  maskedPositions,
  numParameters,
} from './models/causal-lm.ts';
export { chatAnswers, chatPrompt } from './models/chat.ts';
export type { SaveDtype } from './models/checkpoint.ts';
export { configFromJson, gpt2Config, llamaConfig, type ModelConfig } from './models/config.ts';
export { generateText } from './models/generate-text.ts';
export { type GenerationConfig, generate, streamText, streamTokens } from './models/generation.ts';
export { type GgufReader, type GgufTensor, openGguf, parseGguf } from './models/gguf.ts';
export { type Conversion, convertToGguf } from './models/gguf-convert.ts';
export { type GgufOptions, saveGguf } from './models/gguf-export.ts';
export { type GgufFileType, ggufFileType, tensorType } from './models/gguf-mix.ts';
export { type GgufEntry, type GgufSource, writeGguf } from './models/gguf-write.ts';
export { type GPT2Config, GPT2LMHeadModel } from './models/gpt2.ts';
export { type DownloadProgress, type HubOptions, snapshotDownload } from './models/hub.ts';
export { type LlamaConfig, LlamaForCausalLM } from './models/llama.ts';
export { type LogitsProcessor, logitsProcessors } from './models/logits-processor.ts';
export { fromConfig, savePretrained } from './models/pretrained.ts';
export { ForSequenceClassification } from './models/sequence-classification.ts';
export { obtainSmollm2 } from './models/smollm2.ts';
export { type Activation, getActivation } from './nn/activations.ts';
export { attend, attentionBias, type KeyValue } from './nn/attention.ts';
export { Embedding } from './nn/embedding.ts';
export { crossEntropy, dropout, IGNORE_INDEX } from './nn/functional.ts';
export { type Initializer, normalInit, onesInit, zerosInit } from './nn/init.ts';
export { Conv1D, Linear, linear } from './nn/linear.ts';
export { functionalCall, Module, parameter } from './nn/module.ts';
export { LayerNorm, RMSNorm } from './nn/norm.ts';
export { applyRotary, type RopeParameters, RotaryEmbedding } from './nn/rotary.ts';

export { AdapterCache, type CachedModel, type CacheStatistics } from './peft/adapter-cache.ts';
export type { BaseLayer, LinearLayer, QuantizedLayer } from './peft/base-layer.ts';
export { Bottleneck, BottleneckConfig, type BottleneckOptions } from './peft/bottleneck.ts';
export {
  type AdapterCount,
  countAdapter,
  countParameters,
  type ParameterCount,
} from './peft/count.ts';
export { DoraLinear } from './peft/dora.ts';
export { IA3Config, IA3Layer, type IA3Options } from './peft/ia3.ts';
export { KNOWN_MODELS } from './peft/known-models.ts';
export { type LayerShape, layerShapes, type ModelShape } from './peft/layer-shapes.ts';
export { LoraLinear } from './peft/lora.ts';
export { LoraConfig, type LoraOptions } from './peft/lora-config.ts';
export { LoraEmbedding } from './peft/lora-embedding.ts';
export type { InitLoraWeights, LoftqConfig } from './peft/lora-init.ts';
export { isPromptLearning, type PeftConfig } from './peft/mapping.ts';
export {
  COMBINATION_TYPES,
  type CombinationType,
  type LoraFactors,
  type MergeLoraOptions,
  mergeLora,
} from './peft/merge-lora.ts';
export { type MergeRecipe, mergeModels, TaskVector } from './peft/merge-models.ts';
export { type CombineMethod, type CombineOptions, combineTasks } from './peft/merge-tasks.ts';
export {
  linearMerge,
  type MergeParameters,
  slerp,
  type TaskMergeMethod,
  taskMerge,
} from './peft/mergekit.ts';
export { getPeftModel, PeftModel } from './peft/peft-model.ts';
export { PrefixTuningConfig, type PrefixTuningOptions } from './peft/prefix-tuning.ts';
export { PromptTuningConfig, type PromptTuningOptions } from './peft/prompt-tuning.ts';
export { type MaskSource, seededMasks } from './peft/prune.ts';
export { type QatLoraConfig, setQuantizationAware } from './peft/qat-lora.ts';
export { type ReadableModel, RoutedModel, type RoutedOutput } from './peft/routed-model.ts';
export {
  choose,
  loadBalancingLoss,
  Router,
  type RouterConfig,
  type Routing,
} from './peft/router.ts';
export { type RoutingReport, RoutingStatistics } from './peft/router-statistics.ts';
export { trainableParametersLine } from './peft/trainable-parameters.ts';
export { LayerAdapter, type Mixture, TunerLayer } from './peft/tuner-layer.ts';
export { VeraConfig, type VeraOptions } from './peft/vera.ts';
export type { WeightedAdapterOptions } from './peft/weighted-adapter.ts';
export {
  type AwqOptions,
  type AwqScales,
  type AwqWeight,
  pseudoQuantize,
  searchAwqScales,
} from './quant/awq.ts';
export { applyAwqClip, type ClipOptions, searchAwqClip } from './quant/awq-clip.ts';
export { type AwqTensors, packAwq, unpackAwq } from './quant/awq-pack.ts';
export {
  type AwqLayer,
  type AwqLayerOptions,
  dequantizeAwq,
  quantizeAwq,
} from './quant/awq-quantize.ts';
export {
  type Blocks,
  type BlockwiseOptions,
  dequantizeBlockwise,
  quantizeBlockwise,
} from './quant/blockwise.ts';
export {
  BitsAndBytesConfig,
  type BitsAndBytesOptions,
  getMemoryFootprint,
  prepareModelForKbitTraining,
  quantizeModel,
} from './quant/bnb-config.ts';
export { inputMaxima, linearLayers, watchInputs } from './quant/calibration.ts';
export {
  type Codebook,
  codebook,
  createDynamicMap,
  type FourBitType,
  getFourBitType,
} from './quant/codebook.ts';
export {
  type FourBitFormat,
  fakeQuantize,
  type QuantFormat,
} from './quant/fake-quantize.ts';
export {
  dequantize4bit,
  type FourBit,
  type FourBitOptions,
  pack4bit,
  quantize4bit,
  unpack4bit,
} from './quant/four-bit.ts';
export {
  dequantizeGguf,
  type GgmlType,
  ggmlType,
  quantizeGguf,
  READABLE_TYPES,
} from './quant/gguf-types.ts';
export {
  dequantizeGptq,
  type GptqOptions,
  type GptqResult,
  type GptqWeight,
  quantizeGptq,
} from './quant/gptq.ts';
export { GptqHessian } from './quant/gptq-hessian.ts';
export { type GptqFormat, type GptqTensors, packGptq, unpackGptq } from './quant/gptq-pack.ts';
export {
  dequantizeHqq,
  type HqqOptions,
  type HqqWeight,
  quantizeHqq,
} from './quant/hqq.ts';
export {
  dequantizeInteger,
  type Granularity,
  type IntegerGrid,
  type IntegerOptions,
  type IntegerScheme,
  type IntegerTensor,
  integerBytes,
  integerGrid,
  quantizeInteger,
} from './quant/integer.ts';
export { type ActivationFormat, IntegerLinear } from './quant/integer-linear.ts';
export { Linear4bit } from './quant/linear-4bit.ts';
export { Linear8bitLt } from './quant/linear-8bit.ts';
export {
  dequantizeProduct,
  dequantizeRows,
  type Int8Rows,
  multiplyInt8,
  quantizeRows,
} from './quant/llm-int8.ts';
export { type CalibrationMethod, Observer, type ObserverOptions } from './quant/observer.ts';
export { type PtqConfig, quantizePtq } from './quant/ptq.ts';
export { convertQat, FakeQuantizedLinear, prepareQat, type QatConfig } from './quant/qat.ts';
export { type FloatType, QuantState, type QuantStateFields } from './quant/quant-state.ts';
export { smoothModel, smoothScales } from './quant/smooth-quant.ts';
export { RandomState, randomNormal, randomUniform } from './tensor/random.ts';
export {
  loadFile,
  parseSafetensors,
  type RawTensor,
  safeOpen,
  saveFile,
  serializeSafetensors,
  toFloat32,
  toTensor,
} from './tensor/safetensors.ts';
export { type Svd, singularValues, svd } from './tensor/svd.ts';
export { type DPOLossOptions, dpoLoss } from './train/dpo-loss.ts';
export { type DPOConfig, DPOTrainer } from './train/dpo-trainer.ts';
export { cheapestGpu, type Fit, fitGpus, GPUS, type Gpu, largestBatch } from './train/gpu-fit.ts';
export { type GRPOConfig, GRPOTrainer, type RewardFunction } from './train/grpo-trainer.ts';
export { roundHalf } from './train/half-precision.ts';
export { type KTOConfig, KTOTrainer } from './train/kto-trainer.ts';
export { type LoraPlusOptions, loraPlusGroups } from './train/lora-plus.ts';
export {
  estimateMemory,
  formatBytes,
  type MemoryEstimate,
  type MemoryOptions,
  type MemoryPart,
} from './train/memory.ts';
export {
  AdamW,
  type AdamWNumbers,
  type AdamWOptions,
  adamWUpdate,
  type ParamGroup,
  SGD,
  type SGDOptions,
} from './train/optimizers.ts';
export { type ORPOConfig, ORPOTrainer } from './train/orpo-trainer.ts';
export type { PageOptions, PageStatistics } from './train/page-store.ts';
export { PagedAdamW, type PagedAdamWOptions } from './train/paged-adamw.ts';
export { type RewardConfig, RewardTrainer } from './train/reward-trainer.ts';
export {
  type RoutedRow,
  type RouterLossWeights,
  RouterTrainer,
  type RouterTrainerOptions,
} from './train/router-trainer.ts';
export {
  getScheduler,
  type Scheduler,
  type SchedulerOptions,
  type SchedulerType,
} from './train/schedulers.ts';
export { type SFTConfig, SFTTrainer } from './train/sft-trainer.ts';
export { Trainer, type TrainerOptions } from './train/trainer.ts';
export type { TrainingArguments } from './train/training-arguments.ts';
export type { EvalEntry, LogEntry, TrainerCallback, TrainerState } from './train/training-state.ts';
