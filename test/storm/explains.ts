import type { Ended } from './command.ts'

/** What is wrong with the way a command ended: every failure has a documented exit status and says in one sentence what happened. */
export function explains(ended: Ended): readonly string[] {
  if (ended.exit === 0) return []
  if (ended.exit === undefined) return [`ended without a status: ${ended.err}`]
  if (ended.exit === 1) return [`ended with 1: ${ended.out}${ended.err}`]
  try {
    const text = JSON.stringify(JSON.parse(ended.out))
    const sentences = text.match(/"(?:message|reason|heldReason|still)":"[^"]{10,}/g)
    return sentences === null ? [`ended with ${ended.exit} and no sentence: ${ended.out}`] : []
  } catch {
    return [`ended with ${ended.exit} and no document: ${ended.out}${ended.err}`]
  }
}
