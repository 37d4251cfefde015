import { mountAbilities } from '../mount/index.ts'
import type { Agent } from './agent.ts'
import type { Finding } from './doctor.ts'

/** Says what this proxy can show of a mounted VM. It stops no backup: nothing here is a failure. */
export async function checkMount(agent: Agent, findings: Finding[]): Promise<void> {
  const abilities = await mountAbilities({ clock: agent.clock })
  const able = abilities.filter(({ verdict }) => verdict.ok)
  const unable = abilities.filter(({ verdict }) => !verdict.ok)
  if (able.length > 0) findings.push({ check: 'mount', result: 'ok', detail: `can show ${able.map(({ what }) => what).join(', ')}` })
  // What lacks the same thing is said once.
  const reasons = Map.groupBy(unable, ({ verdict, next }) => JSON.stringify([verdict.ok ? '' : verdict.reason, next]))
  for (const same of reasons.values()) {
    const [first] = same
    if (first === undefined || first.verdict.ok) continue
    const types = same.map(({ what }) => what).join(', ')
    findings.push({ check: 'mount', result: 'warning', detail: `cannot show ${types}: ${first.verdict.reason}`, next: first.next })
  }
}
