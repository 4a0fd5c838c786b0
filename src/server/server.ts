// Jupyter Server's REST and WebSocket API for one folder, with JupyterLab's page: what `npm start` runs.
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import express, { type Express, type NextFunction, type Request, type Response } from 'express';
import { WebSocketServer } from 'ws';
import { PACKAGE_ROOT } from '../lab/extensions.ts';
import { NotebookError } from '../notebook/nbformat.ts';
import { Contents, ContentsError } from './contents.ts';
import { contentsRoutes } from './contents-routes.ts';
import { V1 } from './frames.ts';
import type { Hub } from './hub.ts';
import { kernelRoutes } from './kernel-routes.ts';
import { Kernels } from './kernels.ts';
import { labRoutes } from './lab-routes.ts';
import { Security } from './security.ts';
import { Trust } from './trust.ts';

/** Options of `startServer`. */
export interface ServerOptions {
  /** Folder to serve. */
  root: string;
  /** Folder of JupyterLab's bundle (lab/bundle.ts). */
  bundle: string;
  /** Default: any free port. */
  port?: number;
  /** Default: a new one of 192 bits. */
  token?: string;
  /** Prefix of all paths, for a proxy. Default `/`. */
  baseUrl?: string;
  /** The JupyterHub that started this server: port, token and prefix are its own then. */
  hub?: Hub;
  /** A kernel that no page is connected to is ended after so long without work. Default 2 hours. */
  cullIdleMs?: number;
}

/** A server that runs. */
export interface LabServer {
  port: number;
  /** Address with the token. */
  url: string;
  /** Ends all kernels and the server. */
  close(): Promise<void>;
}

const MOST_BYTES = 500_000_000;
const CULL_IDLE_MS = 2 * 3600_000;

/** Starts a server on 127.0.0.1, or where its hub wants it. */
export async function startServer(options: ServerOptions): Promise<LabServer> {
  const { root, bundle, hub, cullIdleMs = CULL_IDLE_MS } = options;
  const { port = 0, token = randomBytes(24).toString('hex') } = hub
    ? { port: hub.port, token: hub.secret }
    : options;
  const baseUrl = `/${hub?.baseUrl ?? options.baseUrl ?? ''}/`.replace(/\/+/g, '/');
  const { version } = JSON.parse(readFileSync(join(PACKAGE_ROOT, 'package.json'), 'utf8')) as {
    version: string;
  };
  const contents = new Contents(root, new Trust());
  const kernels = new Kernels(contents, cullIdleMs);
  const http = createServer();
  await listen(http, port, hub?.host ?? '127.0.0.1');
  const { port: own } = http.address() as AddressInfo;
  const security = new Security(token, own, baseUrl, hub);
  const endReports = hub?.reportActivity(() => kernels.lastActivity());
  const app = express().disable('x-powered-by').set('query parser', 'simple');
  const router = express.Router();
  // JupyterLab sends its JSON as text/plain.
  router.use(express.json({ limit: MOST_BYTES, strict: false, type: () => true }));
  router.use(statusRoutes(kernels, version));
  router.use(labRoutes({ bundle, baseUrl, root: contents.root, version, page: hub?.page ?? {} }));
  router.use(kernelRoutes(kernels, baseUrl));
  router.use(contentsRoutes(contents));
  app.use(security.check);
  app.use(baseUrl, router);
  answerErrors(app);
  http.on('request', app);
  http.on('upgrade', upgrader(kernels, security, baseUrl));
  const close = async (): Promise<void> => {
    endReports?.();
    http.close();
    await kernels.close();
    http.closeAllConnections();
  };
  return { port: own, url: `http://127.0.0.1:${own}${baseUrl}lab?token=${token}`, close };
}

function listen(server: Server, port: number, host: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const isTaken = error.code === 'EADDRINUSE';
      reject(isTaken ? new Error(`Port ${port} is in use; choose another with --port`) : error);
    });
    server.listen(port, host, resolve);
  });
}

function statusRoutes(kernels: Kernels, version: string) {
  const router = express.Router();
  const started = new Date().toISOString();
  router.get(
    '/api',
    (_request, response) => void response.json({ version: '2.17.0', peftlab: version }),
  );
  router.get('/api/status', (_request, response) => {
    const all = kernels.all();
    const connections = all.reduce((sum, kernel) => sum + kernel.connections, 0);
    const last_activity = kernels.lastActivity().toISOString();
    response.json({ started, last_activity, connections, kernels: all.length });
  });
  router.get('/api/me', (_request, response) => {
    const names = { username: 'learner', name: 'Learner', display_name: 'Learner', initials: 'L' };
    response.json({ identity: { ...names, avatar_url: null, color: null }, permissions: {} });
  });
  router.get('/api/terminals', (_request, response) => void response.json([]));
  router.all('/api/config/:section', (_request, response) => void response.json({}));
  return router;
}

function answerErrors(app: Express): void {
  app.use((request: Request, response: Response) => {
    response.status(404).json({ message: `Not found: ${request.path}` });
  });
  app.use((error: Error, _request: Request, response: Response, _next: NextFunction) => {
    const { status = 500 } = error as { status?: number };
    const isOurs = error instanceof ContentsError || error instanceof NotebookError;
    const shown = error instanceof NotebookError ? 400 : status;
    if (!isOurs && shown >= 500) process.stderr.write(`${error.stack}\n`);
    if (!response.headersSent)
      response.status(shown).json({ message: error.message, reason: null });
  });
}

/** Takes WebSockets of kernels. */
function upgrader(kernels: Kernels, security: Security, baseUrl: string) {
  const sockets = new WebSocketServer({
    noServer: true,
    maxPayload: MOST_BYTES,
    handleProtocols: (protocols) => (protocols.has(V1) ? V1 : false),
  });
  return async (request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> => {
    const refuse = (status: string) =>
      void socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\n\r\n`);
    socket.on('error', () => {});
    if (!(await security.allowsUpgrade(request))) return refuse('403 Forbidden');
    const { pathname, searchParams } = new URL(request.url ?? '/', 'http://localhost');
    const path = pathname.slice(baseUrl.length);
    const id = /^api\/kernels\/([^/]+)\/channels$/.exec(path)?.[1];
    const isKnown = id !== undefined && kernels.all().some((kernel) => kernel.id === id);
    if (!isKnown && path !== 'api/events/subscribe') return refuse('404 Not Found');
    sockets.handleUpgrade(request, socket, head, (client) => {
      if (id) kernels.connect(id, searchParams.get('session_id') ?? '', client);
    });
  };
}
