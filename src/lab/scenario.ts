import { readFile } from 'node:fs/promises'
import { parse } from 'yaml'
import { z } from 'zod'
import { AgentError, fromErrno } from '../core/index.ts'
import { LEASE_QUIRKS } from './model/lease-quirks.ts'
import { SSH_QUIRKS } from './model/ssh-quirks.ts'
import { NFC_QUIRKS } from './model/nfc-quirks.ts'
import { HOTADD_QUIRKS } from './proxy/index.ts'
import { defaultScenario } from './scenario-default.ts'

/** Sizes may be written `64MiB`, `8 GiB` or as a number of bytes. */
const size = z
  .union([z.number().int().nonnegative(), z.string().regex(/^\d+(\.\d+)?\s*([KMGT]i?B|B)?$/i)])
  .transform((value): number => (typeof value === 'number' ? value : parseSize(value)))

const name = z.string().min(1).max(255)

const diskSchema = z.strictObject({
  controller: z.enum(['lsilogic', 'lsisas', 'pvscsi', 'buslogic', 'sata', 'ide', 'nvme']).default('pvscsi'),
  bus: z.number().int().min(0).max(3).default(0),
  /** Next free one when absent; SCSI unit 7 is the controller's own. */
  unit: z.number().int().min(0).max(63).optional(),
  size,
  thin: z.boolean().default(true),
  eager: z.boolean().default(false),
  mode: z
    .enum(['persistent', 'independent_persistent', 'independent_nonpersistent', 'nonpersistent', 'undoable', 'append'])
    .default('persistent'),
  sharing: z.enum(['sharingNone', 'sharingMultiWriter']).default('sharingNone'),
  /** A raw device mapping: `physical` can be neither snapshotted nor read, `virtual` can. */
  rdm: z.enum(['physical', 'virtual']).optional(),
  /** `empty`, `random` (an eighth of the disk), or `fixture:NAME`. */
  content: z
    .string()
    .regex(/^(empty|random|fixture:[a-z0-9-]+)$/)
    .default('empty'),
  /** Takes part in the guest's numbered records, behind its partitions where it has some and there is room. Default: yes. */
  records: z.boolean().optional(),
  /** Another datastore than the VM's own. */
  datastore: name.optional(),
})

const nicSchema = z.strictObject({ network: name, type: z.enum(['vmxnet3', 'e1000', 'e1000e']).default('vmxnet3') })

const vmSchema = z.strictObject({
  name,
  /** Folder path below the datacenter's VM folder; `/` separates. */
  folder: z.string().default(''),
  host: name.optional(),
  datastore: name.optional(),
  guestId: z.string().default('otherLinux64Guest'),
  hardware: z.number().int().min(4).max(22).default(19),
  firmware: z.enum(['bios', 'efi']).default('bios'),
  cpus: z.number().int().min(1).max(128).default(1),
  memoryMb: z.number().int().min(4).default(256),
  power: z.enum(['poweredOn', 'poweredOff', 'suspended']).default('poweredOn'),
  tools: z.enum(['running', 'notRunning', 'notInstalled']).default('running'),
  ip: z.string().optional(),
  hostName: z.string().optional(),
  template: z.boolean().default(false),
  changeTracking: z.boolean().default(false),
  annotation: z.string().default(''),
  disks: z.array(diskSchema).max(256).default([]),
  networks: z.array(nicSchema).default([]),
  /** A name: of the datastore that its image lies on, if not the VM's own. */
  cdrom: z.union([z.boolean(), z.string()]).default(false),
  usb: z.boolean().default(false),
  serial: z.boolean().default(false),
  /** Snapshots of a user's own, oldest first, made at the first start. */
  snapshots: z.array(z.strictObject({ name, description: z.string().default('') })).default([]),
  /** Records a second; each is written to all the VM's record disks. */
  workload: z.number().min(0).max(1000).default(0),
  /** Seconds the guest can hold still; a longer snapshot of a quiesced guest fails. */
  freezeLimitSeconds: z.number().positive().default(10),
  /** Milliseconds the guest needs to become still. */
  freezeMs: z.number().min(0).default(0),
  extraConfig: z.record(z.string(), z.string()).default({}),
  /** A backup proxy: the lab shows what its guest sees of disks that are attached to it. `file`: without loop devices. */
  proxy: z.union([z.boolean(), z.literal('file')]).default(false),
  tags: z.array(z.string()).default([]),
  /** Who may log in to the guest (guest operations); nobody when absent. */
  accounts: z.array(z.strictObject({ user: name, password: z.string() })).optional(),
  /** Programs in the guest that guest operations can start. */
  programs: z
    .array(
      z.strictObject({
        path: z.string().min(1),
        /** Only when its first argument is this; the first entry that fits counts. */
        when: z.string().optional(),
        exitCode: z.int().default(0),
        /** How long it runs. */
        ms: z.number().min(0).max(3_600_000).default(20),
        stdout: z.string().default(''),
        stderr: z.string().default(''),
      }),
    )
    .optional(),
})

const generateSchema = z.strictObject({
  count: z.number().int().min(1).max(20_000),
  prefix: name.default('vm-'),
  folder: z.string().default('Generated'),
  datastore: name.optional(),
  disk: size.default(64 * 1024 * 1024),
  disks: z.number().int().min(1).max(8).default(1),
  power: z.enum(['poweredOn', 'poweredOff']).default('poweredOff'),
})

const hostSchema = z.strictObject({
  name,
  ip: z.string().default('127.0.0.1'),
  /** Its shell can be reached over SSH. */
  ssh: z.boolean().default(false),
  /** `free`: its own API (the ESXi endpoint) shows everything and changes nothing. */
  licence: z.enum(['full', 'free']).default('full'),
})

const datacenterSchema = z.strictObject({
  name,
  /** Not under the vCenter: seen only through the ESXi endpoint. Then it has exactly one host. */
  standalone: z.boolean().default(false),
  clusters: z.array(z.strictObject({ name, hosts: z.array(hostSchema).min(1), resourcePools: z.array(name).default([]) })).default([]),
  hosts: z.array(hostSchema).default([]),
  networks: z.array(name).default(['VM Network']),
  folders: z.array(z.string()).default([]),
  datastores: z
    .array(
      z.strictObject({
        name,
        type: z.enum(['VMFS6', 'VMFS5', 'NFS']).default('VMFS6'),
        /** Absolute, or relative to the lab's directory. Default `datastores/NAME`. */
        directory: z.string().optional(),
        capacity: size.default(1024 ** 4),
        /** Names of hosts that see it; all of the datacenter when absent. */
        hosts: z.array(name).optional(),
      }),
    )
    .min(1),
  vms: z.array(vmSchema).default([]),
  generate: z.array(generateSchema).default([]),
})

/** One fault rule of the scenario; the same words as at run time. */
export const faultRuleSchema = z.strictObject({
  on: z.string().optional(),
  object: z.string().optional(),
  nth: z.number().int().positive().optional(),
  times: z.number().int().positive().optional(),
  probability: z.number().min(0).max(1).optional(),
  endpoint: z.enum(['vcenter', 'esxi']).optional(),
  delayMs: z.number().min(0).max(3_600_000).optional(),
  cut: z.enum(['before', 'after']).optional(),
  expireSession: z.boolean().optional(),
  fault: z.string().optional(),
  taskError: z.string().optional(),
  taskMs: z.number().min(0).max(3_600_000).optional(),
  queueMs: z.number().min(0).max(3_600_000).optional(),
  forgetTask: z.boolean().optional(),
  message: z.string().optional(),
  status: z.number().int().min(400).max(599).optional(),
  cutAfterBytes: z.number().int().min(0).optional(),
  shortAfterBytes: z.number().int().min(0).optional(),
  refuseRange: z.boolean().optional(),
  changedAreas: z.enum(['lie-end', 'zero-length', 'miss', 'one-area', 'small-pages', 'noTrack', 'cannotGetChanges']).optional(),
  consolidationNeeded: z.boolean().optional(),
  quiesce: z.enum(['timeout', 'application', 'silent', 'hang']).optional(),
  notCancelable: z.boolean().optional(),
  datastoreFull: z.string().optional(),
  lockHeld: z.boolean().optional(),
  nfc: z.enum(NFC_QUIRKS).optional(),
  lease: z.enum(LEASE_QUIRKS).optional(),
  ssh: z.enum(SSH_QUIRKS).optional(),
  hotadd: z.enum(HOTADD_QUIRKS).optional(),
  value: z.number().min(0).optional(),
})

/** The NFC service of each host. */
export const nfcSchema = z.strictObject({
  /** Version that frame 51 tells. */
  version: z.number().int().min(1).max(20).default(11),
  /** Buffers of all sessions of a host; 48 MiB before ESXi 8. */
  memory: size.default(96 * 1024 * 1024),
  sessionsPerHost: z.number().int().min(1).default(64),
  throughVcenter: z.number().int().min(1).default(52),
  /** An unused ticket works for so long. */
  ticketSeconds: z.number().positive().default(300),
})

export const scenarioSchema = z.strictObject({
  name: name.default('lab'),
  /** Seed of everything random: uuids, contents, probabilities. */
  seed: z.number().int().default(1),
  /** Digest every disk when a snapshot is made, so that a restore can be compared with what the guest had. */
  recordDigests: z.boolean().default(false),
  sessionTimeoutSeconds: z.number().positive().default(1800),
  leaseTimeoutSeconds: z.number().positive().default(300),
  nfc: nfcSchema.optional(),
  /** Ordinary duration of a task in milliseconds. */
  taskMs: z.number().min(0).default(20),
  /** Milliseconds a minute of a quiesce time-out lasts: tests scale the least of five minutes down. 60,000 when absent. */
  quiesceMinuteMs: z.number().positive().optional(),
  /** Objects a page when a client asks for no limit; a real server pages too. */
  pageSize: z.number().int().min(1).default(1000),
  /** API version of both endpoints. */
  apiVersion: z.string().default('8.0.3.0'),
  /** Host that the ESXi endpoint shows. Default: the standalone one, else the first. */
  esxiHost: name.optional(),
  /** Privileges taken from the restricted user; everything but System.* when absent. */
  restrictedUserMay: z.array(z.string()).default(['System.Anonymous', 'System.View', 'System.Read']),
  datacenters: z.array(datacenterSchema).min(1),
  faults: z.array(faultRuleSchema).default([]),
})

export type Scenario = z.output<typeof scenarioSchema>
export type ScenarioInput = z.input<typeof scenarioSchema>
export type ScenarioVm = z.output<typeof vmSchema>
export type ScenarioDisk = z.output<typeof diskSchema>
export type ScenarioDatacenter = z.output<typeof datacenterSchema>

/**
 * The scenario meant by a path (YAML or JSON), an object, the word `default`, or nothing (also the default).
 * Errors: CONFIG naming the file and the first wrong field, NOT_FOUND.
 */
export async function readScenario(from: string | object | undefined): Promise<Scenario> {
  if (from === undefined || from === 'default') return checked(defaultScenario, 'the default scenario')
  if (typeof from === 'object') return checked(from, 'the given scenario')
  let text: string
  try {
    text = await readFile(from, 'utf8')
  } catch (error) {
    throw fromErrno(error, from) ?? error
  }
  let value: unknown
  try {
    value = parse(text, { maxAliasCount: 100 })
  } catch (error) {
    throw new AgentError('CONFIG', `The scenario ${from} is not YAML: ${error instanceof Error ? error.message.split('\n')[0] : ''}.`, {
      subject: from,
      cause: error,
    })
  }
  return checked(value, from)
}

function checked(value: unknown, subject: string): Scenario {
  const result = scenarioSchema.safeParse(value)
  if (!result.success) {
    const issue = result.error.issues[0]
    const where = issue === undefined || issue.path.length === 0 ? 'its top level' : issue.path.join('.')
    throw new AgentError('CONFIG', `The scenario ${subject} is wrong at ${where}: ${issue?.message ?? 'unreadable'}.`, {
      subject,
      next: 'Correct the scenario file; docs/lab-scenario.md lists every field.',
    })
  }
  checkNames(result.data, subject)
  return result.data
}

/** Cross references that the shape alone does not show. */
function checkNames(scenario: Scenario, subject: string): void {
  const refuse = (text: string): never => {
    throw new AgentError('CONFIG', `The scenario ${subject} is wrong: ${text}.`, {
      subject,
      next: 'Correct the scenario file; docs/lab-scenario.md lists every field.',
    })
  }
  const hosts = new Set<string>()
  const stores = new Set<string>()
  for (const dc of scenario.datacenters) {
    const own = [...dc.hosts, ...dc.clusters.flatMap((cluster) => cluster.hosts)].map((host) => host.name)
    if (own.length === 0) refuse(`the datacenter "${dc.name}" has no host`)
    if (dc.standalone && own.length !== 1) refuse(`the standalone datacenter "${dc.name}" must have exactly one host`)
    for (const host of own) {
      if (hosts.has(host)) refuse(`the host "${host}" is there twice`)
      hosts.add(host)
    }
    const ownStores = new Set<string>()
    for (const store of dc.datastores) {
      if (/[[\]/\\]|^\.|\0/.test(store.name)) refuse(`"${store.name}" is no datastore name`)
      if (stores.has(store.name)) refuse(`the datastore "${store.name}" is there twice`)
      stores.add(store.name)
      ownStores.add(store.name)
      for (const host of store.hosts ?? [])
        if (!own.includes(host)) refuse(`the datastore "${store.name}" names the unknown host "${host}"`)
    }
    for (const vm of dc.vms) {
      if (vm.host !== undefined && !own.includes(vm.host)) refuse(`the VM "${vm.name}" names the unknown host "${vm.host}"`)
      for (const store of [vm.datastore, ...vm.disks.map((disk) => disk.datastore)]) {
        if (store !== undefined && !ownStores.has(store)) refuse(`the VM "${vm.name}" names the unknown datastore "${store}"`)
      }
      for (const nic of vm.networks) {
        if (!dc.networks.includes(nic.network)) refuse(`the VM "${vm.name}" names the unknown network "${nic.network}"`)
      }
    }
  }
  if (scenario.esxiHost !== undefined && !hosts.has(scenario.esxiHost)) refuse(`esxiHost names the unknown host "${scenario.esxiHost}"`)
}

const UNITS: Readonly<Record<string, number>> = { b: 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3, t: 1024 ** 4 }

function parseSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([KMGTB])?/i.exec(text)
  const unit = UNITS[(match?.[2] ?? 'b').toLowerCase()] ?? 1
  return Math.round(Number(match?.[1] ?? 0) * unit)
}
