// Invented names: two open syllables and an ending that tells what bears the name, such as Brulivia.
import type { RandomState } from 'peftlab';

const ONSETS = 'b d f g k l m n p r s t v z br dr gl kr pl tr'.split(' ');
const VOWELS = 'a e i o u'.split(' ');

/** Endings of names, by what they name. */
export const ENDINGS = {
  land: 'ria via nor land mark'.split(' '),
  town: 'burg dal mir ton stad'.split(' '),
  person: 'na lo sen ric th'.split(' '),
  creature: 'k bble nt x mp'.split(' '),
  language: 'ish ese'.split(' '),
  coin: 'ck rrin'.split(' '),
  illness: 'pox itis'.split(' '),
  herb: 'wort bane'.split(' '),
} as const;

/** What an invented name can be of. */
export type Named = keyof typeof ENDINGS;

const LOWER = new Set<Named>(['creature', 'coin', 'illness', 'herb']);

/** Draws names, none of them twice and none in `taken`, which it adds to. */
export function namer(random: RandomState, taken = new Set<string>()): (of: Named) => string {
  return (of) => {
    for (;;) {
      const name = anyName(random, of);
      if (taken.has(name)) continue;
      taken.add(name);
      return name;
    }
  };
}

function anyName(random: RandomState, of: Named): string {
  const syllable = () => random.choice(ONSETS) + random.choice(VOWELS);
  const word = syllable() + syllable() + random.choice(ENDINGS[of]);
  return LOWER.has(of) ? word : word[0]!.toUpperCase() + word.slice(1);
}
