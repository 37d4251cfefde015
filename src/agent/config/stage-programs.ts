import { unfitProgram } from '../../stages/index.ts'
import type { Found, Path } from './problems.ts'

/** Programs at stages that are not there, not executable, or to be changed by others. `raw`: the file as it stands. */
export async function programProblems(raw: unknown): Promise<readonly Found[]> {
  const problems: Found[] = []
  for (const { path, program } of programsIn(raw)) {
    const message = await unfitProgram(program)
    if (message !== undefined) problems.push({ path, message })
  }
  return problems
}

function programsIn(raw: unknown): readonly { readonly path: Path; readonly program: string }[] {
  const jobs = at(raw, 'jobs')
  const owners = [
    { path: ['jobDefaults'] as Path, of: at(raw, 'jobDefaults') },
    ...(Array.isArray(jobs) ? jobs : []).map((of: unknown, index) => ({ path: ['jobs', index] as Path, of })),
  ]
  return owners.flatMap(({ path, of }) => {
    const stages = at(of, 'stages')
    return (Array.isArray(stages) ? stages : []).flatMap((stage: unknown, index) => {
      const command = at(stage, 'command')
      const program: unknown = Array.isArray(command) ? command[0] : command
      return typeof program === 'string' && program.startsWith('/') ? [{ path: [...path, 'stages', index, 'command'], program }] : []
    })
  })
}

const at = (value: unknown, key: string): unknown =>
  typeof value === 'object' && value !== null && key in value ? (value as Record<string, unknown>)[key] : undefined
