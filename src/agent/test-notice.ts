import { hostname } from 'node:os'
import { AgentError, type Ids } from '../core/index.ts'
import { testNotice } from '../notices/index.ts'
import type { Agent } from './agent.ts'
import { closest } from './config/closest.ts'
import { type NoticeConfig, targetText } from './config/notices.ts'
import { noticeChannel } from './notice-channels.ts'

/** That a test went where it was to go. `to`: without what nobody may see. */
export type TestedNotice = { readonly notice: string; readonly kind: NoticeConfig['to']['kind']; readonly to: string; readonly id: string }

/** Sends a message that says nothing but that it arrives, at once and past the outbox. NOT_FOUND for a name there is not; the channel's own errors. */
export async function sendTestNotice(
  agent: Pick<Agent, 'config' | 'clock' | 'signal'> & { readonly ids: Ids },
  name: string,
): Promise<TestedNotice> {
  const { config, clock, signal, ids } = agent
  const found = noticeNamed(config.notices, name)
  const id = ids.run()
  const notice = testNotice(id, { proxy: hostname(), timeZone: found.timeZone, at: clock.now() })
  await noticeChannel(found, { clock }).channel.send(notice, { signal })
  return { notice: name, kind: found.to.kind, to: targetText(found.to), id }
}

function noticeNamed(notices: readonly NoticeConfig[], name: string): NoticeConfig {
  const found = notices.find((each) => each.name === name)
  if (found !== undefined) return found
  const known = notices.map((each) => each.name)
  const meant = closest(name, known)
  throw new AgentError('NOT_FOUND', `There is no notice ${JSON.stringify(name)}.`, {
    subject: name,
    next:
      meant !== undefined
        ? `Did you mean "${meant}"?`
        : known.length === 0
          ? 'Describe one in the section notices of vcb.yaml; see docs/notices.md.'
          : `Name one of: ${known.slice(0, 20).join(', ')}.`,
  })
}
