import { randomBytes, timingSafeEqual } from 'node:crypto'
import { readFile, rm, unlink, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { AgentError, type Clock, ensureDirectory, isMissing, type Log, silentLog, systemClock, writeFileAtomic } from '../../core/index.ts'
import { createEndpoint, type EndpointParts, Model, recordDigests, recoverVm, removeLeft, type Users, View, World } from '../model/index.ts'
import { type NfcServer, serveNfc } from '../nfc/index.ts'
import { readScenario } from '../scenario.ts'
import { labKey, serveSsh } from '../ssh/index.ts'
import {
  aboutInfo,
  Events,
  loadCertificate,
  type LabKind,
  type LabValue,
  labRef,
  ownManagerRef,
  serveSoap,
  Sessions,
  type SoapServer,
  Tasks,
} from '../wire/index.ts'
import { createControl } from './control.ts'
import { serveControl } from './control-http.ts'
import type { Lab, LabEndpoint, LabSsh } from './lab.ts'

export type LabOptions = {
  /** Where state, datastores, certificates and passwords live; made when absent, resumed when it holds a lab. */
  readonly directory: string
  /** Path of a YAML or JSON file, a scenario object, or `default`. Only read when the directory holds no lab yet. */
  readonly scenario?: string | object | undefined
  /** Default both. */
  readonly kind?: LabKind | undefined
  /** Port of the vCenter endpoint (ESXi takes the next); 0 or absent = the ports it had before, else any free ones. */
  readonly port?: number | undefined
  readonly clock?: Clock | undefined
  readonly log?: Log | undefined
}

export const LAB_USER = 'administrator@vsphere.local'
export const RESTRICTED_USER = 'viewer@vsphere.local'

/**
 * Starts a lab or resumes the one in the directory. VMs of the scenario get their files here, generated ones at the first touch.
 * Errors: CONFIG (scenario, damaged state), NOT_FOUND (scenario file), CONFLICT (another process runs this directory).
 */
export async function startLab(options: LabOptions): Promise<Lab> {
  const directory = resolve(options.directory)
  const clock = options.clock ?? systemClock
  const log = options.log ?? silentLog
  await ensureDirectory(directory)
  await using stack = new AsyncDisposableStack()
  const pidFile = await takeDirectory(directory)
  stack.defer(() => unlink(pidFile))

  const world = await World.open(directory, () => readScenario(options.scenario), clock)
  const { scenario } = world.lab
  const passwordFile = join(directory, 'password')
  const restrictedFile = join(directory, 'password-viewer')
  const passwords = { admin: await secretIn(passwordFile), restricted: await secretIn(restrictedFile) }
  const token = await secretIn(join(directory, 'control-token'))
  const model = stack.use(new Model({ world, clock, log }))

  for (const vm of world.vms()) await recover(model, vm.id)
  for (const [id, paths] of world.leftFiles) {
    removeLeft(paths)
    await world.removed(id)
  }
  for (const vm of world.vms()) if (!world.generated.has(vm.id)) await model.ensure(vm)
  for (const vm of world.vms()) await model.attached.boot(vm)
  for (const vm of world.vms()) if (vm.workload > 0 && vm.materialised && vm.power === 'poweredOn') await (await model.machine(vm)).settle()

  const users: Users = { administrator: LAB_USER, restricted: RESTRICTED_USER, restrictedMay: new Set(scenario.restrictedUserMay) }
  const check = (kind: LabKind, user: string, password: string): { userName: string; fullName: string } | undefined => {
    const name = user.toLowerCase()
    const admin = name === LAB_USER || (kind === 'esxi' && name === 'root')
    const wanted = admin ? passwords.admin : name === RESTRICTED_USER ? passwords.restricted : undefined
    return wanted !== undefined && same(wanted, password)
      ? { userName: admin && name === 'root' ? 'root' : admin ? LAB_USER : RESTRICTED_USER, fullName: admin ? 'Administrator' : 'Viewer' }
      : undefined
  }
  const kinds: readonly LabKind[] = options.kind === undefined ? ['esxi', 'vcenter'] : [options.kind]
  const sessions = new Map<LabKind, Sessions>(
    kinds.map((kind) => [
      kind,
      new Sessions({ clock, idleMs: scenario.sessionTimeoutSeconds * 1000, check: (user, password) => check(kind, user, password) }),
    ]),
  )
  const servers = new Map<LabKind, SoapServer>()
  const parts: EndpointParts[] = []
  const views: View[] = []
  let nfc: NfcServer | undefined
  const control = createControl({
    model,
    nfc: () => nfc,
    leases: () => parts.flatMap((part) => part.endpoint.leases.list()),
    sessions: () =>
      [...sessions].flatMap(([endpoint, own]) =>
        own.list().map((session) => ({ endpoint, user: session.userName, calls: Number(own.userSession(session).callCount ?? 0) })),
      ),
    tasks: () =>
      views.flatMap((view) =>
        (view.tasks?.running() ?? []).map((info) => ({
          key: wordOf(info.key),
          name: wordOf(info.name ?? info.descriptionId),
          entity: wordOf(info.entityName),
          state: wordOf(info.state),
          progress: Number(info.progress ?? 0),
        })),
      ),
  })

  for (const kind of kinds) {
    const view = new View(kind, world, kind === 'esxi' ? esxiHost(world) : undefined)
    views.push(view)
    const own = sessions.get(kind)
    if (own === undefined) throw new Error(`no sessions for ${kind}`)
    const part = createEndpoint({
      model,
      view,
      sessions: own,
      tickets: [...sessions.values()],
      users,
      check: (user, password) => check(kind, user, password) !== undefined,
      leaseHost: {
        // A vCenter's device URLs name a host, an ESXi's leave the host out.
        base: () => (kind === 'esxi' ? 'https://*' : ((servers.get('esxi') ?? servers.get(kind))?.url ?? '')),
        sslThumbprint: () => (kind === 'esxi' ? servers.get('esxi') : (servers.get('esxi') ?? servers.get(kind)))?.thumbprints.sha1 ?? '',
      },
    })
    parts.push(part)
    const tasks = new Tasks({
      clock,
      feed: view.feed,
      kind,
      taskManager: ownManagerRef(kind, 'taskManager'),
      entityName: (ref) => nameOf(view, ref.value),
    })
    view.tasks = tasks
    const events = new Events({ clock, feed: view.feed, eventManager: ownManagerRef(kind, 'eventManager') })
    const wanted =
      options.port === undefined || options.port === 0
        ? world.lab.ports[kind]
        : kind === 'vcenter' || options.kind !== undefined
          ? options.port
          : options.port + 1
    const root = world.entity(world.root)
    const tls = join(directory, `tls-${kind}`)
    await ensureDirectory(tls)
    const server = await listen(wanted, options.port === undefined || options.port === 0, (port) =>
      serveSoap({
        kind,
        about: { ...aboutInfo(kind, kind === 'vcenter' ? world.lab.vcenterUuid : world.lab.esxiUuid), apiVersion: scenario.apiVersion },
        rootFolder: root === undefined ? labRef('Folder', world.root) : view.ref(root),
        store: part.store,
        methods: part.methods,
        feed: view.feed,
        sessions: own,
        tasks,
        events,
        clock,
        log,
        directory: tls,
        port,
        pageLimit: scenario.pageSize,
        before: part.before,
        routes: async (request, response) => {
          if (await serveControl(control, token, request, response)) return true
          for (const other of parts)
            if (other !== part && ((await other.endpoint.leases.serve(request, response)) || (await other.guestFiles(request, response))))
              return true
          return part.routes(request, response)
        },
      }),
    )
    servers.set(kind, stack.use(server))
    world.lab.ports[kind] = server.port
  }
  const shown = servers.get('esxi') ?? [...servers.values()][0]
  if (shown !== undefined) {
    // A vCenter's tickets lead to its hosts, which all show the ESXi endpoint's certificate.
    const identity = { certificate: shown.certificate, privateKey: shown.privateKey, sha256: shown.thumbprints.sha256 }
    const stranger = async () => {
      const made = await loadCertificate(join(directory, 'tls-stranger'), 'stranger.lab', clock.now())
      return { certificate: made.certificate, privateKey: made.privateKey, sha256: made.thumbprints.sha256 }
    }
    const server = await listen(world.lab.ports.nfc ?? 0, true, (port) => serveNfc({ model, identity, stranger, port }))
    nfc = stack.use(server)
    model.nfcTickets.door = { port: server.port, sslThumbprint: shown.thumbprints.sha1, certificate: shown.certificate }
    world.lab.ports.nfc = server.port
  }
  const shells: LabSsh[] = []
  const userKey = await labKey(join(directory, 'ssh'), 'root')
  for (const host of world.of('host').filter((each) => each.ssh)) {
    const hostKey = await labKey(join(directory, 'ssh'), `host-${host.id}`)
    const otherKey = await labKey(join(directory, 'ssh'), 'stranger')
    const view = views.find((each) => each.host?.id === host.id)
    const parts = { model, host, view, hostKey, otherKey, userKey, password: passwords.admin }
    const server = stack.use(await listen(world.lab.ports.ssh?.[host.id] ?? 0, true, (port) => serveSsh({ ...parts, port })))
    world.lab.ports.ssh = { ...world.lab.ports.ssh, [host.id]: server.port }
    shells.push(Object.freeze({ host: host.name, address: '127.0.0.1', port: server.port, hostKey: server.fingerprint }))
  }
  await world.saveLab()
  await writeFileAtomic(join(directory, 'running.json'), JSON.stringify(running(servers)))

  const kept = stack.move()
  const endpoint = (kind: LabKind): LabEndpoint => {
    const server = servers.get(kind) ?? [...servers.values()][0]
    if (server === undefined) throw new Error('the lab has no endpoint')
    return {
      url: server.url,
      host: new URL(server.url).hostname,
      port: server.port,
      thumbprint: server.thumbprints.sha256,
      sha1: server.thumbprints.sha1,
    }
  }
  return Object.freeze({
    directory,
    endpoints: Object.freeze({
      vcenter: endpoint('vcenter'),
      esxi: endpoint('esxi'),
      nfc: Object.freeze({ host: '127.0.0.1', port: nfc?.port ?? 0, sha1: shown?.thumbprints.sha1 ?? '' }),
      ssh: Object.freeze(shells),
    }),
    user: LAB_USER,
    passwordFile,
    sshKeyFile: userKey.path,
    restricted: Object.freeze({ user: RESTRICTED_USER, passwordFile: restrictedFile }),
    datastores: Object.freeze(Object.fromEntries(world.of('datastore').map((store) => [store.name, store.directory]))),
    control,
    [Symbol.asyncDispose]: () => kept[Symbol.asyncDispose](),
  })
}

const wordOf = (value: LabValue): string => (typeof value === 'string' ? value : '')

/** What `vcb lab …` needs to reach this process. */
const running = (servers: ReadonlyMap<LabKind, SoapServer>): object => ({
  pid: process.pid,
  url: (servers.get('vcenter') ?? servers.get('esxi'))?.url,
  certificate: (servers.get('vcenter') ?? servers.get('esxi'))?.certificate,
})

/** The ports of the last run when they are free, others otherwise; ports the caller named or none. */
async function listen<T>(port: number, mayMove: boolean, serve: (port: number) => Promise<T>): Promise<T> {
  try {
    return await serve(port)
  } catch (error) {
    const { cause } = error instanceof Error ? error : {}
    const taken = cause instanceof Error && 'code' in cause && cause.code === 'EADDRINUSE'
    if (!taken) throw error
    if (!mayMove)
      throw new AgentError('CONFLICT', `The port ${port} is in use.`, {
        subject: String(port),
        next: 'Choose another port with --port.',
        cause: error,
      })
    return serve(0)
  }
}

function esxiHost(world: World) {
  const wanted = world.lab.scenario.esxiHost
  const hosts = world.of('host')
  const host =
    hosts.find((candidate) => candidate.name === wanted) ??
    hosts.find((candidate) => world.datacenterOf(candidate.id)?.standalone === true) ??
    hosts[0]
  if (host === undefined) throw new AgentError('CONFIG', 'The scenario has no host.')
  return host
}

function nameOf(view: View, id: string): string | undefined {
  const entity = view.find(id)
  if (entity === undefined) return undefined
  if (entity.kind === 'vm') return entity.record.config.name
  return entity.kind === 'snapshot' ? view.world.snapshot(entity.id)?.vm.config.name : entity.name
}

async function recover(model: Model, id: string): Promise<void> {
  const vm = model.world.vm(id)
  if (vm === undefined) return
  if (vm.pending?.kind === 'import') {
    // Nobody holds the lease of an import any more; what it made goes.
    const home = vm.path.slice(0, vm.path.lastIndexOf('/'))
    await rm(model.files.local(home), { recursive: true, force: true })
    await model.world.remove(vm)
    return
  }
  await recoverVm(model, vm)
  // The frozen images are as they were; what the killed process had not digested yet is digested now.
  if (!model.world.lab.scenario.recordDigests) return
  for (const snapshot of vm.snapshots) {
    if (vm.digests.some((known) => known.snapshot === snapshot.id)) continue
    recordDigests(model, vm, await model.machine(vm), snapshot)
  }
}

/** A random word kept in a file only the user can read, made at the first start. */
async function secretIn(path: string): Promise<string> {
  try {
    return (await readFile(path, 'utf8')).trim()
  } catch (error) {
    if (!isMissing(error)) throw error
  }
  const secret = randomBytes(18).toString('base64url')
  await writeFileAtomic(path, `${secret}\n`)
  return secret
}

const same = (wanted: string, given: string): boolean => {
  const a = Buffer.from(wanted)
  const b = Buffer.from(given)
  return a.length === b.length && timingSafeEqual(a, b)
}

/** One process per directory: a file with its pid, which a killed process leaves behind and the next one replaces. */
async function takeDirectory(directory: string): Promise<string> {
  const path = join(directory, 'lab.pid')
  for (;;) {
    try {
      await writeFile(path, `${process.pid}\n`, { flag: 'wx', mode: 0o600 })
      return path
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
    }
    const pid = Number((await readFile(path, 'utf8').catch(() => '0')).trim())
    if (pid > 0 && isAlive(pid)) {
      throw new AgentError('CONFLICT', `Another process (${pid}) runs the lab in ${directory}.`, {
        subject: directory,
        next: 'Use that one, stop it, or choose another directory.',
      })
    }
    await unlink(path).catch((error: unknown) => {
      if (!isMissing(error)) throw error
    })
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}
