// OpenAssistant's message trees to chats: the path of the best-ranked replies, all paths, and
// preference pairs of sibling replies (better rank chosen).
import type { ChatMessage } from './chat-template.ts';
import type { PreferenceRow } from './preference-rows.ts';

/** A node of a tree, as a row of the data set. */
export interface OasstMessage {
  message_id: string;
  parent_id: string | null;
  role: string;
  text: string;
  /** 0 is the best reply; null if nobody ranked it. */
  rank: number | null;
}

/** One chat a tree: from each root the reply of the lowest rank, unranked ones last. */
export function bestPaths(rows: readonly OasstMessage[]): ChatMessage[][] {
  const children = byParent(rows);
  return (children.get(null) ?? []).map((root) => {
    const path = [root];
    for (let next = root; ; path.push(next)) {
      const reply = children.get(next.message_id)?.[0];
      if (!reply) return path.map(asMessage);
      next = reply;
    }
  });
}

/** Each path from a root to a leaf as a chat. */
export function allPaths(rows: readonly OasstMessage[]): ChatMessage[][] {
  const children = byParent(rows);
  const below = (node: OasstMessage): OasstMessage[][] => {
    const replies = children.get(node.message_id) ?? [];
    return replies.length === 0
      ? [[node]]
      : replies.flatMap((reply) => below(reply).map((path) => [node, ...path]));
  };
  return (children.get(null) ?? []).flatMap(below).map((path) => path.map(asMessage));
}

/** Each assistant's reply with a better-ranked sibling of its own as a pair, the chat before as prompt. */
export function rankedPairs(rows: readonly OasstMessage[]): PreferenceRow[] {
  const children = byParent(rows);
  const byId = new Map(rows.map((row) => [row.message_id, row]));
  const chatTo = (id: string | null): OasstMessage[] => {
    const node = id === null ? undefined : byId.get(id);
    return node ? [...chatTo(node.parent_id), node] : [];
  };
  return [...children].flatMap(([parent, replies]) => {
    const ranked = replies.filter(({ role, rank }) => role === 'assistant' && rank !== null);
    const prompt = chatTo(parent).map(asMessage);
    return ranked.slice(0, -1).map((reply, i) => ({
      prompt,
      chosen: [asMessage(reply)],
      rejected: [asMessage(ranked[i + 1]!)],
    }));
  });
}

/** Replies by what they answer, best rank first. Throws an Error for a parent that is not there. */
function byParent(rows: readonly OasstMessage[]): Map<string | null, OasstMessage[]> {
  const ids = new Set(rows.map((row) => row.message_id));
  const children = new Map<string | null, OasstMessage[]>();
  for (const row of rows) {
    const { parent_id: parent } = row;
    if (parent !== null && !ids.has(parent)) {
      throw new Error(`Message ${row.message_id} answers ${parent}, which is not in the rows`);
    }
    children.set(parent, [...(children.get(parent) ?? []), row]);
  }
  const place = ({ rank }: OasstMessage) => rank ?? Infinity;
  for (const replies of children.values()) {
    replies.sort((a, b) => (place(a) === place(b) ? 0 : place(a) - place(b)));
  }
  return children;
}

function asMessage({ role, text }: OasstMessage): ChatMessage {
  return { role: role === 'prompter' ? 'user' : role, content: text };
}
