// /api/contents, the files themselves below /files, and notebooks as HTML below /nbconvert/html.
import { basename } from 'node:path';
import express, { type Request, type Response, type Router } from 'express';
import type { Json } from '../kernel/message.ts';
import { readNotebook } from '../notebook/nbformat.ts';
import { notebookToHtml } from '../notebook/report.ts';
import { type Contents, ContentsError } from './contents.ts';

const PATH = /^\/api\/contents\/?(.*?)(\/checkpoints(?:\/[^/]+)?)?$/;
// Reports hold scripts of their own; without an origin they can't reach this server.
const CONTENT = "default-src 'unsafe-inline' data: blob:";
const SANDBOX = `sandbox allow-scripts; ${CONTENT}`;
/** The same for a report that prints itself: the dialog counts as a modal window. */
const PRINTING = `sandbox allow-scripts allow-modals; ${CONTENT}`;

/** The routes of files. */
export function contentsRoutes(contents: Contents): Router {
  const router = express.Router();
  router.all(PATH, (request, response) => {
    const { 0: path = '', 1: checkpoint } = request.params as Record<string, string | undefined>;
    if (checkpoint) answerCheckpoint(contents, path, checkpoint, request, response);
    else answerFile(contents, path, request, response);
  });
  router.get(/^\/files\/(.+)$/, (request, response) => {
    const path = (request.params as Record<string, string>)[0]!;
    response.set('Content-Security-Policy', SANDBOX);
    response.sendFile(contents.place(path), { dotfiles: 'deny' });
  });
  router.get('/api/nbconvert', (_request, response) => {
    response.json({ html: { output_mimetype: 'text/html' } });
  });
  router.get(/^\/nbconvert\/html\/(.+)$/, async (request, response) => {
    const path = (request.params as Record<string, string>)[0]!;
    const name = basename(path, '.ipynb');
    const html = await notebookToHtml(readNotebook(contents.place(path)), name);
    const sandbox = 'print' in request.query ? PRINTING : SANDBOX;
    response.set('Content-Security-Policy', sandbox).type('html');
    if (request.query.download === 'true') response.attachment(`${name}.html`);
    response.send(html);
  });
  return router;
}

function answerFile(contents: Contents, path: string, request: Request, response: Response): void {
  const body = (request.body ?? {}) as Json;
  const { content, type, format } = request.query as Record<string, string | undefined>;
  switch (request.method) {
    case 'GET':
      return void response.json(contents.read(path, { content: content !== '0', type, format }));
    case 'PUT':
      return void response.json(contents.save(path, body));
    case 'POST':
      return void response
        .status(201)
        .json(
          typeof body.copy_from === 'string'
            ? contents.copy(body.copy_from, path)
            : contents.create(path, body),
        );
    case 'PATCH':
      return void response.json(contents.rename(path, String(body.path)));
    case 'DELETE':
      contents.remove(path);
      return void response.status(204).end();
    default:
      throw new ContentsError(405, `No ${request.method} on files`);
  }
}

function answerCheckpoint(
  contents: Contents,
  path: string,
  checkpoint: string,
  request: Request,
  response: Response,
): void {
  const isOne = checkpoint !== '/checkpoints';
  if (request.method === 'GET') return void response.json(contents.checkpoints(path));
  if (request.method === 'POST' && !isOne) {
    return void response.status(201).json(contents.checkpoint(path));
  }
  if (request.method === 'POST') contents.restore(path);
  else if (request.method === 'DELETE') contents.removeCheckpoint(path);
  else throw new ContentsError(405, `No ${request.method} on checkpoints`);
  response.status(204).end();
}
