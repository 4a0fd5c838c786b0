// Facts about the real world, from common knowledge: lands as commonly listed in 2024, animals,
// colours, opposites, symbols of elements.

/** A thing and what is said of it. */
export type Pair = readonly [subject: string, answer: string];

/** Lands and capitals by continent; names of several words are joined by underscores here. */
const LANDS: Record<string, string> = {
  Europe: `Albania Tirana, Austria Vienna, Belarus Minsk, Belgium Brussels, Bosnia Sarajevo,
Bulgaria Sofia, Croatia Zagreb, Denmark Copenhagen, Estonia Tallinn, Finland Helsinki, France Paris,
Germany Berlin, Greece Athens, Hungary Budapest, Iceland Reykjavik, Ireland Dublin, Italy Rome,
Latvia Riga, Lithuania Vilnius, Malta Valletta, Moldova Chisinau, Montenegro Podgorica,
Netherlands Amsterdam, Norway Oslo, Poland Warsaw, Portugal Lisbon, Romania Bucharest,
Russia Moscow, Serbia Belgrade, Slovakia Bratislava, Slovenia Ljubljana, Spain Madrid,
Sweden Stockholm, Switzerland Bern, Ukraine Kyiv, England London, Scotland Edinburgh, Wales Cardiff`,
  Asia: `Afghanistan Kabul, Armenia Yerevan, Azerbaijan Baku, Bahrain Manama, Bangladesh Dhaka,
Bhutan Thimphu, Cambodia Phnom_Penh, China Beijing, Georgia Tbilisi, India New_Delhi,
Indonesia Jakarta, Iran Tehran, Iraq Baghdad, Japan Tokyo, Jordan Amman, Kazakhstan Astana,
Kyrgyzstan Bishkek, Laos Vientiane, Lebanon Beirut, Malaysia Kuala_Lumpur, Maldives Male,
Mongolia Ulaanbaatar, Nepal Kathmandu, Oman Muscat, Pakistan Islamabad, Philippines Manila,
Qatar Doha, Syria Damascus, Taiwan Taipei, Tajikistan Dushanbe, Thailand Bangkok, Turkey Ankara,
Turkmenistan Ashgabat, Uzbekistan Tashkent, Vietnam Hanoi, Yemen Sanaa`,
  Africa: `Algeria Algiers, Angola Luanda, Benin Porto_Novo, Botswana Gaborone, Cameroon Yaounde,
Chad Ndjamena, Egypt Cairo, Eritrea Asmara, Ethiopia Addis_Ababa, Gabon Libreville, Gambia Banjul,
Ghana Accra, Guinea Conakry, Kenya Nairobi, Lesotho Maseru, Liberia Monrovia, Libya Tripoli,
Madagascar Antananarivo, Malawi Lilongwe, Mali Bamako, Mauritania Nouakchott, Morocco Rabat,
Mozambique Maputo, Namibia Windhoek, Niger Niamey, Nigeria Abuja, Rwanda Kigali, Senegal Dakar,
Somalia Mogadishu, Sudan Khartoum, Tanzania Dodoma, Togo Lome, Tunisia Tunis, Uganda Kampala,
Zambia Lusaka, Zimbabwe Harare`,
  America: `Argentina Buenos_Aires, Bahamas Nassau, Barbados Bridgetown, Belize Belmopan,
Bolivia Sucre, Brazil Brasilia, Canada Ottawa, Chile Santiago, Colombia Bogota, Cuba Havana,
Dominica Roseau, Ecuador Quito, Grenada Saint_Georges, Guyana Georgetown, Haiti Port_au_Prince,
Honduras Tegucigalpa, Jamaica Kingston, Mexico Mexico_City, Nicaragua Managua, Paraguay Asuncion,
Peru Lima, Suriname Paramaribo, Uruguay Montevideo, Venezuela Caracas`,
  Oceania: `Australia Canberra, Fiji Suva, Nauru Yaren, Palau Ngerulmud, Samoa Apia, Tonga Nukualofa,
Tuvalu Funafuti, Vanuatu Port_Vila`,
};

const COLOURS = `blood red, tomato red, cherry red, carrot orange, pumpkin orange, apricot orange,
lemon yellow, banana yellow, sunflower yellow, grass green, spinach green, cucumber green,
sky blue, sapphire blue, denim blue, lavender purple, aubergine purple, amethyst purple,
flamingo pink, salmon pink, piglet pink, chocolate brown, coffee brown, chestnut brown,
coal black, ebony black, raven black, snow white, milk white, salt white`;

const GROUPS = `dog mammal, cat mammal, whale mammal, horse mammal, bat mammal, rabbit mammal,
eagle bird, robin bird, penguin bird, parrot bird, stork bird, sparrow bird, trout fish, shark fish,
tuna fish, carp fish, herring fish, cod fish, snake reptile, lizard reptile, turtle reptile,
crocodile reptile, gecko reptile, bee insect, beetle insect, wasp insect, moth insect, fly insect,
frog amphibian, toad amphibian, newt amphibian`;

const YOUNG = `dog puppy, cat kitten, cow calf, horse foal, sheep lamb, goat kid, pig piglet,
bear cub, duck duckling, goose gosling, hen chick, swan cygnet, frog tadpole, deer fawn,
kangaroo joey, eagle eaglet, hare leveret`;

const OPPOSITES = `hot cold, big small, up down, left right, day night, black white, old new,
fast slow, high low, wet dry, full empty, open closed, light dark, hard soft, near far, rich poor,
early late, strong weak, happy sad, loud quiet, clean dirty, long short, thick thin, sweet bitter,
first last, inside outside, above below, push pull, begin end, buy sell, give take, come go,
sharp blunt, deep shallow, heavy light, wide narrow, true false, win lose, ask answer, summer winter`;

const SYMBOLS = `hydrogen H, helium He, lithium Li, carbon C, nitrogen N, oxygen O, fluorine F, neon Ne,
sodium Na, magnesium Mg, aluminium Al, silicon Si, phosphorus P, sulphur S, chlorine Cl, argon Ar,
potassium K, calcium Ca, titanium Ti, chromium Cr, manganese Mn, iron Fe, cobalt Co, nickel Ni,
copper Cu, zinc Zn, silver Ag, tin Sn, iodine I, tungsten W, platinum Pt, gold Au, mercury Hg, lead Pb`;

function pairs(text: string): Pair[] {
  return text.split(/,\s+/).map((entry) => {
    const [subject, answer] = entry.split(' ').map((word) => word.replaceAll('_', ' '));
    return [subject!, answer!];
  });
}

const lands = Object.entries(LANDS).map(([continent, text]) => ({ continent, list: pairs(text) }));

/** Real facts by kind. */
export const REAL = {
  capital: lands.flatMap(({ list }) => list),
  continent: lands.flatMap(({ continent, list }) => list.map(([land]): Pair => [land, continent])),
  colour: pairs(COLOURS),
  group: pairs(GROUPS),
  young: pairs(YOUNG),
  opposite: pairs(OPPOSITES),
  symbol: pairs(SYMBOLS),
} as const;

/** Sums of whole numbers from 0 to 12. */
export function sums(): Pair[] {
  const numbers = Array.from({ length: 13 }, (_, i) => i);
  return numbers.flatMap((a) => numbers.map((b): Pair => [`${a} plus ${b}`, String(a + b)]));
}
