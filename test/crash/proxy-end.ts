import { access, readdir, readFile, readlink } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import type { Place } from './place.ts'
import { leftover, type Problem } from './problems.ts'

/** What of a run may be left on the proxy: rows, files, processes, mounts, loop devices. */
export async function judgeProxy(place: Place): Promise<Problem[]> {
  return [
    ...(await judgeJournal(place)),
    ...(await readdir(place.temporary)).map((name) => leftover(`the temporary file ${name}`)),
    ...(await strangersIn(place.state, /^(state\.sqlite(-wal|-shm)?|agent-id|cache)$/)),
    ...(await strangersIn(place.world, /^(lab|repo|state|restored|tmp|repo-password|repo-key|vcb\.log|vcb\.yaml)$/)),
    ...(await processesOf(place)),
    ...(await mountsOf(place)),
  ]
}

async function judgeJournal(place: Place): Promise<Problem[]> {
  const path = join(place.state, 'state.sqlite')
  if (
    !(await access(path).then(
      () => true,
      () => false,
    ))
  )
    return []
  using database = new DatabaseSync(path, { readOnly: true })
  const rows = (sql: string): Record<string, unknown>[] => {
    try {
      return database.prepare(sql).all()
    } catch (error) {
      // Killed before the tables were made: the file is an empty database, and holds nothing.
      if (error instanceof Error && /no such table/.test(error.message)) return []
      throw error
    }
  }
  const unreadable = (outcome: unknown): boolean =>
    typeof outcome !== 'string' || !['succeeded', 'failed', 'canceled', 'recovered'].includes(String(JSON.parse(outcome)['result']))
  return [
    ...rows('SELECT kind FROM job WHERE finished_at IS NULL').map((row) => leftover(`an unfinished ${String(row['kind'])} job`)),
    ...rows(`SELECT kind, kept_reason FROM claim WHERE state <> 'released'`).map((row) =>
      leftover(`an open claim ${String(row['kind'])}: ${String(row['kept_reason'])}`),
    ),
    ...rows('SELECT vm_name FROM vm_lock').map((row) => leftover(`the lock on ${String(row['vm_name'])}`)),
    ...rows('SELECT kind, outcome FROM job')
      .filter((row) => unreadable(row['outcome']))
      .map((row) => leftover(`the ${String(row['kind'])} job has no outcome`)),
    ...rows('SELECT kind, outcome FROM job')
      .filter((row) => /"result":"(recovered|failed)"(?!.*"reason":"[^"])/.test(String(row['outcome'])))
      .map((row) => leftover(`the ${String(row['kind'])} job ended without a reason`)),
  ]
}

async function strangersIn(directory: string, known: RegExp): Promise<Problem[]> {
  const names = await readdir(directory).catch(() => [])
  return names
    .filter((name) => !known.test(name))
    .map((name) => leftover(`the file ${name} in ${directory.slice(directory.lastIndexOf('/') + 1)}/`))
}

/** Processes that were started with this world's state directory, other than the one that asks. */
async function processesOf(place: Place): Promise<Problem[]> {
  const problems: Problem[] = []
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name) && name !== String(process.pid))) {
    const environment = await readFile(`/proc/${pid}/environ`, 'utf8').catch(() => '')
    if (environment.includes(`VCB_STATE_DIR=${place.state}\0`))
      problems.push(leftover(`process ${await readlink(`/proc/${pid}/exe`).catch(() => pid)}`))
  }
  return problems
}

async function mountsOf(place: Place): Promise<Problem[]> {
  const mounted = (await readFile('/proc/self/mountinfo', 'utf8')).split('\n').filter((line) => line.includes(place.world))
  const loops: string[] = []
  for (const name of (await readdir('/sys/block').catch(() => [])).filter((each) => each.startsWith('loop'))) {
    const backing = await readFile(`/sys/block/${name}/loop/backing_file`, 'utf8').catch(() => '')
    if (backing.startsWith(place.world)) loops.push(name)
  }
  return [
    ...mounted.map((line) => leftover(`the mount ${line.split(' ')[4] ?? ''}`)),
    ...loops.map((name) => leftover(`the loop device ${name}`)),
  ]
}
