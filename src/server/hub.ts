// JupyterHub, where it has started this server: its environment variables are those that its own single-user
// server reads. A browser is sent to the hub (OAuth) and comes back with a code for a token; every token is
// shown to the hub, which says what it may do.
import { randomUUID } from 'node:crypto';
import type { Json } from '../kernel/message.ts';

const TRUSTED_MS = 5 * 60_000;
const ACTIVITY_MS = 5 * 60_000;
const MOST_TOKENS = 1000;

/** One hub, as the server that it started sees it. */
export class Hub {
  /** Where to listen. */
  readonly host: string;
  readonly port: number;
  /** Prefix of all paths, `/user/NAME/`. */
  readonly baseUrl: string;
  /** What JupyterLab's page is told, for its menu. */
  readonly page: Json;
  /** The secret that this server shares with the hub. */
  readonly secret: string;
  private readonly env: NodeJS.ProcessEnv;
  private readonly scopes: readonly string[];
  private readonly seen = new Map<string, { isAllowed: boolean; until: number }>();
  private readonly logins = new Map<string, string>();

  /** From the variables `JUPYTERHUB_*`. */
  constructor(env: NodeJS.ProcessEnv) {
    for (const name of ['SERVICE_PREFIX', 'API_URL', 'API_TOKEN', 'CLIENT_ID']) {
      if (!env[`JUPYTERHUB_${name}`]) throw new Error(`JUPYTERHUB_${name} must be set by the hub`);
    }
    const at = new URL(env.JUPYTERHUB_SERVICE_URL ?? 'http://127.0.0.1:8888/');
    this.env = env;
    this.host = at.hostname;
    this.port = Number(at.port);
    this.baseUrl = env.JUPYTERHUB_SERVICE_PREFIX!;
    this.secret = env.JUPYTERHUB_API_TOKEN!;
    this.scopes = JSON.parse(env.JUPYTERHUB_OAUTH_ACCESS_SCOPES ?? '[]') as string[];
    this.page = {
      hubHost: env.JUPYTERHUB_HOST ?? '',
      hubPrefix: this.place(''),
      hubUser: env.JUPYTERHUB_USER ?? '',
      hubServerName: env.JUPYTERHUB_SERVER_NAME ?? '',
    };
  }

  /** Whether the hub says that `token` may use this server; its answer holds for five minutes. */
  async allows(token: string): Promise<boolean> {
    const known = this.seen.get(token);
    if (known && known.until > Date.now()) return known.isAllowed;
    const user = await this.ask('GET', 'user', token);
    if (!user) return false;
    const has = (user.scopes as string[] | undefined) ?? [];
    // A scope without a filter (`!server=...`) holds for all servers.
    const isAllowed = this.scopes.some((scope) =>
      [scope, scope.split('!')[0]!].some((s) => has.includes(s)),
    );
    if (this.seen.size >= MOST_TOKENS) this.seen.clear();
    this.seen.set(token, { isAllowed, until: Date.now() + TRUSTED_MS });
    return isAllowed;
  }

  /** Where a browser is sent that has to say who it is, and the state that it must bring back. */
  login(next: string): { url: string; state: string } {
    const state = randomUUID();
    if (this.logins.size >= MOST_TOKENS) this.logins.clear();
    this.logins.set(state, next);
    const query = new URLSearchParams({
      ...{ client_id: this.env.JUPYTERHUB_CLIENT_ID!, redirect_uri: this.callback() },
      ...{ response_type: 'code', state },
    });
    return { url: `${this.place('api/oauth2/authorize')}?${query}`, state };
  }

  /** The token that `code` stands for and where its browser wanted to go; null if the hub has not sent it. */
  async finish(code: string, state: string): Promise<{ token: string; next: string } | null> {
    const next = this.logins.get(state);
    this.logins.delete(state);
    if (next === undefined) return null;
    const form = new URLSearchParams({
      ...{ client_id: this.env.JUPYTERHUB_CLIENT_ID!, client_secret: this.secret },
      ...{ grant_type: 'authorization_code', code, redirect_uri: this.callback() },
    });
    const answer = await this.ask('POST', 'oauth2/token', null, form);
    return typeof answer?.access_token === 'string' ? { token: answer.access_token, next } : null;
  }

  /** Tells the hub now and then when this server was last used; gives what ends that. */
  reportActivity(lastActivity: () => Date): () => void {
    const url = this.env.JUPYTERHUB_ACTIVITY_URL;
    const report = async (): Promise<void> => {
      const last_activity = lastActivity().toISOString();
      const servers = { [this.env.JUPYTERHUB_SERVER_NAME ?? '']: { last_activity } };
      const body = JSON.stringify({ servers, last_activity });
      const headers = { Authorization: `token ${this.secret}` };
      await fetch(url!, { method: 'POST', headers, body }).catch(() => {});
    };
    const timer = url ? setInterval(report, ACTIVITY_MS).unref() : undefined;
    return () => clearInterval(timer);
  }

  private async ask(
    method: string,
    path: string,
    token: string | null,
    body?: URLSearchParams,
  ): Promise<Json | null> {
    const headers: Record<string, string> = token ? { Authorization: `token ${token}` } : {};
    const url = `${this.env.JUPYTERHUB_API_URL}/${path}`;
    try {
      const answer = await fetch(url, { method, headers, ...(body ? { body } : {}) });
      return answer.ok ? ((await answer.json()) as Json) : null;
    } catch {
      return null;
    }
  }

  /** A path of the hub itself. */
  private place(path: string): string {
    const { JUPYTERHUB_HOST: host = '', JUPYTERHUB_BASE_URL: base = '/' } = this.env;
    return `${host}${base}hub/${path}`;
  }

  private callback(): string {
    return this.env.JUPYTERHUB_OAUTH_CALLBACK_URL ?? `${this.baseUrl}oauth_callback`;
  }
}
