// Real clients from npm against a real `fathom serve`: FATHOM_BINARY=…/fathom node tests/clients/run.mjs
//
// Installs the clients where they are missing (the versions of package-lock.json, no install scripts). Without npm or a
// network, or with FATHOM_TEST_OFFLINE=1, it says so and ends with status 77, which ctest counts as skipped.
import { spawnSync } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { obstacle } from '../../webui/tests/serve.mjs';

const here = dirname(fileURLToPath(import.meta.url));

function skip(why) {
  console.log(`skipped: ${why}`);
  process.exit(77);
}

const why = obstacle(process.env.FATHOM_BINARY);
if (why) skip(why);

const [major, minor] = process.versions.node.split('.').map(Number);
if (major < 20 || (major === 20 && minor < 19)) skip(`node is ${process.versions.node}, and 20.19 is needed`);

const installed = join(here, 'node_modules', '.package-lock.json');
if (!existsSync(installed) || statSync(installed).mtimeMs < statSync(join(here, 'package-lock.json')).mtimeMs) {
  if (process.env.FATHOM_TEST_OFFLINE) skip('the clients are not installed (npm ci in tests/clients/)');
  const npm = spawnSync('npm', ['ci', '--prefer-offline', '--include=dev', '--ignore-scripts', '--no-audit', '--no-fund', '--fetch-retries=1',
                                '--fetch-retry-mintimeout=1000', '--fetch-timeout=20000'], { cwd: here, encoding: 'utf8', timeout: 240_000 });
  if (npm.status !== 0) skip(`npm could not install the clients: ${(npm.stderr ?? String(npm.error)).trim().split('\n')[0]}`);
}

const files = process.argv.slice(2).length ? process.argv.slice(2) : ['openai.test.mjs', 'ai_sdk.test.mjs', 'anthropic.test.mjs'];
const run = spawnSync(process.execPath, ['--test', '--test-concurrency=1', ...files.map((file) => join(here, file))], { stdio: 'inherit' });
process.exit(run.status ?? 1);
