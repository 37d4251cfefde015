import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Log, Secret, silentLog, systemClock } from '../../src/core/index.ts'
import {
  BlobIds,
  directoryBackend,
  initRepository,
  openRepository,
  type Repository,
  type RepositoryDeps,
  type RepositoryOptions,
  type RepositoryWriter,
  type TreeNode,
} from '../../src/restic/index.ts'
import { openKeyFile } from '../../src/restic/open-key.ts'
import { SealedFiles } from '../../src/restic/sealed-files.ts'
import type { OpenedKey } from '../../src/restic/key-file.ts'
import { encodeSnapshot, type Snapshot } from '../../src/restic/snapshot.ts'

export const PASSWORD = 'correct horse'
/** A key that costs a millisecond instead of half a second. */
export const FAST_KDF = { N: 1024, r: 8, p: 1 }
const TIME = '2026-11-22T10:00:00.123456789+01:00'

export type Ran = { readonly status: number; readonly stdout: Buffer; readonly stderr: string }

/** A directory with room for one repository, and stock restic on it. */
export class ResticPlace implements AsyncDisposable {
  readonly directory: string
  readonly path: string
  #key: Promise<OpenedKey> | undefined

  private constructor(directory: string) {
    this.directory = directory
    this.path = join(directory, 'repo')
  }

  /** In `directory`: one in memory for thousands of snapshots, each of which is synchronised. */
  static async make(directory = tmpdir()): Promise<ResticPlace> {
    const place = new ResticPlace(await mkdtemp(join(directory, 'vcb-restic-')))
    await mkdir(join(place.directory, 'cache'))
    return place
  }

  init(options: RepositoryOptions = {}): Promise<Repository> {
    return initRepository(directoryBackend(this.path), new Secret(PASSWORD), deps(), { kdf: FAST_KDF, ...options })
  }

  open(options: RepositoryOptions & { readonly log?: Log } = {}): Promise<Repository> {
    return openRepository(directoryBackend(this.path), new Secret(PASSWORD), deps(options.log), options)
  }

  /** A snapshot file alone, without a lock and its pauses: for thousands of them. The id. */
  async saveSnapshot(snapshot: Snapshot): Promise<string> {
    const backend = directoryBackend(this.path)
    this.#key ??= openKeyFile(backend, new Secret(PASSWORD), deps())
    return new SealedFiles(backend, (await this.#key).master, randomBytes).save('snapshot', encodeSnapshot(snapshot))
  }

  /** Runs restic; throws when it fails. */
  async restic(...args: readonly string[]): Promise<Buffer> {
    const ran = await this.tryRestic(...args)
    if (ran.status !== 0) throw new Error(`restic ${args.join(' ')} ended with ${ran.status}: ${ran.stderr}${ran.stdout.toString()}`)
    return ran.stdout
  }

  tryRestic(...args: readonly string[]): Promise<Ran> {
    const env = {
      ...process.env,
      RESTIC_REPOSITORY: this.path,
      RESTIC_PASSWORD: PASSWORD,
      RESTIC_CACHE_DIR: join(this.directory, 'cache'),
      TMPDIR: this.directory,
    }
    return new Promise((resolve) => {
      execFile('restic', args, { env, encoding: 'buffer', maxBuffer: 256 * 1024 * 1024 }, (error, stdout, stderr) => {
        const status = error === null ? 0 : typeof error.code === 'number' ? error.code : 255
        resolve({ status, stdout, stderr: stderr.toString() })
      })
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.directory, { recursive: true, force: true })
  }
}

export function deps(log: Log = silentLog): RepositoryDeps {
  return { clock: systemClock, log, random: randomBytes, hostname: 'vcb-test-host', username: 'tester', pid: process.pid }
}

/** Stores `image` through the block pipeline. */
export async function storeImage(writer: RepositoryWriter, image: Uint8Array): Promise<BlobIds> {
  const { slotBytes: blockSize } = writer.blocks
  const content = new BlobIds(Math.ceil(image.length / blockSize))
  let next = 0
  const lane = async (): Promise<void> => {
    while (next < content.length) {
      const block = next++
      const part = image.subarray(block * blockSize, (block + 1) * blockSize)
      const slot = await writer.blocks.acquire()
      slot.bytes.set(part)
      content.set(block, (await writer.blocks.submit(slot, part.length)).id)
    }
  }
  await Promise.all(Array.from({ length: writer.blocks.slots }, lane))
  return content
}

/** A snapshot with one file `disk.img` in the directory `vm`. Returns its id. */
export async function backupImage(repository: Repository, image: Uint8Array, name = 'disk.img'): Promise<string> {
  await using writer = await repository.beginWrite()
  const content = await storeImage(writer, image)
  const inner = await writer.saveTree([fileNode(name, image.length, content)])
  const tree = await writer.saveTree([{ name: 'vm', type: 'dir', mode: 0o700, mtime: TIME, subtree: inner }])
  return await writer.commit({ time: TIME, tree, paths: ['/vm'], hostname: 'vm', username: 'tester', tags: ['vcb'] })
}

export const fileNode = (name: string, size: number, content: BlobIds): TreeNode => ({
  name,
  type: 'file',
  mode: 0o600,
  mtime: TIME,
  size,
  content,
})

/** The whole of a file of a snapshot, read through our own side. */
export async function readBack(repository: Repository, snapshot: string, ...path: readonly string[]): Promise<Buffer> {
  const { tree } = await repository.snapshots.get(snapshot)
  const node = await repository.blobs.find(tree, path)
  if (node === undefined) throw new Error(`${path.join('/')} is not in snapshot ${snapshot}`)
  await using file = await repository.blobs.openFile(node)
  const bytes = Buffer.alloc(file.size)
  await file.read(0, bytes)
  return bytes
}

/** `blocks` MiB: zeros, compressible, random and repeated parts. */
export function testImage(blocks: number, seed = 0): Buffer {
  const image = Buffer.alloc(blocks * 1024 * 1024)
  for (let block = 0; block < blocks; block++) {
    const part = image.subarray(block * 1024 * 1024, (block + 1) * 1024 * 1024)
    const kind = (block + seed) % 5
    if (kind === 0) randomBytes(part.length).copy(part)
    else if (kind === 1) part.fill(`line ${block} of a log that repeats itself, run ${seed}\n`)
    else if (kind === 2) randomBytes(part.length / 2).copy(part)
    else if (kind === 3) part.fill('the same everywhere ')
  }
  return image
}
