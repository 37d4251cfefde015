import { type Abortable, AgentError } from '../core/index.ts'
import type { SshConnection } from '../ssh/index.ts'
import type { GuestShell, ScriptCommand, ScriptEnd } from './guest-shell.ts'

/** A command may take this much longer than what it waits for, ms. */
const GRACE_MS = 30_000
/** Exit status of our own lines for: its time was over. No script of a sane author ends with it. */
const TIMED_OUT = 253

/**
 * Runs `$1 $2` with its outputs in `$3` and `$4`, its pid in `$3.pid`; ends it after `$5` seconds. The script is a child, so that the time is kept by the guest
 * too, should this proxy or the network die. Our own trap is set after the timer is started: a signal that reaches a subshell of dash before it has dropped
 * its parent's trap is lost.
 */
const RUN = `umask 077
"$1" "$2" </dev/null >"$3" 2>"$4" & child=$!
echo "$child" >"$3.pid"
( s=; trap 'kill $s 2>/dev/null; exit' TERM; sleep "$5" & s=$!; wait "$s"; : >"$3.late"; kill "$child" 2>/dev/null ) >/dev/null 2>&1 </dev/null & timer=$!
trap 'kill "$child" 2>/dev/null' HUP TERM INT
wait "$child"; code=$?
kill "$timer" 2>/dev/null
if [ -e "$3.late" ]; then rm -f "$3.late" "$3.pid"; exit ${TIMED_OUT}; fi
rm -f "$3.pid"; exit "$code"`

/** Waits until the script that writes `$1` has ended, `$2` seconds at most; then it is ended. */
const WAIT = `n=0
while [ -e "$1.pid" ] && kill -0 "$(cat "$1.pid")" 2>/dev/null; do
  if [ "$n" -ge "$2" ]; then kill "$(cat "$1.pid")" 2>/dev/null; rm -f "$1.pid"; exit ${TIMED_OUT}; fi
  n=$((n+1)); sleep 1
done
rm -f "$1.pid"`

const END = `if [ -e "$1.pid" ]; then kill "$(cat "$1.pid")" 2>/dev/null; fi; :`

/** Scripts through the guest's own SSH server: any guest with a POSIX shell, VMware Tools or not. */
export function sshShell(connect: (options?: Abortable) => Promise<SshConnection>, subject: string): GuestShell {
  const shell = (script: string, ...words: readonly string[]): readonly string[] => ['/bin/sh', '-c', script, 'sh', ...words]
  const changes = (what: string) => ({ kind: 'process', what, on: subject }) as const

  const run = async (
    what: string,
    words: readonly string[],
    out: string,
    options: Parameters<GuestShell['run']>[1],
  ): Promise<ScriptEnd> => {
    const connection = await connect(options)
    options.onStart?.()
    try {
      const { status } = await connection.run(words, {
        signal: options.signal,
        limitMs: options.limitMs + GRACE_MS,
        changes: changes(what),
      })
      return status === TIMED_OUT ? { exitCode: undefined, timedOut: true } : { exitCode: status, timedOut: false }
    } catch (error) {
      // The channel's end alone does not end what runs in the guest.
      if (options.signal?.aborted === true) await (await connect()).run(shell(END, out), { changes: changes('end of a guest script') })
      throw error
    }
  }

  return {
    directory: '/var/tmp',
    run: ({ path, argument, out, err }: ScriptCommand, options) => {
      const seconds = String(Math.max(1, Math.ceil(options.limitMs / 1000)))
      return run('guest script', shell(RUN, path, argument, out, err, seconds), out, options)
    },
    async wait({ out }, options) {
      const { timedOut } = await run('wait', shell(WAIT, out, String(Math.max(1, Math.ceil(options.limitMs / 1000)))), out, options)
      return { exitCode: undefined, timedOut }
    },
    async exists(path, options) {
      const { status } = await (await connect(options)).run(shell('[ -e "$1" ]', path), { signal: options?.signal })
      return status === 0
    },
    async read(path, most, options) {
      const line = '[ -e "$1" ] || exit 3; wc -c <"$1"; head -c "$2" "$1" | od -An -v -tx1'
      const { status, stdout, stderr } = await (await connect(options)).run(shell(line, path, String(most)), { signal: options?.signal })
      if (status === 3) return undefined
      if (status !== 0)
        throw new AgentError('UNAVAILABLE', `${path} in the guest of ${subject} cannot be read: ${stderr.trim().slice(0, 200)}.`, {
          subject,
        })
      const end = stdout.indexOf('\n')
      return { size: Number(stdout.slice(0, end).trim()), bytes: Buffer.from(stdout.slice(end).replaceAll(/\s+/g, ''), 'hex') }
    },
    async remove(path, options) {
      await (await connect(options)).run(['rm', '-f', path, `${path}.pid`, `${path}.late`], {
        signal: options?.signal,
        changes: changes('rm'),
      })
    },
  }
}
