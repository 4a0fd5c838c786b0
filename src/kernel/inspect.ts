// What stands at a position of a cell: signature, type and JSDoc, as Markdown and as plain text. Inside
// the parentheses of a call it is the called function, with the parameter at hand in bold.
import ts from 'typescript';
import type { LanguageHost } from './language-host.ts';
import type { MimeBundle } from './protocol.ts';

/** Content of an `inspect_reply`. */
export interface Inspection {
  found: boolean;
  data: MimeBundle;
}

const NOTHING: Inspection = { found: false, data: {} };

/** Looks at `offset` of the host's cell at hand, or just before it. */
export function inspectAt(host: LanguageHost, offset: number): Inspection {
  const { service, cellPath } = host;
  for (const at of [offset, offset - 1]) {
    const info = at >= 0 ? service.getQuickInfoAtPosition(cellPath, at) : undefined;
    // An unknown name has the type any, and nothing else to say.
    if (info?.displayParts?.length && ts.displayPartsToString(info.displayParts) !== 'any') {
      return describe(signatureOf(info.displayParts), info.documentation, info.tags);
    }
  }
  return signatureHelp(host, offset);
}

/** Names of earlier cells are imported behind the scenes: that they are is left out. */
function signatureOf(parts: ts.SymbolDisplayPart[]): string {
  const text = ts.displayPartsToString(parts);
  if (!text.startsWith('(alias) ')) return text;
  return text.slice('(alias) '.length).replace(/\nimport [\w$]+$/, '');
}

function signatureHelp(host: LanguageHost, offset: number): Inspection {
  const help = host.service.getSignatureHelpItems(host.cellPath, offset, undefined);
  const item = help?.items[help.selectedItemIndex];
  if (!help || !item) return NOTHING;
  const parameters = item.parameters.map((p) => ts.displayPartsToString(p.displayParts));
  const signature = [
    ts.displayPartsToString(item.prefixDisplayParts),
    parameters.join(ts.displayPartsToString(item.separatorDisplayParts)),
    ts.displayPartsToString(item.suffixDisplayParts),
  ].join('');
  const current = item.parameters[help.argumentIndex];
  const words = current ? ts.displayPartsToString(current.documentation) : '';
  const note = current
    ? `**${ts.displayPartsToString(current.displayParts)}** ${words}`.trim()
    : '';
  return describe(signature, item.documentation, item.tags, note);
}

function describe(
  signature: string,
  documentation: ts.SymbolDisplayPart[] | undefined,
  tags: ts.JSDocTagInfo[] | undefined,
  note = '',
): Inspection {
  const words = ts.displayPartsToString(documentation);
  const tagLines = (tags ?? []).map((tag) => {
    const text = ts.displayPartsToString(tag.text);
    return tag.name === 'example'
      ? `*@example*\n\`\`\`ts\n${text}\n\`\`\``
      : `*@${tag.name}* ${text}`;
  });
  const parts = [`\`\`\`typescript\n${signature}\n\`\`\``, note, words, tagLines.join('\n\n')];
  const plainTags = (tags ?? []).map((tag) => `@${tag.name} ${ts.displayPartsToString(tag.text)}`);
  const plain = [signature, note.replaceAll('*', ''), words, plainTags.join('\n')];
  return {
    found: true,
    data: {
      'text/markdown': parts.filter(Boolean).join('\n\n'),
      'text/plain': plain.filter(Boolean).join('\n\n'),
    },
  };
}
