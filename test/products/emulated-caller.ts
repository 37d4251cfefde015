import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { INTEGRATIONS, type Module } from './module.ts'
import type { StandIn } from './stand-in.ts'

export const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`

/**
 * One job of a product as its documentation (module.json) says: a process that bears the product's name, calls the scripts with the
 * product's arguments, environment, directory, umask and time limit, and calls the after script only where the product does. In between
 * it "backs up" until it is told how that ended.
 */
export class EmulatedJob {
  readonly #place: string
  readonly #child: ChildProcess
  readonly #ended: Promise<number | NodeJS.Signals>

  constructor(
    module: Module,
    world: Pick<StandIn, 'directory' | 'settings' | 'mountOf'>,
    vm: string,
    run: string,
    asked: { readonly post?: 'never' | 'twice'; readonly limit?: false } = {},
  ) {
    this.#place = join(world.directory, `job-${run}`)
    mkdirSync(this.#place)
    const name = module.owners.find((owner) => owner !== 'parent') ?? `${module.product}-job`
    const program = join(this.#place, name)
    const { calls } = module
    const fill = (text: string): string => text.replaceAll('@VM@', vm).replaceAll('@RUN@', run).replaceAll('@DIR@', world.mountOf(vm))
    const call = (which: 'pre' | 'post'): string => {
      const script = join(INTEGRATIONS, module.product, calls.program ?? `${which}-backup`)
      const environment = { ...calls.environment, VCB_SCRIPTS_CONF: world.settings }
      return [
        'env',
        ...(calls.emptyEnvironment ? ['-i', 'PATH=/usr/bin:/bin'] : []),
        ...Object.entries(environment).map(([key, value]) => quoted(`${key}=${fill(value)}`)),
        ...(calls.seconds > 0 && asked.limit !== false ? ['timeout', `${calls.seconds}`] : []),
        quoted(script),
        ...calls[which].map((argument) => quoted(fill(argument))),
        `</dev/null >>${quoted(join(this.#place, `${which}.out`))} 2>>${quoted(join(this.#place, `${which}.err`))}`,
      ].join(' ')
    }
    const after = (when: 'success' | 'failure' | 'cancel'): string =>
      asked.post !== 'never' && calls.postAfter.includes(when) ? (asked.post === 'twice' ? 'post; post' : 'post') : ':'
    writeFileSync(
      program,
      `#!/bin/sh
# An emulated ${module.title}.
umask ${calls.umask}
cd ${quoted(this.#place)}
ended=0
post() {
  (cd ${quoted(calls.directory)}; ${call('post')})
  status=$?
  echo "post $status" >>log
  [ $status = 0 ] || ended=1
}
${calls.postAfter.includes('cancel') ? `trap '${after('cancel')}; exit 143' TERM` : ''}
(cd ${quoted(calls.directory)}; exec ${call('pre')})
status=$?
echo "pre $status" >>log
if [ $status != 0 ]; then
  ended=1
  ${calls.afterFailedPre === 'stop' ? 'exit 1' : calls.afterFailedPre === 'post' ? `${after('failure')}; exit 1` : ''}
fi
until [ -e told ]; do sleep 0.05; done
if [ "$(cat told)" = 0 ]; then ${after('success')}; else ended=1; ${after('failure')}; fi
exit $ended
`,
      { mode: 0o755 },
    )
    this.#child = spawn(program, [], { stdio: 'ignore' })
    this.#ended = once(this.#child, 'exit').then(([code, signal]) => (code ?? signal) as number | NodeJS.Signals)
  }

  /** `pre 0`, `post 9`, … in the order of the calls. */
  log(): readonly string[] {
    const file = join(this.#place, 'log')
    return existsSync(file) ? (readFileSync(file, 'utf8').match(/.+(?=\n)/g) ?? []) : []
  }

  output(which: 'pre.out' | 'pre.err' | 'post.out' | 'post.err'): string {
    const file = join(this.#place, which)
    return existsSync(file) ? readFileSync(file, 'utf8') : ''
  }

  /** Ends the backing up, well or badly. */
  tell(result: 'success' | 'failure'): void {
    writeFileSync(join(this.#place, 'told'), result === 'success' ? '0' : '1')
  }

  signal(signal: 'SIGTERM' | 'SIGKILL'): void {
    this.#child.kill(signal)
  }

  ended(): Promise<number | NodeJS.Signals> {
    return this.#ended
  }
}
