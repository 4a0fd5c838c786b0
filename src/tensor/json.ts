// What JSON.parse keeps silent about: keys that occur twice in one object.

/**
 * Calls `found` with the first key that occurs twice in one object of `text`, which must be valid
 * JSON. Keys are compared after their escapes are undone.
 */
export function rejectDuplicateKeys(text: string, found: (key: string) => void): void {
  const open: (Set<string> | undefined)[] = [];
  const token = /"(?:[^"\\]|\\.)*"(\s*:)?|[{}[\]]/gs;
  for (const [match, isKey] of text.matchAll(token)) {
    if (match === '{') open.push(new Set());
    else if (match === '[') open.push(undefined);
    else if (match === '}' || match === ']') open.pop();
    else if (isKey) {
      const key = JSON.parse(match.slice(0, match.lastIndexOf('"') + 1)) as string;
      const keys = open.at(-1);
      if (keys?.has(key)) return found(key);
      keys?.add(key);
    }
  }
}
