// Configs by the peft_type of their files, to and from adapter_config.json.
import { BottleneckConfig } from './bottleneck.ts';
import { IA3Config } from './ia3.ts';
import { LORA_UNUSED, LoraConfig } from './lora-config.ts';
import { configToJson, optionsFromJson } from './peft-config.ts';
import { PrefixTuningConfig } from './prefix-tuning.ts';
import { PromptTuningConfig } from './prompt-tuning.ts';
import { VeraConfig } from './vera.ts';

/** The config of any method. */
export type PeftConfig =
  | LoraConfig
  | IA3Config
  | VeraConfig
  | BottleneckConfig
  | PrefixTuningConfig
  | PromptTuningConfig;

/** Whether a method learns virtual tokens and leaves the layers alone. */
export function isPromptLearning(
  config: PeftConfig,
): config is PrefixTuningConfig | PromptTuningConfig {
  return config.peftType === 'PREFIX_TUNING' || config.peftType === 'PROMPT_TUNING';
}

type Json = Record<string, unknown>;

/** The config that an adapter_config.json describes; throws if nobody here knows its peft_type. */
export function configFromJson(json: Json): PeftConfig {
  if (String(json.version).startsWith('adapters.')) return BottleneckConfig.fromJson(json);
  const options = (config: object) => optionsFromJson(json, Object.keys(config)) as never;
  switch (json.peft_type) {
    case 'LORA':
      return new LoraConfig(options(new LoraConfig()));
    case 'IA3':
      return new IA3Config(options(new IA3Config()));
    case 'VERA':
      return new VeraConfig(options(new VeraConfig()));
    case 'PREFIX_TUNING':
      return new PrefixTuningConfig(options(new PrefixTuningConfig({ numVirtualTokens: 1 })));
    case 'PROMPT_TUNING':
      return new PromptTuningConfig(options(new PromptTuningConfig({ numVirtualTokens: 1 })));
    default:
      throw new RangeError(
        `peft_type must be LORA, IA3, VERA, PREFIX_TUNING or PROMPT_TUNING, got ${JSON.stringify(json.peft_type)}`,
      );
  }
}

/**
 * adapter_config.json of a saved adapter; `fanInFanOut` tells PEFT that weights are stored [in, out], as
 * Conv1D's are, and `base` is the model's config.
 */
export function configJson(
  config: PeftConfig,
  { fanInFanOut, name, base }: { fanInFanOut: boolean; name: string; base: object },
): Json {
  const fan = { fan_in_fan_out: fanInFanOut };
  switch (config.peftType) {
    case 'LORA':
      return configToJson(config, { ...LORA_UNUSED, ...fan });
    case 'IA3':
      return configToJson(config, fan);
    case 'VERA':
      return configToJson(config, { ...fan, bias: 'none', init_weights: true });
    case 'BOTTLENECK':
      return config.toJson(name, base);
    case 'PREFIX_TUNING':
      return configToJson(config, { modules_to_save: null, num_transformer_submodules: 1 });
    case 'PROMPT_TUNING':
      return configToJson(config, {
        modules_to_save: null,
        num_transformer_submodules: 1,
        tokenizer_kwargs: null,
      });
  }
}
