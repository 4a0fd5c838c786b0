// /api/kernelspecs, /api/kernels and /api/sessions, as Jupyter Server has them.
import express, { type Router } from 'express';
import { KERNEL_NAME, kernelspec } from '../kernel/kernelspec.ts';
import { LOGO_SVG } from '../kernel/logo.ts';
import { type Kernels, type SessionRequest, sessionModel } from './kernels.ts';

/** The routes of kernels and sessions. */
export function kernelRoutes(kernels: Kernels, baseUrl: string): Router {
  const router = express.Router();
  specRoutes(router, baseUrl);
  router.get('/api/kernels', (_request, response) => {
    response.json(kernels.all().map((kernel) => kernel.model()));
  });
  router.post('/api/kernels', async (request, response) => {
    const { name, path } = (request.body ?? {}) as Pick<SessionRequest, 'path'> & { name?: string };
    const kernel = await kernels.start(name, path ?? '');
    response.status(201).location(`${baseUrl}api/kernels/${kernel.id}`).json(kernel.model());
  });
  router.get('/api/kernels/:id', (request, response) => {
    response.json(kernels.get(request.params.id).model());
  });
  router.delete('/api/kernels/:id', async (request, response) => {
    await kernels.remove(request.params.id);
    response.status(204).end();
  });
  router.post('/api/kernels/:id/interrupt', async (request, response) => {
    await kernels.get(request.params.id).interrupt();
    response.status(204).end();
  });
  router.post('/api/kernels/:id/restart', async (request, response) => {
    const kernel = kernels.get(request.params.id);
    await kernel.restart();
    response.json(kernel.model());
  });
  sessionRoutes(router, kernels);
  return router;
}

function specRoutes(router: Router, baseUrl: string): void {
  const resources = { 'logo-svg': `${baseUrl}kernelspecs/${KERNEL_NAME}/logo-svg.svg` };
  const model = { name: KERNEL_NAME, spec: kernelspec(), resources };
  router.get('/api/kernelspecs', (_request, response) => {
    response.json({ default: KERNEL_NAME, kernelspecs: { [KERNEL_NAME]: model } });
  });
  router.get('/api/kernelspecs/:name', (request, response) => {
    if (request.params.name === KERNEL_NAME) response.json(model);
    else response.status(404).json({ message: `No kernelspec ${request.params.name}` });
  });
  router.get(`/kernelspecs/${KERNEL_NAME}/logo-svg.svg`, (_request, response) => {
    response.type('svg').send(LOGO_SVG);
  });
}

function sessionRoutes(router: Router, kernels: Kernels): void {
  router.get('/api/sessions', (_request, response) => {
    response.json([...kernels.sessions.values()].map(sessionModel));
  });
  router.post('/api/sessions', async (request, response) => {
    response.status(201).json(sessionModel(await kernels.open(request.body as SessionRequest)));
  });
  router.get('/api/sessions/:id', (request, response) => {
    response.json(sessionModel(kernels.session(request.params.id)));
  });
  router.patch('/api/sessions/:id', async (request, response) => {
    const changed = await kernels.change(request.params.id, request.body as SessionRequest);
    response.json(sessionModel(changed));
  });
  router.delete('/api/sessions/:id', async (request, response) => {
    await kernels.remove(kernels.session(request.params.id).kernel.id);
    response.status(204).end();
  });
}
