import { access, constants, readdir, readFile, stat } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { dirname, join } from 'node:path'
import { ApiClient, askStatus } from '../api/index.ts'
import { formatBytes, fromErrno, isMissing, isThere, runProgram, toAgentError } from '../core/index.ts'
import type { Vsphere } from '../vsphere/index.ts'
import type { Agent } from './agent.ts'
import type { ConfigCheck } from './check-config.ts'
import { formatProblem } from './config/problem.ts'
import type { Finding } from './doctor.ts'

const UNIT = 'vcb-agent.service'
/** Rights of those who are not the owner. */
const OTHERS = 0o077
const PERMISSIONS = 0o777
/** vCenter's clock may differ by so much; object storage refuses at a quarter of an hour. ms */
const CLOCK_MS = 60_000
/** Names of files that are told at most. */
const TOLD = 3

/** What the file says wrongly, and whether its secrets are there and nobody else's. */
export function checkConfiguration({ file, problems }: ConfigCheck, findings: Finding[]): void {
  const [first] = problems
  findings.push(
    first === undefined
      ? {
          check: 'configuration',
          result: 'ok',
          detail: `${file}: nothing is wrong with it, and its secrets can be read by their owner alone`,
        }
      : {
          check: 'configuration',
          result: 'failed',
          detail: `${formatProblem(first)}${problems.length > 1 ? `; and ${problems.length - 1} more` : ''}`,
          next: '"vcb config check" lists everything that is wrong.',
        },
  )
}

/** Whose the state directory and what lies in it are: what root or another user left there stops the agent. */
export async function checkStateDirectory({ config }: Agent, findings: Finding[]): Promise<void> {
  const check = 'state directory'
  const path = config.stateDirectory
  const { uid, mode } = await stat(path)
  const own = process.getuid?.() ?? uid
  const strangers: string[] = []
  for (const name of await readdir(path)) {
    try {
      if ((await stat(join(path, name))).uid !== uid) strangers.push(name)
    } catch (error) {
      if (!isMissing(error)) throw error
    }
  }
  if (strangers.length > 0) {
    const more = strangers.length > TOLD ? ` and ${strangers.length - TOLD} more` : ''
    findings.push({
      check,
      result: 'failed',
      detail: `${path} belongs to user ${uid}, but ${strangers.slice(0, TOLD).join(', ')}${more} in it do not.`,
      next: `Give them to its owner: chown -R --from=${own === 0 ? '0' : String(own)} ${uid} ${path}. Run commands as that user.`,
    })
  } else if (uid !== own)
    findings.push({
      check,
      result: 'warning',
      detail: `${path} belongs to user ${uid}, and this is user ${own}: what it makes there the agent may not be able to change.`,
      next: 'Run vcb as the user of the agent: sudo -u vcb vcb …',
    })
  else if ((mode & OTHERS) !== 0)
    findings.push({
      check,
      result: 'warning',
      detail: `${path} can be read by others than its owner (mode ${(mode & PERMISSIONS).toString(8)}).`,
      next: `chmod 700 ${path}`,
    })
  else findings.push({ check, result: 'ok', detail: `${path}, of ${userInfo().username} alone` })
}

/** Who this is, with the groups that give it devices; group(5). */
export async function checkUser(_agent: Agent, findings: Finding[]): Promise<void> {
  const names = new Map((await readFile('/etc/group', 'utf8')).split('\n').map((line) => [line.split(':')[2], line.split(':')[0]] as const))
  const { username, uid } = userInfo()
  const groups = (process.getgroups?.() ?? []).map((id) => names.get(String(id)) ?? String(id))
  findings.push({ check: 'user', result: 'ok', detail: `${username} (${uid}), groups ${groups.join(', ')}` })
}

/** Whether the log can be written, and who keeps it from growing for ever. */
export async function checkLog({ config: { logFile, logBounds, logLevel } }: Agent, findings: Finding[]): Promise<void> {
  const check = 'log'
  if (logFile === undefined) {
    findings.push({ check, result: 'ok', detail: `level ${logLevel}, to standard error` })
    return
  }
  const directory = dirname(logFile)
  const refused =
    (await refusal(logFile, constants.W_OK)) ?? ((await isThere(logFile)) ? undefined : await refusal(directory, constants.W_OK))
  if (refused !== undefined) {
    findings.push({ check, result: 'failed', detail: refused, next: 'Give it to the user of the agent, or name another log.file.' })
    return
  }
  const size = (await isThere(logFile)) ? (await stat(logFile)).size : 0
  const detail = `level ${logLevel}, to ${logFile}, ${formatBytes(size)}`
  const stuck = logBounds === undefined ? undefined : await refusal(directory, constants.W_OK)
  if (logBounds === undefined) findings.push({ check, result: 'ok', detail: `${detail}, rotated by others` })
  else if (stuck === undefined)
    findings.push({
      check,
      result: 'ok',
      detail: `${detail}, rotated at ${formatBytes(logBounds.maxBytes)}, ${logBounds.files} files kept`,
    })
  else
    findings.push({
      check,
      result: 'warning',
      detail: `${detail}: it cannot be rotated. ${stuck}`,
      next: 'Give its directory to the user of the agent, or set log.maxSize to 0 and have logrotate do it.',
    })
}

/** The agent that runs here, or why nothing happens by itself. */
export async function checkAgent({ config, signal, clock }: Agent, findings: Finding[]): Promise<void> {
  const check = 'agent'
  const path = config.api.socket?.path
  const unit = await unitOf(clock)
  if (unit !== undefined) findings.push(unit)
  if (path === undefined) {
    findings.push({ check, result: 'ok', detail: 'its control socket is switched off (api.socket), so nothing can be asked' })
    return
  }
  if (!(await isThere(path))) {
    if (config.jobs.length > 0)
      findings.push({
        check,
        result: 'warning',
        detail: `None runs with this state directory, so the ${config.jobs.length} jobs are not run by themselves.`,
        next: 'Start it: systemctl start vcb-agent, or "vcb agent".',
      })
    return
  }
  await using client = await ApiClient.open({ socket: path })
  if (!(await client.isThere({ signal }))) {
    findings.push({
      check,
      result: 'warning',
      detail: `None answers at ${path}; a dead one left it.`,
      next: 'Start it: systemctl start vcb-agent, or "vcb agent".',
    })
    return
  }
  const { version, pid, draining, running, waiting } = await askStatus(client, { signal })
  const mode = ((await stat(path)).mode & PERMISSIONS).toString(8)
  const detail = `version ${version}, process ${pid}, ${running.length} run, ${waiting.length} wait; socket ${path} (mode ${mode})`
  findings.push(
    draining
      ? { check, result: 'warning', detail: `${detail}; it begins nothing new`, next: '"vcb drain --off" lets it begin again.' }
      : { check, result: 'ok', detail },
  )
}

/** What systemd knows of the unit; undefined where there is no systemd. */
async function unitOf(clock: Agent['clock']): Promise<Finding | undefined> {
  if (!(await isThere('/run/systemd/system'))) return undefined
  const check = 'unit'
  const asked = ['show', UNIT, '--property=LoadState,ActiveState,UnitFileState,NeedDaemonReload']
  const { exit, output, complaint } = await runProgram('systemctl', asked, { clock, patienceMs: 10_000, reads: true })
  if (exit !== 0) return { check, result: 'warning', detail: `systemd could not be asked: ${complaint}`, next: `systemctl status ${UNIT}` }
  const told = Object.fromEntries(
    output
      .toString('utf8')
      .split('\n')
      .map((line) => line.split('=', 2)),
  )
  const { LoadState: load, ActiveState: active, UnitFileState: file, NeedDaemonReload: stale } = told
  if (load !== 'loaded')
    return {
      check,
      result: 'warning',
      detail: `${UNIT} is not installed (${load}).`,
      next: 'See docs/service.md; without it nothing starts the agent with the machine.',
    }
  if (stale === 'yes')
    return { check, result: 'warning', detail: `${UNIT} was changed since systemd read it.`, next: 'systemctl daemon-reload' }
  if (file !== 'enabled' || active !== 'active')
    return { check, result: 'warning', detail: `${UNIT} is ${file} and ${active}.`, next: `systemctl enable --now ${UNIT}` }
  return { check, result: 'ok', detail: `${UNIT} is enabled and active` }
}

/** Schedules are by this machine's clock, and certificates and signatures of servers by theirs. */
export async function checkClock({ clock }: Agent, vsphere: Vsphere, findings: Finding[]): Promise<void> {
  const [told] = await vsphere.call('CurrentTime', { type: 'ServiceInstance', value: 'ServiceInstance' })
  const theirs = Date.parse(told?.text ?? '')
  const zone = new Intl.DateTimeFormat().resolvedOptions().timeZone
  if (!Number.isFinite(theirs)) return
  const apart = Math.abs(clock.now().getTime() - theirs)
  findings.push(
    apart <= CLOCK_MS
      ? { check: 'clock', result: 'ok', detail: `as ${vsphere.host}'s within a minute; time zone ${zone}` }
      : {
          check: 'clock',
          result: 'warning',
          detail: `This machine and ${vsphere.host} are ${Math.round(apart / 1000)} s apart; time zone ${zone}.`,
          next: 'Have both follow a time server; jobs are due by the clock of this machine.',
        },
  )
}

/** Why a path may not be used so; undefined when it may, and when it is not there. */
async function refusal(path: string, wanted: number): Promise<string | undefined> {
  try {
    await access(path, wanted)
    return undefined
  } catch (error) {
    if (isMissing(error)) return undefined
    return (fromErrno(error, path) ?? toAgentError(error)).message
  }
}
