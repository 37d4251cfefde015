import { AgentError, type PointId } from '../core/index.ts'

const SHORTEST = 6

/** The point meant by `wanted`: its whole id, or an unambiguous beginning of it. NOT_FOUND, USAGE. */
export function pickPoint(ids: readonly PointId[], wanted: string, where: string): PointId {
  const exact = ids.find((id) => id === wanted)
  if (exact !== undefined) return exact
  if (wanted.length < SHORTEST) {
    throw new AgentError('USAGE', `The point id "${wanted}" is too short; give at least ${SHORTEST} characters.`, { subject: wanted })
  }
  const [first, second] = ids.filter((id) => id.startsWith(wanted))
  if (first === undefined) {
    throw new AgentError('NOT_FOUND', `There is no restore point ${wanted} in ${where}.`, { subject: wanted, next: 'See "vcb points".' })
  }
  if (second === undefined) return first
  throw new AgentError('USAGE', `The point id "${wanted}" fits several restore points: ${first}, ${second}.`, {
    subject: wanted,
    next: 'Give more of the id.',
  })
}
