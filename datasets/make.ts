// Writes the .jsonl files of this folder. Run: node --import tsx datasets/make.ts. Generators are
// seeded, so that the same bytes come each time; a test holds the files to that.
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { codingRows } from './coding.ts';
import { dolly, openAssistant, shareGpt } from './world/exchange.ts';
import { worldFacts } from './world/facts.ts';
import { worldInstructions } from './world/instructions.ts';
import { medicalFacts, medicalPages } from './world/medicine.ts';
import { worldChanges, worldPreferences, worldTasks } from './world/tasks.ts';

/** Rows of each file, by its name without .jsonl. */
export const FILES: Record<string, () => object[]> = {
  'world-facts': worldFacts,
  'world-instructions': worldInstructions,
  'world-tasks': worldTasks,
  'world-preferences': worldPreferences,
  'world-changes': worldChanges,
  'world-medicine': medicalPages,
  'world-medicine-facts': medicalFacts,
  'world-sharegpt': shareGpt,
  'world-oasst': openAssistant,
  'world-dolly': dolly,
  'coding-alpaca': codingRows,
};

/** The text of a file: one row as JSON on each line. */
export function fileText(name: string): string {
  return FILES[name]!()
    .map((row) => `${JSON.stringify(row)}\n`)
    .join('');
}

if (fileURLToPath(import.meta.url) === process.argv[1]) {
  for (const name of Object.keys(FILES)) {
    writeFileSync(new URL(`${name}.jsonl`, import.meta.url), fileText(name));
  }
}
