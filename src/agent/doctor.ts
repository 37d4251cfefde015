import { type AgentError, type DatastoreRef, formatBytes, toAgentError } from '../core/index.ts'
import {
  BACKUP_PRIVILEGES,
  fetchThumbprint,
  listDatastores,
  missingPrivileges,
  RESTORE_PRIVILEGES,
  type Vsphere,
} from '../vsphere/index.ts'
import type { Agent } from './agent.ts'
import { mapDatastores, type MountedDatastore } from '../transport/index.ts'
import type { ConfigCheck } from './check-config.ts'
import { checkAgent, checkClock, checkConfiguration, checkLog, checkStateDirectory, checkUser } from './doctor-agent.ts'
import { checkGuests } from './doctor-guest.ts'
import { checkHotadd } from './doctor-hotadd.ts'
import { checkJobRepositories, checkJobs, checkSchedules } from './doctor-jobs.ts'
import { checkMount } from './doctor-mount.ts'
import { checkNfc } from './doctor-nfc.ts'
import { lookAtMount } from './doctor-san.ts'
import { checkSnapshots } from './doctor-snapshots.ts'
import { checkSsh } from './doctor-ssh.ts'
import { checkState } from './doctor-state.ts'

/** One thing looked at. `failed` stops backups; `warning` limits them. */
export type Finding = {
  readonly check: string
  readonly result: 'ok' | 'warning' | 'failed'
  readonly detail: string
  /** What to do, when it is not ok. */
  readonly next?: string | undefined
}

export type DiagnoseOptions = {
  /** Looks at the configuration as its files say it. */
  readonly check?: (() => Promise<ConfigCheck>) | undefined
}

/**
 * Looks at everything a backup needs and says what is missing: certificate, login, privileges, datastores and transports, repository, journal; and at what an agent needs
 * beside: configuration and secrets, jobs and their VMs and repositories, state directory, log, unit, control socket, clock.
 * Changes nothing. Each finding stands for itself: one that fails does not hide the next.
 */
export async function diagnose(agent: Agent, { check }: DiagnoseOptions = {}): Promise<readonly Finding[]> {
  const findings: Finding[] = []
  if (check !== undefined) await attempt('configuration', findings, async () => checkConfiguration(await check(), findings))
  const { url, thumbprint } = agent.config.vcenter
  if (url === undefined) {
    findings.push({
      check: 'connection',
      result: 'failed',
      detail: 'No vCenter or ESXi is configured.',
      next: 'Give --vcenter, or write vcenter.url into vcb.yaml.',
    })
  } else {
    await checkCertificate(agent, url, thumbprint, findings)
    await attempt('login', findings, async () => {
      const vsphere = await agent.vsphere()
      findings.push({
        check: 'login',
        result: 'ok',
        detail: `${vsphere.user} on ${vsphere.about.fullName} (API ${vsphere.about.apiVersion})`,
      })
      await attempt('privileges', findings, () => checkPrivileges(vsphere, findings))
      await attempt('datastores', findings, () => checkDatastores(agent, vsphere, findings))
      await attempt('snapshots', findings, () => checkSnapshots(agent, vsphere, findings))
      await attempt('hotadd', findings, () => checkHotadd(agent, vsphere, findings))
      await attempt('NFC', findings, () => checkNfc(agent, vsphere, findings))
      await attempt('guest scripts', findings, () => checkGuests(agent, vsphere, findings))
      await attempt('clock', findings, () => checkClock(agent, vsphere, findings))
      await attempt('jobs', findings, () => checkJobs(agent, findings))
    })
  }
  await attempt('SSH', findings, () => checkSsh(agent, findings))
  await attempt('mount', findings, () => checkMount(agent, findings))
  await attempt('repository', findings, async () => {
    if (agent.config.repository.url === undefined) {
      findings.push({
        check: 'repository',
        result: 'warning',
        detail: 'No repository is configured.',
        next: 'Give --repo, or write repository.url into vcb.yaml.',
      })
      return
    }
    const provider = await agent.provider()
    let points = 0
    if (provider.points !== undefined) for await (const _ of provider.points.list({ signal: agent.signal })) points++
    findings.push({
      check: 'repository',
      result: 'ok',
      detail: `${provider.url} opens${provider.about === undefined ? '' : ` (${provider.about})`}, ${points} restore points`,
    })
  })
  await attempt('repositories', findings, () => checkJobRepositories(agent, findings))
  await attempt('schedules', findings, () => Promise.resolve(checkSchedules(agent, findings)))
  await attempt('user', findings, () => checkUser(agent, findings))
  await attempt('state directory', findings, () => checkStateDirectory(agent, findings))
  await attempt('log', findings, () => checkLog(agent, findings))
  await attempt('agent', findings, () => checkAgent(agent, findings))
  await attempt('state database', findings, () => checkState(agent, findings))
  await attempt('journal', findings, async () => {
    const open = await agent.journal.unfinished()
    const left = []
    for (const job of open) if (job.owner === undefined || !(await agent.processes.isAlive(job.owner))) left.push(job)
    if (left.length === 0)
      findings.push({ check: 'journal', result: 'ok', detail: open.length === 0 ? 'nothing is held' : `${open.length} jobs are running` })
    else {
      const claims = left.reduce((sum, job) => sum + job.claims.length, 0)
      findings.push({
        check: 'journal',
        result: 'warning',
        detail: `${left.length} jobs ended without releasing ${claims} claims`,
        next: 'Run "vcb recover".',
      })
    }
  })
  return findings
}

async function checkCertificate(agent: Agent, url: string, pin: string | undefined, findings: Finding[]): Promise<void> {
  await attempt('certificate', findings, async () => {
    const shown = await fetchThumbprint(url, { signal: agent.signal })
    const detail = `SHA-256 ${shown.sha256}, valid to ${shown.validTo}`
    const hex = (text: string): string => text.replace(/[^0-9a-f]/gi, '').toLowerCase()
    if (pin !== undefined) {
      const same = [shown.sha1, shown.sha256].some((print) => hex(print) === hex(pin))
      findings.push(
        same
          ? { check: 'certificate', result: 'ok', detail: `${detail}, as pinned` }
          : {
              check: 'certificate',
              result: 'failed',
              detail: `The server shows ${shown.sha256}, pinned is ${pin}.`,
              next: 'Compare it on the server itself; pin the new one only if it is right.',
            },
      )
    } else if (shown.trusted || agent.config.vcenter.caFile !== undefined) {
      findings.push({ check: 'certificate', result: 'ok', detail })
    } else {
      findings.push({
        check: 'certificate',
        result: 'failed',
        detail: `${detail}; no authority known here vouches for it.`,
        next: `If that is your server's certificate, pin it with --thumbprint ${shown.sha256}`,
      })
    }
  })
}

async function checkPrivileges(vsphere: Vsphere, findings: Finding[]): Promise<void> {
  for (const [check, wanted, result] of [
    ['privileges for backup', BACKUP_PRIVILEGES, 'failed'],
    ['privileges for restore', RESTORE_PRIVILEGES, 'warning'],
  ] as const) {
    const missing = await missingPrivileges(vsphere, vsphere.service('rootFolder'), wanted)
    if (missing === undefined)
      findings.push({ check, result: 'ok', detail: 'this server does not tell; a standalone host needs an administrator' })
    else if (missing.length === 0) findings.push({ check, result: 'ok', detail: `all ${wanted.length} granted on the root folder` })
    else
      findings.push({
        check,
        result,
        detail: `missing on the root folder: ${missing.join(', ')}`,
        next: 'Add them to the role of this user, on the root folder with propagation.',
      })
  }
}

async function checkDatastores(agent: Agent, vsphere: Vsphere, findings: Finding[]): Promise<void> {
  const datastores = await listDatastores(vsphere)
  const mapped = await mapDatastores(datastores, { configured: agent.config.datastores, signal: agent.signal })
  for (const name of Object.keys(agent.config.datastores)) {
    if (!datastores.some((datastore) => datastore.name === name || datastore.vmfs?.uuid === name)) {
      findings.push({
        check: `datastore ${name}`,
        result: 'warning',
        detail: 'It is mapped to a directory, but this server has no datastore of that name.',
        next: 'Correct the map; names are case-sensitive.',
      })
    }
  }
  for (const datastore of datastores) findings.push(await checkDatastore(agent, datastore, mapped.get(datastore.name)))
}

async function checkDatastore(agent: Agent, datastore: DatastoreRef, mounted: MountedDatastore | undefined): Promise<Finding> {
  const check = `datastore ${datastore.name}`
  const space = `${datastore.type}, ${formatBytes(datastore.freeBytes)} of ${formatBytes(datastore.capacityBytes)} free`
  if (!datastore.accessible)
    return { check, result: 'failed', detail: 'No host can reach it.', next: 'Repair the storage connection in vSphere.' }
  const san = await lookAtMount(datastore, mounted)
  if (san.problem !== undefined) return { check, ...san.problem }
  const usable = san.usable === undefined ? [] : [san.usable]
  const overHttps = agent.config.transports.includes('https') && !['vsan', 'VVOL'].includes(datastore.type)
  const overNfc = agent.config.transports.filter((name) => name === 'nbdssl' || name === 'nbd')
  if (overNfc.length > 0) usable.push(`${overNfc.join(', ')}, from the hosts that see it`)
  if (agent.config.transports.includes('ssh') && agent.sshHosts.all.length > 0) usable.push('ssh, from the shell of the hosts that see it')
  if (overHttps) usable.push('https, where the host lets snapshot parents be read in ranges')
  if (san.hint !== undefined) usable.push(san.hint)
  return usable.length > 0
    ? { check, result: 'ok', detail: `${space}; ${usable.join('; ')}` }
    : {
        check,
        result: 'warning',
        detail: `${space}; no configured transport reads it`,
        next: `Mount it here and give --datastore "${datastore.name}=DIR", or add nbdssl or https to --transport.`,
      }
}

async function attempt(check: string, findings: Finding[], look: () => Promise<void>): Promise<void> {
  try {
    await look()
  } catch (error) {
    const shown: AgentError = toAgentError(error)
    if (shown.code === 'CANCELED') throw shown
    findings.push({ check, result: 'failed', detail: shown.message, next: shown.next })
  }
}
