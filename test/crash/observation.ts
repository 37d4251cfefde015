import { readdir, readFile } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { isAgentError, systemClock } from '../../src/core/index.ts'
import type { Lab, LabVmState, SnapshotDigests } from '../../src/lab/index.ts'

/** Longest a guest is frozen by a snapshot task that nobody waits for any more, ms. */
const THAW_MS = 10_000

/** One VM of the lab, with what its guest has on its disks. */
export type SeenVm = LabVmState & {
  /** Device key → SHA-256 of the disk now. */
  readonly digests: ReadonlyMap<number, string>
  /** What every snapshot that was ever made of it froze. */
  readonly frozenDigests: readonly SnapshotDigests[]
}

/** What an outsider sees of the lab: no word of it comes from the agent. */
export type Observation = {
  readonly vms: readonly SeenVm[]
  /** `datastore/path` of every file and directory. */
  readonly files: ReadonlySet<string>
  readonly locks: readonly string[]
  readonly leases: readonly string[]
  readonly tasks: readonly string[]
}

export async function observe(lab: Lab): Promise<Observation> {
  const state = await lab.control.state()
  const vms: SeenVm[] = []
  for (const vm of state.vms)
    vms.push({ ...vm, digests: await digestsOf(lab, vm.moref), frozenDigests: await lab.control.digestsAtSnapshot(vm.moref) })
  return {
    vms,
    files: await filesOf(lab),
    locks: state.locks.map((lock) => `${lock.path} ${lock.mode} ${lock.holder}`),
    leases: state.leases
      .filter((lease) => lease.state === 'ready' || lease.state === 'initializing')
      .map((lease) => `${lease.kind} lease ${lease.id} of ${lease.vm}`),
    tasks: state.tasks
      .filter((task) => task.state === 'running' || task.state === 'queued')
      .map((task) => `task ${task.name} of ${task.entity}`),
  }
}

/**
 * Every guest that runs writes once more, into whatever it writes to now: what a release must not lose. Gives what was seen before, with the
 * disks as they are after that.
 */
export async function letGuestsWrite(lab: Lab, before: Observation): Promise<Observation> {
  const vms: SeenVm[] = []
  for (const vm of before.vms) {
    if (vm.powerState !== 'poweredOn') {
      vms.push(vm)
      continue
    }
    await whenThawed(lab, vm.moref, () => lab.control.write(vm.moref, { records: 1 }))
    vms.push({ ...vm, digests: await digestsOf(lab, vm.moref) })
  }
  return { ...before, vms }
}

/** The task of a killed agent goes on and holds the guest frozen for a moment; one that stays frozen is for the judge to say. */
async function whenThawed(lab: Lab, vm: string, write: () => Promise<unknown>): Promise<void> {
  const until = systemClock.monotonicMs() + THAW_MS
  for (;;) {
    try {
      await write()
      return
    } catch (error) {
      const { vms } = await lab.control.state()
      const frozen = vms.some(({ moref, frozen }) => moref === vm && frozen)
      if (!isAgentError(error, 'CONFLICT') || systemClock.monotonicMs() > until) throw error
      await systemClock.sleep(frozen ? 20 : 1)
    }
  }
}

async function digestsOf(lab: Lab, vm: string): Promise<ReadonlyMap<number, string>> {
  return new Map((await lab.control.sha256(vm)).map((disk) => [disk.key, disk.sha256]))
}

async function filesOf(lab: Lab): Promise<ReadonlySet<string>> {
  const files = new Set<string>()
  for (const [name, directory] of Object.entries(lab.datastores)) {
    for (const entry of await readdir(directory, { recursive: true, withFileTypes: true }))
      files.add(join(name, relative(directory, entry.parentPath), entry.name))
  }
  return files
}

/** Files that are marks of ours, and VMX files that still carry one: of a restore under way. */
export async function markedVms(lab: Lab, files: ReadonlySet<string>): Promise<readonly string[]> {
  const marked: string[] = []
  for (const file of files) {
    if (file.slice(file.lastIndexOf('/') + 1).startsWith('vcb-proxy')) marked.push(file)
    if (!file.endsWith('.vmx')) continue
    const [datastore = '', ...rest] = file.split('/')
    const text = await readFile(join(lab.datastores[datastore] ?? '', ...rest), 'utf8')
    if (text.includes('vcb-proxy/')) marked.push(file)
  }
  return marked
}
