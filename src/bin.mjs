#!/usr/bin/env node
// The `peftlab` command: TypeScript sources run as they are, through tsx.
import { register } from 'tsx/esm/api';

register();
await import('./cli.ts');
