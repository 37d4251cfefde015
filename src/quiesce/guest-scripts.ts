import {
  type Abortable,
  AgentError,
  type ClaimId,
  type Clock,
  type Log,
  type ScriptPair,
  throwIfAborted,
  toAgentError,
} from '../core/index.ts'
import type { Vsphere } from '../vsphere/index.ts'
import type { GuestShell, ScriptCommand, ScriptEnd } from './guest-shell.ts'

/** Scripts of some VMs, as configured. */
export type ScriptRule = {
  /** Tells it apart in the journal: its patterns. */
  readonly name: string
  readonly matches: (vmName: string) => boolean
  readonly via: 'guest-operations' | 'ssh'
  readonly preFreeze: string
  readonly postThaw: string
  /** Each script may run for so long, ms. */
  readonly timeoutMs: number
  /** A pre-freeze script that fails: `require` ends the backup, `try` goes on and says so. Follows --quiesce when absent. */
  readonly policy: 'require' | 'try' | undefined
  /** Who logs in; empty where the way itself knows. */
  readonly user: string
}

/** One run of one script, as it is kept with the restore point. Output is cut after `OUTPUT_BYTES` of each stream. */
export type ScriptReport = {
  readonly script: string
  readonly argument: 'freeze' | 'thaw' | 'freezeFail'
  readonly via: string
  readonly startedAt: string
  readonly ms: number
  readonly exitCode?: number | undefined
  readonly timedOut?: true | undefined
  /** Why it could not be run, or nothing more is known. */
  readonly error?: string | undefined
  readonly stdout: string
  readonly stderr: string
  /** Bytes each stream had. */
  readonly stdoutBytes: number
  readonly stderrBytes: number
}

/** A script did not do its work. The quiescer neither repeats it nor takes it for a fault of VMware Tools. */
export class GuestScriptError extends AgentError {}

/** What is kept of each stream, bytes. */
const OUTPUT_BYTES = 64 * 1024
/** A start whose answer was lost shows within this, ms. */
const IN_DOUBT_MS = 1_000

export type GuestScriptsDeps = {
  readonly clock: Clock
  readonly log: Log
  readonly rules: readonly ScriptRule[]
  /** Opens the way into a guest. CONFIG when the rule is not configured any more. */
  readonly open: (pair: ScriptPair, vsphere: Vsphere | undefined) => Promise<GuestShell>
}

/**
 * Pre-freeze and post-thaw scripts of all VMs. Made by the composition root.
 *
 * Idempotence: the first file that the guest's shell makes for a script, named after the claim, says that it was started. No pre-freeze file: nothing to
 * thaw. A post-thaw file: it was started once and is not started again, only waited for. When both have ended the pre-freeze file is removed first
 * and the post-thaw file last, so that a death in between never thaws twice and leaves no file.
 */
export class GuestScripts {
  readonly #deps: GuestScriptsDeps
  readonly #reports = new Map<ClaimId, ScriptReport[]>()
  /** Claims of this process whose pre-freeze script was refused: it never ran. */
  readonly #refused = new Set<ClaimId>()

  constructor(deps: GuestScriptsDeps) {
    this.#deps = deps
  }

  of(vmName: string): ScriptRule | undefined {
    return this.#deps.rules.find((rule) => rule.matches(vmName))
  }

  /** Which of both scripts are not in the guest. Logs in and starts nothing. AUTH, GUEST, UNAVAILABLE, CONFIG. */
  async absent(pair: ScriptPair, vsphere: Vsphere, options?: Abortable): Promise<readonly string[]> {
    const shell = await this.#deps.open(pair, vsphere)
    const absent: string[] = []
    for (const path of [pair.preFreeze, pair.postThaw]) if (!(await shell.exists(path, options))) absent.push(path)
    return absent
  }

  /** Runs the pre-freeze script. GuestScriptError, CANCELED; what it may have begun is undone by `postThaw`. */
  async preFreeze(claim: ClaimId, pair: ScriptPair, vsphere: Vsphere, options?: Abortable): Promise<void> {
    this.#reports.set(claim, [])
    this.#refused.add(claim)
    const onStart = (): void => void this.#refused.delete(claim)
    try {
      const shell = await this.#deps.open(pair, vsphere)
      const report = await this.#run(shell, claim, pair, 'freeze', 'run', { ...options, onStart })
      if (report.exitCode !== 0) throw failed(pair, report)
    } catch (error) {
      throwIfAborted(options)
      if (error instanceof GuestScriptError) throw error
      const why = toAgentError(error)
      throw new GuestScriptError('GUEST', `The pre-freeze script ${pair.preFreeze} of ${pair.vm.name} could not be run: ${why.message}`, {
        subject: pair.vm.name,
        next: why.next,
        cause: why,
      })
    }
  }

  /** Whether the pre-freeze script of a claim was started, and not all of it undone. */
  async started(claim: ClaimId, pair: ScriptPair, vsphere: Vsphere | undefined, options?: Abortable): Promise<boolean> {
    if (this.#refused.delete(claim)) return false
    const shell = await this.#deps.open(pair, vsphere)
    const [freeze, thaw] = [commandOf(shell, claim, pair, 'freeze').out, commandOf(shell, claim, pair, 'thaw').out]
    if ((await shell.exists(freeze, options)) || (await shell.exists(thaw, options))) return true
    await this.#deps.clock.sleep(IN_DOUBT_MS, options)
    return shell.exists(freeze, options)
  }

  /**
   * Runs the post-thaw script once, whoever calls how often, and removes our files from the guest. A script that fails is told in the report and the
   * log, not thrown. UNAVAILABLE, AUTH, GUEST when the guest cannot be reached: to be tried again.
   */
  async postThaw(
    claim: ClaimId,
    pair: ScriptPair,
    argument: 'thaw' | 'freezeFail',
    vsphere: Vsphere | undefined,
    options?: Abortable,
  ): Promise<void> {
    const shell = await this.#deps.open(pair, vsphere)
    const freeze = commandOf(shell, claim, pair, 'freeze')
    const thaw = commandOf(shell, claim, pair, argument)
    if (!(await shell.exists(freeze.out, options)) && !(await shell.exists(thaw.out, options))) return
    // A pre-freeze script that is still at it would freeze after the thaw.
    await shell.wait(freeze, { ...options, limitMs: pair.timeoutMs })
    const report = await this.#run(shell, claim, pair, argument, (await shell.exists(thaw.out, options)) ? 'wait' : 'run', options)
    if (report.exitCode !== 0) this.#deps.log.warn('the post-thaw script did not end well', { vm: pair.vm.name, error: sentenceOf(report) })
    for (const path of [freeze.out, freeze.err, thaw.err, thaw.out]) await shell.remove(path, options)
  }

  /** What ran under a claim of this process, once. */
  takeReports(claim: ClaimId): readonly ScriptReport[] {
    const reports = this.#reports.get(claim) ?? []
    this.#reports.delete(claim)
    return reports
  }

  async #run(
    shell: GuestShell,
    claim: ClaimId,
    pair: ScriptPair,
    argument: ScriptReport['argument'],
    how: 'run' | 'wait',
    options?: Abortable & { readonly onStart?: (() => void) | undefined },
  ): Promise<ScriptReport> {
    const { clock, log } = this.#deps
    const command = commandOf(shell, claim, pair, argument)
    const startedAt = clock.now().toISOString()
    const since = clock.monotonicMs()
    let end: ScriptEnd = { exitCode: undefined, timedOut: false }
    let error: string | undefined
    try {
      end = await shell[how](command, { ...options, limitMs: pair.timeoutMs })
    } catch (thrown) {
      // That the guest has no such script is a result of the second one: no later try would find it.
      if (argument === 'freeze' || toAgentError(thrown).code !== 'GUEST' || !toAgentError(thrown).message.includes('does not exist'))
        throw thrown
      error = toAgentError(thrown).message
    }
    const ms = Math.round(clock.monotonicMs() - since)
    const [out, err] = [await shell.read(command.out, OUTPUT_BYTES, options), await shell.read(command.err, OUTPUT_BYTES, options)]
    const text = (read: { readonly bytes: Uint8Array } | undefined): string => Buffer.from(read?.bytes ?? []).toString('utf8')
    const report: ScriptReport = {
      script: command.path,
      argument,
      via: pair.via,
      startedAt,
      ms,
      exitCode: end.exitCode,
      timedOut: end.timedOut ? true : undefined,
      error,
      stdout: text(out),
      stderr: text(err),
      stdoutBytes: out?.size ?? 0,
      stderrBytes: err?.size ?? 0,
    }
    this.#reports.get(claim)?.push(report)
    log.info('a guest script has ended', { vm: pair.vm.name, script: report.script, argument, exitCode: end.exitCode, ms })
    return report
  }
}

function commandOf(shell: GuestShell, claim: ClaimId, pair: ScriptPair, argument: ScriptReport['argument']): ScriptCommand {
  const phase = argument === 'freeze' ? 'freeze' : 'thaw'
  const stem = `${shell.directory}${shell.directory.includes('\\') ? '\\' : '/'}vcb-${claim}-${phase}`
  return { path: phase === 'freeze' ? pair.preFreeze : pair.postThaw, argument, out: `${stem}.out`, err: `${stem}.err` }
}

const failed = (pair: ScriptPair, report: ScriptReport): GuestScriptError =>
  new GuestScriptError('GUEST', `The pre-freeze script ${pair.preFreeze} of ${pair.vm.name} failed: ${sentenceOf(report)}.`, {
    subject: pair.vm.name,
    next: 'Look at what the script says in the guest, or let the backup go on without it: policy try.',
  })

/** `it ended with 3 (disk is busy)`. */
export function sentenceOf({ exitCode, timedOut, error, ms, stderr, stdout }: ScriptReport): string {
  const said = (stderr.trim() === '' ? stdout : stderr).trim().replaceAll(/\s+/g, ' ').slice(0, 200)
  const how =
    timedOut === true
      ? `it did not end within its time and was ended after ${(ms / 1000).toFixed(1)} s`
      : (error ?? (exitCode === undefined ? 'nobody knows how it ended' : `it ended with ${exitCode}`))
  return said === '' ? how : `${how} (${said})`
}
