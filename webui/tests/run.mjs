// Runs the page's tests, or says why not and ends with status 77, which ctest counts as skipped.
//   node tests/run.mjs            all of them; FATHOM_BINARY=…/fathom adds the real server, with a tiny made-up model
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromiumPath } from './browser.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, '..');

function skip(why) {
  console.log(`skipped: ${why}`);
  process.exit(77);
}

if (!chromiumPath()) skip('Chromium is not installed (apt-get install chromium, or FATHOM_CHROMIUM=PATH)');
for (const name of ['playwright-core', 'vite', 'marked']) {
  if (!existsSync(join(root, 'node_modules', name))) skip(`webui/node_modules has no ${name} (npm ci in webui/)`);
}

const files = process.argv.slice(2).length ? process.argv.slice(2) : ['pure.test.mjs', 'page.test.mjs', 'serve.test.mjs'];
const run = spawnSync(process.execPath, ['--test', '--test-concurrency=1', ...files.map((file) => join(here, file))],
                      { stdio: 'inherit', cwd: root });
process.exit(run.status ?? 1);
