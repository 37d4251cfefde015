import { spawn } from 'node:child_process'

/** A running simulator that is not ours: VMware's `vcsim`, or `vcsim-lite` of scripts/peers/. Stopped when disposed. */
export interface Vcsim extends AsyncDisposable {
  /** `https://127.0.0.1:PORT/sdk`, without the login. */
  readonly url: string
  readonly port: number
  readonly user: string
  readonly password: string
}

/** Starts the simulator at `path` on a free port; resolves once it serves. It also ends by itself when this process does. */
export async function startVcsim(path: string, ...args: readonly string[]): Promise<Vcsim> {
  const stopWithUs = path.endsWith('vcsim-lite') ? '-stdin' : '-stdinexit'
  const child = spawn(path, ['-l', '127.0.0.1:0', stopWithUs, ...args], { stdio: ['pipe', 'pipe', 'pipe'] })
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()))
  let said = ''
  const url = await new Promise<URL>((resolve, reject) => {
    const onText = (text: string): void => {
      said += text
      const found = /https:\/\/[^\s]+\/sdk(?=\s)/.exec(said)
      if (found !== null) resolve(new URL(found[0]))
    }
    child.stdout.setEncoding('utf8').on('data', onText)
    child.stderr.setEncoding('utf8').on('data', onText)
    child.once('error', reject)
    child.once('close', (status) => reject(new Error(`${path} ended with ${status}: ${said}`)))
  })
  return {
    url: `https://${url.host}/sdk`,
    port: Number(url.port),
    user: decodeURIComponent(url.username),
    password: decodeURIComponent(url.password),
    [Symbol.asyncDispose]: async () => {
      child.kill('SIGTERM')
      await ended
    },
  }
}
