// Jupyter counts cursor positions in Unicode code points, JavaScript in UTF-16 units.

/** The UTF-16 offset of code point number `points`. */
export function codeUnitOffset(text: string, points: number): number {
  let units = 0;
  for (let i = 0; i < points && units < text.length; i++) {
    units += text.codePointAt(units)! > 0xffff ? 2 : 1;
  }
  return units;
}

/** The number of code points before UTF-16 offset `units`. */
export function codePointOffset(text: string, units: number): number {
  return [...text.slice(0, units)].length;
}
