// Who may use the server: a token (in a header, or once in the address, which turns it into cookies), the
// Host and Origin of the request, and for changes by cookie the header X-XSRFToken, as Jupyter Server has it.
// Below JupyterHub the tokens are the hub's, and a browser without a cookie is sent there.
import { createHmac, randomUUID, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { NextFunction, Request, Response } from 'express';
import type { Hub } from './hub.ts';

/** How a request proved itself. */
export type Proof = 'header' | 'query' | 'cookie';

const TRIES_PER_MINUTE = 20;
const HEADERS = {
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
  'X-Frame-Options': 'SAMEORIGIN',
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Resource-Policy': 'same-origin',
};
const LOGIN = `<!doctype html><html lang="en"><title>peftlab</title><h1>The token of this server</h1>
<p>Its address, with the token, was printed where it was started.</p>
<form><label>Token <input name="token" type="password" autofocus></label> <button>Open</button></form></html>`;

/** The checks of one server. */
export class Security {
  private readonly token: string;
  private readonly baseUrl: string;
  private readonly cookieName: string;
  private readonly session: string;
  private readonly xsrf: string;
  private readonly hub: Hub | null;
  /** Cookies of browsers that came by way of the hub, with the token of each. */
  private readonly visitors = new Map<string, string>();
  private failures: number[] = [];

  /** Cookies follow from the token: they outlive the server, if it is started again with the same one. */
  constructor(token: string, port: number, baseUrl: string, hub: Hub | null = null) {
    const derive = (purpose: string) => createHmac('sha256', token).update(purpose).digest('hex');
    this.token = token;
    this.baseUrl = baseUrl;
    this.cookieName = `peftlab-${port}`;
    this.session = derive('session');
    this.xsrf = derive('xsrf');
    this.hub = hub;
  }

  /** Refuses what has no right, and sets the headers of every answer. */
  readonly check = async (
    request: Request,
    response: Response,
    next: NextFunction,
  ): Promise<void> => {
    response.set({ ...HEADERS, 'Content-Security-Policy': contentPolicy(request) });
    const refuse = (message: string, status = 403) =>
      void response.status(status).json({ message });
    // A hub's proxy has a name of its own.
    if (!this.hub && !isLocalHost(request)) {
      return refuse('Blocked: the Host of the request is not this server');
    }
    const proof = await this.proof(request);
    // Who is in already stays in: another site could make a browser guess, to lock its user out.
    if (proof !== 'cookie' && this.isFlooded()) {
      return refuse('Too many wrong tokens; wait a minute', 429);
    }
    if (!proof) {
      const isPage = request.method === 'GET' && request.accepts(['json', 'html']) === 'html';
      if (isPage && this.hub) return this.loginAtHub(this.hub, request, response);
      if (isPage) return void response.status(403).type('html').send(LOGIN);
      return refuse('Forbidden: a token is needed');
    }
    const changes = !['GET', 'HEAD', 'OPTIONS'].includes(request.method);
    if (changes && !isOwnOrigin(request)) return refuse('Blocked: the Origin is another site');
    if (changes && proof === 'cookie' && !isSame(request.get('x-xsrftoken'), this.xsrf)) {
      return refuse("'_xsrf' argument missing");
    }
    if (proof === 'query' && request.accepts(['json', 'html']) === 'html') {
      return this.moveToCookie(request, response);
    }
    next();
  };

  /** The same for a WebSocket; a browser always names its Origin there. */
  async allowsUpgrade(request: IncomingMessage): Promise<boolean> {
    if ((!this.hub && !isLocalHost(request)) || !isOwnOrigin(request)) return false;
    const proof = await this.proof(request);
    return proof === 'cookie' ? request.headers.origin !== undefined : proof !== null;
  }

  private async proof(request: IncomingMessage): Promise<Proof | null> {
    const { authorization = '' } = request.headers;
    const header = /^(?:token|bearer) (.+)$/i.exec(authorization)?.[1];
    if (header !== undefined) return (await this.fits(header)) ? 'header' : null;
    const query = new URL(request.url ?? '/', 'http://localhost').searchParams.get('token');
    if (query) return (await this.fits(query)) ? 'query' : null;
    const cookie = cookies(request)[this.cookieName];
    if (!this.hub) return isSame(cookie, this.session) ? 'cookie' : null;
    const token = this.visitors.get(cookie ?? '');
    return token !== undefined && (await this.hub.allows(token)) ? 'cookie' : null;
  }

  private async fits(token: string): Promise<boolean> {
    const isRight = this.hub ? await this.hub.allows(token) : isSame(token, this.token);
    if (!isRight) this.failures.push(Date.now());
    return isRight;
  }

  private isFlooded(): boolean {
    const since = Date.now() - 60_000;
    this.failures = this.failures.filter((time) => time > since);
    return this.failures.length > TRIES_PER_MINUTE;
  }

  /** The token leaves the address, and with it the history of the browser. */
  private moveToCookie(request: Request, response: Response): void {
    const url = new URL(request.originalUrl, 'http://localhost');
    const token = url.searchParams.get('token')!;
    url.searchParams.delete('token');
    this.setCookies(response, this.hub ? this.visitor(token) : this.session, 'Strict');
    response.redirect(302, `${url.pathname}${url.search}`);
  }

  private setCookies(response: Response, session: string, sameSite: 'Strict' | 'Lax'): void {
    const place = `SameSite=${sameSite}; Path=${this.baseUrl}`;
    response.append('Set-Cookie', `${this.cookieName}=${session}; HttpOnly; ${place}`);
    response.append('Set-Cookie', `_xsrf=${this.xsrf}; ${place}`);
  }

  private visitor(token: string): string {
    const session = randomUUID();
    this.visitors.set(session, token);
    return session;
  }

  /** Sends a browser to the hub, and takes it in when it comes back from there. */
  private async loginAtHub(hub: Hub, request: Request, response: Response): Promise<void> {
    const name = `${this.cookieName}-login`;
    const { pathname, searchParams } = new URL(request.originalUrl, 'http://localhost');
    if (pathname !== `${this.baseUrl}oauth_callback`) {
      const { url, state } = hub.login(request.originalUrl);
      const place = `SameSite=Lax; Path=${this.baseUrl}`;
      response.append('Set-Cookie', `${name}=${state}; HttpOnly; Max-Age=600; ${place}`);
      return response.redirect(302, url);
    }
    const state = searchParams.get('state') ?? '';
    const isOwn = isSame(cookies(request)[name], state);
    const login = isOwn ? await hub.finish(searchParams.get('code') ?? '', state) : null;
    if (!login || !(await hub.allows(login.token))) {
      return void response.status(403).json({ message: 'Forbidden: the hub has not let you in' });
    }
    this.setCookies(response, this.visitor(login.token), 'Lax');
    response.redirect(302, login.next);
  }
}

function contentPolicy(request: IncomingMessage): string {
  const host = request.headers.host ?? 'localhost';
  return [
    "default-src 'self'",
    "script-src 'self'",
    "style-src 'self' 'unsafe-inline'",
    "img-src 'self' data: blob:",
    "font-src 'self' data:",
    `connect-src 'self' ws://${host} wss://${host} data: blob:`,
    "worker-src 'self' blob:",
    "frame-src 'self' blob: data:",
    "object-src 'none'",
    "base-uri 'none'",
    "form-action 'self'",
    "frame-ancestors 'self'",
  ].join('; ');
}

/** Against DNS rebinding: the name by which the browser came must be this machine's own. */
function isLocalHost(request: IncomingMessage): boolean {
  try {
    const { hostname } = new URL(`http://${request.headers.host ?? ''}`);
    return ['localhost', '127.0.0.1', '[::1]'].includes(hostname);
  } catch {
    return false;
  }
}

function isOwnOrigin(request: IncomingMessage): boolean {
  const { origin, host } = request.headers;
  if (origin === undefined) return true;
  try {
    return new URL(origin).host === host;
  } catch {
    return false;
  }
}

function cookies(request: IncomingMessage): Record<string, string> {
  const pairs = (request.headers.cookie ?? '').split(/;\s*/).filter(Boolean);
  return Object.fromEntries(
    pairs.map((pair) => [pair.split('=', 1)[0]!, pair.slice(pair.indexOf('=') + 1)]),
  );
}

/** Compares in a time that does not tell where they differ. */
function isSame(given: string | undefined, wanted: string): boolean {
  const a = createHmac('sha256', 'compare')
    .update(given ?? '')
    .digest();
  const b = createHmac('sha256', 'compare').update(wanted).digest();
  return given !== undefined && timingSafeEqual(a, b);
}
