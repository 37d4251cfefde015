import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, it } from 'vitest'

/**
 * What a command loads, since that is most of what its start costs: half a millisecond a file. Whatever appears here anew is imported by whoever uses it, when he does.
 */
const ENTRY = join(import.meta.dirname, '..', '..', 'scripts', 'vcb.cjs')
/** Each of these costs ten to forty milliseconds. */
const SLOW = ['https', 'http', 'http2', 'tls', 'perf_hooks', 'sqlite', 'readline/promises', '_http_client', 'internal/deps/undici/undici']

let directory: string
let preload: string
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'vcb-start-'))
  preload = join(directory, 'preload.mjs')
  const record = `
    import { writeFileSync } from 'node:fs'
    import { registerHooks } from 'node:module'
    const urls = []
    registerHooks({ load: (url, context, next) => (urls.push(url), next(url, context)) })
    process.on('exit', () => writeFileSync(${JSON.stringify(join(directory, 'list'))}, JSON.stringify([urls, process.moduleLoadList])))
  `
  await writeFile(preload, record)
})
afterAll(() => rm(directory, { recursive: true, force: true }))

type Loaded = {
  /** What it printed. */
  readonly out: string
  /** Modules of Node. */
  readonly node: readonly string[]
  readonly packages: readonly string[]
  /** Folders of src/. */
  readonly rooms: readonly string[]
}

/** What the process of this command loaded; not what others did that it started. */
async function loadedBy(...words: readonly string[]): Promise<Loaded> {
  const environment = { ...process.env, VCB_REPO_PASSWORD: 'a password', VCB_STATE_DIR: join(directory, 'state') }
  const run = promisify(execFile)(process.execPath, ['--import', preload, ENTRY, ...words], { cwd: directory, env: environment })
  const out = await run.then(
    ({ stdout }) => stdout,
    (error: unknown) => String((error as { stdout?: unknown }).stdout),
  )
  const [urls, native] = JSON.parse(await readFile(join(directory, 'list'), 'utf8')) as [string[], string[]]
  const named = (pattern: RegExp): readonly string[] => [...new Set(urls.flatMap((url) => pattern.exec(url)?.[1] ?? []))].toSorted()
  return {
    out,
    node: native.map((line) => line.replace(/^NativeModule /, '')),
    packages: named(/\/node_modules\/((?:@[^/]+\/)?[^/]+)\//),
    rooms: named(/\/src\/([^/]+)\//),
  }
}

it('loads for --help neither a network stack of Node nor what draws progress', async () => {
  const { out, node, rooms } = await loadedBy('--help')
  expect(out).toContain('Usage: vcb')
  expect(node).toContain('net')
  expect(node.filter((name) => SLOW.includes(name))).toEqual([])
  expect(rooms).toEqual(['cli', 'core'])
})

it('loads for the points of a repository in a directory no HTTP, no log, no YAML, no mail, no database server, and no flow', async () => {
  const repository = join(directory, 'repository')
  await loadedBy('init', '--repo', repository)
  const { out, node, packages, rooms } = await loadedBy('points', '--repo', repository, '--json')
  expect(out).toBe('{"points":[]}\n')
  expect(packages).toContain('zod')
  const spared = [
    'undici',
    'winston',
    'yaml',
    'tar-stream',
    'fastify',
    'nodemailer',
    'pg',
    'pg-boss',
    'ssh2',
    'cli-progress',
    '@smithy/signature-v4',
    'sodium-native',
  ]
  expect(packages.filter((name) => spared.includes(name))).toEqual([])
  expect(node.filter((name) => SLOW.includes(name))).toEqual(['sqlite'])
  expect(rooms.filter((name) => ['api', 'flow', 'fuse', 'lab', 'mount', 'orphans', 'vmx'].includes(name))).toEqual([])
})

it('loads for the status of a proxy without a running agent nothing of its API', async () => {
  const { out, packages, rooms } = await loadedBy('status', '--json')
  expect(out).toContain('"leases":[]')
  expect(packages.filter((name) => ['undici', 'fastify'].includes(name))).toEqual([])
  expect(rooms.filter((name) => ['api', 'flow'].includes(name))).toEqual([])
})

it('loads for a mount that another process holds no more than what starts that one', async () => {
  await writeFile(join(directory, 'vcb.yaml'), 'quiesce: none\n')
  const { out, node, packages, rooms } = await loadedBy('mount', 'vmdk:missing.vmdk', join(directory, 'shown'), '--json')
  expect(out).toContain('{"error":{')
  expect(packages).not.toContain('zod')
  expect(packages).toContain('yaml')
  expect(node.filter((name) => SLOW.includes(name))).toEqual([])
  expect(rooms).toEqual(['agent', 'cli', 'core'])
})
