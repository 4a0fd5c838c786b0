// JupyterLab's own API below /lab: the page, the bundle, settings, themes, workspaces, translations.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import express, { type Router } from 'express';
import JSON5 from 'json5';
import type { Json } from '../kernel/message.ts';
import { JsonFile } from './data-folder.ts';
import { pageHtml } from './page.ts';

/** What the routes need. */
export interface LabRoutesOptions {
  /** Folder of the bundle (lab/bundle.ts). */
  bundle: string;
  baseUrl: string;
  root: string;
  version: string;
  /** More of the page's configuration. */
  page: Json;
}

interface Setting {
  raw: string;
  created: string;
  last_modified: string;
}

interface Workspace {
  data: Json;
  metadata: Json;
}

/** All routes of /lab and /static/lab. */
export function labRoutes({ bundle, baseUrl, root, version, page }: LabRoutesOptions): Router {
  const router = express.Router();
  router.use('/static/lab', express.static(join(bundle, 'static'), { maxAge: '1h' }));
  router.use('/lab/api/themes', express.static(join(bundle, 'themes')));
  router.get(['/', '/tree'], (_request, response) => response.redirect(`${baseUrl}lab`));
  router.get(/^\/lab(?:\/workspaces\/([^/]+))?(?:\/tree(?:\/(.*))?)?\/?$/, (request, response) => {
    const { 0: workspace = 'default', 1: treePath = '' } = request.params as Record<string, string>;
    response.set('Cache-Control', 'no-store').type('html');
    response.send(pageHtml({ baseUrl, version, root, workspace, treePath, page }));
  });
  settingRoutes(router, bundle);
  workspaceRoutes(router);
  router.get('/lab/api/translations', (_request, response) => {
    response.json({ data: { en: { displayName: 'English', nativeName: 'English' } }, message: '' });
  });
  router.get(/^\/lab\/api\/translations\/.*$/, (_request, response) => {
    response.json({ data: {}, message: '' });
  });
  return router;
}

function settingRoutes(router: Router, bundle: string): void {
  const schemas = JSON.parse(readFileSync(join(bundle, 'schemas.json'), 'utf8')) as Record<
    string,
    { version: string; schema: Json }
  >;
  const stored = new JsonFile<Setting>('settings.json');
  const model = (id: string): Json => {
    const { raw = '{}', created = null, last_modified = null } = stored.all()[id] ?? {};
    return { id, ...schemas[id], raw, settings: parse(raw), created, last_modified, warning: null };
  };
  router.get('/lab/api/settings', (request, response) => {
    const ids = Object.keys(schemas);
    const settings = request.query.ids_only === 'true' ? ids.map((id) => ({ id })) : ids.map(model);
    response.json({ settings, warnings: [] });
  });
  router.all(/^\/lab\/api\/settings\/(.+)$/, (request, response) => {
    const id = (request.params as Record<string, string>)[0]!;
    if (!schemas[id]) return void response.status(404).json({ message: `No settings of ${id}` });
    if (request.method === 'GET') return void response.json(model(id));
    const now = new Date().toISOString();
    const { raw = '{}' } = (request.body ?? {}) as { raw?: string };
    stored.set(id, { raw, created: stored.all()[id]?.created ?? now, last_modified: now });
    response.status(204).end();
  });
}

function workspaceRoutes(router: Router): void {
  const stored = new JsonFile<Workspace>('workspaces.json');
  router.get('/lab/api/workspaces', (_request, response) => {
    const all = stored.all();
    response.json({ workspaces: { ids: Object.keys(all), values: Object.values(all) } });
  });
  router.all('/lab/api/workspaces/:id', (request, response) => {
    const id = String(request.params.id);
    const known = stored.all()[id];
    if (request.method === 'GET') {
      return void response.json(known ?? { data: {}, metadata: { id } });
    }
    if (request.method === 'DELETE') stored.set(id, undefined);
    else {
      const { data = {}, metadata = {} } = request.body as Partial<Workspace>;
      const now = new Date().toISOString();
      const created = known?.metadata.created ?? now;
      stored.set(id, { data, metadata: { ...metadata, id, created, last_modified: now } });
    }
    response.status(204).end();
  });
}

/** Settings as the user wrote them: JSON with comments. */
function parse(raw: string): unknown {
  try {
    return JSON5.parse(raw);
  } catch {
    return {};
  }
}
