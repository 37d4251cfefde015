import { type Abortable, AgentError, type Clock, isAgentError, runProgram, toAgentError, type Verdict } from '../core/index.ts'
import { createNbdDisk, NbdConnection, type ServerProgram, startServer } from '../nbd/index.ts'
import { trustedSha1, type Vsphere, vmMoRef } from '../vsphere/index.ts'
import type { OpenDisk, OpenOptions, PresentDisk, SnapshotDisk, Transport } from './transport.ts'
import { hasFile } from './verify-disk.ts'

/** What VDDK may ask of its host for the bytes it sends. */
export type VddkCompression = 'none' | 'zlib' | 'fastlz' | 'skipz'

export type VddkOptions = {
  readonly clock: Clock
  /** The directory of VMware's library (`vmware-vix-disklib-distrib`), which is not ours to give. */
  readonly libdir: string
  /** `nbdkit` when absent: found in the PATH. */
  readonly nbdkit?: string | undefined
  /** VDDK's own list, `san:hotadd:nbdssl`; its own default when absent. */
  readonly modes?: string | undefined
  readonly compression?: VddkCompression | undefined
  /** What the program is given besides, PATH above all. */
  readonly environment: Readonly<Record<string, string>>
}

/** Requests to the library are whole sectors and at most this large; larger ones in parallel exhaust a host's NFC memory (nbdkit-vddk-plugin(1)). */
const LARGEST_REQUEST = '2M'
const PROBE_MS = 30_000

/**
 * Reads through VMware's own disk library, for those who own it: one `nbdkit` with its plugin `vddk` per disk, spoken to over its standard input and
 * output, gone with this process. Parameters as nbdkit-vddk-plugin(1) has them. Which areas changed is asked of vSphere as for every other transport.
 */
export function vddkTransport(vsphere: Vsphere, options: VddkOptions): Transport {
  const program = options.nbdkit ?? 'nbdkit'
  let library: Promise<Verdict> | undefined

  /** Whether the plugin is there and finds the library; asked once per run. */
  const findLibrary = async (abort?: Abortable): Promise<Verdict> => {
    try {
      const asked = await runProgram(program, ['vddk', `libdir=${options.libdir}`, '--dump-plugin'], {
        ...abort,
        clock: options.clock,
        environment: options.environment,
        patienceMs: PROBE_MS,
        reads: true,
      })
      if (asked.late) return { ok: false, reason: `${program} did not answer within ${PROBE_MS / 1000} s` }
      if (asked.output.length === 0) return { ok: false, reason: `${program} said nothing: ${asked.complaint}` }
      const version = /^vddk_library_version=(\S{1,40})$/m.exec(asked.output.toString('utf8'))?.[1]
      if (version === undefined) return { ok: false, reason: `nbdkit's plugin vddk finds no library in ${options.libdir}` }
      return { ok: true, note: `VDDK ${version} through nbdkit` }
    } catch (error) {
      const shown = toAgentError(error)
      if (shown.code === 'CANCELED' || shown.code === 'INTERNAL') throw error
      return { ok: false, reason: shown.message }
    }
  }

  const serverFor = async (disk: SnapshotDisk): Promise<ServerProgram> => {
    const { credentials, endpoint, trust } = vsphere.http
    return {
      program,
      arguments: [
        '--single',
        '--exit-with-parent',
        '--readonly',
        '--filter=blocksize',
        'vddk',
        `libdir=${options.libdir}`,
        `server=${endpoint.hostname}`,
        `port=${endpoint.port}`,
        `user=${credentials.user}`,
        'password=-3',
        `thumbprint=${await trustedSha1(endpoint, trust)}`,
        `vm=moref=${vmMoRef(disk.config.vm).value}`,
        `snapshot=${disk.snapshot.moref}`,
        ...(options.modes === undefined ? [] : [`transports=${options.modes}`]),
        ...(options.compression === undefined ? [] : [`compression=${options.compression}`]),
        'minblock=512',
        `maxdata=${LARGEST_REQUEST}`,
        `file=${disk.disk.fileName}`,
      ],
      environment: options.environment,
      secret: credentials.password,
    }
  }

  const probe = async (disk: PresentDisk, abort?: Abortable): Promise<Verdict> => {
    const handled = hasFile(disk.disk)
    if (!handled.ok) return handled
    library ??= findLibrary(abort)
    try {
      return await library
    } catch (error) {
      // Canceled: the next one asks again.
      library = undefined
      throw error
    }
  }

  return {
    name: 'vddk',
    handles: hasFile,
    probe,
    foresee: probe,
    async open(disk: SnapshotDisk, abort: OpenOptions = {}): Promise<OpenDisk> {
      await using stack = new AsyncDisposableStack()
      const running = stack.use(await startServer(await serverFor(disk), options.clock))
      const peer = `VDDK for ${disk.disk.label}`
      const dial = { clock: options.clock, signal: abort.signal }
      const connection = await NbdConnection.over(running.stream, peer, '', dial).catch((error: unknown) => {
        throw isAgentError(error, 'CANCELED') ? error : refused(disk, running.complaint(), error)
      })
      const source = stack.use(createNbdDisk(connection))
      if (source.size !== disk.disk.capacityBytes) {
        throw new AgentError(
          'INTEGRITY',
          `VDDK opened ${source.size} bytes for ${disk.disk.label} (${disk.disk.fileName}), vSphere says ${disk.disk.capacityBytes}.`,
          { subject: disk.disk.fileName, next: 'Run the backup again; if it stays so, leave vddk out of the transports.' },
        )
      }
      const held = stack.move()
      return {
        size: source.size,
        read: (offset, into, reading) => source.read(offset, into, reading),
        extents: (range, reading) => source.extents(range, reading),
        [Symbol.asyncDispose]: () => held.disposeAsync(),
      }
    },
  }
}

function refused(disk: SnapshotDisk, complaint: string, cause: unknown): AgentError {
  const why = complaint === '' ? toAgentError(cause).message.replace(/\.$/, '') : complaint
  return new AgentError('UNAVAILABLE', `VDDK could not open ${disk.disk.label} (${disk.disk.fileName}): ${why}.`, {
    subject: disk.disk.fileName,
    cause,
    next: 'Run nbdkit with its plugin vddk by hand as docs/vddk.md shows; "Unknown error" often is a wrong thumbprint.',
  })
}
