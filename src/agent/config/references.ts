import { closest } from './closest.ts'
import type { Given } from './given.ts'
import { defaultRepository, NO_REPOSITORY } from './jobs.ts'
import type { Found } from './problems.ts'
import { DEFAULT_REPOSITORY } from './repositories.ts'

/**
 * What sections say of each other: jobs of the same name, repositories and notices that are named and not there. Looks at the file as it was parsed, whatever
 * else is wrong with it, so that all problems are told at once.
 */
export function referenceProblems(raw: unknown, { flags, environment }: Pick<Given, 'flags' | 'environment'>): readonly Found[] {
  const file = recordOf(raw)
  const general = flags.repo ?? environment['VCB_REPO'] ?? recordOf(file['repository'])['url']
  const repositories = [
    ...new Set([...(general === undefined ? [] : [DEFAULT_REPOSITORY]), ...Object.keys(recordOf(file['repositories']))]),
  ]
  const notices = Object.keys(recordOf(file['notices']))
  const problems: Found[] = []
  const names = (path: Found['path'], value: unknown, known: readonly string[], what: string): void => {
    for (const [index, name] of (Array.isArray(value) ? value : [value]).entries()) {
      if (typeof name !== 'string' || known.includes(name)) continue
      const message = `there is no ${what} ${JSON.stringify(name)}`
      problems.push({ path: Array.isArray(value) ? [...path, index] : path, message, meant: closest(name, known) })
    }
  }
  const all = (path: Found['path'], job: Readonly<Record<string, unknown>>): void => {
    names([...path, 'repository'], job['repository'], repositories, 'repository')
    names([...path, 'copyTo'], job['copyTo'], repositories, 'repository')
    names([...path, 'notices'], job['notices'], notices, 'notice')
  }
  names(['proxy', 'sites'], recordOf(file['proxy'])['sites'], Object.keys(recordOf(file['sites'])), 'site')
  const defaults = recordOf(file['jobDefaults'])
  all(['jobDefaults'], defaults)
  const seen = new Map<string, number>()
  for (const [index, entry] of (Array.isArray(file['jobs']) ? file['jobs'] : []).entries()) {
    const [job, path] = [recordOf(entry), ['jobs', index]]
    all(path, job)
    const { name, repository, copyTo } = { ...defaults, ...job }
    if (typeof name === 'string') {
      const before = seen.get(name)
      if (before !== undefined)
        problems.push({ path: [...path, 'name'], message: `jobs[${before}] has the name ${JSON.stringify(name)} already` })
      seen.set(name, before ?? index)
    }
    const into = repository ?? defaultRepository(repositories)
    if (into === undefined) problems.push({ path, message: NO_REPOSITORY })
    else if ([copyTo].flat().includes(into))
      problems.push({ path: [...path, 'copyTo'], message: `its points are in ${JSON.stringify(into)} already` })
  }
  return problems
}

const recordOf = (value: unknown): Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Readonly<Record<string, unknown>>) : {}
