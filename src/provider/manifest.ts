import { z } from 'zod'
import {
  AgentError,
  type BackupMode,
  type ConsistencyLevel,
  type DiskFacts,
  type DiskImage,
  type Manifest,
  MANIFEST_VERSION,
  MIB,
  type PointId,
  type PointSummary,
  type RunId,
  TRANSPORT_NAMES,
  type VmConfig,
} from '../core/index.ts'
import { isSafeName } from './point-names.ts'
import type { PointFacts, PointRequest } from './provider.ts'

export const MAX_MANIFEST_BYTES = 64 * MIB
/** Largest small file of a point. */
export const MAX_FILE_BYTES = 64 * MIB

const bytes = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER)
const text = z.string()
const fileName = z.string().refine(isSafeName, 'not one safe file name component')
const mode = z.enum(['full', 'incremental']) satisfies z.ZodType<BackupMode>
const transport = z.enum(TRANSPORT_NAMES)
const vm = z.looseObject({ moref: text, name: text, instanceUuid: text, biosUuid: text, vcenterUuid: text, path: text })
const disk = z.looseObject({
  key: z.number().int(),
  label: text,
  capacityBytes: bytes,
  fileName: text,
  uuid: text.optional(),
  changeId: text.optional(),
  thin: z.boolean(),
  mode,
  modeReason: text,
  selectedBy: z.enum(['changedAreas', 'allocated', 'digests']).optional(),
  digestedBytes: bytes.optional(),
  transport,
  transportReason: text,
  refused: z.array(z.looseObject({ transport, reason: text })),
  resumed: bytes.optional(),
  readMs: bytes.optional(),
  changedBytes: bytes,
  readBytes: bytes,
  storedBytes: bytes,
  sha256: text.optional(),
})
const image = z.looseObject({
  key: z.number().int(),
  descriptor: fileName,
  capacityBytes: bytes,
  blockSize: bytes.min(512).optional(),
  extentBytes: bytes.min(512).optional(),
  format: text.optional(),
})
const device = z.looseObject({ key: z.number().int(), type: text, label: text })
const config = z.looseObject({
  vm,
  powerState: z.enum(['poweredOn', 'poweredOff', 'suspended']),
  guestId: text,
  hardwareVersion: text,
  firmware: text,
  numCpu: z.number(),
  memoryMb: z.number(),
  vmPathName: text,
  disks: z.array(z.looseObject({ key: z.number().int(), label: text, capacityBytes: bytes, fileName: text, chain: z.array(text) })),
  devices: z.array(device),
  extraConfig: z.record(text, text),
})
const schema = z.looseObject({
  manifestVersion: z.literal(MANIFEST_VERSION),
  product: text,
  run: text,
  time: z.iso.datetime({ offset: true }),
  vm,
  config,
  mode,
  parent: text.optional(),
  consistency: z.enum(['crash', 'filesystem', 'application']) satisfies z.ZodType<ConsistencyLevel>,
  consistencyReason: text,
  disks: z.array(disk),
  images: z.array(image),
  notProtected: z.array(z.looseObject({ disk: text, reason: text })),
  files: z.array(z.looseObject({ name: fileName, size: bytes })),
})

/** A manifest with its images, as every stored one has them. */
export type StoredManifest = Manifest & { readonly images: readonly DiskImage[] }

/** The manifest of a point about to commit. INTERNAL when the disks stored and the disks reported differ. */
export function buildManifest(
  request: PointRequest,
  facts: PointFacts,
  written: { readonly images: readonly DiskImage[]; readonly files: readonly { readonly name: string; readonly size: number }[] },
): StoredManifest {
  const put = new Set(written.images.map(({ key }) => key))
  const listed = new Set(facts.disks.map(({ key }) => key))
  const odd = [...put].find((key) => !listed.has(key)) ?? [...listed].find((key) => !put.has(key))
  if (odd !== undefined || listed.size !== facts.disks.length) {
    throw new AgentError(
      'INTERNAL',
      `Disk ${odd} was ${odd !== undefined && put.has(odd) ? 'stored but not reported' : 'reported but not stored'}.`,
    )
  }
  return {
    manifestVersion: MANIFEST_VERSION,
    product: 'vcb-proxy',
    run: request.run,
    time: request.time,
    vm: request.config.vm,
    config: request.config,
    mode: facts.mode,
    parent: facts.mode === 'incremental' ? request.parent : undefined,
    consistency: facts.consistency,
    consistencyReason: facts.consistencyReason,
    disks: facts.disks,
    images: written.images,
    notProtected: facts.notProtected,
    files: written.files,
  }
}

/** Facts of a point whose destination took every disk in full although an incremental was asked for, and why. */
export const inFull = (facts: PointFacts, reason: string): PointFacts => ({
  ...facts,
  mode: 'full',
  disks: facts.disks.map((disk) => (disk.mode === 'full' ? disk : { ...disk, mode: 'full', modeReason: reason, selectedBy: 'allocated' })),
})

export const encodeManifest = (manifest: Manifest): Buffer => Buffer.from(`${JSON.stringify(manifest, undefined, 2)}\n`, 'utf8')

/** Reads a stored manifest. `where` names the point in messages. INTEGRITY for anything out of form, CONFIG for a newer version. */
export function parseManifest(data: Uint8Array, where: string): StoredManifest {
  let json: unknown
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(data))
  } catch (error) {
    throw new AgentError('INTEGRITY', `The manifest of ${where} is not JSON.`, { subject: where, cause: error })
  }
  const version = typeof json === 'object' && json !== null && 'manifestVersion' in json ? json.manifestVersion : undefined
  if (typeof version === 'number' && version > MANIFEST_VERSION) {
    throw new AgentError('CONFIG', `The manifest of ${where} has version ${version}; this vcb reads up to ${MANIFEST_VERSION}.`, {
      subject: where,
      next: 'Use the newer vcb that wrote it.',
    })
  }
  // A schema that is compiled pays after some hundred manifests; most processes read one.
  const parsed = schema.safeParse(json, { jitless: true })
  if (!parsed.success) {
    const [issue] = parsed.error.issues
    throw new AgentError('INTEGRITY', `The manifest of ${where} is damaged: ${issue?.path.join('.')}: ${issue?.message}.`, {
      subject: where,
    })
  }
  const manifest = {
    ...parsed.data,
    config: parsed.data.config as unknown as VmConfig,
    run: parsed.data.run as RunId,
    parent: parsed.data.parent as PointId | undefined,
  }
  for (const disk of manifest.disks) {
    if (manifest.images.filter((image) => image.key === disk.key && image.capacityBytes === disk.capacityBytes).length !== 1) {
      throw new AgentError('INTEGRITY', `The manifest of ${where} does not say where the image of disk ${disk.label} is.`, {
        subject: where,
      })
    }
  }
  return manifest
}

/** The image of a disk. NOT_FOUND. */
export function imageOf(manifest: StoredManifest, key: number, where: string): DiskImage {
  const image = manifest.images.find((candidate) => candidate.key === key)
  if (image === undefined) throw new AgentError('NOT_FOUND', `The restore point ${where} has no disk ${key}.`, { subject: where })
  return image
}

export function summarise(id: PointId, repository: string, manifest: Manifest): PointSummary {
  const sum = (value: (disk: DiskFacts) => number): number => manifest.disks.reduce((total, disk) => total + value(disk), 0)
  return {
    id,
    repository,
    time: manifest.time,
    vmName: manifest.vm.name,
    instanceUuid: manifest.vm.instanceUuid,
    vcenterUuid: manifest.vm.vcenterUuid,
    mode: manifest.mode,
    run: manifest.run,
    consistency: manifest.consistency,
    totalBytes: sum((disk) => disk.capacityBytes),
    readBytes: sum((disk) => disk.readBytes),
    storedBytes: sum((disk) => disk.storedBytes),
    notProtected: manifest.notProtected.length,
    missingDisks: manifest.notProtected.map((each) => each.disk),
  }
}
