// A real `fathom serve` for tests, with a tiny made-up model: its words mean nothing, everything else is real.
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

async function freePort() {
  const probe = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => probe.once('listening', resolve));
  const { port } = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  return port;
}

/** Why there is no server to test, or ''. */
export function obstacle(binary) {
  if (!binary) return 'FATHOM_BINARY does not name the program';
  try {
    const commands = execFileSync(binary, ['--help'], { stdio: 'pipe', encoding: 'utf8' });
    return /^\s+serve\s/m.test(commands) ? '' : `${binary} has no serve`;
  } catch (error) {
    return error.code === 'ENOENT' ? `${binary} is not there` : `${binary} does not run: ${error.message}`;
  }
}

export class Serve {
  constructor(binary) {
    this.binary = binary;
    this.folder = mkdtempSync(join(tmpdir(), 'fathom-serve-'));
    this.env = { ...process.env, XDG_DATA_HOME: this.folder, XDG_CACHE_HOME: this.folder, XDG_CONFIG_HOME: this.folder };
    this.model = process.env.FATHOM_TEST_MODEL;
    if (!this.model) {
      this.model = join(this.folder, 'tiny.gguf');
      execFileSync(binary, ['synth', '--config', process.env.FATHOM_TEST_SYNTH ?? 'tiny', '--seed', '1', '-o', this.model],
                   { stdio: 'pipe', env: this.env });
    }
  }

  async start(...options) {
    const port = await freePort();
    this.log = '';
    this.process = spawn(this.binary, ['serve', '-m', this.model, '--port', String(port), ...options],
                         { stdio: ['ignore', 'pipe', 'pipe'], env: this.env });
    const ended = new Promise((resolve) => this.process.once('exit', resolve));
    this.ended = ended;
    this.process.stderr.on('data', (text) => { this.log += text; });
    let said = '';
    const ready = new Promise((resolve) => this.process.stdout.on('data', (text) => {
      said += text;
      const found = /listening on (http:\S+)/.exec(said);
      if (found) resolve(found[1]);
    }));
    const late = new Promise((resolve) => setTimeout(resolve, 60_000, undefined).unref());
    const url = await Promise.race([ready, ended.then(() => undefined), late]);
    if (!url) {
      this.process.kill('SIGKILL');
      throw new Error(`fathom serve did not come up: ${said}${this.log.slice(-3000)}`);
    }
    this.url = url.endsWith('/') ? url : `${url}/`;
    return this;
  }

  /** Ends the server; what its cache has on disk stays for the next start(). */
  async stop(signal = 'SIGTERM') {
    this.process?.kill(signal);
    const late = setTimeout(() => this.process.kill('SIGKILL'), 20_000);
    await this.ended;
    clearTimeout(late);
    return this.process.exitCode;
  }

  async close() {
    if (this.process && this.process.exitCode === null) await this.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
