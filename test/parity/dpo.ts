// Kind 06_dpo_loss: TRL's losses, logged rewards and gradients.
import * as tf from '@tensorflow/tfjs';
import { type DPOLossOptions, dpoLoss, type PreferenceLogps } from '../../src/train/dpo-loss.ts';
import { type Check, close } from './measure.ts';

interface LossCase {
  loss_type: NonNullable<DPOLossOptions['lossType']>;
  beta: number;
  label_smoothing: number;
  f_divergence_type: NonNullable<DPOLossOptions['fDivergenceType']>;
  loss: number;
  metrics: Record<string, number>;
  grad_wrt_sequence_logps: number[];
}

/** Compares each loss of the case and its gradient by the policy's log-probabilities. */
export const checkDpoLoss: Check = async (_, manifest) => {
  const inputs = manifest.inputs as Record<string, number[]>;
  const { loss_rtol, grad_rtol } = manifest.tolerance as Record<string, number>;
  const fixed = {
    refChosen: tf.tensor1d(inputs.ref_chosen_logps!),
    refRejected: tf.tensor1d(inputs.ref_rejected_logps!),
    chosenLengths: tf.tensor1d(inputs.chosen_lengths!),
    rejectedLengths: tf.tensor1d(inputs.rejected_lengths!),
  };
  const policy = [inputs.policy_chosen_logps!, inputs.policy_rejected_logps!] as const;
  const [chosen, rejected] = [tf.tensor1d(policy[0]), tf.tensor1d(policy[1])];
  return (manifest.cases as LossCase[]).flatMap((expected) => {
    const { metrics } = expected;
    const options: DPOLossOptions = {
      lossType: expected.loss_type,
      beta: expected.beta,
      labelSmoothing: expected.label_smoothing,
      fDivergenceType: expected.f_divergence_type,
    };
    const name = `${expected.loss_type} ${expected.beta} ${expected.f_divergence_type}`;
    const logps: PreferenceLogps = { ...fixed, chosen, rejected };
    const got = dpoLoss(logps, options);
    const grads = tf.grads(
      (a, b) => dpoLoss({ ...fixed, chosen: a!, rejected: b! } as PreferenceLogps, options).loss,
    )([chosen, rejected]);
    const gradient = grads.flatMap((grad) => [...grad.dataSync()]);
    const rtol = loss_rtol as number;
    const logged = [got.chosenRewards, got.rejectedRewards, got.accuracy, got.margin];
    const names = ['rewards/chosen', 'rewards/rejected', 'rewards/accuracies', 'rewards/margins'];
    return [
      close(name, got.loss.dataSync(), [expected.loss], { rtol, atol: 1e-7 }),
      close(`gradient of ${name}`, gradient, expected.grad_wrt_sequence_logps, {
        rtol: grad_rtol as number,
        atol: 1e-7,
      }),
      ...logged.map((value, i) =>
        close(`${names[i]} of ${name}`, value.dataSync(), [metrics[names[i]!]!], {
          rtol,
          atol: 1e-6,
        }),
      ),
    ];
  });
};
