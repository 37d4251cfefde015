import type { Range } from '../../core/index.ts'
import { disksOf, type DiskRecord, type LinkRecord, type Model, type NfcTicket, type VmRecord } from '../model/index.ts'
import { diskChain, LabStorageError, openView, readDescriptor } from '../storage/index.ts'
import { VimFault } from '../wire/index.ts'
import { badRequest, ioFailed, liveDisk, lockedFile, type NfcRefusal, noSpace, permissionRefused } from './nfc-refusal.ts'
import type { StepFaults } from './step-faults.ts'

/** A disk as one session has it open. Calls are synchronous and short; they throw NfcRefusal. */
export type OpenFile = AsyncDisposable & {
  readonly path: string
  readonly access: 'read' | 'write'
  /** Bytes. */
  readonly size: number
  read(offset: number, into: Uint8Array): void
  write(offset: number, data: Uint8Array): void
  /** As of the opening when it is open for writing: a host's answer does not know of later writes. */
  allocated(range: Range): Iterable<Range>
  /** Value of a `ddb.` key. */
  descriptorValue(key: string): string | undefined
}

const FLAG_READ_ONLY = 0x04
/** Tasks in which the files of a VM change hands. */
const REARRANGING = new Set([
  'RemoveSnapshot_Task',
  'RemoveAllSnapshots_Task',
  'ConsolidateVMDisks_Task',
  'RevertToSnapshot_Task',
  'RevertToCurrentSnapshot_Task',
  'Destroy_Task',
])

/**
 * Opens a disk file for the holder of a ticket, and takes its locks until disposed: readers share, a writer wants every file for itself.
 * NfcRefusal: not covered by the ticket, the link a running VM writes to, locked, not a disk.
 */
export async function openFile(
  model: Model,
  ticket: NfcTicket,
  request: { readonly path: string; readonly flags: number },
  faults: StepFaults,
): Promise<OpenFile> {
  const access = (request.flags & FLAG_READ_ONLY) === 0 ? 'write' : 'read'
  const path = request.path.replace(/^\[([^\]]*)\] */, '[$1] ')
  const vm = vmOf(model, ticket, path)
  if (vm === undefined || faults.quirk('permission') !== undefined) throw permissionRefused(path, access)
  if (access === 'write' && ticket.access === 'read') throw permissionRefused(path, access)
  await model.ensure(vm)
  const found = linkOf(vm, path, ticket.disk)
  if (found === undefined) throw permissionRefused(path, access)
  if (found.disk.rdm === 'physical') throw badRequest('DiskLib error: a raw device mapping in physical mode cannot be opened')
  const live = vm.power === 'poweredOn' && disksOf(vm.config).some((disk) => !disk.foreign && disk.chain[0]?.path === path)
  if (live || faults.quirk('multiwriter') !== undefined) throw liveDisk()
  const files = filesOf(model, path)
  if (faults.quirk('locked') !== undefined) throw lockedFile(path)
  checkLocks(model, vm, files, access)
  await using stack = new AsyncDisposableStack()
  stack.use(model.holds.take(files, `NFC of ${vm.config.name}`, access === 'read' ? 'shared' : 'exclusive'))
  stack.use(model.peaks.hold(`NFC ${access === 'read' ? 'readers' : 'writers'} of ${/^\[([^\]]*)\]/.exec(path)?.[1] ?? path}`))
  const at = model.files.at(path)
  const parts = await (access === 'read' ? readable(model, path) : writable(model, vm, found, path))
  stack.use(parts)
  const held = stack.move()
  return {
    path,
    access,
    size: parts.size,
    read: (offset, into) => guarded(() => parts.read(offset, into)),
    write: (offset, data) => guarded(() => parts.write(offset, data)),
    allocated: (range) => guarded(() => parts.allocated(range)),
    descriptorValue: (key) => guarded(() => readDescriptor(at.store, at.path).ddb.get(`ddb.${key}`)),
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  }
}

/** Whose disk it is: the ticket's VM, or with a ticket to a datastore the VM that has the file there. */
function vmOf(model: Model, ticket: NfcTicket, path: string): VmRecord | undefined {
  if (ticket.vm !== undefined) return model.world.vm(ticket.vm)
  if (!path.startsWith(`[${ticket.datastore ?? ''}] `)) return undefined
  return [...model.world.vms()].find((vm) => linkOf(vm, path, undefined) !== undefined)
}

/** The link with this path in any chain of the VM, of its current configuration first. */
function linkOf(vm: VmRecord, path: string, key: number | undefined): { disk: DiskRecord; link: LinkRecord } | undefined {
  for (const config of [vm.config, ...vm.snapshots.map((snapshot) => snapshot.config)]) {
    for (const disk of disksOf(config)) {
      const link = disk.chain.find((candidate) => candidate.path === path)
      if (link !== undefined && (key === undefined || disk.key === key)) return { disk, link }
    }
  }
  return undefined
}

/** Descriptors and extents from this link down to the base. */
function filesOf(model: Model, path: string): string[] {
  const { store, path: top } = model.files.at(path)
  return guarded(() =>
    diskChain(store, top).flatMap((info) => [store.datastorePath(info.path), ...info.extents.map((extent) => store.datastorePath(extent))]),
  )
}

function checkLocks(model: Model, vm: VmRecord, files: readonly string[], access: 'read' | 'write'): void {
  const [path = ''] = files
  if (REARRANGING.has(model.busyWith(vm) ?? '')) throw lockedFile(path)
  if (model.rules.strike({ names: model.names(vm) }, 'lockHeld').length > 0) throw lockedFile(path)
  for (const file of files) {
    const held = model.holds.of(file)
    if (model.holds.isDownloaded(file) || held?.mode === 'exclusive' || (access === 'write' && held !== undefined)) throw lockedFile(file)
  }
  if (access === 'read') return
  for (const other of model.world.vms()) {
    if (other.power !== 'poweredOn') continue
    for (const disk of disksOf(other.config)) {
      const held = disk.chain.find((link) => files.includes(link.path))
      if (held !== undefined) throw lockedFile(held.path)
    }
  }
}

type Parts = AsyncDisposable & Pick<OpenFile, 'size' | 'read' | 'write' | 'allocated'>

async function readable(model: Model, path: string): Promise<Parts> {
  const { store, path: top } = model.files.at(path)
  const view = guarded(() => openView(store, top))
  return {
    size: view.size,
    read: (offset, into) => view.read(offset, into),
    write: () => {
      throw permissionRefused(path, 'write')
    },
    allocated: (range) => view.allocated(range),
    [Symbol.asyncDispose]: async () => view[Symbol.dispose](),
  }
}

/** Through the machine's own open disk, so that change tracking and content ids follow; the machine stays open as long. */
async function writable(model: Model, vm: VmRecord, found: { disk: DiskRecord; link: LinkRecord }, path: string): Promise<Parts> {
  const machine = await model.machine(vm)
  const closed = Promise.withResolvers<void>()
  const ready = Promise.withResolvers<Parts>()
  const used = machine
    .use(async () => {
      const disk = machine.disk(found.disk.key)
      const at = model.files.at(path)
      if (disk === undefined || disk.top !== at.path) throw badRequest(`DiskLib error: ${path} has children and cannot be written`)
      const before = [...disk.allocated()]
      ready.resolve({
        size: disk.size,
        read: (offset, into) => disk.read(offset, into),
        write: (offset, data) => disk.write(offset, data),
        allocated: (range) =>
          before.filter((area) => area.offset < range.offset + range.length && range.offset < area.offset + area.length),
        [Symbol.asyncDispose]: async () => {
          closed.resolve()
          await used
        },
      })
      await closed.promise
    })
    .catch((error: unknown) => ready.reject(refusalOf(error)))
  return ready.promise
}

/** Runs storage work; what it refuses becomes a refusal of the host. */
function guarded<T>(work: () => T): T {
  try {
    return work()
  } catch (error) {
    throw refusalOf(error)
  }
}

function refusalOf(error: unknown): unknown {
  if (error instanceof LabStorageError || error instanceof VimFault) {
    const full = error instanceof LabStorageError && error.failure === 'NoDiskSpace'
    const refusal: NfcRefusal = full ? noSpace() : ioFailed(`DiskLib error: ${error.message}`)
    refusal.cause = error
    return refusal
  }
  return error
}
